//! What the guard's programs cost: single system calls and real loads in a directly booted guest, with the programs detached
//! (baseline), attached, and attached to a process that they protect. What happens in the guest stands in guest/src/main.rs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rempart_harness::{repository, run};

use crate::table::{Table, percentile};

/// What the programs may cost a process that nobody protects, as a factor: in one system call, in a real load.
const LOADED: (f64, f64) = (1.03, 1.02);
/// What they may cost a real load that is itself a protected unit.
const PROTECTED: f64 = 1.10;

/// How long, and by which clock.
#[derive(Debug, Args)]
pub struct Options {
    /// A few rounds only.
    #[arg(long)]
    quick: bool,
    /// Times that each state is measured; without it as many as the clock needs.
    #[arg(long)]
    rounds: Option<usize>,
    /// What is measured; without it time under KVM, instructions where QEMU emulates: its time says how QEMU translates.
    #[arg(long)]
    clock: Option<Clock>,
    /// Only what has this in its name.
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// The folder of rempart-guard and rempart-attack.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// The optimised rempart-bench-guest.
    #[arg(long, value_name = "FILE")]
    guest: PathBuf,
}

/// The guest's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Clock {
    /// The host's, emulated processor.
    Host,
    /// The host's, under KVM.
    Kvm,
    /// One nanosecond for each instruction that the guest executes.
    Instructions,
}

impl Clock {
    fn of_this_host() -> Result<Self> {
        let accelerator = run(&mut Command::new(repository().join("tests/image/accel")))?;
        Ok(if accelerator.trim() == "kvm" {
            Clock::Kvm
        } else {
            Clock::Instructions
        })
    }

    /// Rounds; instructions hardly vary, and take longer to emulate.
    fn rounds(self, quick: bool) -> usize {
        match (self, quick) {
            (Clock::Instructions, true) => 2,
            (Clock::Instructions, false) => 4,
            (_, true) => 4,
            (_, false) => 16,
        }
    }
}

/// Boots the guest and measures.
pub fn measure(options: &Options) -> Result<Table> {
    let clock = options.clock.map_or_else(Clock::of_this_host, Ok)?;
    let rounds = options.rounds.unwrap_or_else(|| clock.rounds(options.quick));
    let said = boot(options, clock, rounds)?;
    let seen = Seen::read(&said)?;
    let mut table = Table::default();
    let unit = if clock == Clock::Instructions { "kinstr" } else { "us" };
    seen.ratios(unit, &mut table)?;
    seen.hooks(if clock == Clock::Instructions { "instr" } else { "ns" }, &mut table);
    table.note(&format!("Medians of {rounds} alternating rounds in one boot; the baseline is the same process with the programs detached."));
    table.note("A program's figure is the kernel's own, with what taking it costs, without the way to the program.");
    table.note(match clock {
        Clock::Kvm => "Time in a virtual machine under KVM.",
        Clock::Host => "Time in an emulated machine: ratios say how QEMU translates as much as what the programs do.",
        Clock::Instructions => {
            "Instructions of an emulated machine of one CPU, in thousands: neither caches nor branch prediction count."
        }
    });
    Ok(table)
}

/// All that the guest said.
fn boot(options: &Options, clock: Clock, rounds: usize) -> Result<String> {
    let image = run(&mut Command::new(repository().join("tests/image/loads")))?;
    let inside = repository().join("tests/bench/in-guest");
    let mut quick = Command::new(repository().join("tests/image/quick"));
    quick.args([
        "--image",
        image.trim(),
        "--memory",
        "2048",
        "--timeout",
        "3000",
        "--clock",
    ]);
    quick.arg(match clock {
        Clock::Host => "host",
        Clock::Kvm => "kvm",
        Clock::Instructions => "instructions",
    });
    let mut add = |file: &Path| {
        quick.arg("--add").arg(file);
    };
    add(&options.programs.join("rempart-guard"));
    add(&options.programs.join("rempart-attack"));
    add(&options.guest);
    add(&inside.join("run"));
    add(&inside.join("sources"));
    quick.args(["--", "bash", "/t/run", &rounds.to_string()]);
    quick.args(&options.only);
    run(&mut quick).context("the guest")
}

/// `plain` and `unit`: who was measured.
type Who = String;

/// What the guest told.
#[derive(Debug, Default)]
struct Seen {
    /// In the order of their measurement.
    names: Vec<String>,
    /// By name, who, and whether the programs were attached.
    samples: BTreeMap<(String, Who, bool), Vec<f64>>,
    /// Calls and nanoseconds by who and program.
    hooks: BTreeMap<(Who, String), (f64, f64)>,
    /// By name and who: each program's calls in one operation.
    calls: BTreeMap<(String, Who), Vec<(String, f64)>>,
}

impl Seen {
    fn read(said: &str) -> Result<Self> {
        let mut seen = Self::default();
        let mut ended = false;
        for line in said.lines() {
            let number = |text: &str| text.parse::<f64>().with_context(|| line.to_owned());
            match *line.split('\t').collect::<Vec<_>>() {
                ["sample", name, who, state, value] => {
                    if !seen.names.iter().any(|known| known == name) {
                        seen.names.push(name.to_owned());
                    }
                    let key = (name.to_owned(), who.to_owned(), state == "on");
                    seen.samples.entry(key).or_default().push(number(value)?);
                }
                ["hook", name, who, program, calls, time, operations] => {
                    let (calls, time) = (number(calls)?, number(time)?);
                    let all = seen.hooks.entry((who.to_owned(), program.to_owned())).or_default();
                    *all = (all.0 + calls, all.1 + time);
                    let each = calls / number(operations)?;
                    seen.calls
                        .entry((name.to_owned(), who.to_owned()))
                        .or_default()
                        .push((program.to_owned(), each));
                }
                ["failed", why] => bail!("in the guest: {why}"),
                ["end"] => ended = true,
                _ => {}
            }
        }
        ensure!(ended, "the guest did not come to its end; it said: {said}");
        Ok(seen)
    }

    fn median(&self, name: &str, who: &str, attached: bool) -> Result<f64> {
        let samples = self
            .samples
            .get(&(name.to_owned(), who.to_owned(), attached))
            .with_context(|| format!("no sample of {name}, {who}"))?;
        Ok(percentile(samples, 0.5) / 1000.0)
    }

    fn ratios(&self, unit: &str, table: &mut Table) -> Result<()> {
        for name in &self.names {
            let load = self.is_load(name);
            let baseline = self.median(name, "plain", false)?;
            let aim = baseline * if load { LOADED.1 } else { LOADED.0 };
            let value = self.median(name, "plain", true)?;
            table.add(&format!("{name}; loaded"), value, unit, Some(baseline), Some(aim));
            let baseline = self.median(name, "unit", false)?;
            let aim = load.then_some(baseline * PROTECTED);
            table.add(
                &format!("{name}; protected"),
                self.median(name, "unit", true)?,
                unit,
                Some(baseline),
                aim,
            );
        }
        Ok(())
    }

    /// What has the aims of a real load.
    fn is_load(&self, name: &str) -> bool {
        ["nginx", "PostgreSQL", "gcc"].iter().any(|load| name.starts_with(load))
    }

    fn hooks(&self, unit: &str, table: &mut Table) {
        for ((who, program), (calls, time)) in &self.hooks {
            table.add(&format!("program {program}, {who}"), time / calls, unit, None, None);
        }
        for name in &self.names {
            let Some(calls) = self.calls.get(&(name.clone(), "plain".to_owned())) else {
                continue;
            };
            let calls = calls.iter().filter(|(_, each)| *each > 0.05);
            let list: Vec<String> = calls.map(|(program, each)| format!("{program} {each:.1}")).collect();
            if !list.is_empty() {
                table.note(&format!("calls of {name}: {}", list.join(", ")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "guard: a line of somebody else's\nsample\tstat\tplain\toff\t1000\nsample\tstat\tplain\ton\t1500\n\
                        sample\tstat\tunit\toff\t2000\nsample\tstat\tunit\ton\t2500\nhook\tstat\tplain\tinode_reached\t30\t900\t10\n";

    #[test]
    fn figures_are_medians_beside_the_same_process_without_the_programs() {
        let seen = Seen::read(&format!("{SAID}end\n")).expect("whole");
        assert_eq!(seen.median("stat", "plain", true).expect("measured"), 1.5);
        assert_eq!(seen.median("stat", "unit", false).expect("measured"), 2.0);
        assert_eq!(
            seen.calls[&("stat".to_owned(), "plain".to_owned())],
            [("inode_reached".to_owned(), 3.0)]
        );
    }

    #[test]
    fn a_guest_that_failed_or_did_not_end_gives_no_figures() {
        assert!(Seen::read(SAID).is_err());
        assert!(Seen::read(&format!("{SAID}failed\tno nginx\nend\n")).is_err());
    }
}

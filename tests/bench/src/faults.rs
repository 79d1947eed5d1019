//! What becomes of units when a part of the node breaks, as tests: each fault fails closed with one clear line, and a later start works again.
//!
//! The clock is not set back: a container may not, and the agent counts the node's time by a clock that nobody sets.

use std::{path::Path, time::Duration};

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::{
    check::Report,
    load,
    node::{Node, VALUE, opt_in, sha256, talk},
    stamp::SECRET,
};

/// Units of the short load, and its time without the first and the last start of all.
const UNITS: usize = 20;
const TIME: Duration = Duration::from_secs(30);
/// Until a part that was started again serves.
const BACK: Duration = Duration::from_secs(60);
/// Lines of the record in 4 KiB, at most.
const PAGE_LINES: usize = 20;
/// Where the state is while its disk breaks.
const STATE: &str = "/var/lib/rempart";
/// The program of a unit, at first a pipe: whoever looks into it waits.
const PIPE: &str = "/usr/lib/rempart-test/pipe";

/// All of them; false when one failed.
pub fn all(deb: &Path) -> Result<bool> {
    let prover = format!(
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/bin/bash -c 'printf %%s \"$${SECRET}\" | sha256sum >/run/proof'\n{}",
        opt_in()
    );
    let piped = format!(
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart={PIPE}\n{}",
        opt_in()
    );
    let sleeper = format!("[Service]\nExecStart=/usr/bin/sleep infinity\n{}", opt_in());
    let mut units = load::units(UNITS);
    units.extend([
        ("prover.service".to_owned(), prover),
        ("piped.service".to_owned(), piped),
        ("sleeper.service".to_owned(), sleeper),
    ]);
    let mut report = Report::of("load");
    let mut node = Node::boot(deb, &units)?;
    let played = load::run(&mut node, UNITS, TIME)?;
    let defects = played.defects(UNITS);
    report.row(
        "every-start-under-faults-gets-its-own-secret-or-a-reason",
        defects.is_empty(),
        || defects.join("; "),
    );
    report.row(
        "faults-were-met",
        played.during.refused > 0 && played.during.given > 0,
        || format!("{played:?}"),
    );

    let digest = sha256(&node.container, VALUE)?;
    let mut faults = Faults {
        node,
        report: Report::of("faults"),
        digest,
    };
    faults.works("before")?;
    faults.node.container.run(&["systemctl", "start", "sleeper.service"])?;
    let unharmed = faults.node.container.property("sleeper.service", "MainPID")?;
    let exe = format!("/proc/{unharmed}/exe");
    let inside = &faults.node.container;
    inside.wait_until(BACK, "sleeper.service runs its program", || {
        Ok(inside.output(&["readlink", &exe])?.ends_with("/sleep"))
    })?;
    faults.agent_killed_while_it_releases()?;
    faults.wrapper_killed_with_the_answer()?;
    faults.vault_killed()?;
    faults.bus_restarted()?;
    faults.disk_full_and_read_only()?;
    faults.tpm_silent_then_reset()?;
    let now = faults.node.container.property("sleeper.service", "MainPID")?;
    faults.report.row(
        "a-running-unit-met-nothing-of-it",
        now == unharmed && now != "0",
        || format!("main process {unharmed} then, {now} now"),
    );
    Ok(report.holds() && faults.report.holds())
}

struct Faults {
    node: Node,
    report: Report,
    /// SHA-256 of the secret.
    digest: String,
}

/// A start: whether systemd calls it done, what the unit proved, what the wrapper said.
struct Start {
    done: bool,
    proof: String,
    lines: Vec<String>,
}

impl Faults {
    /// What the wrapper has said so far.
    fn said(&self, unit: &str) -> Result<Vec<String>> {
        let log = self.node.container.journal(unit)?;
        Ok(log
            .lines()
            .filter(|line| line.starts_with("rempart-wrap:"))
            .map(str::to_owned)
            .collect())
    }

    fn start(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<Start> {
        let inside = &self.node.container;
        let before = self.said("prover.service")?.len();
        inside.output(&["rm", "-f", "/run/proof"])?;
        inside.output(&["systemctl", "start", "--no-block", "prover.service"])?;
        meanwhile()?;
        inside.wait_until(Duration::from_secs(90), "the start ends", || {
            Ok(inside
                .output(&["systemctl", "list-jobs", "--no-legend", "prover.service"])?
                .is_empty())
        })?;
        Ok(Start {
            done: inside.property("prover.service", "Result")? == "success",
            proof: inside
                .output(&["cat", "/run/proof"])?
                .trim_end_matches(['-', ' '])
                .to_owned(),
            lines: self.said("prover.service")?.split_off(before),
        })
    }

    /// Nothing ran, and one line says why.
    fn refuses(&mut self, name: &str, words: &[&str], meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = self.start(meanwhile)?;
        let line = matches!(start.lines.as_slice(), [line] if words.iter().any(|word| line.contains(word)));
        self.report
            .row(name, !start.done && start.proof.is_empty() && line, || {
                format!("done: {}, proof «{}», lines {:?}", start.done, start.proof, start.lines)
            });
        Ok(())
    }

    /// The unit gets its secret, at the latest after a while.
    fn works(&mut self, when: &str) -> Result<()> {
        let begin = std::time::Instant::now();
        let start = loop {
            let start = self.start(|| Ok(()))?;
            if start.proof == self.digest || begin.elapsed() > BACK {
                break start;
            }
            std::thread::sleep(Duration::from_secs(1));
        };
        let journal = || self.node.container.journal("rempartd.service").unwrap_or_default();
        let end = |text: String| text.lines().rev().take(12).collect::<Vec<_>>().join("\n");
        let (holds, why) = (
            start.done && start.proof == self.digest,
            format!("{:?} / the agent, last line first: {}", start.lines, end(journal())),
        );
        self.report.row(&format!("a-start-works-{when}"), holds, || why.clone());
        Ok(())
    }

    fn agent_killed_while_it_releases(&mut self) -> Result<()> {
        self.node.bao.signal(Signal::SIGSTOP);
        let pid = self.node.container.property("rempartd.service", "MainPID")?;
        let kill = self.node.container.command(&["sh", "-c", &format!("kill -9 {pid}")]);
        self.refuses("agent-killed-while-it-releases", &["does not answer"], || {
            // The wrapper has asked by then, and the vault does not answer.
            std::thread::sleep(Duration::from_secs(1));
            rempart_harness::run(&mut { kill }).map(drop)
        })?;
        self.node.bao.signal(Signal::SIGCONT);
        self.node.wait_for_unlock()?;
        self.works("after-the-agent-was-killed")
    }

    fn wrapper_killed_with_the_answer(&mut self) -> Result<()> {
        let inside = &self.node.container;
        let before = load::held(&self.node)?;
        inside.run(&["mkfifo", "-m", "700", PIPE])?;
        inside.output(&["systemctl", "start", "--no-block", "piped.service"])?;
        let audit = || {
            inside.output(&[
                "grep",
                "-c",
                "\"released\".*piped.service",
                &format!("{STATE}/audit.jsonl"),
            ])
        };
        inside.wait_until(Duration::from_secs(20), "released to piped.service", || {
            Ok(audit()? == "1")
        })?;
        let pid = inside.property("piped.service", "ExecMainPID")?;
        let program = inside.output(&["readlink", &format!("/proc/{pid}/exe")])?;
        inside.output(&["systemctl", "kill", "--signal=KILL", "piped.service"])?;
        inside.wait_until(Duration::from_secs(20), "piped.service failed", || {
            Ok(inside.property("piped.service", "ActiveState")? == "failed")
        })?;
        let result = inside.property("piped.service", "Result")?;
        let after = load::held(&self.node)?;
        self.report.row(
            "wrapper-killed-with-the-answer-leaves-nothing",
            program.ends_with("/rempart-wrap")
                && result == "signal"
                && after.areas <= before.areas
                && after.descriptors <= before.descriptors,
            || format!("{program}, {result}, {before:?}, {after:?}"),
        );
        let inside = &self.node.container;
        inside.run(&["rm", PIPE])?;
        inside.run(&["cp", "/usr/bin/true", PIPE])?;
        let (started, said) = talk(inside, &["systemctl", "start", "piped.service"], "")?;
        self.report
            .row("a-start-works-after-the-wrapper-was-killed", started, || said.clone());
        Ok(())
    }

    fn vault_killed(&mut self) -> Result<()> {
        self.node.bao.signal(Signal::SIGKILL);
        self.node.bao.stop_process();
        self.refuses(
            "vault-killed",
            &["cannot be reached", "unreachable", "does not answer", "no answer"],
            || Ok(()),
        )?;
        self.node.bao.run_process()?;
        self.refuses("vault-back-and-sealed", &["sealed"], || Ok(()))?;
        self.node.bao.unseal()?;
        self.works("after-the-vault-was-killed")
    }

    fn bus_restarted(&mut self) -> Result<()> {
        self.node.container.run(&["systemctl", "restart", "dbus.service"])?;
        self.works("after-the-bus-was-restarted")?;
        let (answers, said) = talk(&self.node.container, &["rempart", "status"], "")?;
        self.report.row(
            "the-agent-is-on-the-bus-again",
            answers && said.contains("unlocked"),
            || said.clone(),
        );
        Ok(())
    }

    /// The last: a TPM that was reset within one boot is no longer the one that measured it, and the node stays locked.
    fn tpm_silent_then_reset(&mut self) -> Result<()> {
        let attest = |node: &Node| talk(&node.container, &["timeout", "5", "rempart", "attest"], "");
        self.node.signal_tpm(Signal::SIGSTOP);
        let (content, said) = attest(&self.node)?;
        self.report
            .row("attestation-with-a-silent-tpm-is-none", !content, || said.clone());
        self.node.signal_tpm(Signal::SIGCONT);
        let (mut content, mut said) = (false, String::new());
        let begin = std::time::Instant::now();
        while !content && begin.elapsed() < BACK {
            (content, said) = attest(&self.node)?;
            std::thread::sleep(Duration::from_secs(1));
        }
        self.report
            .row("attestation-works-once-the-tpm-answers", content, || said.clone());
        self.works("after-the-tpm-was-silent")?;

        self.node.stop_tpm();
        let (content, said) = attest(&self.node)?;
        self.report.row(
            "attestation-without-its-tpm-fails-with-one-line",
            !content && said.contains("TPM") && said.lines().count() == 1,
            || said.clone(),
        );
        self.node.start_tpm()?;
        let (content, said) = attest(&self.node)?;
        self.report.row(
            "a-tpm-that-was-reset-locks-the-node",
            !content && said.contains("its TPM was reset"),
            || said.clone(),
        );
        self.refuses("node-locked-by-a-reset-tpm", &["its TPM was reset"], || Ok(()))
    }

    /// On a disk of 1 MiB, as the agent syncs its record before it hands over.
    fn disk_full_and_read_only(&mut self) -> Result<()> {
        let shell = |node: &Node, script: &str| node.container.run(&["sh", "-ec", script]).map(drop);
        shell(
            &self.node,
            &format!(
                "systemctl stop rempartd; cp -a {STATE} /run/state; mount -t tmpfs -o size=1m,mode=700,uid=$(id -u rempart),gid=$(id -g rempart) tmpfs {STATE}; \
                 cp -a /run/state/. {STATE}/; systemctl start rempartd"
            ),
        )?;
        self.node.wait_for_unlock()?;
        self.works("on-a-small-disk")?;
        shell(
            &self.node,
            &format!("dd if=/dev/zero of={STATE}/filler bs=64 2>/dev/null || true"),
        )?;
        // The page in which the record ends may have room for some lines more.
        for _ in 0..PAGE_LINES {
            if !self.start(|| Ok(()))?.done {
                break;
            }
        }
        self.refuses("disk-full", &["nothing is released without a record"], || Ok(()))?;
        shell(&self.node, &format!("rm {STATE}/filler"))?;
        self.works("after-the-disk-was-full")?;

        shell(
            &self.node,
            &format!("systemctl stop rempartd; mount -o remount,ro {STATE}; systemctl start --no-block rempartd"),
        )?;
        self.refuses("state-read-only", &["does not answer"], || Ok(()))?;
        let log = self.node.container.journal("rempartd.service")?;
        let told = log
            .lines()
            .rev()
            .take(20)
            .find(|line| line.contains(STATE))
            .unwrap_or_default()
            .to_owned();
        self.report
            .row("state-read-only-is-told", !told.is_empty(), || log.clone());
        shell(
            &self.node,
            &format!(
                "mount -o remount,rw {STATE}; systemctl reset-failed rempartd || true; systemctl restart rempartd"
            ),
        )?;
        self.node.wait_for_unlock()?;
        self.works("after-the-state-was-read-only")
    }
}

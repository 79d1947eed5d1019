//! Reference values from a machine that is running, for boot chains that cannot be predicted. Whatever state the machine was in
//! becomes the accepted one, a tampered one too: every value is told, and what a host can do unseen is refused like in `predict`.

use super::event::Part;
use super::image::{Image, REGISTERS};
use super::predict::registers::{after_phases, load_options};
use super::predict::{PHASES, PredictError, phases_are_known, risks};
use super::{Policy, PolicyError};
use crate::eventlog::{Event, printable, replay, uefi};
use crate::pcr::{JUDGED, Pcrs, extended};

/// The name under which configuration from outside of the image (a PCR 12 or 13 that is not zero) can be accepted.
pub const RISK_OUTSIDE_CONFIGURATION: &str = "outside-configuration";
/// The name under which logs that do not explain the registers can be accepted.
pub const RISK_UNEXPLAINED: &str = "unexplained-registers";
/// The name under which a command line that was not seen can be accepted.
pub const RISK_UNSEEN_COMMAND_LINE: &str = "unseen-command-line";

/// What a machine says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// Its registers.
    pub pcrs: &'a Pcrs,
    /// Both logs' events.
    pub events: &'a [Event],
    /// Its command line, where it is known (/proc/cmdline); believed only when the kernel measured it.
    pub cmdline: Option<&'a str>,
}

/// What to learn.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the policy and its image.
    pub name: String,
    /// Counter of the policy.
    pub counter: u64,
    /// Registers beside those that every policy judges.
    pub registers: Vec<u8>,
    /// Phases of the boot ([`PHASES`]) after which a node may attest.
    pub phases: Vec<String>,
    /// Risks that the operator accepts by name.
    pub accept: Vec<String>,
    /// Refuse nodes whose guard is not enforcing.
    pub require_guard: bool,
}

/// Why nothing is learnt.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LearnError {
    /// A register is not there.
    #[error("the machine does not tell PCR {0}")]
    Missing(u8),
    /// A register that no policy judges.
    #[error("PCR {0} cannot be judged by a policy")]
    NotJudged(u8),
    /// The logs do not lead to the registers.
    #[error(
        "the event logs do not add up to PCR {pcr}: what was measured is not known; accept that by the name {RISK_UNEXPLAINED}"
    )]
    Unexplained {
        /// The register.
        pcr: u8,
    },
    /// Configuration from outside was in force.
    #[error(
        "PCR {pcr} is not zero: this machine was configured from outside of its image ({what}); boot it without, or accept that by the \
         name {RISK_OUTSIDE_CONFIGURATION}"
    )]
    OutsideConfiguration {
        /// The register.
        pcr: u8,
        /// The events in it.
        what: String,
    },
    /// The command line is not known, so its risks are not.
    #[error(
        "the machine's command line is not known, so neither is what its host could do unseen; learn on the machine itself, or accept \
         that by the name {RISK_UNSEEN_COMMAND_LINE}"
    )]
    UnseenCommandLine,
    /// As in `predict`.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// What was learnt is no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// A policy and what its signer must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// The policy, not signed.
    pub policy: Policy,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Makes a policy that accepts the machine as it is now.
pub fn learn(machine: &Machine<'_>, options: &Options) -> Result<Learnt, LearnError> {
    let accept = &options.accept;
    let own = [RISK_OUTSIDE_CONFIGURATION, RISK_UNEXPLAINED, RISK_UNSEEN_COMMAND_LINE];
    let predicted: Vec<String> = accept
        .iter()
        .filter(|name| !own.contains(&name.as_str()))
        .cloned()
        .collect();
    risks::are_known(&predicted)?;
    phases_are_known(&options.phases)?;
    if let Some(pcr) = options.registers.iter().find(|pcr| !REGISTERS.contains(pcr)) {
        return Err(LearnError::NotJudged(*pcr));
    }
    let mut accepted_risks: Vec<String> = Vec::new();
    for check in [explained(machine, options), configured_from_inside(machine)] {
        waive(check, accept, &mut accepted_risks)?;
    }
    let cmdline = measured_command_line(machine);
    match cmdline {
        Some(line) => accepted_risks.extend(risks::accepted(line, &predicted)?),
        None => waive(
            Err((LearnError::UnseenCommandLine, RISK_UNSEEN_COMMAND_LINE)),
            accept,
            &mut accepted_risks,
        )?,
    }
    let mut image = Image {
        cmdline: cmdline.map(str::to_owned),
        accepted_risks,
        events: parts(machine, options),
        ..Image::new(options.name.clone(), machine.pcrs.bank)
    };
    for pcr in registers(options) {
        let value = machine.pcrs.value(pcr).ok_or(LearnError::Missing(pcr))?;
        let list = image.accepted_mut(pcr).ok_or(LearnError::NotJudged(pcr))?;
        list.push(value);
    }
    let phases = all_phases(machine, options);
    if !phases.is_empty() {
        image.pcr11 = phases;
    }
    let warnings = warnings(machine, &image);
    let policy = Policy {
        name: options.name.clone(),
        counter: options.counter,
        require_guard: options.require_guard,
        ..Policy::of(vec![image])
    };
    policy.judge()?;
    Ok(Learnt { policy, warnings })
}

/// A failed check passes when the operator accepted it by name, and is then recorded.
fn waive(
    check: Result<(), (LearnError, &'static str)>,
    accept: &[String],
    recorded: &mut Vec<String>,
) -> Result<(), LearnError> {
    match check {
        Err((_, name)) if accept.iter().any(|accepted| accepted == name) => {
            recorded.push(name.to_owned());
            Ok(())
        }
        Err((why, _)) => Err(why),
        Ok(()) => Ok(()),
    }
}

fn registers(options: &Options) -> Vec<u8> {
    let mut registers: Vec<u8> = JUDGED.into_iter().chain(options.registers.iter().copied()).collect();
    registers.sort_unstable();
    registers.dedup();
    registers
}

fn explained(machine: &Machine<'_>, options: &Options) -> Result<(), (LearnError, &'static str)> {
    let replayed = replay::replay(machine.pcrs.bank, machine.events);
    let zero = machine.pcrs.bank.zero();
    let differs = |pcr: &u8| {
        machine
            .pcrs
            .value(*pcr)
            .is_some_and(|value| replayed.value(*pcr).unwrap_or(zero) != value)
    };
    match registers(options).into_iter().find(differs) {
        Some(pcr) => Err((LearnError::Unexplained { pcr }, RISK_UNEXPLAINED)),
        None => Ok(()),
    }
}

fn configured_from_inside(machine: &Machine<'_>) -> Result<(), (LearnError, &'static str)> {
    let zero = machine.pcrs.bank.zero();
    let touched = [12, 13]
        .into_iter()
        .find(|pcr| machine.pcrs.value(*pcr).is_some_and(|value| value != zero));
    let Some(pcr) = touched else { return Ok(()) };
    let texts: Vec<_> = machine
        .events
        .iter()
        .filter(|e| e.pcr == pcr)
        .map(|e| e.text.as_str())
        .collect();
    let what = printable(&texts.join(", "), 200);
    Err((
        LearnError::OutsideConfiguration { pcr, what },
        RISK_OUTSIDE_CONFIGURATION,
    ))
}

/// The command line, when the kernel measured exactly it.
fn measured_command_line<'a>(machine: &Machine<'a>) -> Option<&'a str> {
    let line = machine.cmdline?.trim_end_matches('\n');
    let digest = machine.pcrs.bank.hash(&[&load_options(line)]);
    let measured = machine
        .events
        .iter()
        .any(|e| uefi::is_load_options(e) && e.digest == digest);
    measured.then_some(line)
}

/// What was measured before the first phase, to explain a later mismatch.
fn parts(machine: &Machine<'_>, options: &Options) -> Vec<Part> {
    let registers = registers(options);
    let first_phase = machine.pcrs.bank.hash(&[PHASES[0].as_bytes()]);
    let mut before_phases = true;
    let mut parts = Vec::new();
    for event in machine.events {
        before_phases &= !(event.pcr == 11 && event.digest == first_phase);
        if registers.contains(&event.pcr) && (event.pcr != 11 || before_phases) {
            parts.push(Part {
                pcr: event.pcr,
                digest: event.digest,
                what: printable(&event.text, 100),
            });
        }
    }
    parts
}

/// PCR 11 after each attesting phase, when the log shows a boot by exactly the known phases up to now: the machine may be learnt
/// from after "sysinit" and must still be accepted after "ready".
fn all_phases(machine: &Machine<'_>, options: &Options) -> Vec<crate::pcr::PcrValue> {
    let bank = machine.pcrs.bank;
    let of_11: Vec<_> = machine
        .events
        .iter()
        .filter(|e| e.pcr == 11)
        .map(|e| e.digest)
        .collect();
    let phases = PHASES.map(|phase| bank.hash(&[phase.as_bytes()]));
    let Some(first) = of_11.iter().position(|digest| *digest == phases[0]) else {
        return vec![];
    };
    let (sections, seen) = of_11.split_at(first);
    if !phases.starts_with(seen) {
        return vec![];
    }
    let before = sections.iter().fold(bank.zero(), |old, digest| extended(&old, digest));
    after_phases(before, &options.phases)
}

fn warnings(machine: &Machine<'_>, image: &Image) -> Vec<String> {
    let mut warnings = vec![format!(
        "the values of image \"{}\" were LEARNT, not predicted: if this machine was tampered with, the policy accepts the tampering",
        image.name
    )];
    for pcr in image.judged() {
        let events = machine.events.iter().filter(|e| e.pcr == pcr).count();
        let zero = image.accepted(pcr) == [image.bank.zero()];
        let what = super::explain::meaning(pcr);
        warnings.push(match zero {
            true => format!("PCR {pcr} ({what}): nothing measured"),
            false => format!("PCR {pcr} ({what}): learnt from {events} event(s)"),
        });
    }
    let open: Vec<_> = REGISTERS
        .into_iter()
        .filter(|pcr| !image.judged().any(|j| j == *pcr))
        .collect();
    let open: Vec<_> = open.iter().map(u8::to_string).collect();
    if !open.is_empty() {
        warnings.push(format!("not judged: PCR {}", open.join(", ")));
    }
    warnings.extend(image.accepted_risks.iter().map(|risk| format!("accepted risk: {risk}")));
    warnings
}

#[cfg(test)]
mod tests;

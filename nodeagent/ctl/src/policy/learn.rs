//! `rempart policy learn`: reference values from recorded Evidence, or from this machine's registers and logs.

use std::{path::Path, process::ExitCode};

use rempart_attest::{
    Bank, Digest, Evidence, Pcrs,
    eventlog::{Event, uefi, userspace},
    limits,
    policy::learn::{Learnt, Machine, Options, learn as learn_from},
};
use serde::Serialize;

use super::{arguments::Learn, file};
use crate::failure::Failure;

/// Registers of a bank, one file each.
const REGISTERS: &str = "/sys/class/tpm/tpm0/pcr-";
const FIRMWARE_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
const USERSPACE_LOG: &str = "/run/log/systemd/tpm2-measure.log";
const COMMAND_LINE: &str = "/proc/cmdline";
/// Bytes of a command line: the kernel's own maximum is below.
const MAX_COMMAND_LINE: usize = 64 * 1024;

struct Seen {
    pcrs: Pcrs,
    events: Vec<Event>,
    cmdline: Option<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    policy: &'a rempart_attest::Policy,
    warnings: &'a [String],
}

/// The policy on standard output, its warnings on standard error.
pub fn learn(told: &Learn) -> Result<ExitCode, Failure> {
    let (source, seen) = match &told.evidence {
        Some(path) => (path.display().to_string(), recorded(path, &file::evidence(path)?)?),
        None => ("this machine".to_owned(), this_machine(told.bank)?),
    };
    let machine = Machine {
        pcrs: &seen.pcrs,
        events: &seen.events,
        cmdline: seen.cmdline.as_deref(),
    };
    let options = Options {
        name: told.head.name.clone(),
        counter: told.head.counter,
        registers: told.pcr.clone(),
        phases: told.head.phases.clone(),
        accept: told.head.accept.clone(),
        require_guard: told.head.require_guard,
    };
    let Learnt { policy, warnings } = learn_from(&machine, &options).map_err(|error| Failure::Input {
        path: source,
        why: error.to_string(),
    })?;
    for warning in &warnings {
        eprintln!("rempart: warning: {}", crate::talk::one_line(warning));
    }
    if told.json {
        file::print_json(&Answer {
            policy: &policy,
            warnings: &warnings,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    super::print(&policy, false)
}

fn recorded(path: &Path, evidence: &Evidence) -> Result<Seen, Failure> {
    let bank = evidence.tpm.bank;
    let pcrs = evidence
        .claimed_pcrs()
        .ok_or_else(|| file::fail(path, "a register stands twice in it, or has another bank's value"))?;
    Ok(Seen {
        pcrs,
        events: events(path, bank, &evidence.tpm.uefi_log.0, &evidence.tpm.userspace_log.0)?,
        cmdline: None,
    })
}

fn this_machine(bank: Bank) -> Result<Seen, Failure> {
    let firmware = file::read(Path::new(FIRMWARE_LOG), limits::UEFI_LOG)?;
    let userspace = match Path::new(USERSPACE_LOG) {
        // systemd before 255 writes none.
        absent if !absent.exists() => vec![],
        path => file::read(path, limits::USERSPACE_LOG)?,
    };
    Ok(Seen {
        pcrs: registers(bank)?,
        events: events(Path::new(FIRMWARE_LOG), bank, &firmware, &userspace)?,
        cmdline: Some(file::read_text(Path::new(COMMAND_LINE), MAX_COMMAND_LINE)?),
    })
}

fn events(path: &Path, bank: Bank, firmware: &[u8], userspace: &[u8]) -> Result<Vec<Event>, Failure> {
    let mut events = uefi::parse(firmware, bank).map_err(|error| file::fail(path, error))?;
    events.extend(userspace::parse(userspace, bank).map_err(|error| file::fail(path, error))?);
    Ok(events)
}

/// As the kernel shows them: upper-case hex in one file for each register.
fn registers(bank: Bank) -> Result<Pcrs, Failure> {
    let folder = format!("{REGISTERS}{bank}");
    let mut values = Vec::new();
    for index in rempart_attest::pcr::QUOTED {
        let path = Path::new(&folder).join(index.to_string());
        let text = file::read_text(&path, 2 * bank.size() + 1)?;
        let value = Digest::from_hex(text.trim()).ok_or_else(|| file::fail(&path, "it is not a digest in hex"))?;
        values.push((index, value));
    }
    Pcrs::collect(bank, values).ok_or_else(|| file::fail(Path::new(&folder), "a register has another bank's value"))
}

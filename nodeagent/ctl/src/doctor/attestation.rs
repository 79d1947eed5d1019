//! What attestation needs of this machine: PCR banks, a certified endorsement key, event logs, a TEE, a clock.
//!
//! What only the agent can know (it has the TPM) is taken from its status; without it the kernel's own words have to do.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::Check;
use crate::status::Attestation;

/// PC Client Platform Firmware Profile, 10.4.5.1: the signature in the first event of a crypto-agile log.
const CRYPTO_AGILE: &[u8] = b"Spec ID Event03";
/// Where that signature stands: behind the first event's header of 32 bytes.
const SIGNATURE_AT: usize = 32;
/// The clock's difference at which certificates and results begin to fail, seconds.
const MAX_SKEW: i64 = 60;
/// No release of this program is older: 2026-01-01.
const EPOCH: u64 = 1_767_225_600;

/// All of them. `told` is what the agent last showed.
pub(super) fn checks(told: Option<&Attestation>) -> Vec<Check> {
    vec![
        banks(told, Path::new("/sys/class/tpm/tpm0")),
        endorsement_key(told),
        event_log(Path::new("/sys/kernel/security/tpm0/binary_bios_measurements")),
        tee(told),
        clock(told, now()),
    ]
}

fn banks(told: Option<&Attestation>, sysfs: &Path) -> Check {
    let remedy = "activate the sha256 bank (firmware setup, or: tpm2_pcrallocate sha256:all and a reboot), or set tpm.bank to an active one";
    let told = told.and_then(|told| told.tpm.as_ref());
    let (wanted, active) = match told {
        Some(tpm) => (tpm.bank.clone(), tpm.active_banks.clone()),
        None => {
            let active = ["sha1", "sha256", "sha384", "sha512"].map(str::to_owned);
            let there = |bank: &String| sysfs.join(format!("pcr-{bank}/0")).exists();
            ("sha256".to_owned(), active.into_iter().filter(there).collect())
        }
    };
    let found = match active.as_slice() {
        [] => "none is known (is there a TPM?)".to_owned(),
        some => format!("{} active, {wanted} is quoted", some.join(", ")),
    };
    Check::new("pcr bank", active.contains(&wanted), found, remedy)
}

fn endorsement_key(told: Option<&Attestation>) -> Check {
    let remedy = "without a manufacturer's certificate the Verifier's operator has to list or approve this TPM: rempart-verifier node --help";
    match told.and_then(|told| told.tpm.as_ref()) {
        None => Check::new(
            "ek certificate",
            false,
            "not known: the agent has not asked the TPM yet",
            "see: rempart status; systemctl status rempartd",
        ),
        Some(tpm) => {
            let certified = &tpm.certified_endorsement_keys;
            let found = match certified.as_slice() {
                [] => "the TPM holds none".to_owned(),
                some => some.join(", "),
            };
            Check::new("ek certificate", !certified.is_empty(), found, remedy)
        }
    }
}

fn event_log(path: &Path) -> Check {
    let name = "event log";
    let mut head = Vec::new();
    match File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Check::new(name, false, "only root may read it", "run this as root")
        }
        Err(error) => {
            let remedy = "boot by UEFI with the TPM switched on, and mount securityfs: without the log no register can be explained";
            Check::new(name, false, format!("{}: {error}", path.display()), remedy)
        }
        Ok(0) => {
            let remedy = "switch on the TPM and measured boot in the firmware setup";
            Check::new(name, false, "empty: the firmware measured nothing", remedy)
        }
        Ok(_) => {
            let agile = head
                .get(SIGNATURE_AT..)
                .is_some_and(|event| event.starts_with(CRYPTO_AGILE));
            let found = if agile { "crypto-agile" } else { "SHA-1 only" };
            let remedy =
                "update the firmware, or switch it to TCG 2.0 logs: the Verifier refuses logs that know SHA-1 only";
            Check::new(name, agile, found, remedy)
        }
    }
}

/// A machine without one is no defect; that its memory is open to the host has to be said all the same.
fn tee(told: Option<&Attestation>) -> Check {
    let device = ["/sys/kernel/config/tsm/report", "/dev/sev-guest"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let remedy = "load the guest driver (sev-guest or tdx-guest) and mount configfs; then: rempart attest";
    let tee = told.map(|told| &told.tee);
    match (tee.and_then(|tee| tee.kind.as_ref().zip(tee.provider.as_ref())), device) {
        (Some((kind, provider)), _) => Check::new("tee", true, format!("{kind} by {provider}"), remedy),
        (None, device) => {
            let why = tee.and_then(|tee| tee.why.clone());
            let found = match (device, why) {
                (Some(device), Some(why)) => format!("{device} is there, and no report: {why}"),
                (Some(device), None) => format!("{device}, not asked yet"),
                (None, _) => "none: the host can read this machine's memory".to_owned(),
            };
            Check::new("tee", device != Some("/dev/sev-guest") || told.is_none(), found, remedy)
        }
    }
}

fn clock(told: Option<&Attestation>, now: u64) -> Check {
    let remedy = "let the clock follow a time server: systemctl enable --now systemd-timesyncd";
    if let Some(result) = told.and_then(|told| told.result.as_ref()) {
        let ahead = result.clock_ahead_s;
        let found = match ahead {
            -1..=1 => "as the Verifier's".to_owned(),
            2.. => format!("{ahead} s ahead of the Verifier's"),
            _ => format!("{} s behind the Verifier's", ahead.unsigned_abs()),
        };
        return Check::new("clock", ahead.abs() <= MAX_SKEW, found, remedy);
    }
    let synchronised = fs::exists("/run/systemd/timesync/synchronized").unwrap_or(false);
    let found = match (now < EPOCH, synchronised) {
        (true, _) => "years behind: certificates are not valid yet",
        (false, true) => "synchronised; not compared with the Verifier's yet",
        (false, false) => "plausible; not compared with the Verifier's yet",
    };
    Check::new("clock", now >= EPOCH, found, remedy)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: serde_json::Value) -> Attestation {
        serde_json::from_value(json).expect("as the agent tells")
    }

    #[test]
    fn a_bank_that_is_quoted_and_not_active_is_found() {
        let tpm = |bank| told(serde_json::json!({"tpm": {"bank": bank, "active_banks": ["sha1", "sha256"]}}));
        assert!(banks(Some(&tpm("sha256")), Path::new("/nowhere")).ok);
        assert!(!banks(Some(&tpm("sha384")), Path::new("/nowhere")).ok);
        assert!(!banks(None, Path::new("/nowhere")).ok);
    }

    #[test]
    fn a_tpm_without_a_certificate_is_found() {
        let with = |kinds: &[&str]| told(serde_json::json!({"tpm": {"certified_endorsement_keys": kinds}}));
        assert!(endorsement_key(Some(&with(&["rsa-2048"]))).ok);
        assert!(!endorsement_key(Some(&with(&[]))).ok);
        assert!(!endorsement_key(None).ok);
    }

    #[test]
    fn a_log_of_the_old_format_an_empty_one_and_none_are_told_apart() {
        let path = std::env::temp_dir().join(format!("rempart-doctor-{}", std::process::id()));
        let found = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("write");
            event_log(&path)
        };
        let agile = [&[0; SIGNATURE_AT][..], CRYPTO_AGILE, &[0; 20]].concat();
        assert!(found(&agile).ok);
        let old = found(&[0; 64]);
        assert!(!old.ok && old.found.contains("SHA-1"));
        assert!(found(&[]).found.contains("empty"));
        fs::remove_file(&path).expect("remove");
        assert!(!event_log(&path).ok);
    }

    #[test]
    fn a_clock_ten_minutes_off_is_found_either_way() {
        let ahead = |seconds: i64| told(serde_json::json!({"result": {"clock_ahead_s": seconds}}));
        assert!(clock(Some(&ahead(30)), 0).ok && clock(Some(&ahead(-1)), 0).ok);
        for wrong in [600, -600] {
            let check = clock(Some(&ahead(wrong)), 0);
            assert!(!check.ok && check.found.contains("600"), "{}", check.found);
        }
        assert!(!clock(None, 0).ok && clock(None, EPOCH).ok);
    }
}

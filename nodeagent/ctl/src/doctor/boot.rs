//! What attestation needs of this machine: UEFI, event log, TPM, PCR banks, a certified endorsement key, a TEE, a clock.
//!
//! What only the agent can know (it has the TPM) is taken from its status; without it the kernel's own words have to do.

use super::{
    check::Check,
    facts::{Boot, EventLog, Facts, Seen, Tpm},
};
use crate::status::Attestation;

/// The clock's difference at which certificates and results begin to fail, seconds.
const MAX_SKEW: i64 = 60;
/// No release of this program is older: 2026-01-01.
const EPOCH: u64 = 1_767_225_600;

/// All of them.
pub fn checks(facts: &Facts) -> Vec<Check> {
    let told = facts.live.agent.as_ref().ok().map(|status| &status.attestation);
    let mut checks = machine(&facts.boot, &facts.tpm);
    checks.extend([
        banks(told, &facts.tpm),
        endorsement_key(told),
        tee(told),
        clock(told, &facts.system.synchronised, facts.now),
    ]);
    checks
}

/// Those that need no agent.
pub fn machine(boot: &Boot, chip: &Tpm) -> Vec<Check> {
    vec![
        uefi(boot),
        secure_boot(boot),
        event_log(&boot.log),
        tpm(chip),
        tpm_state(chip),
    ]
}

fn uefi(boot: &Boot) -> Check {
    match boot.uefi {
        true => Check::ok("uefi", "booted by UEFI"),
        false => Check::failed(
            "uefi",
            "not booted by UEFI: nothing has measured the boot",
            "switch the firmware (or the virtual machine) to UEFI, and boot a loader made for it",
        ),
    }
}

/// No defect by itself: the registers show it, and the policy says which of both is right.
fn secure_boot(boot: &Boot) -> Check {
    match &boot.secure_boot {
        Seen::Is(true) => Check::ok("secure boot", "on"),
        Seen::Is(false) => Check::note(
            "secure boot",
            "off: PCR 7 shows it; rempart policy predict expects it so, a policy with require_secure_boot refuses it",
        ),
        Seen::Absent => Check::note("secure boot", "the firmware has none"),
        Seen::Hidden(why) => Check::unseen("secure boot", why, "mount efivarfs at /sys/firmware/efi/efivars"),
    }
}

fn event_log(log: &Seen<EventLog>) -> Check {
    let name = "event log";
    match log {
        Seen::Is(EventLog::Agile) => Check::ok(name, "crypto-agile"),
        Seen::Is(EventLog::Sha1Only) => Check::failed(
            name,
            "SHA-1 only",
            "update the firmware, or switch it to TCG 2.0 logs: the Verifier refuses logs that know SHA-1 only",
        ),
        Seen::Is(EventLog::Empty) => Check::failed(
            name,
            "empty: the firmware measured nothing",
            "switch on the TPM and measured boot in the firmware setup",
        ),
        Seen::Absent => Check::failed(
            name,
            "none at /sys/kernel/security/tpm0/binary_bios_measurements",
            "boot by UEFI with the TPM switched on, and mount securityfs: without the log no register can be explained",
        ),
        Seen::Hidden(why) => Check::unseen(name, why, "run this as root"),
    }
}

fn tpm(tpm: &Tpm) -> Check {
    let remedy = "give the machine a TPM 2.0 (virtual machines: a vTPM) and load its driver";
    match (tpm.device, tpm.version.as_str()) {
        (false, _) => Check::failed("tpm", "no /dev/tpmrm0", remedy),
        (true, "2") if !tpm.library => Check::failed(
            "tpm",
            "/dev/tpmrm0, TPM 2.0, and no libtss2-tcti-device to talk to it",
            "install the TPM library's device module: rempart setup names the package",
        ),
        (true, "2") => Check::ok("tpm", "/dev/tpmrm0, TPM 2.0"),
        (true, other) => Check::failed("tpm", format!("/dev/tpmrm0, version {other:?}"), remedy),
    }
}

fn tpm_state(tpm: &Tpm) -> Check {
    let name = "tpm state";
    if tpm.kept {
        return Check::note(
            name,
            "not asked: the guard keeps the TPM for the agent, whose line says what became of that",
        );
    }
    let state = match &tpm.permanent {
        Seen::Is(state) => state,
        Seen::Absent => return Check::unseen(name, "there is no TPM to ask", "see the line above"),
        Seen::Hidden(why) => return Check::unseen(name, why, "run this as root before the node is unlocked"),
    };
    if state.in_lockout {
        return Check::failed(
            name,
            format!(
                "in lockout after {} wrong guesses: sealed values cannot be opened",
                state.failures
            ),
            format!(
                "find out who guesses; it forgets one each {} s, or: tpm2_dictionarylockout --clear-lockout",
                state.interval_s
            ),
        );
    }
    if state.owner_auth {
        return Check::degraded(
            name,
            "its owner has a password: nothing can be sealed (Offline=sealed:, rempart seal) and no key kept",
            "tpm2_changeauth --object-context=owner, to an empty one",
        );
    }
    let lockout = if state.lockout_auth { "set" } else { "empty" };
    if state.failures > 0 {
        return Check::note(
            name,
            format!(
                "{} of {} wrong guesses until it locks, lockout password {lockout}",
                state.failures, state.most_failures
            ),
        );
    }
    Check::ok(
        name,
        format!("not locked out, no owner password, lockout password {lockout}"),
    )
}

fn banks(told: Option<&Attestation>, tpm: &Tpm) -> Check {
    let told = told.and_then(|told| told.tpm.as_ref());
    let (wanted, active) = match told {
        Some(tpm) => (tpm.bank.as_str(), tpm.active_banks.as_slice()),
        None => ("sha256", tpm.banks.as_slice()),
    };
    let found = match active {
        [] => "none is known (is there a TPM?)".to_owned(),
        some => format!("{} active, {wanted} is quoted", some.join(", ")),
    };
    match active.iter().any(|bank| bank == wanted) {
        true => Check::ok("pcr bank", found),
        false => Check::failed(
            "pcr bank",
            found,
            "activate the sha256 bank (firmware setup, or: tpm2_pcrallocate sha256:all and a reboot), or set tpm.bank to an active one",
        ),
    }
}

fn endorsement_key(told: Option<&Attestation>) -> Check {
    let name = "ek certificate";
    match told.and_then(|told| told.tpm.as_ref()) {
        None => Check::unseen(
            name,
            "the agent has not asked the TPM yet",
            "see: rempart status; systemctl status rempartd",
        ),
        Some(tpm) => match tpm.certified_endorsement_keys.as_slice() {
            [] => Check::degraded(
                name,
                "the TPM holds none",
                "without a manufacturer's certificate the Verifier's operator has to list or approve this TPM: rempart-verifier node --help",
            ),
            some => Check::ok(name, some.join(", ")),
        },
    }
}

/// A machine without one is no defect; that its memory is open to the host has to be said all the same.
fn tee(told: Option<&Attestation>) -> Check {
    let tee = told.map(|told| &told.tee);
    let Some(tee) = tee else {
        return Check::unseen("tee", "the agent has not asked for a report yet", "see: rempart status");
    };
    match (&tee.kind, &tee.provider, &tee.why) {
        (Some(kind), Some(provider), _) => Check::ok("tee", format!("{kind} by {provider}")),
        (_, _, Some(why)) => Check::note(
            "tee",
            format!("none ({why}): whoever runs the hypervisor can read this machine's memory"),
        ),
        _ => Check::unseen("tee", "the agent has not asked for a report yet", "see: rempart status"),
    }
}

fn clock(told: Option<&Attestation>, synchronised: &Seen<bool>, now: u64) -> Check {
    let name = "clock";
    let remedy = "let the clock follow a time server: systemctl enable --now systemd-timesyncd";
    if let Some(result) = told.and_then(|told| told.result.as_ref()) {
        let ahead = result.clock_ahead_s;
        let found = match ahead {
            -1..=1 => "as the Verifier's".to_owned(),
            2.. => format!("{ahead} s ahead of the Verifier's"),
            _ => format!("{} s behind the Verifier's", ahead.unsigned_abs()),
        };
        return match (ahead.unsigned_abs() <= MAX_SKEW.unsigned_abs(), synchronised) {
            (false, _) => Check::failed(name, found, remedy),
            (true, Seen::Is(false)) => Check::degraded(name, format!("{found}, and follows no time server"), remedy),
            (true, _) => Check::ok(name, found),
        };
    }
    match (now < EPOCH, synchronised) {
        (true, _) => Check::failed(name, "years behind: certificates are not valid yet", remedy),
        (false, Seen::Is(true)) => Check::ok(name, "synchronised; not compared with the Verifier's yet"),
        (false, Seen::Is(false)) => Check::degraded(
            name,
            "follows no time server; not compared with the Verifier's yet",
            remedy,
        ),
        (false, _) => Check::note(name, "plausible; nobody tells whether it follows a time server"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::{
        super::{check::State, facts::Loader, tpm::Permanent},
        *,
    };

    fn told(json: serde_json::Value) -> Attestation {
        serde_json::from_value(json).expect("as the agent tells")
    }

    /// A TPM with nothing amiss.
    pub fn good_tpm() -> Tpm {
        Tpm {
            device: true,
            version: "2".into(),
            banks: vec!["sha256".into()],
            kept: false,
            permanent: Seen::Is(Permanent {
                owner_auth: false,
                lockout_auth: true,
                in_lockout: false,
                failures: 0,
                most_failures: 32,
                interval_s: 600,
            }),
            library: true,
        }
    }

    /// A boot with nothing amiss.
    pub fn good_boot() -> Boot {
        Boot {
            uefi: true,
            secure_boot: Seen::Is(true),
            log: Seen::Is(EventLog::Agile),
            loader: Loader::default(),
        }
    }

    #[test]
    fn how_the_machine_was_booted_is_told_apart() {
        let boot = |change: fn(&mut Boot)| {
            let mut boot = good_boot();
            change(&mut boot);
            boot
        };
        assert_eq!(uefi(&good_boot()).state, State::Ok);
        assert_eq!(uefi(&boot(|boot| boot.uefi = false)).state, State::Failed);
        for (seen, state) in [
            (Seen::Is(true), State::Ok),
            (Seen::Is(false), State::Note),
            (Seen::Absent, State::Note),
            (Seen::Hidden("x".into()), State::Unseen),
        ] {
            let boot = Boot {
                secure_boot: seen,
                ..good_boot()
            };
            assert_eq!(secure_boot(&boot).state, state);
        }
        for (seen, state, word) in [
            (Seen::Is(EventLog::Agile), State::Ok, "agile"),
            (Seen::Is(EventLog::Sha1Only), State::Failed, "SHA-1"),
            (Seen::Is(EventLog::Empty), State::Failed, "empty"),
            (Seen::Absent, State::Failed, "none at"),
            (Seen::Hidden("only root may look".into()), State::Unseen, "root"),
        ] {
            let check = event_log(&seen);
            assert!(check.state == state && check.found.contains(word), "{check:?}");
        }
    }

    #[test]
    fn a_tpm_that_is_no_use_is_found() {
        let with = |change: fn(&mut Tpm)| {
            let mut tpm = good_tpm();
            change(&mut tpm);
            tpm
        };
        assert_eq!(tpm(&good_tpm()).state, State::Ok);
        for broken in [
            with(|tpm| tpm.device = false),
            with(|tpm| tpm.version = "1".into()),
            with(|tpm| tpm.library = false),
        ] {
            assert_eq!(tpm(&broken).state, State::Failed, "{broken:?}");
        }
        let state = |change: fn(&mut Permanent)| {
            let mut tpm = good_tpm();
            if let Seen::Is(permanent) = &mut tpm.permanent {
                change(permanent);
            }
            tpm_state(&tpm).state
        };
        assert_eq!(state(|_| {}), State::Ok);
        assert_eq!(state(|state| state.in_lockout = true), State::Failed);
        assert_eq!(state(|state| state.owner_auth = true), State::Degraded);
        assert_eq!(state(|state| state.failures = 2), State::Note);
        assert_eq!(tpm_state(&with(|tpm| tpm.kept = true)).state, State::Note);
        assert_eq!(
            tpm_state(&with(|tpm| tpm.permanent = Seen::Absent)).state,
            State::Unseen
        );
        assert_eq!(
            tpm_state(&with(|tpm| tpm.permanent = Seen::Hidden("x".into()))).state,
            State::Unseen
        );
    }

    #[test]
    fn a_bank_that_is_quoted_and_not_active_is_found() {
        let with = |bank| told(serde_json::json!({"tpm": {"bank": bank, "active_banks": ["sha1", "sha256"]}}));
        let none = Tpm {
            banks: Vec::new(),
            ..good_tpm()
        };
        assert_eq!(banks(Some(&with("sha256")), &none).state, State::Ok);
        assert_eq!(banks(Some(&with("sha384")), &none).state, State::Failed);
        assert_eq!(banks(None, &none).state, State::Failed);
        assert_eq!(banks(None, &good_tpm()).state, State::Ok);
    }

    #[test]
    fn a_tpm_without_a_certificate_is_found() {
        let with = |kinds: &[&str]| told(serde_json::json!({"tpm": {"certified_endorsement_keys": kinds}}));
        assert_eq!(endorsement_key(Some(&with(&["rsa-2048"]))).state, State::Ok);
        assert_eq!(endorsement_key(Some(&with(&[]))).state, State::Degraded);
        assert_eq!(endorsement_key(None).state, State::Unseen);
    }

    #[test]
    fn a_machine_without_a_tee_is_told_what_that_means() {
        let with = |tee| told(serde_json::json!({ "tee": tee }));
        let snp = with(serde_json::json!({"kind": "sev-snp", "provider": "configfs-tsm"}));
        assert_eq!(tee(Some(&snp)).state, State::Ok);
        let none = tee(Some(&with(serde_json::json!({"why": "no device"}))));
        assert!(
            none.state == State::Note && none.found.contains("no device"),
            "{none:?}"
        );
        assert_eq!(tee(Some(&with(serde_json::json!({})))).state, State::Unseen);
        assert_eq!(tee(None).state, State::Unseen);
    }

    #[test]
    fn a_clock_ten_minutes_off_is_found_either_way() {
        let ahead = |seconds: i64| told(serde_json::json!({"result": {"clock_ahead_s": seconds}}));
        let state = |told: Option<&Attestation>, synchronised, now| clock(told, &synchronised, now).state;
        assert_eq!(state(Some(&ahead(30)), Seen::Absent, 0), State::Ok);
        assert_eq!(state(Some(&ahead(-1)), Seen::Is(true), 0), State::Ok);
        assert_eq!(state(Some(&ahead(0)), Seen::Is(false), 0), State::Degraded);
        for wrong in [600, -600] {
            let check = clock(Some(&ahead(wrong)), &Seen::Is(true), 0);
            assert!(
                check.state == State::Failed && check.found.contains("600"),
                "{}",
                check.found
            );
        }
        assert_eq!(state(None, Seen::Is(true), 0), State::Failed);
        assert_eq!(state(None, Seen::Is(true), EPOCH), State::Ok);
        assert_eq!(state(None, Seen::Is(false), EPOCH), State::Degraded);
        assert_eq!(state(None, Seen::Absent, EPOCH), State::Note);
    }
}

//! Learning from two recorded boots: an ordinary one, and one to which the host added a kernel argument.

use super::*;
use crate::eventlog::userspace;
use crate::pcr::Bank;
use crate::policy::Claims;
use crate::testing::{Boot, CMDLINE, ORDINARY, SMBIOS};

struct Recorded {
    pcrs: Pcrs,
    events: Vec<Event>,
}

fn recorded(boot: &Boot) -> Recorded {
    let mut events = uefi::parse(boot.uefi, Bank::Sha256).expect("log");
    events.extend(userspace::parse(boot.userspace, Bank::Sha256).expect("log"));
    Recorded {
        pcrs: boot.pcrs(),
        events,
    }
}

impl Recorded {
    fn machine<'a>(&'a self, cmdline: Option<&'a str>) -> Machine<'a> {
        Machine {
            pcrs: &self.pcrs,
            events: &self.events,
            cmdline,
        }
    }

    fn failures(&self, policy: &Policy) -> usize {
        let claims = Claims {
            pcrs: &self.pcrs,
            events: &self.events,
            pcr_signatures: b"",
            os_release: b"",
            now: 0,
        };
        policy.images[0].failures(&claims).len()
    }
}

fn options(accept: &[&str]) -> Options {
    Options {
        name: "learnt".into(),
        counter: 2,
        registers: vec![0, 14],
        phases: crate::policy::predict::ATTESTING_PHASES.map(str::to_owned).to_vec(),
        accept: accept.iter().map(|name| (*name).to_owned()).collect(),
        require_guard: false,
    }
}

/// The recorded boots' command line is older than some of the demanded arguments.
const OLD_LINE: [&str; 3] = ["efi-options", "gpt-auto", "hibernation"];

#[test]
fn a_learnt_policy_accepts_its_machine_and_says_loudly_that_it_was_learnt() {
    let boot = recorded(&ORDINARY);
    let learnt = learn(&boot.machine(Some(CMDLINE)), &options(&OLD_LINE)).expect("learnt");
    assert_eq!(boot.failures(&learnt.policy), 0);
    assert_eq!(recorded(&SMBIOS).failures(&learnt.policy), 2, "registers 9 and 12");
    let image = &learnt.policy.images[0];
    assert_eq!(image.cmdline.as_deref(), Some(CMDLINE.trim_end()));
    assert_eq!(image.accepted_risks, OLD_LINE);
    assert_eq!(image.pcr0.len(), 1);
    assert!(learnt.warnings[0].contains("LEARNT, not predicted"));
    assert!(
        learnt
            .warnings
            .iter()
            .any(|w| w.starts_with("PCR 12") && w.contains("nothing measured"))
    );
    assert!(learnt.warnings.iter().any(|w| w.starts_with("not judged: PCR 1, 2")));
    assert_eq!(Policy::parse(learnt.policy.to_toml().as_bytes()), Ok(learnt.policy));
}

#[test]
fn a_machine_learnt_from_early_is_accepted_in_later_phases_too() {
    let full = recorded(&ORDINARY);
    let ready = full.pcrs.value(11).expect("register");
    let mut early = recorded(&ORDINARY);
    let last = early.events.iter().rposition(|e| e.pcr == 11).expect("phases");
    early.events.truncate(last);
    let replayed = replay::replay(Bank::Sha256, &early.events).value(11).expect("register");
    early.pcrs.values.insert(11, replayed);
    let learnt = learn(&early.machine(Some(CMDLINE)), &options(&OLD_LINE)).expect("learnt");
    let accepted = &learnt.policy.images[0].pcr11;
    assert!(
        accepted.contains(&replayed) && accepted.contains(&ready),
        "{accepted:?}"
    );
}

#[test]
fn configuration_from_outside_is_not_learnt_unasked() {
    let boot = recorded(&SMBIOS);
    let outside = learn(&boot.machine(None), &options(&[RISK_UNSEEN_COMMAND_LINE]));
    let Err(LearnError::OutsideConfiguration { pcr: 12, what }) = outside else {
        panic!("{outside:?}")
    };
    assert!(what.contains("systemd.import_credentials=yes"), "{what}");
    let both = options(&[RISK_UNSEEN_COMMAND_LINE, RISK_OUTSIDE_CONFIGURATION]);
    let learnt = learn(&boot.machine(None), &both).expect("accepted by name");
    assert_eq!(
        learnt.policy.images[0].accepted_risks,
        [RISK_OUTSIDE_CONFIGURATION, RISK_UNSEEN_COMMAND_LINE]
    );
}

#[test]
fn a_command_line_that_was_not_measured_is_one_that_was_not_seen() {
    let boot = recorded(&ORDINARY);
    for cmdline in [None, Some("quiet"), Some("")] {
        let refused = learn(&boot.machine(cmdline), &options(&OLD_LINE));
        assert_eq!(refused, Err(LearnError::UnseenCommandLine), "{cmdline:?}");
    }
    let refused = learn(&boot.machine(Some(CMDLINE)), &options(&[]));
    assert!(matches!(refused, Err(LearnError::Predict(PredictError::Risk(_)))));
}

#[test]
fn registers_that_the_logs_do_not_explain_are_not_learnt_unasked() {
    for pcr in [0, 4, 11, 12] {
        let mut boot = recorded(&ORDINARY);
        boot.pcrs.extend(pcr, &Bank::Sha256.hash(&[b"unlogged"]));
        let refused = learn(&boot.machine(Some(CMDLINE)), &options(&OLD_LINE));
        assert_eq!(refused, Err(LearnError::Unexplained { pcr }));
    }
}

#[test]
fn what_is_not_there_or_cannot_be_judged_is_refused() {
    let mut boot = recorded(&ORDINARY);
    let with = |pcr| Options {
        registers: vec![pcr],
        ..options(&OLD_LINE)
    };
    assert_eq!(
        learn(&boot.machine(Some(CMDLINE)), &with(10)),
        Err(LearnError::NotJudged(10))
    );
    boot.pcrs.values.remove(&7);
    let refused = learn(&boot.machine(Some(CMDLINE)), &options(&OLD_LINE));
    assert_eq!(refused, Err(LearnError::Missing(7)));
    let phases = Options {
        phases: vec!["final".into()],
        ..options(&OLD_LINE)
    };
    let unknown = learn(&boot.machine(Some(CMDLINE)), &phases);
    assert!(matches!(
        unknown,
        Err(LearnError::Predict(PredictError::UnknownPhase(_)))
    ));
    let unknown = learn(&boot.machine(Some(CMDLINE)), &options(&["everything"]));
    assert!(matches!(
        unknown,
        Err(LearnError::Predict(PredictError::UnknownRisk(_)))
    ));
}

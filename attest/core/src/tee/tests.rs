//! What holds for every environment, whoever makes it: the cases run over [`TeeKind::ALL`].

use super::testing::snp::{Chip, REPORT_DATA};
use super::testing::{NOW, snp as amd, tdx as intel};
use super::*;
use crate::bytes::Fixed;
use crate::evidence::TeeEvidence;
use crate::finding::Finding;

/// An honest machine of one environment with what its Verifier knows and demands.
struct Machine {
    kind: TeeKind,
    report: Vec<u8>,
    other: Vec<u8>,
    endorsements: Endorsements,
    snp: Option<snp::Policy>,
    tdx: Option<tdx::Policy>,
}

impl Machine {
    fn new(kind: TeeKind) -> Self {
        let other = Fixed([1; 64]);
        match kind {
            TeeKind::SevSnp => {
                let chip = Chip::new(snp::Generation::Turin);
                Self {
                    kind,
                    report: chip.report(&REPORT_DATA),
                    other: chip.report(&other),
                    endorsements: chip.endorsements(NOW),
                    snp: Some(amd::policy(snp::Generation::Turin)),
                    tdx: None,
                }
            }
            TeeKind::Tdx => {
                let platform = intel::Platform::new(intel::Pki::generate());
                Self {
                    kind,
                    report: platform.quote(&REPORT_DATA),
                    other: platform.quote(&other),
                    endorsements: platform.endorsements(),
                    snp: None,
                    tdx: Some(intel::policy()),
                }
            }
        }
    }

    fn sections(&self) -> Sections<'_> {
        Sections {
            snp: self.snp.as_ref(),
            tdx: self.tdx.as_ref(),
        }
    }

    fn verify(
        &self,
        report: &[u8],
        provider: TeeProvider,
        endorsements: &Endorsements,
    ) -> Result<VerifiedTee, Vec<String>> {
        let tee = TeeEvidence {
            kind: self.kind,
            provider,
            report: report.into(),
            certificates: vec![].into(),
            runtime_data: vec![].into(),
        };
        verify::verify("demo-1", &tee, &REPORT_DATA, &[], endorsements, NOW).map_err(names)
    }

    fn honest(&self) -> VerifiedTee {
        self.verify(&self.report, TeeProvider::ConfigfsTsm, &self.endorsements)
            .expect("verifies")
    }
}

fn names(findings: Vec<Finding>) -> Vec<String> {
    findings.into_iter().map(|f| f.check).collect()
}

#[test]
fn an_honest_machine_is_affirmed_and_summed_up() {
    for kind in TeeKind::ALL {
        let machine = Machine::new(kind);
        let tee = machine.honest();
        assert_eq!(
            names(appraise("demo-1", Some(&tee), machine.sections())),
            [""; 0],
            "{kind}"
        );
        let summary = tee.summary();
        assert_eq!(
            (summary.kind, summary.freshness, summary.test_root),
            (kind, Freshness::Report, true)
        );
        assert!(serde_json::to_string(&summary).expect("json").contains(kind.name()));
    }
}

#[test]
fn a_report_of_another_exchange_or_cut_anywhere_is_refused() {
    for kind in TeeKind::ALL {
        let machine = Machine::new(kind);
        let refused = |report: &[u8]| machine.verify(report, TeeProvider::ConfigfsTsm, &machine.endorsements);
        assert_eq!(
            refused(&machine.other).expect_err("refused"),
            ["tee-report-data"],
            "{kind}"
        );
        for len in (0..machine.report.len()).step_by(61) {
            assert!(refused(&machine.report[..len]).is_err(), "{kind} {len}");
        }
    }
}

#[test]
fn a_verifier_that_knows_nothing_believes_nothing() {
    for kind in TeeKind::ALL {
        let machine = Machine::new(kind);
        let blank = Endorsements::default();
        assert!(
            machine
                .verify(&machine.report, TeeProvider::ConfigfsTsm, &blank)
                .is_err(),
            "{kind}"
        );
    }
}

#[test]
fn one_environments_report_does_not_pass_as_anothers() {
    for kind in TeeKind::ALL {
        for other in TeeKind::ALL.into_iter().filter(|other| *other != kind) {
            let (machine, foreign) = (Machine::new(kind), Machine::new(other));
            let refused = machine.verify(&foreign.report, TeeProvider::ConfigfsTsm, &machine.endorsements);
            assert!(refused.is_err(), "{other} as {kind}");
            let found = appraise("demo-1", Some(&machine.honest()), foreign.sections());
            assert_eq!(names(found), ["tee"], "{kind} where {other} is demanded");
        }
    }
}

#[test]
fn production_policies_refuse_test_roots_and_files() {
    for kind in TeeKind::ALL {
        let mut machine = Machine::new(kind);
        let mut tee = machine.honest();
        tee.provider = TeeProvider::File;
        assert_eq!(
            names(appraise("demo-1", Some(&tee), machine.sections())),
            [""; 0],
            "{kind}: a test policy"
        );
        machine.snp.iter_mut().for_each(|p| p.accept_file_provider = false);
        machine.tdx.iter_mut().for_each(|p| p.accept_file_provider = false);
        let found = appraise("demo-1", Some(&tee), machine.sections());
        assert_eq!(names(found), ["tee-test-root", "tee-file-provider"], "{kind}");
        let missing = appraise("demo-1", None, machine.sections());
        assert_eq!(names(missing), ["tee"], "{kind}");
        assert_eq!(
            names(appraise("demo-1", Some(&tee), Sections::default())),
            [""; 0],
            "no section, no demand"
        );
    }
}

#[test]
fn ways_that_an_environment_does_not_have_are_refused() {
    let machine = Machine::new(TeeKind::Tdx);
    for provider in [TeeProvider::SevGuest, TeeProvider::VtpmNv] {
        let refused = machine.verify(&machine.report, provider, &machine.endorsements);
        assert_eq!(refused.expect_err("refused"), ["tee-provider"]);
    }
    let machine = Machine::new(TeeKind::SevSnp);
    let tee = TeeEvidence {
        kind: machine.kind,
        provider: TeeProvider::SevGuest,
        report: machine.report.clone().into(),
        certificates: vec![].into(),
        runtime_data: vec![1].into(),
    };
    let refused = verify::verify("demo-1", &tee, &REPORT_DATA, &[], &machine.endorsements, NOW);
    assert_eq!(names(refused.expect_err("refused")), ["tee-provider"]);
}

#[test]
fn the_names_in_evidence_are_the_shown_ones() {
    for kind in TeeKind::ALL {
        assert_eq!(serde_json::to_string(&kind).expect("json"), format!("\"{kind}\""));
    }
    for provider in [
        TeeProvider::ConfigfsTsm,
        TeeProvider::SevGuest,
        TeeProvider::VtpmNv,
        TeeProvider::File,
    ] {
        assert_eq!(
            serde_json::to_string(&provider).expect("json"),
            format!("\"{provider}\"")
        );
    }
}

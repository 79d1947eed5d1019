//! Against a real server that counts, and a real directory.

mod service;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rempart_attest::evidence::TeeEvidence;
use rempart_attest::tee::snp::Generation;
use rempart_attest::tee::testing::NOW;
use rempart_attest::tee::testing::snp::{Chip, Pki, REPORT_DATA, VEK_SERIAL};
use rempart_attest::tee::{self, Roots, TeeProvider};
use tempfile::TempDir;

use super::*;
use service::{Service, vcek_path};

fn evidence(chip: &Chip, table: Vec<u8>) -> TeeEvidence {
    TeeEvidence {
        kind: TeeKind::SevSnp,
        provider: TeeProvider::ConfigfsTsm,
        report: chip.report(&REPORT_DATA).into(),
        certificates: table.into(),
        runtime_data: vec![].into(),
    }
}

fn endorser(dir: &Path, service: Option<&Service>, pki: &Pki) -> Arc<Endorser> {
    let settings = Settings {
        offline: dir.into(),
        kds: service.map(Service::kds),
        roots: Roots::with_extra(std::slice::from_ref(&pki.ark)).expect("roots"),
    };
    Endorser::new(&settings).expect("endorser")
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("dir")
}

/// What verification says with what was gathered; empty: it verifies.
async fn outcome(endorser: &Arc<Endorser>, tee: &TeeEvidence, now: u64) -> Vec<String> {
    let endorsements = endorser.gather("demo-1", tee, now).await;
    let verified = tee::verify("demo-1", tee, &REPORT_DATA, &[], &endorsements, now);
    let findings = verified.err().unwrap_or_default();
    findings.into_iter().map(|f| format!("{} {}", f.check, f.who)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_askers_about_one_chip_cost_one_request_of_each_kind() {
    let (dir, chip, service) = (dir(), Chip::new(Generation::Milan), Service::start().await);
    service.knows(&chip, NOW);
    service.set(|known| known.delay = Duration::from_millis(30));
    let endorser = endorser(dir.path(), Some(&service), chip.pki());
    let tee = Arc::new(evidence(&chip, vec![]));
    let asks: Vec<_> = (0..100)
        .map(|_| {
            let (endorser, tee) = (endorser.clone(), tee.clone());
            tokio::spawn(async move { outcome(&endorser, &tee, NOW).await })
        })
        .collect();
    for ask in asks {
        assert_eq!(ask.await.expect("asked"), [""; 0]);
    }
    for part in ["blSPL", "cert_chain", "crl"] {
        assert_eq!(service.count(part), 1, "{part}");
    }
    // What was verified is not asked for again, in this process or the next.
    assert_eq!(outcome(&endorser, &tee, NOW + 100).await, [""; 0]);
    let next = self::endorser(dir.path(), None, chip.pki());
    assert_eq!(outcome(&next, &tee, NOW + 100).await, [""; 0], "a key is kept for ever");
    assert_eq!(service.count(""), 3);
}

#[tokio::test]
async fn the_vendors_service_is_asked_by_amds_names() {
    for generation in Generation::ALL {
        let (dir, chip, service) = (dir(), Chip::new(generation), Service::start().await);
        service.knows(&chip, NOW);
        let endorser = endorser(dir.path(), Some(&service), chip.pki());
        assert_eq!(
            outcome(&endorser, &evidence(&chip, vec![]), NOW).await,
            [""; 0],
            "{generation}"
        );
        assert_eq!(service.count(&vcek_path(&chip)), 1);
    }
}

#[tokio::test]
async fn https_counts_only_with_a_certificate_of_the_named_authority() {
    let (dir, chip) = (dir(), Chip::new(Generation::Milan));
    let (ours, others) = (dir.path().join("ours.pem"), dir.path().join("others.pem"));
    let service = Service::start_tls(ours).await;
    let other = Service::start_tls(others.clone()).await;
    service.knows(&chip, NOW);
    let good = endorser(&dir.path().join("good"), Some(&service), chip.pki());
    assert_eq!(outcome(&good, &evidence(&chip, vec![]), NOW).await, [""; 0]);
    let impostor = service.with_ca(other.ca.clone());
    let bad = endorser(&dir.path().join("bad"), Some(&impostor), chip.pki());
    assert_eq!(
        outcome(&bad, &evidence(&chip, vec![]), NOW).await,
        ["snp-endorsement verifier"]
    );
}

#[tokio::test]
async fn the_hosts_table_is_enough_and_costs_no_request_but_for_the_list() {
    let (dir, chip, service) = (dir(), Chip::new(Generation::Genoa), Service::start().await);
    service.knows(&chip, NOW);
    let endorser = endorser(dir.path(), Some(&service), chip.pki());
    assert_eq!(outcome(&endorser, &evidence(&chip, chip.table()), NOW).await, [""; 0]);
    assert_eq!((service.count("crl"), service.count("")), (1, 1));
    // The host may withhold it from now on.
    assert_eq!(
        outcome(
            &self::endorser(dir.path(), None, &Pki::new(Generation::Genoa)),
            &evidence(&chip, vec![]),
            NOW
        )
        .await,
        ["snp-endorsement verifier"],
        "the chain was never asked for, so it is not kept"
    );
}

#[tokio::test]
async fn a_table_with_anothers_or_an_old_certificate_does_not_stop_the_search() {
    let (dir, chip, service) = (dir(), Chip::new(Generation::Milan), Service::start().await);
    service.knows(&chip, NOW);
    let endorser = endorser(dir.path(), Some(&service), chip.pki());
    let other = Chip::new(Generation::Milan);
    assert_eq!(outcome(&endorser, &evidence(&chip, other.table()), NOW).await, [""; 0]);
    let strange = Chip::endorsed(Arc::new(Pki::stranger(Generation::Milan)), |_| {});
    let second = Chip::new(Generation::Milan);
    service.knows(&second, NOW);
    assert_eq!(
        outcome(&endorser, &evidence(&second, strange.table()), NOW).await,
        [""; 0]
    );
}

#[tokio::test]
async fn a_node_that_invents_chips_does_not_spend_what_others_need() {
    let (dir, chip, service) = (dir(), Chip::new(Generation::Milan), Service::start().await);
    service.knows(&chip, NOW);
    let endorser = endorser(dir.path(), Some(&service), chip.pki());
    for id in 0..20 {
        let invented = TeeEvidence {
            report: chip.report_with(|d| d.chip_id = rempart_attest::Fixed([id; 64])).into(),
            ..evidence(&chip, vec![])
        };
        assert_eq!(outcome(&endorser, &invented, NOW).await, ["snp-endorsement verifier"]);
    }
    assert_eq!(service.count("blSPL"), 1, "after the first, it has to wait");
    let other = endorser.gather("demo-2", &evidence(&chip, vec![]), NOW).await;
    assert!(matches!(other.snp, Vek::Verified(_)), "another node has not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_speaks_of_anothers_chip_spoils_nothing_for_it() {
    // Nobody but the chip's own host has its certificates: no service, and an empty store.
    let (dir, chip) = (dir(), Chip::new(Generation::Milan));
    let endorser = endorser(dir.path(), None, chip.pki());
    let strange = Chip::endorsed(Arc::new(Pki::stranger(Generation::Milan)), |_| {});
    let forged = evidence(&chip, strange.table());
    for round in 0..3 {
        let (liar, owner) = (endorser.clone(), evidence(&chip, chip.table()));
        let (refused, endorsed) = tokio::join!(
            liar.gather("liar", &forged, NOW + round),
            endorser.gather("owner", &owner, NOW + round)
        );
        // Once the owner's search has brought the key it is everybody's, for it is authentic; before, the liar is refused.
        assert!(!matches!(refused.snp, Vek::None));
        assert!(matches!(endorsed.snp, Vek::Verified(_)), "{:?}", endorsed.snp);
    }
    // What one was told for its own host's table is told to nobody else.
    let fresh = self::endorser(&dir.path().join("fresh"), None, chip.pki());
    let refused = fresh.gather("liar", &forged, NOW).await;
    assert!(matches!(refused.snp, Vek::Refused(_)));
    let owner = fresh.gather("owner", &evidence(&chip, chip.table()), NOW).await;
    assert!(matches!(owner.snp, Vek::Verified(_)));
}

#[tokio::test]
async fn a_broken_table_is_refused_by_name() {
    let (dir, chip) = (dir(), Chip::new(Generation::Milan));
    let endorser = endorser(dir.path(), None, chip.pki());
    let mut table = chip.table();
    table[16] = 0;
    assert_eq!(
        outcome(&endorser, &evidence(&chip, table), NOW).await,
        ["snp-certificate-table demo-1"]
    );
}

#[tokio::test]
async fn a_wrong_certificate_from_the_service_is_refused_and_not_kept() {
    let (dir, chip, service) = (dir(), Chip::new(Generation::Milan), Service::start().await);
    service.knows(&chip, NOW);
    let strange = Chip::endorsed(Arc::new(Pki::stranger(Generation::Milan)), |_| {});
    service.set(|known| drop(known.answers.insert(vcek_path(&chip), strange.certificate.clone())));
    let endorser = endorser(dir.path(), Some(&service), chip.pki());
    let tee = evidence(&chip, vec![]);
    assert_eq!(outcome(&endorser, &tee, NOW).await, ["snp-vek demo-1"]);
    assert!(!dir.path().join("milan/vcek").exists(), "nothing unverified is kept");
    let asked = service.count("blSPL");
    assert_eq!(outcome(&endorser, &tee, NOW + 5).await, ["snp-vek demo-1"]);
    assert_eq!(service.count("blSPL"), asked, "a failure is remembered for a while");
    service.knows(&chip, NOW);
    assert_eq!(
        outcome(&endorser, &tee, NOW + REMEMBERED + 1).await,
        [""; 0],
        "and not for ever"
    );
}

#[tokio::test]
async fn rubbish_too_much_and_silence_are_refused_in_bounded_time() {
    type Illness = Box<dyn Fn(&mut service::Known)>;
    let cases: [(&str, Illness); 4] = [
        (
            "rubbish",
            Box::new(|known| known.answers.values_mut().for_each(|a| *a = b"rubbish".to_vec())),
        ),
        (
            "too much",
            Box::new(|known| known.answers.values_mut().for_each(|a| a.resize(8 << 20, 0))),
        ),
        (
            "refusal",
            Box::new(|known| known.status = Some(hyper::StatusCode::TOO_MANY_REQUESTS)),
        ),
        ("silence", Box::new(|known| known.delay = Duration::from_secs(3600))),
    ];
    for (name, change) in cases {
        let (dir, chip, service) = (dir(), Chip::new(Generation::Milan), Service::start().await);
        service.knows(&chip, NOW);
        service.set(|known| change(known));
        let endorser = endorser(dir.path(), Some(&service), chip.pki());
        let began = Instant::now();
        let found = outcome(&endorser, &evidence(&chip, vec![]), NOW).await;
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert!(began.elapsed() < Duration::from_secs(25), "{name}");
    }
}

#[tokio::test]
async fn without_any_source_the_finding_says_which_were_asked() {
    let (dir, chip) = (dir(), Chip::new(Generation::Milan));
    let endorser = endorser(dir.path(), None, chip.pki());
    let Vek::Refused(finding) = endorser.gather("demo-1", &evidence(&chip, vec![]), NOW).await.snp else {
        panic!("refused");
    };
    for word in ["host supplied", "offline store", "no vendor service"] {
        assert!(finding.what.contains(word), "{finding}");
    }
}

#[tokio::test]
async fn a_report_of_version_2_is_endorsed_though_it_does_not_say_its_generation() {
    for generation in Generation::ALL {
        let (dir, chip, service) = (dir(), Chip::new(generation), Service::start().await);
        service.knows(&chip, NOW);
        let endorser = endorser(dir.path(), Some(&service), chip.pki());
        let tee = TeeEvidence {
            report: chip.report_with(|d| d.version = 2).into(),
            ..evidence(&chip, vec![])
        };
        assert_eq!(outcome(&endorser, &tee, NOW).await, [""; 0], "{generation}");
    }
}

#[tokio::test]
async fn a_vlek_is_taken_from_the_host_and_never_asked_for() {
    let (dir, service) = (dir(), Service::start().await);
    let chip = Chip::of_provider(Generation::Milan, "cloud.test");
    service.knows_generation(chip.pki(), NOW);
    let endorser = endorser(dir.path(), Some(&service), chip.pki());
    assert_eq!(outcome(&endorser, &evidence(&chip, chip.table()), NOW).await, [""; 0]);
    assert_eq!(
        outcome(&endorser, &evidence(&chip, vec![]), NOW).await,
        ["snp-endorsement verifier"]
    );
    assert_eq!(service.count("blSPL"), 0);
}

#[tokio::test]
async fn a_newer_list_counts_for_keys_that_were_verified_before_it_and_an_older_one_never() {
    let (dir, chip, service) = (dir(), Chip::new(Generation::Milan), Service::start().await);
    service.knows(&chip, NOW);
    let endorser = endorser(dir.path(), Some(&service), chip.pki());
    let tee = evidence(&chip, vec![]);
    assert_eq!(outcome(&endorser, &tee, NOW).await, [""; 0]);
    let later = NOW + 7 * 3600;
    let list = |from: u64, serials: &[u64]| chip.pki().crl_between(from, NOW + 40 * 86_400, serials);
    let give = |list: Vec<u8>| service.set(|known| drop(known.answers.insert("/vcek/v1/Milan/crl".into(), list)));
    give(list(later, &[VEK_SERIAL]));
    assert_eq!(outcome(&endorser, &tee, later).await, [""; 0], "not renewed yet");
    endorser.renew_due(later).await;
    assert_eq!(outcome(&endorser, &tee, later).await, ["snp-revoked demo-1"]);
    give(list(NOW - 9, &[]));
    endorser.renew_due(later + 7 * 3600).await;
    assert_eq!(
        outcome(&endorser, &tee, later + 7 * 3600).await,
        ["snp-revoked demo-1"],
        "no way back"
    );
}

#[tokio::test]
async fn a_list_by_another_key_does_not_take_the_place_of_a_good_one() {
    let (dir, chip, service) = (dir(), Chip::new(Generation::Milan), Service::start().await);
    service.knows(&chip, NOW);
    let endorser = endorser(dir.path(), Some(&service), chip.pki());
    let tee = evidence(&chip, vec![]);
    assert_eq!(outcome(&endorser, &tee, NOW).await, [""; 0]);
    let later = NOW + 7 * 3600;
    let foreign = Pki::stranger(Generation::Milan).crl(later, &[]);
    service.set(|known| drop(known.answers.insert("/vcek/v1/Milan/crl".into(), foreign)));
    endorser.renew_due(later).await;
    assert_eq!(
        endorser.crls.this_update(Generation::Milan, SigningKey::Vcek),
        Some(NOW - 86_400)
    );
    assert!(endorser.crls.due(later).is_empty(), "asked again later");
    assert_eq!(outcome(&endorser, &tee, later).await, [""; 0]);
}

#[tokio::test]
async fn offline_a_store_that_an_operator_filled_is_enough_until_its_list_lapses() {
    let (dir, chip) = (dir(), Chip::new(Generation::Turin));
    let store = dir.path().join("turin");
    let id = hex::encode(&chip.chip_id.0[..8]);
    let tcb = rempart_attest::tee::snp::Tcb::from_levels(chip.claims.levels, Generation::Turin);
    std::fs::create_dir_all(store.join("vcek").join(&id)).expect("dir");
    std::fs::write(
        store.join("vcek").join(id).join(format!("{tcb}.der")),
        &chip.certificate,
    )
    .expect("written");
    std::fs::write(store.join("vcek.pem"), chip.pki().chain_pem(SigningKey::Vcek)).expect("written");
    let list = |from, until| {
        std::fs::write(store.join("vcek.crl"), chip.pki().crl_between(from, until, &[])).expect("written")
    };
    list(NOW - 10, NOW + 100);
    let tee = evidence(&chip, vec![]);
    let endorser = endorser(dir.path(), None, chip.pki());
    assert_eq!(outcome(&endorser, &tee, NOW).await, [""; 0]);
    assert_eq!(
        outcome(&endorser, &tee, NOW + 101).await,
        ["snp-crl-stale verifier"],
        "no list, no word"
    );
    list(NOW + 101, NOW + 500);
    assert_eq!(
        outcome(&endorser, &tee, NOW + 102 + REMEMBERED).await,
        [""; 0],
        "the operator brought another"
    );
}

#[tokio::test]
async fn without_a_list_a_chain_counts_and_says_so() {
    let (dir, chip) = (dir(), Chip::new(Generation::Milan));
    let endorser = endorser(dir.path(), None, chip.pki());
    let Vek::Verified(vek) = endorser.gather("demo-1", &evidence(&chip, chip.table()), NOW).await.snp else {
        panic!("verified");
    };
    assert_eq!(vek.crl, None, "a policy refuses it unless it says otherwise");
}

#[tokio::test]
async fn a_tdx_quote_is_held_against_what_lies_in_the_store() {
    use rempart_attest::tee::testing::tdx;
    let (dir, pki) = (dir(), tdx::Pki::generate());
    let platform = tdx::Platform::new(pki.clone());
    let settings = Settings {
        offline: dir.path().into(),
        kds: None,
        roots: pki.roots(),
    };
    let endorser = Endorser::new(&settings).expect("endorser");
    let tee = TeeEvidence {
        kind: TeeKind::Tdx,
        provider: TeeProvider::ConfigfsTsm,
        report: platform.quote(&REPORT_DATA).into(),
        certificates: vec![].into(),
        runtime_data: vec![].into(),
    };
    let judged = async |now| {
        let endorsements = endorser.gather("demo-1", &tee, now).await;
        let verified = tee::verify("demo-1", &tee, &REPORT_DATA, &[], &endorsements, NOW).expect("verifies");
        let policy = tdx::policy();
        let sections = tee::Sections {
            snp: None,
            tdx: Some(&policy),
        };
        let findings = tee::appraise("demo-1", Some(&verified), sections);
        findings.into_iter().map(|f| f.check).collect::<Vec<_>>()
    };
    assert_eq!(judged(NOW).await, ["tee-crl-missing", "tdx-tcb-unchecked"]);
    let store = dir.path().join("tdx");
    std::fs::create_dir(&store).expect("dir");
    let collateral = pki.collateral();
    for (at, list) in collateral.crls.iter().enumerate() {
        std::fs::write(store.join(format!("{at}.crl")), list).expect("written");
    }
    for (name, statement) in [
        ("info", &collateral.tcb_infos[0]),
        ("qe", collateral.qe_identity.as_ref().expect("one")),
    ] {
        std::fs::write(store.join(format!("{name}.json")), &statement.json).expect("written");
        std::fs::write(store.join(format!("{name}.pem")), &statement.chain).expect("written");
    }
    assert_eq!(judged(NOW + 61).await, [""; 0]);
}

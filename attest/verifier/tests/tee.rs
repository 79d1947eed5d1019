//! A node with a TPM and a TEE against the real Verifier: both roots sign one digest, and the policy demands both. The chip is a test's
//! own; the Verifier is configured with its root, and the policy accepts such roots by name.

mod support;

use std::fmt::Write as _;
use std::path::Path;

use rempart_attest::evidence::TeeEvidence;
use rempart_attest::tee::snp::bits::{SigningKey, guest};
use rempart_attest::tee::snp::{Generation, Policy};
use rempart_attest::tee::testing::snp::{Chip, Draft, VEK_SERIAL, policy as snp_policy};
use rempart_attest::tee::{TeeKind, TeeProvider};
use rempart_attest::{Binding, Fixed};
use support::client::Client;
use support::node::{Round, attest, checks, enrol, evidence, guard, refused};
use support::tpm::Tpm;
use support::verifier::{Setup, Verifier, policy};

/// A Verifier whose only image demands this chip's generation, and a node that has enrolled with it.
struct Scene {
    verifier: Verifier,
    tpm: Tpm,
    chip: Chip,
    certificate: String,
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

impl Scene {
    fn new(edit: impl FnOnce(&mut Policy)) -> Self {
        let (tpm, chip) = (Tpm::new(), Chip::new(Generation::Milan));
        tpm.boot();
        let roots = tpm.roots();
        let mut verifier = Verifier::with(&Setup {
            ek_roots: &roots,
            more: "\n[endorsements]\noffline = \"endorsements\"\nextra_roots = [\"ark.pem\"]\n".into(),
            ..Setup::default()
        });
        let chain = chip.pki().chain_pem(SigningKey::Vcek);
        let ark = chain
            .split_inclusive("-----END CERTIFICATE-----\n")
            .nth(1)
            .expect("root");
        std::fs::write(verifier.path("state/ark.pem"), ark).expect("written");
        let store = verifier.path("state/endorsements/milan");
        std::fs::create_dir_all(&store).expect("dir");
        list(&store, &chip, &[]);
        verifier.run(&["node", "add", "demo-1", "--role", "billing"], b"");
        let mut demands = snp_policy(Generation::Milan);
        edit(&mut demands);
        let mut image = policy(&tpm.pcrs(), 3);
        image.images[0].snp = Some(demands);
        let file = verifier.sign(&image, "owner", "rempart-policy");
        verifier.run(&["policy", "install", &file], b"");
        verifier.start();
        let certificate = enrol(&mut verifier.connect(), &tpm, "demo-1").expect("enrols");
        Self {
            verifier,
            tpm,
            chip,
            certificate,
        }
    }

    fn round(&self, client: &mut Client, edit: impl FnOnce(&mut Draft)) -> Round {
        let mut round = evidence(client, &self.tpm, "demo-1", &self.certificate, None);
        let digest = Binding {
            challenge: round.evidence.challenge.as_bytes(),
            ephemeral: &round.evidence.ephemeral,
            verifier: support::verifier::ID,
            exporter: &client.exporter,
            boot_id: &round.evidence.boot_id,
            audit_head: &round.evidence.audit_head,
            ak: &rempart_attest::ak::key_id(&self.certificate).expect("certificate"),
            claims: &guard().digest(),
        }
        .digest();
        let report = self.chip.report_with(|draft| {
            draft.report_data = digest;
            edit(draft);
        });
        round.evidence.tee = Some(TeeEvidence {
            kind: TeeKind::SevSnp,
            provider: TeeProvider::ConfigfsTsm,
            report: report.into(),
            certificates: self.chip.table().into(),
            runtime_data: vec![].into(),
        });
        round
    }
}

fn list(store: &Path, chip: &Chip, serials: &[u64]) {
    std::fs::write(store.join("vcek.crl"), chip.pki().crl(now(), serials)).expect("written");
}

fn names(findings: &[rempart_attest::Finding]) -> String {
    checks(findings).iter().fold(String::new(), |mut all, (check, _)| {
        write!(all, "{check} ").expect("a String takes every text");
        all
    })
}

#[test]
fn both_roots_are_affirmed_and_the_result_says_which_hardware() {
    let scene = Scene::new(|_| {});
    let mut client = scene.verifier.connect();
    let round = scene.round(&mut client, |_| {});
    let jwt = attest(&mut client, &round).expect("affirmed");
    let claims: serde_json::Value = {
        use base64::Engine;
        let part = jwt.split('.').nth(1).expect("claims");
        let json = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64");
        serde_json::from_slice(&json).expect("json")
    };
    assert_eq!(claims["rempart.tee"]["kind"], "sev-snp");
    assert_eq!(claims["rempart.tee"]["generation"], "milan");
    assert_eq!(claims["rempart.tee"]["freshness"], "report");
    assert_eq!(claims["rempart.tee"]["test_root"], true);
}

#[test]
fn a_report_that_is_missing_changed_or_of_another_round_is_refused() {
    let scene = Scene::new(|_| {});
    let mut client = scene.verifier.connect();
    // The TPM speaks authentically each time, so each of these is the node's own doing: it is held until its operator has looked.
    let held = |client: &mut Client, round: &Round| {
        let refusal = attest(client, round).expect_err("refused");
        assert!(refusal.latched, "{refusal:?}");
        scene.verifier.run(&["node", "clear", "demo-1"], b"");
        std::thread::sleep(std::time::Duration::from_secs(1));
        names(&refusal.findings)
    };
    let mut changed = scene.round(&mut client, |_| {});
    changed.evidence.tee.as_mut().expect("report").report.0[0x140] ^= 1;
    assert_eq!(held(&mut client, &changed), "snp-signature ");
    let other = scene.round(&mut client, |draft| draft.report_data = Fixed([7; 64]));
    assert_eq!(held(&mut client, &other), "tee-report-data ");
    // A report of one's own earlier round, under a new quote.
    let (old, mut new) = (scene.round(&mut client, |_| {}), scene.round(&mut client, |_| {}));
    new.evidence.tee.clone_from(&old.evidence.tee);
    assert_eq!(held(&mut client, &new), "tee-report-data ");
    let good = scene.round(&mut client, |_| {});
    attest(&mut client, &good).expect("still affirmed");
    let missing = Round {
        evidence: rempart_attest::Evidence {
            tee: None,
            ..scene.round(&mut client, |_| {}).evidence
        },
        key: good.key,
    };
    assert_eq!(names(&refused(&mut client, &missing)), "tee ");
}

#[test]
fn an_authentic_report_that_the_policy_does_not_like_is_drift() {
    let scene = Scene::new(|_| {});
    let mut client = scene.verifier.connect();
    let debug = scene.round(&mut client, |draft| draft.policy |= guest::DEBUG);
    assert_eq!(names(&refused(&mut client, &debug)), "snp-debug ");
    let good = scene.round(&mut client, |_| {});
    assert!(names(&refused(&mut client, &good)).contains("drift-latched"));
}

#[test]
fn registers_and_report_are_refused_together() {
    let scene = Scene::new(|_| {});
    let mut client = scene.verifier.connect();
    // A report that is not authentic hides no register.
    let mut both = scene.round(&mut client, |draft| draft.report_data = Fixed([7; 64]));
    both.evidence.tpm.userspace_log.0.clear();
    let told = names(&refused(&mut client, &both));
    assert!(told.contains("tee-report-data") && told.contains("event-log"), "{told}");
    scene.verifier.run(&["node", "clear", "demo-1"], b"");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let good = scene.round(&mut client, |_| {});
    attest(&mut client, &good).expect("the chip's key is known now");
    // And a quote that is not authentic hides no report, as far as the chip's key is known.
    let mut both = scene.round(&mut client, |draft| draft.report_data = Fixed([7; 64]));
    *both.evidence.tpm.signature.0.last_mut().expect("byte") ^= 1;
    let refusal = attest(&mut client, &both).expect_err("forged");
    let told = names(&refusal.findings);
    assert!(
        told.contains("tee-report-data") && told.starts_with("signature"),
        "{told}"
    );
    assert!(!refusal.latched, "anybody could have sent it");
}

#[test]
fn a_revoked_chip_is_refused() {
    let scene = Scene::new(|_| {});
    list(
        &scene.verifier.path("state/endorsements/milan"),
        &scene.chip,
        &[VEK_SERIAL],
    );
    let mut client = scene.verifier.connect();
    let round = scene.round(&mut client, |_| {});
    assert_eq!(names(&refused(&mut client, &round)), "snp-revoked ");
}

#[test]
fn a_production_policy_refuses_the_tests_own_root() {
    let scene = Scene::new(|policy| policy.accept_file_provider = false);
    let mut client = scene.verifier.connect();
    let round = scene.round(&mut client, |_| {});
    assert_eq!(names(&refused(&mut client, &round)), "tee-test-root ");
}

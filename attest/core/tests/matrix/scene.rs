//! A node, its Evidence, its enrolment and its Verifier's policy, and the whole way from bytes to a verdict.

use rempart_attest::ek::EkRoots;
use rempart_attest::policy::Identity;
use rempart_attest::tee::Endorsements;
use rempart_attest::testing::{AkKind, Authority, Boot, EK, IMA_NG, NOW, Node, ORDINARY, SoftTpm, policy_for};
use rempart_attest::tpm::attest::Build;
use rempart_attest::tpm::public::ak;
use rempart_attest::tpm::{AkPublic, EkPublic, quote};
use rempart_attest::verify::{Context, verify};
use rempart_attest::{Bank, Evidence, Finding, Policy, appraise};

/// The node's name, whom most findings name.
pub const NODE: &str = "demo-1";
/// TPM_ST_ATTEST_QUOTE and TPM_ST_ATTEST_CERTIFY.
pub const QUOTE: u16 = 0x8018;
pub const CERTIFY: u16 = 0x8017;

const EK_PUBLIC: &[u8] = include_bytes!("../../../../tests/fixtures/ek/ek.pub");
const EK_CERTIFICATE: &[u8] = include_bytes!("../../../../tests/fixtures/ek/ek.der");
const EK_ISSUER: &[u8] = include_bytes!("../../../../tests/fixtures/ek/issuer.pem");

pub struct Scene {
    pub node: Node,
    pub authority: Authority,
    pub evidence: Evidence,
    /// Bytes that travel instead of `evidence`.
    pub bytes: Option<Vec<u8>>,
    pub policy: Policy,
    /// A policy file that is read instead of `policy`.
    pub policy_text: Option<String>,
    /// `policy` is taken as it stands, as if its reader had let it pass.
    pub policy_unread: bool,
    pub now: u64,
    pub identity: Identity,
    pub endorsements: Endorsements,
    pub ak_public: Vec<u8>,
    pub ek_public: Vec<u8>,
    pub ek_certificate: Vec<u8>,
    pub ek_roots: Vec<Vec<u8>>,
}

/// The ordinary boot with an ECC P-256 AK.
pub fn ordinary() -> Scene {
    Scene::new(AkKind::P256, &ORDINARY, Bank::Sha256)
}

/// The same with an RSA AK.
pub fn rsa() -> Scene {
    Scene::new(AkKind::RsaSsa, &ORDINARY, Bank::Sha256)
}

/// A boot in the SHA-384 bank with an ECC P-384 AK.
pub fn sha384() -> Scene {
    Scene::new(AkKind::P384, &IMA_NG, Bank::Sha384)
}

impl Scene {
    pub fn new(kind: AkKind, boot: &Boot, bank: Bank) -> Self {
        let authority = Authority::default();
        let node = Node::enrolled(&authority, NODE, EK, SoftTpm::new(kind));
        let pcrs = boot.pcrs_of(bank);
        let evidence = node.evidence_of(&pcrs, boot.uefi, boot.userspace);
        let point = SoftTpm::new(AkKind::P256).key.subject_public_key().to_vec();
        Self {
            evidence,
            bytes: None,
            policy: policy_for(&pcrs),
            policy_text: None,
            policy_unread: false,
            now: NOW,
            identity: Identity::Certified,
            endorsements: Endorsements::default(),
            ak_public: ak::build(ak::ATTRIBUTES, &point),
            ek_public: EK_PUBLIC.to_vec(),
            ek_certificate: EK_CERTIFICATE.to_vec(),
            ek_roots: rempart_attest::certificate::pem_to_ders(EK_ISSUER).expect("pem"),
            node,
            authority,
        }
    }

    /// Quotes again what the Evidence says now.
    pub fn requote(&mut self) {
        self.node.quote(&mut self.evidence);
    }

    /// Quotes again, with `change` made to the structure before it is signed.
    pub fn requote_as(&mut self, change: impl FnOnce(&mut Build<'_>)) {
        let binding = self.node.binding(&self.evidence).0;
        let pcrs = self.evidence.claimed_pcrs().expect("registers");
        let mut attested = Vec::new();
        let mut build = self.node.tpm.quote(&binding[..32], &pcrs, &mut attested);
        change(&mut build);
        self.sign_quote(build.bytes());
    }

    /// Quotes again with these selections.
    pub fn reselect(&mut self, selections: &[(u16, &[u8])]) {
        let pcrs = self.evidence.claimed_pcrs().expect("registers");
        let attested = quote::build(selections, pcrs.digest(Bank::Sha256).as_bytes());
        let binding = self.node.binding(&self.evidence).0;
        let bytes = self.node.tpm.attest(QUOTE, &binding[..32], &attested).bytes();
        self.sign_quote(bytes);
    }

    pub fn sign_quote(&mut self, bytes: Vec<u8>) {
        self.evidence.tpm.signature.0 = self.node.tpm.sign(&bytes);
        self.evidence.tpm.quote.0 = bytes;
    }

    /// Enrolment, envelope, verification, appraisal.
    pub fn judge(&self) -> Result<(), Vec<Finding>> {
        self.enrol()?;
        let bytes = self.bytes.clone().unwrap_or_else(|| self.evidence.to_cbor());
        let evidence = Evidence::from_cbor(&bytes).map_err(|e| unreadable("envelope", NODE, &e))?;
        let text = self.policy_text.clone().unwrap_or_else(|| self.policy.to_toml());
        let policy = if self.policy_unread {
            self.policy.clone()
        } else {
            Policy::parse(text.as_bytes()).map_err(|e| unreadable("policy-file", "policy", &e))?
        };
        let context = Context {
            now: self.now,
            identity: self.identity,
            endorsements: &self.endorsements,
            ..self.node.context()
        };
        let verified = verify(&evidence, &context)?;
        // What was kept from the first round gives the same verdict in the second.
        let again = Context {
            ak: Some(&verified.ak),
            ..context
        };
        let verified = verify(&evidence, &again)?;
        appraise::appraise(&verified, &policy, self.now).map(drop)
    }

    fn enrol(&self) -> Result<(), Vec<Finding>> {
        AkPublic::parse(&self.ak_public).map_err(|e| unreadable("ak-public", NODE, &e))?;
        let ek = EkPublic::parse(&self.ek_public).map_err(|e| unreadable("ek-public", NODE, &e))?;
        let roots = EkRoots::new(self.ek_roots.clone()).expect("certificates");
        roots
            .verify(&self.ek_certificate, &ek, NOW)
            .map_err(|e| unreadable("ek-certificate", NODE, &e))
    }
}

/// Names of steps that end before there are findings, and give an error of their own.
pub const STEPS: [&str; 5] = ["envelope", "policy-file", "ak-public", "ek-public", "ek-certificate"];

/// Such a step's error, in the form of a finding.
fn unreadable(step: &str, who: &str, error: &dyn std::error::Error) -> Vec<Finding> {
    assert!(STEPS.contains(&step), "{step} is none of the steps");
    vec![Finding {
        check: step.into(),
        who: who.into(),
        what: error.to_string(),
        pcr: None,
        expected: None,
        found: None,
        event: None,
        remedy: String::new(),
    }]
}

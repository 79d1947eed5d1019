//! A node for unit tests: a software attestation key with a certificate, and the logs of two real boots of one image
//! (tests/fixtures): an ordinary one, and one to which the host added a kernel argument through SMBIOS.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PublicKeyData,
};

use crate::bytes::{Blob, Fixed};
use crate::evidence::{Evidence, GuardClaim, TpmEvidence};
use crate::pcr::{Bank, PcrValue, Pcrs};
use crate::policy::{Image, Policy};
use crate::tpm::{attest, signature};
use crate::verify::Context;
use crate::{Binding, ChallengeToken};

pub const NOW: u64 = 1_800_000_000;
pub const VERIFIER: &str = "https://verifier.test";
pub const EXPORTER: Fixed<32> = Fixed([3; 32]);
pub const EK: Fixed<32> = Fixed([0xee; 32]);

/// What one boot left behind.
pub struct Boot {
    pub uefi: &'static [u8],
    pub userspace: &'static [u8],
    pcrs: &'static str,
}

pub const ORDINARY: Boot = Boot {
    uefi: include_bytes!("../../../tests/fixtures/boot/uefi.log"),
    userspace: include_bytes!("../../../tests/fixtures/boot/userspace.log"),
    pcrs: include_str!("../../../tests/fixtures/boot/pcrs"),
};
pub const SMBIOS: Boot = Boot {
    uefi: include_bytes!("../../../tests/fixtures/boot-smbios/uefi.log"),
    userspace: include_bytes!("../../../tests/fixtures/boot-smbios/userspace.log"),
    pcrs: include_str!("../../../tests/fixtures/boot-smbios/pcrs"),
};
pub const CMDLINE: &str = include_str!("../../../tests/fixtures/boot/cmdline");

impl Boot {
    pub fn pcrs(&self) -> Pcrs {
        let line = |line: &str| {
            let (index, value) = line.split_once(' ').expect("INDEX HEX");
            (
                index.parse::<u8>().expect("index"),
                PcrValue::from_hex(value).expect("hex"),
            )
        };
        let values = self.pcrs.lines().map(line).filter(|(index, _)| *index < 15);
        Pcrs::collect(Bank::Sha256, values).expect("each register once")
    }
}

/// A policy for the image of both boots.
pub fn policy() -> Policy {
    let pcrs = ORDINARY.pcrs();
    let value = |index| vec![pcrs.value(index).expect("register")];
    let mut policy = crate::policy::sample([0; 5]);
    policy.images = vec![Image {
        cmdline: Some(CMDLINE.into()),
        pcr4: value(4),
        pcr7: value(7),
        pcr9: value(9),
        pcr11: value(11),
        pcr12: value(12),
        ..Image::new("trixie", Bank::Sha256)
    }];
    policy
}

/// A node and its Verifier.
pub struct Node {
    ak: EcdsaKeyPair,
    pub certificate: String,
    pub authority: Vec<u8>,
    pub challenge_key: hmac::Key,
}

struct Point([u8; 65]);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl Node {
    pub fn new() -> Self {
        let ak = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key");
        let point = Point(ak.public_key().as_ref().try_into().expect("point"));
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().expect("key");
        let authority = params.self_signed(&key).expect("certificate").der().to_vec();
        let issuer = Issuer::new(params, key);
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, "demo-1");
        leaf.distinguished_name
            .push(DnType::CustomDnType(vec![2, 5, 4, 5]), EK.to_string());
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(crate::ak::AIK_PURPOSE.to_vec())];
        let certificate = leaf.signed_by(&point, &issuer).expect("certificate").pem();
        Self {
            ak,
            certificate,
            authority,
            challenge_key: hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]),
        }
    }

    pub fn context(&self) -> Context<'_> {
        Context {
            now: NOW,
            verifier: VERIFIER,
            challenge_key: &self.challenge_key,
            authority: &self.authority,
            exporter: &EXPORTER,
            enrolled_ek: &EK,
        }
    }

    /// Evidence as an honest node in this state would send it.
    pub fn evidence(&self, boot: &Boot) -> Evidence {
        let mut evidence = Evidence {
            v: crate::evidence::VERSION,
            node: "demo-1".into(),
            challenge: ChallengeToken::issue(&self.challenge_key, NOW, [5; 16], VERIFIER),
            ephemeral: Fixed([6; 32]),
            boot_id: Fixed([7; 16]),
            audit_head: Fixed::ZERO,
            tpm: TpmEvidence {
                bank: Bank::Sha256,
                quote: Blob::default(),
                signature: Blob::default(),
                pcrs: boot.pcrs().values.into_iter().collect(),
                ak_certificate: self.certificate.clone(),
                uefi_log: boot.uefi.into(),
                userspace_log: boot.userspace.into(),
                ima_log: Blob::default(),
                pcr_signatures: Blob::default(),
                os_release: Blob::default(),
                tls_key: None,
            },
            tee: None,
            systemd_report: Blob::default(),
            guard: GuardClaim {
                enforcing: false,
                why: Some("no BPF LSM".into()),
            },
        };
        self.quote(&mut evidence);
        evidence
    }

    /// Quotes the registers that the Evidence claims, bound to what it says: an honest TPM whose software lies.
    pub fn quote(&self, evidence: &mut Evidence) {
        let binding = Binding {
            challenge: evidence.challenge.as_bytes(),
            ephemeral: &evidence.ephemeral,
            verifier: VERIFIER,
            exporter: &EXPORTER,
            boot_id: &evidence.boot_id,
            audit_head: &evidence.audit_head,
            ak: &crate::ak::key_id(&evidence.tpm.ak_certificate).expect("its own certificate"),
            claims: &evidence.guard.digest(),
        };
        let quote = attest::pinned_quote(
            &binding.qualifying_data().0,
            &evidence.claimed_pcrs().expect("registers"),
        );
        let raw = self.ak.sign(&SystemRandom::new(), &quote).expect("signs");
        evidence.tpm.signature = Blob(signature::build(raw.as_ref()));
        evidence.tpm.quote = Blob(quote);
    }
}

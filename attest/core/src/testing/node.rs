//! A node with everything that its Verifier knows of it.

use aws_lc_rs::hmac;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SignatureAlgorithm,
};

use super::{AkKind, Boot, EK, EXPORTER, NOW, SoftTpm, VERIFIER};
use crate::bytes::{Blob, Fixed};
use crate::evidence::{Evidence, GuardClaim, TpmEvidence};
use crate::pcr::Pcrs;
use crate::policy::Identity;
use crate::tee::Endorsements;
use crate::tpm::public::tls;
use crate::tpm::{KeyKind, PublicKey};
use crate::verify::Context;
use crate::{Binding, ChallengeToken};

/// The endorsement hierarchy's handle.
pub const ENDORSEMENT: u32 = 0x4000_000b;

/// A Verifier's authority for AK certificates.
pub struct Authority {
    /// Its certificate, DER.
    pub der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

struct Spki<'a>(&'a PublicKey);

impl PublicKeyData for Spki<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.subject_public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.0.kind() {
            KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("key");
        let der = params.self_signed(&key).expect("certificate").der().to_vec();
        Self {
            der,
            issuer: Issuer::new(params, key),
        }
    }
}

impl Authority {
    /// That of a real Verifier: its certificate (DER), its key (PEM) and its common name.
    pub fn of(der: Vec<u8>, key: &str, common_name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self {
            der,
            issuer: Issuer::new(params, KeyPair::from_pem(key).expect("a key")),
        }
    }

    /// A certificate (PEM) for `ak` of `node`, activated with the EK `ek`.
    pub fn certify(&self, node: &str, ek: &Fixed<32>, ak: &PublicKey) -> String {
        self.certify_for(node, ek, ak, &crate::ak::AIK_PURPOSE)
    }

    /// The same for another purpose (extended key usage).
    pub fn certify_for(&self, node: &str, ek: &Fixed<32>, ak: &PublicKey, purpose: &[u64]) -> String {
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, node);
        leaf.distinguished_name
            .push(DnType::CustomDnType(vec![2, 5, 4, 5]), ek.to_string());
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(purpose.to_vec())];
        leaf.signed_by(&Spki(ak), &self.issuer).expect("certificate").pem()
    }
}

/// A node and its Verifier.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Fingerprint of its EK.
    pub ek: Fixed<32>,
    /// Its TPM.
    pub tpm: SoftTpm,
    /// Its AK certificate, PEM.
    pub certificate: String,
    /// The authority of its Verifier, DER.
    pub authority: Vec<u8>,
    /// Key of the Verifier's challenges.
    pub challenge_key: hmac::Key,
    /// The Verifier's identifier.
    pub verifier: String,
    /// TLS exporter of the connection.
    pub exporter: Fixed<32>,
    /// Random part of its challenges.
    pub random: [u8; 16],
    /// What its Verifier knows of TEEs.
    pub endorsements: Endorsements,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// `demo-1` with an ECC P-256 AK and an authority of its own.
    pub fn new() -> Self {
        Self::of_kind(AkKind::P256)
    }

    /// The same with an RSA-2048 AK (RSASSA).
    pub fn rsa() -> Self {
        Self::of_kind(AkKind::RsaSsa)
    }

    /// The same with an AK of any kind.
    pub fn of_kind(kind: AkKind) -> Self {
        Self::enrolled(&Authority::default(), "demo-1", EK, SoftTpm::new(kind))
    }

    /// A node that `authority` gave its AK certificate: many may share one.
    pub fn enrolled(authority: &Authority, name: &str, ek: Fixed<32>, tpm: SoftTpm) -> Self {
        Self {
            certificate: authority.certify(name, &ek, &tpm.key),
            name: name.into(),
            ek,
            tpm,
            authority: authority.der.clone(),
            challenge_key: hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]),
            verifier: VERIFIER.into(),
            exporter: EXPORTER,
            random: [5; 16],
            endorsements: Endorsements::default(),
        }
    }

    /// What its Verifier knows at [`NOW`].
    pub fn context(&self) -> Context<'_> {
        Context {
            now: NOW,
            verifier: &self.verifier,
            challenge_key: &self.challenge_key,
            authority: &self.authority,
            exporter: &self.exporter,
            enrolled_ek: &self.ek,
            identity: Identity::Certified,
            endorsements: &self.endorsements,
            ak: None,
        }
    }

    /// Evidence as an honest node in this state would send it.
    pub fn evidence(&self, boot: &Boot) -> Evidence {
        self.evidence_of(&boot.pcrs(), boot.uefi, boot.userspace)
    }

    /// Evidence with these registers and logs.
    pub fn evidence_of(&self, pcrs: &Pcrs, uefi_log: &[u8], userspace_log: &[u8]) -> Evidence {
        let mut evidence = Evidence {
            v: crate::evidence::VERSION,
            node: self.name.clone(),
            challenge: ChallengeToken::issue(&self.challenge_key, NOW, self.random, &self.verifier),
            ephemeral: Fixed([6; 32]),
            boot_id: Fixed([7; 16]),
            audit_head: Fixed::ZERO,
            tpm: TpmEvidence {
                bank: pcrs.bank,
                quote: Blob::default(),
                signature: Blob::default(),
                pcrs: pcrs.values.iter().map(|(index, value)| (*index, *value)).collect(),
                ak_certificate: self.certificate.clone(),
                uefi_log: uefi_log.into(),
                userspace_log: userspace_log.into(),
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

    /// The binding's digest for what `evidence` says on this node's connection.
    pub fn binding(&self, evidence: &Evidence) -> Fixed<64> {
        Binding {
            challenge: evidence.challenge.as_bytes(),
            ephemeral: &evidence.ephemeral,
            verifier: &self.verifier,
            exporter: &self.exporter,
            boot_id: &evidence.boot_id,
            audit_head: &evidence.audit_head,
            ak: &self.tpm.key.id(),
            claims: &evidence.guard.digest(),
        }
        .digest()
    }

    /// Quotes the registers that the Evidence claims, bound to what it says: an honest TPM whose software lies. A TLS key that is
    /// there is certified again.
    pub fn quote(&self, evidence: &mut Evidence) {
        let qualifying_data = self.binding(evidence).0;
        let pcrs = evidence.claimed_pcrs().expect("registers");
        let mut attested = Vec::new();
        let quote = self.tpm.quote(&qualifying_data[..32], &pcrs, &mut attested).bytes();
        evidence.tpm.signature = Blob(self.tpm.sign(&quote));
        evidence.tpm.quote = Blob(quote);
        if evidence.tpm.tls_key.is_some() {
            self.certify(evidence);
        }
    }

    /// Certifies the TLS key for what the Evidence says.
    pub fn certify(&self, evidence: &mut Evidence) {
        let qualifying_data = self.binding(evidence).0;
        evidence.tpm.tls_key = Some(self.tpm.certify(&qualifying_data[..32], tls::ATTRIBUTES, ENDORSEMENT));
    }
}

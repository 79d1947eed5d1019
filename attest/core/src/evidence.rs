//! The envelope in which a node sends its Evidence (RFC 9334, 8.1): a CBOR map; the same type shown as JSON is the view for people.
//! Nothing in here is believed before `verify` has seen it. It must never carry a secret.

use serde::{Deserialize, Serialize};

use crate::bytes::{Blob, Fixed};
use crate::challenge::ChallengeToken;
use crate::limits;
use crate::pcr::{Bank, PcrValue, Pcrs};
use crate::tee::{TeeKind, TeeProvider};

/// The only version there is. Version 1 had no TEE and its binding did not name the AK.
pub const VERSION: u8 = 2;

/// What a node sends to be appraised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Format version, `VERSION`.
    pub v: u8,
    /// The node's name as enrolled.
    pub node: String,
    /// The Verifier's challenge, unchanged.
    pub challenge: ChallengeToken,
    /// X25519 public key, made for this round, that the result will be sealed to.
    pub ephemeral: Fixed<32>,
    /// /proc/sys/kernel/random/boot_id as 16 bytes.
    pub boot_id: Fixed<16>,
    /// Head of the node's audit log; zeros when it keeps none.
    pub audit_head: Fixed<32>,
    /// What the TPM says.
    pub tpm: TpmEvidence,
    /// What the TEE says; none where there is none. A policy may demand one.
    pub tee: Option<TeeEvidence>,
    /// systemd's own signed report (systemd 262 and later); empty when there is none.
    pub systemd_report: Blob,
    /// What the node says of its own guard. A claim of the measured software, not of the TPM; the binding holds its digest.
    pub guard: GuardClaim,
}

/// A quote with all that is needed to judge it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmEvidence {
    /// The bank that is quoted.
    pub bank: Bank,
    /// TPMS_ATTEST as signed, without a length in front.
    pub quote: Blob,
    /// TPMT_SIGNATURE over it.
    pub signature: Blob,
    /// The bank's values, one entry for each index of [`crate::pcr::QUOTED`].
    pub pcrs: Vec<(u8, PcrValue)>,
    /// PEM of the certificate that the Verifier gave the AK at enrolment.
    pub ak_certificate: String,
    /// /sys/kernel/security/tpm0/binary_bios_measurements.
    pub uefi_log: Blob,
    /// /run/log/systemd/tpm2-measure.log (JSON-SEQ).
    pub userspace_log: Blob,
    /// /sys/kernel/security/ima/binary_runtime_measurements; empty when there is none.
    pub ima_log: Blob,
    /// /run/systemd/tpm2-pcr-signature.json (the image's .pcrsig); empty when there is none. Signed by the image's maker, so it may
    /// come from the node.
    pub pcr_signatures: Blob,
    /// /run/systemd/stub/os-release (the image's .osrel); empty when there is none. Its digest is in PCR 11.
    pub os_release: Blob,
    /// A key for TLS that lives in this TPM, certified by the AK in this round.
    pub tls_key: Option<KeyCertification>,
}

/// TPM2_Certify of a key by the AK, with the same qualifyingData as the quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCertification {
    /// TPM2B_PUBLIC of the key.
    pub public: Blob,
    /// TPMS_ATTEST of type certify, without a length in front.
    pub attest: Blob,
    /// TPMT_SIGNATURE over it by the AK.
    pub signature: Blob,
}

/// A TEE's report with what came along with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeeEvidence {
    /// Which TEE.
    pub kind: TeeKind,
    /// By which way the report was had.
    pub provider: TeeProvider,
    /// The report (SEV-SNP: ATTESTATION_REPORT) or quote (TDX), as the device gave it.
    pub report: Blob,
    /// The certificate table that the host supplied, as the kernel gives it (configfs-tsm: auxblob); empty when there is none.
    pub certificates: Blob,
    /// What REPORT_DATA is a digest of where a paravisor fills it ([`TeeProvider::VtpmNv`]); else empty.
    pub runtime_data: Blob,
}

/// Whether the kernel denies what it should, as the guard reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardClaim {
    /// All programs attached and denying.
    pub enforcing: bool,
    /// Why not, one line.
    pub why: Option<String>,
}

/// What is wrong with an envelope before anything in it is judged. The sender is to blame for each.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EvidenceError {
    /// Over [`limits::EVIDENCE`], or a part over its own maximum.
    #[error("the node's Evidence is too large: {part} has {found} bytes, {max} are allowed")]
    TooLarge {
        /// Which part.
        part: &'static str,
        /// Its size, bytes.
        found: usize,
        /// What is allowed, bytes.
        max: usize,
    },
    /// Not the CBOR map that it should be.
    #[error("the node's Evidence is not well formed: {0}")]
    Malformed(String),
    /// Another version.
    #[error(
        "the node's Evidence has version {0}, only {VERSION} is known: bring node and Verifier to the same release"
    )]
    Version(u8),
}

impl Evidence {
    /// The CBOR that travels.
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut out = Vec::new();
        ciborium::into_writer(self, &mut out).expect("a Vec takes every byte");
        out
    }

    /// Reads an envelope, judging sizes before and after.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, EvidenceError> {
        within("envelope", bytes.len(), limits::EVIDENCE)?;
        let evidence: Self = ciborium::from_reader(bytes).map_err(|e| EvidenceError::Malformed(e.to_string()))?;
        if evidence.v != VERSION {
            return Err(EvidenceError::Version(evidence.v));
        }
        evidence.within_limits()?;
        Ok(evidence)
    }

    /// The view for people.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("maps with text keys always serialise")
    }

    /// The claimed PCR values; `None` when an index stands twice, because then it is unclear which one is meant, and when a value is
    /// of another bank than the one that is claimed.
    pub fn claimed_pcrs(&self) -> Option<Pcrs> {
        Pcrs::collect(self.tpm.bank, self.tpm.pcrs.iter().copied())
    }

    fn within_limits(&self) -> Result<(), EvidenceError> {
        within("node", self.node.len(), limits::NODE_NAME)?;
        within("challenge", self.challenge.as_bytes().len(), limits::CHALLENGE)?;
        within("tpm.quote", self.tpm.quote.0.len(), limits::TPM2B)?;
        within("tpm.signature", self.tpm.signature.0.len(), limits::TPM2B)?;
        within("tpm.pcrs (entries)", self.tpm.pcrs.len(), crate::pcr::QUOTED.len())?;
        within("tpm.ak_certificate", self.tpm.ak_certificate.len(), limits::CERTIFICATE)?;
        within("tpm.uefi_log", self.tpm.uefi_log.0.len(), limits::UEFI_LOG)?;
        within(
            "tpm.userspace_log",
            self.tpm.userspace_log.0.len(),
            limits::USERSPACE_LOG,
        )?;
        within("tpm.ima_log", self.tpm.ima_log.0.len(), limits::IMA_LOG)?;
        within(
            "tpm.pcr_signatures",
            self.tpm.pcr_signatures.0.len(),
            limits::PCR_SIGNATURES,
        )?;
        within("tpm.os_release", self.tpm.os_release.0.len(), limits::OS_RELEASE)?;
        if let Some(key) = &self.tpm.tls_key {
            for part in [&key.public, &key.attest, &key.signature] {
                within("tpm.tls_key", part.0.len(), limits::TPM2B)?;
            }
        }
        if let Some(tee) = &self.tee {
            within("tee.report", tee.report.0.len(), limits::TEE_REPORT)?;
            within("tee.certificates", tee.certificates.0.len(), limits::TEE_CERTIFICATES)?;
            within("tee.runtime_data", tee.runtime_data.0.len(), limits::TEE_REPORT)?;
        }
        within("systemd_report", self.systemd_report.0.len(), limits::SYSTEMD_REPORT)?;
        within(
            "guard.why",
            self.guard.why.as_deref().unwrap_or_default().len(),
            limits::GUARD_WHY,
        )
    }
}

impl GuardClaim {
    /// SHA-256 of the claim's CBOR, for the binding. The map has two keys of fixed names in a fixed order, so there is one encoding.
    pub fn digest(&self) -> Fixed<32> {
        let mut out = Vec::new();
        ciborium::into_writer(self, &mut out).expect("a Vec takes every byte");
        crate::bytes::sha256(&out)
    }
}

fn within(part: &'static str, found: usize, max: usize) -> Result<(), EvidenceError> {
    if found > max {
        Err(EvidenceError::TooLarge { part, found, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Evidence {
        Evidence {
            v: VERSION,
            node: "demo-1".into(),
            challenge: ChallengeToken::from_bytes(vec![1, 2, 3]),
            ephemeral: Fixed([2; 32]),
            boot_id: Fixed([3; 16]),
            audit_head: Fixed::ZERO,
            tpm: TpmEvidence {
                bank: Bank::Sha256,
                quote: Blob(vec![4]),
                signature: Blob(vec![5]),
                pcrs: vec![(0, Fixed([6; 32]).into()), (1, Fixed([7; 32]).into())],
                ak_certificate: "PEM".into(),
                uefi_log: Blob(vec![8]),
                userspace_log: Blob(vec![9]),
                ima_log: Blob(vec![10]),
                pcr_signatures: Blob(vec![16]),
                os_release: Blob(vec![17]),
                tls_key: Some(KeyCertification {
                    public: Blob(vec![11]),
                    attest: Blob(vec![12]),
                    signature: Blob(vec![13]),
                }),
            },
            tee: Some(TeeEvidence {
                kind: TeeKind::SevSnp,
                provider: TeeProvider::ConfigfsTsm,
                report: Blob(vec![14]),
                certificates: Blob(vec![15]),
                runtime_data: Blob::default(),
            }),
            systemd_report: Blob::default(),
            guard: GuardClaim {
                enforcing: false,
                why: Some("no BPF LSM".into()),
            },
        }
    }

    #[test]
    fn an_envelope_survives_the_way_there_and_back() {
        assert_eq!(Evidence::from_cbor(&sample().to_cbor()), Ok(sample()));
        assert_eq!(
            serde_json::from_str::<Evidence>(&sample().to_json()).expect("json"),
            sample()
        );
    }

    #[test]
    fn another_version_is_refused() {
        let other = Evidence { v: 1, ..sample() };
        assert_eq!(Evidence::from_cbor(&other.to_cbor()), Err(EvidenceError::Version(1)));
    }

    #[test]
    fn a_part_over_its_maximum_is_refused_by_name() {
        let mut big = sample();
        big.tpm.userspace_log = Blob(vec![0; limits::USERSPACE_LOG + 1]);
        let refused = Evidence::from_cbor(&big.to_cbor()).expect_err("too large");
        assert!(matches!(
            refused,
            EvidenceError::TooLarge {
                part: "tpm.userspace_log",
                ..
            }
        ));
    }

    #[test]
    fn bytes_that_are_no_envelope_are_refused() {
        assert!(matches!(Evidence::from_cbor(b"\xa0"), Err(EvidenceError::Malformed(_))));
        assert!(matches!(Evidence::from_cbor(b""), Err(EvidenceError::Malformed(_))));
    }

    #[test]
    fn a_register_that_stands_twice_is_ambiguous() {
        let mut twice = sample();
        twice.tpm.pcrs.push((1, Fixed([8; 32]).into()));
        assert!(twice.claimed_pcrs().is_none());
    }
}

//! systemd's PCR signature file (systemd-measure(1), `sign`; UAPI UKI specification, .pcrsig): JSON, for each bank a list of
//! {pcrs, pkfp, pol, sig}. `sig` is RSASSA-PKCS1-v1_5 with the bank's hash over `pol`, and `pol` is the digest of a TPM2_PolicyPCR
//! session (Part 3, 23.7; SHA-256 whatever the bank). `pol` is computed here from the quoted value, never believed.

use std::fmt;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use x509_parser::prelude::{FromDer, Pem, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

use crate::bytes::{Fixed, sha256};
use crate::limits;
use crate::pcr::{Bank, PcrValue};

/// TPM2_PolicyPCR (Part 2, table 12).
const CC_POLICY_PCR: u32 = 0x0000_017f;
/// Octets of a PCR selection for 24 registers.
const SIZE_OF_SELECT: u8 = 3;

/// Why no signature covers a register's value. The node handed them over, whoever signs images made them.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PcrSignatureError {
    /// None at all.
    #[error("the node handed over no PCR signatures: does its image have a .pcrsig section?")]
    Absent,
    /// Over its maximum.
    #[error("the node's PCR signatures have {found} {what}, {max} are allowed")]
    TooLarge {
        /// Bytes or entries.
        what: &'static str,
        /// How many.
        found: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not what systemd-measure writes.
    #[error("the node's PCR signatures cannot be read: {0}")]
    Malformed(String),
    /// None for this bank.
    #[error("the node's PCR signatures have none for the bank {0}: sign the image for this bank too")]
    OtherBank(Bank),
    /// None by this key.
    #[error("none of the node's PCR signatures is by the release key with fingerprint {0}")]
    OtherKey(Fixed<32>),
    /// The key signed other values.
    #[error("the release key signed other values of the register, not {0}: another image or another phase of the boot")]
    OtherValue(PcrValue),
    /// Claims to be by the key and is not.
    #[error("a signature over {0} claims the release key and is not by it")]
    Forged(PcrValue),
}

/// The public half of the key that signs images.
#[derive(Clone, PartialEq, Eq)]
pub struct ReleaseKey {
    pem: String,
    /// RSAPublicKey (RFC 8017, A.1.1).
    pkcs1: Vec<u8>,
}

impl ReleaseKey {
    /// Reads a PEM `PUBLIC KEY` (SubjectPublicKeyInfo) with an RSA key of 2048 to 8192 bits.
    pub fn from_pem(text: &str) -> Result<Self, &'static str> {
        let (rest, pem) = x509_parser::pem::parse_x509_pem(text.as_bytes()).map_err(|_| "it is not PEM")?;
        Self::judge(&pem, rest)?;
        let (_, spki) = SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|_| "it is not a public key")?;
        let Ok(PublicKey::RSA(rsa)) = spki.parsed() else {
            return Err("it is not an RSA key, and systemd-measure signs with no other");
        };
        if !(2048..=8192).contains(&rsa.key_size()) {
            return Err("it has not 2048 to 8192 bits");
        }
        Ok(Self {
            pem: text.to_owned(),
            pkcs1: spki.subject_public_key.data.to_vec(),
        })
    }

    fn judge(pem: &Pem, rest: &[u8]) -> Result<(), &'static str> {
        if pem.label != "PUBLIC KEY" {
            return Err("it is not a PEM block PUBLIC KEY");
        }
        if pem.contents.len() > limits::CERTIFICATE || !rest.trim_ascii().is_empty() {
            return Err("it is not one key alone");
        }
        Ok(())
    }

    /// systemd's name for the key, `pkfp`.
    pub fn fingerprint(&self) -> Fixed<32> {
        sha256(&self.pkcs1)
    }

    fn verifies(&self, bank: Bank, message: &[u8], signature: &[u8]) -> bool {
        let algorithm = match bank {
            Bank::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            Bank::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
        };
        UnparsedPublicKey::new(algorithm, &self.pkcs1)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseKey({})", self.fingerprint())
    }
}

impl Serialize for ReleaseKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.pem)
    }
}

impl<'de> Deserialize<'de> for ReleaseKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::from_pem(&text).map_err(|why| de::Error::custom(format_args!("the release key cannot be used: {why}")))
    }
}

/// A signature file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcrSignatures(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    bank: Bank,
    pcrs: Vec<u8>,
    key: Fixed<32>,
    policy: Fixed<32>,
    signature: Vec<u8>,
}

// systemd may add fields; only the signature decides, so unknown ones are passed over.
#[derive(Deserialize)]
struct RawEntry {
    pcrs: Vec<u8>,
    pkfp: Fixed<32>,
    pol: Fixed<32>,
    sig: String,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    sha256: Vec<RawEntry>,
    #[serde(default)]
    sha384: Vec<RawEntry>,
}

impl PcrSignatures {
    /// Reads a signature file; banks that no node quotes here (SHA-1, SHA-512) are passed over.
    pub fn parse(json: &[u8]) -> Result<Self, PcrSignatureError> {
        if json.is_empty() {
            return Err(PcrSignatureError::Absent);
        }
        within("bytes", json.len(), limits::PCR_SIGNATURES)?;
        let file: RawFile = serde_json::from_slice(json).map_err(|e| PcrSignatureError::Malformed(e.to_string()))?;
        within(
            "entries",
            file.sha256.len() + file.sha384.len(),
            limits::PCR_SIGNATURE_ENTRIES,
        )?;
        let banks = [(Bank::Sha256, file.sha256), (Bank::Sha384, file.sha384)];
        let entries = banks
            .into_iter()
            .flat_map(|(bank, list)| list.into_iter().map(move |raw| entry(bank, raw)));
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// Demands a signature by `key` over `value` of `pcr` alone. Each reason is the most specific one that is true.
    pub fn verify(&self, key: &ReleaseKey, pcr: u8, value: &PcrValue) -> Result<(), PcrSignatureError> {
        let of_bank: Vec<_> = self.0.iter().filter(|e| e.bank == value.bank()).collect();
        if of_bank.is_empty() {
            return Err(PcrSignatureError::OtherBank(value.bank()));
        }
        let by_key: Vec<_> = of_bank.into_iter().filter(|e| e.key == key.fingerprint()).collect();
        if by_key.is_empty() {
            return Err(PcrSignatureError::OtherKey(key.fingerprint()));
        }
        let policy = policy_pcr(pcr, value);
        let for_value: Vec<_> = by_key
            .into_iter()
            .filter(|e| e.pcrs == [pcr] && e.policy == policy)
            .collect();
        if for_value.is_empty() {
            return Err(PcrSignatureError::OtherValue(*value));
        }
        if for_value.iter().any(|e| key.verifies(e.bank, &policy.0, &e.signature)) {
            Ok(())
        } else {
            Err(PcrSignatureError::Forged(*value))
        }
    }
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), PcrSignatureError> {
    if found > max {
        Err(PcrSignatureError::TooLarge { what, found, max })
    } else {
        Ok(())
    }
}

fn entry(bank: Bank, raw: RawEntry) -> Result<Entry, PcrSignatureError> {
    let malformed = |what: &str| PcrSignatureError::Malformed(what.to_owned());
    Ok(Entry {
        bank,
        pcrs: raw.pcrs,
        key: raw.pkfp,
        policy: raw.pol,
        signature: BASE64_STANDARD
            .decode(raw.sig)
            .map_err(|_| malformed("a signature is not base64"))?,
    })
}

/// The digest of a policy session after TPM2_PolicyPCR of one register: H(0 ‖ TPM_CC_PolicyPCR ‖ TPML_PCR_SELECTION ‖ H(value)).
fn policy_pcr(pcr: u8, value: &PcrValue) -> Fixed<32> {
    let mut selected = [0; SIZE_OF_SELECT as usize];
    selected[usize::from(pcr / 8)] = 1 << (pcr % 8);
    let mut message = vec![0; 32];
    message.extend_from_slice(&CC_POLICY_PCR.to_be_bytes());
    message.extend_from_slice(&1u32.to_be_bytes());
    message.extend_from_slice(&value.bank().tpm_alg().to_be_bytes());
    message.push(SIZE_OF_SELECT);
    message.extend_from_slice(&selected);
    message.extend_from_slice(&sha256(value.as_bytes()).0);
    sha256(&message)
}

#[cfg(test)]
mod tests;

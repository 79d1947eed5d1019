//! PCR 11 signed instead of listed (systemd-measure(1), `sign`): whoever makes images signs, with a release key, the TPM policy that
//! each of them satisfies (TPM 2.0 Part 3, TPM2_PolicyPCR), and carries the signatures in the image (.pcrsig). They reach the Verifier
//! through the node and need not be trusted: the key in our own signed policy decides. systemd's format has no counter, so the
//! counter is a line of the image's os-release, which the signed register covers.

/// The release key and its signatures.
pub mod signatures;

use serde::{Deserialize, Serialize};

use crate::eventlog::Event;
use crate::finding::Finding;
use crate::limits;
use crate::pcr::{Bank, PcrValue, Pcrs};

use self::signatures::{PcrSignatureError, PcrSignatures, ReleaseKey};

/// The register that is signed.
pub const PCR: u8 = 11;
/// The line of os-release that counts an image's releases.
pub const COUNTER: &str = "REMPART_IMAGE_COUNTER";
/// The section of a unified kernel image that holds its os-release.
const OS_RELEASE: &str = ".osrel";

/// `pcr11_signed`: whose images are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pcr11Signed {
    /// PEM of the release key's public half (RSA, 2048 to 8192 bits).
    pub key: ReleaseKey,
    /// The lowest counter in the image's os-release that is accepted. Without it every image that was ever signed counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<u64>,
    /// Values of PCR 11 that are not accepted any more although they are signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<PcrValue>,
}

/// Why a signed register is not accepted.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignedError {
    /// The quote lacks the register.
    #[error("PCR {PCR} is not among the quoted registers")]
    NotQuoted,
    /// No signature by the release key covers the value.
    #[error(transparent)]
    Signature(#[from] PcrSignatureError),
    /// The operator took this value back.
    #[error("its PCR {PCR} is signed, but the policy names it as revoked")]
    Revoked,
    /// The counter cannot be believed.
    #[error("the image's counter cannot be proven: {0}")]
    NoCounter(&'static str),
    /// An older release than is accepted.
    #[error("the image has counter {found}, at least {least} is accepted")]
    TooOld {
        /// What its os-release says.
        found: u64,
        /// What the policy demands.
        least: u64,
    },
}

impl SignedError {
    /// In words, for node `node` and the image that it was compared with.
    pub fn finding(&self, node: &str, image: &str) -> Finding {
        let (check, remedy) = match self {
            Self::NotQuoted | Self::Signature(_) => (
                "pcr11-signature",
                "boot an image that the release key signed, with its .pcrsig and .pcrpkey sections",
            ),
            Self::Revoked => ("pcr11-revoked", "boot a newer image"),
            Self::NoCounter(_) => (
                "image-counter",
                "build the image with REMPART_IMAGE_COUNTER in its os-release, and let the agent read /run/systemd/stub/os-release",
            ),
            Self::TooOld { .. } => ("image-counter", "boot a newer image"),
        };
        Finding::new(check, node, format!("image \"{image}\": {self}"), remedy).pcr(PCR)
    }
}

/// What a node says of its image.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// Its quoted registers.
    pub pcrs: &'a Pcrs,
    /// Its logs, whose replay equals the registers (a node whose logs do not is refused elsewhere).
    pub events: &'a [Event],
    /// The .pcrsig that it handed over.
    pub signatures: &'a [u8],
    /// The os-release that it handed over.
    pub os_release: &'a [u8],
}

impl Pcr11Signed {
    /// Every reason why the quoted PCR 11 is not accepted.
    pub fn failures(&self, claims: &Claims<'_>) -> Vec<SignedError> {
        let Some(value) = claims.pcrs.value(PCR) else {
            return vec![SignedError::NotQuoted];
        };
        [
            self.is_signed(claims, &value),
            self.is_not_revoked(&value),
            self.is_recent(claims),
        ]
        .into_iter()
        .filter_map(Result::err)
        .collect()
    }

    fn is_signed(&self, claims: &Claims<'_>, value: &PcrValue) -> Result<(), SignedError> {
        PcrSignatures::parse(claims.signatures)?.verify(&self.key, PCR, value)?;
        Ok(())
    }

    fn is_not_revoked(&self, value: &PcrValue) -> Result<(), SignedError> {
        if self.revoked.contains(value) {
            Err(SignedError::Revoked)
        } else {
            Ok(())
        }
    }

    fn is_recent(&self, claims: &Claims<'_>) -> Result<(), SignedError> {
        let Some(least) = self.counter else { return Ok(()) };
        let found = image_counter(claims).map_err(SignedError::NoCounter)?;
        if found < least {
            Err(SignedError::TooOld { found, least })
        } else {
            Ok(())
        }
    }
}

/// The counter in the os-release that was measured into PCR 11.
fn image_counter(claims: &Claims<'_>) -> Result<u64, &'static str> {
    if claims.os_release.is_empty() {
        return Err("the node did not hand over the image's os-release");
    }
    if claims.os_release.len() > limits::OS_RELEASE {
        return Err("its os-release is too large");
    }
    let bank = claims.pcrs.bank;
    let measured = section(bank, claims.events, OS_RELEASE).ok_or("no os-release was measured into PCR 11")?;
    if bank.hash(&[claims.os_release]) != measured {
        return Err("the os-release that the node handed over is not the measured one");
    }
    counter_line(claims.os_release).ok_or("its os-release has not exactly one line REMPART_IMAGE_COUNTER=NUMBER")
}

/// The digest of a section's content: systemd-stub measures pairs of a section's name and its content, and nothing before them.
fn section(bank: Bank, events: &[Event], name: &str) -> Option<PcrValue> {
    let digests: Vec<&PcrValue> = events.iter().filter(|e| e.pcr == PCR).map(|e| &e.digest).collect();
    let named = bank.hash(&[name.as_bytes(), &[0]]);
    digests
        .chunks_exact(2)
        .find(|pair| *pair[0] == named)
        .map(|pair| *pair[1])
}

/// os-release(5): `KEY=value`, the value perhaps in quotes. A key that stands twice is ambiguous.
fn counter_line(os_release: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(os_release).ok()?;
    let mut values = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(COUNTER)?.strip_prefix('='));
    let value = values.next()?;
    let unquoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let digits = unquoted.unwrap_or(value);
    let alone = values.next().is_none() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    alone.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;

//! Reference Values as a Concise Reference Integrity Manifest (draft-ietf-rats-corim), out and in. An image is one CoMID; each
//! combination of register values that it accepts is one reference triple with integrity registers, because a triple holds together
//! and a policy accepts no register of one combination beside another of a second. What this profile does not say is refused on the
//! way in; what a CoRIM cannot say is listed on the way out (`unsaid`).

mod cose;
mod export;
mod import;
/// CBOR taken apart with every entry accounted for.
mod strict;

use super::instant::Instant;
use super::{Policy, PolicyError};
use crate::limits;
use crate::pcr::Bank;

pub use self::cose::SigningKey;
pub use self::export::{export, unsaid};

/// The profile that this code writes and reads (`profile`, 3).
pub const PROFILE: &str = "tag:rempart.org,2026:corim/pcr#1";
/// Media type of a CoRIM in a COSE header.
const CONTENT_TYPE: &str = "application/rim+cbor";
/// `tagged-unsigned-corim-map`.
const TAG_CORIM: u64 = 501;
/// `tagged-concise-mid-tag`.
const TAG_COMID: u64 = 506;
/// URI (RFC 8949, 3.4.5.3).
const TAG_URI: u64 = 32;
/// Seconds since 1970 (RFC 8949, 3.4.2).
const TAG_TIME: u64 = 1;

/// Why a CoRIM is not written or not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CorimError {
    /// Over its maximum.
    #[error("the CoRIM has {found} {what}, {max} are allowed")]
    TooLarge {
        /// Bytes or records.
        what: &'static str,
        /// How many.
        found: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not CBOR, or something behind it.
    #[error("the CoRIM is not well-formed CBOR: {0}")]
    Cbor(String),
    /// Not what the draft or this profile puts there.
    #[error("the CoRIM's {place} is not {expected}")]
    Shape {
        /// Where.
        place: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// Something that is not understood.
    #[error(
        "the CoRIM's {place} has an entry {key} that is not understood: taking the rest without it could accept more than was meant"
    )]
    Unknown {
        /// Where.
        place: &'static str,
        /// Its key.
        key: String,
    },
    /// Another profile.
    #[error("the CoRIM has the profile \"{0}\", only \"{PROFILE}\" is understood")]
    Profile(String),
    /// Its time is over.
    #[error("the CoRIM's {what} was valid until {until}, and it is {now}")]
    Expired {
        /// The manifest or its signature.
        what: &'static str,
        /// Its end.
        until: Instant,
        /// The time given.
        now: Instant,
    },
    /// Its signature's time has not come.
    #[error("the CoRIM's signature is valid from {from}, and it is {now}")]
    Early {
        /// Its beginning.
        from: Instant,
        /// The time given.
        now: Instant,
    },
    /// A signed one without a key to verify it.
    #[error("the CoRIM is signed: name the public key that must have signed it")]
    NoKey,
    /// An unsigned one where a signature is demanded.
    #[error("the CoRIM is not signed, and a signature by the given key is demanded")]
    NotSigned,
    /// A signature that does not count.
    #[error("the CoRIM's signature does not count: {0}")]
    Signature(&'static str),
    /// A register that no policy judges, or one with another bank's value.
    #[error("image \"{image}\" of the CoRIM has a value for register {register} that no policy can hold")]
    Register {
        /// The image.
        image: String,
        /// The register's index.
        register: u64,
    },
    /// Alternatives that are not all combinations of the registers' values.
    #[error(
        "image \"{0}\" of the CoRIM has alternatives that a policy cannot say: a policy accepts every combination of the values that it \
         lists, and not all of them are in the CoRIM"
    )]
    NotEveryCombination(String),
    /// An image that a CoRIM of this profile cannot say.
    #[error("image \"{0}\" has PCR 11 signed instead of listed: a CoRIM of this profile has values only")]
    SignedRegister(String),
    /// Two counters.
    #[error("the CoRIM's tags have different versions: a policy has one counter")]
    Versions,
    /// What it says is no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Reads a CoRIM into a policy. With a key it must be signed by it, without one it must be unsigned: nobody shall believe that a
/// signature was verified that was not. Expired ones are refused; what is valid later becomes the images' windows.
pub fn import(bytes: &[u8], key: Option<&SigningKey>, now: Instant) -> Result<Policy, CorimError> {
    if bytes.len() > limits::CORIM {
        return Err(CorimError::TooLarge {
            what: "bytes",
            found: bytes.len(),
            max: limits::CORIM,
        });
    }
    let unsigned = match (cose::is_signed(bytes), key) {
        (true, Some(key)) => cose::verified_payload(bytes, key, now)?,
        (false, None) => bytes.to_vec(),
        (true, None) => return Err(CorimError::NoKey),
        (false, Some(_)) => return Err(CorimError::NotSigned),
    };
    let policy = import::policy(&unsigned, now)?;
    policy.judge()?;
    Ok(policy)
}

/// Named Information Hash Algorithm Registry.
fn algorithm(bank: Bank) -> i64 {
    match bank {
        Bank::Sha256 => 1,
        Bank::Sha384 => 7,
    }
}

#[cfg(test)]
mod tests;

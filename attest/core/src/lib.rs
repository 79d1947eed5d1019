//! Remote attestation in the words of RFC 9334: what an Attester sends (Evidence), how a Verifier verifies it (signatures, chain,
//! freshness, binding) and appraises it (claims against Reference Values), and what it answers (the Attestation Result).
//!
//! Logic only: bytes and a time go in, values and findings come out. It must never open a file, a socket or a device, and never read a clock.
#![forbid(unsafe_code)]

/// The Verifier's certificate for an attestation key.
pub mod ak;
/// The HTTP messages between node and Verifier, their paths and limits.
pub mod api;
/// Claims against Reference Values.
pub mod appraise;
/// What both roots of trust sign: one digest over key, challenge, channel and boot.
pub mod binding;
/// Byte strings with a form for people (JSON) and one for machines (CBOR).
pub mod bytes;
/// X.509 checks that both kinds of certificate share.
pub mod certificate;
/// The Verifier's challenge: a token with a MAC, so that no session is kept.
pub mod challenge;
/// The names of all checks.
pub mod checks;
/// The Attestation Result.
pub mod ear;
/// A manufacturer's certificate for an endorsement key.
pub mod ek;
/// Firmware's and systemd's measurement logs.
pub mod eventlog;
/// The envelope in which a node sends its claims.
pub mod evidence;
/// One failed check, explained.
pub mod finding;
/// Sealing a result to the key that the Evidence commits to (RFC 9180).
pub mod hpke;
/// Named maxima for everything that arrives from outside.
pub mod limits;
/// Platform Configuration Registers: which are quoted, which are judged.
pub mod pcr;
/// Reference Values: format, signature, prediction.
pub mod policy;
/// The bundle in which the Verifier's own store delivers.
pub mod secrets;
/// Trusted execution environments: SEV-SNP, TDX.
pub mod tee;
/// TPM 2.0 structures, in software.
pub mod tpm;
/// Signatures, chain, freshness, binding.
pub mod verify;

pub use binding::Binding;
pub use bytes::{Blob, Fixed};
pub use challenge::ChallengeToken;
pub use evidence::{Evidence, GuardClaim, KeyCertification, TeeEvidence, TpmEvidence};
pub use finding::Finding;
pub use pcr::{Bank, Digest, Pcrs};
pub use policy::Policy;
pub use tee::{TeeKind, TeeProvider};

/// Nodes in software, for tests.
#[cfg(any(test, feature = "testing"))]
pub mod testing;

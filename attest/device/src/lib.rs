//! What this machine can say about itself: its TPM by ESAPI, its TEE by the kernel's interfaces, and the measurement logs of
//! firmware, systemd and IMA.
//!
//! Bytes in and bytes out, as marshalled TPM structures; no verdict is formed here and nothing is sent.
//! Follows TPM 2.0 Library Part 3, the TCG EK Credential Profile 2.5 and Linux's Documentation/ABI/testing/configfs-tsm-report.

#![forbid(unsafe_code)]

/// Credential activation.
mod activate;
/// Attestation key: its fixed templates, or a persistent key.
mod ak;
/// The TPM's clock and counters.
mod clock;
/// What kind of TPM this is.
mod describe;
/// Endorsement keys and their certificates.
mod ek;
/// Measurement logs.
pub mod logs;
/// NV indices.
mod nv;
/// Keys for as long as a call needs them.
mod object;
/// What an operator may choose.
mod options;
/// Quotes over the pinned PCRs.
mod quote;
/// Keys that the TPM keeps for one state of the machine.
mod seal;
/// The questions and answers of rempart-evidence.
pub mod service;
/// systemd's own signed report.
pub mod systemd;
/// Reports of trusted execution environments, by each way there is to them.
pub mod tee;
/// The TLS key.
mod tls;
/// One open TPM.
mod tpm;

pub use clock::ClockInfo;
pub use describe::Description;
pub use ek::EndorsementKey;
pub use options::{AkKind, AkSource, EkChoice, EkKind, OptionError, PersistentHandle, TpmOptions};
pub use quote::Quoted;
pub use seal::{Bound, SealError, SealedKey, unseal_key};
pub use tls::TlsKey;
pub use tpm::{Tpm, TpmError};

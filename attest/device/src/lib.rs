//! What this machine can say about itself: its TPM by ESAPI, and the measurement logs of firmware and systemd.
//!
//! Bytes in and bytes out, as marshalled TPM structures; no verdict is formed here and nothing is sent.
//! Follows TPM 2.0 Library Part 3 and the TCG EK Credential Profile 2.5.

#![forbid(unsafe_code)]

/// Attestation key: its fixed template.
mod ak;
/// Endorsement key, its certificate, and credential activation.
mod ek;
/// Measurement logs, and the message that carries them from rempart-evidence.
pub mod logs;
/// Quotes over the pinned PCRs.
mod quote;
/// One open TPM.
mod tpm;

pub use ek::EndorsementKey;
pub use quote::{QUOTED_PCRS, Quoted};
pub use tpm::{Tpm, TpmError};

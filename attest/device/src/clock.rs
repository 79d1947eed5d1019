//! The TPM's clock and its counters of resets and restarts, by TPM2_GetTime (Part 3, 18.7).
//!
//! Must never stand for proof: it is a reading for people, the proof is in each quote.

use tss_esapi::{
    interface_types::session_handles::AuthSession,
    structures::{AttestInfo, Data, SignatureScheme},
};

use crate::{
    ak,
    tpm::{Tpm, TpmError},
};

/// TPMS_CLOCK_INFO (Part 2, 10.11.1) and the firmware's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds in which the TPM had power, since it was made or cleared.
    pub clock: u64,
    /// TPM Resets: boots.
    pub reset_count: u32,
    /// TPM Restarts and Resumes since the last Reset.
    pub restart_count: u32,
    /// No greater `clock` was ever reported.
    pub safe: bool,
    /// Vendor's own numbering.
    pub firmware_version: u64,
}

impl Tpm {
    /// Reads the clock. The attestation key signs the answer: for it alone the TPM shows true counters (Part 1, 36.7).
    pub fn clock_info(&mut self) -> Result<ClockInfo, TpmError> {
        ak::with_ak(&mut self.context, self.options.ak, |context, ak, _| {
            let sessions = (Some(AuthSession::Password), Some(AuthSession::Password), None);
            let (attest, _) = context
                .execute_with_sessions(sessions, |context| {
                    context.get_time(ak, Data::default(), SignatureScheme::Null)
                })
                .map_err(TpmError::refused("tell its time"))?;
            let AttestInfo::Time { info } = attest.attested() else {
                return Err(TpmError::Malformed { what: "its time" });
            };
            let clock = attest.clock_info();
            Ok(ClockInfo {
                clock: clock.clock(),
                reset_count: clock.reset_count(),
                restart_count: clock.restart_count(),
                safe: clock.safe(),
                firmware_version: info.firmware_version(),
            })
        })
    }
}

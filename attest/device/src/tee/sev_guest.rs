//! /dev/sev-guest, for kernels before 6.7 or without configfs: the same report and certificate table as configfs-tsm gives.
//!
//! Must never be asked where configfs-tsm answered: two ways to one processor only cost its rate limit.

use std::path::PathBuf;

use rempart_attest::{Blob, TeeEvidence, TeeKind, TeeProvider};

use super::{ReportRequest, ReportSource, TeeError};

/// The device.
pub const DEVICE: &str = "/dev/sev-guest";

/// The way by the device.
#[derive(Debug)]
pub struct SevGuest {
    device: PathBuf,
}

impl Default for SevGuest {
    fn default() -> Self {
        Self { device: DEVICE.into() }
    }
}

impl ReportSource for SevGuest {
    fn provider(&self) -> TeeProvider {
        TeeProvider::SevGuest
    }

    fn report(&mut self, request: &ReportRequest) -> Result<TeeEvidence, TeeError> {
        if !self.device.exists() {
            return Err(TeeError::NoInterface {
                provider: TeeProvider::SevGuest,
                path: self.device.clone(),
            });
        }
        // The device does not tell which levels this guest may ask for; without an SVSM it runs at 0.
        let vmpl = request.vmpl.unwrap_or(0);
        let found = rempart_sev_guest::extended_report(&self.device, &request.report_data.0, vmpl)?;
        Ok(TeeEvidence {
            kind: TeeKind::SevSnp,
            provider: TeeProvider::SevGuest,
            report: Blob(found.report),
            certificates: Blob(found.certificates),
            runtime_data: Blob::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rempart_attest::Fixed;

    use super::*;

    #[test]
    fn a_missing_device_is_absence_and_one_that_refuses_is_not() {
        let request = ReportRequest {
            report_data: Fixed([7; 64]),
            vmpl: None,
        };
        let ask = |device: &str| {
            SevGuest { device: device.into() }
                .report(&request)
                .expect_err("no device")
        };
        assert!(ask("/nonexistent/sev-guest").is_absent());
        assert!(matches!(ask("/dev/null"), TeeError::Guest(_)));
        assert!(!ask("/dev/null").is_absent());
    }
}

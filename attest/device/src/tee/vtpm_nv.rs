//! The report that a paravisor keeps in NV of the virtual TPM (Azure: index 0x01400001). It makes a new one when the guest writes
//! user data to 0x01400002; the report then commits to a JSON text that holds this user data and the virtual TPM's AK.
//!
//! Needs the TPM and no root. Must never be taken for fresh by itself: whether the user data is there is for the Verifier to judge.

use std::{thread, time::Duration};

use rempart_attest::{
    Blob, Fixed, TeeEvidence, TeeKind, TeeProvider,
    tee::vtpm::{self, VtpmError},
};

use super::TeeError;
use crate::{nv, tpm::Tpm};

/// Where the paravisor leaves header, report and runtime data.
const REPORT: u32 = 0x0140_0001;
/// Where it takes user data from.
const USER_DATA: u32 = 0x0140_0002;
/// Longest content, bytes: header, report and a JSON text of some 1,200 bytes; seen are 2,600.
const MAX: usize = 16 * 1024;
/// How often and how far apart the report is read until it has our user data.
const READS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);

impl Tpm {
    /// The paravisor's report, with `report_data` as user data where the paravisor takes it.
    pub fn tee_report_from_nv(&mut self, report_data: &Fixed<64>) -> Result<TeeEvidence, TeeError> {
        let mut content = self.paravisor_report()?;
        // A paravisor that takes no user data still has its report of the boot; the Verifier sees which of the two it got.
        let taken = nv::write(
            &mut self.context,
            USER_DATA,
            &report_data.0,
            "take user data for the paravisor",
        )
        .is_ok();
        for _ in 0..READS {
            if !taken || has_user_data(&content, report_data) {
                break;
            }
            thread::sleep(PAUSE);
            content = self.paravisor_report()?;
        }
        evidence(&content)
    }

    fn paravisor_report(&mut self) -> Result<Vec<u8>, TeeError> {
        let what = "the paravisor's report in NV";
        nv::read(&mut self.context, REPORT, nv::Reader::Owner, MAX, what)?.ok_or(TeeError::NoReportIndex)
    }
}

/// In the JSON, as hex digits; in which case is not specified.
fn has_user_data(content: &[u8], report_data: &Fixed<64>) -> bool {
    let wanted = report_data.to_string().into_bytes();
    content
        .windows(wanted.len())
        .any(|window| window.eq_ignore_ascii_case(&wanted))
}

fn evidence(content: &[u8]) -> Result<TeeEvidence, TeeError> {
    let (report, runtime_data) = vtpm::split(content).map_err(|error| match error {
        VtpmError::Kind(_) => TeeError::NoRemoteReport(error),
        other => TeeError::Paravisor(other),
    })?;
    Ok(TeeEvidence {
        kind: TeeKind::SevSnp,
        provider: TeeProvider::VtpmNv,
        report: Blob(report.to_vec()),
        certificates: Blob::default(),
        runtime_data: Blob(runtime_data.to_vec()),
    })
}

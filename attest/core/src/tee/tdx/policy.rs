//! `[image.tdx]`: what a policy demands of a TDX machine. What is not written has its safe default; debugging and every other
//! attribute of an untrusted TD are refused whatever is written.

use serde::{Deserialize, Serialize};

use super::tcb::TcbStatus;
use crate::bytes::Fixed;

/// The section. Registers are hex, 48 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Accepted MRTD: the TD's memory at launch, that is its firmware. At least one.
    pub mrtd: Vec<Fixed<48>>,
    /// Accepted RTMR 0 (firmware's configuration); empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rtmr0: Vec<Fixed<48>>,
    /// Accepted RTMR 1 (boot loader, kernel); empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rtmr1: Vec<Fixed<48>>,
    /// Accepted RTMR 2 (command line, initrd); empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rtmr2: Vec<Fixed<48>>,
    /// Accepted RTMR 3 (the system's own); empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rtmr3: Vec<Fixed<48>>,
    /// Accepted MRCONFIGID; empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mrconfigid: Vec<Fixed<48>>,
    /// Accepted MROWNER; empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mrowner: Vec<Fixed<48>>,
    /// Accepted MROWNERCONFIG; empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mrownerconfig: Vec<Fixed<48>>,
    /// Accepted measurements of the TDX module; empty: any that its signer signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mrseam: Vec<Fixed<48>>,
    /// Accepted signers of the TDX module. Default: zeros, which is Intel.
    #[serde(default = "intel")]
    pub mrsignerseam: Vec<Fixed<48>>,
    /// Extended features (XFAM bits) that the TD may have; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xfam_allowed: Option<u64>,
    /// Lowest TEE_TCB_SVN (hex, 16 bytes), byte by byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tee_tcb_svn: Option<Fixed<16>>,
    /// Accepts TDs whose page faults on private memory reach the guest as exceptions. Default: no.
    #[serde(default)]
    pub allow_sept_ve: bool,
    /// Accepts TDs that a service TD can migrate. Default: no.
    #[serde(default)]
    pub allow_migratable: bool,
    /// Accepts TDs that may use performance monitoring. Default: no.
    #[serde(default)]
    pub allow_perfmon: bool,
    /// Accepted ages of the platform, in Intel's words. Default: `UpToDate`.
    #[serde(default = "up_to_date")]
    pub tcb_status: Vec<TcbStatus>,
    /// Accepts platforms on whose age the Verifier has no statement of Intel. Default: no.
    #[serde(default)]
    pub allow_unchecked_tcb: bool,
    /// Accepts a chain that nobody held against revocation lists. Default: no.
    #[serde(default)]
    pub allow_unchecked_revocation: bool,
    /// Accepts quotes under a root of the Verifier's own, and from files: for tests. Default: no.
    #[serde(default)]
    pub accept_file_provider: bool,
}

fn intel() -> Vec<Fixed<48>> {
    vec![Fixed::ZERO]
}

fn up_to_date() -> Vec<TcbStatus> {
    vec![TcbStatus::UpToDate]
}

impl Policy {
    /// A section with nothing but what must be written.
    pub fn new(mrtd: Vec<Fixed<48>>) -> Self {
        Self {
            mrtd,
            rtmr0: vec![],
            rtmr1: vec![],
            rtmr2: vec![],
            rtmr3: vec![],
            mrconfigid: vec![],
            mrowner: vec![],
            mrownerconfig: vec![],
            mrseam: vec![],
            mrsignerseam: intel(),
            xfam_allowed: None,
            min_tee_tcb_svn: None,
            allow_sept_ve: false,
            allow_migratable: false,
            allow_perfmon: false,
            tcb_status: up_to_date(),
            allow_unchecked_tcb: false,
            allow_unchecked_revocation: false,
            accept_file_provider: false,
        }
    }

    /// Refuses what would accept everything or nothing.
    pub fn judge(&self) -> Result<(), String> {
        if self.mrtd.is_empty() {
            return Err("tdx.mrtd names no measurement, so any TD would do".into());
        }
        if self.mrsignerseam.is_empty() {
            return Err("tdx.mrsignerseam names no signer, so no TDX module would do".into());
        }
        if self.tcb_status.contains(&TcbStatus::Revoked) {
            return Err("tdx.tcb_status accepts Revoked platforms, whose keys are lost".into());
        }
        if self.tcb_status.is_empty() && !self.allow_unchecked_tcb {
            return Err("tdx.tcb_status accepts no age, so no platform would do".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_has_its_safe_default() {
        let text = format!("mrtd = [\"{}\"]\n", "ab".repeat(48));
        let policy: Policy = toml::from_str(&text).expect("section");
        assert_eq!(policy, Policy::new(policy.mrtd.clone()));
        assert_eq!(policy.judge(), Ok(()));
        assert!(toml::from_str::<Policy>(&(text + "debug = true\n")).is_err());
    }

    #[test]
    fn a_section_that_accepts_everything_or_nothing_is_refused() {
        let edits: [fn(&mut Policy); 4] = [
            |p| p.mrtd.clear(),
            |p| p.mrsignerseam.clear(),
            |p| p.tcb_status.clear(),
            |p| p.tcb_status.push(TcbStatus::Revoked),
        ];
        for edit in edits {
            let mut policy = Policy::new(vec![Fixed::ZERO]);
            edit(&mut policy);
            assert!(policy.judge().is_err(), "{policy:?}");
        }
    }
}

//! ATTESTATION_REPORT (AMD 56860, SEV Secure Nested Paging Firmware ABI, table 23), versions 2, 3 and 5.
//! Fixed size, fixed offsets; nothing is allocated. What no signature covers must be zero, so that one report has one form.

use aws_lc_rs::signature::ParsedPublicKey;

use super::bits::{Abi, Firmware, GuestPolicy, KeyInfo, PlatformInfo, guest};
use super::tcb::Tcb;
use crate::bytes::Fixed;

/// Bytes of a report.
pub const LEN: usize = 0x4a0;
/// Bytes that the signature covers.
const SIGNED: usize = 0x2a0;
/// Bytes of R and of S in the report, little endian (table 139).
const SCALAR: usize = 72;
/// ECDSA P-384 with SHA-384, the only SIGNATURE_ALGO.
const ALGORITHM: u32 = 1;
/// REPORT_ID_MA of a guest without a migration agent.
const NO_AGENT: Fixed<32> = Fixed([0xff; 32]);

/// A report as read; nothing in it is believed before its signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// 0x000.
    pub version: u32,
    /// 0x004: of the ID block.
    pub guest_svn: u32,
    /// 0x008.
    pub policy: GuestPolicy,
    /// 0x010: of the ID block.
    pub family_id: Fixed<16>,
    /// 0x020: of the ID block.
    pub image_id: Fixed<16>,
    /// 0x030: privilege level that asked, 0 to 3.
    pub vmpl: u8,
    /// 0x038: what runs now.
    pub current_tcb: Tcb,
    /// 0x040.
    pub platform: PlatformInfo,
    /// 0x048.
    pub keys: KeyInfo,
    /// 0x050: what the guest wanted to have signed.
    pub report_data: Fixed<64>,
    /// 0x090: the guest's memory at launch.
    pub measurement: Fixed<48>,
    /// 0x0c0: what the host wanted to have signed.
    pub host_data: Fixed<32>,
    /// 0x0e0: SHA-384 of the key that signed the ID block.
    pub id_key: Fixed<48>,
    /// 0x110: SHA-384 of the key that certified that key.
    pub author_key: Fixed<48>,
    /// 0x160: the migration agent's report id, if there is one.
    pub migration_agent: Option<Fixed<32>>,
    /// 0x180: what the signing key was derived from.
    pub reported_tcb: Tcb,
    /// 0x188, since version 3: family, model, stepping.
    pub cpuid: Option<[u8; 3]>,
    /// 0x1a0: zeros where the host hides it.
    pub chip_id: Fixed<64>,
    /// 0x1e0: what the platform can no more go back behind.
    pub committed_tcb: Tcb,
    /// 0x1e8.
    pub current_firmware: Firmware,
    /// 0x1ec.
    pub committed_firmware: Firmware,
    /// 0x1f0: what ran when the guest was launched.
    pub launch_tcb: Tcb,
    /// 0x1f8 and 0x200, since version 5: mitigations verified at launch and now.
    pub mitigations: Option<(u64, u64)>,
    signed: [u8; SIGNED],
    signature: [u8; 96],
}

/// Why bytes are no report. The node is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReportError {
    /// Not exactly as long as a report.
    #[error("the SNP report has {0} bytes, not {LEN}")]
    Length(usize),
    /// A version that is not known.
    #[error("the SNP report has version {0}; 2, 3 and 5 are known")]
    Version(u32),
    /// Another algorithm.
    #[error("the SNP report's signature algorithm is {0}, not ECDSA P-384 with SHA-384 (1)")]
    Algorithm(u32),
    /// A privilege level that no guest has: the host's own reports carry 0xffffffff.
    #[error("the SNP report was asked for by no guest privilege level ({0:#x})")]
    Vmpl(u32),
    /// A guest policy that this version of the ABI does not define.
    #[error("the SNP report's guest policy {0:#x} has reserved bits")]
    Policy(u64),
    /// The signature is not a pair of P-384 scalars followed by zeros.
    #[error("the SNP report's signature is not well formed")]
    Signature,
}

impl Report {
    /// Reads a report that fills the buffer.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        let bytes: &[u8; LEN] = bytes.try_into().map_err(|_| ReportError::Length(bytes.len()))?;
        let version = u32_at(bytes, 0x000);
        if ![2, 3, 5].contains(&version) {
            return Err(ReportError::Version(version));
        }
        let policy = GuestPolicy(u64_at(bytes, 0x008));
        if !policy.has(guest::MUST_BE_ONE) || policy.0 & !guest::KNOWN != 0 {
            return Err(ReportError::Policy(policy.0));
        }
        let algorithm = u32_at(bytes, 0x034);
        if algorithm != ALGORITHM {
            return Err(ReportError::Algorithm(algorithm));
        }
        let vmpl = u32_at(bytes, 0x030);
        let agent = Fixed(at(bytes, 0x160));
        Ok(Self {
            version,
            guest_svn: u32_at(bytes, 0x004),
            policy,
            family_id: Fixed(at(bytes, 0x010)),
            image_id: Fixed(at(bytes, 0x020)),
            vmpl: u8::try_from(vmpl)
                .ok()
                .filter(|v| *v <= 3)
                .ok_or(ReportError::Vmpl(vmpl))?,
            current_tcb: Tcb(at(bytes, 0x038)),
            platform: PlatformInfo(u64_at(bytes, 0x040)),
            keys: KeyInfo(u32_at(bytes, 0x048)),
            report_data: Fixed(at(bytes, 0x050)),
            measurement: Fixed(at(bytes, 0x090)),
            host_data: Fixed(at(bytes, 0x0c0)),
            id_key: Fixed(at(bytes, 0x0e0)),
            author_key: Fixed(at(bytes, 0x110)),
            migration_agent: (agent != NO_AGENT).then_some(agent),
            reported_tcb: Tcb(at(bytes, 0x180)),
            cpuid: (version >= 3).then(|| at(bytes, 0x188)),
            chip_id: Fixed(at(bytes, 0x1a0)),
            committed_tcb: Tcb(at(bytes, 0x1e0)),
            current_firmware: firmware_at(bytes, 0x1e8),
            committed_firmware: firmware_at(bytes, 0x1ec),
            launch_tcb: Tcb(at(bytes, 0x1f0)),
            mitigations: (version >= 5).then(|| (u64_at(bytes, 0x1f8), u64_at(bytes, 0x200))),
            signed: at(bytes, 0),
            signature: signature(&bytes[SIGNED..]).ok_or(ReportError::Signature)?,
        })
    }

    /// Whether `key` signed it.
    pub fn is_signed_by(&self, key: &ParsedPublicKey) -> bool {
        key.verify_sig(&self.signed, &self.signature).is_ok()
    }
}

/// R and S as fixed big-endian scalars; what lies behind them must be zero.
fn signature(bytes: &[u8]) -> Option<[u8; 96]> {
    let (r, rest) = bytes.split_at_checked(SCALAR)?;
    let (s, padding) = rest.split_at_checked(SCALAR)?;
    let mut out = [0; 96];
    for (scalar, out) in [r, s].into_iter().zip(out.chunks_exact_mut(48)) {
        let (value, high) = scalar.split_at(48);
        if high.iter().any(|b| *b != 0) {
            return None;
        }
        out.copy_from_slice(value);
        out.reverse();
    }
    padding.iter().all(|b| *b == 0).then_some(out)
}

fn at<const N: usize>(bytes: &[u8; LEN], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("the slice has N bytes")
}

fn u32_at(bytes: &[u8; LEN], offset: usize) -> u32 {
    u32::from_le_bytes(at(bytes, offset))
}

fn u64_at(bytes: &[u8; LEN], offset: usize) -> u64 {
    u64::from_le_bytes(at(bytes, offset))
}

/// Build, minor, major.
fn firmware_at(bytes: &[u8; LEN], offset: usize) -> Firmware {
    let [build, minor, major] = at(bytes, offset);
    Firmware {
        abi: Abi { major, minor },
        build,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tee::testing::snp::{Draft, REPORT_DATA};

    fn draft() -> Vec<u8> {
        Draft::default().unsigned()
    }

    #[test]
    fn each_field_is_read_from_its_place() {
        let report = Report::parse(&draft()).expect("report");
        assert_eq!(report.version, 3);
        assert_eq!(report.report_data, REPORT_DATA);
        assert_eq!(report.vmpl, 0);
        assert_eq!(report.cpuid, Some([0x19, 0x01, 0x01]));
        assert_eq!(report.migration_agent, None);
        assert_eq!(report.mitigations, None);
    }

    #[test]
    fn a_short_or_long_report_is_refused() {
        for len in [0, 1, SIGNED, LEN - 1, LEN + 1, 2 * LEN] {
            assert_eq!(Report::parse(&vec![2; len]), Err(ReportError::Length(len)));
        }
    }

    #[test]
    fn versions_that_nobody_defined_are_refused() {
        for version in [0u32, 1, 4, 6, u32::MAX] {
            let mut bytes = draft();
            bytes[..4].copy_from_slice(&version.to_le_bytes());
            assert_eq!(Report::parse(&bytes), Err(ReportError::Version(version)));
        }
    }

    #[test]
    fn reserved_policy_bits_another_algorithm_and_a_hosts_report_are_refused() {
        let mut bytes = draft();
        bytes[0x0a] &= !2;
        assert!(matches!(Report::parse(&bytes), Err(ReportError::Policy(_))), "bit 17");
        let mut bytes = draft();
        bytes[0x0b] |= 4;
        assert!(matches!(Report::parse(&bytes), Err(ReportError::Policy(_))), "bit 26");
        let mut bytes = draft();
        bytes[0x34] = 2;
        assert_eq!(Report::parse(&bytes), Err(ReportError::Algorithm(2)));
        let mut bytes = draft();
        bytes[0x30..0x34].fill(0xff);
        assert_eq!(Report::parse(&bytes), Err(ReportError::Vmpl(u32::MAX)));
    }

    #[test]
    fn bytes_behind_the_scalars_must_be_zero() {
        for place in [SIGNED + 48, SIGNED + SCALAR + 48, SIGNED + 2 * SCALAR, LEN - 1] {
            let mut bytes = draft();
            bytes[place] = 1;
            assert_eq!(Report::parse(&bytes), Err(ReportError::Signature), "{place:#x}");
        }
    }
}

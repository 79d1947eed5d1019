//! TPMS_ATTEST (Part 2, 10.12.8): what every attestation begins with. The magic proves that the TPM made the structure itself, because
//! a restricted key signs nothing else that begins so; the type tells a quote from a certification, and each reader demands its own.

use super::wire::{Reader, WireError, demand};

const TPM_GENERATED_VALUE: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_NV.
pub(crate) const NV: u16 = 0x8014;
/// TPM_ST_ATTEST_SESSION_AUDIT.
pub(crate) const SESSION_AUDIT: u16 = 0x8016;
/// TPM_ST_ATTEST_CERTIFY.
pub(crate) const CERTIFY: u16 = 0x8017;
/// TPM_ST_ATTEST_QUOTE.
pub(crate) const QUOTE: u16 = 0x8018;

/// TPMS_CLOCK_INFO (Part 2, 10.11.1) and the firmware version behind it. For a key outside of the endorsement and platform
/// hierarchies the TPM adds a constant of that key to counters and version (Part 1, 36.7): then they can only be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds of TPM time.
    pub clock: u64,
    /// TPM Resets so far (reboots).
    pub reset_count: u32,
    /// TPM Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// No value of `clock` greater than this one was ever reported.
    pub safe: bool,
    /// The vendor's firmware version.
    pub firmware_version: u64,
}

/// The common part; `rest` is what the type says.
pub(crate) struct Attest<'a> {
    pub extra_data: &'a [u8],
    pub clock: ClockInfo,
    pub rest: Reader<'a>,
}

impl<'a> Attest<'a> {
    /// Reads the common part and demands magic and type.
    pub(crate) fn parse(bytes: &'a [u8], kind: u16) -> Result<Self, WireError> {
        let mut from = Reader::new(bytes);
        demand("magic", from.u32("magic")?, TPM_GENERATED_VALUE)?;
        demand("type", from.u16("type")?, kind)?;
        from.sized("qualifiedSigner")?;
        let extra_data = from.sized("extraData")?;
        let clock = from.u64("clock")?;
        let reset_count = from.u32("resetCount")?;
        let restart_count = from.u32("restartCount")?;
        let safe = match from.u8("safe")? {
            0 => false,
            1 => true,
            found => {
                return Err(WireError::Value {
                    what: "safe",
                    expected: 1,
                    found: found.into(),
                });
            }
        };
        let firmware_version = from.u64("firmwareVersion")?;
        Ok(Self {
            extra_data,
            clock: ClockInfo {
                clock,
                reset_count,
                restart_count,
                safe,
                firmware_version,
            },
            rest: from,
        })
    }
}

/// An attestation's bytes, as a TPM in software for tests makes them.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug)]
pub struct Build<'a> {
    /// TPM_GENERATED_VALUE.
    pub magic: u32,
    /// TPM_ST.
    pub kind: u16,
    /// qualifyingData.
    pub extra_data: &'a [u8],
    /// Clock and counters.
    pub clock: ClockInfo,
    /// What the type says.
    pub attested: &'a [u8],
}

#[cfg(any(test, feature = "testing"))]
impl Build<'_> {
    /// TPMS_ATTEST.
    pub fn bytes(&self) -> Vec<u8> {
        use super::wire::put_sized;
        let mut out = self.magic.to_be_bytes().to_vec();
        out.extend_from_slice(&self.kind.to_be_bytes());
        put_sized(&mut out, &[0; 34]);
        put_sized(&mut out, self.extra_data);
        out.extend_from_slice(&self.clock.clock.to_be_bytes());
        out.extend_from_slice(&self.clock.reset_count.to_be_bytes());
        out.extend_from_slice(&self.clock.restart_count.to_be_bytes());
        out.push(u8::from(self.clock.safe));
        out.extend_from_slice(&self.clock.firmware_version.to_be_bytes());
        out.extend_from_slice(self.attested);
        out
    }
}

/// A magic that a TPM writes, for tests.
#[cfg(any(test, feature = "testing"))]
pub const GENERATED: u32 = TPM_GENERATED_VALUE;

//! A report before it is signed.

use super::{Chip, LEVELS, MEASUREMENT, REPORT_DATA};
use crate::bytes::Fixed;
use crate::tee::snp::bits::{SigningKey, guest, platform};
use crate::tee::snp::{Generation, LEN, Tcb};

/// A report before it is signed.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of `Report`")]
pub struct Draft {
    pub version: u32,
    pub guest_svn: u32,
    pub policy: u64,
    pub family_id: Fixed<16>,
    pub image_id: Fixed<16>,
    pub vmpl: u32,
    pub current_tcb: Tcb,
    pub platform: u64,
    pub keys: u32,
    pub report_data: Fixed<64>,
    pub measurement: Fixed<48>,
    pub host_data: Fixed<32>,
    pub id_key: Fixed<48>,
    pub author_key: Fixed<48>,
    pub report_id_ma: Fixed<32>,
    pub reported_tcb: Tcb,
    pub cpuid: [u8; 3],
    pub chip_id: Fixed<64>,
    pub committed_tcb: Tcb,
    /// Build, minor, major.
    pub current_firmware: [u8; 3],
    pub committed_firmware: [u8; 3],
    pub launch_tcb: Tcb,
    pub mitigations: (u64, u64),
}

impl Default for Draft {
    fn default() -> Self {
        let tcb = Tcb::from_levels(LEVELS, Generation::Milan);
        Self {
            version: 3,
            guest_svn: 5,
            policy: guest::MUST_BE_ONE | guest::SMT | 55 | (1 << 8),
            family_id: Fixed([0xfa; 16]),
            image_id: Fixed([0x1a; 16]),
            vmpl: 0,
            current_tcb: tcb,
            platform: platform::SMT | platform::ECC | platform::ALIAS_CHECK,
            keys: 0,
            report_data: REPORT_DATA,
            measurement: MEASUREMENT,
            host_data: Fixed([0x40; 32]),
            id_key: Fixed([0x1d; 48]),
            author_key: Fixed([0xa4; 48]),
            report_id_ma: Fixed([0xff; 32]),
            reported_tcb: tcb,
            cpuid: [0x19, 0x01, 0x01],
            chip_id: Fixed([0xc1; 64]),
            committed_tcb: tcb,
            current_firmware: [3, 55, 1],
            committed_firmware: [3, 55, 1],
            launch_tcb: tcb,
            mitigations: (0, 0),
        }
    }
}

impl Draft {
    /// One of a chip that says nothing wrong.
    pub fn of(chip: &Chip) -> Self {
        let generation = chip.pki.generation;
        let tcb = Tcb::from_levels(chip.claims.levels, generation);
        Self {
            keys: match chip.claims.kind {
                SigningKey::Vcek => 0,
                SigningKey::Vlek => 1 << 2,
            },
            cpuid: match generation {
                Generation::Milan => [0x19, 0x01, 0x01],
                Generation::Genoa => [0x19, 0x11, 0x01],
                Generation::Turin => [0x1a, 0x02, 0x01],
            },
            chip_id: chip.chip_id,
            current_tcb: tcb,
            reported_tcb: tcb,
            committed_tcb: tcb,
            launch_tcb: tcb,
            ..Self::default()
        }
    }

    /// The bytes, with zeros for a signature.
    pub fn unsigned(&self) -> Vec<u8> {
        let mut out = vec![0; LEN];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x000, &self.version.to_le_bytes());
        put(0x004, &self.guest_svn.to_le_bytes());
        put(0x008, &self.policy.to_le_bytes());
        put(0x010, &self.family_id.0);
        put(0x020, &self.image_id.0);
        put(0x030, &self.vmpl.to_le_bytes());
        put(0x034, &1u32.to_le_bytes());
        put(0x038, &self.current_tcb.0);
        put(0x040, &self.platform.to_le_bytes());
        put(0x048, &self.keys.to_le_bytes());
        put(0x050, &self.report_data.0);
        put(0x090, &self.measurement.0);
        put(0x0c0, &self.host_data.0);
        put(0x0e0, &self.id_key.0);
        put(0x110, &self.author_key.0);
        put(0x140, &[0x1d; 32]);
        put(0x160, &self.report_id_ma.0);
        put(0x180, &self.reported_tcb.0);
        if self.version >= 3 {
            put(0x188, &self.cpuid);
        }
        put(0x1a0, &self.chip_id.0);
        put(0x1e0, &self.committed_tcb.0);
        put(0x1e8, &self.current_firmware);
        put(0x1ec, &self.committed_firmware);
        put(0x1f0, &self.launch_tcb.0);
        if self.version >= 5 {
            put(0x1f8, &self.mitigations.0.to_le_bytes());
            put(0x200, &self.mitigations.1.to_le_bytes());
        }
        out
    }
}

//! `[image.snp]`: what a policy demands of an SEV-SNP machine. What is not written has its safe default; debugging, a migration
//! agent and a hidden chip key are refused whatever is written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Generation;
use super::bits::Abi;
use super::tcb::Levels;
use crate::bytes::Fixed;

/// The section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Accepted launch measurements (hex, 48 bytes). At least one.
    pub measurements: Vec<Fixed<48>>,
    /// Accepted generations, each with the lowest patch levels: `[image.snp.minimum.milan]`. At least one.
    pub minimum: BTreeMap<Generation, Minimum>,
    /// The privilege level that asked for the report. Under a paravisor or SVSM, 0 is its own level and not the kernel's.
    #[serde(default)]
    pub vmpl: u8,
    /// Lowest ABI version that the guest's own launch policy must demand of the host's firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_abi: Option<Abi>,
    /// Accepts hosts with simultaneous multi-threading. Default: no.
    #[serde(default)]
    pub allow_smt: bool,
    /// Accepts CXL memory and devices. Default: no.
    #[serde(default)]
    pub allow_cxl: bool,
    /// Demands that the guest stays on one socket. Default: no.
    #[serde(default)]
    pub require_single_socket: bool,
    /// Demands the check for aliased memory (BadRAM); reports of version 2 cannot say it. Default: yes.
    #[serde(default = "yes")]
    pub require_alias_check: bool,
    /// Demands that ciphertext is hidden from the host, now and by launch policy (since Turin). Default: no.
    #[serde(default)]
    pub require_ciphertext_hiding: bool,
    /// Demands that power limits cannot be read out, now and by launch policy. Default: no.
    #[serde(default)]
    pub require_rapl_disabled: bool,
    /// Demands AES-256-XTS by launch policy. Default: no.
    #[serde(default)]
    pub require_aes_256_xts: bool,
    /// Demands memory with error correction. Default: no.
    #[serde(default)]
    pub require_ecc: bool,
    /// Demands that the host cannot move or swap pages. Default: no.
    #[serde(default)]
    pub require_page_swap_disabled: bool,
    /// Accepts firmware that the host can still take back: current above committed. Default: no.
    #[serde(default)]
    pub allow_provisional_firmware: bool,
    /// Lowest SVN of the ID block.
    #[serde(default)]
    pub min_guest_svn: u32,
    /// Accepted family ids (hex, 16 bytes); empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub family_ids: Vec<Fixed<16>>,
    /// Accepted image ids (hex, 16 bytes); empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_ids: Vec<Fixed<16>>,
    /// Accepted digests of the ID block's key (hex, 48 bytes); empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub id_keys: Vec<Fixed<48>>,
    /// Accepted digests of the author's key (hex, 48 bytes); empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub author_keys: Vec<Fixed<48>>,
    /// Accepted values of HOST_DATA (hex, 32 bytes); empty: not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_data: Vec<Fixed<32>>,
    /// Accepted chips (hex of CHIP_ID, 64 bytes as in the report); empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chips: Vec<Fixed<64>>,
    /// Accepts reports signed by a cloud provider's key, which do not prove which chip signed. Default: no.
    #[serde(default)]
    pub allow_vlek: bool,
    /// Providers (cspID) whose VLEK is accepted; empty: any, where `allow_vlek` is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlek_providers: Vec<String>,
    /// Mitigations (bits) that must have been verified at launch and now; needs reports of version 5.
    #[serde(default)]
    pub mitigations: u64,
    /// Accepts a chain that nobody held against a revocation list, for places without any network. Default: no.
    #[serde(default)]
    pub allow_unchecked_revocation: bool,
    /// Accepts a paravisor's report that was made at boot and not for this challenge (see `vtpm`). Default: no.
    #[serde(default)]
    pub allow_boot_time_report: bool,
    /// Accepts reports under a root of the Verifier's own, and from files: for tests. Default: no.
    #[serde(default)]
    pub accept_file_provider: bool,
}

/// Lowest patch levels of one generation. A TCB that is not written is not judged, except that the reported one must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minimum {
    /// What the signing key was derived from.
    pub reported: Levels,
    /// What the platform cannot go back behind. Default: as reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<Levels>,
    /// What ran when the guest was launched. Default: as reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<Levels>,
    /// What runs now. Default: as reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Levels>,
}

fn yes() -> bool {
    true
}

impl Policy {
    /// A section with nothing but what must be written.
    pub fn new(measurements: Vec<Fixed<48>>, minimum: BTreeMap<Generation, Minimum>) -> Self {
        Self {
            measurements,
            minimum,
            vmpl: 0,
            min_abi: None,
            allow_smt: false,
            allow_cxl: false,
            require_single_socket: false,
            require_alias_check: true,
            require_ciphertext_hiding: false,
            require_rapl_disabled: false,
            require_aes_256_xts: false,
            require_ecc: false,
            require_page_swap_disabled: false,
            allow_provisional_firmware: false,
            min_guest_svn: 0,
            family_ids: vec![],
            image_ids: vec![],
            id_keys: vec![],
            author_keys: vec![],
            host_data: vec![],
            chips: vec![],
            allow_vlek: false,
            vlek_providers: vec![],
            mitigations: 0,
            allow_unchecked_revocation: false,
            allow_boot_time_report: false,
            accept_file_provider: false,
        }
    }

    /// Refuses what would accept everything or nothing.
    pub fn judge(&self) -> Result<(), String> {
        if self.measurements.is_empty() {
            return Err("snp.measurements names no launch measurement, so any guest would do".into());
        }
        if self.minimum.is_empty() {
            return Err("snp.minimum names no generation, so no machine would do".into());
        }
        if self.vmpl > 3 {
            return Err(format!("snp.vmpl = {}: there are only 0 to 3", self.vmpl));
        }
        if !self.vlek_providers.is_empty() && !self.allow_vlek {
            return Err("snp.vlek_providers has no effect without allow_vlek = true".into());
        }
        Ok(())
    }
}

impl Minimum {
    /// The same levels for all four TCBs.
    pub fn all(levels: Levels) -> Self {
        Self {
            reported: levels,
            committed: None,
            launch: None,
            current: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "measurements = [\"MM\"]\nmin_abi = \"1.55\"\n[minimum.milan]\nreported = { bootloader = 4, snp = 24, microcode = 219 }\n";

    fn text() -> String {
        TEXT.replace("MM", &"ab".repeat(48))
    }

    #[test]
    fn what_is_not_written_has_its_safe_default() {
        let policy: Policy = toml::from_str(&text()).expect("section");
        assert_eq!(policy.judge(), Ok(()));
        let mut plain = Policy::new(policy.measurements.clone(), policy.minimum.clone());
        plain.min_abi = Some(Abi { major: 1, minor: 55 });
        assert_eq!(policy, plain);
        assert_eq!(policy.minimum[&Generation::Milan].reported.microcode, 219);
        let again = toml::to_string(&policy).expect("text");
        assert_eq!(toml::from_str::<Policy>(&again).expect("section"), policy);
    }

    #[test]
    fn unknown_keys_and_generations_are_refused() {
        for bad in [
            text().replace("min_abi", "min_api"),
            text().replace("milan", "naples"),
            text().replace("snp =", "snq ="),
            text().replace("1.55", "1"),
            text().replace("[minimum.milan]\nreported", "[minimum.milan]\ncommitted"),
        ] {
            assert!(toml::from_str::<Policy>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_section_that_accepts_everything_or_nothing_is_refused() {
        let good: Policy = toml::from_str(&text()).expect("section");
        let edits: [fn(&mut Policy); 4] = [
            |p| p.measurements.clear(),
            |p| p.minimum.clear(),
            |p| p.vmpl = 4,
            |p| p.vlek_providers = vec!["x".into()],
        ];
        for edit in edits {
            let mut policy = good.clone();
            edit(&mut policy);
            assert!(policy.judge().is_err(), "{policy:?}");
        }
    }
}

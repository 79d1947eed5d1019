//! How two attestations of one node continue each other, judged by what its TPM counts (Part 1, 36): the Verifier keeps no session, so
//! this is a pure comparison of what it remembers with what it sees. And the rule that a policy may set for one attestation alone.

use serde::{Deserialize, Serialize};

use super::attest::ClockInfo;
use crate::bytes::Fixed;
use crate::finding::Finding;

/// What a quote says of time, boot and firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// The boot, as the measured kernel says.
    pub boot_id: Fixed<16>,
    /// TPM Resets.
    pub reset_count: u32,
    /// TPM Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Milliseconds of TPM time.
    pub clock: u64,
    /// Whether `clock` never ran higher before.
    pub safe: bool,
    /// The TPM's firmware version.
    pub firmware_version: u64,
}

/// How an attestation continues an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Continuity {
    /// The same boot; so many suspends lie between.
    SameBoot {
        /// TPM Restarts and resumes.
        resumes: u32,
    },
    /// A later boot.
    LaterBoot,
}

/// Why an attestation does not continue the earlier one. The node is to blame, or somebody who moved its TPM or its state.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CounterBreak {
    /// The TPM was reset, the kernel says it is the same boot.
    #[error(
        "its TPM was reset (resetCount {before} to {now}) within one boot: the PCRs were extended anew by software"
    )]
    ResetWithinBoot {
        /// resetCount then.
        before: u32,
        /// resetCount now.
        now: u32,
    },
    /// The kernel says it is another boot, the TPM was not reset.
    #[error(
        "another kernel was started (boot id {now}) without a TPM reset (resetCount {count}): kexec, or the boot id is a lie"
    )]
    BootWithoutReset {
        /// resetCount of both.
        count: u32,
        /// The boot id now.
        now: Fixed<16>,
    },
    /// Counts down.
    #[error(
        "its TPM's {what} went back from {before} to {now}: an older state of the TPM was restored, or it was cleared"
    )]
    Backwards {
        /// resetCount, restartCount or clock.
        what: &'static str,
        /// Then.
        before: u64,
        /// Now.
        now: u64,
    },
    /// Firmware changed under a running system.
    #[error("its TPM's firmware version changed from {before:#x} to {now:#x} within one boot")]
    Firmware {
        /// Then.
        before: u64,
        /// Now.
        now: u64,
    },
}

impl Counters {
    /// From a quote and the boot id that the binding covers.
    pub fn new(boot_id: Fixed<16>, clock: &ClockInfo) -> Self {
        Self {
            boot_id,
            reset_count: clock.reset_count,
            restart_count: clock.restart_count,
            clock: clock.clock,
            safe: clock.safe,
            firmware_version: clock.firmware_version,
        }
    }
}

/// Judges `now` after `previous`, both of verified Evidence of one node and one AK. Counters may be shifted by a constant of the key, so
/// they are compared around the wrap.
pub fn continues(previous: &Counters, now: &Counters) -> Result<Continuity, CounterBreak> {
    let back = |what, before: u64, now: u64| Err(CounterBreak::Backwards { what, before, now });
    let resets = now.reset_count.wrapping_sub(previous.reset_count);
    if resets > u32::MAX / 2 {
        return back("resetCount", previous.reset_count.into(), now.reset_count.into());
    }
    match (previous.boot_id == now.boot_id, resets) {
        (true, 0) => {}
        (false, 0) => {
            return Err(CounterBreak::BootWithoutReset {
                count: now.reset_count,
                now: now.boot_id,
            });
        }
        (false, _) => return Ok(Continuity::LaterBoot),
        (true, _) => {
            return Err(CounterBreak::ResetWithinBoot {
                before: previous.reset_count,
                now: now.reset_count,
            });
        }
    }
    let resumes = now.restart_count.wrapping_sub(previous.restart_count);
    if resumes > u32::MAX / 2 {
        return back("restartCount", previous.restart_count.into(), now.restart_count.into());
    }
    if now.clock < previous.clock {
        return back("clock", previous.clock, now.clock);
    }
    if now.firmware_version != previous.firmware_version {
        return Err(CounterBreak::Firmware {
            before: previous.firmware_version,
            now: now.firmware_version,
        });
    }
    Ok(Continuity::SameBoot { resumes })
}

/// `[counters]` of a policy: what one attestation alone must fulfil. Values mean something for an AK in the endorsement hierarchy only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountersRule {
    /// Suspends in one boot that are accepted; not set: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    /// The TPM's clock must be safe: false after the TPM lost power without a shutdown, until the clock has caught up.
    #[serde(default)]
    pub safe_clock: bool,
    /// Firmware versions that are accepted, hexadecimal as `tpm2_getcap properties-fixed` shows both halves; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
}

impl CountersRule {
    /// The firmware versions that are no hexadecimal number: a policy with one is a mistake.
    pub fn malformed(&self) -> Option<&str> {
        self.firmware
            .iter()
            .map(String::as_str)
            .find(|text| version(text).is_none())
    }

    /// Every part that `now` of `node` does not fulfil.
    pub fn failures(&self, node: &str, now: &Counters) -> Vec<Finding> {
        let restarts = self.max_restarts.filter(|max| now.restart_count > *max).map(|max| {
            let what = "it was suspended more often in this boot than the policy accepts";
            Finding::new("counters-restart", node, what, "restart the node")
                .expected(format!("at most {max}"))
                .found(now.restart_count.to_string())
        });
        let unsafe_clock = (self.safe_clock && !now.safe).then(|| {
            let what = "its TPM's clock is not safe: the TPM lost power without a shutdown";
            Finding::new(
                "counters-clock",
                node,
                what,
                "shut the node down in order and start it again",
            )
        });
        let known = |text: &String| version(text) == Some(now.firmware_version);
        let firmware = (!self.firmware.is_empty() && !self.firmware.iter().any(known)).then(|| {
            let what = "its TPM has a firmware version that the policy does not name";
            let remedy = "update the TPM's firmware, or sign a policy that names this version";
            Finding::new("tpm-firmware", node, what, remedy)
                .expected(self.firmware.join(" or "))
                .found(format!("{:#018x}", now.firmware_version))
        });
        [restarts, unsafe_clock, firmware].into_iter().flatten().collect()
    }
}

fn version(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .ok()
        .filter(|_| !digits.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Counters = Counters {
        boot_id: Fixed([1; 16]),
        reset_count: 7,
        restart_count: 1,
        clock: 1000,
        safe: true,
        firmware_version: 0x0001_0002,
    };
    const OTHER_BOOT: Fixed<16> = Fixed([2; 16]);

    fn now(change: impl FnOnce(&mut Counters)) -> Result<Continuity, CounterBreak> {
        let mut now = THEN;
        change(&mut now);
        continues(&THEN, &now)
    }

    #[test]
    fn a_boot_goes_on_through_suspends_and_ends_with_a_reset() {
        assert_eq!(now(|_| {}), Ok(Continuity::SameBoot { resumes: 0 }));
        assert_eq!(now(|c| c.restart_count = 3), Ok(Continuity::SameBoot { resumes: 2 }));
        let later = now(|c| (c.boot_id, c.reset_count, c.restart_count) = (OTHER_BOOT, 9, 0));
        assert_eq!(later, Ok(Continuity::LaterBoot));
    }

    #[test]
    fn a_reset_within_a_boot_and_a_boot_without_a_reset_break_it() {
        assert!(matches!(
            now(|c| c.reset_count = 8),
            Err(CounterBreak::ResetWithinBoot { before: 7, now: 8 })
        ));
        let kexec = now(|c| c.boot_id = OTHER_BOOT);
        assert!(matches!(kexec, Err(CounterBreak::BootWithoutReset { count: 7, .. })));
    }

    #[test]
    fn nothing_counts_down() {
        let back = |what| move |e: &CounterBreak| matches!(e, CounterBreak::Backwards { what: w, .. } if *w == what);
        assert!(now(|c| (c.boot_id, c.reset_count) = (OTHER_BOOT, 6)).is_err_and(|e| back("resetCount")(&e)));
        assert!(now(|c| c.restart_count = 0).is_err_and(|e| back("restartCount")(&e)));
        assert!(now(|c| c.clock = 999).is_err_and(|e| back("clock")(&e)));
        assert!(matches!(
            now(|c| c.firmware_version = 3),
            Err(CounterBreak::Firmware { .. })
        ));
    }

    #[test]
    fn counters_that_are_shifted_by_the_key_may_wrap() {
        let before = Counters {
            reset_count: u32::MAX,
            ..THEN
        };
        let after = Counters {
            boot_id: OTHER_BOOT,
            reset_count: 0,
            ..THEN
        };
        assert_eq!(continues(&before, &after), Ok(Continuity::LaterBoot));
    }

    #[test]
    fn each_part_of_the_rule_has_its_own_finding() {
        let checks = |rule: &CountersRule, now: &Counters| -> Vec<String> {
            rule.failures("n", now).into_iter().map(|f| f.check).collect()
        };
        let rule = CountersRule {
            max_restarts: Some(1),
            safe_clock: true,
            firmware: vec!["0x00010002".into()],
        };
        assert!(checks(&rule, &THEN).is_empty());
        assert!(checks(&CountersRule::default(), &Counters { safe: false, ..THEN }).is_empty());
        let bad = Counters {
            restart_count: 2,
            safe: false,
            firmware_version: 1,
            ..THEN
        };
        assert_eq!(
            checks(&rule, &bad),
            ["counters-restart", "counters-clock", "tpm-firmware"]
        );
        let malformed = CountersRule {
            firmware: vec!["1.2".into()],
            ..rule
        };
        assert_eq!(malformed.malformed(), Some("1.2"));
    }
}

//! What must not change while the machine is armed, by digest: the agent's configuration, what it sees at the places it trusts, and what
//! defines each opted-in unit. The guard keeps the first word of this boot in the kernel, out of root's reach.
//!
//! Must never let a round of attestation begin under a configuration that this boot was not armed with: its vault would get
//! the node's result.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use aws_lc_rs::digest;

use crate::{
    guard::{Guard, GuardError, programs_know_us},
    release::Units,
};

/// Before the names of units.
const UNIT: &str = "unit:";

/// The digests of this process; none of them changes while it runs.
pub struct Anchors {
    own: BTreeMap<String, [u8; 32]>,
    held: AtomicBool,
}

impl Anchors {
    /// Of the agent itself and of `units`.
    pub fn new(configuration: &str, mounts: &str, units: &Units) -> Self {
        let own = [("configuration", configuration), ("mounts", mounts)];
        let own = own.map(|(name, text)| (name.to_owned(), sha256(text.as_bytes())));
        let units = units.definitions().into_iter();
        let units = units.map(|(unit, text)| (format!("{UNIT}{unit}"), sha256(text.as_bytes())));
        Self {
            own: own.into_iter().chain(units).collect(),
            held: AtomicBool::new(false),
        }
    }

    /// Has the guard note all, or compare. A unit that is another one now gets nothing; for the rest, a line that says what to do.
    pub async fn hold(&self, guard: &Guard, units: &Units) -> Result<(), String> {
        if self.held.load(Ordering::Acquire) {
            return Ok(());
        }
        let status = guard.status_or_nothing().await;
        if !status.enforcing && !status.armed {
            // A guard that enforces nothing keeps nothing either; what that means is for guard.degraded and the policy to say. But
            // whoever has stopped or hidden one whose programs are in force does not get round the comparison.
            let why = status.why.unwrap_or_default();
            return match programs_know_us() {
                true => Err(format!(
                    "what this boot was armed with cannot be compared: the guard's programs are in force, and it does not answer for them ({why}); run: systemctl restart rempart-guard, or reboot"
                )),
                false => Ok(()),
            };
        }
        for (name, digest) in &self.own {
            match (guard.remember(name, digest).await, name.strip_prefix(UNIT)) {
                (Ok(()), _) => {}
                (Err(GuardError::Refused(why)), Some(unit)) => units.withdraw(unit, &why),
                (Err(error), _) => return Err(error.to_string()),
            }
        }
        // Before arming, the next one to ask may have said something else meanwhile.
        self.held.store(status.armed, Ordering::Release);
        Ok(())
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

//! Keeps CAP_BPF and CAP_PERFMON as far as they are there, drops all else for good. Failing to drop is
//! said, not fatal: the unit file has dropped it already.

use caps::{CapSet, Capability, CapsHashSet};

/// The two that load, attach and pin all programs.
const KEPT: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];

/// No core dump, no new privileges, two capabilities.
pub(crate) fn drop_all_but_bpf() {
    let mut failures = Vec::new();
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        failures.push(format!("dumpable: {error}"));
    }
    if let Err(error) = nix::sys::prctl::set_no_new_privs() {
        failures.push(format!("no_new_privs: {error}"));
    }
    let held = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let kept: CapsHashSet = KEPT.into_iter().filter(|cap| held.contains(cap)).collect();
    let sets = [
        (CapSet::Ambient, CapsHashSet::new()),
        (CapSet::Effective, kept.clone()),
        (CapSet::Permitted, kept),
    ];
    for (set, wanted) in sets {
        if let Err(error) = caps::set(None, set, &wanted) {
            failures.push(format!("{set:?}: {error}"));
        }
    }
    if let Err(error) = caps::clear(None, CapSet::Inheritable) {
        failures.push(format!("inheritable: {error}"));
    }
    if !failures.is_empty() {
        eprintln!(
            "<4>rempart-guard: could not drop all privileges ({})",
            failures.join("; ")
        );
    }
}

//! What the node says of its own protection: the guard's word, and the agent's of its memory.
//!
//! Must never say "enforcing" while the agent's secrets are where the kernel reads them for others.

use rempart_api::guard::Status;
use rempart_attest::{GuardClaim, limits};
use rempart_secretmem::Memory;

/// One claim of both. Ordinary memory comes first in `why`: it is the operator's choice, and the rarer one.
pub(super) fn claim(guard: Status, memory: Memory) -> GuardClaim {
    let ordinary = match memory {
        Memory::Secret => None,
        Memory::Ordinary(refusal) => Some(refusal.to_string()),
    };
    both(guard, ordinary)
}

/// `ordinary` says why the memory is not secret.
fn both(guard: Status, ordinary: Option<String>) -> GuardClaim {
    let (enforcing, why) = match ordinary {
        None => (guard.enforcing, guard.why),
        Some(refusal) => {
            let guard = guard.why.map(|why| format!("; {why}")).unwrap_or_default();
            let why = format!("memory-ordinary: the agent runs in ordinary memory: {refusal}{guard}");
            (false, Some(why))
        }
    };
    GuardClaim {
        enforcing,
        why: why.map(|why| shortened(&why)),
    }
}

fn shortened(why: &str) -> String {
    let end = (0..=why.len().min(limits::GUARD_WHY))
        .rev()
        .find(|at| why.is_char_boundary(*at));
    why[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guards_word_is_passed_on_and_cut_to_what_evidence_may_hold() {
        let status = Status {
            enforcing: true,
            why: Some("ü".repeat(limits::GUARD_WHY)),
            ..Status::default()
        };
        let claim = claim(status, Memory::Secret);
        assert!(claim.enforcing);
        assert_eq!(claim.why.map(|why| why.len()), Some(limits::GUARD_WHY));
    }

    #[test]
    fn each_degraded_mode_reaches_the_evidence_by_its_name() {
        for mode in rempart_api::guard::MODES {
            let status = Status {
                enforcing: *mode == "hooks-missing",
                why: Some(format!("{mode}: {}", "a cause; ".repeat(100))),
                ..Status::default()
            };
            let claim = both(status.clone(), None);
            assert_eq!(claim.enforcing, status.enforcing);
            assert!(
                claim.why.is_some_and(|why| why.starts_with(&format!("{mode}: "))),
                "{mode}"
            );
            let ordinary = both(status, Some("no memfd_secret".to_owned()));
            assert!(
                !ordinary.enforcing && ordinary.why.is_some_and(|why| why.contains(mode)),
                "{mode}"
            );
        }
    }

    #[test]
    fn an_agent_in_ordinary_memory_does_not_call_itself_protected() {
        let enforcing = Status {
            enforcing: true,
            ..Status::default()
        };
        let claim = both(enforcing, Some("no memfd_secret".to_owned()));
        assert!(!claim.enforcing);
        let why = claim.why.expect("a reason");
        assert!(
            why.starts_with("memory-ordinary: ") && why.ends_with("no memfd_secret"),
            "{why}"
        );
    }
}

//! The negative matrix: Evidence of real boots, changed in one place, fails exactly the checks that are meant to catch it, and names who
//! failed them. Each case first shows that the unchanged Evidence is affirmed. Where a change lies under the quote's signature, the
//! test's AK signs again: an honest TPM under lying software.
//!
//! docs/attestation-matrix.md lists all cases, these and those that need a running Verifier, and is compared with them both ways.

mod exchange;
mod ima;
mod keys;
mod list;
mod logs;
mod paravisor;
mod policy;
mod quote;
mod release;
mod scene;
mod snp;
mod tdx;
mod tls;

use scene::Scene;

/// One case.
pub struct Case {
    /// What is changed; unique, and the name in the list.
    pub name: &'static str,
    /// The unchanged scene.
    pub from: fn() -> Scene,
    /// The change.
    pub change: fn(&mut Scene),
    /// The checks that fail, in any order, and nothing else.
    pub checks: &'static [&'static str],
    /// Whom they name.
    pub who: &'static str,
}

/// A case whose checks name the node.
pub const fn case(
    name: &'static str,
    from: fn() -> Scene,
    change: fn(&mut Scene),
    checks: &'static [&'static str],
) -> Case {
    Case {
        name,
        from,
        change,
        checks,
        who: scene::NODE,
    }
}

/// The same, naming somebody else.
pub const fn against(
    who: &'static str,
    name: &'static str,
    from: fn() -> Scene,
    change: fn(&mut Scene),
    checks: &'static [&'static str],
) -> Case {
    Case {
        name,
        from,
        change,
        checks,
        who,
    }
}

fn cases() -> impl Iterator<Item = &'static Case> {
    let families: [&'static [Case]; 11] = [
        exchange::CASES,
        keys::CASES,
        quote::CASES,
        logs::CASES,
        tls::CASES,
        ima::CASES,
        policy::CASES,
        release::CASES,
        snp::CASES,
        paravisor::CASES,
        tdx::CASES,
    ];
    families.into_iter().flatten()
}

#[test]
fn each_change_fails_its_own_checks_and_no_other() {
    let mut wrong = Vec::new();
    for case in cases() {
        let mut scene = (case.from)();
        if let Err(findings) = scene.judge() {
            wrong.push(format!("{}: the unchanged one is refused: {findings:?}", case.name));
            continue;
        }
        (case.change)(&mut scene);
        let findings = scene.judge().err().unwrap_or_default();
        let mut found: Vec<&str> = findings.iter().map(|f| f.check.as_str()).collect();
        found.sort_unstable();
        let mut expected = case.checks.to_vec();
        expected.sort_unstable();
        if found != expected {
            wrong.push(format!("{}: expected {expected:?}, found {found:?}", case.name));
        }
        for finding in findings.iter().filter(|f| f.who != case.who) {
            wrong.push(format!(
                "{}: {} names {}, not {}",
                case.name, finding.check, finding.who, case.who
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_at_least_eighty_cases_with_names_of_their_own() {
    let mut names: Vec<&str> = cases().map(|case| case.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name stands twice");
    assert!(count >= 80, "{count}");
}

//! docs/attestation-matrix.md against the cases, both ways: every case stands there with its checks, and every row that points to
//! another test file names a test that is in it.

use std::collections::BTreeMap;
use std::path::Path;

use super::cases;

const HERE: &str = "attest/core/tests/matrix";

/// Name to where and checks.
fn rows() -> BTreeMap<String, (String, String)> {
    let path = Path::new("../../docs/attestation-matrix.md");
    let text = std::fs::read_to_string(path).expect("the list");
    let mut rows = BTreeMap::new();
    for line in text
        .lines()
        .filter(|l| l.starts_with("| ") && !l.starts_with("| case ") && !l.starts_with("|---"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, checks, place] = cells.as_slice() else {
            panic!("a row has three cells: {line}");
        };
        let twice = rows.insert(
            (*name).to_owned(),
            ((*place).replace('`', ""), (*checks).replace('`', "")),
        );
        assert!(twice.is_none(), "\"{name}\" stands twice");
    }
    rows
}

#[test]
fn every_case_is_in_the_list_and_the_list_has_no_other() {
    let rows = rows();
    let mut missing = Vec::new();
    for case in cases() {
        let mut checks = case.checks.to_vec();
        checks.dedup();
        let expected = (HERE.to_owned(), checks.join(", "));
        if rows.get(case.name) != Some(&expected) {
            missing.push(format!("| {} | `{}` | `{HERE}` |", case.name, checks.join("`, `")));
        }
    }
    assert!(missing.is_empty(), "missing or different:\n{}", missing.join("\n"));
    let strange = rows.iter().filter(|(_, (place, _))| place == HERE);
    for (name, _) in strange {
        assert!(
            cases().any(|case| case.name == name),
            "the list has \"{name}\", the matrix has not"
        );
    }
}

#[test]
fn what_is_tested_elsewhere_is_there() {
    for (name, (place, _)) in rows().into_iter().filter(|(_, (place, _))| place != HERE) {
        let (file, test) = place.split_once("::").expect("FILE::TEST");
        let path = Path::new("../..").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {}: {e}", path.display()));
        assert!(
            text.contains(&format!("fn {test}(")),
            "{name}: {file} has no test {test}"
        );
    }
}

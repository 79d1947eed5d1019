//! docs/attestation-matrix.md against the cases, both ways: every case stands there with its checks, every check has a row, and a row
//! that points to another test file names a test that runs there and expects what the row says.

use std::collections::BTreeMap;
use std::path::Path;

use rempart_attest::checks;

use super::cases;
use super::scene::STEPS;

const HERE: &str = "attest/core/tests/matrix";

struct Row {
    /// Second cell: `check`, HTTP status, exit status or "words of the refusal".
    refused: String,
    /// Third cell.
    place: String,
}

/// By name.
fn rows() -> BTreeMap<String, Row> {
    let path = Path::new("../../docs/attestation-matrix.md");
    let text = std::fs::read_to_string(path).expect("the list");
    let mut rows = BTreeMap::new();
    for line in text
        .lines()
        .filter(|l| l.starts_with("| ") && !l.starts_with("| case ") && !l.starts_with("|---"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, refused, place] = cells.as_slice() else {
            panic!("a row has three cells: {line}");
        };
        let row = Row {
            refused: (*refused).to_owned(),
            place: (*place).replace('`', ""),
        };
        let twice = rows.insert((*name).to_owned(), row);
        assert!(twice.is_none(), "\"{name}\" stands twice");
    }
    rows
}

/// The checks that a second cell names.
fn named(refused: &str) -> impl Iterator<Item = &str> {
    refused.split('`').skip(1).step_by(2)
}

/// What the cited test must contain to expect what the row says. Some tests put who is to blame behind a check's name.
fn expected(refused: &str) -> Vec<String> {
    if let Some(status) = refused.strip_prefix("HTTP ") {
        return vec![status.to_owned()];
    }
    if let Some(status) = refused.strip_prefix("exit status ") {
        return vec![format!("Some({status})")];
    }
    if let Some(words) = refused.strip_prefix('"').and_then(|r| r.strip_suffix('"')) {
        return vec![words.to_owned()];
    }
    named(refused).map(|check| format!("\"{check}")).collect()
}

/// The text of a test that runs: its function with `#[test]` and without `#[ignore]`. It ends where rustfmt puts its brace.
fn test_of<'a>(text: &'a str, test: &str) -> Option<&'a str> {
    let (before, body) = text.split_once(&format!("fn {test}("))?;
    let attributes = before.rsplit("\n}\n").next()?;
    let runs = attributes.contains("#[test]") || attributes.contains("#[tokio::test");
    let body = body.split_once("\n}\n").map_or(body, |(body, _)| body);
    (runs && !attributes.contains("#[ignore")).then_some(body)
}

#[test]
fn every_case_is_in_the_list_and_the_list_has_no_other() {
    let rows = rows();
    let mut missing = Vec::new();
    for case in cases() {
        let mut checks = case.checks.to_vec();
        checks.dedup();
        let refused = format!("`{}`", checks.join("`, `"));
        let good = |row: &Row| row.place == HERE && row.refused == refused;
        if !rows.get(case.name).is_some_and(good) {
            missing.push(format!("| {} | {refused} | `{HERE}` |", case.name));
        }
    }
    assert!(missing.is_empty(), "missing or different:\n{}", missing.join("\n"));
    let strange = rows.iter().filter(|(_, row)| row.place == HERE);
    for (name, _) in strange {
        assert!(
            cases().any(|case| case.name == name),
            "the list has \"{name}\", the matrix has not"
        );
    }
}

#[test]
fn every_check_has_a_case_and_every_case_a_check_that_there_is() {
    let shown: Vec<&str> = cases().flat_map(|case| case.checks).copied().collect();
    let missing: Vec<_> = checks::PURE
        .into_iter()
        .flatten()
        .filter(|c| !shown.contains(*c))
        .collect();
    assert!(missing.is_empty(), "no case fails {missing:?}");
    let strange: Vec<_> = shown
        .iter()
        .filter(|c| !checks::is_known(c) && !STEPS.contains(*c))
        .collect();
    assert!(strange.is_empty(), "nobody makes {strange:?}");
    let rows = rows();
    let of_a_verifier: Vec<&str> = rows.values().flat_map(|row| named(&row.refused)).collect();
    let missing: Vec<_> = checks::VERIFIER
        .iter()
        .filter(|c| !of_a_verifier.contains(*c))
        .collect();
    assert!(missing.is_empty(), "no row shows {missing:?}");
}

#[test]
fn what_is_tested_elsewhere_runs_there_and_expects_what_is_said() {
    let mut wrong = Vec::new();
    for (name, row) in rows().into_iter().filter(|(_, row)| row.place != HERE) {
        let (file, test) = row.place.split_once("::").expect("FILE::TEST");
        let path = Path::new("../..").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {}: {e}", path.display()));
        let Some(body) = test_of(&text, test) else {
            wrong.push(format!("{name}: {file} has no test {test} that runs"));
            continue;
        };
        let expected = expected(&row.refused);
        if expected.is_empty() {
            wrong.push(format!("{name}: the second cell names no check, status or words"));
        }
        let unknown = named(&row.refused).filter(|check| !checks::is_known(check));
        wrong.extend(unknown.map(|check| format!("{name}: nobody makes {check}")));
        let missing = expected.iter().filter(|what| !body.contains(what.as_str()));
        wrong.extend(missing.map(|what| format!("{name}: {test} does not expect {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_test_that_is_missing_or_does_not_run_is_not_found() {
    let text = "#[test]\nfn a() {\n    x\n}\n\nfn b() {\n}\n\n#[test]\n#[ignore]\nfn c() {\n    z\n}\n";
    assert_eq!(test_of(text, "a"), Some(") {\n    x"));
    assert_eq!(test_of(text, "b"), None, "no test");
    assert_eq!(test_of(text, "c"), None, "ignored");
    assert_eq!(test_of(text, "d"), None);
}

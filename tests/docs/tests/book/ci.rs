//! The workflow for GitHub runs the groups of `./x test`, all of them, on the Rust and the Debian that the repository names.

use std::{collections::BTreeSet, fs, process::Command};

use rempart_harness::repository;
use serde_json::Value;

const WORKFLOW: &str = ".github/workflows/test.yml";

/// The workflow, read by Ruby, which has YAML in its standard library.
fn workflow() -> Value {
    let program = "puts JSON.generate(YAML.safe_load(File.read(ARGV[0])))";
    let path = repository().join(WORKFLOW);
    let output = Command::new("ruby")
        .args(["-ryaml", "-rjson", "-e", program])
        .arg(path)
        .output();
    let output = output.expect("ruby; run ./x deps");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn script() -> String {
    fs::read_to_string(repository().join("x")).expect("x")
}

/// What `./x test` runs without a name.
fn groups(script: &str) -> BTreeSet<String> {
    let list = script.split("|| groups=(").nth(1).expect("the default groups");
    let list = list.split(')').next().unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_workflow_runs_every_group_of_x_once() {
    let (workflow, script) = (workflow(), script());
    let job = &workflow["jobs"]["test"];
    let listed: Vec<String> = serde_json::from_value(job["strategy"]["matrix"]["group"].clone()).expect("a list");
    let unique: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!((listed.len(), &unique), (unique.len(), &groups(&script)));
    for group in &listed {
        assert!(
            script.contains(&format!("\ntest_{group}() {{")),
            "x has no group {group}"
        );
    }
    let steps = job["steps"].as_array().expect("steps");
    let runs: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert_eq!(runs, ["./x test ${{ matrix.group }}"]);
    assert_eq!(
        job["strategy"]["fail-fast"], false,
        "one group's failure must not hide another's"
    );
}

#[test]
fn the_workflow_has_no_more_rights_than_it_needs_and_the_rust_of_the_workspace() {
    let workflow = workflow();
    assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}));
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("Cargo.toml");
    let rust = manifest
        .split("rust-version = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let image = workflow["jobs"]["test"]["container"]["image"]
        .as_str()
        .expect("an image");
    assert_eq!(Some(image), rust.map(|rust| format!("rust:{rust}-bookworm")).as_deref());
    let text = fs::read_to_string(repository().join(WORKFLOW)).expect("text");
    assert!(!text.contains("secrets.") && !text.contains("pull_request_target"));
    let logs = "/var/tmp/cache/rempart/logs";
    assert!(text.contains("XDG_CACHE_HOME: /var/tmp/cache\n") && text.contains(&format!("path: {logs}\n")));
}

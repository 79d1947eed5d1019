//! What the tests run against: the real rempart-verifier binary, a software TPM with a manufacturer's chain driven by tpm2-tools,
//! and an HTTPS client that stays on one connection.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod client;
pub mod node;
pub mod tpm;
pub mod verifier;

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a command to its end and gives its output; anything but success ends the test with the command's own words.
pub fn run(program: &str, args: &[&str], envs: &[(&str, &str)], dir: &Path) -> String {
    let output = Command::new(program)
        .args(args)
        .envs(envs.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program} cannot be run: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

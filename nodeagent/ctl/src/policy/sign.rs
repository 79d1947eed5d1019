//! `rempart policy sign` and `verify`. Signing is ssh-keygen's: no private key ever enters this process.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use rempart_attest::{
    Policy, limits,
    policy::signature::{AllowedSigners, NAMESPACE, over_this_text},
};
use serde_json::json;

use super::{
    arguments::{Sign, Verify},
    file,
};
use crate::failure::Failure;

/// Adds a signature to FILE.sig and drops those that are over an older text.
pub fn sign(told: &Sign) -> Result<ExitCode, Failure> {
    let text = file::read(&told.file, limits::POLICY)?;
    let policy = Policy::parse(&text).map_err(|error| file::fail(&told.file, error))?;
    let path = file::signatures(&told.file);
    let (mut kept, dropped) = earlier(&path, &text)?;
    let made = ssh_keygen(&told.key, &text)?;
    let added = over_this_text(&text, &made)
        .map_err(|error| Failure::Machine(format!("ssh-keygen made no signature that can be read: {error}")))?;
    let [signature] = &added[..] else {
        let why = "its signature does not verify here: the key must be ed25519, ecdsa with 256 bits, or a FIDO2 key";
        return Err(file::fail(&told.key, why));
    };
    if !kept.contains(signature) {
        kept.push(signature.clone());
    }
    file::replace(&path, (kept.join("\n") + "\n").as_bytes())?;
    let shown = path.display();
    if told.json {
        file::print_json(&json!({ "file": shown.to_string(), "signatures": kept.len(), "dropped": dropped }))?;
    } else {
        let stale = match dropped {
            0 => String::new(),
            n => format!("; {n} over an older text dropped"),
        };
        let (name, counter) = (&policy.name, policy.counter);
        println!(
            "policy \"{name}\" (counter {counter}): {} signature(s) in {shown}{stale}",
            kept.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Signatures that are there already and count for this text, and how many do not.
fn earlier(path: &Path, text: &[u8]) -> Result<(Vec<String>, usize), Failure> {
    if !path.exists() {
        return Ok((vec![], 0));
    }
    let there = file::read_text(path, limits::POLICY_SIGNATURE_FILE)?;
    let kept = over_this_text(text, &there).map_err(|error| file::fail(path, error))?;
    let dropped = there.matches("-----BEGIN SSH SIGNATURE-----").count() - kept.len();
    Ok((kept, dropped))
}

/// ssh-keygen takes the text from standard input and asks for pass phrases, PINs and touches on the terminal.
fn ssh_keygen(key: &Path, text: &[u8]) -> Result<String, Failure> {
    let machine = |what: &str, error: std::io::Error| Failure::Machine(format!("ssh-keygen {what}: {error}"));
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| machine("cannot be run; install openssh-client", error))?;
    let mut input = child.stdin.take().expect("standard input is a pipe");
    // It may end before it read everything; its status tells why.
    let written = input.write_all(text);
    drop(input);
    let output = child
        .wait_with_output()
        .map_err(|error| machine("did not end", error))?;
    if !output.status.success() {
        return Err(Failure::Machine(format!(
            "ssh-keygen did not sign with {}",
            key.display()
        )));
    }
    written.map_err(|error| machine("did not take the policy", error))?;
    String::from_utf8(output.stdout).map_err(|_| Failure::Machine("ssh-keygen's answer is not text".into()))
}

/// Exit 0 when enough signers signed, 77 when not.
pub fn verify(told: &Verify) -> Result<ExitCode, Failure> {
    let text = file::read(&told.file, limits::POLICY)?;
    let signers = file::read_text(&told.allowed_signers, limits::POLICY)?;
    let signers = AllowedSigners::parse(&signers).map_err(|error| file::fail(&told.allowed_signers, error))?;
    let path: PathBuf = file::signatures(&told.file);
    let signatures = file::read_text(&path, limits::POLICY_SIGNATURE_FILE)?;
    let now = file::moment(told.at);
    let principals = signers
        .verify(&text, &signatures, now.0, usize::from(told.required))
        .map_err(|error| Failure::Refused(format!("{}: {error}", told.file.display())))?;
    // Only what trusted signers wrote is parsed.
    let policy = Policy::parse(&text).map_err(|error| file::fail(&told.file, error))?;
    if told.json {
        file::print_json(&json!({ "policy": policy.name, "counter": policy.counter, "signers": principals }))?;
    } else {
        println!(
            "policy \"{}\" (counter {}) is signed by {}",
            policy.name,
            policy.counter,
            principals.join(", ")
        );
    }
    Ok(ExitCode::SUCCESS)
}

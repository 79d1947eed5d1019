//! The owner's word lifts what root's does not: a signed token, for this boot of this node, once.

use std::{fs, process::Command, time::Duration};

use anyhow::Context;
use rempart_harness::Output;

use crate::{
    node::Node,
    report::{Outcome, Report},
    stage::{Stage, owners_key},
};

const FRAGMENT: &str = "/etc/rempart/conf.d/60-interval.toml";
const NAMESPACE: &str = "rempart-break-glass";

/// Has the node ask for a token, the owner sign it, and the node apply it.
pub fn lift(stage: &mut Stage, what: &str) -> anyhow::Result<()> {
    let scratch = stage.scratch("break-glass")?;
    let node = stage.node()?;
    let token = request(node, what)?;
    let out = apply(node, &token, &sign(&scratch, &token, NAMESPACE)?)?;
    anyhow::ensure!(out.0 == 0, "the token is refused: {}", out.1);
    Ok(())
}

fn request(node: &Node, what: &str) -> anyhow::Result<String> {
    let out = node.sh(&format!(
        "rempart break-glass request --lift {what} --minutes 10 --reason 'configuration of the test'"
    ))?;
    anyhow::ensure!(out.rc == 0, "no token: {}", out.stderr);
    Ok(out.stdout)
}

fn sign(scratch: &std::path::Path, token: &str, namespace: &str) -> anyhow::Result<String> {
    let file = scratch.join("token");
    let _ = fs::remove_file(file.with_extension("sig"));
    fs::write(&file, token)?;
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .arg(owners_key())
        .arg(&file)
        .status()?;
    anyhow::ensure!(signed.success(), "ssh-keygen does not sign");
    fs::read_to_string(file.with_extension("sig")).context("the signature")
}

/// Exit code and what was said.
fn apply(node: &Node, token: &str, signature: &str) -> anyhow::Result<(i32, String)> {
    node.exec_stdin(&["/usr/bin/tee", "/run/token"], token)?;
    node.exec_stdin(&["/usr/bin/tee", "/run/token.sig"], signature)?;
    let out = node.sh("rempart break-glass apply /run/token")?;
    Ok((out.rc, format!("{}{}", out.stdout, out.stderr).trim().to_owned()))
}

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let scratch = stage.scratch("break-glass")?;
    let node = stage.node()?;
    let write = format!("mkdir -p /etc/rempart/conf.d && printf '[attest]\\ninterval = \"9m\"\\n' > {FRAGMENT}");
    let denied = |out: &Output| match (out.rc, out.stderr.contains("Operation not permitted")) {
        (0, _) => Outcome::Works,
        (_, true) => Outcome::Denied,
        _ => Outcome::Broken,
    };
    let out = node.sh(&write)?;
    report.row(
        "break_glass::without_it_root_changes_no_configuration",
        Outcome::Denied,
        denied(&out),
        out.stderr.trim(),
    );

    // What does not count.
    let token = request(node, "files")?;
    let good = sign(&scratch, &token, NAMESPACE)?;
    let other_boot = token.replace("boot_id = \"", "boot_id = \"0");
    let refusals = [
        (
            "break_glass::changed_after_signing",
            token.replace("= 10", "= 200"),
            good.clone(),
        ),
        (
            "break_glass::signed_for_something_else",
            token.clone(),
            sign(&scratch, &token, "rempart-policy")?,
        ),
        (
            "break_glass::for_another_boot",
            other_boot.clone(),
            sign(&scratch, &other_boot, NAMESPACE)?,
        ),
    ];
    for (name, token, signature) in refusals {
        let (rc, said) = apply(node, &token, &signature)?;
        let seen = match rc {
            77 if said.contains("nothing is lifted") => Outcome::Denied,
            0 => Outcome::Works,
            _ => Outcome::Broken,
        };
        report.row(name, Outcome::Denied, seen, said);
    }

    // What does: logged, files open, nothing released, and closed again.
    let (rc, said) = apply(node, &token, &good)?;
    report.row(
        "break_glass::the_owners_token_counts",
        Outcome::Works,
        if rc == 0 { Outcome::Works } else { Outcome::Broken },
        said,
    );
    let logged = node.sh("journalctl -b -u rempart-guard.service -o cat --no-pager | grep -c 'BREAK-GLASS: files lifted for 10 min, signed by SHA256:.* reason: configuration of the test'; rempart status | grep -c 'BREAK-GLASS: files lifted'; sleep 2; rempart events --json -n 200 | grep -c BREAK_GLASS")?.stdout;
    let seen = if logged.split_whitespace().all(|count| count != "0") {
        Outcome::Works
    } else {
        Outcome::Broken
    };
    report.row(
        "break_glass::journal_status_and_audit_log_tell",
        Outcome::Works,
        seen,
        logged.replace('\n', " "),
    );
    let out = node.sh(&write)?;
    report.row(
        "break_glass::files_may_be_changed_now",
        Outcome::Works,
        if out.rc == 0 { Outcome::Works } else { Outcome::Broken },
        out.stderr.trim(),
    );
    let (start, line) = node.restart_raw("demo-db.service")?;
    report.row(
        "break_glass::nothing_is_released_meanwhile",
        Outcome::Denied,
        start,
        line,
    );
    node.sh("systemctl restart rempartd.service; rempart break-glass end")?;
    let out = node.sh(&format!("echo >> {FRAGMENT}"))?;
    report.row(
        "break_glass::ended_files_are_sealed_again",
        Outcome::Denied,
        denied(&out),
        out.stderr.trim(),
    );
    let (rc, said) = apply(node, &token, &good)?;
    report.row(
        "break_glass::counts_once",
        Outcome::Denied,
        if rc == 77 && said.contains("used before") {
            Outcome::Denied
        } else {
            Outcome::Broken
        },
        said,
    );
    node.restart_agent()?;
    let state = node.wait_word("unlocked", Duration::from_secs(120))?;
    let (start, line) = node.restart_expecting_start("demo-db.service")?;
    report.row(
        "break_glass::the_new_configuration_is_this_boots_now",
        Outcome::Works,
        start,
        format!("{} {line}", state.word),
    );
    Ok(())
}

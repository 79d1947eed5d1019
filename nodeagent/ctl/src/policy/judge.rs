//! `rempart policy diff`, `explain` and `test`. Recorded Evidence is appraised only: without the Verifier's keys, clock and connection
//! nobody can say who made it or when, and each answer says so.

use std::{path::Path, process::ExitCode};

use rempart_api::exit;
use rempart_attest::{
    Evidence, Finding, Policy,
    appraise::appraise,
    policy::{Identity, Instant, diff::diff as compare, explain::explain as in_words},
    verify::unverified,
};
use serde::Serialize;
use serde_json::json;

use super::{
    arguments::{Diff, Explain, Test},
    file,
};
use crate::{failure::Failure, talk::one_line};

/// What an offline judgement says nothing about.
const NOT_VERIFIED: [&str; 6] = ["challenge", "ak-certificate", "identity", "signature", "binding", "tee"];

/// What became of one file.
#[derive(Serialize)]
struct Verdict {
    evidence: String,
    node: String,
    affirmed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    findings: Vec<Finding>,
    not_verified: [&'static str; 6],
}

/// Exit 0 whether or not something changed: it is told, not judged.
pub fn diff(told: &Diff) -> Result<ExitCode, Failure> {
    let changes = compare(&file::policy(&told.old)?, &file::policy(&told.new)?);
    if told.json {
        file::print_json(&changes)?;
        return Ok(ExitCode::SUCCESS);
    }
    if changes.is_empty() {
        println!("both accept the same");
    }
    for change in &changes {
        println!("{}", text_line(&change.to_string()));
    }
    Ok(ExitCode::SUCCESS)
}

/// In words; with Evidence the verdict too, with the exit code of `test`.
pub fn explain(told: &Explain) -> Result<ExitCode, Failure> {
    let policy = file::policy(&told.policy)?;
    let now = file::moment(told.at);
    let words = in_words(&policy, Some(now));
    let verdict = match &told.evidence {
        Some(path) => Some(judge(path, &policy, now)?),
        None => None,
    };
    if told.json {
        file::print_json(&json!({ "policy": policy, "words": words, "verdict": verdict }))?;
    } else {
        words.iter().for_each(|line| println!("{}", text_line(line)));
        if let Some(verdict) = &verdict {
            println!();
            print(verdict);
        }
    }
    Ok(code(verdict.iter()))
}

/// Exit 0 when all are affirmed, 77 when one is not.
pub fn test(told: &Test) -> Result<ExitCode, Failure> {
    let policy = file::policy(&told.policy)?;
    let now = file::moment(told.at);
    let verdicts: Vec<Verdict> = told
        .evidence
        .iter()
        .map(|path| judge(path, &policy, now))
        .collect::<Result<_, _>>()?;
    if told.json {
        file::print_json(&verdicts)?;
    } else {
        verdicts.iter().for_each(print);
    }
    Ok(code(verdicts.iter()))
}

fn code<'a>(mut verdicts: impl Iterator<Item = &'a Verdict>) -> ExitCode {
    if verdicts.all(|verdict| verdict.affirmed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::REFUSED)
    }
}

fn judge(path: &Path, policy: &Policy, now: Instant) -> Result<Verdict, Failure> {
    let evidence = file::evidence(path)?;
    let policy = offline(policy, &evidence);
    let judged = unverified(&evidence).and_then(|claims| appraise(claims.pretend(), &policy, now.0));
    let (image, findings) = match judged {
        Ok(affirmed) => (Some(affirmed.image), vec![]),
        Err(findings) => (None, findings),
    };
    Ok(Verdict {
        evidence: path.display().to_string(),
        node: evidence.node,
        affirmed: image.is_some(),
        image,
        findings,
        not_verified: NOT_VERIFIED,
    })
}

/// The policy without what only a Verifier can tell: whose TPM it is, and what a report that is there says. A report that is demanded
/// and not there is refused offline too.
fn offline(policy: &Policy, evidence: &Evidence) -> Policy {
    let mut policy = Policy {
        identity: Identity::ALL.to_vec(),
        ..policy.clone()
    };
    if evidence.tee.is_some() {
        for image in &mut policy.images {
            image.snp = None;
            image.tdx = None;
        }
    }
    policy
}

fn print(verdict: &Verdict) {
    let name = one_line(&verdict.evidence);
    match &verdict.image {
        Some(image) => println!("{name}: affirmed as image \"{}\"", one_line(image)),
        None => println!("{name}: refused, {} finding(s)", verdict.findings.len()),
    }
    for finding in &verdict.findings {
        println!("  {}: {}", finding.check, one_line(&finding.to_string()));
    }
    println!("  not verified: {}", verdict.not_verified.join(", "));
}

/// Policies carry their writer's text, events the node's.
fn text_line(line: &str) -> String {
    line.replace(char::is_control, " ")
}

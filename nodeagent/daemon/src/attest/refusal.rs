//! What the Verifier's refusal means for the next step, and how it reads in one line.
//!
//! Must never take a refusal for something that may pass when the Verifier says that it holds the node.

use rempart_attest::{Finding, api::Refusal};
use rempart_backend::https::HttpsError;

/// Refusals of a certificate that another Verifier made, or for a TPM that does not hold the name (any more, or again: the node
/// was removed and added): a new one is asked for. Whether it is given is for the Verifier to say.
const CERTIFICATE_CHECKS: [&str; 3] = ["ak-certificate", "ek", "enrolment"];
/// Refusals that a measurement in mid-boot or a slow machine can cause. They are tried again before they count.
const PASSING_CHECKS: [&str; 3] = ["challenge", "event-log", "pcr-digest"];
/// The Verifier saw drift before and refuses everything until its operator clears the node.
const LATCHED_CHECK: &str = "drift-latched";

/// Whom a finding blames when the Verifier could not judge: its own trust anchors are stale, or it has no policy. That says
/// nothing about this node, and must not lock a fleet for good.
const NOT_THE_NODE: [&str; 2] = ["verifier", "policy"];

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The Verifier looked at the Evidence, or at the node, and said no.
    Refused {
        /// One line.
        line: String,
        /// Whether it holds the node until its operator clears it.
        held: bool,
        /// All that it found.
        findings: Vec<Finding>,
    },
    /// It could not be asked; that may pass.
    Failed(String),
}

/// As [`Failure`], with the refusals that are answered by enrolling or attesting again.
pub(super) enum Attempt {
    Certificate(Failure, String),
    Passing(Failure, String),
    Ended(Failure),
}

impl From<HttpsError> for Attempt {
    fn from(error: HttpsError) -> Self {
        let HttpsError::Refused {
            status: 403, refusal, ..
        } = error
        else {
            return failed(error);
        };
        let line = explain(&refusal);
        let has = |check: &str| refusal.findings.iter().any(|finding| finding.check == check);
        let held = refusal.latched || has(LATCHED_CHECK);
        let passing = |finding: &Finding| PASSING_CHECKS.contains(&finding.check.as_str());
        let passes = !refusal.findings.is_empty() && refusal.findings.iter().all(passing);
        let certificate = CERTIFICATE_CHECKS.iter().any(|check| has(check));
        let others = |finding: &Finding| NOT_THE_NODE.contains(&finding.who.as_str());
        if !held && !refusal.findings.is_empty() && refusal.findings.iter().all(others) {
            return failed(line);
        }
        let refused = Failure::Refused {
            line: line.clone(),
            held,
            findings: refusal.findings,
        };
        match (held, passes, certificate) {
            (false, true, _) => Self::Passing(refused, line),
            (false, false, true) => Self::Certificate(refused, line),
            _ => Self::Ended(refused),
        }
    }
}

impl From<Attempt> for Failure {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Certificate(failure, _) | Attempt::Passing(failure, _) | Attempt::Ended(failure) => failure,
        }
    }
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self::Ended(failure)
    }
}

/// Something that may pass.
pub(super) fn failed(why: impl std::fmt::Display) -> Attempt {
    Attempt::Ended(Failure::Failed(why.to_string()))
}

/// The Verifier's refusal as one line: which checks failed, and the one finding that says most. All findings go to the journal.
fn explain(refusal: &Refusal) -> String {
    let several = refusal.findings.len() > 1;
    for finding in refusal.findings.iter().filter(|_| several) {
        tracing::warn!("finding: {}", one_line(&finding.to_string()));
    }
    // A finding that shows two texts (a command line) tells an operator more than one that shows two digests.
    let text = |finding: &&Finding| finding.found.as_deref().is_some_and(|found| found.contains(' '));
    let line = match refusal
        .findings
        .iter()
        .find(text)
        .or_else(|| refusal.findings.first())
        .filter(|_| several)
    {
        None => refusal.error.clone(),
        Some(main) => {
            let failed: Vec<String> = refusal.findings.iter().map(check_name).collect();
            let count = refusal.findings.len();
            // The list of events is for the journal: it is longer than the rest of the line.
            let main = Finding {
                event: None,
                ..main.clone()
            };
            format!(
                "attestation refused, {count} checks failed ({}): {main}",
                failed.join(", ")
            )
        }
    };
    one_line(&line)
}

fn check_name(finding: &Finding) -> String {
    finding
        .pcr
        .map_or_else(|| finding.check.clone(), |pcr| format!("PCR {pcr}"))
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(2000)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, checks: &[&str], latched: bool) -> Attempt {
        let finding = |check: &&str| Finding {
            check: (*check).to_owned(),
            ..sample()
        };
        Attempt::from(HttpsError::Refused {
            server: "https://v".into(),
            path: "/v1/attest",
            status,
            refusal: Box::new(Refusal {
                error: "no".into(),
                findings: checks.iter().map(finding).collect(),
                latched,
            }),
        })
    }

    fn sample() -> Finding {
        serde_json::from_value(serde_json::json!({"check": "x", "who": "demo-1", "what": "y", "do": "z"}))
            .expect("a finding")
    }

    #[test]
    fn what_may_pass_is_told_apart_from_what_counts() {
        assert!(matches!(
            refused(403, &["challenge", "pcr-digest"], false),
            Attempt::Passing(..)
        ));
        for check in CERTIFICATE_CHECKS {
            assert!(
                matches!(refused(403, &[check], false), Attempt::Certificate(..)),
                "{check}"
            );
        }
        let counts = |checks: &[&str], latched| match refused(403, checks, latched) {
            Attempt::Ended(Failure::Refused { held, .. }) => held,
            _ => panic!("{checks:?} counts"),
        };
        assert!(!counts(&["pcr", "event-log"], false));
        assert!(!counts(&[], false));
        assert!(counts(&["pcr"], true), "in the answer that latches");
        assert!(counts(&["drift-latched"], false), "in each later one");
        assert!(counts(&["event-log"], true), "a held node does not hurry");
        let mut unable = Refusal {
            error: "no".into(),
            findings: vec![Finding {
                who: "verifier".into(),
                ..sample()
            }],
            latched: false,
        };
        let judged = |refusal: &Refusal| {
            let refusal = Box::new(refusal.clone());
            let (server, path) = ("https://v".to_owned(), "/v1/attest");
            Failure::from(Attempt::from(HttpsError::Refused {
                server,
                path,
                status: 403,
                refusal,
            }))
        };
        assert!(matches!(judged(&unable), Failure::Failed(_)), "it could not judge");
        unable.findings.push(sample());
        assert!(
            matches!(judged(&unable), Failure::Refused { held: false, .. }),
            "it could, and the node failed too"
        );
        let away = refused(503, &["pcr"], true);
        assert!(
            matches!(away, Attempt::Ended(Failure::Failed(_))),
            "no refusal of this node"
        );
    }
}

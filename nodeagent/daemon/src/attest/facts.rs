//! What the last attestation showed, for `rempart status` and `rempart doctor`. Nothing is decided by it.
//!
//! Must never hold a secret or a token: everybody may read the status.

use rempart_attest::{Bank, Finding, TeeEvidence};
use rempart_backend::Words;
use rempart_device::{Description, TpmOptions};
use serde::Serialize;

use crate::clock;

/// Findings shown; the journal has all of them.
const MAX_FINDINGS: usize = 32;

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// The TPM; absent until it has been asked.
    pub tpm: Option<TpmFacts>,
    /// The TEE.
    pub tee: TeeFacts,
    /// What the Verifier said of this node.
    pub result: Option<ResultFacts>,
    /// Why it refused last; empty once it has granted again.
    pub findings: Vec<Finding>,
    /// Key exchange group of the last connection to the Verifier.
    pub key_exchange: Option<String>,
}

/// The TPM in words.
#[derive(Clone, Debug, Serialize)]
pub struct TpmFacts {
    bank: Bank,
    active_banks: Vec<String>,
    attestation_key: String,
    endorsement_key: String,
    certified_endorsement_keys: Vec<String>,
    tls_key: bool,
    manufacturer: String,
    firmware: String,
}

/// The TEE in words.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TeeFacts {
    kind: Option<String>,
    provider: Option<String>,
    /// Why there is none.
    why: Option<String>,
}

/// The last result in words.
#[derive(Clone, Debug, Serialize)]
pub struct ResultFacts {
    identity: Option<String>,
    policy: Option<String>,
    policy_counter: Option<u64>,
    policy_digest: Option<String>,
    /// How far this machine's clock is ahead of the Verifier's, seconds.
    clock_ahead_s: i64,
}

impl TpmFacts {
    /// From what the TPM said of itself, and how it is used.
    pub fn new(found: Description, options: &TpmOptions, tls_key: bool) -> Self {
        Self {
            bank: options.bank,
            active_banks: found.banks,
            attestation_key: found.ak,
            endorsement_key: found.ek.name().to_owned(),
            certified_endorsement_keys: found
                .ek_certificates
                .iter()
                .map(|kind| kind.name().to_owned())
                .collect(),
            tls_key,
            manufacturer: found.manufacturer,
            firmware: format!("{:#x}", found.firmware),
        }
    }
}

impl TeeFacts {
    /// From what was gathered.
    pub fn new(gathered: &Result<TeeEvidence, String>) -> Self {
        match gathered {
            Ok(report) => Self {
                kind: Some(report.kind.name().to_owned()),
                provider: Some(report.provider.name().to_owned()),
                why: None,
            },
            Err(why) => Self {
                why: Some(why.clone()),
                ..Self::default()
            },
        }
    }
}

impl ResultFacts {
    /// From what a result says of itself, just received.
    pub fn new(words: &Words) -> Self {
        let now = clock::unix_us() / 1_000_000;
        Self {
            identity: words.identity.clone(),
            policy: words.policy.clone(),
            policy_counter: words.policy_counter,
            policy_digest: words.policy_digest.clone(),
            clock_ahead_s: now.saturating_sub(words.issued) as i64 - words.issued.saturating_sub(now) as i64,
        }
    }
}

impl Facts {
    /// The Verifier refused.
    pub fn refused(&mut self, findings: &[Finding]) {
        self.result = None;
        self.findings = findings.iter().take(MAX_FINDINGS).cloned().collect();
    }

    /// The Verifier granted.
    pub fn granted(&mut self, words: &Words) {
        self.result = Some(ResultFacts::new(words));
        self.findings.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_clears_the_findings_and_a_refusal_the_result() {
        let mut facts = Facts::default();
        let finding = Finding::new("pcr", "demo-1", "differs", "look");
        facts.refused(&vec![finding; 100]);
        assert_eq!((facts.findings.len(), facts.result.is_none()), (MAX_FINDINGS, true));
        let words = Words {
            issued: clock::unix_us() / 1_000_000 + 600,
            ..Words::default()
        };
        facts.granted(&words);
        let behind = facts.result.as_ref().map(|result| result.clock_ahead_s);
        assert!(
            facts.findings.is_empty() && behind.is_some_and(|ahead| (-601..=-599).contains(&ahead)),
            "{behind:?}"
        );
    }
}

//! *Verify* (RFC 9334): signatures, chain, freshness, binding. Nothing here compares with a policy. Each check is its own function
//! with its own finding, and all of them run, so that an operator sees every reason at once.
//!
//! Adding a check: a function in the file of what it checks, a finding name of its own in docs/attestation-matrix.md, and a case in
//! tests/matrix that changes recorded Evidence in one place so that this check alone fails.

#![expect(clippy::result_large_err, reason = "a finding is rare and goes straight into a list")]

/// Challenge and binding: this exchange and no other.
mod exchange;
/// The AK certificate and whom it names.
mod identity;
/// Firmware's and systemd's logs against the quoted registers.
mod logs;
/// The quote: selection, signature, values.
mod quote;
/// systemd's own report.
mod report;
/// A certified key for TLS.
mod tls_key;

use aws_lc_rs::hmac;

use crate::ak::{self, VerifiedAk};
use crate::bytes::{Blob, Fixed, sha256};
use crate::eventlog::Event;
use crate::evidence::{Evidence, GuardClaim};
use crate::finding::Finding;
use crate::pcr::{Bank, Pcrs};
use crate::policy::Identity;
use crate::tee::{self, Endorsements, VerifiedTee};
use crate::tpm::Quote;
use crate::tpm::certify::TlsKey;
use crate::tpm::counters::Counters;

/// What an operator does about a failure that may pass.
const RETRY: &str = "nothing to do if the next attempt succeeds; if it does not, look at the node";

/// What a Verifier knows of itself and of the connection.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Unix seconds.
    pub now: u64,
    /// The Verifier's identifier.
    pub verifier: &'a str,
    /// Key of its challenges.
    pub challenge_key: &'a hmac::Key,
    /// DER of the authority that signs AK certificates.
    pub authority: &'a [u8],
    /// TLS exporter of the connection that the Evidence came on.
    pub exporter: &'a Fixed<32>,
    /// Fingerprint of the EK that holds this node's name.
    pub enrolled_ek: &'a Fixed<32>,
    /// What vouches for that EK.
    pub identity: Identity,
    /// What is known of the keys of TEEs; the default knows nothing, then a TEE's report does not verify.
    pub endorsements: &'a Endorsements,
    /// What [`Verified::ak`] was for this certificate before, kept under [`ak::pem_digest`]. One of another certificate or authority is
    /// not used, so a caller cannot go wrong with it but in speed.
    pub ak: Option<&'a VerifiedAk>,
}

/// Evidence whose quote is authentic, fresh and bound to this exchange. Only this module makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The node.
    pub node: String,
    /// What vouches for its EK.
    pub identity: Identity,
    /// Its AK: worth keeping for the next round's [`Context::ak`].
    pub ak: VerifiedAk,
    /// Key for the result.
    pub ephemeral: Fixed<32>,
    /// The bank.
    pub bank: Bank,
    /// Quoted registers.
    pub pcrs: Pcrs,
    /// The quote's other contents.
    pub quote: Quote,
    /// Reset and restart counters, clock, firmware: compare with the last round's by [`crate::tpm::counters::continues`].
    pub counters: Counters,
    /// The boot.
    pub boot_id: Fixed<16>,
    /// Head of the node's audit log.
    pub audit_head: Fixed<32>,
    /// What the measured software says of its guard.
    pub guard: GuardClaim,
    /// A key for TLS that lives in this node's TPM, when it sent one.
    pub tls_key: Option<TlsKey>,
    /// What its TEE says, when it sent that and somebody verified it.
    pub tee: Option<VerifiedTee>,
    /// SHA-256 of the Evidence as CBOR.
    pub evidence_digest: Fixed<32>,
    pub(crate) events: Vec<Event>,
    pub(crate) log_findings: Vec<Finding>,
    pub(crate) tee_findings: Vec<Finding>,
    pub(crate) ima_log: Blob,
    pub(crate) pcr_signatures: Blob,
    pub(crate) os_release: Blob,
    binding: Fixed<64>,
}

impl Verified {
    /// Quoted registers that no log explains and that no policy has to judge: firmware whose log is wrong.
    pub fn unexplained(&self) -> Vec<u8> {
        self.log_findings.iter().filter_map(|f| f.pcr).collect()
    }

    /// The boot's measurements as far as the logs tell them.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Verifies the TEE's part of the same `evidence`, when it has one. Gathering endorsements is work that somebody else does for the
    /// sender, so a Verifier that has to ask the vendor runs [`tpm`] first and this afterwards. What is wrong with it fails the
    /// appraisal, together with what that finds itself.
    pub fn with_tee(mut self, evidence: &Evidence, endorsements: &Endorsements, now: u64) -> Self {
        if let Some(tee) = &evidence.tee {
            let spki = self.ak.key().spki();
            match tee::verify(&self.node, tee, &self.binding, &spki, endorsements, now) {
                Ok(verified) => self.tee = Some(verified),
                Err(findings) => self.tee_findings = findings,
            }
        }
        self
    }
}

/// Runs every check. The quoted registers of an authentic quote can be appraised even where the logs are wrong, so findings about
/// logs wait in [`Verified`] and fail the appraisal together with its own.
pub fn verify(evidence: &Evidence, context: &Context<'_>) -> Result<Verified, Vec<Finding>> {
    match tpm(evidence, context) {
        Ok(verified) => {
            let mut verified = verified.with_tee(evidence, context.endorsements, context.now);
            match std::mem::take(&mut verified.tee_findings) {
                findings if findings.is_empty() => Ok(verified),
                findings => Err(findings),
            }
        }
        Err(mut findings) => {
            // The TEE's own reasons are worth knowing too, as long as it is known whose AK it should name.
            if let (Some(tee), Ok(ak)) = (&evidence.tee, identity::ak_is_certified(evidence, context)) {
                let binding = exchange::binding(evidence, ak.key_id(), context);
                let spki = ak.key().spki();
                let (who, now) = (&evidence.node, context.now);
                let refused = tee::verify(who, tee, &binding, &spki, context.endorsements, now).err();
                findings.extend(refused.unwrap_or_default());
            }
            Err(findings)
        }
    }
}

/// Every check but the TEE's: see [`Verified::with_tee`].
pub fn tpm(evidence: &Evidence, context: &Context<'_>) -> Result<Verified, Vec<Finding>> {
    let challenge = exchange::challenge_is_fresh(evidence, context);
    let ak = identity::ak_is_certified(evidence, context);
    let enrolled = ak
        .as_ref()
        .map_or(Ok(()), |ak| identity::ek_is_enrolled(evidence, ak, context));
    let quote = quote::is_pinned(evidence);
    let signed = ak.as_ref().map_or(Ok(()), |ak| quote::is_signed(evidence, ak));
    // A certificate that does not count still tells which key the node meant.
    let key_id = match &ak {
        Ok(ak) => Some(*ak.key_id()),
        Err(_) => ak::key_id(&evidence.tpm.ak_certificate).ok(),
    };
    let binding = key_id.map(|id| exchange::binding(evidence, &id, context));
    let bound = match (&quote, &binding) {
        (Ok(quote), Some(binding)) => exchange::quote_is_bound(evidence, quote, binding),
        _ => Ok(()),
    };
    let pcrs = match &quote {
        Ok(quote) => quote::values(evidence, quote).map_err(Some),
        Err(_) => Err(None),
    };
    let tls_key = match (&ak, &binding) {
        (Ok(ak), Some(binding)) => tls_key::is_certified(evidence, ak, binding),
        _ => Ok(None),
    };
    let report = report::is_absent(evidence);

    let passed = [&challenge, &enrolled, &signed, &bound, &report]
        .iter()
        .all(|r| r.is_ok());
    match (ak, quote, pcrs, tls_key, binding) {
        (Ok(ak), Ok(quote), Ok(pcrs), Ok(tls_key), Some(binding)) if passed => Ok(Verified {
            tls_key,
            binding,
            ..verified(evidence, context.identity, ak, quote, pcrs)
        }),
        (ak, quote, pcrs, tls_key, _) => {
            let single = [
                challenge,
                ak.map(drop),
                enrolled,
                signed,
                bound,
                report,
                quote.map(drop),
            ];
            let mut findings: Vec<Finding> = single.into_iter().filter_map(Result::err).collect();
            findings.extend(pcrs.err().flatten());
            findings.extend(tls_key.err().unwrap_or_default());
            Err(findings)
        }
    }
}

/// What can be said of Evidence without any key, clock or connection, to try a policy on Evidence that was kept: its selection, its
/// values and its logs. It proves nothing about who made it.
pub fn unverified(evidence: &Evidence) -> Result<Unverified, Vec<Finding>> {
    let quote = quote::is_pinned(evidence).map_err(|e| vec![e])?;
    let pcrs = quote::values(evidence, &quote).map_err(|e| vec![e])?;
    let ak = VerifiedAk::unverified(&evidence.tpm.ak_certificate).map_err(|e| vec![identity::finding(evidence, &e)])?;
    Ok(Unverified(verified(evidence, Identity::FirstUse, ak, quote, pcrs)))
}

/// Evidence that nobody verified, good for trying a policy on it and for nothing else.
#[derive(Clone, Debug)]
pub struct Unverified(Verified);

impl Unverified {
    /// As if it had been verified.
    pub fn pretend(&self) -> &Verified {
        &self.0
    }
}

fn verified(evidence: &Evidence, identity: Identity, ak: VerifiedAk, quote: Quote, pcrs: Pcrs) -> Verified {
    let (events, log_findings) = logs::replay_to(evidence, &pcrs);
    Verified {
        node: evidence.node.clone(),
        identity,
        ak,
        ephemeral: evidence.ephemeral,
        bank: evidence.tpm.bank,
        pcrs,
        counters: Counters::new(evidence.boot_id, &quote.clock),
        quote,
        boot_id: evidence.boot_id,
        audit_head: evidence.audit_head,
        guard: evidence.guard.clone(),
        tls_key: None,
        tee: None,
        binding: Fixed::ZERO,
        evidence_digest: sha256(&evidence.to_cbor()),
        events,
        log_findings,
        tee_findings: Vec::new(),
        ima_log: evidence.tpm.ima_log.clone(),
        pcr_signatures: evidence.tpm.pcr_signatures.clone(),
        os_release: evidence.tpm.os_release.clone(),
    }
}

#[cfg(test)]
mod tests;

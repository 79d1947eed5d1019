//! One attestation: challenge, Evidence, result (RFC 9334, passport model), and enrolment before the first one.
//!
//! Tells an authoritative no apart from everything that may pass. Must never send Evidence on another connection than
//! the one its challenge came on, and must never keep a result that was not sealed to this round's key.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rempart_attest::{
    Binding, Blob, Evidence, Fixed, GuardClaim, TpmEvidence,
    api::{self, AttestResponse, ChallengeRequest, ChallengeResponse},
    evidence, hpke,
    hpke::{EphemeralKey, Purpose},
    limits, systemd_report,
    tpm::AkPublic,
};
use rempart_backend::{
    Grant, Identity,
    https::{Connection, Trust},
};
use rempart_core::config::{Origin, SystemdReport, Tee};
use rempart_device::{Tpm, TpmOptions};

use crate::{
    audit::Audit,
    clock,
    guard::Guard,
    setup::Setup,
    tpm::{ResidentTlsKey, TpmLine},
};
use facts::TpmFacts;
use gather::Measured;
use refusal::{Attempt, failed};

/// What it says of its own protection.
mod claim;
/// Credential activation, and the certificate it gives.
mod enrol;
/// What it showed, for status.
mod facts;
/// Quote, logs, report.
mod gather;
/// Who judges this machine.
mod judge;
/// What a no means.
mod refusal;

pub use facts::Facts;
pub use judge::{Judge, Local};
pub use refusal::Failure;

/// Attempts in one round, when what failed can pass at once.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// What a node attests with.
pub struct Attestor {
    node: String,
    verifier: Origin,
    trust: Trust,
    tpm: TpmLine,
    options: TpmOptions,
    tee: Tee,
    systemd_report: SystemdReport,
    /// The vault takes a certificate over the TPM's TLS key.
    tls_key: bool,
    evidence: PathBuf,
    certificate: PathBuf,
    audit: Arc<Audit>,
    guard: Guard,
    facts: Mutex<Facts>,
    /// The Evidence that was sent last, as CBOR.
    sent: Mutex<Option<Arc<Vec<u8>>>>,
}

impl Attestor {
    /// For the Verifier at `verifier`; takes the rest of what it needs from `setup`.
    pub fn new(
        setup: &Setup,
        (verifier, trust): (Origin, Trust),
        tpm: TpmLine,
        audit: Arc<Audit>,
        guard: Guard,
    ) -> Self {
        Self {
            node: setup.settings.node.clone(),
            verifier,
            trust,
            tpm,
            options: setup.tpm.clone(),
            tee: setup.settings.tee.clone(),
            systemd_report: setup.settings.systemd_report,
            tls_key: setup.settings.vault.by_certificate(),
            evidence: setup.places.evidence.clone(),
            certificate: enrol::certificate_file(&setup.places.state, setup.tpm.ak),
            audit,
            guard,
            facts: Mutex::default(),
            sent: Mutex::default(),
        }
    }

    /// Attests now.
    pub async fn round(&self) -> Result<Grant, Failure> {
        self.describe_tpm().await;
        let outcome = self.attempts().await;
        match &outcome {
            Ok(grant) => self.facts_mut().granted(&grant.words),
            Err(Failure::Refused { findings, .. }) => self.facts_mut().refused(findings),
            Err(Failure::Failed(_)) => {}
        }
        outcome
    }

    /// What the last round showed.
    pub fn facts(&self) -> Facts {
        self.facts_mut().clone()
    }

    /// The file that makes systemd of release `systemd` sign with this node's key.
    pub async fn systemd_key(&self, systemd: u32) -> Result<String, String> {
        let keys = self.tpm.run(Tpm::attestation_template).await;
        let (template, public) = keys.map_err(|error| error.to_string())?;
        let ak = AkPublic::parse(&public).map_err(|error| error.to_string())?;
        Ok(systemd_report::key_file(&template, ak.name(), systemd))
    }

    /// The Evidence that was sent last, as CBOR; `None` before the first.
    pub fn sent(&self) -> Option<Arc<Vec<u8>>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn attempts(&self) -> Result<Grant, Failure> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            match self.attempt().await {
                Err(Attempt::Certificate(_, line)) if left > 0 => {
                    tracing::info!("the Verifier does not accept this node's AK certificate, enrolling again: {line}");
                    self.forget_certificate()?;
                }
                Err(Attempt::Passing(_, line)) if left > 0 => {
                    tracing::info!("attesting again: {line}");
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other.map_err(Failure::from),
            }
        }
    }

    async fn attempt(&self) -> Result<Grant, Attempt> {
        let mut connection = Connection::open(&self.verifier, &self.trust).await?;
        self.facts_mut().key_exchange = Some(connection.group().to_owned());
        let ak_certificate = self.certificate(&mut connection).await?;
        let asked: ChallengeResponse = connection.post(api::CHALLENGE, &ChallengeRequest {}).await?;
        let key = EphemeralKey::generate().map_err(failed)?;
        let boot_id = Fixed(clock::boot_id().map_err(|error| failed(format!("boot id cannot be read: {error}")))?);
        let audit_head = Fixed(self.audit.head());
        let ak = rempart_attest::ak::key_id(&ak_certificate).map_err(|error| {
            let why = Failure::Failed(format!("{}: {error}", self.certificate.display()));
            Attempt::Certificate(why, error.to_string())
        })?;
        let guard = self.guard_claim().await;
        let binding = Binding {
            challenge: asked.challenge.as_bytes(),
            ephemeral: key.public(),
            verifier: &asked.verifier,
            exporter: &Fixed(*connection.exporter()),
            boot_id: &boot_id,
            audit_head: &audit_head,
            ak: &ak,
            claims: &guard.digest(),
        };
        let mut measured = self.measure(&binding.digest(), &ak).await?;
        self.facts_mut().tee = facts::TeeFacts::new(&measured.tee);
        let systemd_report = std::mem::take(&mut measured.systemd_report);
        let sent = Evidence {
            v: evidence::VERSION,
            node: self.node.clone(),
            challenge: asked.challenge.clone(),
            ephemeral: *key.public(),
            boot_id,
            audit_head,
            tee: measured.tee.as_ref().ok().cloned(),
            tpm: self.tpm_evidence(measured, ak_certificate),
            systemd_report,
            guard,
        };
        let answer = self.send(&mut connection, &sent).await?;
        let certificate = answer.certificate.clone();
        let jwt = key
            .open(Purpose::Ear, asked.challenge.as_bytes(), &hpke::Sealed::from(answer))
            .map_err(failed)?;
        let mut grant = Grant::read(jwt, key, &self.node).map_err(failed)?;
        if let Some(pem) = certificate.filter(|_| self.tls_key) {
            grant.identity = Some(self.identity(&pem).await?);
        }
        Ok(grant)
    }

    async fn send(&self, connection: &mut Connection, evidence: &Evidence) -> Result<AttestResponse, Attempt> {
        let cbor = evidence.to_cbor();
        let kept = Some(Arc::new(cbor.clone()));
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(connection.post_as(api::ATTEST, api::CBOR, cbor).await?)
    }

    fn tpm_evidence(&self, measured: Measured, ak_certificate: String) -> TpmEvidence {
        let Measured {
            quoted,
            certified,
            logs,
            tee: _,
            systemd_report: _,
        } = measured;
        TpmEvidence {
            bank: self.options.bank,
            quote: Blob(quoted.attest),
            signature: Blob(quoted.signature),
            pcrs: quoted.pcrs,
            ak_certificate,
            uefi_log: Blob(logs.uefi_log),
            userspace_log: Blob(logs.userspace_log),
            ima_log: Blob(logs.ima_log),
            pcr_signatures: Blob(logs.pcr_signatures),
            os_release: Blob(logs.os_release),
            tls_key: certified,
        }
    }

    /// The client certificate `pem`, with the key in the TPM.
    async fn identity(&self, pem: &str) -> Result<Identity, Attempt> {
        if pem.len() > limits::CERTIFICATE {
            return Err(failed("verifier sent a client certificate that is too long"));
        }
        let public = self.tpm.run(Tpm::tls_key).await.map_err(failed)?;
        Identity::new(pem, ResidentTlsKey::new(self.tpm.clone(), public)).map_err(failed)
    }

    /// Once, when the TPM first answers.
    async fn describe_tpm(&self) {
        if self.facts_mut().tpm.is_some() {
            return;
        }
        match self.tpm.run(Tpm::describe).await {
            Ok(found) => {
                let words = TpmFacts::new(found, &self.options, self.tls_key);
                self.facts_mut().tpm = Some(words);
            }
            // The attestation itself will say so where it matters.
            Err(error) => tracing::debug!("the TPM does not describe itself: {error}"),
        }
    }

    async fn guard_claim(&self) -> GuardClaim {
        claim::claim(self.guard.status_or_nothing().await, rempart_secretmem::memory())
    }

    fn facts_mut(&self) -> MutexGuard<'_, Facts> {
        // Each field is replaced whole.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

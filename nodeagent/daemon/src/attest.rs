//! One attestation: challenge, Evidence, result (RFC 9334, passport model), and enrolment before the first one.
//!
//! Tells an authoritative no apart from everything that may pass. Must never send Evidence on another connection than
//! the one its challenge came on, and must never keep a result that was not sealed to this round's key.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rempart_attest::{
    Bank, Binding, Blob, Evidence, Finding, Fixed, GuardClaim, TpmEvidence,
    api::{self, AttestResponse, ChallengeRequest, ChallengeResponse, Refusal},
    evidence, hpke,
    hpke::{EphemeralKey, Purpose},
    limits,
};
use rempart_backend::{
    Grant,
    https::{Connection, HttpsError, Trust},
};
use rempart_core::config::Origin;
use rempart_device::{EndorsementKey, Quoted, Tpm, TpmOptions, logs::Logs, service::MAX_ANSWER};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use crate::{audit::Audit, clock, guard::Guard, setup::Setup};

/// Reading two files.
const LOGS: Duration = Duration::from_secs(20);
/// Quotes taken until the logs stand still: systemd measures boot phases while the first one is made.
const TRIES: u32 = 5;
const SETTLE: Duration = Duration::from_millis(500);
/// Refusals of a certificate that another Verifier made, or for a TPM that does not hold the name any more: a new one is
/// asked for. Whether it is given is for the Verifier to say.
const CERTIFICATE_CHECKS: [&str; 2] = ["ak-certificate", "ek"];
/// Refusals that a measurement in mid-boot or a slow machine can cause. They are tried again before they count.
const PASSING_CHECKS: [&str; 3] = ["challenge", "event-log", "pcr-digest"];
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The Verifier looked at the Evidence, or at the node, and said no.
    Refused(String),
    /// It could not be asked; that may pass.
    Failed(String),
}

/// What a node attests with.
pub struct Attestor {
    node: String,
    verifier: Origin,
    trust: Trust,
    tcti: String,
    evidence: PathBuf,
    certificate: PathBuf,
    audit: Arc<Audit>,
    guard: Guard,
}

impl Attestor {
    /// Takes what it needs from `setup`.
    pub fn new(setup: &Setup, audit: Arc<Audit>, guard: Guard) -> Self {
        Self {
            node: setup.settings.node.clone(),
            verifier: setup.settings.verifier.clone(),
            trust: setup.verifier.clone(),
            tcti: setup.settings.tcti.clone(),
            evidence: setup.places.evidence.clone(),
            certificate: setup.places.state.join("ak-certificate.pem"),
            audit,
            guard,
        }
    }

    /// Attests now.
    pub async fn round(&self) -> Result<Grant, Failure> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            match self.attempt().await {
                Err(Attempt::Certificate(line)) if left > 0 => {
                    tracing::info!("the Verifier does not accept this node's AK certificate, enrolling again: {line}");
                    remove(&self.certificate)?;
                }
                Err(Attempt::Passing(line)) if left > 0 => {
                    tracing::info!("attesting again: {line}");
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other.map_err(Failure::from),
            }
        }
    }

    async fn attempt(&self) -> Result<Grant, Attempt> {
        let mut connection = Connection::open(&self.verifier, &self.trust).await?;
        let ak_certificate = match read(&self.certificate)? {
            Some(certificate) => certificate,
            None => self.enrol(&mut connection).await?,
        };
        let asked: ChallengeResponse = connection.post(api::CHALLENGE, &ChallengeRequest {}).await?;
        let key = EphemeralKey::generate().map_err(failed)?;
        let boot_id = Fixed(clock::boot_id().map_err(|error| failed(format!("boot id cannot be read: {error}")))?);
        let audit_head = Fixed(self.audit.head());
        let ak =
            rempart_attest::ak::key_id(&ak_certificate).map_err(|error| Attempt::Certificate(error.to_string()))?;
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
        let (quoted, logs) = self.measure(binding.qualifying_data().0).await?;
        let sent = Evidence {
            v: evidence::VERSION,
            node: self.node.clone(),
            challenge: asked.challenge.clone(),
            ephemeral: *key.public(),
            boot_id,
            audit_head,
            tpm: TpmEvidence {
                bank: Bank::Sha256,
                quote: Blob(quoted.attest),
                signature: Blob(quoted.signature),
                pcrs: quoted.pcrs,
                ak_certificate,
                uefi_log: Blob(logs.uefi_log),
                userspace_log: Blob(logs.userspace_log),
                ima_log: Blob::default(),
                pcr_signatures: Blob::default(),
                os_release: Blob::default(),
                tls_key: None,
            },
            tee: None,
            systemd_report: Blob::default(),
            guard,
        };
        let answer: AttestResponse = connection.post_as(api::ATTEST, api::CBOR, sent.to_cbor()).await?;
        let jwt = key
            .open(Purpose::Ear, asked.challenge.as_bytes(), &hpke::Sealed::from(answer))
            .map_err(failed)?;
        Grant::read(jwt, key, &self.node).map_err(failed)
    }

    /// Shows that the attestation key lives in the TPM with this endorsement key, and keeps the certificate for it.
    async fn enrol(&self, connection: &mut Connection) -> Result<String, Attempt> {
        let (ek, ak) = self
            .tpm(|tpm| {
                let ek: EndorsementKey = tpm.endorsement_key()?;
                Ok((ek, tpm.attestation_key()?))
            })
            .await?;
        let request = api::EnrolRequest {
            v: evidence::VERSION,
            node: self.node.clone(),
            ek_public: Blob(ek.public),
            ek_certificate: ek.certificate.map(Blob),
            ak_public: Blob(ak),
        };
        let made: api::EnrolResponse = connection.post(api::ENROL, &request).await?;
        let (blob, encrypted) = (made.credential_blob.0, made.encrypted_secret.0);
        let secret = self.tpm(move |tpm| tpm.activate_credential(&blob, &encrypted)).await?;
        let complete = api::EnrolCompleteRequest {
            token: made.token,
            secret: Blob(secret),
        };
        let done: api::EnrolCompleteResponse = connection.post(api::ENROL_COMPLETE, &complete).await?;
        write(&self.certificate, &done.ak_certificate)?;
        tracing::info!("node {} is enrolled at {}", self.node, self.verifier.url());
        Ok(done.ak_certificate)
    }

    /// A quote, and the logs that lead to its values.
    async fn measure(&self, qualifying: [u8; 32]) -> Result<(Quoted, Logs), Attempt> {
        let mut before = self.logs().await?;
        for _ in 0..TRIES {
            let quoted = self.tpm(move |tpm| tpm.quote(&qualifying)).await?;
            let after = self.logs().await?;
            if after == before {
                return Ok((quoted, after));
            }
            before = after;
            tokio::time::sleep(SETTLE).await;
        }
        Err(failed(
            "the measurement logs do not stand still long enough for a quote",
        ))
    }

    async fn tpm<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tpm) -> Result<T, rempart_device::TpmError> + Send + 'static,
    ) -> Result<T, Attempt> {
        let tcti = self.tcti.clone();
        tokio::task::spawn_blocking(move || work(&mut Tpm::open(&TpmOptions::new(tcti))?))
            .await
            .map_err(failed)?
            .map_err(failed)
    }

    async fn logs(&self) -> Result<Logs, Attempt> {
        let path = self.evidence.display();
        let talk = async {
            let mut stream = UnixStream::connect(&self.evidence).await?;
            // No question: the logs alone.
            stream.shutdown().await?;
            let mut message = Vec::new();
            stream.take(MAX_ANSWER + 1).read_to_end(&mut message).await?;
            Ok::<_, std::io::Error>(message)
        };
        let message = timeout(LOGS, talk)
            .await
            .map_err(|_| {
                failed(format!(
                    "rempart-evidence at {path} did not answer within {} s",
                    LOGS.as_secs()
                ))
            })?
            .map_err(|error| {
                failed(format!(
                    "rempart-evidence at {path}: {error}; check: systemctl status rempart-evidence.socket"
                ))
            })?;
        Logs::parse(&message).map_err(failed)
    }

    async fn guard_claim(&self) -> GuardClaim {
        let status = self.guard.status_or_nothing().await;
        let why = status.why.map(|why| {
            let end = (0..=why.len().min(limits::GUARD_WHY))
                .rev()
                .find(|at| why.is_char_boundary(*at));
            why[..end.unwrap_or(0)].to_owned()
        });
        GuardClaim {
            enforcing: status.enforcing,
            why,
        }
    }
}

/// As [`Failure`], with the refusals that are answered by enrolling or attesting again.
enum Attempt {
    Certificate(String),
    Passing(String),
    Refused(String),
    Failed(String),
}

impl From<HttpsError> for Attempt {
    fn from(error: HttpsError) -> Self {
        match error {
            HttpsError::Refused {
                status: 403,
                ref refusal,
                ..
            } => {
                let line = explain(refusal);
                let mut checks = refusal.findings.iter().map(|finding| finding.check.as_str()).peekable();
                if checks.peek().is_some() && checks.clone().all(|check| PASSING_CHECKS.contains(&check)) {
                    Self::Passing(line)
                } else if checks.any(|check| CERTIFICATE_CHECKS.contains(&check)) {
                    Self::Certificate(line)
                } else {
                    Self::Refused(line)
                }
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<Attempt> for Failure {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Certificate(line) | Attempt::Passing(line) | Attempt::Refused(line) => Self::Refused(line),
            Attempt::Failed(line) => Self::Failed(line),
        }
    }
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(line) => Self::Refused(line),
            Failure::Failed(line) => Self::Failed(line),
        }
    }
}

fn failed(why: impl std::fmt::Display) -> Attempt {
    Attempt::Failed(why.to_string())
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

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.len() <= limits::CERTIFICATE => Ok(Some(text)),
        Ok(_) => Err(Failure::Failed(format!(
            "{} is no certificate; remove it to enrol again",
            path.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Failed(format!("{} cannot be read: {error}", path.display()))),
    }
}

/// Writes beside it first: a certificate is there whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", path.display())))
}

fn remove(path: &Path) -> Result<(), Failure> {
    std::fs::remove_file(path)
        .map_err(|error| Failure::Failed(format!("{} cannot be removed: {error}", path.display())))
}

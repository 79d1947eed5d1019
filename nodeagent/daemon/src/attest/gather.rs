//! What the machine says about itself under one binding: quote, key certification, logs, a TEE's report and systemd's own.
//!
//! Must never mix what two bindings cover, and never take a TEE that does not answer for a machine without one where the operator
//! requires a report.

use std::time::Duration;

use rempart_attest::{Blob, Fixed, KeyCertification, TeeEvidence, TeeProvider as Way, systemd_report};
use rempart_core::config::{SystemdReport, TeeProvider};
use rempart_device::{
    Quoted, Tpm,
    logs::Logs,
    service::{Answer, MAX_ANSWER, Request, SystemdAnswer, SystemdRequest, TeeAnswer},
    tee::TeeError,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::{Attempt, Attestor, failed};

/// Reading some files, and a report: each way to one has its own, shorter, patience.
const ANSWER: Duration = Duration::from_secs(28);
/// Quotes taken until the logs stand still: systemd measures boot phases while the first one is made.
const TRIES: u32 = 5;
const SETTLE: Duration = Duration::from_millis(500);

/// Everything under one binding.
pub(super) struct Measured {
    pub quoted: Quoted,
    pub certified: Option<KeyCertification>,
    pub logs: Logs,
    /// The report, or why there is none.
    pub tee: Result<TeeEvidence, String>,
    /// systemd's own report; empty when there is none.
    pub systemd_report: Blob,
}

impl Attestor {
    /// Gathers it under `binding`, of which a TPM takes the first half and a TEE all; `ak` is the id of the key that quotes.
    pub(super) async fn measure(&self, binding: &Fixed<64>, ak: &Fixed<32>) -> Result<Measured, Attempt> {
        let (mut before, tee) = self.logs_and_report(binding).await?;
        if let (Err(why), true) = (&tee, self.tee.required) {
            return Err(failed(format!(
                "there is no TEE report, which tee.required demands: {why}"
            )));
        }
        let mut qualifying = [0; 32];
        qualifying.copy_from_slice(&binding.0[..32]);
        for _ in 0..TRIES {
            // Between the logs before and the quote, so that all three see the same registers when the logs stand still.
            let systemd_report = self.systemd_report(qualifying, ak).await?;
            let (quoted, certified) = self.quote(qualifying).await?;
            let after = self.logs().await?;
            // IMA's list grows with each new file; the Verifier takes as much of it as the quote covers.
            if after.uefi_log == before.uefi_log && after.userspace_log == before.userspace_log {
                return Ok(Measured {
                    quoted,
                    certified,
                    logs: after,
                    tee,
                    systemd_report,
                });
            }
            before = after;
            tokio::time::sleep(SETTLE).await;
        }
        Err(failed(
            "the measurement logs do not stand still long enough for a quote",
        ))
    }

    async fn quote(&self, qualifying: [u8; 32]) -> Result<(Quoted, Option<KeyCertification>), Attempt> {
        let with_key = self.tls_key;
        let work = move |tpm: &mut Tpm| {
            let quoted = tpm.quote(&qualifying)?;
            let certified = with_key.then(|| tpm.certify_tls_key(&qualifying)).transpose()?;
            Ok((quoted, certified))
        };
        self.tpm.run(work).await.map_err(failed)
    }

    async fn logs_and_report(&self, binding: &Fixed<64>) -> Result<(Logs, Result<TeeEvidence, String>), Attempt> {
        let only = match self.tee.provider {
            TeeProvider::None => return Ok((self.logs().await?, Err("tee.provider is \"none\"".to_owned()))),
            TeeProvider::VtpmNv => return Ok((self.logs().await?, self.report_from_nv(binding).await)),
            TeeProvider::Auto => None,
            TeeProvider::ConfigfsTsm => Some(Way::ConfigfsTsm),
            TeeProvider::SevGuest => Some(Way::SevGuest),
            TeeProvider::File => Some(Way::File),
        };
        let request = Request {
            report_data: *binding,
            vmpl: self.tee.vmpl,
            provider: only,
        };
        let answer = self.ask_evidence(&request.to_bytes()).await?;
        let answer = Answer::parse(&answer).map_err(failed)?;
        let report = match answer.tee {
            TeeAnswer::Report(report) => Ok(report),
            TeeAnswer::Failed(why) => Err(why),
            TeeAnswer::Absent(why) if only.is_some() => Err(why),
            // Such a report is of the paravisor's level, whatever was asked for.
            TeeAnswer::Absent(why) if self.tee.vmpl.is_some() => Err(why),
            // A paravisor's report lies in the TPM, which rempart-evidence does not open.
            TeeAnswer::Absent(why) => self.report_from_nv(binding).await.map_err(|nv| format!("{why}; {nv}")),
        };
        Ok((answer.logs, report))
    }

    async fn report_from_nv(&self, binding: &Fixed<64>) -> Result<TeeEvidence, String> {
        let binding = *binding;
        // The TPM's own answer is inside: a machine without a report is no failure of the TPM.
        let work = move |tpm: &mut Tpm| Ok::<Result<_, TeeError>, _>(tpm.tee_report_from_nv(&binding));
        match self.tpm.run(work).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// systemd's own report, by the key `ak`. One by another key would only be refused by the Verifier, with less to go by.
    async fn systemd_report(&self, nonce: [u8; 32], ak: &Fixed<32>) -> Result<Blob, Attempt> {
        if self.systemd_report == SystemdReport::Off {
            return Ok(Blob::default());
        }
        let request = SystemdRequest {
            systemd_report_nonce: Fixed(nonce),
        };
        let answer = self.ask_evidence(&request.to_bytes()).await?;
        let (absent, why) = match SystemdAnswer::parse(&answer).map_err(failed)? {
            SystemdAnswer::Report(report) => match systemd_report::names_key(&report.0, ak) {
                Ok(true) => return Ok(report),
                Ok(false) => {
                    let why = "systemd's report has no signature by this node's attestation key; see: journalctl -u 'systemd-report-sign-tpm2@*', and rempart attest systemd-key --help";
                    (false, why.to_owned())
                }
                Err(error) => (false, error.to_string()),
            },
            SystemdAnswer::Absent(why) => (true, why),
            SystemdAnswer::Failed(why) => (false, why),
        };
        if self.systemd_report == SystemdReport::Required {
            return Err(failed(format!(
                "there is no report by systemd, which attest.systemd_report demands: {why}"
            )));
        }
        if absent {
            tracing::debug!("no report by systemd: {why}");
        } else {
            tracing::warn!("attesting without systemd's report: {why}");
        }
        Ok(Blob::default())
    }

    async fn logs(&self) -> Result<Logs, Attempt> {
        Logs::parse(&self.ask_evidence(&[]).await?).map_err(failed)
    }

    /// One question to rempart-evidence; none asks for the logs alone.
    async fn ask_evidence(&self, question: &[u8]) -> Result<Vec<u8>, Attempt> {
        let path = self.evidence.display();
        let talk = async {
            let mut stream = UnixStream::connect(&self.evidence).await?;
            stream.write_all(question).await?;
            stream.shutdown().await?;
            let mut message = Vec::new();
            stream.take(MAX_ANSWER + 1).read_to_end(&mut message).await?;
            Ok::<_, std::io::Error>(message)
        };
        match timeout(ANSWER, talk).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(error)) => Err(failed(format!(
                "rempart-evidence at {path}: {error}; check: systemctl status rempart-evidence.socket"
            ))),
            Err(_) => Err(failed(format!(
                "rempart-evidence at {path} did not answer within {} s",
                ANSWER.as_secs()
            ))),
        }
    }
}

//! What rempartd asks rempart-evidence, and what it gets: one question and one answer a connection, CBOR both.
//!
//! Nothing sent is the question for the logs alone; the answer is [`Logs`]. A [`Request`] asks for a TEE report as well; the answer
//! is an [`Answer`], in which the logs come even when there is no report. A [`SystemdRequest`] asks for systemd's own report and
//! nothing else; the answer is a [`SystemdAnswer`]. Must never read more than its maximum, nor wait for ever.

use std::io::{self, ErrorKind, Read, Write};

use rempart_attest::{Blob, Fixed, TeeEvidence, TeeProvider, limits};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    logs::{self, LogError, Logs},
    systemd::NoSystemdReport,
    tee::{NoReport, ReportRequest},
};

/// Longest question, bytes: 64 bytes of report data and three names.
pub const MAX_REQUEST: usize = 256;
/// Longest answer, bytes: logs, report, certificates and runtime data at their maxima, and the names of the fields.
pub const MAX_ANSWER: u64 = (logs::MAX + 2 * limits::TEE_REPORT + limits::TEE_CERTIFICATES + 4096) as u64;
/// Longest reason for which there is no report, bytes.
const MAX_WHY: usize = 1024;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The connection broke.
    #[error("connection of the evidence socket failed: {0}")]
    Io(#[from] io::Error),
    /// The agent asked something else.
    #[error("rempartd sent no question of the evidence protocol")]
    ClientMalformed,
    /// rempart-evidence sent something else than an answer; it says why in the journal.
    #[error("rempart-evidence sent no complete answer; see: journalctl -u 'rempart-evidence@*'")]
    ServiceMalformed,
    /// The logs cannot be had.
    #[error(transparent)]
    Logs(#[from] LogError),
}

/// A question for logs and a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// REPORT_DATA.
    pub report_data: Fixed<64>,
    /// For which VMPL (SEV-SNP).
    pub vmpl: Option<u8>,
    /// Only by this way.
    pub provider: Option<TeeProvider>,
}

/// A question for systemd's own signed report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemdRequest {
    /// Its nonce, where systemd takes one.
    pub systemd_report_nonce: Fixed<32>,
}

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// For logs and a TEE report.
    Tee(Request),
    /// For systemd's own report.
    Systemd(SystemdRequest),
}

/// systemd's report, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemdAnswer {
    /// There is one, as systemd gave it.
    Report(Blob),
    /// This machine's systemd makes none.
    Absent(String),
    /// It does, and none could be had.
    Failed(String),
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// As without a report.
    pub logs: Logs,
    /// The report, or why there is none.
    pub tee: TeeAnswer,
}

/// A report, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeeAnswer {
    /// There is one.
    Report(TeeEvidence),
    /// This machine has no TEE by any way that rempart-evidence knows.
    Absent(String),
    /// It may have one, and no report could be had.
    Failed(String),
}

impl Request {
    /// What to send.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

impl SystemdRequest {
    /// What to send.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

impl Question {
    fn decode(bytes: &[u8]) -> Option<Self> {
        // Neither takes the other's fields, so at most one of them reads.
        let tee = decode(bytes).map(Self::Tee);
        tee.or_else(|| decode(bytes).map(Self::Systemd))
    }

    /// The question that arrived; `None` when nothing did. Reads until the question is whole or the peer ends its side.
    pub fn read(mut from: impl Read) -> Result<Option<Self>, ServiceError> {
        let mut bytes = Vec::new();
        let mut part = [0; MAX_REQUEST + 1];
        loop {
            let count = match from.read(&mut part) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            bytes.extend_from_slice(&part[..count]);
            if bytes.is_empty() {
                return Ok(None);
            }
            if bytes.len() > MAX_REQUEST {
                return Err(ServiceError::ClientMalformed);
            }
            match (Self::decode(&bytes), count) {
                (Some(question), _) => return Ok(Some(question)),
                (None, 0) => return Err(ServiceError::ClientMalformed),
                (None, _) => {}
            }
        }
    }
}

impl Answer {
    /// The answer in `bytes`, the whole stream.
    pub fn parse(bytes: &[u8]) -> Result<Self, ServiceError> {
        let answer: Self = decode(bytes).ok_or(ServiceError::ServiceMalformed)?;
        match answer.logs.within_limits() && answer.tee.within_limits() {
            true => Ok(answer),
            false => Err(ServiceError::ServiceMalformed),
        }
    }

    /// Sends it.
    pub fn write(&self, to: impl Write) -> Result<(), ServiceError> {
        send(self, to)
    }
}

impl SystemdAnswer {
    /// The answer in `bytes`, the whole stream.
    pub fn parse(bytes: &[u8]) -> Result<Self, ServiceError> {
        let answer: Self = decode(bytes).ok_or(ServiceError::ServiceMalformed)?;
        let within = match &answer {
            Self::Report(report) => report.0.len() <= limits::SYSTEMD_REPORT,
            Self::Absent(why) | Self::Failed(why) => why.len() <= MAX_WHY,
        };
        within.then_some(answer).ok_or(ServiceError::ServiceMalformed)
    }

    /// Sends it.
    pub fn write(&self, to: impl Write) -> Result<(), ServiceError> {
        send(self, to)
    }
}

impl From<Result<Vec<u8>, NoSystemdReport>> for SystemdAnswer {
    fn from(collected: Result<Vec<u8>, NoSystemdReport>) -> Self {
        let line = |none: &NoSystemdReport| none.to_string().chars().take(MAX_WHY / 4).collect();
        match collected {
            Ok(report) => Self::Report(Blob(report)),
            Err(none @ NoSystemdReport::Absent) => Self::Absent(line(&none)),
            Err(none) => Self::Failed(line(&none)),
        }
    }
}

impl TeeAnswer {
    fn within_limits(&self) -> bool {
        match self {
            Self::Report(found) => {
                found.report.0.len() <= limits::TEE_REPORT
                    && found.certificates.0.len() <= limits::TEE_CERTIFICATES
                    && found.runtime_data.0.len() <= limits::TEE_REPORT
            }
            Self::Absent(why) | Self::Failed(why) => why.len() <= MAX_WHY,
        }
    }
}

impl From<Result<TeeEvidence, NoReport>> for TeeAnswer {
    fn from(collected: Result<TeeEvidence, NoReport>) -> Self {
        let line = |none: &NoReport| none.to_string().chars().take(MAX_WHY / 4).collect();
        match collected {
            Ok(found) => Self::Report(found),
            Err(none) if none.is_absent() => Self::Absent(line(&none)),
            Err(none) => Self::Failed(line(&none)),
        }
    }
}

impl Logs {
    /// Sends the answer to a question for the logs alone.
    pub fn write(&self, to: impl Write) -> Result<(), ServiceError> {
        send(self, to)
    }

    /// That answer in `bytes`, the whole stream.
    pub fn parse(bytes: &[u8]) -> Result<Self, ServiceError> {
        decode(bytes)
            .filter(Self::within_limits)
            .ok_or(ServiceError::ServiceMalformed)
    }
}

impl From<&Request> for ReportRequest {
    fn from(request: &Request) -> Self {
        Self {
            report_data: request.report_data,
            vmpl: request.vmpl,
        }
    }
}

fn send(message: &impl Serialize, mut to: impl Write) -> Result<(), ServiceError> {
    to.write_all(&encode(message))?;
    Ok(to.flush()?)
}

fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(message, &mut bytes).expect("a Vec takes every byte");
    bytes
}

/// One item that fills `bytes`.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut rest = bytes;
    let item = ciborium::from_reader(&mut rest).ok()?;
    rest.is_empty().then_some(item)
}

#[cfg(test)]
mod tests {
    use rempart_attest::TeeKind;

    use super::*;
    use crate::tee::TeeError;

    const REQUEST: Request = Request {
        report_data: Fixed([9; 64]),
        vmpl: Some(1),
        provider: Some(TeeProvider::ConfigfsTsm),
    };

    fn answer() -> Answer {
        Answer {
            logs: Logs {
                uefi_log: vec![1, 2, 3],
                ..Logs::default()
            },
            tee: TeeAnswer::Report(TeeEvidence {
                kind: TeeKind::SevSnp,
                provider: TeeProvider::ConfigfsTsm,
                report: Blob(vec![4; 1184]),
                certificates: Blob(vec![5]),
                runtime_data: Blob::default(),
            }),
        }
    }

    #[test]
    fn a_question_is_read_whole_and_none_asks_for_the_logs() {
        let bytes = REQUEST.to_bytes();
        assert!(bytes.len() <= MAX_REQUEST);
        assert_eq!(Question::read(&bytes[..]).expect("whole"), Some(Question::Tee(REQUEST)));
        let (head, tail) = bytes.split_at(10);
        assert_eq!(
            Question::read(head.chain(tail)).expect("in two"),
            Some(Question::Tee(REQUEST))
        );
        assert_eq!(Question::read(io::empty()).expect("ended"), None);
        let other = SystemdRequest {
            systemd_report_nonce: Fixed([7; 32]),
        };
        let bytes = other.to_bytes();
        assert!(bytes.len() <= MAX_REQUEST);
        assert_eq!(
            Question::read(&bytes[..]).expect("whole"),
            Some(Question::Systemd(other))
        );
    }

    #[test]
    fn a_cut_longer_or_foreign_question_is_refused() {
        let bytes = REQUEST.to_bytes();
        assert!(Question::read(&bytes[..20]).is_err());
        assert!(Question::read(&[&bytes[..], &[0]].concat()[..]).is_err());
        assert!(Question::read(&vec![0x9f; 2 * MAX_REQUEST][..]).is_err());
        assert!(Question::read(&b"GET / HTTP/1.1\r\n\r\n"[..]).is_err());
    }

    #[test]
    fn an_answer_round_trips_and_a_cut_or_longer_one_is_refused() {
        let mut message = Vec::new();
        answer().write(&mut message).expect("to memory");
        assert_eq!(Answer::parse(&message).expect("whole"), answer());
        assert!(Answer::parse(&message[..message.len() - 1]).is_err());
        assert!(Answer::parse(&[&message[..], &[0]].concat()).is_err());
        let mut long = answer();
        long.logs.userspace_log = vec![0; limits::USERSPACE_LOG + 1];
        assert!(Answer::parse(&encode(&long)).is_err());

        let logs = answer().logs;
        let mut message = Vec::new();
        logs.write(&mut message).expect("to memory");
        assert_eq!(Logs::parse(&message).expect("whole"), logs);
        assert!(Logs::parse(&[]).is_err());
        assert!(
            Answer::parse(&message).is_err(),
            "logs are no answer to the other question"
        );
    }

    #[test]
    fn systemds_answer_round_trips_and_a_longer_one_is_refused() {
        let report = SystemdAnswer::Report(Blob(vec![7; limits::SYSTEMD_REPORT]));
        let mut message = Vec::new();
        report.write(&mut message).expect("to memory");
        assert!(message.len() as u64 <= MAX_ANSWER);
        assert_eq!(SystemdAnswer::parse(&message).expect("whole"), report);
        assert!(SystemdAnswer::parse(&message[..message.len() - 1]).is_err());
        let long = SystemdAnswer::Report(Blob(vec![7; limits::SYSTEMD_REPORT + 1]));
        assert!(SystemdAnswer::parse(&encode(&long)).is_err());
        assert!(matches!(
            SystemdAnswer::from(Err(NoSystemdReport::Absent)),
            SystemdAnswer::Absent(_)
        ));
        assert!(matches!(
            SystemdAnswer::from(Err(NoSystemdReport::Late)),
            SystemdAnswer::Failed(_)
        ));
    }

    #[test]
    fn absence_and_failure_are_told_apart_with_the_reason() {
        let none = |error| TeeAnswer::from(Err(NoReport { tried: vec![error] }));
        assert!(matches!(none(TeeError::NoDriver), TeeAnswer::Absent(why) if why.contains("no TEE driver")));
        let late = TeeError::Late {
            provider: TeeProvider::ConfigfsTsm,
        };
        assert!(matches!(none(late), TeeAnswer::Failed(why) if why.contains("no report within")));
    }
}

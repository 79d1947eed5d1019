//! systemd's own signed report (systemd 262), asked for by Varlink: JSON, a zero byte, over a Unix socket that only root may connect to.
//!
//! Must never read more than its maximum, nor wait for ever, and never send the machine's names away: it asks for a few metrics only.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use rempart_attest::{Blob, Fixed, limits, systemd_report::METRICS};
use serde::{Deserialize, Serialize};

/// Where systemd-report listens.
pub const SOCKET: &str = "/run/systemd/io.systemd.Report";
const METHOD: &str = "io.systemd.Report.GenerateSigned";
const INVALID_PARAMETER: &str = "org.varlink.service.InvalidParameter";
/// The name of the nonce in question and refusal.
const NONCE: &str = "nonce";
/// Longest reply, bytes: a report in base64, and the names around it.
const MAX_REPLY: u64 = (limits::SYSTEMD_REPORT / 3 * 4 + 4096) as u64;
/// systemd makes the key anew and waits for a moment in which nobody else uses the TPM. Below what rempartd waits for us.
const PATIENCE: Duration = Duration::from_secs(24);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum NoSystemdReport {
    /// No such socket.
    #[error("systemd makes no signed reports here ({SOCKET} is not there; systemd 262 has it in systemd-report)")]
    Absent,
    /// The connection broke.
    #[error("systemd's report socket: {0}")]
    Io(#[from] io::Error),
    /// No answer in time.
    #[error("systemd gave no report within {} s", PATIENCE.as_secs())]
    Late,
    /// It said no.
    #[error("systemd made no report: {error}")]
    Refused {
        /// Varlink's error.
        error: String,
    },
    /// Not a reply of that method, or longer than any.
    #[error("systemd's report socket gave something else than a report")]
    Malformed,
}

#[derive(Serialize)]
struct Call<'a> {
    method: &'a str,
    parameters: Parameters<'a>,
}

#[derive(Serialize)]
struct Parameters<'a> {
    matches: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<Blob>,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    parameters: ReplyParameters,
}

#[derive(Default, Deserialize)]
struct ReplyParameters {
    #[serde(default, rename = "reportData")]
    report: Option<Blob>,
    #[serde(default)]
    parameter: Option<String>,
}

/// A signed report from the service at `socket`, with `nonce` where it takes one. Its content is not judged.
pub fn collect(socket: &Path, nonce: &Fixed<32>) -> Result<Vec<u8>, NoSystemdReport> {
    let (made, report) = mpsc::sync_channel(1);
    let (socket, nonce) = (PathBuf::from(socket), *nonce);
    // In a thread: the unit's system call filter has no time-out for a socket.
    thread::spawn(move || {
        // Nobody listens any more when it was late.
        let _ = made.send(ask(&socket, &nonce));
    });
    report.recv_timeout(PATIENCE).unwrap_or(Err(NoSystemdReport::Late))
}

fn ask(socket: &Path, nonce: &Fixed<32>) -> Result<Vec<u8>, NoSystemdReport> {
    let reply = call(socket, Some(nonce))?;
    let takes_none =
        reply.error.as_deref() == Some(INVALID_PARAMETER) && reply.parameters.parameter.as_deref() == Some(NONCE);
    // systemd 262 has no nonce. Without one, the Verifier goes by the TPM's clock.
    let reply = if takes_none { call(socket, None)? } else { reply };
    match (reply.error, reply.parameters.report) {
        (Some(error), _) => Err(NoSystemdReport::Refused {
            error: error.chars().filter(|c| !c.is_control()).take(200).collect(),
        }),
        (None, Some(report)) if report.0.len() <= limits::SYSTEMD_REPORT => Ok(report.0),
        (None, _) => Err(NoSystemdReport::Malformed),
    }
}

/// One call on a connection of its own.
fn call(socket: &Path, nonce: Option<&Fixed<32>>) -> Result<Reply, NoSystemdReport> {
    let call = Call {
        method: METHOD,
        parameters: Parameters {
            matches: &METRICS,
            nonce: nonce.map(|nonce| nonce.0.as_slice().into()),
        },
    };
    let mut message = serde_json::to_vec(&call).map_err(io::Error::from)?;
    message.push(0);
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::NotFound => NoSystemdReport::Absent,
        _ => NoSystemdReport::Io(error),
    })?;
    // As a file: read(2) and write(2), which the unit's filter has.
    let mut stream = File::from(OwnedFd::from(stream));
    stream.write_all(&message)?;
    read(stream)
}

/// Everything up to the zero byte; what comes behind it is not read.
fn read(from: impl Read) -> Result<Reply, NoSystemdReport> {
    let mut from = from.take(MAX_REPLY);
    let mut reply = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        let count = match from.read(&mut part) {
            Ok(0) => return Err(NoSystemdReport::Malformed),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let part = &part[..count];
        let end = part.iter().position(|byte| *byte == 0);
        reply.extend_from_slice(&part[..end.unwrap_or(count)]);
        if end.is_some() {
            return serde_json::from_slice(&reply).map_err(|_| NoSystemdReport::Malformed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A service that gives these replies, one a connection; what it was asked comes back.
    fn service(replies: &'static [&'static [u8]]) -> (tempfile::TempDir, PathBuf, thread::JoinHandle<Vec<String>>) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bind");
        let asked = thread::spawn(move || {
            let one = |reply: &&[u8]| {
                let (mut stream, _) = listener.accept().expect("accept");
                let mut question = vec![0; 1024];
                let count = stream.read(&mut question).expect("question");
                let _ = stream.write_all(reply);
                String::from_utf8_lossy(&question[..count]).into_owned()
            };
            replies.iter().map(one).collect()
        });
        (folder, path, asked)
    }

    const NO_NONCE: &[u8] =
        b"{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":{\"parameter\":\"nonce\"}}\0";

    #[test]
    fn a_service_that_takes_a_nonce_gets_it() {
        let (_folder, path, asked) = service(&[b"{\"parameters\":{\"reportData\":\"AQID\"}}\0"]);
        assert_eq!(collect(&path, &Fixed([0xff; 32])).expect("report"), [1, 2, 3]);
        let asked = asked.join().expect("ended");
        assert!(
            asked[0].ends_with('\0') && asked[0].contains("\"nonce\":\"/////"),
            "{asked:?}"
        );
        assert!(!asked[0].contains("Hostname") && !asked[0].contains("MachineID"));
    }

    #[test]
    fn one_that_takes_none_is_asked_again_without() {
        let (_folder, path, asked) = service(&[NO_NONCE, b"{\"parameters\":{\"reportData\":\"AQID\"}}\0"]);
        assert_eq!(collect(&path, &Fixed([1; 32])).expect("report"), [1, 2, 3]);
        assert!(!asked.join().expect("ended")[1].contains("nonce"));
    }

    #[test]
    fn absence_is_told_from_failure() {
        let nowhere = tempfile::tempdir().expect("temporary folder").path().join("socket");
        assert!(matches!(
            collect(&nowhere, &Fixed([1; 32])),
            Err(NoSystemdReport::Absent)
        ));
        let replies: [&'static [&'static [u8]]; 5] = [
            &[b"{\"error\":\"io.systemd.System\",\"parameters\":{\"errno\":22}}\0"],
            &[b"{\"parameters\":{}}\0"],
            &[b"{\"parameters\":{\"reportData\":\"AQID\"}}"],
            &[b"HTTP/1.1 400\0"],
            &[NO_NONCE, NO_NONCE],
        ];
        for replies in replies {
            let (_folder, path, _asked) = service(replies);
            let refused = collect(&path, &Fixed([1; 32])).expect_err("no report");
            assert!(!matches!(refused, NoSystemdReport::Absent), "{refused}");
        }
    }

    #[test]
    fn a_reply_that_does_not_end_is_not_read_on() {
        assert!(matches!(read(io::repeat(b' ')), Err(NoSystemdReport::Malformed)));
    }
}

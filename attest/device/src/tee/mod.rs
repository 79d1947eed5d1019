//! Reports of trusted execution environments (TEE), by each way that Linux offers to them.
//!
//! To add a way: a file with a type that implements [`ReportSource`], a [`rempart_attest::TeeProvider`] for it, and one line in
//! [`sources`]. Nothing here judges a report: the Verifier does. Must never give a report over other data than asked for, and never
//! take "no answer yet" for "no TEE here": only [`TeeError::is_absent`] says the latter.

/// A file or a command, for tests.
pub mod file;
/// /dev/sev-guest.
pub mod sev_guest;
/// /sys/kernel/config/tsm/report.
pub mod tsm;
/// An NV index that a paravisor fills.
pub mod vtpm_nv;

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use rempart_attest::{Fixed, TeeEvidence, TeeProvider, tee::vtpm::VtpmError};
use rempart_sev_guest::GuestError;

use crate::tpm::TpmError;

/// What one report may take. The secure processor answers in milliseconds, TDX's quoting enclave on a loaded host in seconds; the
/// kernel itself gives up on either after 30 s or more.
pub const WAIT: Duration = Duration::from_secs(12);

/// What a report is wanted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportRequest {
    /// REPORT_DATA.
    pub report_data: Fixed<64>,
    /// The VMPL that the report is made for (SEV-SNP); `None`: the most privileged one that this guest may ask for.
    pub vmpl: Option<u8>,
}

/// One way to a report.
pub trait ReportSource: Send {
    /// Its name in Evidence.
    fn provider(&self) -> TeeProvider;

    /// A report over the request. Takes its time; see [`collect`].
    fn report(&mut self, request: &ReportRequest) -> Result<TeeEvidence, TeeError>;
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum TeeError {
    /// The kernel does not offer this way.
    #[error("{provider}: this kernel has no {}", path.display())]
    NoInterface {
        /// Which way.
        provider: TeeProvider,
        /// What there would be.
        path: PathBuf,
    },
    /// The kernel offers the way and has no driver of a TEE behind it.
    #[error(
        "configfs-tsm: no TEE driver is behind it, so this is no confidential machine (or its guest driver is not loaded)"
    )]
    NoDriver,
    /// A TEE that this release does not know.
    #[error("configfs-tsm: the driver {name:?} is none of sev_guest, tdx_guest")]
    UnknownDriver {
        /// Its name, cut to a line.
        name: String,
    },
    /// The TPM has no report in NV.
    #[error("vtpm-nv: NV index 0x01400001 is not defined, so no paravisor leaves reports here")]
    NoReportIndex,
    /// The NV index has something that nobody can verify from afar.
    #[error("vtpm-nv: {0}")]
    NoRemoteReport(VtpmError),
    /// The caller asked for a way that was not offered to it.
    #[error("{provider}: not asked here")]
    NotOffered {
        /// Which way.
        provider: TeeProvider,
    },
    /// The kernel or the file system failed.
    #[error("{provider}: cannot {what}: {why}")]
    Io {
        /// Which way.
        provider: TeeProvider,
        /// What was tried.
        what: &'static str,
        /// What the kernel says.
        why: io::Error,
    },
    /// Something else wrote to our entry, each time.
    #[error("configfs-tsm: another program wrote to this report's entry during each of {tries} tries")]
    Contended {
        /// How many times.
        tries: u32,
    },
    /// The kernel offers no choice of VMPL.
    #[error("configfs-tsm: the driver takes no privilege level, {vmpl} was asked for")]
    NoVmpl {
        /// Which.
        vmpl: u8,
    },
    /// An answer over its maximum, or of another shape than its interface says.
    #[error("{provider}: {what} is not what it should be (longer than {max} bytes, empty, or no text)")]
    Malformed {
        /// Which way.
        provider: TeeProvider,
        /// What.
        what: &'static str,
        /// The maximum.
        max: usize,
    },
    /// /dev/sev-guest refused.
    #[error("sev-guest: {0}")]
    Guest(#[from] GuestError),
    /// The TPM refused.
    #[error("vtpm-nv: {0}")]
    Tpm(#[from] TpmError),
    /// The paravisor's layout is not the known one.
    #[error("vtpm-nv: {0}")]
    Paravisor(VtpmError),
    /// No answer.
    #[error("{provider}: no report within {} s", WAIT.as_secs())]
    Late {
        /// Which way.
        provider: TeeProvider,
    },
    /// The test's command failed.
    #[error("file: {command} ended with {status}")]
    Command {
        /// Which.
        command: String,
        /// How.
        status: String,
    },
}

impl TeeError {
    /// Whether it says that this machine has no TEE by this way, rather than that there was no answer.
    pub fn is_absent(&self) -> bool {
        matches!(
            self,
            Self::NoInterface { .. }
                | Self::NoDriver
                | Self::UnknownDriver { .. }
                | Self::NoReportIndex
                | Self::NoRemoteReport(_)
                | Self::NotOffered { .. }
        )
    }
}

/// No report, and why by each way that was tried.
#[derive(Debug, thiserror::Error)]
#[error("{}", .tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct NoReport {
    /// In the order of trying.
    pub tried: Vec<TeeError>,
}

impl NoReport {
    /// Whether this machine has no TEE, as far as the tried ways tell.
    pub fn is_absent(&self) -> bool {
        self.tried.iter().all(TeeError::is_absent)
    }
}

/// The ways of this machine for a process with root's rights, best first. `files`: the folder of a [`file::Files`], then the only way.
pub fn sources(files: Option<&Path>) -> Vec<Box<dyn ReportSource>> {
    match files {
        Some(folder) => vec![Box::new(file::Files::new(folder))],
        None => vec![
            Box::new(tsm::ConfigfsTsm::default()),
            Box::new(sev_guest::SevGuest::default()),
        ],
    }
}

/// The report by the first way that there is, or by `only`. A way that exists and fails ends the search: another way's report
/// would hide that. Each way has [`WAIT`].
pub fn collect(
    sources: Vec<Box<dyn ReportSource>>,
    only: Option<TeeProvider>,
    request: &ReportRequest,
) -> Result<TeeEvidence, NoReport> {
    collect_within(WAIT, sources, only, request)
}

fn collect_within(
    wait: Duration,
    sources: Vec<Box<dyn ReportSource>>,
    only: Option<TeeProvider>,
    request: &ReportRequest,
) -> Result<TeeEvidence, NoReport> {
    let mut tried = Vec::new();
    let wanted = |source: &dyn ReportSource| only.is_none_or(|only| only == source.provider());
    for source in sources.into_iter().filter(|source| wanted(source.as_ref())) {
        match within(wait, source, *request) {
            Ok(evidence) => return Ok(evidence),
            Err(error) => {
                let go_on = error.is_absent();
                tried.push(error);
                if !go_on {
                    return Err(NoReport { tried });
                }
            }
        }
    }
    if let (Some(provider), true) = (only, tried.is_empty()) {
        tried.push(TeeError::NotOffered { provider });
    }
    Err(NoReport { tried })
}

/// A read in the kernel cannot be called off, so it gets a thread, which is left behind when it is late. rempart-evidence ends
/// after one answer and takes it along.
fn within(wait: Duration, mut source: Box<dyn ReportSource>, request: ReportRequest) -> Result<TeeEvidence, TeeError> {
    let provider = source.provider();
    let (answer, answered) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // Nobody listens any more when it was late.
        let _ = answer.send(source.report(&request));
    });
    answered.recv_timeout(wait).unwrap_or(Err(TeeError::Late { provider }))
}

#[cfg(test)]
mod tests {
    use rempart_attest::{Blob, TeeKind};

    use super::*;

    struct Fake(TeeProvider, Option<Result<(), TeeError>>, Duration);

    impl ReportSource for Fake {
        fn provider(&self) -> TeeProvider {
            self.0
        }

        fn report(&mut self, request: &ReportRequest) -> Result<TeeEvidence, TeeError> {
            thread::sleep(self.2);
            self.1.take().expect("asked once")?;
            Ok(TeeEvidence {
                kind: TeeKind::SevSnp,
                provider: self.0,
                report: Blob(request.report_data.0.to_vec()),
                certificates: Blob::default(),
                runtime_data: Blob::default(),
            })
        }
    }

    const REQUEST: ReportRequest = ReportRequest {
        report_data: Fixed([7; 64]),
        vmpl: None,
    };
    const SHORT: Duration = Duration::from_millis(200);

    fn source(provider: TeeProvider, answer: Result<(), TeeError>) -> Box<dyn ReportSource> {
        Box::new(Fake(provider, Some(answer), Duration::ZERO))
    }

    fn late(provider: TeeProvider) -> TeeError {
        TeeError::Late { provider }
    }

    #[test]
    fn an_absent_way_is_passed_over_and_a_failing_one_is_not() {
        use TeeProvider::{ConfigfsTsm, SevGuest};
        let found = collect(
            vec![source(ConfigfsTsm, Err(TeeError::NoDriver)), source(SevGuest, Ok(()))],
            None,
            &REQUEST,
        );
        assert_eq!(found.expect("the second way").provider, SevGuest);

        let failing = vec![source(ConfigfsTsm, Err(late(ConfigfsTsm))), source(SevGuest, Ok(()))];
        let none = collect(failing, None, &REQUEST).expect_err("the first way's failure counts");
        assert!(!none.is_absent());

        let absent = vec![source(ConfigfsTsm, Err(TeeError::NoDriver))];
        assert!(collect(absent, None, &REQUEST).expect_err("no TEE").is_absent());
    }

    #[test]
    fn a_way_that_was_asked_for_is_the_only_one_tried() {
        use TeeProvider::{ConfigfsTsm, File, SevGuest};
        let ways = || vec![source(ConfigfsTsm, Ok(())), source(SevGuest, Ok(()))];
        let found = collect(ways(), Some(SevGuest), &REQUEST).expect("offered");
        assert_eq!(found.provider, SevGuest);
        let none = collect(ways(), Some(File), &REQUEST).expect_err("not offered");
        assert!(matches!(none.tried[..], [TeeError::NotOffered { provider: File }]));
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_not_waited_for_for_ever() {
        let slow = Fake(TeeProvider::ConfigfsTsm, Some(Ok(())), 20 * SHORT);
        let none = collect_within(SHORT, vec![Box::new(slow)], None, &REQUEST).expect_err("late");
        assert!(matches!(none.tried[..], [TeeError::Late { .. }]) && !none.is_absent());
    }
}

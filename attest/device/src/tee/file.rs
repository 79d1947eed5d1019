//! A TEE that is a folder, for tests: `kind` (sev-snp or tdx), then `generate`, a program that gets REPORT_DATA as 128 hex digits and
//! the VMPL (or `-`) and writes the report to standard output, or else `report`, a prepared one; `certificates` where there are any.
//!
//! Its reports say `file`, which every production policy refuses. Must never be chosen by anything but rempart-evidence's own
//! command line.

use std::{
    fs,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rempart_attest::{Blob, TeeEvidence, TeeKind, TeeProvider, limits};

use super::{ReportRequest, ReportSource, TeeError};

/// The folder.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// At `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    fn kind(&self) -> Result<TeeKind, TeeError> {
        let text = self.read("kind", 64)?.ok_or_else(|| TeeError::NoInterface {
            provider: TeeProvider::File,
            path: self.folder.join("kind"),
        })?;
        let name = String::from_utf8_lossy(&text).trim().to_owned();
        let kind = TeeKind::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| malformed("kind", 64))
    }

    /// `None` when there is no such file.
    fn read(&self, name: &'static str, max: usize) -> Result<Option<Vec<u8>>, TeeError> {
        match fs::File::open(self.folder.join(name)) {
            Ok(file) => bounded(file, name, max).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(why) => Err(failed("read a file")(why)),
        }
    }

    fn generate(&self, request: &ReportRequest) -> Result<Option<Vec<u8>>, TeeError> {
        let program = self.folder.join("generate");
        if !program.exists() {
            return Ok(None);
        }
        let vmpl = request.vmpl.map_or("-".to_owned(), |vmpl| vmpl.to_string());
        let mut child = Command::new(&program)
            .args([request.report_data.to_string(), vmpl])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed("start the generator"))?;
        let output = child.stdout.take().expect("piped");
        let report = bounded(output, "the generator's report", limits::TEE_REPORT);
        let status = child.wait().map_err(failed("wait for the generator"))?;
        match status.success() {
            true => report.map(Some),
            false => Err(TeeError::Command {
                command: program.display().to_string(),
                status: status.to_string(),
            }),
        }
    }
}

impl ReportSource for Files {
    fn provider(&self) -> TeeProvider {
        TeeProvider::File
    }

    fn report(&mut self, request: &ReportRequest) -> Result<TeeEvidence, TeeError> {
        let kind = self.kind()?;
        let report = match self.generate(request)? {
            Some(made) => Some(made),
            None => self.read("report", limits::TEE_REPORT)?,
        };
        let report = report.ok_or_else(|| malformed("report", limits::TEE_REPORT))?;
        let certificates = self.read("certificates", limits::TEE_CERTIFICATES)?;
        Ok(TeeEvidence {
            kind,
            provider: TeeProvider::File,
            report: Blob(report),
            certificates: Blob(certificates.unwrap_or_default()),
            runtime_data: Blob::default(),
        })
    }
}

fn bounded(from: impl Read, what: &'static str, max: usize) -> Result<Vec<u8>, TeeError> {
    let mut bytes = Vec::new();
    from.take(max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read a file"))?;
    match bytes.is_empty() || bytes.len() > max {
        true => Err(malformed(what, max)),
        false => Ok(bytes),
    }
}

fn malformed(what: &'static str, max: usize) -> TeeError {
    TeeError::Malformed {
        provider: TeeProvider::File,
        what,
        max,
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> TeeError {
    move |why| TeeError::Io {
        provider: TeeProvider::File,
        what,
        why,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rempart_attest::Fixed;

    use super::*;

    const ASKED: ReportRequest = ReportRequest {
        report_data: Fixed([0xab; 64]),
        vmpl: Some(1),
    };

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::write(&path, content).expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        }
        folder
    }

    fn report(files: &[(&str, &[u8])]) -> Result<TeeEvidence, TeeError> {
        Files::new(folder(files).path()).report(&ASKED)
    }

    #[test]
    fn a_prepared_report_comes_as_it_is_and_a_generator_is_told_what_to_report() {
        let prepared = report(&[("kind", b"tdx\n"), ("report", b"quote"), ("certificates", b"table")]);
        let prepared = prepared.expect("prepared");
        assert_eq!((prepared.kind, prepared.provider), (TeeKind::Tdx, TeeProvider::File));
        assert_eq!(
            (prepared.report.0, prepared.certificates.0),
            (b"quote".to_vec(), b"table".to_vec())
        );

        let made = report(&[
            ("kind", b"sev-snp"),
            ("generate", b"#!/bin/sh\nprintf %s.%s \"$1\" \"$2\"\n"),
        ]);
        let expected = format!("{}.1", "ab".repeat(64));
        assert_eq!(made.expect("made").report.0, expected.as_bytes());
    }

    #[test]
    fn an_empty_folder_is_absence_and_a_broken_one_is_not() {
        assert!(report(&[]).expect_err("empty").is_absent());
        let broken: [&[(&str, &[u8])]; 4] = [
            &[("kind", b"sgx"), ("report", b"x")],
            &[("kind", b"tdx")],
            &[("kind", b"tdx"), ("report", b"")],
            &[
                ("kind", b"tdx"),
                ("report", b"x"),
                ("generate", b"#!/bin/sh\necho x; exit 3\n"),
            ],
        ];
        for files in broken {
            assert!(!report(files).expect_err("broken").is_absent());
        }
        let long = vec![1; limits::TEE_REPORT + 1];
        assert!(matches!(
            report(&[("kind", b"tdx"), ("report", &long)]),
            Err(TeeError::Malformed { .. })
        ));
    }
}

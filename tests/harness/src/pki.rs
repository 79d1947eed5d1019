//! The tests' certificate authority: made once by `tests/servers/pki`, kept in the cache, its root baked into the guest image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{repository, run};

/// The certificates of one run.
#[derive(Debug, Clone)]
pub struct Pki {
    dir: PathBuf,
}

/// A certificate and its key, both PEM files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The PKCS#8 key.
    pub key: PathBuf,
}

impl Pki {
    /// Opens it, making it the first time.
    pub fn open() -> Result<Self> {
        let dir = run(&mut Command::new(repository().join("tests/servers/pki")))?;
        Ok(Self { dir: dir.into() })
    }

    /// The root certificate, PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The root certificate's text.
    pub fn ca_pem(&self) -> Result<String> {
        Ok(fs::read_to_string(self.ca())?)
    }

    /// One of `verifier`, `bao`, `db`, `web`, `web-twin`: valid for NAME.rempart.test, localhost and 127.0.0.1.
    #[must_use]
    pub fn identity(&self, name: &str) -> Identity {
        Identity {
            certificate: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

//! What a command can fail with: one line for the operator, one exit code of sysexits(3).

use std::path::PathBuf;

use rempart_attest::certificate::CertificateError;
use rempart_attest::policy::PolicyError;
use rempart_attest::policy::signature::PolicySignatureError;

use crate::registry::RegistryError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be made.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration is wrong.
    #[error("{}: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, one line.
        why: String,
    },
    /// A key file does not hold what it should.
    #[error("{} does not hold {what}: restore it from the backup, or run init in a new directory", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The directory holds a Verifier already.
    #[error("{} holds a Verifier already: choose another directory", .0.display())]
    Exists(PathBuf),
    /// A trusted certificate is wrong.
    #[error("{}: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CertificateError,
    },
    /// A policy is not accepted.
    #[error("policy refused: {0}")]
    Policy(#[from] PolicyError),
    /// A policy's signature is not accepted.
    #[error("policy refused: {0}")]
    PolicySignature(#[from] PolicySignatureError),
    /// The registry failed or refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A word on the command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The Verifier's own memory is not secret.
    #[error("{0}; or set memory.degraded = \"allow\" to run in ordinary memory")]
    Memory(#[from] rempart_secretmem::Refusal),
    /// The run time cannot be started.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    /// The cryptographic provider failed.
    #[error("the cryptographic provider failed: {0}")]
    Crypto(&'static str),
}

impl Error {
    /// sysexits(3).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Policy(_) | Self::PolicySignature(_) => 65,
            Self::Read { .. } => 66,
            Self::Listen { .. } => 69,
            Self::Crypto(_) | Self::Runtime(_) => 70,
            Self::Memory(_) => 71,
            Self::Write { .. } | Self::Exists(_) => 73,
            Self::Registry(_) => 74,
            Self::Config { .. } | Self::Key { .. } | Self::Certificate { .. } | Self::Tls(_) => 78,
        }
    }
}

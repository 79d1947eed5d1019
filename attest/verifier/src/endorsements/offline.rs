//! The offline store: a directory that an operator may fill and that keeps what the vendor's service gave.
//!
//!     GENERATION/vcek/CHIP/TCB.der       a chip's key; CHIP and TCB in hex, as in the report
//!     GENERATION/vcek.pem  vlek.pem      intermediate and root, as the vendor's `cert_chain` gives them
//!     GENERATION/vcek.crl  vlek.crl      revocation list (DER)
//!
//! Nothing in it is believed for lying there: every use is verified. So a write that fails is only a warning.

use std::path::{Path, PathBuf};

use rempart_attest::tee::snp::bits::SigningKey;
use rempart_attest::tee::snp::{Generation, Tcb};
use rempart_attest::{Fixed, limits};
use tokio::io::AsyncReadExt;

use super::chip_name;

/// A chain file, bytes: two RSA-4096 certificates as PEM.
const CHAIN: usize = 2 * limits::CERTIFICATE;

/// The directory.
pub struct Offline(PathBuf);

fn line(generation: Generation) -> &'static str {
    match generation {
        Generation::Milan => "milan",
        Generation::Genoa => "genoa",
        Generation::Turin => "turin",
    }
}

fn stem(kind: SigningKey) -> &'static str {
    match kind {
        SigningKey::Vcek => "vcek",
        SigningKey::Vlek => "vlek",
    }
}

impl Offline {
    /// The directory may be made later.
    pub fn new(dir: &Path) -> Self {
        Self(dir.into())
    }

    fn vcek_path(&self, chip: &Fixed<64>, tcb: Tcb, generation: Generation) -> PathBuf {
        let dir = self.0.join(line(generation)).join("vcek");
        dir.join(chip_name(chip, generation)).join(format!("{tcb}.der"))
    }

    fn path(&self, generation: Generation, kind: SigningKey, extension: &str) -> PathBuf {
        let dir = self.0.join(line(generation));
        dir.join(format!("{}.{extension}", stem(kind)))
    }

    /// A chip's key.
    pub async fn vcek(&self, chip: &Fixed<64>, tcb: Tcb, generation: Generation) -> Option<Vec<u8>> {
        read(&self.vcek_path(chip, tcb, generation), limits::CERTIFICATE).await
    }

    /// Keeps a chip's key for ever.
    pub async fn keep_vcek(&self, chip: &Fixed<64>, tcb: Tcb, generation: Generation, der: &[u8]) {
        keep(&self.vcek_path(chip, tcb, generation), der).await;
    }

    /// Intermediate and root.
    pub async fn chain(&self, generation: Generation, kind: SigningKey) -> Option<Vec<u8>> {
        read(&self.path(generation, kind, "pem"), CHAIN).await
    }

    /// Keeps them.
    pub async fn keep_chain(&self, generation: Generation, kind: SigningKey, pem: &[u8]) {
        keep(&self.path(generation, kind, "pem"), pem).await;
    }

    /// The revocation list.
    pub async fn list(&self, generation: Generation, kind: SigningKey) -> Option<Vec<u8>> {
        read(&self.path(generation, kind, "crl"), limits::CRL).await
    }

    /// Keeps it until a newer one comes.
    pub async fn keep_list(&self, generation: Generation, kind: SigningKey, der: &[u8]) {
        keep(&self.path(generation, kind, "crl"), der).await;
    }
}

/// A file of at most `max` bytes; `None` where there is none. Anything else about it is the operator's to hear of.
pub(super) async fn read(path: &Path, max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let whole = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(max as u64 + 1).read_to_end(&mut out).await
    };
    match whole.await {
        Ok(_) if out.len() <= max => Some(out),
        Ok(_) => {
            tracing::warn!("{} is passed over: it is larger than {max} bytes", path.display());
            None
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => {
            tracing::warn!("{} is passed over: {e}", path.display());
            None
        }
    }
}

/// Writes a whole file or none.
async fn keep(path: &Path, bytes: &[u8]) {
    let written = async {
        let dir = path.parent().unwrap_or(Path::new("/"));
        tokio::fs::create_dir_all(dir).await?;
        // Two replicas may share the directory; each writes a name of its own.
        let part = path.with_extension(format!("{}.part", std::process::id()));
        tokio::fs::write(&part, bytes).await?;
        tokio::fs::rename(&part, path).await
    };
    if let Err(e) = written.await {
        tracing::warn!("{} is not kept: {e}", path.display());
    }
}

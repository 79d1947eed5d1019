//! Intel's lists and statements, from the offline store: `tdx/*.crl` (DER), `tdx/*.json` (an answer of Intel's service) each with a
//! `.pem` of the same name (the chain of its signer). Intel's service itself is not asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rempart_attest::limits;
use rempart_attest::tee::tdx::Collateral;
use rempart_attest::tee::tdx::collateral::Statement;

use super::offline::read;

/// Seconds after which the directory is read again.
const AGAIN: u64 = 60;
/// Files read, count: a statement for each kind of platform that a fleet has, and a few lists.
const FILES: usize = 256;

/// What the directory held when it was read last.
pub struct Kept {
    dir: PathBuf,
    last: Mutex<Option<(u64, Arc<Collateral>)>>,
}

impl Kept {
    /// The directory may be made later.
    pub fn new(offline: &Path) -> Self {
        Self {
            dir: offline.join("tdx"),
            last: Mutex::default(),
        }
    }

    /// What it holds.
    pub async fn current(&self, now: u64) -> Arc<Collateral> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, collateral)) = last.filter(|(at, _)| now < at + AGAIN) {
            return collateral;
        }
        let collateral = Arc::new(self.read().await);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, collateral.clone()));
        collateral
    }

    async fn read(&self) -> Collateral {
        let mut collateral = Collateral::default();
        let mut files = Vec::new();
        if let Ok(mut entries) = tokio::fs::read_dir(&self.dir).await {
            while let Ok(Some(entry)) = entries.next_entry().await {
                files.push(entry.path());
            }
        }
        files.sort();
        for path in files.iter().take(FILES) {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crl") => collateral.crls.extend(read(path, limits::CRL).await),
                Some("json") => {
                    let json = read(path, limits::TEE_COLLATERAL).await.unwrap_or_default();
                    let chain = read(&path.with_extension("pem"), 4 * limits::CERTIFICATE).await;
                    let chain = chain.unwrap_or_default();
                    let statement = Statement { json, chain };
                    if statement.json.starts_with(b"{\"enclaveIdentity\"") {
                        collateral.qe_identity = Some(statement);
                    } else {
                        collateral.tcb_infos.push(statement);
                    }
                }
                _ => {}
            }
        }
        collateral
    }
}

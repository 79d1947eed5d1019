//! TLS where the Verifier is the client (registry, vault): 1.3 only, hybrid key exchange preferred, one authority that the operator
//! names and no other.

use std::path::Path;
use std::sync::Arc;

use rempart_attest::certificate::pem_to_ders;
use rustls::{ClientConfig, RootCertStore};

use crate::error::Error;
use crate::file;

/// Trusts the certificates of a PEM file.
pub fn tls(ca: &Path) -> Result<Arc<ClientConfig>, Error> {
    let not_one = || Error::Key {
        path: ca.into(),
        what: "a PEM certificate of an authority",
    };
    let mut roots = RootCertStore::empty();
    for der in pem_to_ders(&file::read(ca)?).map_err(|_| not_one())? {
        roots.add(der.into()).map_err(|_| not_one())?;
    }
    if roots.is_empty() {
        return Err(not_one());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

//! Enrolment: shows that the attestation key lives in the TPM with its endorsement key, and keeps the certificate for it.
//!
//! The certificate is no secret: it says nothing without the key. Must never be kept for another key than the one it is for.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use rempart_attest::{Blob, api, limits, tpm::EkPublic};
use rempart_backend::https::Connection;
use rempart_device::{AkKind, AkSource};

use super::{Attempt, Attestor, Failure, failed};

/// Version of the enrolment messages.
const VERSION: u8 = 1;

impl Attestor {
    /// The certificate of this node's attestation key, from an earlier enrolment or by one now.
    pub(super) async fn certificate(&self, connection: &mut Connection) -> Result<String, Attempt> {
        match read(&self.certificate)? {
            Some(certificate) => Ok(certificate),
            None => self.enrol(connection).await,
        }
    }

    /// Forgets the certificate, so that a new one is asked for.
    pub(super) fn forget_certificate(&self) -> Result<(), Failure> {
        std::fs::remove_file(&self.certificate)
            .map_err(|error| Failure::Failed(format!("{} cannot be removed: {error}", self.certificate.display())))
    }

    async fn enrol(&self, connection: &mut Connection) -> Result<String, Attempt> {
        let keys = |tpm: &mut rempart_device::Tpm| Ok((tpm.endorsement_key()?, tpm.attestation_key()?));
        let (ek, ak) = self.tpm.run(keys).await.map_err(failed)?;
        if let Ok(public) = EkPublic::parse(&ek.public) {
            // For an operator who has to say which TPM this is: node add --ek, node approve --ek.
            tracing::info!("enrolling node {}; its EK is {}", self.node, public.fingerprint());
        }
        let request = api::EnrolRequest {
            v: VERSION,
            node: self.node.clone(),
            ek_public: Blob(ek.public),
            ek_certificate: ek.certificate.map(Blob),
            ek_chain: ek.chain.into_iter().map(Blob).collect(),
            ak_public: Blob(ak),
        };
        let made: api::EnrolResponse = connection.post(api::ENROL, &request).await?;
        let (blob, encrypted) = (made.credential_blob.0, made.encrypted_secret.0);
        let activate = move |tpm: &mut rempart_device::Tpm| tpm.activate_credential(&blob, &encrypted);
        let complete = api::EnrolCompleteRequest {
            token: made.token,
            secret: Blob(self.tpm.run(activate).await.map_err(failed)?),
        };
        let done: api::EnrolCompleteResponse = connection.post(api::ENROL_COMPLETE, &complete).await?;
        write(&self.certificate, &done.ak_certificate)?;
        tracing::info!("node {} is enrolled at {}", self.node, self.verifier.url());
        Ok(done.ak_certificate)
    }
}

/// Where the certificate of the key from `source` is kept: each source is another key.
pub(super) fn certificate_file(state: &Path, source: AkSource) -> PathBuf {
    state.join(match source {
        AkSource::Template(AkKind::EccP256) => "ak-certificate.pem".to_owned(),
        other => format!("ak-certificate-{}.pem", other.to_string().replace(':', "-")),
    })
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.len() <= limits::CERTIFICATE => Ok(Some(text)),
        Ok(_) => Err(Failure::Failed(format!(
            "{} is no certificate; remove it to enrol again",
            path.display()
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Failed(format!("{} cannot be read: {error}", path.display()))),
    }
}

/// Writes beside it first: a certificate is there whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attestation_key_has_a_certificate_of_its_own() {
        let state = Path::new("/s");
        let file = |words: &str| certificate_file(state, words.parse().expect("a source"));
        assert_eq!(file("template:ecc-p256"), state.join("ak-certificate.pem"));
        assert_eq!(
            file("template:rsa-2048"),
            state.join("ak-certificate-template-rsa-2048.pem")
        );
        assert_ne!(file("persistent:0x81010001"), file("persistent:0x81010002"));
    }
}

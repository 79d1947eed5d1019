//! The certificate authority for AK certificates: signs nothing else, ever.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};
use rempart_attest::Fixed;
use rempart_attest::ak::AIK_PURPOSE;
use rempart_attest::certificate::pem_to_ders;
use rempart_attest::tpm::{KeyKind, PublicKey};
use zeroize::Zeroizing;

use crate::clock;
use crate::error::Error;
use crate::file;

/// An AK certificate is good for so long; the node enrols again when it is refused.
const AK_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// The authority itself.
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Certificates begin earlier, because nodes' clocks may be behind.
const BACKDATE: Duration = Duration::from_secs(300);
/// X.520 serialNumber.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

/// Key and certificate.
pub struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

struct AkKey<'a>(&'a PublicKey);

impl PublicKeyData for AkKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.subject_public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.0.kind() {
            KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl Authority {
    /// From ca.pem and ca.key in the state directory.
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let (certificate, key_file) = (dir.join("ca.pem"), dir.join("ca.key"));
        let ders = pem_to_ders(&file::read(&certificate)?);
        let der = ders.ok().and_then(|mut ders| ders.pop()).ok_or(Error::Key {
            path: certificate,
            what: "a certificate",
        })?;
        let pem = Zeroizing::new(file::read_text(&key_file)?);
        let key = KeyPair::from_pem(&pem).map_err(|_| Error::Key {
            path: key_file,
            what: "a P-256 key",
        })?;
        Ok(Self {
            der,
            issuer: Issuer::new(authority_params(), key),
        })
    }

    /// Makes ca.pem and ca.key.
    pub fn create(dir: &Path) -> Result<(), Error> {
        let key = KeyPair::generate().map_err(|_| Error::Crypto("no P-256 key"))?;
        let mut params = authority_params();
        valid_for(&mut params, CA_LIFE);
        let certificate = params.self_signed(&key).map_err(|_| Error::Crypto("no certificate"))?;
        file::create(
            &dir.join("ca.key"),
            0o600,
            Zeroizing::new(key.serialize_pem()).as_bytes(),
        )?;
        file::create(&dir.join("ca.pem"), 0o644, certificate.pem().as_bytes())
    }

    /// Its certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// A certificate (PEM) for the key `ak` of `node`, activated with the EK `ek`.
    pub fn certify(&self, node: &str, ek: &Fixed<32>, ak: &PublicKey) -> Result<String, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, node);
        params
            .distinguished_name
            .push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), ek.to_string());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(AIK_PURPOSE.to_vec())];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, AK_LIFE);
        let certificate = params
            .signed_by(&AkKey(ak), &self.issuer)
            .map_err(|_| Error::Crypto("no certificate"))?;
        Ok(certificate.pem())
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Rempart AK authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn valid_for(params: &mut CertificateParams, life: Duration) {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(clock::now());
    params.not_before = now - BACKDATE;
    params.not_after = now + life;
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use rempart_attest::ak;
    use rempart_attest::certificate::CertificateError;

    use super::*;

    fn authority() -> Authority {
        let dir = tempfile::tempdir().expect("dir");
        Authority::create(dir.path()).expect("made");
        Authority::load(dir.path()).expect("loads")
    }

    fn point() -> PublicKey {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        PublicKey::ecc(KeyKind::P256, x, y).expect("point")
    }

    #[test]
    fn its_certificate_verifies_for_its_node_only_and_carries_key_and_ek() {
        let (authority, point, ek) = (authority(), point(), Fixed([7; 32]));
        let pem = authority.certify("demo-1", &ek, &point).expect("certified");
        let verified = ak::verify(&pem, authority.der(), "demo-1", clock::now()).expect("verifies");
        assert_eq!((verified.key(), verified.ek()), (&point, &ek));
        let other = ak::verify(&pem, authority.der(), "demo-2", clock::now());
        assert_eq!(other, Err(CertificateError::Subject { found: "demo-1".into() }));
    }

    #[test]
    fn another_authority_of_the_same_name_does_not_verify_it() {
        let pem = authority()
            .certify("demo-1", &Fixed([7; 32]), &point())
            .expect("certified");
        let refused = ak::verify(&pem, authority().der(), "demo-1", clock::now());
        assert!(matches!(refused, Err(CertificateError::Signature { .. })));
    }

    #[test]
    fn it_expires() {
        let authority = authority();
        let pem = authority
            .certify("demo-1", &Fixed([7; 32]), &point())
            .expect("certified");
        let later = clock::now() + AK_LIFE.as_secs() + 1;
        assert!(matches!(
            ak::verify(&pem, authority.der(), "demo-1", later),
            Err(CertificateError::NotNow { .. })
        ));
    }

    #[test]
    fn the_authoritys_own_certificate_is_no_ak_certificate() {
        let dir = tempfile::tempdir().expect("dir");
        Authority::create(dir.path()).expect("made");
        let pem = std::fs::read_to_string(dir.path().join("ca.pem")).expect("pem");
        let authority = Authority::load(dir.path()).expect("loads");
        let refused = ak::verify(&pem, authority.der(), "Rempart AK authority", clock::now());
        assert_eq!(refused, Err(CertificateError::Purpose("tcg-kp-AIKCertificate")));
    }
}

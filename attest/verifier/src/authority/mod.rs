//! The two certificate authorities. One certifies AKs and signs nothing else, ever; the other certifies TLS keys that live in a TPM,
//! for minutes, as clients. They are two so that neither's certificates can be taken for the other's, whatever a relying party checks.

use std::path::Path;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rempart_attest::Fixed;
use rempart_attest::ak::AIK_PURPOSE;
use rempart_attest::certificate::pem_to_ders;
use rempart_attest::tpm::{KeyKind, PublicKey};
use zeroize::Zeroizing;

use crate::clock;
use crate::error::Error;
use crate::file;
use crate::keys::random;

/// An AK certificate is good for so long; the node enrols again when it is refused.
const AK_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// A client certificate: until after the next attestation, which brings the next one.
pub const CLIENT_LIFE: Duration = Duration::from_secs(15 * 60);
/// The authorities themselves.
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Certificates begin earlier, because nodes' clocks may be behind.
const BACKDATE: Duration = Duration::from_secs(300);
/// X.520 serialNumber.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For attestation keys: ca.pem, ca.key.
    Ak,
    /// For TLS keys: client-ca.pem, client-ca.key.
    Client,
}

/// Key and certificate.
pub struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Kind {
    fn stem(self) -> &'static str {
        match self {
            Self::Ak => "ca",
            Self::Client => "client-ca",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ak => "Rempart AK authority",
            Self::Client => "Rempart client authority",
        }
    }
}

/// A key whose private half is elsewhere.
struct Foreign<'a> {
    key: &'a PublicKey,
}

impl PublicKeyData for Foreign<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.subject_public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.key.kind() {
            KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::Rsa2048 | KeyKind::Rsa3072 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl Authority {
    /// From its two files in the state directory.
    pub fn load(dir: &Path, kind: Kind) -> Result<Self, Error> {
        let stem = kind.stem();
        let (certificate, key_file) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
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
            issuer: Issuer::new(authority_params(kind), key),
        })
    }

    /// Makes its two files.
    pub fn create(dir: &Path, kind: Kind) -> Result<(), Error> {
        let stem = kind.stem();
        let key = KeyPair::generate().map_err(|_| Error::Crypto("no P-256 key"))?;
        let mut params = authority_params(kind);
        valid_for(&mut params, CA_LIFE);
        let certificate = params.self_signed(&key).map_err(|_| Error::Crypto("no certificate"))?;
        file::create(
            &dir.join(format!("{stem}.key")),
            0o600,
            Zeroizing::new(key.serialize_pem()).as_bytes(),
        )?;
        file::create(&dir.join(format!("{stem}.pem")), 0o644, certificate.pem().as_bytes())
    }

    /// Its certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// A certificate (PEM) for the AK `key` of `node`, activated with the EK `ek`.
    pub fn certify_ak(&self, node: &str, ek: &Fixed<32>, key: &PublicKey) -> Result<String, Error> {
        let mut params = leaf(node);
        params
            .distinguished_name
            .push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), ek.to_string());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(AIK_PURPOSE.to_vec())];
        valid_for(&mut params, AK_LIFE);
        self.sign(params, key)
    }

    /// A client certificate (PEM) for the TLS `key` in the TPM of `node`. Its names are URIs, so that a vault can demand
    /// `rempart:role:ROLE`.
    pub fn certify_client(&self, node: &str, roles: &[String], key: &PublicKey) -> Result<String, Error> {
        let uri = |text: String| {
            Ia5String::try_from(text)
                .map(SanType::URI)
                .map_err(|_| Error::Crypto("a name that is no URI"))
        };
        let mut params = leaf(node);
        params.subject_alt_names = std::iter::once(format!("rempart:node:{node}"))
            .chain(roles.iter().map(|role| format!("rempart:role:{role}")))
            .map(uri)
            .collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from_slice(&serial()?));
        valid_for(&mut params, CLIENT_LIFE);
        self.sign(params, key)
    }

    fn sign(&self, params: CertificateParams, key: &PublicKey) -> Result<String, Error> {
        let certificate = params
            .signed_by(&Foreign { key }, &self.issuer)
            .map_err(|_| Error::Crypto("no certificate"))?;
        Ok(certificate.pem())
    }
}

/// 127 random bits: RFC 5280, 4.1.2.2 wants a positive number of at most 20 bytes.
fn serial() -> Result<[u8; 16], Error> {
    let mut serial = *random::<16>()?;
    serial[0] &= 0x7f;
    Ok(serial)
}

fn leaf(node: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority_params(kind: Kind) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, kind.name());
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
mod cert_auth;

#[cfg(test)]
mod tests {
    use rempart_attest::ak;
    use rempart_attest::certificate::CertificateError;
    use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

    use super::*;

    fn authority(kind: Kind) -> Authority {
        let dir = tempfile::tempdir().expect("dir");
        Authority::create(dir.path(), kind).expect("made");
        Authority::load(dir.path(), kind).expect("loads")
    }

    fn key() -> PublicKey {
        let spki = KeyPair::generate().expect("key").subject_public_key_info();
        PublicKey::from_spki_der(&spki).expect("P-256")
    }

    fn ak_certificate(authority: &Authority) -> String {
        authority
            .certify_ak("demo-1", &Fixed([7; 32]), &key())
            .expect("certified")
    }

    #[test]
    fn an_ak_certificate_verifies_for_its_node_only_and_carries_key_and_ek() {
        let (authority, key, ek) = (authority(Kind::Ak), key(), Fixed([7; 32]));
        let pem = authority.certify_ak("demo-1", &ek, &key).expect("certified");
        let verified = ak::verify(&pem, authority.der(), "demo-1", clock::now()).expect("verifies");
        assert_eq!(verified.key_id(), &rempart_attest::bytes::sha256(&key.spki()));
        assert_eq!((verified.ek(), ak::key_id(&pem).as_ref()), (&ek, Ok(verified.key_id())));
        let other = ak::verify(&pem, authority.der(), "demo-2", clock::now());
        assert_eq!(other, Err(CertificateError::Subject { found: "demo-1".into() }));
    }

    #[test]
    fn another_authority_of_the_same_name_does_not_verify_it() {
        let pem = ak_certificate(&authority(Kind::Ak));
        let refused = ak::verify(&pem, authority(Kind::Ak).der(), "demo-1", clock::now());
        assert!(matches!(refused, Err(CertificateError::Signature { .. })));
    }

    #[test]
    fn it_expires() {
        let authority = authority(Kind::Ak);
        let pem = ak_certificate(&authority);
        let later = clock::now() + AK_LIFE.as_secs() + 1;
        assert!(matches!(
            ak::verify(&pem, authority.der(), "demo-1", later),
            Err(CertificateError::NotNow { .. })
        ));
    }

    #[test]
    fn the_authoritys_own_certificate_is_no_ak_certificate() {
        let dir = tempfile::tempdir().expect("dir");
        Authority::create(dir.path(), Kind::Ak).expect("made");
        let pem = std::fs::read_to_string(dir.path().join("ca.pem")).expect("pem");
        let authority = Authority::load(dir.path(), Kind::Ak).expect("loads");
        let refused = ak::verify(&pem, authority.der(), "Rempart AK authority", clock::now());
        assert_eq!(refused, Err(CertificateError::Purpose("tcg-kp-AIKCertificate")));
    }

    #[test]
    fn a_client_certificate_names_node_and_roles_lives_for_minutes_and_is_no_ak_certificate() {
        let authority = authority(Kind::Client);
        let roles = ["billing".to_owned(), "web".to_owned()];
        let pem = authority.certify_client("demo-1", &roles, &key()).expect("certified");
        let der = pem_to_ders(pem.as_bytes()).expect("pem").remove(0);
        let (_, certificate) = X509Certificate::from_der(&der).expect("certificate");
        let names = certificate
            .extensions()
            .iter()
            .find_map(|e| match e.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => Some(format!("{:?}", names.general_names)),
                _ => None,
            });
        assert_eq!(
            names.as_deref(),
            Some("[URI(\"rempart:node:demo-1\"), URI(\"rempart:role:billing\"), URI(\"rempart:role:web\")]")
        );
        let usage = certificate
            .extended_key_usage()
            .expect("reads")
            .expect("is there")
            .value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty());
        let life = certificate.validity().not_after.timestamp() - i64::try_from(clock::now()).expect("now");
        assert!((1..=900).contains(&life), "{life} s");
        assert!(ak::verify(&pem, authority.der(), "demo-1", clock::now()).is_err());
    }
}

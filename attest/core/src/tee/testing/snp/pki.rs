//! Roots, intermediates and revocation lists of an own AMD.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PSS_SHA384, RsaKeyPair};

use super::{ASK_SERIAL, VEK_SERIAL};
use crate::tee::Roots;
use crate::tee::snp::Generation;
use crate::tee::snp::bits::SigningKey;
use crate::tee::testing::der::{self, Certificate, Signer};
use crate::tee::testing::{DAY, NOW};

struct Rsa(RsaKeyPair);

impl Rsa {
    fn generate() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa4096).expect("key"))
    }

    fn spki(&self) -> Vec<u8> {
        self.0.public_key().as_der().expect("key").as_ref().to_vec()
    }
}

impl Signer for Rsa {
    fn algorithm(&self) -> Vec<u8> {
        let sha384 = || der::sequence(&[der::oid("2.16.840.1.101.3.4.2.2"), der::null()]);
        let mgf1 = der::sequence(&[der::oid("1.2.840.113549.1.1.8"), sha384()]);
        let parameters = der::sequence(&[
            der::explicit(0, &sha384()),
            der::explicit(1, &mgf1),
            der::explicit(2, &der::integer(48)),
        ]);
        der::sequence(&[der::oid("1.2.840.113549.1.1.10"), parameters])
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(&RSA_PSS_SHA384, &SystemRandom::new(), message, &mut signature)
            .expect("signs");
        signature
    }
}

/// Root and intermediates of one generation. RSA-4096 keys are slow to make: two serve all generations of a process.
pub struct Pki {
    /// Its generation.
    pub generation: Generation,
    /// Root (DER).
    pub ark: Vec<u8>,
    /// Intermediate of VCEKs (DER).
    pub ask: Vec<u8>,
    /// Intermediate of VLEKs (DER).
    pub asvk: Vec<u8>,
    keys: Arc<(Rsa, Rsa)>,
}

static KEYS: LazyLock<Arc<(Rsa, Rsa)>> = LazyLock::new(|| Arc::new((Rsa::generate(), Rsa::generate())));
static STRANGE_KEYS: LazyLock<Arc<(Rsa, Rsa)>> = LazyLock::new(|| Arc::new((Rsa::generate(), Rsa::generate())));
static SHARED: LazyLock<Pki> = LazyLock::new(|| Pki::new(Generation::Milan));

impl Pki {
    /// The Milan one of this process.
    pub fn shared() -> &'static Self {
        &SHARED
    }

    /// One for a generation. All generations share keys, so that a wrong root can be told by nothing but what it vouches for.
    pub fn new(generation: Generation) -> Self {
        Self::with_keys(generation, KEYS.clone())
    }

    /// One that nobody has configured, with names as they should be.
    pub fn stranger(generation: Generation) -> Self {
        Self::with_keys(generation, STRANGE_KEYS.clone())
    }

    fn with_keys(generation: Generation, keys: Arc<(Rsa, Rsa)>) -> Self {
        let line = generation.name();
        let root_name = format!("ARK-{line}");
        let authority = |subject: String, key: &Rsa, serial: u64, lists: bool| {
            Certificate {
                serial,
                issuer: &root_name,
                subject: &subject,
                not_before: NOW - 5000 * DAY,
                not_after: NOW + 5000 * DAY,
                spki: key.spki(),
                extensions: der::authority(lists),
            }
            .signed_by(&keys.0)
        };
        Self {
            generation,
            ark: authority(root_name.clone(), &keys.0, 0x01_0000, true),
            ask: authority(format!("SEV-{line}"), &keys.1, ASK_SERIAL, false),
            asvk: authority(format!("SEV-VLEK-{line}"), &keys.1, ASK_SERIAL + 0x100, false),
            keys,
        }
    }

    /// Roots that name this one.
    pub fn roots(&self) -> Roots {
        Roots::with_extra(std::slice::from_ref(&self.ark)).expect("an own root")
    }

    /// The chain file that the vendor's service gives: intermediate and root, PEM.
    pub fn chain_pem(&self, key: SigningKey) -> String {
        let middle = match key {
            SigningKey::Vcek => &self.ask,
            SigningKey::Vlek => &self.asvk,
        };
        der::pem(middle) + &der::pem(&self.ark)
    }

    /// A revocation list that counts around `now`.
    pub fn crl(&self, now: u64, serials: &[u64]) -> Vec<u8> {
        self.crl_between(now - DAY, now + 30 * DAY, serials)
    }

    /// A revocation list with times of its own.
    pub fn crl_between(&self, from: u64, until: u64, serials: &[u64]) -> Vec<u8> {
        der::crl(&self.keys.0, &format!("ARK-{}", self.generation), from, until, serials)
    }

    pub(super) fn vek(&self, kind: SigningKey, spki: Vec<u8>, extensions: Vec<Vec<u8>>) -> Vec<u8> {
        let line = self.generation.name();
        let (subject, issuer) = match kind {
            SigningKey::Vcek => ("SEV-VCEK", format!("SEV-{line}")),
            SigningKey::Vlek => ("SEV-VLEK", format!("SEV-VLEK-{line}")),
        };
        Certificate {
            serial: VEK_SERIAL,
            issuer: &issuer,
            subject,
            not_before: NOW - 4000 * DAY,
            not_after: NOW + 4000 * DAY,
            spki,
            extensions,
        }
        .signed_by(&self.keys.1)
    }
}

//! An AMD of one's own: roots of each generation, intermediates, VCEKs, VLEKs, revocation lists, and reports.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use super::der;
use crate::bytes::Fixed;
use crate::tee::snp::bits::SigningKey;
use crate::tee::snp::chain::{self, Certificates};
use crate::tee::snp::table::{self, Table};
use crate::tee::snp::{Generation, Levels, Minimum, Policy, VerifiedVek};
use crate::tee::{Endorsements, Roots, Vek};

mod draft;
mod pki;

pub use draft::Draft;
pub use pki::Pki;

/// REPORT_DATA of a draft.
pub const REPORT_DATA: Fixed<64> = Fixed([0xd5; 64]);
/// Measurement of a draft.
pub const MEASUREMENT: Fixed<48> = Fixed([0x33; 48]);
/// Serial of the intermediates, and of the keys' certificates (AMD gives those 0).
pub const ASK_SERIAL: u64 = 0x01_0001;
/// Serial of the keys' certificates, other than AMD's so that a list can name one.
pub const VEK_SERIAL: u64 = 0x77;
/// Patch levels of a draft.
pub const LEVELS: Levels = Levels {
    fmc: 0,
    bootloader: 4,
    tee: 1,
    snp: 24,
    microcode: 219,
};

/// What AMD writes into a key's certificate.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Kind of key.
    pub kind: SigningKey,
    /// productName.
    pub product: String,
    /// Patch levels.
    pub levels: Levels,
    /// hwID.
    pub chip: Option<Vec<u8>>,
    /// cspID.
    pub provider: Option<String>,
}

impl Claims {
    fn extensions(&self, generation: Generation) -> Vec<Vec<u8>> {
        let arc = |arc: &str, value: &[u8]| der::extension(&format!("1.3.6.1.4.1.3704.1.{arc}"), false, value);
        let level = |number: &str, value: u8| arc(&format!("3.{number}"), &der::integer(value.into()));
        let levels = self.levels;
        let mut out = vec![
            arc("1", &der::integer(1)),
            arc("2", &der::ia5(&self.product)),
            level("1", levels.bootloader),
            level("2", levels.tee),
            level("3", levels.snp),
            level("8", levels.microcode),
        ];
        if generation == Generation::Turin {
            out.push(level("9", levels.fmc));
        }
        out.extend(self.chip.as_ref().map(|id| arc("4", id)));
        out.extend(self.provider.as_ref().map(|name| arc("5", &der::ia5(name))));
        out
    }
}

/// A chip with its key, or a provider's key in it.
pub struct Chip {
    pki: Arc<Pki>,
    key: EcdsaKeyPair,
    /// CHIP_ID as in a report.
    pub chip_id: Fixed<64>,
    /// What AMD says of the key.
    pub claims: Claims,
    /// VCEK or VLEK (DER).
    pub certificate: Vec<u8>,
}

impl Chip {
    /// One with a VCEK.
    pub fn new(generation: Generation) -> Self {
        Self::endorsed(Arc::new(Pki::new(generation)), |_| {})
    }

    /// One with a VLEK of `provider`.
    pub fn of_provider(generation: Generation, provider: &str) -> Self {
        Self::endorsed(Arc::new(Pki::new(generation)), |claims| {
            claims.kind = SigningKey::Vlek;
            claims.chip = None;
            claims.provider = Some(provider.into());
        })
    }

    /// One whose certificate is as `edit` makes it.
    pub fn endorsed(pki: Arc<Pki>, edit: impl FnOnce(&mut Claims)) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("key");
        let mut chip_id = Fixed::ZERO;
        let len = pki.generation.chip_id_len();
        // Out of the key, so that each chip has an id of its own.
        chip_id.0[..len].copy_from_slice(&key.public_key().as_ref()[1..=len]);
        let mut claims = Claims {
            kind: SigningKey::Vcek,
            product: format!("{}-B0", pki.generation),
            levels: LEVELS,
            chip: Some(chip_id.0[..len].to_vec()),
            provider: None,
        };
        edit(&mut claims);
        let spki = key.public_key().as_der().expect("key").as_ref().to_vec();
        let certificate = pki.vek(claims.kind, spki, claims.extensions(pki.generation));
        Self {
            pki,
            key,
            chip_id,
            claims,
            certificate,
        }
    }

    /// Who endorsed it.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Its chain, with a revocation list that names nothing.
    pub fn verified(&self, now: u64) -> Result<VerifiedVek, chain::ChainError> {
        self.verified_with(Some(&self.pki.crl(now, &[])), &self.pki.roots(), now)
    }

    /// Its chain, with another revocation list or other roots.
    pub fn verified_with(&self, crl: Option<&[u8]>, roots: &Roots, now: u64) -> Result<VerifiedVek, chain::ChainError> {
        chain::verify(&self.certificates(crl), roots, now)
    }

    /// Its certificates.
    pub fn certificates<'a>(&'a self, crl: Option<&'a [u8]>) -> Certificates<'a> {
        Certificates {
            vek: &self.certificate,
            ask: match self.claims.kind {
                SigningKey::Vcek => &self.pki.ask,
                SigningKey::Vlek => &self.pki.asvk,
            },
            ark: &self.pki.ark,
            crl,
        }
    }

    /// What a Verifier knows of it at `now`.
    pub fn endorsements(&self, now: u64) -> Endorsements {
        let vek = self.verified(now).expect("an own chain counts");
        Endorsements {
            snp: Vek::Verified(Arc::new(vek)),
            ..Endorsements::default()
        }
    }

    /// The table that its host supplies.
    pub fn table(&self) -> Vec<u8> {
        let own = self.certificates(None);
        let (vcek, vlek) = match self.claims.kind {
            SigningKey::Vcek => (Some(own.vek), None),
            SigningKey::Vlek => (None, Some(own.vek)),
        };
        table::build(&Table {
            vcek,
            vlek,
            ask: Some(own.ask),
            ark: Some(own.ark),
            crl: None,
        })
    }

    /// A signed report of this chip over `report_data`, everything else as [`Draft::default`] has it.
    pub fn report(&self, report_data: &Fixed<64>) -> Vec<u8> {
        self.report_with(|draft| draft.report_data = *report_data)
    }

    /// A signed report that `edit` has changed before it was signed.
    pub fn report_with(&self, edit: impl FnOnce(&mut Draft)) -> Vec<u8> {
        let mut draft = Draft::of(self);
        edit(&mut draft);
        let mut bytes = draft.unsigned();
        self.sign(&mut bytes);
        bytes
    }

    /// Signs the bytes as they are.
    pub fn sign(&self, bytes: &mut [u8]) {
        let raw = self.key.sign(&SystemRandom::new(), &bytes[..0x2a0]).expect("signs");
        for (at, scalar) in [0x2a0, 0x2e8].into_iter().zip(raw.as_ref().chunks(48)) {
            let little: Vec<_> = scalar.iter().rev().copied().collect();
            bytes[at..at + 48].copy_from_slice(&little);
        }
    }
}

/// A policy that a draft of this generation fulfils, test root and all.
pub fn policy(generation: Generation) -> Policy {
    let minimum = BTreeMap::from([(generation, Minimum::all(LEVELS))]);
    Policy {
        allow_smt: true,
        accept_file_provider: true,
        ..Policy::new(vec![MEASUREMENT], minimum)
    }
}

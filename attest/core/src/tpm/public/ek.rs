//! The endorsement key: a restricted decryption key of exactly one of the templates of the TCG EK Credential Profile 2.5 (B.3 and
//! B.4). The policy matters as much as the attributes: under another one than PolicyA or PolicyB, somebody else than the owner of
//! the endorsement hierarchy could activate credentials.

use super::super::{Hash, KeyKind, Name};
use super::area::{self, AreaKey};
use super::attribute::*;
use super::{PublicError, demand_attributes};
use crate::bytes::{Fixed, sha256};

const KEY: &str = "EK";
/// Templates in the low range: used by policy alone.
const LOW: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT;
/// Templates in the high range: used by the EK's own authorisation too.
const HIGH: u32 = LOW | USER_WITH_AUTH;

/// PolicyA: PolicySecret(TPM_RH_ENDORSEMENT).
const POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7,
    0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// PolicyB: PolicyA, or what the owner of NV index 0x01c07f01 (SHA-256) or 0x01c07f02 (SHA-384) wrote there.
const POLICY_B_SHA256: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3, 0xa3, 0x85, 0xd4,
    0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];
const POLICY_B_SHA384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a, 0x07, 0x41, 0x48,
    0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47, 0xba, 0x09, 0x69, 0x96,
    0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];

/// One template of the profile.
struct Template {
    kind: KeyKind,
    name_alg: Hash,
    policy: &'static [u8],
    attributes: u32,
    aes_bits: u16,
}

const fn template(kind: KeyKind, name_alg: Hash, policy: &'static [u8], attributes: u32, aes_bits: u16) -> Template {
    Template {
        kind,
        name_alg,
        policy,
        attributes,
        aes_bits,
    }
}

static TEMPLATES: [Template; 6] = [
    // L-1 and L-2
    template(KeyKind::Rsa2048, Hash::Sha256, &POLICY_A_SHA256, LOW, 128),
    template(KeyKind::P256, Hash::Sha256, &POLICY_A_SHA256, LOW, 128),
    // H-1, H-2, H-3 and H-6
    template(KeyKind::Rsa2048, Hash::Sha256, &POLICY_B_SHA256, HIGH, 128),
    template(KeyKind::P256, Hash::Sha256, &POLICY_B_SHA256, HIGH, 128),
    template(KeyKind::P384, Hash::Sha384, &POLICY_B_SHA384, HIGH, 256),
    template(KeyKind::Rsa3072, Hash::Sha384, &POLICY_B_SHA384, HIGH, 256),
];

/// An accepted endorsement key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkPublic {
    kind: KeyKind,
    pub(crate) name_alg: Hash,
    pub(crate) aes_bits: u16,
    pub(crate) key: AreaKey,
    public: super::super::PublicKey,
    name: Name,
    fingerprint: Fixed<32>,
}

impl EkPublic {
    /// Reads a TPM2B_PUBLIC and demands one of the profile's templates.
    pub fn parse(tpm2b: &[u8]) -> Result<Self, PublicError> {
        let area = area::parse(tpm2b).map_err(|source| PublicError::Wire { key: KEY, source })?;
        let kind = area.public.kind();
        let refused = |with| PublicError::Kind { key: KEY, kind, with };
        let mut of_kind = TEMPLATES
            .iter()
            .filter(|t| t.kind == kind && t.name_alg == area.name_alg)
            .peekable();
        if of_kind.peek().is_none() {
            return Err(refused("with a name algorithm that no template has"));
        }
        let template = of_kind.find(|t| t.policy == area.policy).ok_or(PublicError::EkPolicy)?;
        demand_attributes(KEY, area.attributes, template.attributes, !template.attributes)?;
        if area.symmetric != Some(template.aes_bits) {
            return Err(refused("with another symmetric algorithm than its template"));
        }
        if area.scheme.is_some() {
            return Err(refused("with a signing scheme"));
        }
        Ok(Self {
            kind,
            name_alg: area.name_alg,
            aes_bits: template.aes_bits,
            key: area.key,
            public: area.public,
            name: area.name,
            fingerprint: sha256(&tpm2b[2..]),
        })
    }

    /// Its kind.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Its Name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// SHA-256 of its public area: how the registry knows it.
    pub fn fingerprint(&self) -> Fixed<32> {
        self.fingerprint
    }

    /// The key as a certificate holds it.
    pub(crate) fn public(&self) -> &super::super::PublicKey {
        &self.public
    }
}

/// TPM2B_PUBLIC of an L-1 EK with the given modulus: what a node's TPM would give for it.
pub fn default_ek_template(modulus: &[u8]) -> Vec<u8> {
    let key = AreaKey::Rsa {
        modulus: modulus.to_vec(),
        exponent: 65537,
    };
    build(&TEMPLATES[0], &key)
}

/// TPM2B_PUBLIC of an EK of the first template of that kind: L-2 for P-256, H-3 for P-384.
#[cfg(any(test, feature = "testing"))]
pub fn ecc_ek_template(x: &[u8], y: &[u8]) -> Vec<u8> {
    let kind = if x.len() == 48 { KeyKind::P384 } else { KeyKind::P256 };
    let template = TEMPLATES.iter().find(|t| t.kind == kind).expect("both curves have one");
    let key = AreaKey::Ecc {
        x: x.to_vec(),
        y: y.to_vec(),
    };
    build(template, &key)
}

fn build(template: &Template, key: &AreaKey) -> Vec<u8> {
    area::Build {
        name_alg: template.name_alg,
        attributes: template.attributes,
        policy: template.policy,
        symmetric: Some(template.aes_bits),
        scheme: None,
        key,
    }
    .tpm2b()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: KeyKind) -> AreaKey {
        match kind {
            KeyKind::Rsa2048 | KeyKind::Rsa3072 => AreaKey::Rsa {
                modulus: vec![0xa5; kind.len()],
                exponent: 65537,
            },
            KeyKind::P256 | KeyKind::P384 => AreaKey::Ecc {
                x: vec![1; kind.len()],
                y: vec![2; kind.len()],
            },
        }
    }

    fn changed<'a>(template: &'a Template, change: impl FnOnce(&mut area::Build<'a>)) -> Result<EkPublic, PublicError> {
        let key = Box::leak(Box::new(key(template.kind)));
        let mut build = area::Build {
            name_alg: template.name_alg,
            attributes: template.attributes,
            policy: template.policy,
            symmetric: Some(template.aes_bits),
            scheme: None,
            key,
        };
        change(&mut build);
        EkPublic::parse(&build.tpm2b())
    }

    /// The policies, computed by Part 3's rules for the policy commands from nothing but handles and attributes.
    fn policies(hash: Hash, index: u32) -> (Vec<u8>, Vec<u8>) {
        let digest = |parts: &[&[u8]]| hash.digest(parts).as_ref().to_vec();
        let zeros = vec![0; hash.len()];
        // TPM2_PolicySecret by TPM_RH_ENDORSEMENT, without a policyRef.
        let secret = digest(&[&zeros, &0x151u32.to_be_bytes(), &0x4000_000bu32.to_be_bytes()]);
        let a = digest(&[&secret, b""]);
        // TPM2_PolicyAuthorizeNV: the index's Name covers its public area, with PolicyA as its own policy.
        let size = u16::try_from(hash.len()).expect("short");
        let index = digest(&[
            &index.to_be_bytes(),
            &hash.alg().to_be_bytes(),
            &0x220f_1008u32.to_be_bytes(),
            &size.to_be_bytes(),
            &a,
            &(size + 2).to_be_bytes(),
        ]);
        let c = digest(&[&zeros, &0x192u32.to_be_bytes(), &hash.alg().to_be_bytes(), &index]);
        let b = digest(&[&zeros, &0x171u32.to_be_bytes(), &a, &c]);
        (a, b)
    }

    #[test]
    fn the_policies_are_what_part_3_computes() {
        let (a, b) = policies(Hash::Sha256, 0x01c0_7f01);
        assert_eq!(
            (a.as_slice(), b.as_slice()),
            (&POLICY_A_SHA256[..], &POLICY_B_SHA256[..])
        );
        assert_eq!(policies(Hash::Sha384, 0x01c0_7f02).1, POLICY_B_SHA384);
    }

    #[test]
    fn each_template_is_accepted_and_under_another_policy_it_is_not() {
        for template in &TEMPLATES {
            let ek = changed(template, |_| {}).expect("accepted");
            assert_eq!(ek.kind(), template.kind);
            let mut policy = template.policy.to_vec();
            policy[0] ^= 1;
            assert_eq!(
                changed(template, |b| b.policy = policy.leak()),
                Err(PublicError::EkPolicy)
            );
            assert_eq!(changed(template, |b| b.policy = &[]), Err(PublicError::EkPolicy));
        }
    }

    #[test]
    fn each_changed_attribute_is_refused_by_name() {
        for template in &TEMPLATES {
            for (bit, attribute) in NAMES {
                let expected = PublicError::Attribute {
                    key: "EK",
                    attribute,
                    wanted: template.attributes & bit != 0,
                };
                assert_eq!(changed(template, |b| b.attributes ^= bit), Err(expected));
            }
        }
    }

    #[test]
    fn another_symmetric_algorithm_or_a_signing_scheme_is_refused() {
        for template in &TEMPLATES {
            for symmetric in [None, Some(192)] {
                let refused = changed(template, |b| b.symmetric = symmetric);
                assert!(matches!(refused, Err(PublicError::Kind { key: "EK", .. })));
            }
            let refused = changed(template, |b| {
                b.scheme = Some((super::super::super::alg::ECDSA, Hash::Sha256))
            });
            assert!(matches!(refused, Err(PublicError::Kind { key: "EK", .. })));
        }
    }

    #[test]
    fn an_attestation_key_is_no_endorsement_key() {
        let ek = changed(&TEMPLATES[1], |b| {
            b.attributes = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN;
        });
        assert!(ek.is_err());
        assert!(super::super::AkPublic::parse(&default_ek_template(&[0x81; 256])).is_err());
    }

    #[test]
    fn the_fingerprint_is_sha256_of_the_public_area_whatever_the_name_algorithm() {
        let tpm2b = ecc_ek_template(&[1; 48], &[2; 48]);
        let ek = EkPublic::parse(&tpm2b).expect("accepted");
        assert_eq!(ek.fingerprint(), sha256(&tpm2b[2..]));
        assert_eq!(ek.name().as_ref().len(), 50);
    }
}

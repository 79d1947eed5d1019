//! TPMT_PUBLIC of an asymmetric key (Part 2, 12.2.4). Only structure is judged here, attributes are judged by each key's own file.

use super::super::wire::{Reader, WireError, demand, padded};
use super::super::{Hash, KeyKind, Name, PublicKey, alg};

/// What an area says.
pub(crate) struct Area<'a> {
    pub name_alg: Hash,
    pub attributes: u32,
    pub policy: &'a [u8],
    /// Bits of the AES key that protects children or credentials; `None` for TPM_ALG_NULL.
    pub symmetric: Option<u16>,
    /// Signing scheme and its hash; `None` for TPM_ALG_NULL.
    pub scheme: Option<(u16, Hash)>,
    pub key: AreaKey,
    pub public: PublicKey,
    pub name: Name,
}

/// The numbers of the key, as MakeCredential needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AreaKey {
    Rsa { modulus: Vec<u8>, exponent: u32 },
    Ecc { x: Vec<u8>, y: Vec<u8> },
}

/// Reads a TPM2B_PUBLIC that fills the buffer.
pub(crate) fn parse(tpm2b: &[u8]) -> Result<Area<'_>, WireError> {
    let mut from = Reader::new(tpm2b);
    let area = from.sized("TPM2B_PUBLIC")?;
    from.end()?;
    let mut from = Reader::new(area);
    let kind = from.u16("type")?;
    let name_alg = Hash::demand("nameAlg", from.u16("nameAlg")?)?;
    let attributes = from.u32("objectAttributes")?;
    let policy = from.sized("authPolicy")?;
    let symmetric = symmetric(&mut from)?;
    let scheme = scheme(&mut from)?;
    let (key, public) = match kind {
        alg::RSA => rsa(&mut from)?,
        alg::ECC => ecc(&mut from)?,
        found => return Err(value("type", alg::ECC, found)),
    };
    from.end()?;
    Ok(Area {
        name_alg,
        attributes,
        policy,
        symmetric,
        scheme,
        key,
        public,
        name: Name::of(name_alg, area),
    })
}

fn value(what: &'static str, expected: u16, found: u16) -> WireError {
    WireError::Value {
        what,
        expected: expected.into(),
        found: found.into(),
    }
}

/// TPMT_SYM_DEF_OBJECT (Part 2, 11.1.7).
fn symmetric(from: &mut Reader<'_>) -> Result<Option<u16>, WireError> {
    match from.u16("symmetric")? {
        alg::NULL => Ok(None),
        alg::AES => {
            let bits = from.u16("symmetric keyBits")?;
            demand("symmetric mode", from.u16("symmetric mode")?, alg::CFB)?;
            Ok(Some(bits))
        }
        found => Err(value("symmetric", alg::AES, found)),
    }
}

/// TPMT_RSA_SCHEME and TPMT_ECC_SCHEME (Part 2, 11.2).
fn scheme(from: &mut Reader<'_>) -> Result<Option<(u16, Hash)>, WireError> {
    match from.u16("scheme")? {
        alg::NULL => Ok(None),
        scheme @ (alg::RSASSA | alg::RSAPSS | alg::ECDSA) => {
            Ok(Some((scheme, Hash::demand("scheme hash", from.u16("scheme hash")?)?)))
        }
        found => Err(value("scheme", alg::ECDSA, found)),
    }
}

fn rsa(from: &mut Reader<'_>) -> Result<(AreaKey, PublicKey), WireError> {
    let bits = from.u16("keyBits")?;
    let exponent = match from.u32("exponent")? {
        0 => 65537, // Part 2, 12.2.3.5: zero stands for the default.
        exponent => exponent,
    };
    let modulus = from.sized("modulus")?;
    demand("modulus size", modulus.len() as u64 * 8, bits)?;
    let public = PublicKey::rsa(modulus, exponent).ok_or(value("keyBits", 2048, bits))?;
    let key = AreaKey::Rsa {
        modulus: modulus.to_vec(),
        exponent,
    };
    Ok((key, public))
}

fn ecc(from: &mut Reader<'_>) -> Result<(AreaKey, PublicKey), WireError> {
    let kind = match from.u16("curveID")? {
        alg::P256 => KeyKind::P256,
        alg::P384 => KeyKind::P384,
        found => return Err(value("curveID", alg::P256, found)),
    };
    demand("kdf", from.u16("kdf")?, alg::NULL)?;
    let x = padded(from.sized("x")?, kind.len(), "x")?;
    let y = padded(from.sized("y")?, kind.len(), "y")?;
    let public = PublicKey::ecc(kind, &x, &y).expect("both coordinates were padded to the curve's length");
    Ok((AreaKey::Ecc { x, y }, public))
}

/// What an area is made of, for tests and templates.
pub(crate) struct Build<'a> {
    pub name_alg: Hash,
    pub attributes: u32,
    pub policy: &'a [u8],
    pub symmetric: Option<u16>,
    pub scheme: Option<(u16, Hash)>,
    pub key: &'a AreaKey,
}

impl Build<'_> {
    /// TPM2B_PUBLIC.
    pub(crate) fn tpm2b(&self) -> Vec<u8> {
        use super::super::wire::put_sized;
        let mut area = Vec::new();
        let word = |area: &mut Vec<u8>, word: u16| area.extend_from_slice(&word.to_be_bytes());
        let kind = match self.key {
            AreaKey::Rsa { .. } => alg::RSA,
            AreaKey::Ecc { .. } => alg::ECC,
        };
        word(&mut area, kind);
        word(&mut area, self.name_alg.alg());
        area.extend_from_slice(&self.attributes.to_be_bytes());
        put_sized(&mut area, self.policy);
        match self.symmetric {
            None => word(&mut area, alg::NULL),
            Some(bits) => [alg::AES, bits, alg::CFB].into_iter().for_each(|w| word(&mut area, w)),
        }
        match self.scheme {
            None => word(&mut area, alg::NULL),
            Some((scheme, hash)) => [scheme, hash.alg()].into_iter().for_each(|w| word(&mut area, w)),
        }
        match self.key {
            AreaKey::Rsa { modulus, exponent } => {
                word(&mut area, u16::try_from(modulus.len() * 8).expect("keys are short"));
                let exponent = if *exponent == 65537 { 0 } else { *exponent };
                area.extend_from_slice(&exponent.to_be_bytes());
                put_sized(&mut area, modulus);
            }
            AreaKey::Ecc { x, y } => {
                word(&mut area, if x.len() > 32 { alg::P384 } else { alg::P256 });
                word(&mut area, alg::NULL);
                put_sized(&mut area, x);
                put_sized(&mut area, y);
            }
        }
        let mut out = Vec::new();
        put_sized(&mut out, &area);
        out
    }
}

//! The binding: one digest over the key, the challenge, the Verifier, the TLS channel and the boot, signed by every root of trust
//! (TPM2_Quote qualifyingData = its first 32 bytes; a TEE's REPORT_DATA = all 64). A result for one channel, boot or key is
//! therefore of no use in another. Canonical CBOR: RFC 8949, 4.2.1 (an array of definite-length strings has one encoding).

use ciborium::value::Value;

use crate::bytes::Fixed;

const DOMAIN: &str = "rempart-binding-v2";

/// What the roots of trust sign.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The challenge's bytes.
    pub challenge: &'a [u8],
    /// X25519 public key that the result is sealed to.
    pub ephemeral: &'a Fixed<32>,
    /// The Verifier's identifier as it gave it with the challenge.
    pub verifier: &'a str,
    /// TLS exporter of the connection (RFC 8446, 7.5), see [`crate::api::EXPORTER_LABEL`].
    pub exporter: &'a Fixed<32>,
    /// The boot.
    pub boot_id: &'a Fixed<16>,
    /// Head of the audit log.
    pub audit_head: &'a Fixed<32>,
    /// The AK ([`crate::ak::key_id`]): so a TEE's report names the TPM that it belongs with.
    pub ak: &'a Fixed<32>,
    /// What the node claims without a root of trust of its own ([`crate::evidence::GuardClaim::digest`]).
    pub claims: &'a Fixed<32>,
}

impl Binding<'_> {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let array = Value::Array(vec![
            Value::Text(DOMAIN.into()),
            Value::Bytes(self.challenge.to_vec()),
            Value::Bytes(self.ephemeral.0.to_vec()),
            Value::Text(self.verifier.into()),
            Value::Bytes(self.exporter.0.to_vec()),
            Value::Bytes(self.boot_id.0.to_vec()),
            Value::Bytes(self.audit_head.0.to_vec()),
            Value::Bytes(self.ak.0.to_vec()),
            Value::Bytes(self.claims.0.to_vec()),
        ]);
        let mut out = Vec::new();
        ciborium::into_writer(&array, &mut out).expect("a Vec takes every byte");
        out
    }

    /// SHA-512 of the encoding: a TEE's REPORT_DATA.
    pub fn digest(&self) -> Fixed<64> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, &self.encode());
        Fixed::try_from(digest.as_ref()).expect("SHA-512 has 64 bytes")
    }

    /// The first half of the digest: a TPM's qualifyingData, which takes no more than its largest hash.
    pub fn qualifying_data(&self) -> Fixed<32> {
        Fixed::try_from(&self.digest().0[..32]).expect("32 of 64 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Fixed<32> = Fixed::ZERO;
    const BOOT: Fixed<16> = Fixed([7; 16]);

    fn sample<'a>() -> Binding<'a> {
        Binding {
            challenge: b"c",
            ephemeral: &ZERO,
            verifier: "https://v",
            exporter: &ZERO,
            boot_id: &BOOT,
            audit_head: &ZERO,
            ak: &ZERO,
            claims: &ZERO,
        }
    }

    #[test]
    fn the_encoding_is_an_array_of_nine_definite_strings() {
        let encoded = sample().encode();
        assert_eq!(encoded[0], 0x89);
        assert_eq!(encoded[1], 0x72);
        assert_eq!(&encoded[2..20], DOMAIN.as_bytes());
        assert_eq!(&encoded[20..22], b"\x41c");
        assert_eq!(&encoded[22..24], &[0x58, 32]);
    }

    #[test]
    fn every_part_counts() {
        let other = Fixed([1; 32]);
        let digest = sample().digest();
        assert_ne!(
            Binding {
                challenge: b"d",
                ..sample()
            }
            .digest(),
            digest
        );
        assert_ne!(
            Binding {
                ephemeral: &other,
                ..sample()
            }
            .digest(),
            digest
        );
        assert_ne!(
            Binding {
                verifier: "https://w",
                ..sample()
            }
            .digest(),
            digest
        );
        assert_ne!(
            Binding {
                exporter: &other,
                ..sample()
            }
            .digest(),
            digest
        );
        assert_ne!(
            Binding {
                boot_id: &Fixed([8; 16]),
                ..sample()
            }
            .digest(),
            digest
        );
        assert_ne!(Binding { ak: &other, ..sample() }.digest(), digest);
        assert_ne!(
            Binding {
                claims: &other,
                ..sample()
            }
            .digest(),
            digest
        );
        assert_ne!(
            Binding {
                audit_head: &other,
                ..sample()
            }
            .digest(),
            digest
        );
    }
}

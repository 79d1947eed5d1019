//! Machines whose paravisor keeps the hardware report in an NV index of their virtual TPM (Azure, index 0x01400001). The report is
//! made by the paravisor, not for a challenge: REPORT_DATA holds the SHA-256 of a JSON text (*runtime data*), which names the
//! virtual TPM's attestation key and, where the guest wrote one, 64 bytes of the guest's choice (`user-data`).

#![expect(clippy::result_large_err, reason = "a finding is rare and goes straight into a list")]

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::bytes::{Fixed, sha256};
use crate::finding::Finding;
use crate::limits;

/// "HCLA", little endian.
const SIGNATURE: [u8; 4] = *b"HCLA";
/// Header: signature, version, size, request type, status, reserved.
const HEADER: usize = 32;
/// The place of the hardware report, as long as an SNP report.
const REPORT: usize = super::snp::LEN;
/// Size, version, report type, hash type, length of the JSON.
const DATA_HEADER: usize = 20;
/// Report type: SEV-SNP.
const SNP: u32 = 2;
/// Hash type: SHA-256.
const SHA256: u32 = 1;
/// The attestation key's name in the JSON.
const AK_NAME: &str = "HCLAkPub";

/// Why an NV index holds no report. The paravisor or the host is to blame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VtpmError {
    /// Not the layout.
    #[error("the virtual TPM's NV index does not hold a hardware report: {0}")]
    Layout(&'static str),
    /// A report of another environment: the index then holds a TDREPORT, which nobody can verify from afar.
    #[error("the virtual TPM's hardware report is of type {0}, not SEV-SNP (2)")]
    Kind(u32),
    /// Another hash than SHA-256.
    #[error("the virtual TPM's runtime data is hashed by algorithm {0}, not SHA-256 (1)")]
    Hash(u32),
}

/// The hardware report and the runtime data in an NV index's content.
pub fn split(nv: &[u8]) -> Result<(&[u8], &[u8]), VtpmError> {
    let short = || VtpmError::Layout("it is too short");
    if nv.get(..4) != Some(&SIGNATURE) {
        return Err(VtpmError::Layout("it does not begin with HCLA"));
    }
    let report = nv.get(HEADER..HEADER + REPORT).ok_or_else(short)?;
    let rest = nv.get(HEADER + REPORT..).ok_or_else(short)?;
    let (header, rest) = rest.split_at_checked(DATA_HEADER).ok_or_else(short)?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if word(8) != SNP {
        return Err(VtpmError::Kind(word(8)));
    }
    if word(12) != SHA256 {
        return Err(VtpmError::Hash(word(12)));
    }
    let len = usize::try_from(word(16)).map_err(|_| short())?;
    if len > limits::TEE_REPORT {
        return Err(VtpmError::Layout("its runtime data is too long"));
    }
    Ok((report, rest.get(..len).ok_or_else(short)?))
}

/// What of the JSON counts. It has more (the machine's configuration), which is the paravisor's word and is not judged.
#[derive(Deserialize)]
struct RuntimeData {
    keys: Vec<Jwk>,
    #[serde(rename = "user-data", default)]
    user_data: String,
}

#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

/// Whether the report was made for this challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserData {
    /// It carries the binding's digest.
    Binding,
    /// Nothing, or something of another time.
    Other,
}

/// REPORT_DATA commits to the runtime data, and the runtime data to the AK.
pub(crate) fn check(
    who: &str,
    report_data: &Fixed<64>,
    runtime_data: &[u8],
    ak_spki: &[u8],
    binding: &Fixed<64>,
) -> Result<UserData, Finding> {
    committed(who, report_data, runtime_data)?;
    let fail = |what: &str| {
        Finding::new(
            "tee-runtime-data",
            who,
            what,
            "the paravisor's format is not known here: report it",
        )
    };
    if runtime_data.len() > limits::TEE_REPORT {
        return Err(fail("the runtime data is too long"));
    }
    let data: RuntimeData =
        serde_json::from_slice(runtime_data).map_err(|_| fail("the runtime data is not the JSON that it should be"))?;
    names_the_ak(who, &data, ak_spki)?;
    let fresh = Fixed::<64>::from_hex(&data.user_data.to_ascii_lowercase()) == Some(*binding);
    Ok(if fresh { UserData::Binding } else { UserData::Other })
}

fn committed(who: &str, report_data: &Fixed<64>, runtime_data: &[u8]) -> Result<(), Finding> {
    let digest = sha256(runtime_data);
    let (low, high) = report_data.0.split_at(32);
    if low == digest.0 && high.iter().all(|b| *b == 0) {
        return Ok(());
    }
    let what = "the hardware report does not commit to the runtime data that came with it";
    Err(
        Finding::new("tee-runtime-digest", who, what, "treat the node as hostile")
            .expected(digest.to_string())
            .found(report_data.to_string()),
    )
}

fn names_the_ak(who: &str, data: &RuntimeData, ak_spki: &[u8]) -> Result<(), Finding> {
    let what = "the attestation key of this quote is not the one that the hardware report names";
    let finding = || {
        Finding::new(
            "tee-ak",
            who,
            what,
            "treat the node as hostile: its quote is by another TPM than its hardware report",
        )
    };
    let mut named = data.keys.iter().filter(|key| key.kid == AK_NAME && key.kty == "RSA");
    let (key, None) = (named.next().ok_or_else(finding)?, named.next()) else {
        return Err(finding());
    };
    let number = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    let (modulus, exponent) = (number(&key.n), number(&key.e));
    let Ok(([], spki)) = SubjectPublicKeyInfo::from_der(ak_spki) else {
        return Err(finding());
    };
    let Ok(PublicKey::RSA(ak)) = spki.parsed() else {
        return Err(finding());
    };
    let same = |ours: &[u8], theirs: Vec<u8>| trimmed(ours) == trimmed(&theirs) && !trimmed(ours).is_empty();
    let (Ok(modulus), Ok(exponent)) = (modulus, exponent) else {
        return Err(finding());
    };
    if same(ak.modulus, modulus) && same(ak.exponent, exponent) {
        Ok(())
    } else {
        Err(finding())
    }
}

fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::evidence::TeeEvidence;
    use crate::tee::snp::Generation;
    use crate::tee::testing::NOW;
    use crate::tee::testing::snp::{Chip, policy};
    use crate::tee::{self, Freshness, Sections, TeeKind, TeeProvider, VerifiedTee};

    const BINDING: Fixed<64> = Fixed([0xb1; 64]);

    /// SubjectPublicKeyInfo of an RSA-2048 key with the modulus FF…FD and exponent 65537.
    fn ak() -> (Vec<u8>, String) {
        let mut modulus = vec![0xff; 256];
        modulus[255] = 0xfd;
        let rsa = [
            &[0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00][..],
            &modulus,
            &[0x02, 3, 1, 0, 1],
        ]
        .concat();
        let head = [
            0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 5, 0,
        ];
        let spki = [&head[..], &[0x03, 0x82, 0x01, 0x0f, 0x00], &rsa].concat();
        (spki, BASE64_URL_SAFE_NO_PAD.encode(&modulus))
    }

    fn json(kid: &str, n: &str, user_data: &str) -> Vec<u8> {
        format!(
            "{{\"keys\":[{{\"kid\":\"{kid}\",\"key_ops\":[\"sign\"],\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"{n}\"}},{{\"kid\":\"HCLEkPub\",\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"AQAB\"}}],\"vm-configuration\":{{\"secure-boot\":true}},\"user-data\":\"{user_data}\"}}"
        )
        .into_bytes()
    }

    fn verified(runtime_data: &[u8], committed: &[u8]) -> Result<VerifiedTee, Vec<String>> {
        let chip = Chip::new(Generation::Milan);
        let mut report_data = Fixed::ZERO;
        report_data.0[..32].copy_from_slice(&sha256(committed).0);
        let tee = TeeEvidence {
            kind: TeeKind::SevSnp,
            provider: TeeProvider::VtpmNv,
            report: chip.report(&report_data).into(),
            certificates: vec![].into(),
            runtime_data: runtime_data.into(),
        };
        tee::verify("demo-1", &tee, &BINDING, &ak().0, &chip.endorsements(NOW), NOW)
            .map_err(|findings| findings.into_iter().map(|f| f.check).collect())
    }

    #[test]
    fn a_report_that_names_the_ak_counts_and_says_whose_freshness_it_has() {
        let (_, n) = ak();
        let own = json(AK_NAME, &n, &hex::encode_upper(BINDING.0));
        let fresh = verified(&own, &own).expect("verifies");
        assert_eq!(fresh.freshness, Freshness::Report);
        let at_boot = json(AK_NAME, &n, &"00".repeat(64));
        let stale = verified(&at_boot, &at_boot).expect("verifies");
        assert_eq!(stale.freshness, Freshness::Quote);
        let judged = |tee: &VerifiedTee, allowed: bool| {
            let policy = tee::snp::Policy {
                allow_boot_time_report: allowed,
                ..policy(Generation::Milan)
            };
            let sections = Sections {
                snp: Some(&policy),
                tdx: None,
            };
            let findings = tee::appraise("demo-1", Some(tee), sections);
            findings.into_iter().map(|f| f.check).collect::<Vec<_>>()
        };
        assert_eq!(judged(&fresh, false), [""; 0]);
        assert_eq!(judged(&stale, false), ["tee-boot-time-report"]);
        assert_eq!(judged(&stale, true), [""; 0]);
    }

    #[test]
    fn another_key_a_key_of_another_name_and_two_keys_are_refused() {
        let (_, n) = ak();
        let mut other = BASE64_URL_SAFE_NO_PAD.decode(&n).expect("base64");
        other[7] ^= 1;
        let twice = String::from_utf8(json(AK_NAME, &n, ""))
            .expect("text")
            .replace("HCLEkPub", AK_NAME);
        for bad in [
            json(AK_NAME, &BASE64_URL_SAFE_NO_PAD.encode(&other), ""),
            json("HCLEkPub2", &n, ""),
            json(AK_NAME, "", ""),
            json(AK_NAME, &BASE64_STANDARD.encode([0xfb; 3]), ""),
            twice.into_bytes(),
        ] {
            assert_eq!(verified(&bad, &bad).expect_err("refused"), ["tee-ak"]);
        }
    }

    #[test]
    fn runtime_data_that_the_report_does_not_commit_to_is_refused() {
        let own = json(AK_NAME, &ak().1, "");
        let mut changed = own.clone();
        *changed.last_mut().expect("byte") = b' ';
        assert_eq!(verified(&changed, &own).expect_err("refused"), ["tee-runtime-digest"]);
        assert_eq!(
            verified(b"no json", b"no json").expect_err("refused"),
            ["tee-runtime-data"]
        );
    }

    fn nv(kind: u32, hash: u32, len: u32) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.resize(HEADER, 0);
        out.resize(HEADER + REPORT, 7);
        for word in [0, 1, kind, hash, len] {
            out.extend(word.to_le_bytes());
        }
        out.extend(b"{}");
        out
    }

    #[test]
    fn an_index_is_split_into_report_and_runtime_data_or_refused() {
        assert_eq!(
            split(&nv(SNP, SHA256, 2)),
            Ok(([7; REPORT].as_slice(), b"{}".as_slice()))
        );
        assert_eq!(split(&nv(4, SHA256, 2)), Err(VtpmError::Kind(4)));
        assert_eq!(split(&nv(SNP, 2, 2)), Err(VtpmError::Hash(2)));
        for len in [3, u32::MAX] {
            assert!(matches!(split(&nv(SNP, SHA256, len)), Err(VtpmError::Layout(_))));
        }
        for cut in [0, 3, 4, HEADER + REPORT, HEADER + REPORT + DATA_HEADER - 1] {
            assert!(
                matches!(split(&nv(SNP, SHA256, 2)[..cut]), Err(VtpmError::Layout(_))),
                "{cut}"
            );
        }
    }
}

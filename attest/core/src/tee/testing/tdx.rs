//! An Intel of one's own: root, PCK authority, TCB signer, platforms with a quoting enclave, and quotes.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
};

use super::der::{self, Certificate, Signer};
use super::{DAY, NOW};
use crate::bytes::{Fixed, sha256};
use crate::tee::tdx::collateral::Statement;
use crate::tee::tdx::{Collateral, Policy, QE_SIGNER};
use crate::tee::{Endorsements, Roots};

/// MRTD of a draft.
pub const MRTD: Fixed<48> = Fixed([0x7d; 48]);
/// Serial of the PCK.
pub const PCK_SERIAL: u64 = 0x3333;
/// Serial of the intermediate.
pub const CA_SERIAL: u64 = 0x2222;
const ROOT: &str = "Test SGX Root CA";
const CA: &str = "Intel SGX PCK Platform CA";

struct Key {
    /// Signs X.509.
    der: EcdsaKeyPair,
    /// The same key signs quotes.
    raw: EcdsaKeyPair,
}

impl Key {
    fn generate() -> Self {
        let raw = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key");
        let pkcs8 = raw.to_pkcs8v1().expect("key");
        let read = |algorithm: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref());
        Self {
            der: read(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("key"),
            raw,
        }
    }

    fn spki(&self) -> Vec<u8> {
        self.raw.public_key().as_der().expect("key").as_ref().to_vec()
    }

    fn point(&self) -> [u8; 64] {
        self.raw.public_key().as_ref()[1..].try_into().expect("a point")
    }

    fn sign_raw(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.raw.sign(&SystemRandom::new(), message).expect("signs");
        signature.as_ref().to_vec()
    }
}

impl Signer for Key {
    fn algorithm(&self) -> Vec<u8> {
        der::sequence(&[der::oid("1.2.840.10045.4.3.2")])
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.der.sign(&SystemRandom::new(), message).expect("signs");
        signature.as_ref().to_vec()
    }
}

/// Root, intermediate and signer of statements.
pub struct Pki {
    root_key: Key,
    ca_key: Key,
    signer_key: Key,
    /// Root (DER).
    pub root: Vec<u8>,
    ca: Vec<u8>,
    signer: Vec<u8>,
}

fn certificate(serial: u64, issuer: (&str, &Key), subject: (&str, &Key), extensions: Vec<Vec<u8>>) -> Vec<u8> {
    Certificate {
        serial,
        issuer: issuer.0,
        subject: subject.0,
        not_before: NOW - 4000 * DAY,
        not_after: NOW + 4000 * DAY,
        spki: subject.1.spki(),
        extensions,
    }
    .signed_by(issuer.1)
}

impl Pki {
    /// A new one.
    pub fn generate() -> Arc<Self> {
        let (root_key, ca_key, signer_key) = (Key::generate(), Key::generate(), Key::generate());
        let by_root = (ROOT, &root_key);
        Arc::new(Self {
            root: certificate(1, by_root, by_root, der::authority(true)),
            ca: certificate(CA_SERIAL, by_root, (CA, &ca_key), der::authority(true)),
            signer: certificate(4, by_root, ("Intel SGX TCB Signing", &signer_key), vec![]),
            root_key,
            ca_key,
            signer_key,
        })
    }

    /// Roots that name this one.
    pub fn roots(&self) -> Roots {
        Roots::with_extra(std::slice::from_ref(&self.root)).expect("an own root")
    }

    /// Both revocation lists around `now`.
    pub fn crls(&self, now: u64, of_root: &[u64], of_ca: &[u64]) -> Vec<Vec<u8>> {
        let (from, until) = (now - DAY, now + DAY);
        vec![
            der::crl(&self.root_key, ROOT, from, until, of_root),
            der::crl(&self.ca_key, CA, from, until, of_ca),
        ]
    }

    /// A statement with `inner` as it stands.
    pub fn statement(&self, name: &str, inner: &str) -> Statement {
        let signature = hex::encode(self.signer_key.sign_raw(inner.as_bytes()));
        Statement {
            json: format!("{{\"{name}\":{inner},\"signature\":\"{signature}\"}}").into_bytes(),
            chain: (der::pem(&self.signer) + &der::pem(&self.root)).into_bytes(),
        }
    }

    /// Everything that a Verifier wants to know at [`NOW`]: lists that name nothing, and a platform that is up to date.
    pub fn collateral(&self) -> Collateral {
        Collateral {
            crls: self.crls(NOW, &[], &[]),
            tcb_infos: vec![self.statement("tcbInfo", &tcb_info("UpToDate"))],
            qe_identity: Some(self.statement("enclaveIdentity", &qe_identity("UpToDate"))),
        }
    }
}

/// TCB info whose newest level, a draft's, has `status`.
pub fn tcb_info(status: &str) -> String {
    let components = |svn: u8| vec![format!("{{\"svn\":{svn}}}"); 16].join(",");
    let level = |sgx: u8, pce: u16, tdx: u8, status: &str| {
        format!(
            "{{\"tcb\":{{\"sgxtcbcomponents\":[{}],\"pcesvn\":{pce},\"tdxtcbcomponents\":[{}]}},\"tcbDate\":\"2026-01-01T00:00:00Z\",\"tcbStatus\":\"{status}\",\"advisoryIDs\":[\"INTEL-SA-1\"]}}",
            components(sgx),
            components(tdx)
        )
    };
    let zeros = "00".repeat(48);
    format!(
        "{{\"id\":\"TDX\",\"version\":3,\"issueDate\":\"2027-01-01T00:00:00Z\",\"nextUpdate\":\"2027-02-01T00:00:00Z\",\"fmspc\":\"50806F000000\",\"pceId\":\"0000\",\"tcbType\":0,\"tcbEvaluationDataNumber\":1,\"tdxModule\":{{\"mrsigner\":\"{zeros}\",\"attributes\":\"0000000000000000\",\"attributesMask\":\"FFFFFFFFFFFFFFFF\"}},\"tdxModuleIdentities\":[{{\"id\":\"TDX_01\",\"mrsigner\":\"{zeros}\",\"attributes\":\"0000000000000000\",\"attributesMask\":\"FFFFFFFFFFFFFFFF\",\"tcbLevels\":[{{\"tcb\":{{\"isvsvn\":4}},\"tcbDate\":\"2026-01-01T00:00:00Z\",\"tcbStatus\":\"UpToDate\"}},{{\"tcb\":{{\"isvsvn\":2}},\"tcbDate\":\"2025-01-01T00:00:00Z\",\"tcbStatus\":\"OutOfDate\"}}]}}],\"tcbLevels\":[{},{}]}}",
        level(7, 11, 3, status),
        level(2, 5, 1, "OutOfDate")
    )
}

/// QE identity whose newest level, a draft's, has `status`.
pub fn qe_identity(status: &str) -> String {
    format!(
        "{{\"id\":\"TD_QE\",\"version\":2,\"issueDate\":\"2027-01-01T00:00:00Z\",\"nextUpdate\":\"2027-02-01T00:00:00Z\",\"tcbEvaluationDataNumber\":1,\"miscselect\":\"00000000\",\"miscselectMask\":\"FFFFFFFF\",\"attributes\":\"11000000000000000000000000000000\",\"attributesMask\":\"FBFFFFFFFFFFFFFF0000000000000000\",\"mrsigner\":\"{}\",\"isvprodid\":2,\"tcbLevels\":[{{\"tcb\":{{\"isvsvn\":4}},\"tcbDate\":\"2026-01-01T00:00:00Z\",\"tcbStatus\":\"{status}\"}}]}}",
        QE_SIGNER.to_uppercase()
    )
}

/// A platform that makes quotes.
pub struct Platform {
    pki: Arc<Pki>,
    pck_key: Key,
    attestation_key: Key,
    pck: Vec<u8>,
}

impl Platform {
    /// One that Intel has endorsed.
    pub fn new(pki: Arc<Pki>) -> Self {
        Self::certified(pki, vec![sgx_extension()])
    }

    /// One of which Intel does not say which platform it is.
    pub fn nameless(pki: Arc<Pki>) -> Self {
        Self::certified(pki, vec![])
    }

    fn certified(pki: Arc<Pki>, extensions: Vec<Vec<u8>>) -> Self {
        let pck_key = Key::generate();
        let subject = ("Intel SGX PCK Certificate", &pck_key);
        let pck = certificate(PCK_SERIAL, (CA, &pki.ca_key), subject, extensions);
        Self {
            attestation_key: Key::generate(),
            pck_key,
            pck,
            pki,
        }
    }

    /// What a Verifier knows of it at [`NOW`].
    pub fn endorsements(&self) -> Endorsements {
        Endorsements {
            roots: Arc::new(self.pki.roots()),
            tdx: Arc::new(self.pki.collateral()),
            ..Endorsements::default()
        }
    }

    /// A quote over `report_data`, everything else as [`Draft::default`] has it.
    pub fn quote(&self, report_data: &Fixed<64>) -> Vec<u8> {
        self.quote_with(|draft| draft.report_data = *report_data)
    }

    /// A quote that `edit` has changed before it was signed.
    pub fn quote_with(&self, edit: impl FnOnce(&mut Draft)) -> Vec<u8> {
        let mut draft = Draft::default();
        edit(&mut draft);
        let mut out = draft.signed_part();
        let point = self.attestation_key.point();
        let auth = [0x11; 32];
        let mut qe = vec![0; 384];
        qe[48] = 0x15 | draft.qe_attributes;
        qe[128..160].copy_from_slice(&draft.qe_signer.0);
        qe[256] = draft.qe_product;
        qe[258..260].copy_from_slice(&draft.qe_svn.to_le_bytes());
        let commits = draft
            .qe_report_data
            .unwrap_or_else(|| sha256(&[point.as_slice(), &auth].concat()));
        qe[320..352].copy_from_slice(&commits.0);
        let chain = [&self.pck, &self.pki.ca, &self.pki.root]
            .map(|der| der::pem(der))
            .concat();
        let sized = |kind: u16, content: &[u8]| {
            let len = u32::try_from(content.len()).expect("small").to_le_bytes();
            [kind.to_le_bytes().as_slice(), &len, content].concat()
        };
        let qe_signature = self.pck_key.sign_raw(&qe);
        let certified = [
            qe,
            qe_signature,
            32u16.to_le_bytes().to_vec(),
            auth.to_vec(),
            sized(5, chain.as_bytes()),
        ]
        .concat();
        let data = [
            self.attestation_key.sign_raw(&out),
            point.to_vec(),
            sized(6, &certified),
        ]
        .concat();
        out.extend(u32::try_from(data.len()).expect("small").to_le_bytes());
        out.extend(data);
        out
    }
}

/// A policy that a draft fulfils, test root and all.
pub fn policy() -> Policy {
    Policy {
        accept_file_provider: true,
        ..Policy::new(vec![MRTD])
    }
}

const ARC: &str = "1.2.840.113741.1.13.1";

fn sgx_extension() -> Vec<u8> {
    der::extension(ARC, false, &platform_names())
}

/// The value of a platform's SGX extension: FMSPC, PCE and the SVNs that its PCK was derived from.
pub fn platform_names() -> Vec<u8> {
    let pair = |arc: &str, value: Vec<u8>| der::sequence(&[der::oid(&format!("{ARC}.{arc}")), value]);
    let mut tcb: Vec<_> = (1..=16).map(|n| pair(&format!("2.{n}"), der::integer(7))).collect();
    tcb.push(pair("2.17", der::integer(11)));
    tcb.push(pair("2.18", der::octets(&[7; 16])));
    let fields = [
        pair("1", der::octets(&[0x99; 16])),
        pair("2", der::sequence(&tcb)),
        pair("3", der::octets(&[0, 0])),
        pair("4", der::octets(&[0x50, 0x80, 0x6f, 0, 0, 0])),
        pair("5", der::element(0x0a, &[0])),
    ];
    der::sequence(&fields)
}

/// A quote before it is signed.
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "the fields are those of `Body` and of the quoting enclave's report"
)]
pub struct Draft {
    pub version: u16,
    pub tee_tcb_svn: Fixed<16>,
    pub mr_seam: Fixed<48>,
    pub mr_signer_seam: Fixed<48>,
    pub seam_attributes: u64,
    pub td_attributes: u64,
    pub xfam: u64,
    pub mr_td: Fixed<48>,
    pub mr_config_id: Fixed<48>,
    pub mr_owner: Fixed<48>,
    pub mr_owner_config: Fixed<48>,
    pub rtmr: [Fixed<48>; 4],
    pub report_data: Fixed<64>,
    /// A TD 1.5 body (version 5 only).
    pub mr_service_td: Option<Fixed<48>>,
    pub qe_signer: Fixed<32>,
    pub qe_product: u8,
    pub qe_svn: u16,
    pub qe_attributes: u8,
    /// What the quoting enclave commits to; absent: the attestation key.
    pub qe_report_data: Option<Fixed<32>>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            version: 4,
            tee_tcb_svn: Fixed([4, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]),
            mr_seam: Fixed([0x5e; 48]),
            mr_signer_seam: Fixed::ZERO,
            seam_attributes: 0,
            td_attributes: 1 << 28,
            xfam: 0x06_1ae7,
            mr_td: MRTD,
            mr_config_id: Fixed([0xc0; 48]),
            mr_owner: Fixed([0x01; 48]),
            mr_owner_config: Fixed([0x02; 48]),
            rtmr: [
                Fixed([0x10; 48]),
                Fixed([0x11; 48]),
                Fixed([0x12; 48]),
                Fixed([0x13; 48]),
            ],
            report_data: super::snp::REPORT_DATA,
            mr_service_td: None,
            qe_signer: Fixed::from_hex(QE_SIGNER).expect("hex"),
            qe_product: 2,
            qe_svn: 4,
            qe_attributes: 0,
            qe_report_data: None,
        }
    }
}

impl Draft {
    fn signed_part(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.version.to_le_bytes());
        out.extend(2u16.to_le_bytes());
        out.extend(0x81u32.to_le_bytes());
        out.extend([0; 4]);
        out.extend(*b"\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07");
        out.extend([0; 20]);
        if self.version == 5 {
            let (kind, len) = if self.mr_service_td.is_some() {
                (3u16, 648u32)
            } else {
                (2, 584)
            };
            out.extend(kind.to_le_bytes());
            out.extend(len.to_le_bytes());
        }
        out.extend(self.tee_tcb_svn.0);
        out.extend(self.mr_seam.0);
        out.extend(self.mr_signer_seam.0);
        out.extend(self.seam_attributes.to_le_bytes());
        out.extend(self.td_attributes.to_le_bytes());
        out.extend(self.xfam.to_le_bytes());
        for register in [self.mr_td, self.mr_config_id, self.mr_owner, self.mr_owner_config] {
            out.extend(register.0);
        }
        for register in self.rtmr {
            out.extend(register.0);
        }
        out.extend(self.report_data.0);
        if let Some(service) = self.mr_service_td.filter(|_| self.version == 5) {
            out.extend([0; 16]);
            out.extend(service.0);
        }
        out
    }
}

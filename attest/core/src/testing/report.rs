//! systemd's signed report: recorded ones (tests/fixtures/systemd-report) with the quote of the same TPM, so that they make whole
//! Evidence; and the recorded structure signed anew by a TPM in software, after a change.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{AkKind, Authority, EK, Node, ORDINARY, SoftTpm};
use crate::bytes::{Blob, Fixed, sha256};
use crate::evidence::Evidence;
use crate::pcr::{Bank, Digest, Pcrs};
use crate::systemd_report::testing;
use crate::tpm::PublicKey;

macro_rules! fixture {
    ($file:literal) => {
        concat!("../../../../tests/fixtures/systemd-report/", $file)
    };
}
/// A report by a real systemd and a real quote by the same AK for the binding of [`Recorded::evidence`].
pub struct Recorded {
    /// The report.
    pub report: &'static [u8],
    quote: &'static [u8],
    signature: &'static [u8],
    ak: &'static str,
}

/// By the default AK.
pub const REPORT_P256: Recorded = Recorded {
    report: include_bytes!(fixture!("p256/report")),
    quote: include_bytes!(fixture!("p256/quote")),
    signature: include_bytes!(fixture!("p256/signature")),
    ak: include_str!(fixture!("p256/ak.pem")),
};
/// The same with the binding as nonce.
pub const REPORT_NONCE: Recorded = Recorded {
    report: include_bytes!(fixture!("p256-nonce/report")),
    quote: include_bytes!(fixture!("p256-nonce/quote")),
    signature: include_bytes!(fixture!("p256-nonce/signature")),
    ak: include_str!(fixture!("p256-nonce/ak.pem")),
};
/// By an RSA-2048 AK.
pub const REPORT_RSA: Recorded = Recorded {
    report: include_bytes!(fixture!("rsa/report")),
    quote: include_bytes!(fixture!("rsa/quote")),
    signature: include_bytes!(fixture!("rsa/signature")),
    ak: include_str!(fixture!("rsa/ak.pem")),
};
/// By an ECC P-384 AK, over the SHA-256 bank.
pub const REPORT_P384: Recorded = Recorded {
    report: include_bytes!(fixture!("p384/report")),
    quote: include_bytes!(fixture!("p384/quote")),
    signature: include_bytes!(fixture!("p384/signature")),
    ak: include_str!(fixture!("p384/ak.pem")),
};
/// A report of the same TPM and AK as [`REPORT_P256`], after a reset.
pub const REPORT_LATER_BOOT: &[u8] = include_bytes!(fixture!("p256-later-boot/report"));
/// A report of the same TPM, signed by the key that systemd makes when it is given none.
pub const REPORT_OWN_KEY: &[u8] = include_bytes!(fixture!("own-key/report"));
/// systemd's log of the boot of all of them: that of [`ORDINARY`] and one measurement in PCR 15.
pub const REPORT_LOG: &[u8] = include_bytes!(fixture!("userspace.log"));
/// The boot id that all of them name.
const BOOT_ID: &str = "97d8c6fc91de4dacb5c132ad437ed8eb";

impl Recorded {
    /// The AK.
    pub fn ak(&self) -> PublicKey {
        let text: String = self.ak.lines().filter(|line| !line.starts_with('-')).collect();
        let der = BASE64_STANDARD.decode(text).expect("base64");
        PublicKey::from_spki_der(&der).expect("a key")
    }

    /// A node with this AK, enrolled by `authority`, and its Evidence. It cannot quote again: nobody has the key.
    pub fn evidence(&self, authority: &Authority) -> (Node, Evidence) {
        let mut tpm = SoftTpm::new(AkKind::P256);
        tpm.key = self.ak();
        let node = Node::enrolled(authority, "demo-1", EK, tpm);
        let mut evidence = node.evidence_of(&recorded_pcrs(), ORDINARY.uefi, REPORT_LOG);
        evidence.boot_id = Fixed::from_hex(BOOT_ID).expect("hex");
        evidence.tpm.quote = self.quote.into();
        evidence.tpm.signature = self.signature.into();
        evidence.systemd_report = self.report.into();
        (node, evidence)
    }
}

/// The registers that all of them were recorded with: those of [`ORDINARY`], where no IMA was.
pub fn recorded_pcrs() -> Pcrs {
    let mut pcrs = ORDINARY.pcrs();
    pcrs.values.insert(10, Bank::Sha256.zero());
    pcrs
}

/// A report to change and to sign.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The report's record.
    pub body: Value,
    /// What the signature's record holds as data.
    pub data: Value,
    /// The signature's claim of what it signs; the right one when it is not set.
    pub sha256: Option<String>,
}

impl Draft {
    /// [`REPORT_P256`] as the node of this Evidence, with its TPM in software, would have made it: its key, registers, clock and boot.
    pub fn new(node: &Node, evidence: &Evidence) -> Self {
        let mut records = REPORT_P256.report.split(|byte| *byte == 0x1e).skip(1);
        let body: Value = serde_json::from_slice(records.next().expect("the report")).expect("json");
        let read = |record| serde_json::from_slice::<Value>(record).expect("json");
        let signature = records.map(read).find(|r| r["mechanism"] == "tpm2");
        let mut draft = Self {
            body,
            data: signature.expect("a TPM's signature")["data"].take(),
            sha256: None,
        };
        for metric in draft.body["metrics"].as_array_mut().expect("a list") {
            if metric["name"] == "io.systemd.Basic.BootID" {
                metric["value"] = json!(hex::encode(evidence.boot_id.0));
            }
        }
        let point = node.tpm.key.subject_public_key();
        draft.data["publicKey"]["unique"] = json!({ "x": hex::encode(&point[1..33]), "y": hex::encode(&point[33..]) });
        draft.data["eventLog"] = json!([]);
        let clock = node.tpm.clock;
        for at in 0..draft.components().len() {
            draft.attest(at)["clockInfo"] = json!({
                "clock": clock.clock - 100 + at as u64, "resetCount": clock.reset_count,
                "restartCount": clock.restart_count, "safe": if clock.safe { "YES" } else { "NO" },
            });
            draft.attest(at)["firmwareVersion"] = json!(clock.firmware_version);
        }
        draft.quotes(&evidence.claimed_pcrs().expect("registers"), None);
        draft
    }

    /// The attestations.
    pub fn components(&mut self) -> &mut Vec<Value> {
        self.data["components"].as_array_mut().expect("a list")
    }

    /// The structure of one of them.
    pub fn attest(&mut self, at: usize) -> &mut Value {
        &mut self.components()[at]["attestInfo"]["attest"]
    }

    /// Quotes these values of the registers that are selected; what is not among them is zero. `only` selects others first.
    pub fn quotes(&mut self, pcrs: &Pcrs, only: Option<&[u8]>) {
        let selection = &mut self.attest(0)["attested"]["pcrSelect"][0]["pcrSelect"];
        if let Some(only) = only {
            *selection = json!(only);
        }
        let zero = pcrs.bank.zero();
        let registers: Vec<u8> = serde_json::from_value(selection.clone()).expect("numbers");
        let values = registers.into_iter().map(|pcr| (pcr, pcrs.value(pcr).unwrap_or(zero)));
        let digest: Digest = Pcrs::collect(pcrs.bank, values)
            .expect("each once")
            .digest(Bank::Sha256);
        self.attest(0)["attested"]["pcrDigest"] = json!(digest.to_string());
    }

    /// Carries `nonce`.
    pub fn nonce(&mut self, nonce: &[u8]) {
        self.body["nonce"] = json!(BASE64_STANDARD.encode(nonce));
    }

    /// Signed by the AK of a TPM that lies as it is told: `audit` is the last attestation, ready but for its signature.
    pub fn seal(mut self, tpm: &SoftTpm, audit: impl FnOnce(&mut Value)) -> Vec<u8> {
        let first = format!("\x1e{}\n", self.body);
        let digest = sha256(first.as_bytes());
        let last = self.components().len() - 1;
        for at in 0..last {
            self.sign(tpm, at);
        }
        self.attest(last)["extraData"] = json!(format!("000b{digest}"));
        self.attest(last)["attested"]["sessionDigest"] = json!("00");
        let digest_of_session = testing::session_digest(&self.data).map(hex::encode);
        self.attest(last)["attested"]["sessionDigest"] = json!(digest_of_session.unwrap_or_default());
        audit(self.attest(last));
        self.sign(tpm, last);
        let sha256 = self.sha256.unwrap_or(digest.to_string());
        let record = json!({
            "mediaType": "application/vnd.io.systemd.report.signature", "mechanism": "tpm2", "sha256": sha256, "data": self.data,
        });
        format!("{first}\x1e{record}\n").into_bytes()
    }

    fn sign(&mut self, tpm: &SoftTpm, at: usize) {
        // What cannot be marshalled cannot be signed either, and is refused for that.
        let Some(bytes) = testing::attest(self.attest(at)) else {
            return;
        };
        let signature = tpm.sign(&bytes);
        let (r, s) = signature[4..].split_at(2 + usize::from(signature[5]));
        let values =
            json!({ "hash": "SHA256", "signatureR": hex::encode(&r[2..]), "signatureS": hex::encode(&s[2..]) });
        self.components()[at]["signature"]["signature"] = values;
    }
}

/// Evidence of `node` with a report that its TPM in software signed.
pub fn with_report(node: &Node, evidence: &mut Evidence) {
    let draft = Draft::new(node, evidence);
    evidence.systemd_report = Blob(draft.seal(&node.tpm, |_| ()));
}

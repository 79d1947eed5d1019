//! systemd's signed report: recorded ones, changed, and what a TPM under lying software would sign.

use rempart_attest::policy::ReportRule;
use rempart_attest::testing::{
    AkKind, Authority, Draft, REPORT_LATER_BOOT, REPORT_LOG, REPORT_OWN_KEY, REPORT_P256, REPORT_RSA, Recorded,
    recorded_pcrs, with_report,
};
use rempart_attest::testing::{IMA_NG, ORDINARY, policy_for};
use rempart_attest::{Bank, Pcrs};
use serde_json::{Value, json};

use super::scene::{Scene, ordinary};
use super::{Case, against, case};

/// A real report and a real quote of one TPM. The node cannot sign anything new.
fn recorded_as(recorded: &Recorded) -> Scene {
    let authority = Authority::default();
    let (node, evidence) = recorded.evidence(&authority);
    Scene {
        node,
        authority,
        evidence,
        policy: policy_for(&recorded_pcrs()),
        ..ordinary()
    }
}

fn recorded() -> Scene {
    recorded_as(&REPORT_P256)
}

fn recorded_rsa() -> Scene {
    recorded_as(&REPORT_RSA)
}

/// A report that the TPM in software signed.
fn signed() -> Scene {
    let mut scene = ordinary();
    with_report(&scene.node, &mut scene.evidence);
    scene
}

/// The same in the SHA-384 bank; its policy is for a node that has none.
fn sha384_without() -> Scene {
    Scene::new(AkKind::P256, &IMA_NG, Bank::Sha384)
}

/// The report's text with the first `from` made `to`.
fn edit(scene: &mut Scene, from: &str, to: &str) {
    let bytes = &mut scene.evidence.systemd_report.0;
    let text = String::from_utf8(std::mem::take(bytes)).expect("text");
    assert!(text.contains(from), "{from}");
    *bytes = text.replacen(from, to, 1).into_bytes();
}

/// Signs a changed report.
fn sign(scene: &mut Scene, change: impl FnOnce(&mut Draft, &mut Scene)) {
    sign_audit(scene, change, |_| ());
}

fn sign_audit(scene: &mut Scene, change: impl FnOnce(&mut Draft, &mut Scene), audit: impl FnOnce(&mut Value)) {
    let mut draft = Draft::new(&scene.node, &scene.evidence);
    change(&mut draft, scene);
    scene.evidence.systemd_report.0 = draft.seal(&scene.node.tpm, audit);
}

/// Changes the recorded signature's data and leaves every signature as it was.
fn data(scene: &mut Scene, change: impl FnOnce(&mut Value)) {
    let bytes = std::mem::take(&mut scene.evidence.systemd_report.0);
    let mut records: Vec<Vec<u8>> = bytes.split(|b| *b == 0x1e).skip(1).map(<[u8]>::to_vec).collect();
    let at = records
        .iter()
        .position(|r| r.windows(6).any(|w| w == b"\"tpm2\""))
        .expect("a TPM's signature");
    let mut record: Value = serde_json::from_slice(&records[at]).expect("json");
    change(&mut record["data"]);
    records[at] = format!("{record}\n").into_bytes();
    scene.evidence.systemd_report.0 = records.into_iter().flat_map(|r| [vec![0x1e], r].concat()).collect();
}

fn components(data: &mut Value) -> &mut Vec<Value> {
    data["components"].as_array_mut().expect("a list")
}

/// All records of the recorded report once more.
fn signatures_twice(scene: &mut Scene) {
    let bytes = &mut scene.evidence.systemd_report.0;
    let second = bytes.iter().skip(1).position(|b| *b == 0x1e).expect("a second record") + 1;
    let again = bytes[second..].to_vec();
    bytes.extend(again);
}

fn clocks(draft: &mut Draft, change: impl Fn(u64) -> u64) {
    for at in 0..draft.components().len() {
        let clock = draft.attest(at)["clockInfo"]["clock"].as_u64().expect("a number");
        draft.attest(at)["clockInfo"]["clock"] = json!(change(clock));
    }
}

const DIGEST: &[&str] = &["systemd-report-digest"];
const UNREADABLE: &[&str] = &["systemd-report"];
const KEY: &[&str] = &["systemd-report-key"];
const SHAPE: &[&str] = &["systemd-report-components"];
const NVPCR: &[&str] = &["systemd-report-nvpcr"];
const REGISTERS: &[&str] = &["systemd-report-registers"];
const UNSIGNED: &[&str] = &["systemd-report-signature", "systemd-report-audit"];
const MISSING: &[&str] = &["systemd-report-missing"];

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    // What cannot be read.
    case("systemd report: nothing but bytes", recorded, |s| s.evidence.systemd_report.0 = vec![0xff; 64], UNREADABLE),
    case("systemd report: no record separator", recorded, |s| { s.evidence.systemd_report.0.remove(0); }, UNREADABLE),
    case("systemd report: two separators at the beginning", recorded, |s| s.evidence.systemd_report.0.insert(0, 0x1e), UNREADABLE),
    case("systemd report: cut short", recorded, |s| { s.evidence.systemd_report.0.pop(); }, UNREADABLE),
    case("systemd report: a name that stands twice", recorded, |s| edit(s, "\"timestamp\":", "\"metrics\":[],\"timestamp\":"), UNREADABLE),
    case("systemd report: a name of an attestation that stands twice", recorded, |s| edit(s, "\"safe\":\"YES\"", "\"safe\":\"YES\",\"safe\":\"YES\""), UNREADABLE),
    case("systemd report: a signature's data that stands twice", recorded, |s| edit(s, "\"components\":", "\"components\":[],\"components\":"), UNREADABLE),
    case("systemd report: an attestation with a name more", recorded, |s| edit(s, "\"safe\":\"YES\"", "\"safe\":\"YES\",\"sane\":\"NO\""), UNREADABLE),
    case("systemd report: a number beyond 64 bits", recorded, |s| data(s, |d| components(d)[0]["attestInfo"]["attest"]["firmwareVersion"] = json!(2e20)), UNREADABLE),
    case("systemd report: a negative number", recorded, |s| data(s, |d| components(d)[0]["attestInfo"]["attest"]["clockInfo"]["clock"] = json!(-1)), UNREADABLE),
    case("systemd report: half a byte of hex", recorded, |s| data(s, |d| components(d)[0]["attestInfo"]["attest"]["attested"]["pcrDigest"] = json!("abc")), UNREADABLE),
    case("systemd report: more attestations than any", recorded, |s| data(s, |d| {
        let one = components(d)[1].clone();
        components(d).extend(vec![one; 40]);
    }), UNREADABLE),
    case("systemd report: a register list out of order", recorded, |s| data(s, |d| {
        components(d)[0]["attestInfo"]["attest"]["attested"]["pcrSelect"][0]["pcrSelect"] = json!([1, 0]);
    }), UNREADABLE),
    case("systemd report: a register that no TPM has", recorded, |s| data(s, |d| {
        components(d)[0]["attestInfo"]["attest"]["attested"]["pcrSelect"][0]["pcrSelect"] = json!([0, 24]);
    }), UNREADABLE),
    case("systemd report: an attestation that no TPM made", recorded, |s| edit(s, "\"magic\":\"VALUE\"", "\"magic\":\"OTHER\""), UNREADABLE),
    case("systemd report: an NvPCR under another name than was certified", recorded, |s| edit(s, "\"nvpcrName\":\"hardware\"", "\"nvpcrName\":\"firmware\""), UNREADABLE),
    // What the TPM signed is another report.
    case("systemd report: a changed fact", recorded, |s| edit(s, "\"systemd-nspawn\"", "\"none\""), DIGEST),
    case("systemd report: a changed fact, RSA", recorded_rsa, |s| edit(s, "\"systemd-nspawn\"", "\"none\""), DIGEST),
    case("systemd report: a space before the newline", recorded, |s| edit(s, "]}\n", "]} \n"), DIGEST),
    case("systemd report: another newline", recorded, |s| edit(s, "]}\n", "]}\n\n"), DIGEST),
    case("systemd report: a nonce put in later", recorded, |s| {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let nonce = BASE64_STANDARD.encode(&s.node.binding(&s.evidence).0[..32]);
        edit(s, "\"timestamp\":", &format!("\"nonce\":\"{nonce}\",\"timestamp\":"));
    }, DIGEST),
    case("systemd report: a record that names another digest", signed, |s| sign(s, |d, _| d.sha256 = Some("00".repeat(32))), DIGEST),
    case("systemd report: an audit by another hash of the same report", signed, |s| {
        sign_audit(s, |_, _| (), |audit| audit["extraData"] = json!(audit["extraData"].as_str().expect("hex").replacen("000b", "000c", 1)));
    }, DIGEST),
    // Whose signature.
    case("systemd report: by the key that systemd made itself", recorded, |s| s.evidence.systemd_report = REPORT_OWN_KEY.into(), KEY),
    case("systemd report: by the AK of another kind", recorded, |s| s.evidence.systemd_report = REPORT_RSA.report.into(), KEY),
    case("systemd report: another key is shown than signed", recorded, |s| data(s, |d| {
        let point = d["publicKey"]["unique"]["y"].take();
        d["publicKey"]["unique"] = json!({ "x": point, "y": point });
    }), KEY),
    case("systemd report: two signatures by the AK", recorded, signatures_twice, KEY),
    case("systemd report: no signature by a TPM", recorded, |s| edit(s, "\"mechanism\":\"tpm2\"", "\"mechanism\":\"tsa\""), KEY),
    case("systemd report: the AK shown as unrestricted", recorded, |s| data(s, |d| {
        d["publicKey"]["objectAttributes"] = json!(d["publicKey"]["objectAttributes"].as_u64().expect("bits") & !(1 << 16));
    }), KEY),
    case("systemd report: the AK shown with another attribute", recorded, |s| data(s, |d| {
        d["publicKey"]["objectAttributes"] = json!(d["publicKey"]["objectAttributes"].as_u64().expect("bits") & !(1 << 10));
    }), &["systemd-report-audit"]),
    case("systemd report: a changed signature", recorded, |s| data(s, |d| {
        let audit = components(d).last_mut().expect("audit");
        audit["signature"]["signature"]["signatureS"] = json!("11".repeat(32));
    }), &["systemd-report-signature"]),
    case("systemd report: a changed signature, RSA", recorded_rsa, |s| data(s, |d| {
        let audit = components(d).last_mut().expect("audit");
        audit["signature"]["signature"]["sig"] = json!("11".repeat(256));
    }), &["systemd-report-signature"]),
    // Which attestations.
    case("systemd report: the audit first", recorded, |s| data(s, |d| components(d).rotate_right(1)), SHAPE),
    case("systemd report: a second audit", recorded, |s| data(s, |d| {
        let audit = components(d).last().expect("audit").clone();
        components(d).push(audit);
    }), SHAPE),
    case("systemd report: no audit", recorded, |s| data(s, |d| { components(d).pop(); }), SHAPE),
    case("systemd report: no quote", recorded, |s| data(s, |d| { components(d).remove(0); }), SHAPE),
    case("systemd report: no attestation", recorded, |s| data(s, |d| components(d).clear()), SHAPE),
    case("systemd report: a quote in the audit's place", recorded, |s| data(s, |d| {
        let mut quote = components(d)[0].clone();
        quote["type"] = json!("session-audit");
        *components(d).last_mut().expect("audit") = quote;
    }), &["systemd-report-attestation"]),
    case("systemd report: an NvPCR that was left out", recorded, |s| data(s, |d| { components(d).remove(2); }), &["systemd-report-audit"]),
    case("systemd report: two NvPCRs in another order", recorded, |s| data(s, |d| components(d).swap(1, 2)), &["systemd-report-audit", "systemd-report-boot"]),
    case("systemd report: other contents of an NvPCR", recorded, |s| data(s, |d| {
        components(d)[1]["attestInfo"]["attest"]["attested"]["nvContents"] = json!("11".repeat(32));
    }), UNSIGNED),
    case("systemd report: other registers", recorded, |s| data(s, |d| {
        components(d)[0]["attestInfo"]["attest"]["attested"]["pcrDigest"] = json!("11".repeat(32));
    }), &["systemd-report-signature", "systemd-report-audit", "systemd-report-registers"]),
    case("systemd report: another priority of an NvPCR than was certified", recorded, |s| edit(s, "\\\"priority\\\":500", "\\\"priority\\\":501"), NVPCR),
    case("systemd report: another index than was certified", recorded, |s| data(s, |d| components(d)[1]["nvPublic"]["nvIndex"] = json!(0x01d1_0209)), &["systemd-report-nvpcr", "systemd-report-audit"]),
    case("systemd report: an index that can be written", signed, |s| sign(s, |d, _| {
        use rempart_attest::bytes::sha256;
        let index = &mut d.components()[1];
        index["nvPublic"]["attributes"] = json!(0x2206_0006);
        let public = [&0x01d1_0200_u32.to_be_bytes()[..], &[0, 0x0b], &0x2206_0006_u32.to_be_bytes(), &[0, 0, 0, 32]].concat();
        index["attestInfo"]["attest"]["attested"]["indexName"] = json!(format!("000b{}", sha256(&public)));
    }), NVPCR),
    case("systemd report: one NvPCR twice", signed, |s| sign(s, |d, _| {
        let one = d.components()[3].clone();
        d.components().insert(3, one);
    }), NVPCR),
    case("systemd report: a part of an NvPCR", signed, |s| sign(s, |d, _| {
        d.attest(1)["attested"]["nvContents"] = json!("11".repeat(16));
    }), NVPCR),
    case("systemd report: an audit of other commands", signed, |s| sign_audit(s, |_, _| (), |audit| {
        audit["attested"]["sessionDigest"] = json!("11".repeat(32));
    }), &["systemd-report-audit"]),
    case("systemd report: an audit by a hash that does not count", signed, |s| sign(s, |d, _| {
        d.components().last_mut().expect("audit")["sessionAuditHashAlg"] = json!("SHA1");
    }), &["systemd-report-audit"]),
    case("systemd report: a quote over qualifying data", signed, |s| sign(s, |d, _| d.attest(0)["extraData"] = json!("000b")), &["systemd-report-audit"]),
    case("systemd report: a session that was not exclusive", signed, |s| sign_audit(s, |_, _| (), |audit| {
        audit["attested"]["exclusiveSession"] = json!("NO");
    }), &["systemd-report-exclusive"]),
    // Which round and which boot.
    case("systemd report: the nonce of another round", signed, |s| sign(s, |d, _| d.nonce(&[1; 32])), &["systemd-report-nonce"]),
    case("systemd report: half the nonce", signed, |s| sign(s, |d, s| d.nonce(&s.node.binding(&s.evidence).0[..16])), &["systemd-report-nonce"]),
    case("systemd report: of a later boot", recorded, |s| s.evidence.systemd_report = REPORT_LATER_BOOT.into(), &["systemd-report-boot", "systemd-report-age"]),
    case("systemd report: of an earlier boot at the same clock", signed, |s| sign(s, |d, _| {
        for at in 0..d.components().len() {
            d.attest(at)["clockInfo"]["resetCount"] = json!(6);
        }
    }), &["systemd-report-boot"]),
    case("systemd report: before a suspend", signed, |s| sign(s, |d, _| d.attest(0)["clockInfo"]["restartCount"] = json!(9)), &["systemd-report-boot"]),
    case("systemd report: by another firmware", signed, |s| sign(s, |d, _| d.attest(1)["firmwareVersion"] = json!(1)), &["systemd-report-boot"]),
    case("systemd report: another boot id than the binding's", signed, |s| sign(s, |d, _| {
        let metrics = d.body["metrics"].as_array_mut().expect("a list");
        let id = metrics.iter_mut().find(|m| m["name"] == "io.systemd.Basic.BootID").expect("a boot id");
        id["value"] = json!("11".repeat(16));
    }), &["systemd-report-boot"]),
    case("systemd report: of some minutes ago", signed, |s| {
        s.node.tpm.clock.clock = 500_000;
        s.requote();
        sign(s, |d, _| clocks(d, |clock| clock - 121_000));
    }, &["systemd-report-age"]),
    case("systemd report: younger than the quote", signed, |s| sign(s, |d, _| clocks(d, |clock| clock + 1000)), &["systemd-report-age"]),
    // Over which registers.
    case("systemd report: another value of a register", signed, |s| sign(s, |d, s| {
        let mut pcrs = s.evidence.claimed_pcrs().expect("registers");
        pcrs.values.insert(4, Bank::Sha256.zero());
        d.quotes(&pcrs, None);
    }), REGISTERS),
    case("systemd report: a register that the Evidence does not show", signed, |s| sign(s, |d, _| d.quotes(&ORDINARY.pcrs(), Some(&[0, 16]))), REGISTERS),
    case("systemd report: no register", signed, |s| sign(s, |d, _| d.quotes(&Pcrs::new(Bank::Sha256), Some(&[]))), REGISTERS),
    case("systemd report: a measurement of PCR 15 that no log has", recorded, |s| {
        assert_eq!(s.evidence.tpm.userspace_log.0, REPORT_LOG);
        s.evidence.tpm.userspace_log = ORDINARY.userspace.into();
    }, REGISTERS),
    case("systemd report: another bank first", signed, |s| sign(s, |d, _| {
        let banks = d.attest(0)["attested"]["pcrSelect"].as_array_mut().expect("a list");
        banks.insert(0, json!({ "hash": "SHA1", "pcrSelect": [0] }));
    }), &["systemd-report-bank"]),
    case("systemd report: over another bank than the Evidence", sha384_without, |s| {
        let with = signed();
        let draft = Draft::new(&s.node, &with.evidence);
        s.evidence.systemd_report.0 = draft.seal(&s.node.tpm, |_| ());
    }, &["systemd-report-bank"]),
    // What a policy demands.
    case("systemd report: none where it is demanded", ordinary, |s| s.policy.systemd_report = Some(ReportRule::Required), MISSING),
    case("systemd report: without a nonce where one is demanded", recorded, |s| s.policy.systemd_report = Some(ReportRule::Nonce), MISSING),
    against("policy", "systemd report: a demand that means nothing", ordinary, |s| {
        s.policy.systemd_report = Some(ReportRule::Required);
        s.policy_text = Some(s.policy.to_toml().replace("\"required\"", "\"maybe\""));
    }, &["policy-file"]),
];

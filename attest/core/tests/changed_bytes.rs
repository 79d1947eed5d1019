//! No parser of what a node sends panics or hangs on changed bytes: every byte of real inputs is replaced by four others, and every
//! input is cut at every length. What comes out is not judged here; that it comes out is.

use rempart_attest::eventlog::{uefi, userspace};
use rempart_attest::policy::predict::{Options, predict};
use rempart_attest::policy::release::signatures::PcrSignatures;
use rempart_attest::policy::{Image, Instant, Policy, corim};
use rempart_attest::tpm::EkPublic;
use rempart_attest::{Bank, Evidence, ek::EkRoots};

const UEFI: &[u8] = include_bytes!("../../../tests/fixtures/boot/uefi.log");
const USERSPACE: &[u8] = include_bytes!("../../../tests/fixtures/boot/userspace.log");
const EK: &[u8] = include_bytes!("../../../tests/fixtures/ek/ek.pub");
const EK_CERTIFICATE: &[u8] = include_bytes!("../../../tests/fixtures/ek/ek.der");

fn changed(input: &[u8], mut parse: impl FnMut(&[u8])) {
    for at in 0..input.len() {
        parse(&input[..at]);
        let mut bytes = input.to_vec();
        for other in [0x00, 0x7f, 0xff, bytes[at] ^ 0x80] {
            bytes[at] = other;
            parse(&bytes);
        }
    }
}

#[test]
fn firmware_log() {
    changed(UEFI, |bytes| drop(uefi::parse(bytes, Bank::Sha256)));
}

#[test]
fn systemd_log() {
    changed(USERSPACE, |bytes| drop(userspace::parse(bytes, Bank::Sha256)));
}

#[test]
fn keys_and_certificates() {
    let ek = EkPublic::parse(EK).expect("template");
    changed(EK, |bytes| drop(EkPublic::parse(bytes)));
    changed(EK_CERTIFICATE, |bytes| {
        drop(EkRoots::default().verify(bytes, &ek, 1_800_000_000))
    });
}

#[test]
fn envelope() {
    let json = serde_json::json!({
        "v": 2, "node": "n", "challenge": "AAAA", "ephemeral": "11".repeat(32), "boot_id": "22".repeat(16),
        "audit_head": "33".repeat(32), "guard": { "enforcing": true, "why": null },
        "tee": { "kind": "sev-snp", "provider": "configfs-tsm", "report": "AA==", "certificates": "", "runtime_data": "" },
        "systemd_report": "",
        "tpm": { "bank": "sha256", "quote": "AA==", "signature": "AA==", "pcrs": [[0, "44".repeat(32)]], "ak_certificate": "x",
                 "uefi_log": "AA==", "userspace_log": "AA==", "ima_log": "AA==", "pcr_signatures": "", "os_release": "",
                 "tls_key": { "public": "AA==", "attest": "AA==", "signature": "AA==" } },
    });
    let evidence: Evidence = serde_json::from_value(json).expect("evidence");
    changed(&evidence.to_cbor(), |bytes| drop(Evidence::from_cbor(bytes)));
}

#[test]
fn pcr_signatures() {
    let json = include_bytes!("../../../tests/fixtures/pcrsig/signatures.json");
    changed(json, |bytes| drop(PcrSignatures::parse(bytes)));
}

#[test]
fn manifest() {
    let mut image = Image::new("image", Bank::Sha256);
    for pcr in rempart_attest::pcr::JUDGED {
        image.accepted_mut(pcr).expect("register").push(Bank::Sha256.zero());
    }
    let corim = corim::export(&Policy::of(vec![image])).expect("exported");
    changed(&corim, |bytes| drop(corim::import(bytes, None, Instant(1_800_000_000))));
}

#[test]
fn image_headers() {
    // A PE32+ header with one section, as far as the predictor looks before it finds that the rest is missing.
    let mut image = vec![0; 512];
    image[..2].copy_from_slice(b"MZ");
    image[0x3c] = 0x40;
    image[0x40..0x44].copy_from_slice(b"PE\0\0");
    image[0x46] = 1;
    image[0x54] = 240;
    image[0x58..0x5a].copy_from_slice(&0x20bu16.to_le_bytes());
    image[0x58 + 108] = 16;
    let section = 0x58 + 240;
    image[section..section + 8].copy_from_slice(b".sdmagic");
    image[section + 8] = 64;
    image[section + 16] = 64;
    image[section + 20..section + 22].copy_from_slice(&448u16.to_le_bytes());
    image[448..483].copy_from_slice(b"#### LoaderInfo: systemd-stub 257.1");
    changed(&image, |bytes| drop(predict(bytes, &Options::default())));
}

//! The quote: magic, type, selection, bank, values, counters.

use rempart_attest::tpm::counters::CountersRule;
use rempart_attest::tpm::quote::PINNED;
use rempart_attest::{Bank, Fixed};

use super::scene::{CERTIFY, Scene, ordinary, rsa, sha384};
use super::{Case, case};

const SHA1: u16 = 0x0004;
const SHA256: u16 = 0x000b;
const SHA384: u16 = 0x000c;

fn counters(scene: &mut Scene, rule: CountersRule, change: impl FnOnce(&mut rempart_attest::tpm::attest::ClockInfo)) {
    scene.policy.counters = Some(rule);
    change(&mut scene.node.tpm.clock);
    scene.requote();
}

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("bad magic", ordinary, |s| s.requote_as(|b| b.magic ^= 1), &["quote"]),
    case("certify passed as quote", ordinary, |s| s.requote_as(|b| b.kind = CERTIFY), &["quote"]),
    case("time attestation passed as quote", rsa, |s| s.requote_as(|b| b.kind = 0x8019), &["quote"]),
    case("quote cut short", ordinary, |s| {
        let mut bytes = s.evidence.tpm.quote.0.clone();
        bytes.pop();
        s.sign_quote(bytes);
    }, &["quote"]),
    case("quote with a byte behind", ordinary, |s| {
        let mut bytes = s.evidence.tpm.quote.0.clone();
        bytes.push(0);
        s.sign_quote(bytes);
    }, &["quote"]),
    case("selection with PCR 16 in place of 12", ordinary, |s| {
        s.reselect(&[(SHA256, &[0xff, 0x6f, 0x01])]);
    }, &["quote-selection"]),
    case("selection with PCR 23 in place of 7", ordinary, |s| {
        s.reselect(&[(SHA256, &[0x7f, 0x7f, 0x80])]);
    }, &["quote-selection"]),
    case("selection with PCR 16 added", ordinary, |s| s.reselect(&[(SHA256, &[0xff, 0x7f, 0x01])]), &["quote-selection"]),
    case("selection with PCR 15 added", ordinary, |s| s.reselect(&[(SHA256, &[0xff, 0xff, 0])]), &["quote-selection"]),
    case("selection without PCR 12", ordinary, |s| s.reselect(&[(SHA256, &[0xff, 0x6f, 0])]), &["quote-selection"]),
    case("empty selection", ordinary, |s| s.reselect(&[(SHA256, &[0, 0, 0])]), &["quote-selection"]),
    case("no bank selected", ordinary, |s| s.reselect(&[]), &["quote-selection"]),
    case("two banks selected", ordinary, |s| {
        s.reselect(&[(SHA256, &PINNED), (SHA384, &PINNED)]);
    }, &["quote-selection"]),
    case("the bank twice, its registers in another order", ordinary, |s| {
        s.reselect(&[(SHA256, &[0, 0x7f, 0]), (SHA256, &[0xff, 0, 0])]);
    }, &["quote-selection"]),
    case("a bit map of four bytes", ordinary, |s| s.reselect(&[(SHA256, &[0xff, 0x7f, 0, 0])]), &["quote"]),
    case("wrong bank: SHA-1", ordinary, |s| s.reselect(&[(SHA1, &PINNED)]), &["quote-bank"]),
    case("wrong bank: SHA-384 where SHA-256 is said", ordinary, |s| s.reselect(&[(SHA384, &PINNED)]), &["quote-bank"]),
    case("wrong bank: SHA-256 where SHA-384 is said", sha384, |s| s.reselect(&[(SHA256, &PINNED)]), &["quote-bank"]),
    case("changed signature", ordinary, |s| *s.evidence.tpm.signature.0.last_mut().expect("byte") ^= 1, &["signature"]),
    case("changed signature of an RSA key", rsa, |s| s.evidence.tpm.signature.0[100] ^= 1, &["signature"]),
    case("signature with SHA-1", ordinary, |s| s.evidence.tpm.signature.0[3] = 4, &["signature"]),
    case("signature by a scheme of another key", rsa, |s| s.evidence.tpm.signature.0[1] = 0x18, &["signature"]),
    case("no signature", ordinary, |s| s.evidence.tpm.signature.0.clear(), &["signature"]),
    case("a register that was not quoted so", ordinary, |s| {
        s.evidence.tpm.pcrs[11].1 = Fixed([1; 32]).into();
    }, &["pcr-digest"]),
    case("registers in another order", ordinary, |s| {
        let (a, b) = (s.evidence.tpm.pcrs[4].1, s.evidence.tpm.pcrs[7].1);
        (s.evidence.tpm.pcrs[4].1, s.evidence.tpm.pcrs[7].1) = (b, a);
    }, &["pcr-digest"]),
    case("short list of registers", ordinary, |s| s.evidence.tpm.pcrs.truncate(14), &["pcr-list"]),
    case("empty list of registers", ordinary, |s| s.evidence.tpm.pcrs.clear(), &["pcr-list"]),
    case("PCR 16 in place of 14 in the list", ordinary, |s| s.evidence.tpm.pcrs[14].0 = 16, &["pcr-list"]),
    case("a register twice in the list", ordinary, |s| s.evidence.tpm.pcrs[14].0 = 13, &["pcr-list"]),
    case("a value of another bank in the list", ordinary, |s| {
        s.evidence.tpm.pcrs[8].1 = Fixed([0; 48]).into();
    }, &["pcr-list"]),
    case("a bank that the policy has no values for", ordinary, |s| {
        s.policy.images[0] = rempart_attest::testing::policy_for(
            &rempart_attest::testing::IMA_NG.pcrs_of(Bank::Sha384),
        ).images.remove(0);
    }, &["bank"]),
    case("more suspends than the policy accepts", ordinary, |s| {
        let rule = CountersRule { max_restarts: Some(1), ..CountersRule::default() };
        counters(s, rule, |clock| clock.restart_count = 2);
    }, &["counters-restart"]),
    case("a clock that is not safe", ordinary, |s| {
        let rule = CountersRule { safe_clock: true, ..CountersRule::default() };
        counters(s, rule, |clock| clock.safe = false);
    }, &["counters-clock"]),
    case("firmware of the TPM that the policy does not name", ordinary, |s| {
        let rule = CountersRule { firmware: vec!["0x2019102300163636".into()], ..CountersRule::default() };
        counters(s, rule, |clock| clock.firmware_version = 1);
    }, &["tpm-firmware"]),
];

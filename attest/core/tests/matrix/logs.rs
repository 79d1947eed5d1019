//! Event logs: what is relabelled, added, left out or over-long does not add up to the quoted registers, or does not parse.

use rempart_attest::pcr::extended;
use rempart_attest::{Evidence, Fixed, limits};

use super::scene::{Scene, ordinary, sha384};
use super::{Case, case};

/// TCG_PCR_EVENT2 records of a log after its header.
pub struct Record {
    pub from: usize,
    pub to: usize,
    pub pcr: u32,
    pub kind: u32,
}

const EV_NO_ACTION: u32 = 3;
const EV_SEPARATOR: u32 = 4;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn records(log: &[u8]) -> Vec<Record> {
    let mut at = 32 + word(log, 28) as usize;
    let mut out = Vec::new();
    while at < log.len() {
        let mut end = at + 12;
        for _ in 0..word(log, at + 8) {
            let algorithm = u16::from_le_bytes([log[end], log[end + 1]]);
            end += 2 + match algorithm {
                0x04 => 20,
                0x0b => 32,
                0x0c => 48,
                _ => 64,
            };
        }
        let to = end + 4 + word(log, end) as usize;
        out.push(Record {
            from: at,
            to,
            pcr: word(log, at),
            kind: word(log, at + 4),
        });
        at = to;
    }
    out
}

fn first(log: &[u8], pcr: u32, kind: impl Fn(u32) -> bool) -> Record {
    let mut found = records(log).into_iter().filter(|r| r.pcr == pcr && kind(r.kind));
    found.next().expect("the recorded boot has such an event")
}

fn log(scene: &mut Scene) -> &mut Vec<u8> {
    &mut scene.evidence.tpm.uefi_log.0
}

/// Writes another word at an offset of the first such event.
fn relabel(scene: &mut Scene, pcr: u32, kind: impl Fn(u32) -> bool, offset: usize, value: u32) {
    let log = log(scene);
    let at = first(log, pcr, kind).from + offset;
    log[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn remove(scene: &mut Scene, pcr: u32, kind: impl Fn(u32) -> bool) {
    let log = log(scene);
    let record = first(log, pcr, kind);
    log.drain(record.from..record.to);
}

fn repeat(scene: &mut Scene, pcr: u32, kind: impl Fn(u32) -> bool) {
    let log = log(scene);
    let record = first(log, pcr, kind);
    log.extend_from_within(record.from..record.to);
}

fn swap_first_two(scene: &mut Scene, pcr: u32) {
    let log = log(scene);
    let of: Vec<Record> = records(log).into_iter().filter(|r| r.pcr == pcr).take(2).collect();
    let (a, b) = (log[of[0].from..of[0].to].to_vec(), log[of[1].from..of[1].to].to_vec());
    log.splice(of[1].from..of[1].to, a);
    log.splice(of[0].from..of[0].to, b);
}

/// An honest TPM that saw one more event than the logs tell; the policy knows that value.
fn unlogged(scene: &mut Scene, pcr: u8) {
    let at = usize::from(pcr);
    let value = extended(&scene.evidence.tpm.pcrs[at].1, &Fixed([1; 32]).into());
    scene.evidence.tpm.pcrs[at].1 = value;
    if let Some(accepted) = scene.policy.images[0].accepted_mut(pcr) {
        *accepted = vec![value];
    }
    scene.requote();
}

fn over_long(change: impl FnOnce(&mut Evidence)) -> impl FnOnce(&mut Scene) {
    move |scene| change(&mut scene.evidence)
}

const ANY: fn(u32) -> bool = |_| true;
const SEPARATOR: fn(u32) -> bool = |kind| kind == EV_SEPARATOR;

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("event relabelled as EV_NO_ACTION", ordinary, |s| relabel(s, 4, ANY, 4, EV_NO_ACTION), &["event-log"]),
    case("event moved to another judged register", ordinary, |s| relabel(s, 4, ANY, 0, 7), &["event-log", "event-log"]),
    case("event moved to a register that nobody judges", ordinary, |s| relabel(s, 4, ANY, 0, 5), &["event-log"]),
    case("event moved to PCR 16", ordinary, |s| relabel(s, 4, ANY, 0, 16), &["event-log"]),
    case("event moved to PCR 24", ordinary, |s| relabel(s, 4, ANY, 0, 24), &["uefi-log"]),
    case("missing separator in PCR 7", ordinary, |s| remove(s, 7, SEPARATOR), &["event-log"]),
    case("missing separator in PCR 4", ordinary, |s| remove(s, 4, SEPARATOR), &["event-log"]),
    case("extra separator in PCR 7", ordinary, |s| repeat(s, 7, SEPARATOR), &["event-log"]),
    case("extra separator in PCR 12", ordinary, |s| {
        repeat(s, 4, SEPARATOR);
        let log = log(s);
        let last = records(log).pop().expect("events").from;
        log[last..last + 4].copy_from_slice(&12u32.to_le_bytes());
    }, &["event-log"]),
    case("missing event in PCR 9", ordinary, |s| remove(s, 9, ANY), &["event-log"]),
    case("missing event in PCR 11", ordinary, |s| remove(s, 11, ANY), &["event-log"]),
    case("repeated event in PCR 11", ordinary, |s| repeat(s, 11, ANY), &["event-log"]),
    case("two events in another order", ordinary, |s| swap_first_two(s, 7), &["event-log"]),
    case("changed digest of an event", ordinary, |s| {
        let log = log(s);
        let at = first(log, 4, ANY).from + 14;
        log[at] ^= 1;
    }, &["event-log"]),
    case("an event that no log tells, in PCR 4", ordinary, |s| unlogged(s, 4), &["event-log"]),
    case("an event that no log tells, in PCR 12", ordinary, |s| unlogged(s, 12), &["event-log"]),
    case("missing SHA-384 event in PCR 11", sha384, |s| remove(s, 11, ANY), &["event-log"]),
    case("no firmware log", ordinary, |s| log(s).clear(), &["uefi-log"]),
    case("firmware log cut in the middle of an event", ordinary, |s| {
        let len = log(s).len() - 3;
        log(s).truncate(len);
    }, &["uefi-log"]),
    case("firmware log in the SHA-1 form", ordinary, |s| {
        *log(s) = include_bytes!("../../../../tests/fixtures/legacy/bios.log").to_vec();
    }, &["uefi-log"]),
    case("firmware log with another specification's header", ordinary, |s| {
        let log = log(s);
        log[32 + 13] = b'2';
    }, &["uefi-log"]),
    case("firmware log without the quoted bank", ordinary, |s| {
        let log = log(s);
        log[32 + 16 + 8 + 4] = 4;
    }, &["uefi-log"]),
    case("event with an over-long size", ordinary, |s| {
        let log = log(s);
        let at = first(log, 4, ANY).from + 12 + 34;
        log[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    }, &["uefi-log"]),
    case("event with too many digests", ordinary, |s| relabel(s, 4, ANY, 8, 1000), &["uefi-log"]),
    case("startup locality that comes late", ordinary, |s| {
        let mut record = [0u32, EV_NO_ACTION, 1].map(u32::to_le_bytes).concat();
        record.extend_from_slice(&[0x0b, 0]);
        record.extend_from_slice(&[0; 32]);
        record.extend_from_slice(&17u32.to_le_bytes());
        record.extend_from_slice(b"StartupLocality\0\x03");
        log(s).extend_from_slice(&record);
    }, &["uefi-log"]),
    case("no systemd log", ordinary, |s| s.evidence.tpm.userspace_log.0.clear(), &["event-log"]),
    case("systemd log cut in the middle of a record", ordinary, |s| {
        let len = s.evidence.tpm.userspace_log.0.len() - 5;
        s.evidence.tpm.userspace_log.0.truncate(len);
    }, &["userspace-log"]),
    case("over-long firmware log", ordinary, |s| {
        over_long(|e| e.tpm.uefi_log.0.resize(limits::UEFI_LOG + 1, 0))(s);
    }, &["envelope"]),
    case("over-long systemd log", ordinary, |s| {
        over_long(|e| e.tpm.userspace_log.0.resize(limits::USERSPACE_LOG + 1, b' '))(s);
    }, &["envelope"]),
    case("over-long IMA list", ordinary, |s| {
        over_long(|e| e.tpm.ima_log.0.resize(limits::IMA_LOG + 1, 0))(s);
    }, &["envelope"]),
    case("over-long quote", ordinary, |s| over_long(|e| e.tpm.quote.0.resize(limits::TPM2B + 1, 0))(s), &["envelope"]),
    case("Evidence of version 1", ordinary, |s| s.evidence.v = 1, &["envelope"]),
    case("Evidence cut short", ordinary, |s| {
        let mut bytes = s.evidence.to_cbor();
        bytes.truncate(bytes.len() / 2);
        s.bytes = Some(bytes);
    }, &["envelope"]),
    case("Evidence with a systemd report that nobody judges", ordinary, |s| {
        s.evidence.systemd_report.0 = b"{}".to_vec();
    }, &["systemd-report"]),
];

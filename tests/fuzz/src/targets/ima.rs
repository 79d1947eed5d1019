//! The kernel's list of measured files. Each entry carries a digest of its own data, so a changed one is refused at once; each input
//! is therefore tried as it is, and with digests that fit, as a kernel under the sender's control would write them.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rempart_attest::eventlog::ima::{Content, Measurement, PCR, measured, signature};
use rempart_attest::pcr::{Bank, PcrValue};
use rempart_attest::testing::{Entry, IMA_NG, IMA_SIG, Template};

use super::{Memory, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "ima-list",
        from: "the kernel's list of measured files, by the node",
        max_len: 4096,
        memory: Memory::OURS,
        runs: 20_000,
        run: list,
        seeds: lists,
    },
    Target {
        name: "ima-signature",
        from: "a file's signature in that list",
        max_len: 600,
        memory: Memory::OURS,
        runs: 40_000,
        run: file_signature,
        seeds: || vec![[&[3, 2, 4, 0xff, 0xff, 0xff, 0xff, 0, 4][..], &[1; 4]].concat()],
    },
];

/// Bytes of a TCG_PCR_EVENT's register number and of the digest behind it.
const HEAD: usize = 4;
const SHA1: usize = 20;

fn list(data: &[u8]) {
    for bank in [Bank::Sha256, Bank::Sha384] {
        // A register that no list replays to: everything is read.
        let nothing = PcrValue::from_bytes(&vec![7; bank.size()]).expect("the bank's size");
        assert!(measured(data, bank, &nothing).is_err());
        let (fitting, registers) = fitted(data, bank);
        for (entries, register) in registers.iter().enumerate() {
            match measured(&fitting, bank, register) {
                Ok(found) => {
                    assert_eq!(
                        found.len(),
                        entries,
                        "another beginning of the list than the one that was quoted"
                    );
                    found.iter().for_each(|measurement| lies_in(&fitting, measurement));
                }
                // An entry that is not understood ends what can be verified.
                Err(_) => break,
            }
        }
    }
}

fn lies_in(list: &[u8], measurement: &Measurement<'_>) {
    let extra = match measurement.content {
        Content::File => &[],
        Content::Signed(bytes) | Content::Buffer(bytes) => bytes,
    };
    for part in [measurement.digest, measurement.name.as_bytes(), extra] {
        let inside = list.as_ptr_range();
        assert!(
            part.is_empty() || inside.contains(&part.as_ptr()),
            "a part that is not the list's"
        );
    }
}

/// The list with digests that fit, as far as it has the form of one, and PCR 10 after each entry. No entry is judged here.
fn fitted(data: &[u8], bank: Bank) -> (Vec<u8>, Vec<PcrValue>) {
    let mut out = data.to_vec();
    let mut registers = vec![bank.zero()];
    let mut at = 0;
    while let Some((hashed, end)) = entry(data, at) {
        let own = at + HEAD;
        let violation = data[own..own + SHA1].iter().all(|byte| *byte == 0);
        let ones = vec![0xff; bank.size()];
        let extend = if violation {
            ones
        } else {
            bank.hash(&[&hashed]).as_bytes().to_vec()
        };
        if !violation {
            out[own..own + SHA1].copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, &hashed).as_ref());
        }
        let before = registers[registers.len() - 1];
        registers.push(bank.hash(&[before.as_bytes(), &extend]));
        at = end;
    }
    (out, registers)
}

/// What the digest of the entry at `at` is over, and where the entry ends.
fn entry(data: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let register = u32::from_le_bytes(data.get(at..at + HEAD)?.try_into().ok()?);
    let (template, from) = sized(data, at + HEAD + SHA1).filter(|_| register == u32::from(PCR))?;
    if template != b"ima" {
        let (fields, end) = sized(data, from)?;
        return Some((fields.to_vec(), end));
    }
    let file = data.get(from..from + SHA1)?;
    let (name, end) = sized(data, from + SHA1)?;
    let mut padded = name.to_vec();
    padded.resize(padded.len().max(256), 0);
    Some(([file, &padded].concat(), end))
}

fn sized(data: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let len = u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?) as usize;
    let end = at.checked_add(4)?.checked_add(len)?;
    Some((data.get(at + 4..end)?, end))
}

fn lists() -> Vec<Vec<u8>> {
    let one = |template, violation| Entry {
        template,
        violation,
        digest: vec![1; if template == Template::Ima { 20 } else { 32 }],
        extra: vec![3, 2, 4],
        ..Entry::file("/usr/bin/true", b"true")
    };
    let templates = [Template::Ima, Template::ImaNg, Template::ImaSig, Template::ImaBuf].map(|t| one(t, false));
    let mut with_violation = templates.to_vec();
    with_violation.push(one(Template::ImaNg, true));
    let mut seeds = vec![Entry::list(Bank::Sha256, &with_violation).0];
    seeds.extend(templates.iter().map(Entry::record));
    seeds.extend([IMA_SIG, IMA_NG].map(|boot| beginning(boot.ima, 8)));
    seeds
}

/// The first `count` entries of a recorded list.
fn beginning(list: &[u8], count: usize) -> Vec<u8> {
    let mut end = 0;
    for _ in 0..count {
        end = entry(list, end).map_or(end, |(_, end)| end);
    }
    list[..end].to_vec()
}

fn file_signature(data: &[u8]) {
    for algorithm in ["sha1", "sha256", "sha512"] {
        assert!(
            signature::verify(data, algorithm, &[1; 32], &[]).is_err(),
            "nobody may sign, and somebody did"
        );
    }
}

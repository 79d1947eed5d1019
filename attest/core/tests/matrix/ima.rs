//! IMA: the list of a real boot whose policy names what was measured; and lists made for the case.

use std::collections::BTreeMap;

use rempart_attest::Bank;
use rempart_attest::eventlog::ima::{Content, ImaRule, PCR, measured};
use rempart_attest::testing::{AkKind, Boot, Entry, IMA_NG, IMA_OLD, IMA_SIG, Template, ima_old_register};

use super::scene::Scene;
use super::{Case, against, case};

/// A rule that names everything in the recorded list.
fn rule_for(boot: &Boot, bank: Bank) -> ImaRule {
    let quoted = boot.pcrs_of(bank).value(PCR).expect("register");
    let mut allow = BTreeMap::<String, Vec<String>>::new();
    let mut keyrings = BTreeMap::<String, Vec<_>>::new();
    for measurement in measured(boot.ima, bank, &quoted).expect("the recorded list replays") {
        match measurement.content {
            Content::Buffer(buffer) => {
                let digest = rempart_attest::bytes::sha256(buffer);
                keyrings.entry(measurement.name.into()).or_default().push(digest);
            }
            Content::File | Content::Signed(_) => {
                let digest = format!("{}:{}", measurement.algorithm, hex::encode(measurement.digest));
                allow.entry(measurement.name.into()).or_default().push(digest);
            }
        }
    }
    ImaRule {
        allow,
        keyrings,
        ..ImaRule::default()
    }
}

fn recorded(boot: &Boot, kind: AkKind, bank: Bank) -> Scene {
    let mut scene = Scene::new(kind, boot, bank);
    scene.evidence.tpm.ima_log.0 = boot.ima.to_vec();
    scene.policy.images[0].ima = Some(rule_for(boot, bank));
    scene
}

fn sig() -> Scene {
    recorded(&IMA_SIG, AkKind::P256, Bank::Sha256)
}

fn ng() -> Scene {
    recorded(&IMA_NG, AkKind::P384, Bank::Sha384)
}

/// The kernel measures one more entry, and the TPM saw it.
fn append(scene: &mut Scene, entry: &Entry) {
    let bank = scene.evidence.tpm.bank;
    let at = usize::from(PCR);
    scene.evidence.tpm.pcrs[at].1 = entry.extend(bank, &scene.evidence.tpm.pcrs[at].1);
    scene.evidence.tpm.ima_log.0.extend(entry.record());
    scene.requote();
}

fn rule(scene: &mut Scene) -> &mut ImaRule {
    scene.policy.images[0].ima.as_mut().expect("the scene has one")
}

fn forged() -> Entry {
    Entry {
        template: Template::ImaSig,
        extra: vec![3, 2, 4, 0, 0, 0, 1, 0, 1, 9],
        ..Entry::file("/usr/bin/nc", b"nc")
    }
}

// One line a case, as a table is read.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("no IMA list where the policy wants one", sig, |s| s.evidence.tpm.ima_log.0.clear(), &["ima-log"]),
    case("IMA list shorter than the quote", sig, |s| {
        let half = s.evidence.tpm.ima_log.0.len() / 2;
        s.evidence.tpm.ima_log.0.truncate(half);
    }, &["ima-log"]),
    case("IMA list with a changed digest", ng, |s| {
        let list = &mut s.evidence.tpm.ima_log.0;
        let at = list.windows(8).position(|w| w == b"sha256:\0").expect("an entry") + 8;
        list[at] ^= 1;
    }, &["ima-log"]),
    case("IMA list with an unknown template", sig, |s| {
        let mut record = Entry::file("/x", b"").record();
        record[28..34].copy_from_slice(b"imb-ng");
        s.evidence.tpm.ima_log.0.splice(0..0, record);
    }, &["ima-log"]),
    case("IMA list measured into another register", sig, |s| s.evidence.tpm.ima_log.0[0] = 11, &["ima-log"]),
    case("a file that the policy does not name", sig, |s| append(s, &Entry::file("/usr/bin/nc", b"nc")), &["ima-file"]),
    case("a file that the policy does not name, SHA-384 bank", ng, |s| {
        append(s, &Entry::file("/usr/bin/nc", b"nc"));
    }, &["ima-file"]),
    case("a named file with another content", sig, |s| {
        rule(s).allow.insert("/usr/bin/nc".into(), vec![format!("sha256:{}", "00".repeat(32))]);
        append(s, &Entry::file("/usr/bin/nc", b"nc"));
    }, &["ima-digest"]),
    case("a file signed by nobody that the policy knows", sig, |s| append(s, &forged()), &["ima-signature"]),
    case("a violation", sig, |s| {
        append(s, &Entry { violation: true, ..Entry::file("/var/log/x", b"") });
    }, &["ima-violation"]),
    case("a key put into a keyring", sig, |s| {
        append(s, &Entry { template: Template::ImaBuf, extra: b"key".to_vec(), ..Entry::file(".ima", b"key") });
    }, &["ima-keyring"]),
    case("a file measured by SHA-1", sig, |s| {
        append(s, &Entry { template: Template::Ima, algorithm: "sha1", digest: vec![1; 20], ..Entry::file("/x", b"") });
    }, &["ima-hash"]),
    case("a recorded list of the template ima, whose digests are SHA-1", sig, |s| {
        s.evidence.tpm.ima_log.0 = IMA_OLD.to_vec();
        s.evidence.tpm.pcrs[usize::from(PCR)].1 = ima_old_register(Bank::Sha256);
        s.requote();
    }, &["ima-hash"; 16]),
    case("a boot aggregate of other registers", sig, |s| {
        s.evidence.tpm.pcrs[1].1 = rempart_attest::Fixed([1; 32]).into();
        s.requote();
    }, &["ima-boot-aggregate"]),
    case("a second boot aggregate", sig, |s| {
        rule(s).allow.remove("boot_aggregate");
        append(s, &Entry::file("boot_aggregate", b""));
    }, &["ima-file"]),
    against("policy", "an IMA rule with SHA-1 digests", sig, |s| {
        rule(s).allow.insert("/x".into(), vec![format!("sha1:{}", "00".repeat(20))]);
    }, &["policy-file"]),
];

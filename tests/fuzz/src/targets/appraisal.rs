//! The whole way: Evidence through *verify* and *appraise*. The TPM is honest, the software on the node is not: it sends any logs,
//! any envelope. What may be affirmed is known beforehand, so each target says not only that nothing panics, but who may pass.

use std::sync::OnceLock;

use rempart_attest::appraise::appraise;
use rempart_attest::eventlog::{Event, replay, uefi, userspace};
use rempart_attest::pcr::{Bank, JUDGED, Pcrs, QUOTED};
use rempart_attest::policy::Policy;
use rempart_attest::testing::{NOW, Node, ORDINARY, SMBIOS, policy};
use rempart_attest::verify::verify;
use rempart_attest::{Blob, Evidence};

use super::{Memory, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "appraise-logs",
        from: "event logs that equal their quote, through verify and appraise",
        max_len: 8192,
        memory: Memory::SERDE,
        runs: 1_000,
        run: logs,
        seeds: || {
            vec![
                joined(ORDINARY.uefi, ORDINARY.userspace),
                joined(SMBIOS.uefi, SMBIOS.userspace),
            ]
        },
    },
    Target {
        name: "appraise-evidence",
        from: "an envelope, as it came and quoted again, through verify and appraise",
        max_len: 8192,
        memory: Memory::SERDE,
        runs: 2_000,
        run: envelope,
        seeds: envelopes,
    },
];

/// Stands for the certificate in kept inputs, because each process makes keys of its own.
const CERTIFICATE: &str = "@";

struct World {
    node: Node,
    policy: Policy,
    recorded: Vec<Event>,
    original: Evidence,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let node = Node::new();
        let mut original = node.evidence(&ORDINARY);
        node.certify(&mut original);
        World {
            policy: policy(),
            recorded: events(ORDINARY.uefi, ORDINARY.userspace).expect("a recorded boot"),
            original,
            node,
        }
    })
}

fn events(uefi_log: &[u8], userspace_log: &[u8]) -> Option<Vec<Event>> {
    let mut events = uefi::parse(uefi_log, Bank::Sha256).ok()?;
    events.extend(userspace::parse(userspace_log, Bank::Sha256).ok()?);
    Some(events)
}

/// A length of two bytes, firmware's log, systemd's log.
fn joined(uefi_log: &[u8], userspace_log: &[u8]) -> Vec<u8> {
    let len = u16::try_from(uefi_log.len()).expect("short logs");
    [&len.to_le_bytes(), uefi_log, userspace_log].concat()
}

/// Whatever the logs look like: only the recorded boot's digests, in its order, are affirmed.
fn logs(data: &[u8]) {
    let Some((len, rest)) = data.split_first_chunk() else {
        return;
    };
    let (uefi_log, userspace_log) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*len))));
    let World {
        node, policy, recorded, ..
    } = world();
    let measured = events(uefi_log, userspace_log);
    let registers = match &measured {
        Some(events) => {
            let replayed = replay::replay(Bank::Sha256, events);
            let value = |index| (index, replayed.value(index).unwrap_or(Bank::Sha256.zero()));
            Pcrs::collect(Bank::Sha256, QUOTED.map(value)).expect("each register once")
        }
        None => ORDINARY.pcrs(),
    };
    let evidence = node.evidence_of(&registers, uefi_log, userspace_log);
    let verified = verify(&evidence, &node.context()).expect("the quote is authentic");
    if appraise(&verified, policy, NOW).is_ok() {
        let measured = measured.expect("a log that cannot be read is never affirmed");
        for pcr in JUDGED {
            assert!(
                digests(&measured, pcr).eq(digests(recorded, pcr)),
                "PCR {pcr} was affirmed with other events"
            );
        }
    }
}

fn digests(events: &[Event], pcr: u8) -> impl Iterator<Item = &rempart_attest::Digest> {
    events
        .iter()
        .filter(move |event| event.pcr == pcr)
        .map(|event| &event.digest)
}

/// Odd first byte: the TPM quotes what the envelope says, so only its registers decide. Even: the original quote, so nothing that it
/// is bound to may differ from the original.
fn envelope(data: &[u8]) {
    let Some((flag, cbor)) = data.split_first() else { return };
    let World {
        node, policy, original, ..
    } = world();
    let Ok(mut evidence) = Evidence::from_cbor(cbor) else {
        return;
    };
    if evidence.tpm.ak_certificate == CERTIFICATE {
        evidence.tpm.ak_certificate.clone_from(&node.certificate);
    }
    let again = flag % 2 == 1;
    if again && evidence.claimed_pcrs().is_some() {
        node.quote(&mut evidence);
    } else if !again {
        evidence.tpm.quote.clone_from(&original.tpm.quote);
        evidence.tpm.signature.clone_from(&original.tpm.signature);
    }
    let Ok(verified) = verify(&evidence, &node.context()) else {
        return;
    };
    assert_eq!(evidence.node, node.name);
    assert!(
        evidence.tpm.ak_certificate.trim() == node.certificate.trim() || !again,
        "another certificate"
    );
    if !again {
        assert_eq!(evidence.challenge, original.challenge);
        assert_eq!(evidence.ephemeral, original.ephemeral);
        assert_eq!(evidence.boot_id, original.boot_id);
        assert_eq!(evidence.audit_head, original.audit_head);
        assert_eq!(evidence.guard, original.guard);
    }
    if appraise(&verified, policy, NOW).is_ok() {
        let (found, wanted) = (evidence.claimed_pcrs().expect("verified"), ORDINARY.pcrs());
        assert!(
            JUDGED.iter().all(|pcr| found.value(*pcr) == wanted.value(*pcr)),
            "other registers were affirmed"
        );
    }
}

fn envelopes() -> Vec<Vec<u8>> {
    let mut kept = world().original.clone();
    kept.tpm.ak_certificate = CERTIFICATE.into();
    let mut bare = kept.clone();
    bare.tpm.tls_key = None;
    (bare.tpm.uefi_log, bare.tpm.userspace_log) = (Blob::default(), Blob::default());
    [kept, bare]
        .iter()
        .flat_map(|evidence| [0, 1].map(|flag| [&[flag], evidence.to_cbor().as_slice()].concat()))
        .collect()
}

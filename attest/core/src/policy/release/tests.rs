//! The counter in the measured os-release, over the sections that systemd-measure 257 calculated and signed.

use super::*;
use crate::pcr::extended;

const SIGNATURES: &[u8] = include_bytes!("../../../../../tests/fixtures/pcrsig/signatures.json");
const RELEASE: &str = include_str!("../../../../../tests/fixtures/pcrsig/release.pub");
const OS_RELEASE: &[u8] = include_bytes!("../../../../../tests/fixtures/pcrsig/osrel");
const VALUES: &str = include_str!("../../../../../tests/fixtures/pcrsig/pcrs");
const SECTIONS: [(&str, &[u8]); 4] = [
    (".linux", include_bytes!("../../../../../tests/fixtures/pcrsig/linux")),
    (".osrel", OS_RELEASE),
    (
        ".cmdline",
        include_bytes!("../../../../../tests/fixtures/pcrsig/cmdline"),
    ),
    (".initrd", include_bytes!("../../../../../tests/fixtures/pcrsig/initrd")),
];

struct Node {
    pcrs: Pcrs,
    events: Vec<Event>,
}

impl Node {
    /// A boot of these sections up to the phase "ready".
    fn boot(bank: Bank, sections: &[(&str, &[u8])]) -> Self {
        let event = |digest| Event {
            pcr: PCR,
            digest,
            text: String::new(),
            command_line: None,
        };
        let measured = sections
            .iter()
            .flat_map(|(name, content)| [bank.hash(&[name.as_bytes(), &[0]]), bank.hash(&[content])]);
        let phases = ["enter-initrd", "leave-initrd", "sysinit", "ready"].map(|p| bank.hash(&[p.as_bytes()]));
        let events: Vec<Event> = measured.chain(phases).map(event).collect();
        let value = events.iter().fold(bank.zero(), |old, e| extended(&old, &e.digest));
        let pcrs = Pcrs::collect(bank, [(PCR, value)]).expect("one register");
        Self { pcrs, events }
    }

    fn failures(&self, policy: &Pcr11Signed, os_release: &[u8]) -> Vec<SignedError> {
        policy.failures(&Claims {
            pcrs: &self.pcrs,
            events: &self.events,
            signatures: SIGNATURES,
            os_release,
        })
    }
}

fn policy(counter: Option<u64>) -> Pcr11Signed {
    Pcr11Signed {
        key: ReleaseKey::from_pem(RELEASE).expect("key"),
        counter,
        revoked: vec![],
    }
}

#[test]
fn our_registers_are_the_ones_that_systemd_measure_calculates() {
    for bank in [Bank::Sha256, Bank::Sha384] {
        let node = Node::boot(bank, &SECTIONS);
        let value = node.pcrs.value(PCR).expect("register");
        let line = format!("{bank} enter-initrd:leave-initrd:sysinit:ready {value}");
        assert!(VALUES.lines().any(|l| l == line), "{line}");
        assert_eq!(node.failures(&policy(Some(7)), OS_RELEASE), []);
    }
}

#[test]
fn an_image_below_the_counter_is_too_old() {
    let node = Node::boot(Bank::Sha256, &SECTIONS);
    assert_eq!(
        node.failures(&policy(None), b""),
        [],
        "without a counter the os-release is not needed"
    );
    assert_eq!(
        node.failures(&policy(Some(8)), OS_RELEASE),
        [SignedError::TooOld { found: 7, least: 8 }]
    );
}

#[test]
fn an_os_release_that_was_not_measured_proves_nothing() {
    let node = Node::boot(Bank::Sha256, &SECTIONS);
    let forged = b"ID=example\nREMPART_IMAGE_COUNTER=99\n";
    for os_release in [&forged[..], b"", &vec![b'\n'; limits::OS_RELEASE + 1]] {
        let failures = node.failures(&policy(Some(7)), os_release);
        assert!(matches!(failures[..], [SignedError::NoCounter(_)]), "{failures:?}");
    }
    // Content of another section with the right name put behind it, or at an odd place, does not pose as the section.
    let mut shifted = Node::boot(Bank::Sha256, &[(".linux", b".osrel\0"), (".osrel", OS_RELEASE)]);
    let failures = shifted.failures(&policy(Some(7)), OS_RELEASE);
    assert!(matches!(failures[..], [SignedError::Signature(_)]), "{failures:?}");
    shifted.events.remove(0);
    let failures = shifted.failures(&policy(Some(7)), b".osrel\0");
    assert!(
        failures.iter().any(|f| matches!(f, SignedError::NoCounter(_))),
        "{failures:?}"
    );
}

#[test]
fn an_unsigned_image_and_a_revoked_one_are_refused_and_all_reasons_told() {
    let unsigned = Node::boot(Bank::Sha256, &SECTIONS[1..]);
    let failures = unsigned.failures(&policy(Some(8)), OS_RELEASE);
    assert!(matches!(
        failures[..],
        [
            SignedError::Signature(PcrSignatureError::OtherValue(_)),
            SignedError::TooOld { .. }
        ]
    ));
    let node = Node::boot(Bank::Sha256, &SECTIONS);
    let mut revoking = policy(None);
    revoking.revoked = node.pcrs.value(PCR).into_iter().collect();
    assert_eq!(node.failures(&revoking, b""), [SignedError::Revoked]);
    let nothing = Node {
        pcrs: Pcrs::new(Bank::Sha256),
        events: vec![],
    };
    assert_eq!(nothing.failures(&policy(None), b""), [SignedError::NotQuoted]);
}

#[test]
fn the_counter_is_one_plain_number() {
    let line = |text: &str| counter_line(text.as_bytes());
    assert_eq!(line("ID=x\nREMPART_IMAGE_COUNTER=12\n"), Some(12));
    assert_eq!(line("REMPART_IMAGE_COUNTER=\"12\"\nID=x"), Some(12));
    for text in [
        "",
        "ID=x",
        "REMPART_IMAGE_COUNTER=",
        "REMPART_IMAGE_COUNTER=-1",
        "REMPART_IMAGE_COUNTER=+1",
        "REMPART_IMAGE_COUNTER=1 2",
        "REMPART_IMAGE_COUNTER=\"1",
        "REMPART_IMAGE_COUNTER=18446744073709551616",
        "REMPART_IMAGE_COUNTER=1\nREMPART_IMAGE_COUNTER=9",
        "XREMPART_IMAGE_COUNTER=1",
        "#REMPART_IMAGE_COUNTER=1",
        "REMPART_IMAGE_COUNTERS=1",
    ] {
        assert_eq!(line(text), None, "{text}");
    }
}

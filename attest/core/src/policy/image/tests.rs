//! Each reason why a node is not in an image, one changed at a time.

use super::*;
use crate::policy::sample;

fn pcrs(values: [u8; 5]) -> Pcrs {
    let values = JUDGED.into_iter().zip(values);
    let digest = |byte| crate::bytes::Fixed([byte; 32]).into();
    Pcrs::collect(Bank::Sha256, values.map(|(pcr, byte)| (pcr, digest(byte)))).expect("each once")
}

fn claims<'a>(pcrs: &'a Pcrs, events: &'a [Event]) -> Claims<'a> {
    Claims {
        pcrs,
        events,
        pcr_signatures: b"",
        os_release: b"",
        now: 1_800_000_000,
    }
}

fn image() -> Image {
    sample([4, 7, 9, 11, 0]).images.remove(0)
}

#[test]
fn a_node_in_the_image_has_no_failure_and_each_register_counts() {
    let node = pcrs([4, 7, 9, 11, 0]);
    assert_eq!(image().failures(&claims(&node, &[])), []);
    for (at, pcr) in JUDGED.into_iter().enumerate() {
        let mut values = [4, 7, 9, 11, 0];
        values[at] = 0xff;
        assert_eq!(image().failures(&claims(&pcrs(values), &[])), [Failure::Pcr(pcr)]);
    }
}

#[test]
fn a_register_that_is_there_is_judged_and_one_that_is_not_is_not() {
    let mut node = pcrs([4, 7, 9, 11, 0]);
    for pcr in [0, 1, 2, 3, 5, 6, 8, 13, 14] {
        let mut stricter = image();
        stricter.accepted_mut(pcr).expect("register").push(Bank::Sha256.zero());
        assert_eq!(
            stricter.failures(&claims(&node, &[])),
            [Failure::Pcr(pcr)],
            "a missing one too"
        );
        node.values.insert(pcr, Bank::Sha256.zero());
        assert_eq!(stricter.failures(&claims(&node, &[])), []);
        node.values.insert(pcr, crate::bytes::Fixed([1; 32]).into());
        assert_eq!(stricter.failures(&claims(&node, &[])), [Failure::Pcr(pcr)]);
        assert_eq!(image().failures(&claims(&node, &[])), []);
    }
}

#[test]
fn an_image_counts_in_its_window_only() {
    let node = pcrs([4, 7, 9, 11, 0]);
    let now = 1_800_000_000;
    let with = |not_before: Option<u64>, not_after: Option<u64>| Image {
        not_before: not_before.map(Instant),
        not_after: not_after.map(Instant),
        ..image()
    };
    for open in [
        with(Some(now), None),
        with(None, Some(now)),
        with(Some(now - 1), Some(now + 1)),
    ] {
        assert_eq!(open.failures(&claims(&node, &[])), []);
    }
    for closed in [
        with(Some(now + 1), None),
        with(None, Some(now - 1)),
        with(Some(now + 1), Some(now + 2)),
    ] {
        let failures = closed.failures(&claims(&node, &[]));
        assert_eq!(failures, [Failure::Window(Instant(now))]);
        let finding = failures[0].finding("demo-1", &closed).expect("explained");
        assert_eq!(finding.check, "window");
        assert_eq!(finding.found.as_deref(), Some("2027-01-15T08:00:00Z"));
        assert!(
            finding.expected.is_some_and(|e| e.contains("2027-01-15T0")),
            "it says when"
        );
    }
}

#[test]
fn another_bank_is_one_failure_not_one_for_each_register() {
    let node = Pcrs::collect(Bank::Sha384, JUDGED.map(|pcr| (pcr, Bank::Sha384.zero()))).expect("each once");
    let failures = image().failures(&claims(&node, &[]));
    assert_eq!(failures, [Failure::Bank(Bank::Sha384)]);
    let finding = failures[0].finding("demo-1", &image()).expect("explained");
    assert_eq!(
        (
            finding.check.as_str(),
            finding.expected.as_deref(),
            finding.found.as_deref()
        ),
        ("bank", Some("sha256"), Some("sha384"))
    );
}

#[test]
fn secure_boot_must_have_been_measured_as_on_before_anything_ran() {
    let node = pcrs([4, 7, 9, 11, 0]);
    let demanding = Image {
        require_secure_boot: true,
        ..image()
    };
    // UEFI_VARIABLE_DATA of SecureBoot with the value `state`.
    let variable = |state: u8| {
        let mut data = vec![
            0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
        ];
        data.extend_from_slice(&10u64.to_le_bytes());
        data.extend_from_slice(&1u64.to_le_bytes());
        data.extend("SecureBoot".encode_utf16().flat_map(u16::to_le_bytes));
        data.push(state);
        data
    };
    let event = |pcr, data: &[u8]| Event {
        pcr,
        digest: Bank::Sha256.hash(&[data]),
        text: String::new(),
        command_line: None,
    };
    let on = event(7, &variable(1));
    let separator = event(7, &[0; 4]);
    let failures = |events: &[Event]| demanding.failures(&claims(&node, events));
    assert_eq!(failures(&[on.clone(), separator.clone()]), []);
    let refused = [Failure::SecureBoot];
    assert_eq!(failures(&[]), refused);
    assert_eq!(failures(&[event(7, &variable(0)), separator.clone()]), refused, "off");
    assert_eq!(failures(&[separator, on]), refused, "extended by what ran later");
    assert_eq!(failures(&[event(1, &variable(1))]), refused, "in another register");
    assert_eq!(
        refused[0].finding("demo-1", &demanding).map(|f| f.check),
        Some("secure-boot".into())
    );
}

#[test]
fn what_stands_in_for_a_register_fails_under_its_own_name() {
    let node = pcrs([4, 7, 9, 11, 0]);
    let key = include_str!("../../../../../tests/fixtures/pcrsig/release.pub");
    let signed = Image {
        pcr11: vec![],
        pcr11_signed: Some(Pcr11Signed {
            key: release::signatures::ReleaseKey::from_pem(key).expect("key"),
            counter: Some(1),
            revoked: vec![],
        }),
        ..image()
    };
    let failures = signed.failures(&claims(&node, &[]));
    let checks: Vec<_> = failures
        .iter()
        .filter_map(|f| f.finding("demo-1", &signed))
        .map(|f| (f.check, f.pcr))
        .collect();
    assert_eq!(
        checks,
        [
            ("pcr11-signature".to_owned(), Some(11)),
            ("image-counter".to_owned(), Some(11))
        ]
    );
}

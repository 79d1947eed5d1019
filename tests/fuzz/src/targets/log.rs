//! Measurement logs. There is no writer, so the promise is: what comes out lies in what came in, and is fit for a terminal.

use rempart_attest::eventlog::{Event, uefi, userspace};
use rempart_attest::limits;
use rempart_attest::pcr::Bank;

use super::{Memory, Target};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "uefi-log",
        from: "firmware's event log, by the node",
        max_len: 8192,
        memory: Memory::OURS,
        runs: 10_000,
        run: uefi_log,
        seeds: || vec![UEFI.to_vec(), UEFI_SMBIOS.to_vec()],
    },
    Target {
        name: "userspace-log",
        from: "systemd's measurement log, by the node",
        max_len: 4096,
        memory: Memory::SERDE,
        runs: 20_000,
        run: userspace_log,
        seeds: || vec![USERSPACE.to_vec(), USERSPACE_SMBIOS.to_vec()],
    },
];

const UEFI: &[u8] = include_bytes!("../../../fixtures/boot/uefi.log");
const USERSPACE: &[u8] = include_bytes!("../../../fixtures/boot/userspace.log");
const UEFI_SMBIOS: &[u8] = include_bytes!("../../../fixtures/boot-smbios/uefi.log");
const USERSPACE_SMBIOS: &[u8] = include_bytes!("../../../fixtures/boot-smbios/userspace.log");

const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

fn uefi_log(data: &[u8]) {
    for bank in BANKS {
        let Ok(events) = uefi::parse(data, bank) else { continue };
        for event in plausible(&events, bank) {
            let digest = event.digest.as_bytes();
            assert!(
                data.windows(digest.len()).any(|window| window == digest),
                "a digest that is not in the log: {}",
                event.digest
            );
        }
    }
}

fn userspace_log(data: &[u8]) {
    let text = String::from_utf8_lossy(data).to_lowercase();
    for bank in BANKS {
        let Ok(events) = userspace::parse(data, bank) else {
            continue;
        };
        for event in plausible(&events, bank) {
            let digest = event.digest.to_string();
            // JSON may write a digit as \u0061; such a log is only parsed.
            assert!(
                text.contains(&digest) || text.contains('\\'),
                "a digest that is not in the log: {digest}"
            );
        }
    }
}

fn plausible(events: &[Event], bank: Bank) -> &[Event] {
    assert!(events.len() <= limits::EVENTS, "{} events", events.len());
    for event in events {
        assert!(event.pcr < 24, "PCR {}", event.pcr);
        assert_eq!(event.digest.bank(), bank);
        let shown = event
            .text
            .chars()
            .chain(event.command_line.iter().flat_map(|line| line.chars()));
        assert!(!shown.into_iter().any(char::is_control), "{event:?}");
    }
    events
}

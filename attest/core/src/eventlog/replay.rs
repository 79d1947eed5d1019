//! Replaying both logs: the firmware's first, then systemd's, as they were extended. The result is compared with quoted values by
//! `verify`; here it is only computed.

use super::Event;
use crate::pcr::{Bank, JUDGED, PcrValue, Pcrs};

/// The registers after all events. A judged register without an event stays zero.
pub fn replay<'a>(bank: Bank, events: impl IntoIterator<Item = &'a Event>) -> Pcrs {
    replay_from(bank, 0, events)
}

/// The same when the TPM was started from `locality`, which PCR 0 begins with (TPM 2.0 Part 3, 9.3; PTP 4.6).
pub fn replay_from<'a>(bank: Bank, locality: u8, events: impl IntoIterator<Item = &'a Event>) -> Pcrs {
    let mut pcrs = Pcrs::new(bank);
    pcrs.values.extend(JUDGED.map(|index| (index, bank.zero())));
    if locality != 0 {
        let mut start = bank.zero().as_bytes().to_vec();
        start[bank.size() - 1] = locality;
        let start = PcrValue::from_bytes(&start).expect("the bank's size");
        pcrs.values.insert(0, start);
    }
    for event in events {
        pcrs.extend(event.pcr, &event.digest);
    }
    pcrs
}

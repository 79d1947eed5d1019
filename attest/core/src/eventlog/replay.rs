//! Replaying both logs: the firmware's first, then systemd's, as they were extended. The result is compared with quoted values by
//! `verify`; here it is only computed.

use super::Event;
use crate::pcr::{Bank, JUDGED, Pcrs};

/// The registers after all events. A judged register without an event stays zero.
pub fn replay<'a>(bank: Bank, events: impl IntoIterator<Item = &'a Event>) -> Pcrs {
    let mut pcrs = Pcrs::new(bank);
    pcrs.values.extend(JUDGED.map(|index| (index, bank.zero())));
    for event in events {
        pcrs.extend(event.pcr, &event.digest);
    }
    pcrs
}

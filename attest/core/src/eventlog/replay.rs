//! Replaying both logs: the firmware's first, then systemd's, as they were extended. The result is compared with quoted values by
//! `verify`; here it is only computed.

use super::Event;
use crate::pcr::{JUDGED, Pcrs};

/// The registers after all events. A judged register without an event stays zero.
pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> Pcrs {
    let mut pcrs: Pcrs = JUDGED.iter().map(|index| (*index, crate::bytes::Fixed::ZERO)).collect();
    for event in events {
        pcrs.extend(event.pcr, &event.digest);
    }
    pcrs
}

//! Suspend and resume. A machine that slept was not watched: it attests again as soon as it runs.
//!
//! Two witnesses: the clocks, which no service has to be running for, and logind, which tells at once. Neither is trusted to keep
//! the machine unlocked; the lease itself runs on in suspend.

use std::{sync::Arc, time::Duration};

use zbus::{Connection, export::ordered_stream::OrderedStreamExt};

use crate::{clock, node::Node};

/// How often the clocks are compared.
const LOOK: Duration = Duration::from_secs(5);
/// The clocks are read one after the other; what they differ by is suspend when it grew by more.
const LEAST: Duration = Duration::from_millis(500);

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Logind {
    #[zbus(signal)]
    fn prepare_for_sleep(&self, start: bool) -> zbus::Result<()>;
}

/// Tells `node` of every resume. Returns never.
pub async fn watch(bus: Connection, node: Arc<Node>) {
    let told = node.clone();
    tokio::spawn(async move {
        if let Err(error) = listen(&bus, &told).await {
            tracing::debug!("logind does not tell of suspend ({error}); the clocks do");
        }
    });
    let mut asleep = Asleep::since_boot();
    loop {
        tokio::time::sleep(LOOK).await;
        if asleep.grew(clock::boottime(), clock::monotonic()) {
            node.resumed();
        }
    }
}

async fn listen(bus: &Connection, node: &Arc<Node>) -> zbus::Result<()> {
    let logind = LogindProxy::new(bus).await?;
    let mut signals = logind.receive_prepare_for_sleep().await?;
    while let Some(signal) = signals.next().await {
        // `true` is before the suspend.
        if !signal.args()?.start {
            node.resumed();
        }
    }
    Ok(())
}

/// Time spent in suspend: CLOCK_BOOTTIME counts it, CLOCK_MONOTONIC does not.
struct Asleep(Duration);

impl Asleep {
    fn since_boot() -> Self {
        Self(clock::boottime().saturating_sub(clock::monotonic()))
    }

    fn grew(&mut self, boottime: Duration, monotonic: Duration) -> bool {
        let asleep = boottime.saturating_sub(monotonic);
        let grew = asleep > self.0 + LEAST;
        self.0 = self.0.max(asleep);
        grew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_suspend_moves_the_clocks_apart_and_it_is_told_once() {
        let at = Duration::from_secs;
        let mut asleep = Asleep(at(100));
        assert!(!asleep.grew(at(1105), at(1005)));
        assert!(
            !asleep.grew(at(1110) + LEAST / 2, at(1010)),
            "the two reads are not at one instant"
        );
        assert!(asleep.grew(at(1200), at(1015)));
        assert!(!asleep.grew(at(1205), at(1020)));
        assert!(asleep.grew(at(1207), at(1021)));
    }
}

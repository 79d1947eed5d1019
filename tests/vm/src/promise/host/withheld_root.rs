//! The host withholds the root disk: the initrd has no shell to give (no sulogin, root locked), so the host's console gets none. A shell there could extend
//! the boot phases itself and attest as a good boot.

use std::{thread::sleep, time::Duration};

use crate::{
    promise::host::given,
    report::{Outcome, Report},
    stage::{Boot, Stage},
};

/// systemd waits 90 s for a device; then it gives up.
const GIVEN_UP: Duration = Duration::from_secs(130);

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.boot_without_waiting(Boot {
        without_root: true,
        ..Boot::default()
    })?;
    let started = node.wait_console(&["BdsDxe: starting"], Duration::from_secs(90))?;
    anyhow::ensure!(started.is_some(), "the firmware starts nothing");
    sleep(GIVEN_UP);
    // That typing reaches a shell where there is one is shown by the promise `host_control`.
    let seen = match (
        given::has_shell_on_console(&node)?,
        node.comes_up(Duration::from_secs(1)),
    ) {
        (true, _) => Outcome::Works,
        (false, true) => Outcome::Broken,
        (false, false) => Outcome::Denied,
    };
    report.row(
        "host::shell_by_withholding_the_root_disk",
        Outcome::Denied,
        seen,
        format!("typed on the console after {} s: no answer", GIVEN_UP.as_secs()),
    );
    Ok(())
}

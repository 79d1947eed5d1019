//! The guard's programs are in force before the network, before basic.target and before any service that is not needed for them.

use std::time::Duration;

use crate::{
    report::{Outcome, Report},
    stage::Stage,
};

/// What must come after the guard, by what it would let in.
const LATER: &[&str] = &[
    "network-pre.target",
    "sysinit.target",
    "basic.target",
    "multi-user.target",
];

/// Prints microseconds and name of the service that was started first.
const FIRST_SERVICE: &str = r#"systemctl list-units --type=service --all --plain --no-legend | awk '{print $1}' |
grep -vE '^(systemd-|rempart-|modprobe@|kmod-|dbus|initrd-|dracut-)' | xargs systemctl show -p Id -p ExecMainStartTimestampMonotonic |
awk -F= '$1 == "Id" {name = $2} $1 ~ /^ExecMain/ {at = $2} /^$/ {if (at > 0) print at, name; at = 0} END {if (at > 0) print at, name}' |
sort -n | head -n 1"#;

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.node()?;
    node.wait_for(
        "systemctl show multi-user.target -p ActiveState",
        "ActiveState=active",
        Duration::from_secs(60),
    )?;
    // systemd notes when a unit became active; the guard says that it is only once its programs are attached.
    let active = |unit: &str| -> anyhow::Result<f64> {
        let out = node.sh(&format!(
            "systemctl show {unit} -p ActiveEnterTimestampMonotonic --value"
        ))?;
        Ok(out.stdout.trim().parse::<f64>().unwrap_or_default() / 1e6)
    };
    let guard = active("rempart-guard.service")?;
    for target in LATER {
        let reached = active(target)?;
        let before = guard > 0.0 && reached > guard;
        report.row(
            format!("early_start::before_{}", target.trim_end_matches(".target")),
            Outcome::Works,
            if before { Outcome::Works } else { Outcome::Broken },
            format!(
                "the guard enforces {guard:.2} s after the kernel's start, {target} is reached after {reached:.2} s"
            ),
        );
    }
    // Nor did any service but systemd's own and ours start before it.
    let first = node.sh(FIRST_SERVICE)?.stdout.trim().to_owned();
    let started = first.split(' ').next().and_then(|us| us.parse::<f64>().ok());
    let started = started.unwrap_or_default() / 1e6;
    report.row(
        "early_start::before_any_other_service",
        Outcome::Works,
        if started > guard {
            Outcome::Works
        } else {
            Outcome::Broken
        },
        format!("the first service beside systemd's own and ours starts after {started:.2} s: {first}"),
    );
    Ok(())
}

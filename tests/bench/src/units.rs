//! What a wrapped unit costs: the start of its program, and the agent's memory.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use rempart_harness::Container;

use crate::{
    node::{Node, SELF, VALUE, opt_in},
    stamp,
    table::{Table, percentile},
};

/// Running wrapped units with which the agent's memory is measured again.
const MANY: usize = 50;
/// The agent's memory, at most, in MiB.
const MEMORY: f64 = 20.0;
/// What wrapping may add to a start, at the median, in ms.
const ADDED: f64 = 5.0;
/// Rounds that are not counted: they warm caches and log in at the vault.
const WARM: usize = 5;

/// Boots a node and measures.
pub fn measure(deb: &Path, rounds: usize) -> Result<Table> {
    let node = Node::boot(deb, &units())?;
    let mut table = Table::default();
    start_times(&node.container, rounds.max(100), &mut table)?;
    memory(&node.container, &mut table)?;
    Ok(table)
}

/// Type=oneshot with RemainAfterExit, so that systemd keeps the times of the last start.
fn units() -> Vec<(String, String)> {
    let stamped = |name: &str| {
        format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={SELF} stamp /run/{name}\n"
        )
    };
    let mut units = vec![
        ("plain.service".to_owned(), stamped("plain")),
        ("wrapped.service".to_owned(), stamped("wrapped") + &opt_in()),
    ];
    for number in 1..=MANY {
        units.push((
            sleeper(number),
            format!("[Service]\nExecStart=/usr/bin/sleep infinity\n{}", opt_in()),
        ));
    }
    units
}

fn sleeper(number: usize) -> String {
    format!("sleep-{number}.service")
}

/// The start of one program, in ms.
struct Start {
    /// From systemd's fork to the first statement.
    forked: f64,
    /// The part of it that systemd has no share in: from its exec on.
    handed_over: f64,
}

/// Alternating, so that whatever else the machine does falls on both kinds alike.
fn start_times(container: &Container, rounds: usize, table: &mut Table) -> Result<()> {
    let (mut plain, mut wrapped) = (Vec::new(), Vec::new());
    for round in 0..WARM + rounds {
        let pair = (start(container, "plain", 0)?, start(container, "wrapped", VALUE.len())?);
        if round >= WARM {
            plain.push(pair.0);
            wrapped.push(pair.1);
        }
    }
    let mut rows = |what: &str, time: fn(&Start) -> f64, aim: Option<f64>| {
        for (name, part, aim) in [("p50", 0.5, aim), ("p99", 0.99, None)] {
            let of = |starts: &[Start]| percentile(&starts.iter().map(time).collect::<Vec<_>>(), part);
            let (plain, wrapped) = (of(&plain), of(&wrapped));
            table.add(
                &format!("unit start, {what} to main, {name}"),
                wrapped,
                "ms",
                Some(plain),
                None,
            );
            table.add(
                &format!("unit start, {what} to main, added {name}"),
                wrapped - plain,
                "ms",
                None,
                aim,
            );
        }
    };
    rows("fork", |start| start.forked, Some(ADDED));
    rows("exec", |start| start.handed_over, None);
    Ok(())
}

fn start(container: &Container, name: &str, secret: usize) -> Result<Start> {
    let unit = format!("{name}.service");
    container
        .run(&["systemctl", "restart", &unit])
        .with_context(|| container.journal(&unit).unwrap_or_default())?;
    let text = container.run(&["cat", &format!("/run/{name}")])?;
    let (now, length) = stamp::parse(&text)?;
    ensure!(
        length == secret,
        "{unit} got a secret of {length} bytes, not of {secret}"
    );
    let since = |property: &str| -> Result<f64> {
        let then: f64 = container.property(&unit, property)?.parse()?;
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds since boot are far below 2^52")]
        Ok(now as f64 / 1e6 - then / 1e3)
    };
    Ok(Start {
        forked: since("ExecMainStartTimestampMonotonic")?,
        handed_over: since("ExecMainHandoffTimestampMonotonic")?,
    })
}

fn memory(container: &Container, table: &mut Table) -> Result<()> {
    let mut running = 0;
    for many in [1, MANY] {
        while running < many {
            running += 1;
            container.run(&["systemctl", "start", &sleeper(running)])?;
        }
        std::thread::sleep(Duration::from_secs(1));
        let pid = container.property("rempartd.service", "MainPID")?;
        for (what, file, key) in [("VmRSS", "status", "VmRSS:"), ("Pss", "smaps_rollup", "Pss:")] {
            let text = container.run(&["cat", &format!("/proc/{pid}/{file}")])?;
            let kib: f64 = text
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|rest| rest.split_whitespace().next())
                .with_context(|| format!("no {key} in {file}"))?
                .parse()?;
            let units = if many == 1 {
                "1 unit".to_owned()
            } else {
                format!("{many} units")
            };
            table.add(
                &format!("rempartd {what}, {units} running"),
                kib / 1024.0,
                "MiB",
                None,
                Some(MEMORY),
            );
        }
    }
    Ok(())
}

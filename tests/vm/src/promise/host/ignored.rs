//! Everything that must have no effect, in one boot: each of it arrives, does nothing, and the node is let in.

use std::time::Duration;

use crate::{
    promise::host::given::{self, WAYS},
    report::{Outcome, Report},
    stage::Stage,
};

pub fn play(stage: &mut Stage, report: &mut Report) -> anyhow::Result<()> {
    let node = stage.node()?;
    let state = node.wait_settled(Duration::from_secs(240))?;
    let unlocked = state.word == "unlocked";
    report.row(
        "host::node_is_let_in",
        Outcome::Works,
        if unlocked { Outcome::Works } else { Outcome::Denied },
        format!("{} {}", state.word, state.reason),
    );
    for way in WAYS {
        let arrived = node.sh(&format!("{{ {}; }} 2>&1; true", way.arrived))?.stdout;
        let found = node.sh(&format!("{{ {}; }}; true", way.effect))?.stdout;
        let there = !arrived.trim().is_empty() && !arrived.contains("No such file");
        let seen = match (there, found.trim().is_empty()) {
            (true, true) => Outcome::Ignored,
            (true, false) => Outcome::Works,
            (false, _) => Outcome::Broken,
        };
        report.row(
            format!("host::{}", way.name),
            Outcome::Ignored,
            seen,
            format!("arrived: {}; effect: {:?}", arrived.trim(), found.trim()),
        );
    }
    let seen = match given::has_shell_on_console(node)? {
        true => Outcome::Works,
        false => Outcome::Ignored,
    };
    report.row(
        "host::shell_on_the_console",
        Outcome::Ignored,
        seen,
        "typed on the console: no answer",
    );
    Ok(())
}

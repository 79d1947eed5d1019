//! `rempart gate`, `events` and `rotate`: questions to the agent, answers for people or programs.

use std::{process::ExitCode, time::Duration};

use rempart_api::bus::State;
use serde_json::Value;
use zbus::export::ordered_stream::OrderedStreamExt;

use crate::{agent::AgentProxy, failure::Failure, units::ServiceName};

/// The gate looks at least this often: an agent that restarts sends no signal.
const LOOK: Duration = Duration::from_secs(2);

/// `rempart gate`.
pub async fn gate(agent: &AgentProxy<'_>) -> Result<ExitCode, Failure> {
    let mut changes = agent.receive_state_told().await?;
    let mut told = String::new();
    loop {
        // The agent may be restarting; its state is what counts, not its absence.
        let seen =
            async { Ok::<_, zbus::Error>((agent.state().await?, agent.latched().await?, agent.reason().await?)) };
        match Gate::judge(seen.await) {
            Gate::Open => return Ok(ExitCode::SUCCESS),
            Gate::Closed(reason) => {
                let next =
                    "after the cause is removed: rempart attest, then systemctl start the units that need secrets";
                return Err(Failure::Refused(format!("{reason}; {next}")));
            }
            Gate::Wait(line) if line != told && !line.is_empty() => {
                eprintln!("rempart: waiting: {}", one_line(&line));
                told = line;
            }
            Gate::Wait(_) => {}
        }
        let _ = tokio::time::timeout(LOOK, changes.next()).await;
    }
}

/// What the gate does about what it saw.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
enum Gate {
    Open,
    /// Only an operator can change it.
    Closed(String),
    /// It may pass; why.
    Wait(String),
}

impl Gate {
    fn judge(seen: zbus::Result<(String, bool, String)>) -> Self {
        match seen {
            Ok((state, _, _)) if state == State::Unlocked.word() => Self::Open,
            Ok((state, true, reason)) if state == State::Locked.word() => Self::Closed(reason),
            Ok((_, _, reason)) => Self::Wait(reason),
            Err(error) => Self::Wait(format!(
                "the agent does not answer ({error}); check: systemctl status rempartd"
            )),
        }
    }
}

/// `rempart rotate`.
pub async fn rotate(agent: &AgentProxy<'_>, units: &[ServiceName], all: bool) -> Result<ExitCode, Failure> {
    let names = units.iter().map(ServiceName::as_str).chain(all.then_some(""));
    let mut failed = Vec::new();
    for name in names {
        match agent.rotate(name).await {
            Ok(lines) => lines.iter().for_each(|line| println!("{}", one_line(line))),
            Err(error) => match Failure::of_agent(error) {
                refused @ Failure::Refused(_) => failed.push(refused),
                away => return Err(away),
            },
        }
    }
    match failed.pop() {
        None => Ok(ExitCode::SUCCESS),
        Some(last) => {
            for refused in failed {
                refused.report();
            }
            Err(last)
        }
    }
}

/// `rempart events`.
pub async fn events(agent: &AgentProxy<'_>, json: bool, number: u32) -> Result<ExitCode, Failure> {
    for line in agent.events(number).await? {
        if json {
            println!("{line}");
        } else {
            println!(
                "{}",
                readable(&serde_json::from_str(&line).map_err(Failure::AgentMalformed)?)
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One entry of the audit log for people.
fn readable(entry: &Value) -> String {
    // A program's name is the attacker's to choose: it must not steer the terminal or pose as another line.
    let text = |key: &str| match &entry[key] {
        Value::String(text) => one_line(text),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let what = match text("kind").as_str() {
        "started" => format!("agent {} started", text("version")),
        "state" if text("reason").is_empty() => text("state"),
        "state" => format!("{}: {}", text("state"), text("reason")),
        "lost" => format!(
            "entries missing before this one: {} not written, {} too many to record",
            text("unwritten"),
            text("suppressed")
        ),
        "released" => format!(
            "released to {} (role {}): {}",
            text("unit"),
            text("role"),
            text("secrets")
        ),
        "sealed" if text("reason").is_empty() => format!("sealed to the TPM: {} {}", text("change"), text("name")),
        "sealed" => format!(
            "sealed to the TPM: {} {}: {}",
            text("change"),
            text("name"),
            text("reason")
        ),
        "refused" => format!("refused to {}: {}", text("who"), text("reason")),
        "attempt" => {
            let unit = text("unit");
            let target = if unit.is_empty() { "the machine" } else { &unit };
            format!(
                "{} {} on {target} by {} (pid {}, uid {})",
                text("vector"),
                text("verdict"),
                text("comm"),
                text("pid"),
                text("uid")
            )
        }
        other => other.to_owned(),
    };
    format!("{}  {what}", utc(entry["time_us"].as_u64().unwrap_or(0) / 1_000_000))
}

/// `text` without control characters.
pub fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Seconds since 1970 as RFC 3339 in UTC (civil calendar from days, proleptic Gregorian).
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_800_000_000), "2027-01-15T08:00:00Z");
    }

    #[test]
    fn the_gate_waits_for_what_may_pass_and_closes_only_on_a_latched_refusal() {
        let seen = |state: &str, latched| Gate::judge(Ok((state.to_owned(), latched, "why".to_owned())));
        assert_eq!(seen("unlocked", false), Gate::Open);
        assert_eq!(seen("locked", true), Gate::Closed("why".into()));
        assert_eq!(seen("locked", false), Gate::Wait("why".into()), "a lapse");
        assert_eq!(seen("attesting", false), Gate::Wait("why".into()));
        let Gate::Wait(line) = Gate::judge(Err(zbus::Error::InvalidReply)) else {
            panic!("an absent agent")
        };
        assert!(line.contains("systemctl status rempartd"));
    }

    #[test]
    fn a_program_named_like_a_terminal_command_stays_text() {
        let entry = serde_json::json!({"time_us": 0, "kind": "attempt", "comm": "x\n\u{1b}[2Jok", "unit": ""});
        let line = readable(&entry);
        assert!(
            line.contains("x  [2Jok") && !line.contains(char::is_control),
            "{line:?}"
        );
    }

    #[test]
    fn an_entry_reads_as_one_line() {
        let entry = serde_json::json!({"time_us": 0, "kind": "attempt", "vector": "PTRACE_ATTACH", "verdict": "denied",
            "comm": "gdb", "pid": 7, "uid": 0, "unit": "web.service", "seq": 1});
        assert_eq!(
            readable(&entry),
            "1970-01-01T00:00:00Z  PTRACE_ATTACH denied on web.service by gdb (pid 7, uid 0)"
        );
    }
}

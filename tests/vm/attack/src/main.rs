//! rempart-attack: really tries what Rempart denies, and says what it obtained. For tests on machines of
//! one's own; it hides nothing and keeps nothing.
//!
//!     rempart-attack list [--json]
//!     rempart-attack run VECTOR [--pid P] [--addr HEX] [--after FILE] [--module FILE] [--pins DIR] [--json]
//!     rempart-attack find --pid P --needle-hex HEX
//!     rempart-attack hammer --pid P [--tasks N] --times N | --until FILE
//!     rempart-attack target [--needle-hex HEX]
//!     rempart-attack watch --socket PATH UNIT MODE SECRET…
//!     rempart-attack secret
//!     rempart-attack units [--socket PATH] [--from N] --to N
//!     rempart-attack ask [--socket PATH] [--pidfd PID] [--follow] LINE…
//!
//! `run` exits 0 when the thing was obtained, 1 when it was denied, 2 on another error.

/// One request to the guard's socket, as the agent would send it.
mod ask;
/// What an attempt came to.
mod attempt;
/// Searches all memory of a process.
mod find;
/// Many attempts at once.
mod hammer;
/// System calls.
mod sys;
/// The victim that tests attack, and its description.
mod target;
/// Many units at the guard.
mod units;
/// The registry of vectors.
mod vector;
/// Fingerprints for the guard, as the agent would send them.
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut words = words.iter().map(String::as_str);
    let outcome = match words.next() {
        Some("list") => vector::list(words.next() == Some("--json")),
        Some("run") => vector::run(words),
        Some("find") => find::run(words),
        Some("hammer") => hammer::run(words),
        Some("target") => target::run(words),
        Some("units") => units::run(words),
        Some("ask") => ask::run(words),
        Some("watch") => watch::run(words),
        Some("secret") => watch::secret(),
        _ => Err("usage: rempart-attack list | run VECTOR … | find … | target … | ask …".to_owned()),
    };
    outcome.unwrap_or_else(|why| {
        eprintln!("rempart-attack: {why}");
        ExitCode::from(64)
    })
}

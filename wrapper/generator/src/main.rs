//! rempart-generator: run by systemd at boot and at daemon-reload, it makes every opted-in unit start through
//! rempart-wrap, after the node is unlocked.
//!
//! Must never leave an opted-in unit to start unwrapped: a drop-in that refuses the start is written first, for every
//! unit that could have opted in, and only a complete rewriting replaces it. Follows systemd.generator(7).

#![forbid(unsafe_code)]

/// Both passes.
mod generate;

use std::process::ExitCode;

fn main() -> ExitCode {
    let folders: Vec<_> = std::env::args_os().skip(1).collect();
    let [_, _, late] = folders.as_slice() else {
        eprintln!("rempart-generator: usage: rempart-generator NORMAL EARLY LATE (systemd runs it)");
        return ExitCode::from(rempart_api::exit::USAGE);
    };
    match generate::generate(late.as_ref(), &rempart_rewrite::Scope::from_environment()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            generate::tell(&failed.to_string());
            ExitCode::from(rempart_api::exit::OS)
        }
    }
}

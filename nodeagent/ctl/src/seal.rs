//! `rempart seal`: values that this machine's TPM keeps, set, listed and removed through the agent.
//!
//! Must never take a value as an argument, put it into a message, or hold it outside secret memory: it is read into an area of
//! memfd_secret, whose descriptor the agent gets.

use std::{
    fs::File,
    io::{IsTerminal, Read},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
};

use clap::Subcommand;
use rempart_core::sealed::MAX_VALUE;
use rempart_secretmem::Area;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::{agent::AgentProxy, failure::Failure, talk::one_line};

/// What is asked.
#[derive(Debug, Subcommand)]
pub enum Seal {
    /// Seal the value on standard input, or typed without echo, for units of a role.
    Set {
        /// Its name, as `Secret=` has it: `app/web#tls_key`.
        name: String,
        /// The role of the units that may have it.
        #[arg(long)]
        role: String,
    },
    /// Names and roles.
    List {
        /// As one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Make a value void for good, wherever copies of the file are.
    Remove {
        /// Its name.
        #[arg(required_unless_present = "all")]
        name: Option<String>,
        /// All of them, also when they cannot be opened any more.
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
}

/// Does what is asked.
pub async fn run(agent: &AgentProxy<'_>, asked: &Seal) -> Result<ExitCode, Failure> {
    match asked {
        Seal::Set { name, role } => {
            let (value, len) = read(name)?;
            let told = agent.seal_set(name, role, len, value.as_fd().into()).await;
            told.map_err(Failure::of_agent)?;
            println!("{} sealed for role {}", one_line(name), one_line(role));
        }
        Seal::List { json } => {
            let (entries, closed) = agent.seal_list().await.map_err(Failure::of_agent)?;
            if *json {
                let entry = |(name, role): &(String, String)| serde_json::json!({"name": name, "role": role});
                println!("{}", entries.iter().map(entry).collect::<serde_json::Value>());
            } else {
                for (name, role) in &entries {
                    println!("{}  role: {}", one_line(name), one_line(role));
                }
            }
            if !closed.is_empty() {
                return Err(Failure::NotAsked(closed));
            }
        }
        Seal::Remove { name, .. } => {
            // None is --all: the command line has one or the other.
            let removed = agent.seal_remove(name.as_deref().unwrap_or_default()).await;
            removed.map_err(Failure::of_agent)?;
            println!("{} removed", name.as_deref().map_or_else(|| "all".to_owned(), one_line));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Exactly the bytes on standard input, since a value may be binary; of a terminal one line, without its end.
fn read(name: &str) -> Result<(OwnedFd, u32), Failure> {
    let wrong = |why: String| Failure::Input {
        path: "standard input".to_owned(),
        why,
    };
    let machine = |error: rempart_secretmem::Error| Failure::Machine(error.to_string());
    let mut area = Area::create(MAX_VALUE + 1).map_err(machine)?;
    let stdin = std::io::stdin();
    // Not through `Stdin`, whose buffer is ordinary memory.
    let mut file = File::from(
        stdin
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| wrong(error.to_string()))?,
    );
    let typed = stdin.is_terminal();
    let _quiet = typed
        .then(|| Quiet::on(&file, name))
        .transpose()
        .map_err(|error| wrong(error.to_string()))?;
    let bytes = area.as_mut_slice();
    let mut len = 0;
    while len < bytes.len() {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(wrong(error.to_string())),
        }
        if typed && bytes[..len].ends_with(b"\n") {
            len -= 1;
            break;
        }
    }
    match u32::try_from(len) {
        Ok(0) => Err(wrong("the value is empty".to_owned())),
        Ok(counted) if len <= MAX_VALUE => Ok((area.into_descriptor(), counted)),
        _ => Err(wrong(format!("the value is longer than {MAX_VALUE} bytes"))),
    }
}

/// A terminal without echo, until this ends.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn on(terminal: &File, name: &str) -> std::io::Result<Self> {
        let quiet = Self {
            before: tcgetattr(terminal)?,
            terminal: terminal.try_clone()?,
        };
        let mut silent = quiet.before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        eprint!("value of {}: ", one_line(name));
        Ok(quiet)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The terminal is gone when this fails.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
        eprintln!();
    }
}

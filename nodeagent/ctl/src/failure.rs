//! Why a command failed: one line on standard error, and a code of sysexits.h.

use std::process::ExitCode;

use rempart_api::exit;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The agent is not on the bus.
    #[error("the agent does not answer ({0}); check: systemctl status rempartd")]
    AgentAway(zbus::Error),
    /// The bus or the agent's policy refuses this user.
    #[error("not allowed ({0}); run this as root")]
    NotAllowed(zbus::Error),
    /// The agent answered something else than its protocol says.
    #[error("the agent's answer is not understood ({0}); bring rempart and rempartd to the same release")]
    AgentMalformed(serde_json::Error),
    /// The node is refused.
    #[error("{0}")]
    Refused(String),
    /// The Verifier could not be asked.
    #[error("{0}")]
    NotAsked(String),
    /// A file cannot be used.
    #[error("{path}: {why}")]
    Input {
        /// Which.
        path: String,
        /// One line.
        why: String,
    },
    /// systemd does not answer, or refuses.
    #[error("systemd does not do it ({0}); check: systemctl is-system-running")]
    Systemd(zbus::Error),
    /// A unit, or what it is to be told, is wrong.
    #[error("{unit}: {why}")]
    Unit {
        /// The unit, or the key.
        unit: String,
        /// One line: what, and what to do.
        why: String,
    },
    /// There is no such unit.
    #[error("{0}: there is no unit file of this name, or it is masked; see: systemctl list-unit-files")]
    NoUnit(String),
    /// The command line does not say enough.
    #[error("{0}")]
    Usage(String),
    /// A defect of the machine or of this program.
    #[error("{0}")]
    Machine(String),
}

impl Failure {
    /// Prints the line and gives the code.
    pub fn report(&self) -> ExitCode {
        // Servers' and programs' words may be in it.
        eprintln!("rempart: {}", crate::talk::one_line(&self.to_string()));
        ExitCode::from(match self {
            Self::AgentAway(_) | Self::NotAsked(_) | Self::Systemd(_) => exit::UNAVAILABLE,
            Self::NotAllowed(_) | Self::Refused(_) => exit::REFUSED,
            Self::AgentMalformed(_) => exit::PROTOCOL,
            Self::Input { .. } => exit::DATA,
            Self::Unit { .. } => exit::CONFIG,
            Self::NoUnit(_) => exit::NO_INPUT,
            Self::Usage(_) => exit::USAGE,
            Self::Machine(_) => exit::OS,
        })
    }
}

impl Failure {
    /// Of a question to the agent: its own words (locked, the vault is away), which say what to do, or why there are none.
    pub fn of_agent(error: zbus::Error) -> Self {
        const SAYS: [&str; 2] = [
            "org.freedesktop.DBus.Error.Failed",
            "org.freedesktop.DBus.Error.InvalidArgs",
        ];
        match error {
            zbus::Error::MethodError(name, Some(why), _) if SAYS.contains(&name.as_str()) => Self::Refused(why),
            error => error.into(),
        }
    }
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        match &error {
            zbus::Error::MethodError(name, _, _) if *name == "org.freedesktop.DBus.Error.AccessDenied" => {
                Self::NotAllowed(error)
            }
            _ => Self::AgentAway(error),
        }
    }
}

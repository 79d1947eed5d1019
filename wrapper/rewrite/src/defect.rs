//! Why a unit that opted in cannot be wrapped, and what to do about it.

use rempart_core::unitfile::{self, SECTION, SyntaxError};

use crate::{MAX_FILE, command::CommandError};

/// Why a unit cannot be wrapped. Its `Display` is what goes into the journal: file and line first, where there are any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The section itself.
    #[error("{0}")]
    Section(unitfile::Error),
    /// A file of the unit that can be read in more than one way.
    #[error("{file}:{line}: {why}", line = .why.line())]
    Syntax {
        /// The unit file.
        file: String,
        /// The defect.
        why: SyntaxError,
    },
    /// A command that cannot be rewritten exactly.
    #[error("{file}:{line}: ExecStart=: {why}")]
    Command {
        /// The unit file.
        file: String,
        /// Its line.
        line: usize,
        /// The defect.
        why: CommandError,
    },
    /// Nothing to start.
    #[error("the unit has no ExecStart= to wrap")]
    NoCommand,
    /// `RootDirectory=` or `RootImage=`.
    #[error("it has {0}=, and the wrapper is not in there; remove {0}= or Wrap=yes")]
    OtherRoot(String),
    /// A credential of the unit's own has the name of a secret.
    #[error("{file}:{line}: the credential {name} is a secret of the unit already; rename one")]
    OwnCredential {
        /// The unit file.
        file: String,
        /// Its line.
        line: usize,
        /// The name.
        name: String,
    },
    /// A file that cannot be judged.
    #[error("{0} cannot be read, is longer than {MAX_FILE} bytes, or is not UTF-8")]
    Unreadable(String),
    /// A user's unit.
    #[error("units of a user manager cannot be wrapped")]
    UserManager,
    /// A socket, a timer, a mount.
    #[error("only services can have a section [{SECTION}]")]
    OtherType,
    /// Only the prefix's drop-in was there.
    #[error(
        "it opted in by a drop-in for a name prefix, but its unit file was not there when generators ran; run `systemctl daemon-reload`"
    )]
    Prefix,
    /// Two drop-ins whose order is not certain.
    #[error("it has several drop-ins called {0}; rename all but one")]
    SameName(String),
    /// Only drop-ins were there.
    #[error(
        "its unit file was not there when generators ran; run `systemctl daemon-reload` (units made by another generator cannot opt in)"
    )]
    NoFragment,
}

impl Defect {
    /// The file, and its line where there is one.
    pub fn place(&self) -> Option<(&str, Option<usize>)> {
        match self {
            Self::Section(error) => Some((&error.file, Some(error.line))),
            Self::Syntax { file, why } => Some((file, Some(why.line()))),
            Self::Command { file, line, .. } | Self::OwnCredential { file, line, .. } => Some((file, Some(*line))),
            Self::Unreadable(file) => Some((file, None)),
            _ => None,
        }
    }

    /// What is wrong, without where and what to do.
    pub fn what(&self) -> String {
        match self {
            Self::Section(error) => error.fault.to_string(),
            Self::Syntax { why, .. } => why.to_string(),
            Self::Command { why, .. } => format!("ExecStart=: {why}"),
            Self::Unreadable(_) => format!("it cannot be read, is longer than {MAX_FILE} bytes, or is not UTF-8"),
            Self::OtherRoot(key) => format!("it has {key}=, and the wrapper is not in there"),
            Self::SameName(name) => format!("it has several drop-ins called {name}"),
            Self::OwnCredential { name, .. } => format!("the credential {name} is a secret of the unit already"),
            Self::Prefix | Self::NoFragment => "there is no unit file of this name, or it is masked".to_owned(),
            Self::NoCommand | Self::UserManager | Self::OtherType => self.to_string(),
        }
    }

    /// What to do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Section(_) | Self::Syntax { .. } | Self::Command { .. } => "correct this line".to_owned(),
            Self::NoCommand => "give it an ExecStart=, or remove the section".to_owned(),
            Self::OtherRoot(key) => format!("remove {key}= or Wrap=yes"),
            Self::Unreadable(_) => "make it a regular file of text that root can read".to_owned(),
            Self::UserManager => "make it a unit of the system, with User=".to_owned(),
            Self::OtherType => "move the section to the service that it starts".to_owned(),
            Self::SameName(_) => "rename all but one".to_owned(),
            Self::OwnCredential { .. } => "rename one".to_owned(),
            Self::Prefix | Self::NoFragment => {
                "write the unit file, or remove the drop-in (units made by another generator cannot opt in)".to_owned()
            }
        }
    }
}

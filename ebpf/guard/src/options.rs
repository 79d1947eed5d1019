//! The command line: three paths, each with the installed system's default, and the size of the programs' tables.

use rempart_api::{breakglass, path};
use std::{ffi::OsString, path::PathBuf};

/// Where the guard finds and puts things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Socket to serve.
    pub(crate) socket: PathBuf,
    /// Folder on a bpffs.
    pub(crate) pins: PathBuf,
    /// The agent's executable.
    pub(crate) agent: PathBuf,
    /// Labelled tasks, and cgroups, for which there is room; what the object says without it.
    pub(crate) room: Option<u32>,
    /// Keys that may sign break-glass tokens.
    pub(crate) break_glass_keys: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            socket: path::GUARD_SOCKET.into(),
            pins: path::PINS.into(),
            agent: "/usr/lib/rempart/rempartd".into(),
            break_glass_keys: breakglass::KEYS.into(),
            room: None,
        }
    }
}

/// What is wrong with the command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionsError {
    /// Unknown word.
    #[error("unknown option {0:?}; known: --socket PATH, --pins FOLDER, --agent EXECUTABLE, --room TASKS")]
    Unknown(OsString),
    /// No value.
    #[error("option {0:?} wants a path after it, --room a number from 1 on")]
    NoValue(OsString),
}

impl Options {
    pub(crate) fn from_args(args: impl Iterator<Item = OsString>) -> Result<Self, OptionsError> {
        let mut options = Options::default();
        let mut args = args;
        while let Some(word) = args.next() {
            if word == "--room" {
                let tasks = args
                    .next()
                    .and_then(|text| text.to_str()?.parse().ok())
                    .filter(|tasks| *tasks > 0);
                options.room = Some(tasks.ok_or(OptionsError::NoValue(word))?);
                continue;
            }
            let slot = match word.to_str() {
                Some("--socket") => &mut options.socket,
                Some("--pins") => &mut options.pins,
                Some("--agent") => &mut options.agent,
                _ => return Err(OptionsError::Unknown(word)),
            };
            *slot = args.next().ok_or(OptionsError::NoValue(word))?.into();
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, OptionsError> {
        Options::from_args(words.iter().map(OsString::from))
    }

    #[test]
    fn without_words_the_installed_paths_count() {
        let options = parse(&[]).expect("nothing to refuse");
        assert_eq!(options.socket, PathBuf::from(path::GUARD_SOCKET));
    }

    #[test]
    fn an_unknown_word_and_a_missing_value_are_refused() {
        assert!(matches!(parse(&["--observe"]), Err(OptionsError::Unknown(_))));
        assert!(matches!(parse(&["--pins"]), Err(OptionsError::NoValue(_))));
        for room in [&["--room"][..], &["--room", "0"], &["--room", "many"]] {
            assert!(matches!(parse(room), Err(OptionsError::NoValue(_))), "{room:?}");
        }
        assert_eq!(parse(&["--room", "300"]).map(|options| options.room), Ok(Some(300)));
    }
}

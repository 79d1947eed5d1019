//! The command line: `[--argv0 NAME] -- PROGRAM [ARGUMENT…]` or `--refuse=TEXT`.
//!
//! Written by the generator. The program must be absolute: systemd has its own search for others, which we would have
//! to repeat exactly.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::error::Error;

/// What to become.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// The file to execute.
    pub program: PathBuf,
    /// Its arguments, `argv[0]` included.
    pub arguments: Vec<OsString>,
}

/// Reads the arguments behind our own name.
///
/// # Errors
/// [`Error::Usage`], and [`Error::RefusedByGenerator`] for `--refuse`.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let mut arguments = arguments.into_iter();
    let mut name = None;
    loop {
        let word = arguments.next().ok_or(Error::Usage("no program"))?;
        match word.as_bytes() {
            b"--" => break,
            b"--argv0" => name = Some(arguments.next().ok_or(Error::Usage("--argv0 without a name"))?),
            other => match (other.strip_prefix(b"--refuse="), other.strip_prefix(b"--argv0=")) {
                (Some(text), _) => return Err(Error::RefusedByGenerator(String::from_utf8_lossy(text).into_owned())),
                (_, Some(text)) => name = Some(OsString::from_vec(text.to_vec())),
                _ => return Err(Error::Usage("unknown option")),
            },
        }
    }
    let program = arguments.next().ok_or(Error::Usage("no program"))?;
    if !program.as_bytes().starts_with(b"/") {
        return Err(Error::Usage("the program must be an absolute path"));
    }
    let first = name.unwrap_or_else(|| program.clone());
    Ok(Command {
        program: program.into(),
        arguments: std::iter::once(first).chain(arguments).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Command, Error> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn everything_behind_the_dashes_is_the_program_s() {
        let command = words("-- /bin/a --argv0 -- b").expect("valid");
        assert_eq!(command.arguments, ["/bin/a", "--argv0", "--", "b"]);
    }

    #[test]
    fn argv0_replaces_only_the_name() {
        for line in ["--argv0 x -- /bin/a b", "--argv0=x -- /bin/a b"] {
            let command = words(line).expect("valid");
            assert_eq!(command.program, PathBuf::from("/bin/a"));
            assert_eq!(command.arguments, ["x", "b"]);
        }
    }

    #[test]
    fn refuse_and_misuse_start_nothing() {
        assert!(matches!(words("--refuse=why not"), Err(Error::RefusedByGenerator(t)) if t == "why"));
        for line in ["--", "/bin/a", "-- bin/a", "--argv0", "-x -- /bin/a"] {
            assert!(matches!(words(line), Err(Error::Usage(_))), "{line}");
        }
    }
}

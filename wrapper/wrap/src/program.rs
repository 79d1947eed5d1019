//! Can a library of ours serve this program? Only if the dynamic loader of glibc loads it, and the program asks the C library.
//!
//! Must never say yes to a program that would start without its secrets, or with its heap in ordinary memory: static programs and
//! those of Go read their environment from the stack and map their memory by themselves, set-user-ID ones make the loader ignore
//! LD_PRELOAD. ELF-64, elf(5); ld.so(8).

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::args::Command;
use crate::system::file_capabilities;

/// Scripts may name scripts; the kernel stops at 5 as well.
const MAX_SCRIPTS: usize = 5;
/// Longest `#!` line that Linux reads.
const MAX_SHEBANG: usize = 256;
/// Most program or section headers looked at; real programs have a few dozen.
const MAX_HEADERS: usize = 512;
/// Longest section name table read, in bytes.
const MAX_NAMES: usize = 64 * 1024;
/// The loader that our libraries are built for.
const LOADER: &[u8] = b"ld-linux-x86-64.so.2";

/// The command to run instead of `command`, so that the interposer reaches the real program: itself, but for scripts
/// of `#!/usr/bin/env NAME`, where `env` would start NAME as one of *its* children, which get no secrets.
///
/// # Errors
/// [`Unfit`] with the reason.
pub fn for_preload(command: Command, search: Option<&OsString>) -> Result<Command, Unfit> {
    let mut command = command;
    let mut file = command.program.clone();
    for _ in 0..MAX_SCRIPTS {
        match judge(&file).map_err(|why| refuse(&file, why))? {
            Kind::Served => return Ok(command),
            Kind::Script { interpreter, argument } if interpreter.ends_with("env") => {
                let name = argument.filter(|a| !a.as_bytes().starts_with(b"-") && !a.as_bytes().contains(&b'='));
                let name = name.ok_or_else(|| refuse(&file, "has a `#!` line with options of env"))?;
                let found = find(&name, search).ok_or_else(|| refuse(&file, "names an interpreter not in PATH"))?;
                // What the kernel and then env would have made of it: NAME SCRIPT ARGUMENTS…
                let rest = command.arguments.into_iter().skip(1);
                let arguments = [name, file.into_os_string()].into_iter().chain(rest).collect();
                file = found.clone();
                command = Command {
                    program: found,
                    arguments,
                };
            }
            Kind::Script { interpreter, .. } => file = interpreter,
        }
    }
    Err(refuse(&file, "is a script of a script of a script"))
}

fn refuse(program: &Path, why: &'static str) -> Unfit {
    Unfit {
        program: program.to_owned(),
        why,
    }
}

/// A program that no library of ours can serve.
#[derive(Debug)]
pub struct Unfit {
    /// Its file.
    pub program: PathBuf,
    /// The rest of the sentence that begins with it.
    pub why: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Served,
    Script {
        interpreter: PathBuf,
        argument: Option<OsString>,
    },
}

fn judge(path: &Path) -> Result<Kind, &'static str> {
    const UNREADABLE: &str = "cannot be read to see whether our library can be loaded into it";
    let file = File::open(path).map_err(|_| UNREADABLE)?;
    let status = file.metadata().map_err(|_| UNREADABLE)?;
    let mut start = [0u8; MAX_SHEBANG];
    let len = file.read_at(&mut start, 0).map_err(|_| UNREADABLE)?;
    let start = &start[..len];
    if let Some(line) = start.strip_prefix(b"#!") {
        return script(line);
    }
    // Such a program makes the loader drop LD_PRELOAD (secure-execution mode, ld.so(8)).
    if status.mode() & 0o6000 != 0 || file_capabilities(&file) {
        return Err("is set-user-ID, set-group-ID or has file capabilities, where the loader refuses LD_PRELOAD");
    }
    elf(&file)
}

fn script(line: &[u8]) -> Result<Kind, &'static str> {
    const BROKEN: &str = "has a `#!` line that is cut or empty";
    let end = line.iter().position(|b| *b == b'\n').ok_or(BROKEN)?;
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let line = line[..end].trim_ascii();
    let split = line.iter().position(blank).unwrap_or(line.len());
    let (interpreter, argument) = (&line[..split], line[split..].trim_ascii());
    if !interpreter.starts_with(b"/") {
        return Err(BROKEN);
    }
    let argument = (!argument.is_empty()).then(|| OsString::from_vec(argument.to_vec()));
    Ok(Kind::Script {
        interpreter: PathBuf::from(OsString::from_vec(interpreter.to_vec())),
        argument,
    })
}

fn elf(file: &File) -> Result<Kind, &'static str> {
    const CUT: &str = "is a damaged ELF file";
    let header: [u8; 64] = read(file, 0).ok_or("is neither a script nor an ELF program")?;
    if header[..4] != *b"\x7fELF" {
        return Err("is neither a script nor an ELF program");
    }
    if header[4..6] != [2, 1] || half(&header, 18) != 62 {
        return Err("is not an x86-64 program");
    }
    let (programs, program_len, program_count) = (word(&header, 32), half(&header, 54), half(&header, 56));
    if program_len != 56 || program_count > MAX_HEADERS {
        return Err(CUT);
    }
    let mut loader = None;
    for index in 0..program_count {
        let entry: [u8; 56] = read(file, programs.wrapping_add(index as u64 * 56)).ok_or(CUT)?;
        if entry[..4] == 3u32.to_le_bytes() {
            let mut name = vec![0u8; usize::try_from(word(&entry, 32)).unwrap_or(0).min(MAX_SHEBANG)];
            file.read_exact_at(&mut name, word(&entry, 8)).map_err(|_| CUT)?;
            loader = Some(name);
        }
    }
    let loader = loader.ok_or("is a static program, which has neither loader nor shared C library")?;
    if !loader
        .trim_ascii_end()
        .strip_suffix(b"\0")
        .unwrap_or(&loader)
        .ends_with(LOADER)
    {
        return Err("is not built for glibc");
    }
    if sections(file, &header)
        .is_some_and(|names| contains(&names, b".gopclntab") || contains(&names, b".go.buildinfo"))
    {
        return Err("is a Go program, which reads its environment and takes its memory without the C library");
    }
    Ok(Kind::Served)
}

/// The section name table; `None` when there is none.
fn sections(file: &File, header: &[u8; 64]) -> Option<Vec<u8>> {
    let (table, count, names) = (word(header, 40), half(header, 60), half(header, 62));
    if table == 0 || names >= count {
        return None;
    }
    let entry: [u8; 64] = read(file, table.checked_add(names as u64 * 64)?)?;
    let mut text = vec![0u8; usize::try_from(word(&entry, 32)).ok()?.min(MAX_NAMES)];
    file.read_exact_at(&mut text, word(&entry, 24)).ok()?;
    Some(text)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

fn read<const N: usize>(file: &File, at: u64) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
}

fn half(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0u8; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

/// As `execvp` does it.
fn find(name: &OsString, search: Option<&OsString>) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    std::env::split_paths(search?)
        .map(|dir| dir.join(name))
        .find(|file| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Command {
        Command {
            program: words[0].into(),
            arguments: words.iter().map(OsString::from).collect(),
        }
    }

    fn served(words: &[&str]) -> Result<Command, Unfit> {
        for_preload(command(words), Some(&"/usr/bin:/bin".into()))
    }

    #[test]
    fn ordinary_programs_are_served() {
        assert_eq!(
            served(&["/bin/sh", "-c", "x"]).expect("dynamic"),
            command(&["/bin/sh", "-c", "x"])
        );
    }

    #[test]
    fn a_script_through_env_starts_its_interpreter_directly() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("script");
        std::fs::write(&path, "#!/usr/bin/env bash\n").expect("write");
        let text = path.to_str().expect("utf-8");
        let direct = served(&[text, "one"]).expect("served");
        assert_eq!(direct.program, PathBuf::from("/usr/bin/bash"));
        assert_eq!(direct.arguments, ["bash", text, "one"]);
        std::fs::write(&path, "#!/usr/bin/env -S bash -x\n").expect("write");
        assert!(served(&[text]).is_err());
        std::fs::write(&path, "#! /bin/bash -e\n").expect("write");
        assert_eq!(served(&[text, "one"]).expect("served"), command(&[text, "one"]));
    }

    #[test]
    fn what_the_loader_would_skip_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        for (content, mode, why) in [
            (&b"hello"[..], 0o755, "neither"),
            (&b"\x7fELF"[..], 0o755, "neither"),
            (&[0x7f, b'E', b'L', b'F', 1, 1][..], 0o755, "neither"),
            (&b"#!"[..], 0o755, "cut"),
        ] {
            let path = dir.path().join("program");
            std::fs::write(&path, content).expect("write");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("chmod");
            let error = served(&[path.to_str().expect("utf-8")]).expect_err(why);
            assert!(error.why.contains(why), "{error:?}");
        }
        assert!(served(&["/nonexistent"]).is_err());
    }

    #[test]
    fn set_user_id_programs_are_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("program");
        std::fs::copy("/bin/sh", &path).expect("copy");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).expect("chmod");
        assert!(
            served(&[path.to_str().expect("utf-8")])
                .expect_err("suid")
                .why
                .contains("set-user-ID")
        );
    }
}

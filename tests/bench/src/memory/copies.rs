//! Where a program's secrets are, as root sees it: every mapping of the program and its children that can be read is searched.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, ensure};
use rempart_harness::scan::{Needle, scan};

use super::{PROGRAMS, Program, Setting, installed};

/// A value that is in every program that uses glibc: a search that does not find it proves nothing.
const CONTROL: (&str, &[u8]) = ("control", b"GNU C Library");

/// What was found of one kind of value.
#[derive(Debug, Default)]
pub struct Found {
    /// Copies that can be read, in all processes together.
    pub copies: usize,
    /// The kinds of mappings they are in.
    pub places: Vec<&'static str>,
}

/// Starts `program`, searches it and all its children, and counts copies by kind.
pub fn count(program: &dyn Program, file: &Path, library: Option<&Path>) -> Result<BTreeMap<String, Found>> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let running = program.start(file, Setting { library, folder })?;
    let mut needles = running.needles.clone();
    needles.push(Needle::new(CONTROL.0, CONTROL.1));
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    for needle in &running.needles {
        all.entry(needle.kind.clone()).or_default();
    }
    for pid in running.pids() {
        let seen = scan(pid, &needles)?;
        ensure!(
            seen.found.contains_key(CONTROL.0),
            "pid {pid}: the search finds nothing"
        );
        ensure!(
            (seen.secret > 0) == library.is_some(),
            "pid {pid} has {} bytes of secret memory",
            seen.secret
        );
        for (kind, places) in seen.found.iter().filter(|(kind, _)| *kind != CONTROL.0) {
            let found = all.entry(kind.clone()).or_default();
            found.copies += seen.copies[kind];
            found.places.extend(places);
        }
    }
    Ok(all)
}

/// One test line a program; false when one failed. Works (found in ordinary memory) → protected (not found).
pub fn check(library: &Path) -> bool {
    let mut all_hold = true;
    for program in PROGRAMS {
        let name = format!("programs/heap-{}-keeps-no-copy-that-can-be-read", program.name());
        let Some(file) = installed(program) else {
            println!("test {name} ... skipped (not installed)");
            continue;
        };
        match judge(program, &file, library) {
            Ok(()) => println!("test {name} ... ok"),
            Err(why) => {
                all_hold = false;
                println!("test {name} ... FAILED: {why:#}");
            }
        }
    }
    all_hold
}

fn judge(program: &dyn Program, file: &Path, library: &Path) -> Result<()> {
    for (kind, found) in count(program, file, None)? {
        ensure!(found.copies > 0, "{kind} is not found in ordinary memory either");
    }
    for (kind, found) in count(program, file, Some(library))? {
        let known = program.uncovered().contains(&kind.as_str());
        ensure!((found.copies > 0) == known, "{kind}: {found:?}, known: {known}");
    }
    Ok(())
}

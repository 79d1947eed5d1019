//! Making the kept corpora small: of all inputs that hunts have left, the fewest that together reach the same code.

use std::{fs, path::Path};

use anyhow::{Result, bail};
use rempart_fuzz::Target;

use crate::engine::{Engine, corpus, work};

/// Inputs of one target besides its seeds, and the longest of them, bytes: the tree shall stay small.
const INPUTS: usize = 32;
const LONGEST: usize = 4 * 1024;

/// Rewrites the corpora of `targets`.
pub fn run(engine: &Engine, targets: &[&'static Target]) -> Result<()> {
    for target in targets {
        let fresh = tempfile::tempdir()?;
        let (kept, grown) = (corpus(target), work(target)?.join("corpus"));
        let (folder, seeds) = (tempfile::tempdir()?, target.seeds());
        for (at, seed) in seeds.iter().enumerate() {
            fs::write(folder.path().join(at.to_string()), seed)?;
        }
        let folders = [fresh.path(), folder.path(), &kept, &grown];
        let mut merge = engine.start(target, &["-set_cover_merge=1", "-use_counters=0"], &folders)?;
        let ended = merge.wait()?;
        if !ended.clean() {
            bail!("{}: {}", target.name, ended.words(&merge));
        }
        let (files, bytes) = replace(&kept, fresh.path(), &seeds)?;
        println!("{:<18} {files} inputs, {bytes} bytes", target.name);
    }
    Ok(())
}

fn replace(kept: &Path, fresh: &Path, seeds: &[Vec<u8>]) -> Result<(usize, usize)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(fresh)? {
        let entry = entry?;
        found.push((entry.file_name(), fs::read(entry.path())?));
    }
    let (seeded, mut found): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, input)| seeds.contains(input));
    found.retain(|(_, input)| input.len() <= LONGEST);
    // Of all lengths alike: the shortest alone would all be refused early.
    found.sort_by_key(|(_, input)| input.len());
    let step = found.len().div_ceil(INPUTS).max(1);
    if kept.is_dir() {
        fs::remove_dir_all(kept)?;
    }
    fs::create_dir_all(kept)?;
    let (mut files, mut bytes) = (0, 0);
    for (name, input) in seeded.into_iter().chain(found.into_iter().step_by(step)) {
        fs::write(kept.join(name), &input)?;
        (files, bytes) = (files + 1, bytes + input.len());
    }
    Ok((files, bytes))
}

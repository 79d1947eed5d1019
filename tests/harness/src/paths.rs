//! Where things are: the repository, the cache outside it, the built programs.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The checkout that the current folder is in. Not the one that was compiled: several share one folder of built programs, and the
/// first of them may be gone.
#[must_use]
pub fn repository() -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    let root = here.ancestors().find(|folder| folder.join("tests/harness").is_dir());
    root.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// `$XDG_CACHE_HOME/rempart`, else `~/.cache/rempart`: what is costly to make and safe to lose.
#[must_use]
pub fn cache_dir() -> PathBuf {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("rempart")
}

/// Cargo's folder of built programs, as `./x` sets it.
#[must_use]
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache_dir().join("target"), PathBuf::from)
}

/// A program that this workspace builds, by name, in the development profile.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = target_dir().join("debug").join(name);
    if !path.is_file() {
        bail!("{} is not built; run ./x build", path.display());
    }
    Ok(path)
}

//! A file that comes to be whole or not at all.
//!
//! Must never leave a part of one behind, nor write through what lies at its place.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The text on disk beside its place; gone with this value unless it was placed.
#[must_use]
pub struct Beside {
    path: PathBuf,
    place: PathBuf,
}

impl Beside {
    /// Writes `text` beside `path`, where nothing of that name is yet, with `mode` whatever the umask is.
    pub fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<Self> {
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let beside = path.with_file_name(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        let written = Self {
            path: beside,
            place: path.to_owned(),
        };
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text)?;
        file.sync_all()?;
        Ok(written)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, which is another file's no more.
    pub fn place(self) -> io::Result<()> {
        fs::rename(&self.path, &self.place)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Once it is placed there is none of that name.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_placed_leaves_nothing_and_what_is_has_its_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = || fs::read_dir(folder.path()).expect("a folder").count();
        let path = folder.path().join("file");
        fs::write(&path, "old").expect("written");
        let beside = Beside::write(&path, b"new", 0o640).expect("written");
        assert_eq!(fs::read(beside.path()).expect("there"), b"new");
        assert!(
            Beside::write(&path, b"another", 0o640).is_err(),
            "never through what is there"
        );
        drop(beside);
        assert_eq!((names(), fs::read(&path).expect("there")), (1, b"old".to_vec()));
        Beside::write(&path, b"new", 0o640)
            .and_then(Beside::place)
            .expect("placed");
        assert_eq!((names(), fs::read(&path).expect("there")), (1, b"new".to_vec()));
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert!(Beside::write(&folder.path().join("none/file"), b"", 0o600).is_err());
    }
}

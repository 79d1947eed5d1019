//! AppRole: what a node shows at the server in the place of its Attestation Result, from two files a role.
//!
//! Whoever has the secret id can log in from anywhere, attested or not: that is this method's, and the owner's to narrow (`token_bound_cidrs`,
//! `secret_id_num_uses`, short lives). Must never use a file that others may read or change, and never keep what it read.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rempart_secret::SecretString;

/// Longest id, in bytes; those of servers are UUIDs.
const MAX_ID: u64 = 512;

/// Why a role has no usable ids.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}; write the role's id there, for the user or group rempart alone (chmod 0440)")]
pub struct IdError {
    path: String,
    why: String,
}

/// A role's ids.
pub struct Ids {
    /// Which AppRole.
    pub role: String,
    /// What proves it.
    pub secret: SecretString,
}

impl Ids {
    /// `ROLE.role-id` and `ROLE.secret-id` in `folder`, as they are now.
    pub fn of(folder: &Path, role: &str) -> Result<Self, IdError> {
        let id = |kind: &str| {
            let path = folder.join(format!("{role}.{kind}"));
            read(&path).map_err(|why| IdError {
                path: path.display().to_string(),
                why: why.to_string(),
            })
        };
        Ok(Self {
            role: id("role-id")?.expose().to_owned(),
            secret: id("secret-id")?,
        })
    }
}

fn read(path: &Path) -> io::Result<SecretString> {
    // A pipe would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let file = File::open(path)?;
    if file.metadata()?.mode() & 0o027 != 0 {
        return Err(io::Error::other("others may read or change it"));
    }
    let mut text = String::new();
    file.take(MAX_ID + 1).read_to_string(&mut text)?;
    // Wiped as well.
    let whole = SecretString::new(text);
    let secret = SecretString::new(whole.expose().trim().to_owned());
    let plain = |byte: u8| byte.is_ascii_graphic();
    if whole.expose().len() as u64 > MAX_ID || secret.expose().is_empty() || !secret.expose().bytes().all(plain) {
        return Err(io::Error::other("it holds no id"));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_a_file_for_the_agent_alone_with_one_word_in_it_is_an_id() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |kind: &str, text: &str, mode: u32| {
            let path = folder.path().join(format!("web.{kind}"));
            drop(fs::remove_file(&path));
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        };
        let refusal = || match Ids::of(folder.path(), "web") {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(refusal().contains("web.role-id: No such file"), "{}", refusal());
        write("role-id", "web-role\n", 0o440);
        write("secret-id", "  9f0c-secret\n", 0o400);
        let ids = Ids::of(folder.path(), "web").expect("two ids");
        assert_eq!(
            (ids.role.as_str(), ids.secret.expose().as_str()),
            ("web-role", "9f0c-secret")
        );
        let long = "x".repeat(600);
        for (text, mode, part) in [
            ("9f0c-secret", 0o404, "others may"),
            ("9f0c-secret", 0o460, "others may"),
            ("", 0o400, "no id"),
            ("two words", 0o400, "no id"),
            (long.as_str(), 0o400, "no id"),
        ] {
            write("secret-id", text, mode);
            let refusal = refusal();
            assert!(refusal.contains(part) && !refusal.contains("9f0c"), "{refusal}");
        }
    }
}

//! What an agent that is started again in the same boot has to know, one file each in the state folder.
//!
//! Must never give what was kept in another boot.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The file.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    boot_id: String,
    units: T,
}

/// What the file at `path` holds of the boot `boot_id`. Of a file that cannot be read one line tells, which ends with what `follows`.
pub fn of_boot<T: DeserializeOwned>(path: &Path, boot_id: &str, follows: &str) -> Option<T> {
    let told = |what: &str, error: &dyn std::fmt::Display| {
        tracing::error!("{} {what}, {follows}: {error}", path.display());
    };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            told("cannot be read", &error);
            return None;
        }
    };
    match serde_json::from_slice::<Kept<T>>(&text) {
        Ok(kept) => (!boot_id.is_empty() && kept.boot_id == boot_id).then_some(kept.units),
        Err(error) => {
            told("is damaged", &error);
            None
        }
    }
}

/// Written beside it first: there whole or not at all. Of a file that cannot be written one line tells, which ends with what `follows`.
/// Says whether it was written.
pub fn keep<T: Serialize>(path: &Path, boot_id: &str, units: &T, follows: &str) -> bool {
    let beside = path.with_extension("new");
    let kept = Kept {
        boot_id: boot_id.to_owned(),
        units,
    };
    let written = serde_json::to_vec(&kept)
        .map_err(io::Error::other)
        .and_then(|text| fs::write(&beside, text))
        .and_then(|()| fs::rename(&beside, path));
    if let Err(error) = &written {
        tracing::error!("{} cannot be written, so {follows}: {error}", path.display());
    }
    written.is_ok()
}

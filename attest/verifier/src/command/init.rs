//! `init`: a new Verifier in a directory. Nothing that exists is touched.

use std::path::{Path, PathBuf};

use crate::cli::Init;
use crate::config::{self, Config};
use crate::error::Error;
use crate::file;
use crate::keys::Keys;

pub fn run(how: &Init) -> Result<(), Error> {
    how.memory_degraded.settle()?;
    config::judge_id(&how.id).map_err(|why| Error::Usage(why.into()))?;
    let path = how
        .configuration
        .clone()
        .unwrap_or_else(|| how.dir.join("verifier.toml"));
    if path.exists() || how.dir.join("signing.key").exists() {
        return Err(Error::Exists(how.dir.clone()));
    }
    let text = configuration(how)?;
    file::create_dir(&how.dir)?;
    Keys::create(&how.dir)?;
    file::create(&path, 0o644, text.as_bytes())?;
    super::with_registry(&Config::load(&path)?, |_made| async { Ok(()) })?;
    println!(
        "Verifier {} made in {}; back up that directory. Next: rempart-verifier --config {} serve",
        how.id,
        how.dir.display(),
        path.display()
    );
    Ok(())
}

fn configuration(how: &Init) -> Result<String, Error> {
    let roots: Result<Vec<_>, _> = how.ek_root.iter().map(|p| absolute(p)).collect();
    let mut table = toml::Table::new();
    let mut set = |key: &str, value: toml::Value| table.insert(key.into(), value);
    set("listen", how.listen.clone().into());
    set("id", how.id.clone().into());
    set("tls_certificate", absolute(&how.tls_certificate)?.into());
    set("tls_key", absolute(&how.tls_key)?.into());
    // Beside its configuration the directory may be moved as a whole.
    set(
        "state_dir",
        if how.configuration.is_some() {
            absolute(&how.dir)?
        } else {
            ".".into()
        }
        .into(),
    );
    set("ek_roots", roots?.into());
    // Without a manufacturer to trust, the first TPM under a name is believed; the operator reads it in the file.
    set(
        "ek",
        if how.ek_root.is_empty() {
            "first-use"
        } else {
            "certified"
        }
        .into(),
    );
    set("allowed_signers", absolute(&how.allowed_signers)?.into());
    let memory = toml::Table::from_iter([("degraded".into(), how.memory_degraded.word().into())]);
    table.insert("memory".into(), memory.into());
    Ok(table.to_string())
}

fn absolute(path: &Path) -> Result<String, Error> {
    let absolute: PathBuf = std::path::absolute(path).map_err(|source| Error::Read {
        path: path.into(),
        source,
    })?;
    absolute
        .into_os_string()
        .into_string()
        .map_err(|_| Error::Usage("a path is not UTF-8".into()))
}

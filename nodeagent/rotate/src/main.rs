//! rempart-rotate: starts units again whose secrets are about to end. rempartd asks for it by an empty file of the unit's name in a folder of
//! its own; systemd starts this program when there is one, and it ends when there is none.
//!
//! It is root, because only root may start units; so it must never do more than that, for a unit that says so itself:
//! opted in, with `OnRotate=restart`, and running.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use rempart_api::{exit, path};
use rempart_core::unitfile::{OnRotate, Source, read_opt_in};

/// Longest unit file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Requests of one run; the folder is the agent's, and it asks again.
const MOST: usize = 4096;

/// Starts units again whose secrets are about to end.
#[derive(Debug, Parser)]
#[command(name = "rempart-rotate", version, about)]
struct Arguments {
    /// Folder of requests; elsewhere only in tests.
    #[arg(long, hide = true, default_value = path::ROTATE)]
    requests: PathBuf,
    /// D-Bus address instead of the system bus.
    #[arg(long, hide = true, default_value = "unix:path=/run/dbus/system_bus_socket")]
    bus: String,
}

/// systemd's manager.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    /// The unit of that name, if it is loaded.
    #[zbus(name = "GetUnit")]
    fn unit(&self, name: &str) -> zbus::Result<zbus::zvariant::OwnedObjectPath>;
    /// Starts it again if it runs.
    fn try_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::zvariant::OwnedObjectPath>;
}

/// A unit.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    /// Its file.
    #[zbus(property)]
    fn fragment_path(&self) -> zbus::Result<String>;
    /// Files that change it.
    #[zbus(property)]
    fn drop_in_paths(&self) -> zbus::Result<Vec<String>>;
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(exit::OS),
        Err(error) => {
            eprintln!("<3>rempart-rotate: {error:#}");
            ExitCode::from(exit::OS)
        }
    }
}

/// How many requests failed.
async fn run(arguments: &Arguments) -> anyhow::Result<usize> {
    let bus = zbus::connection::Builder::address(arguments.bus.as_str())?
        .build()
        .await
        .context("no connection to the system bus; check: systemctl status dbus")?;
    let manager = ManagerProxy::new(&bus).await?;
    let mut failed = 0;
    for request in requests(&arguments.requests)? {
        let name = request.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Gone before it is seen to: one that comes meanwhile is another.
        fs::remove_file(&request).with_context(|| request.display().to_string())?;
        match restart(&bus, &manager, &name).await {
            Ok(()) => eprintln!("<6>{name} is started again for new secrets"),
            Err(error) => {
                failed += 1;
                eprintln!(
                    "<4>rempart-rotate: {} is not started again: {error:#}",
                    name.escape_debug()
                );
            }
        }
    }
    Ok(failed)
}

fn requests(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    let mut found: Vec<PathBuf> = entries.flatten().take(MOST).map(|entry| entry.path()).collect();
    found.sort();
    Ok(found)
}

async fn restart(bus: &zbus::Connection, manager: &ManagerProxy<'_>, name: &str) -> anyhow::Result<()> {
    anyhow::ensure!(is_service(name), "that is no service's name");
    let path = manager.unit(name).await.context("systemd has not loaded it")?;
    let unit = UnitProxy::builder(bus).path(path)?.build().await?;
    let mut files = vec![unit.fragment_path().await?];
    files.extend(unit.drop_in_paths().await?);
    anyhow::ensure!(wants_restart(&files)?, "it has not opted in with OnRotate=restart");
    manager.try_restart_unit(name, "replace").await?;
    Ok(())
}

/// What the unit's own files say, those of root alone.
fn wants_restart(files: &[String]) -> anyhow::Result<bool> {
    let mut texts = Vec::new();
    for file in files.iter().filter(|file| !file.is_empty()) {
        let size = fs::metadata(file).with_context(|| file.clone())?.len();
        anyhow::ensure!(size <= MAX_FILE, "{file} is longer than {MAX_FILE} bytes");
        texts.push((file, fs::read_to_string(file).with_context(|| file.clone())?));
    }
    let sources: Vec<Source<'_>> = texts.iter().map(|(path, text)| Source { path, text }).collect();
    Ok(read_opt_in(&sources)?.is_some_and(|opt_in| opt_in.on_rotate == OnRotate::Restart))
}

/// systemd.unit(5).
fn is_service(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    name.len() <= 255 && name.ends_with(".service") && !name.starts_with('.') && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_unit_that_says_so_is_started_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let unit = file("a.service", "[Service]\nExecStart=/bin/a\n");
        let wrapped = file("50.conf", "[X-Rempart]\nWrap=yes\n");
        let none = file("60.conf", "[X-Rempart]\nOnRotate=none\n");
        assert!(!wants_restart(std::slice::from_ref(&unit)).expect("read"));
        assert!(wants_restart(&[unit.clone(), wrapped.clone()]).expect("read"));
        assert!(!wants_restart(&[unit.clone(), wrapped, none]).expect("read"));
        assert!(wants_restart(&[unit, file("70.conf", "[X-Rempart]\nWrap=maybe\n")]).is_err());
    }

    #[test]
    fn a_request_names_a_service_and_nothing_else() {
        assert!(is_service("web@1.service"));
        for name in ["../x.service", ".service", "x.socket", "a b.service", "x.service\n", ""] {
            assert!(!is_service(name), "{name:?}");
        }
    }
}

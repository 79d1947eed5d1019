//! rempart-jobs: starts or reloads units whose secrets are about to end, stops units when the node is locked, and starts these when it is unlocked.
//! rempartd asks for it by files in a folder of its own (rempart_api::job); systemd starts this program when there is one.
//!
//! It is root, because only root may have systemd do that; so it must never do more, nor for a unit that does not say so itself, in files that
//! only root can write: opted in, with the `OnRotate=` or `OnLock=` that the job is of.

use std::{
    fs,
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Parser;
use rempart_api::{
    exit,
    job::{Job, is_service},
    path,
};
use rempart_core::unitfile::{OnLock, OnRotate, OptIn, Source, read_opt_in};

/// Longest unit file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest request, in bytes.
const MAX_WORD: u64 = 16;
/// Requests of one run; the folder is the agent's, and it asks again.
const MOST: usize = 4096;

/// Starts and stops units as the agent asks and they allow.
#[derive(Debug, Parser)]
#[command(name = "rempart-jobs", version, about)]
struct Arguments {
    /// Folder of requests; elsewhere only in tests.
    #[arg(long, hide = true, default_value = path::JOBS)]
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
    /// The unit of that name, loaded from disk if need be.
    fn load_unit(&self, name: &str) -> zbus::Result<zbus::zvariant::OwnedObjectPath>;
    /// Starts it again if it runs.
    fn try_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::zvariant::OwnedObjectPath>;
    /// Runs its `ExecReload=`.
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::zvariant::OwnedObjectPath>;
    /// Sends a signal to some of its processes.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    /// Starts it.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::zvariant::OwnedObjectPath>;
    /// Stops it.
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<zbus::zvariant::OwnedObjectPath>;
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
        Ok(0) => return ExitCode::SUCCESS,
        Ok(_) => {}
        Err(error) => eprintln!("<3>rempart-jobs: {error:#}"),
    }
    // systemd starts it again as long as there is a request: what does not come about is not tried without a pause.
    tokio::time::sleep(PAUSE).await;
    ExitCode::from(exit::OS)
}

/// How many requests failed.
async fn run(arguments: &Arguments) -> anyhow::Result<usize> {
    let bus = zbus::connection::Builder::address(arguments.bus.as_str())?
        .build()
        .await
        .context("no connection to the system bus; check: systemctl status dbus")?;
    let manager = ManagerProxy::new(&bus).await?;
    let mut failed = 0;
    for (request, name) in requests(&arguments.requests)? {
        let word = first_word(&request);
        // Gone before it is seen to: one that comes meanwhile is another. What cannot be removed keeps no other from its turn.
        let removed = fs::remove_file(&request).or_else(|_| fs::remove_dir(&request));
        let done = match removed {
            Ok(()) => serve(&bus, &manager, &name, word.as_deref()).await,
            Err(error) => Err(anyhow::anyhow!("it cannot be removed: {error}")),
        };
        match done {
            Ok(job) => eprintln!("<6>{name}: {}, as the agent asks and it allows", job.word()),
            Err(error) => {
                failed += 1;
                eprintln!(
                    "<4>rempart-jobs: nothing is done with {}: {error:#}",
                    name.escape_debug()
                );
            }
        }
    }
    Ok(failed)
}

/// What a request says, if it is a word at all. The agent may write into the folder: no link is followed, no pipe waited for, nothing long
/// read.
fn first_word(request: &Path) -> Option<String> {
    let file = fs::File::options()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(request)
        .ok()?;
    let mut word = String::new();
    file.metadata().ok().filter(fs::Metadata::is_file)?;
    file.take(MAX_WORD + 1).read_to_string(&mut word).ok()?;
    (word.len() as u64 <= MAX_WORD).then_some(word)
}

/// Paths and names. A name with a dot in front is a request that is being written.
fn requests(folder: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    let named = |entry: fs::DirEntry| (entry.path(), entry.file_name().to_string_lossy().into_owned());
    let mut found: Vec<_> = entries.flatten().map(named).collect();
    found.retain(|(_, name)| !name.starts_with('.'));
    found.truncate(MOST);
    found.sort();
    Ok(found)
}

async fn serve(
    bus: &zbus::Connection,
    manager: &ManagerProxy<'_>,
    name: &str,
    word: Option<&str>,
) -> anyhow::Result<Job> {
    anyhow::ensure!(is_service(name), "that is no service's name");
    let job = word.and_then(Job::from_word).context("the request names no job")?;
    let path = manager.load_unit(name).await.context("systemd does not load it")?;
    let unit = UnitProxy::builder(bus).path(path)?.build().await?;
    let mut files = vec![unit.fragment_path().await?];
    files.extend(unit.drop_in_paths().await?);
    let allowed = opt_in(&files)?.is_some_and(|opt_in| allows(&opt_in, job));
    anyhow::ensure!(allowed, "it has not opted in to {}", job.word());
    match job {
        Job::Restart => drop(manager.try_restart_unit(name, "replace").await?),
        Job::Reload => drop(manager.reload_unit(name, "replace").await?),
        Job::Signal(signal) => manager.kill_unit(name, "main", signal.number()).await?,
        Job::Start => drop(manager.start_unit(name, "replace").await?),
        Job::Stop => drop(manager.stop_unit(name, "replace").await?),
    }
    Ok(job)
}

fn allows(opt_in: &OptIn, job: Job) -> bool {
    match job {
        // What is reloaded is started again where its files cannot be replaced.
        Job::Restart => opt_in.on_rotate != OnRotate::None,
        Job::Reload => opt_in.on_rotate == OnRotate::Reload,
        Job::Signal(signal) => opt_in.on_rotate == OnRotate::Signal(signal),
        Job::Start | Job::Stop => opt_in.on_lock == OnLock::Stop,
    }
}

/// What the unit's own files say, those of root alone.
fn opt_in(files: &[String]) -> anyhow::Result<Option<OptIn>> {
    let mut texts = Vec::new();
    for file in files.iter().filter(|file| !file.is_empty()) {
        let size = fs::metadata(file).with_context(|| file.clone())?.len();
        anyhow::ensure!(size <= MAX_FILE, "{file} is longer than {MAX_FILE} bytes");
        texts.push((file, fs::read_to_string(file).with_context(|| file.clone())?));
    }
    let sources: Vec<Source<'_>> = texts.iter().map(|(path, text)| Source { path, text }).collect();
    Ok(read_opt_in(&sources)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rempart_api::job::Signal;

    #[test]
    fn only_what_a_unit_says_itself_is_done_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let unit = file("a.service", "[Service]\nExecStart=/bin/a\n");
        let wrapped = file("50.conf", "[X-Rempart]\nWrap=yes\n");
        let other = file("60.conf", "[X-Rempart]\nOnRotate=none\nOnLock=stop\n");
        let allowed = |files: &[&String]| {
            let files: Vec<String> = files.iter().map(|file| (*file).clone()).collect();
            let opt_in = opt_in(&files).expect("read");
            [
                Job::Restart,
                Job::Stop,
                Job::Start,
                Job::Reload,
                Job::Signal(Signal::Hup),
                Job::Signal(Signal::Usr1),
            ]
            .map(|job| opt_in.as_ref().is_some_and(|opt_in| allows(opt_in, job)))
        };
        let reloaded = file(
            "80.conf",
            "[X-Rempart]\nRole=a\nSecret=k:file=kv/a#b\nOnRotate=reload\n",
        );
        let told = file("90.conf", "[X-Rempart]\nOnRotate=signal:HUP\n");
        let none = [false; 6];
        assert_eq!(allowed(&[&unit]), none);
        assert_eq!(allowed(&[&unit, &wrapped]), [true, false, false, false, false, false]);
        assert_eq!(
            allowed(&[&unit, &wrapped, &other]),
            [false, true, true, false, false, false]
        );
        let reload = [&unit, &wrapped, &reloaded];
        assert_eq!(allowed(&reload), [true, false, false, true, false, false]);
        let told = [&unit, &wrapped, &reloaded, &told];
        assert_eq!(allowed(&told), [true, false, false, false, true, false]);
        assert!(opt_in(&[unit, file("70.conf", "[X-Rempart]\nWrap=maybe\n")]).is_err());
    }

    #[test]
    fn a_request_is_one_word_in_a_file_and_no_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "stop").expect("written");
        fs::write(at("b"), "stop".repeat(5)).expect("written");
        std::os::unix::fs::symlink(at("a"), at("c")).expect("linked");
        nix::unistd::mkfifo(&at("d"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        fs::create_dir(at("e")).expect("a folder");
        fs::write(at(".f"), "stop").expect("written");
        assert_eq!(
            first_word(&at("a")).as_deref().and_then(Job::from_word),
            Some(Job::Stop)
        );
        for name in ["b", "c", "d", "e", "none"] {
            assert_eq!(first_word(&at(name)), None, "{name}");
        }
        let names: Vec<String> = requests(folder.path())
            .expect("listed")
            .into_iter()
            .map(|(_, name)| name)
            .collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"], "and not one that is being written");
        assert_eq!(Job::from_word("reboot"), None);
    }

    #[test]
    fn a_request_names_a_service_and_nothing_else() {
        assert!(is_service("web@1.service"));
        for name in ["../x.service", ".service", "x.socket", "a b.service", "x.service\n", ""] {
            assert!(!is_service(name), "{name:?}");
        }
    }
}

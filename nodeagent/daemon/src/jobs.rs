//! Requests for jobs of units. The agent may start and stop nothing itself: rempart-jobs, which systemd starts for each request, sees
//! whether the unit allows it. The folder is root's, so that nobody can put another in its place; the agent may write into it.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rempart_api::job::Job;

/// Root reads it without a capability.
const MODE: u32 = 0o644;

/// The folder of requests.
#[derive(Debug, Clone)]
pub struct Jobs {
    folder: PathBuf,
    turn: Arc<Mutex<()>>,
}

impl Jobs {
    /// In that folder, which systemd-tmpfiles has made.
    pub fn at(folder: PathBuf) -> Self {
        Self {
            folder,
            turn: Arc::default(),
        }
    }

    /// Asks for a job of `unit`. What was asked for before and not seen to is replaced; but a stop is not by a restart.
    pub fn ask(&self, unit: &str, job: Job) -> Result<(), String> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let request = self.folder.join(unit);
        let pending = fs::read_to_string(&request).ok().and_then(|word| Job::from_word(&word));
        if pending.is_some_and(|pending| outranks(pending, job)) {
            return Ok(());
        }
        self.write(unit, job).map_err(|error| {
            let folder = self.folder.display();
            format!("{folder}: {error}; check its space and owner (systemd-tmpfiles --create rempart.conf)")
        })
    }

    /// Renamed into place: rempart-jobs, which passes over names with a dot in front, sees a whole request or none.
    fn write(&self, unit: &str, job: Job) -> io::Result<()> {
        let next = self.folder.join(format!(".{unit}"));
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(MODE)
            .open(&next)?;
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
        file.write_all(job.word().as_bytes())?;
        fs::rename(&next, self.folder.join(unit))
    }
}

/// Whether `pending` is not undone by `job`: what a lock or its end wants is never put off by new secrets, and a start of a unit brings
/// these by itself.
fn outranks(pending: Job, job: Job) -> bool {
    let rank = |job| match job {
        Job::Start | Job::Stop => 2,
        Job::Restart => 1,
        Job::Reload | Job::Signal(_) => 0,
    };
    rank(pending) > rank(job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rempart_api::job::Signal;

    #[test]
    fn the_last_word_counts_but_a_stop_is_not_undone_by_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let jobs = Jobs::at(folder.path().to_owned());
        let word = || fs::read_to_string(folder.path().join("a.service")).expect("a request");
        jobs.ask("a.service", Job::Restart).expect("asked");
        assert_eq!(word(), "restart");
        jobs.ask("a.service", Job::Stop).expect("asked");
        jobs.ask("a.service", Job::Restart).expect("asked");
        assert_eq!(word(), "stop");
        jobs.ask("a.service", Job::Start).expect("asked");
        assert_eq!(word(), "start");
        for lesser in [Job::Restart, Job::Reload, Job::Signal(Signal::Hup)] {
            jobs.ask("a.service", lesser).expect("asked");
            assert_eq!(word(), "start", "{lesser:?}");
        }
        fs::remove_file(folder.path().join("a.service")).expect("seen to");
        jobs.ask("a.service", Job::Reload).expect("asked");
        jobs.ask("a.service", Job::Restart).expect("asked");
        jobs.ask("a.service", Job::Signal(Signal::Hup)).expect("asked");
        assert_eq!(word(), "restart", "which brings new secrets by itself");
        assert_eq!(
            fs::read_dir(folder.path()).expect("listed").count(),
            1,
            "nothing else is left"
        );
        assert!(
            Jobs::at(folder.path().join("none"))
                .ask("a.service", Job::Stop)
                .is_err()
        );
    }
}

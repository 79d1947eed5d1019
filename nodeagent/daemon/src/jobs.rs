//! Requests for jobs of units. The agent may start and stop nothing itself: rempart-jobs, which systemd starts for each request, sees
//! whether the unit allows it.

use std::{fs, io, path::PathBuf};

use rempart_api::job::Job;

/// The folder of requests.
#[derive(Debug, Clone)]
pub struct Jobs(PathBuf);

impl Jobs {
    /// In that folder, which is made when it is needed.
    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Asks for a job of `unit`; what was asked for before and not seen to is replaced.
    pub fn ask(&self, unit: &str, job: Job) -> Result<(), String> {
        // Renamed into place: rempart-jobs sees a whole request or none.
        let next = self.0.with_extension("new");
        let asked = fs::create_dir_all(&self.0)
            .and_then(|()| fs::write(&next, job.word()))
            .and_then(|()| fs::rename(&next, self.0.join(unit)));
        asked.map_err(|error: io::Error| format!("{}: {error}; check space and owner of it", self.0.display()))
    }
}

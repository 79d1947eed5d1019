//! What rempartd, which may start and stop nothing, asks rempart-jobs for: a file in [`crate::path::JOBS`] of the unit's name, which holds one
//! word. Units allow it by their own section.

/// A service's name as systemd allows it (systemd.unit(5)): it becomes a file's or a folder's name.
pub fn is_service(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    name.len() <= 255 && name.ends_with(".service") && !name.starts_with('.') && name.bytes().all(allowed)
}

/// A signal by which programs are told to read their files again (signal(7)); a program that does not
/// know them is ended by all but the last, so only the one that the unit names is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGWINCH.
    Winch,
}

impl Signal {
    const ALL: [Self; 4] = [Self::Hup, Self::Usr1, Self::Usr2, Self::Winch];

    /// Its name without `SIG`, as a unit writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Winch => "WINCH",
        }
    }

    /// The signal of that name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.word() == word)
    }

    /// Its number on Linux, the same on every machine that Rempart runs on.
    pub const fn number(self) -> i32 {
        match self {
            Self::Hup => 1,
            Self::Usr1 => 10,
            Self::Usr2 => 12,
            Self::Winch => 28,
        }
    }
}

/// A job of systemd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    /// Started again if it runs: `OnRotate=restart`, and what cannot be replaced in place.
    Restart,
    /// Told by its `ExecReload=` to read its files again: `OnRotate=reload`.
    Reload,
    /// Told by this signal to its main process: `OnRotate=signal:NAME`.
    Signal(Signal),
    /// Stopped: `OnLock=stop`.
    Stop,
    /// Started after a stop: `OnLock=stop`.
    Start,
}

impl Job {
    /// The word in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Signal(Signal::Hup) => "signal:HUP",
            Self::Signal(Signal::Usr1) => "signal:USR1",
            Self::Signal(Signal::Usr2) => "signal:USR2",
            Self::Signal(Signal::Winch) => "signal:WINCH",
            Self::Stop => "stop",
            Self::Start => "start",
        }
    }

    /// The job of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        let signals = Signal::ALL.map(Self::Signal);
        [Self::Restart, Self::Reload, Self::Stop, Self::Start]
            .into_iter()
            .chain(signals)
            .find(|job| job.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_the_job_of_its_word() {
        let signals = Signal::ALL.map(Job::Signal);
        for job in [Job::Restart, Job::Reload, Job::Stop, Job::Start]
            .into_iter()
            .chain(signals)
        {
            assert_eq!(Job::from_word(job.word()), Some(job));
            if let Job::Signal(signal) = job {
                assert_eq!(job.word().strip_prefix("signal:"), Some(signal.word()));
            }
        }
        for word in ["", "reboot", "signal:KILL", "signal:hup", "signal"] {
            assert_eq!(Job::from_word(word), None, "{word}");
        }
    }
}

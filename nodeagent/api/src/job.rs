//! What rempartd, which may start and stop nothing, asks rempart-jobs for: a file in [`crate::path::JOBS`] of the unit's name, which holds one
//! word. Units allow it by their own section.

/// A service's name as systemd allows it (systemd.unit(5)): it becomes a file's or a folder's name.
pub fn is_service(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    name.len() <= 255 && name.ends_with(".service") && !name.starts_with('.') && name.bytes().all(allowed)
}

/// A job of systemd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    /// Started again if it runs: `OnRotate=restart`.
    Restart,
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
            Self::Stop => "stop",
            Self::Start => "start",
        }
    }

    /// The job of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Restart, Self::Stop, Self::Start]
            .into_iter()
            .find(|job| job.word() == word)
    }
}

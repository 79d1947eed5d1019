//! What an attempt came to: obtained, denied, or an error that proves nothing either way.

use std::io;

/// The thing, described; or why not.
pub(crate) type Attempt = Result<String, Failure>;

/// Not obtained.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the kernel said, if it was the kernel.
    pub(crate) errno: Option<i32>,
    /// At which step.
    pub(crate) detail: String,
}

impl Failure {
    /// Something that is no system call's fault.
    pub(crate) fn other(detail: impl Into<String>) -> Self {
        Failure {
            errno: None,
            detail: detail.into(),
        }
    }

    /// EPERM and EACCES are the answers of an access decision; all else proves nothing.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self.errno, Some(libc::EPERM | libc::EACCES))
    }
}

/// Names the step that failed.
pub(crate) trait Step<T> {
    /// `what` failed.
    fn step(self, what: &str) -> Result<T, Failure>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            errno: error.raw_os_error(),
            detail: format!("{what}: {error}"),
        })
    }
}

/// The one word for an attempt.
pub(crate) fn word(attempt: &Attempt) -> &'static str {
    match attempt {
        Ok(_) => "obtained",
        Err(failure) if failure.is_denial() => "denied",
        Err(_) => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_access_decision_counts_as_denied() {
        let failed = |errno| {
            Err::<(), _>(io::Error::from_raw_os_error(errno))
                .step("x")
                .map(|()| String::new())
        };
        assert_eq!(word(&failed(libc::EPERM)), "denied");
        assert_eq!(word(&failed(libc::EACCES)), "denied");
        assert_eq!(word(&failed(libc::ESRCH)), "error");
        assert_eq!(word(&Err(Failure::other("y"))), "error");
    }
}

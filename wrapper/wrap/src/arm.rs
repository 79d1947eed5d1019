//! What shuts this process before a secret is in it, and what of that the service keeps.
//!
//! RLIMIT_CORE is exactly 1: a core_pattern pipe ignores 0 but not 1, and a file of one byte is refused too (core(5)).
//! The limit and coredump_filter survive exec; PR_SET_DUMPABLE does not, the preloaded interposer sets it again.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

use crate::error::Error;

/// Shuts the doors.
///
/// # Errors
/// [`Error::System`] when one stays open: then there is no request for a secret at all.
pub fn arm() -> Result<(), Error> {
    setrlimit(Resource::RLIMIT_CORE, 1, 1)
        .map_err(|e| Error::system("set RLIMIT_CORE to 1 (the unit needs LimitCORE=1)", e))?;
    // Before PR_SET_DUMPABLE, which makes our own /proc files root's.
    std::fs::write("/proc/self/coredump_filter", "0")
        .map_err(|e| Error::system("write /proc/self/coredump_filter (the unit needs /proc)", e))?;
    prctl::set_dumpable(false).map_err(|e| Error::system("clear PR_SET_DUMPABLE", e))
}

//! `Memory=secret`: the service starts on a heap in secret memory, or not at all.
//!
//! Must never start it where the heap could not grow to what the unit allows: it would run for a while and then fail.

use std::collections::BTreeMap;
use std::ffi::OsString;

use nix::sys::resource::{Resource, getrlimit};
use rempart_api::agent::lock_limit;
use rempart_api::path::HEAP;

use crate::deliver::preload;
use crate::error::Error;

/// Adds what brings a heap of at most `heap` bytes to the service's environment. Its children inherit it.
///
/// # Errors
/// [`Error::LockLimit`], and the library cannot be read.
pub fn prepare(heap: u64, environment: &mut BTreeMap<OsString, OsString>) -> Result<(), Error> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|e| Error::system("read RLIMIT_MEMLOCK", e))?;
    fits(heap, limit)?;
    preload(HEAP, environment)?;
    environment.insert("REMPART_HEAP".into(), heap.to_string().into());
    // Python keeps small objects in memory that it maps by itself, unless told otherwise.
    environment.insert("PYTHONMALLOC".into(), "malloc".into());
    Ok(())
}

/// By the limit alone, whatever capabilities say: a service that gives its own up later has only the limit.
fn fits(heap: u64, limit: u64) -> Result<(), Error> {
    let needed = lock_limit(heap);
    if limit < needed {
        return Err(Error::LockLimit { heap, needed, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_too_small_is_told_with_the_one_that_is_needed() {
        assert!(fits(64 << 20, lock_limit(64 << 20)).is_ok());
        let error = fits(64 << 20, 8 << 20).expect_err("too small");
        assert!(error.line().contains("LimitMEMLOCK=150994944"), "{}", error.line());
        assert!(fits(u64::MAX, u64::MAX).is_ok(), "unlimited");
    }
}

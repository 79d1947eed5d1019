//! The page of secret variables, and what of an environment a child may see.
//!
//! A child's entry is a secret when it lies in the page, or when it is a copy of an entry of the page: python, perl,
//! bash and node hand copies to their children. Runs between vfork and exec too: no allocation, no lock there.

use std::ffi::c_char;
use std::sync::OnceLock;

/// Entries of a child's environment that are filtered on the stack (8 KiB); more take memory from malloc.
const ON_STACK: usize = 1024;

static PAGE: OnceLock<Page> = OnceLock::new();

/// The mapped page. The service may write to it (bash does, at its start).
pub struct Page {
    start: *mut c_char,
    len: usize,
}

// SAFETY: the page stays mapped until the process ends; it is read and written by the service as any environment is,
// with the C library's own rules for that.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// Takes over the mapped bytes. `None` when they are not `NAME=VALUE\0` one after the other.
    pub fn new(bytes: &'static mut [u8]) -> Option<Self> {
        let (last, entries) = bytes.split_last()?;
        let named = |entry: &[u8]| entry.iter().position(|b| *b == b'=').is_some_and(|at| at > 0);
        if *last != 0 || !entries.split(|b| *b == 0).all(named) {
            return None;
        }
        Some(Self {
            start: bytes.as_mut_ptr().cast(),
            len: bytes.len(),
        })
    }

    /// The start of each entry.
    pub fn entries(&self) -> impl Iterator<Item = *mut c_char> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let entry = (at < self.len).then(|| self.start.wrapping_add(at))?;
            // SAFETY: at < len, and the page ends in a NUL that nobody may overwrite, so strlen stays inside.
            at += unsafe { libc::strlen(entry) } + 1;
            Some(entry)
        })
    }

    fn holds(&self, entry: *const c_char) -> bool {
        let first = self.start.cast_const();
        if entry >= first && entry < first.wrapping_add(self.len) {
            return true;
        }
        // SAFETY: both are NUL-terminated: the caller's by the contract of environ(7), ours by Page::new.
        self.entries().any(|own| unsafe { libc::strcmp(own, entry) } == 0)
    }
}

/// Makes `page` the one of this process; `false` when there is one already.
pub fn install(page: Page) -> bool {
    PAGE.set(page).is_ok()
}

/// Calls `call` with `environment` without the secrets. `failed` with errno ENOMEM when there is no memory for that.
///
/// # Safety
/// `environment` is null or a null-terminated array of NUL-terminated strings.
pub unsafe fn without_secrets<R>(
    environment: *const *const c_char,
    failed: R,
    call: impl FnOnce(*const *const c_char) -> R,
) -> R {
    let Some(page) = PAGE.get().filter(|_| !environment.is_null()) else {
        return call(environment);
    };
    let (mut all, mut secret) = (0, 0);
    // SAFETY: the array is null-terminated, so every index up to the null is readable.
    while let Some(entry) = unsafe { environment.add(all).read().as_ref() } {
        all += 1;
        secret += usize::from(page.holds(entry));
    }
    if secret == 0 {
        return call(environment);
    }
    let copy = |target: *mut *const c_char| {
        let mut kept = 0;
        for index in 0..all {
            // SAFETY: index < all, the length found above.
            let entry = unsafe { environment.add(index).read() };
            if !page.holds(entry) && kept < all - secret {
                // SAFETY: target has room for all - secret entries and the null.
                unsafe { target.add(kept).write(entry) };
                kept += 1;
            }
        }
        // SAFETY: as above.
        unsafe { target.add(kept).write(std::ptr::null()) };
    };
    let room = all - secret + 1;
    if room <= ON_STACK {
        let mut place = [std::ptr::null::<c_char>(); ON_STACK];
        copy(place.as_mut_ptr());
        return call(place.as_ptr());
    }
    // SAFETY: malloc with a size that cannot overflow: the array it is derived from exists.
    let place: *mut *const c_char = unsafe { libc::malloc(room * size_of::<*const c_char>()) }.cast();
    if place.is_null() {
        return failed;
    }
    copy(place);
    let result = call(place);
    // SAFETY: place came from malloc, and call does not keep it (exec has failed, or spawn has copied).
    unsafe { libc::free(place.cast()) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: &[u8]) -> Option<Page> {
        Page::new(Box::leak(bytes.to_vec().into_boxed_slice()))
    }

    #[test]
    fn only_named_and_ended_entries_make_a_page() {
        for bad in [&b""[..], b"\0", b"A=b", b"=b\0", b"A\0", b"A=b\0\0"] {
            assert!(page(bad).is_none(), "{bad:?}");
        }
        assert_eq!(page(b"A=b\0C=\0").expect("valid").entries().count(), 2);
    }

    #[test]
    fn entries_of_the_page_and_their_copies_are_held_back() {
        let page = page(b"A=b\0").expect("valid");
        let inside = page.entries().next().expect("one");
        assert!(page.holds(inside));
        assert!(page.holds(c"A=b".as_ptr()));
        assert!(!page.holds(c"A=c".as_ptr()));
        assert!(install(page));
        let all = [c"P=q".as_ptr(), inside.cast_const(), c"A=b".as_ptr(), std::ptr::null()];
        // SAFETY: a null-terminated array of C strings.
        let seen = unsafe {
            without_secrets(all.as_ptr(), 0, |e| {
                assert_eq!(libc::strcmp(e.read(), c"P=q".as_ptr()), 0);
                usize::from(e.add(1).read().is_null())
            })
        };
        assert_eq!(seen, 1);
    }
}

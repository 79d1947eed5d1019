//! The constructor: maps the page, closes its descriptor, removes our traces from the environment and points it into
//! the page.
//!
//! Runs once, before `main`, with one thread. Fails closed: the process ends with one line and EX_OSERR.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{FromRawFd, OwnedFd};

use rempart_secretmem::Area;

use crate::page::{Page, install};

const AREA: &[u8] = b"REMPART_AREA=";
const PRELOAD: &[u8] = b"LD_PRELOAD=";
const OURSELVES: &[u8] = b"/librempart_preload.so";
/// EX_OSERR of sysexits.h.
const FAILED: c_int = 71;

unsafe extern "C" {
    pub(crate) static mut environ: *mut *mut c_char;
}

// SAFETY: the dynamic loader calls what this section points to once, after relocation (System V ABI, gABI 5).
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = start;

extern "C" fn start() {
    if let Err(why) = take_over() {
        let line = format!("rempart: service ended before its start: {why}\n");
        // SAFETY: the pointer and length are those of one string; _exit ends the process without running anything.
        unsafe {
            libc::write(2, line.as_ptr().cast(), line.len());
            libc::_exit(FAILED);
        }
    }
}

fn take_over() -> Result<(), String> {
    // SAFETY: one thread so far; environ is null or a null-terminated array of C strings (environ(7)).
    let own: Vec<*mut c_char> = unsafe { entries(environ) };
    // SAFETY: each entry is a C string that lives as long as the process.
    let text = |entry: *mut c_char| unsafe { CStr::from_ptr(entry) }.to_bytes();
    let Some(area) = own.iter().find_map(|e| text(*e).strip_prefix(AREA)) else {
        // Loaded by hand or inherited: nothing to serve.
        return Ok(());
    };
    let page = map(area)?;
    // exec had reset it; without it, a debugger of the same user may attach.
    // SAFETY: prctl with integers only.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err("PR_SET_DUMPABLE was refused".into());
    }
    let mut new: Vec<*mut c_char> = Vec::with_capacity(own.len() + 8);
    for entry in own {
        if let Some(list) = text(entry).strip_prefix(PRELOAD) {
            new.extend(others(list)?);
        } else if !text(entry).starts_with(AREA) {
            new.push(entry);
        }
    }
    new.extend(page.entries());
    new.push(std::ptr::null_mut());
    if !install(page) {
        return Err("it was loaded twice".into());
    }
    // SAFETY: one thread so far; the array is null-terminated and never freed. glibc's setenv copies such an array
    // before it changes it.
    unsafe { environ = new.leak().as_mut_ptr() };
    crate::exec::prepare();
    Ok(())
}

/// `FD:LEN` to the mapped page; the descriptor is closed.
fn map(word: &[u8]) -> Result<Page, String> {
    let damaged = || "REMPART_AREA is damaged".to_owned();
    let (number, len) = str::from_utf8(word)
        .ok()
        .and_then(|w| w.split_once(':'))
        .ok_or_else(damaged)?;
    let number: c_int = number.parse().ok().filter(|n| *n > 2).ok_or_else(damaged)?;
    let len: usize = len.parse().map_err(|_| damaged())?;
    // SAFETY: rempart-wrap opened this number for us alone and nothing has run in between; Area::map refuses whatever
    // is not memfd_secret.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let area = Area::map(descriptor, len).map_err(|e| e.to_string())?;
    Page::new(area.into_static()).ok_or_else(|| "the secret area is damaged".into())
}

/// LD_PRELOAD without us; `None` when nothing is left of it.
fn others(list: &[u8]) -> Result<Option<*mut c_char>, String> {
    let rest: Vec<&[u8]> = list
        .split(|b| matches!(b, b':' | b' '))
        .filter(|l| !l.is_empty() && !l.ends_with(OURSELVES))
        .collect();
    if rest.is_empty() {
        return Ok(None);
    }
    let entry = [PRELOAD, &rest.join(&b':')].concat();
    CString::new(entry)
        .map(|e| Some(e.into_raw()))
        .map_err(|_| "LD_PRELOAD is damaged".into())
}

/// # Safety
/// `array` is null or null-terminated.
unsafe fn entries(array: *mut *mut c_char) -> Vec<*mut c_char> {
    let mut found = Vec::new();
    if !array.is_null() {
        // SAFETY: every index up to the null is readable.
        while let Some(entry) = unsafe { array.add(found.len()).read().as_mut() } {
            found.push(std::ptr::from_mut(entry));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_entry_leaves_the_preload_list() {
        let left = |list: &[u8]| {
            let entry = others(list).expect("no NUL")?;
            // SAFETY: others made it from a CString.
            Some(unsafe { CString::from_raw(entry) }.into_bytes())
        };
        assert_eq!(left(b"/usr/lib/rempart/librempart_preload.so"), None);
        assert_eq!(
            left(b"/usr/lib/rempart/librempart_preload.so:/a.so /b.so"),
            Some(b"LD_PRELOAD=/a.so:/b.so".to_vec())
        );
    }

    #[test]
    fn a_damaged_announcement_is_refused() {
        for word in [&b""[..], b"x:1", b"1:5", b"9", b"9:x", b"-1:5"] {
            assert!(map(word).is_err(), "{word:?}");
        }
    }
}

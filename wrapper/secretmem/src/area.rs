//! One memfd_secret region: built by one process, passed as a descriptor, mapped by another, wiped by the last.
//!
//! Must never fall back to ordinary memory, and must never accept a descriptor that is not a memfd_secret one.
//! Seals (`F_ADD_SEALS`) do not exist on these descriptors; the size is fixed by the first `ftruncate` instead
//! (the kernel refuses a second one). Follows memfd_secret(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, compiler_fence};

/// Largest area in bytes. A unit's secrets are keys and passwords; RLIMIT_MEMLOCK is 8 MiB by default anyway.
pub const MAX_AREA_LEN: usize = 4 << 20;

/// `f_type` of a memfd_secret descriptor (linux/magic.h, SECRETMEM_MAGIC).
const SECRETMEM_MAGIC: u64 = 0x5345_434d;

/// Why there is no secret memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel has no memfd_secret, or it is switched off.
    #[error(
        "the kernel refuses memfd_secret: it needs Linux 5.14 or later, and before 6.5 the kernel argument secretmem.enable=1"
    )]
    Unavailable,
    /// RLIMIT_MEMLOCK does not suffice: secret memory counts as locked.
    #[error(
        "the kernel refuses {0} bytes of secret memory: RLIMIT_MEMLOCK is too small, raise LimitMEMLOCK= of the unit"
    )]
    LockLimit(usize),
    /// The caller asked for nothing, or for more than [`MAX_AREA_LEN`].
    #[error("an area of {0} bytes is outside 1..={MAX_AREA_LEN}")]
    Length(usize),
    /// The peer passed a descriptor of something else.
    #[error("the descriptor received is not a memfd_secret descriptor (file system magic {0:#x})")]
    NotSecret(u64),
    /// The peer announced more bytes than the descriptor holds.
    #[error("the area received holds {held} bytes, {announced} were announced")]
    Short {
        /// Size of the descriptor's file.
        held: u64,
        /// Length that the peer announced.
        announced: usize,
    },
    /// Another system call failed.
    #[error("{call} on secret memory failed: {why}")]
    System {
        /// Name of the call.
        call: &'static str,
        /// What the kernel said: part of the line, which is all that an operator sees.
        why: io::Error,
    },
}

/// A mapped memfd_secret region. Wiped and unmapped on drop; never in a core dump.
pub struct Area {
    start: NonNull<u8>,
    len: usize,
    descriptor: Option<OwnedFd>,
}

// SAFETY: the region is plain bytes owned by this value alone, with no thread affinity; `&Area` gives only reads.
unsafe impl Send for Area {}
// SAFETY: as above: shared access is read-only.
unsafe impl Sync for Area {}

impl std::fmt::Debug for Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Area({} secret bytes)", self.len)
    }
}

impl Area {
    /// A new region of `len` bytes, zeroed, absent from core dumps and not inherited over fork.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when memfd_secret is off, [`Error::LockLimit`] when RLIMIT_MEMLOCK is too small.
    pub fn create(len: usize) -> Result<Self, Error> {
        if len == 0 || len > MAX_AREA_LEN {
            return Err(Error::Length(len));
        }
        let descriptor = memfd_secret()?;
        nix::unistd::ftruncate(&descriptor, len as libc::off_t).map_err(|e| system("ftruncate", e.into()))?;
        let area = Self::map_descriptor(descriptor, len)?;
        // The builder (agent, wrapper) never forks on purpose; a child born by accident must not see the secrets.
        area.advise(libc::MADV_DONTFORK)?;
        Ok(area)
    }

    /// Maps a region that another process built and sent. Stays readable in forked children (a wrapped service may
    /// fork and read its environment before exec).
    ///
    /// # Errors
    /// [`Error::NotSecret`] or [`Error::Short`] when the peer misbehaved.
    pub fn map(descriptor: OwnedFd, len: usize) -> Result<Self, Error> {
        if len == 0 || len > MAX_AREA_LEN {
            return Err(Error::Length(len));
        }
        let magic = file_system_magic(descriptor.as_fd())?;
        if magic != SECRETMEM_MAGIC {
            return Err(Error::NotSecret(magic));
        }
        let held = nix::sys::stat::fstat(&descriptor)
            .map_err(|e| system("fstat", e.into()))?
            .st_size as u64;
        // Reading a mapping past the end of its file is SIGBUS: the size is fixed once set, so one check suffices.
        if held < len as u64 {
            return Err(Error::Short { held, announced: len });
        }
        Self::map_descriptor(descriptor, len)
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: start..start+len is mapped readable for the life of self, and file-backed to that length.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes, to build the content in place.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in as_slice, mapped writable, and &mut self excludes other views of this mapping.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Length in bytes; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Unmaps **without** wiping and gives the descriptor, which now alone keeps the content: to pass it by
    /// SCM_RIGHTS, or to keep it open over exec. It is close-on-exec.
    #[must_use]
    pub fn into_descriptor(mut self) -> OwnedFd {
        let descriptor = self
            .descriptor
            .take()
            .expect("only into_descriptor and into_static take it, and both consume");
        self.unmap();
        std::mem::forget(self);
        descriptor
    }

    /// Closes the descriptor and keeps the mapping until the process ends: with the descriptor gone nobody can steal
    /// it (pidfd_getfd). The content is not wiped by us; the kernel clears the pages when the last mapping goes.
    #[must_use]
    pub fn into_static(mut self) -> &'static mut [u8] {
        drop(self.descriptor.take());
        let (start, len) = (self.start, self.len);
        std::mem::forget(self);
        // SAFETY: forgetting self leaves the mapping in place for ever and gives up the only other handle to it.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    fn map_descriptor(descriptor: OwnedFd, len: usize) -> Result<Self, Error> {
        // SAFETY: a null hint lets the kernel choose a free range, so no existing memory is touched; MAP_SHARED is
        // the only kind that memfd_secret allows (mmap(2), memfd_secret(2)).
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            let why = io::Error::last_os_error();
            return Err(match why.raw_os_error() {
                Some(libc::EAGAIN) => Error::LockLimit(len),
                _ => system("mmap", why),
            });
        }
        let start = NonNull::new(at.cast::<u8>()).ok_or_else(|| system("mmap", io::ErrorKind::InvalidData.into()))?;
        let area = Self {
            start,
            len,
            descriptor: Some(descriptor),
        };
        area.advise(libc::MADV_DONTDUMP)?;
        Ok(area)
    }

    fn advise(&self, advice: libc::c_int) -> Result<(), Error> {
        // SAFETY: the range is our own mapping; DONTDUMP and DONTFORK change no content (madvise(2)).
        match unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, advice) } {
            0 => Ok(()),
            _ => Err(system("madvise", io::Error::last_os_error())),
        }
    }

    fn unmap(&mut self) {
        // SAFETY: the range is our own mapping, and every caller gives up self right after.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        wipe(self.as_mut_slice());
        self.unmap();
    }
}

/// Zeroes in a way that the compiler may not remove.
fn wipe(bytes: &mut [u8]) {
    for byte in bytes.iter_mut() {
        // SAFETY: a reference is valid and aligned for a write; volatile keeps the store although nobody reads it.
        unsafe { std::ptr::write_volatile(byte, 0) };
    }
    compiler_fence(Ordering::SeqCst);
}

pub(crate) fn memfd_secret() -> Result<OwnedFd, Error> {
    // SAFETY: memfd_secret takes one integer of flags and touches no memory of ours; libc has no wrapper for it.
    let raw = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    if raw < 0 {
        let why = io::Error::last_os_error();
        return Err(match why.raw_os_error() {
            Some(libc::ENOSYS) => Error::Unavailable,
            _ => system("memfd_secret", why),
        });
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it; descriptors fit an i32.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// Straight from fstatfs(2): nix 0.30 hides `f_type` behind a type of the C library's choice.
fn file_system_magic(descriptor: BorrowedFd<'_>) -> Result<u64, Error> {
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the pointer is valid for one statfs structure, which the kernel fills on success.
    match unsafe { libc::fstatfs(descriptor.as_raw_fd(), answer.as_mut_ptr()) } {
        // SAFETY: fstatfs returned 0, so the structure is filled.
        0 => Ok(unsafe { answer.assume_init() }.f_type as u64),
        _ => Err(system("fstatfs", io::Error::last_os_error())),
    }
}

fn system(call: &'static str, why: io::Error) -> Error {
    Error::System { call, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_survives_the_way_through_the_descriptor() {
        let mut area = Area::create(5000).expect("memfd_secret");
        area.as_mut_slice()[4990..4995].copy_from_slice(b"hello");
        let received = Area::map(area.into_descriptor(), 5000).expect("map");
        assert_eq!(&received.as_slice()[4990..4995], b"hello");
    }

    #[test]
    fn dropping_wipes_what_others_still_map() {
        let mut area = Area::create(64).expect("memfd_secret");
        area.as_mut_slice().fill(7);
        let fd = area.into_descriptor();
        let other = Area::map(fd.try_clone().expect("dup"), 64).expect("map");
        drop(Area::map(fd, 64).expect("map"));
        assert!(other.as_slice().iter().all(|b| *b == 0));
    }

    #[test]
    fn ordinary_memory_is_refused() {
        let plain = nix::sys::memfd::memfd_create(c"plain", nix::sys::memfd::MFdFlags::empty()).expect("memfd");
        nix::unistd::ftruncate(&plain, 64).expect("ftruncate");
        assert!(matches!(Area::map(plain, 64), Err(Error::NotSecret(_))));
    }

    #[test]
    fn a_length_beyond_the_file_is_refused() {
        let fd = Area::create(64).expect("memfd_secret").into_descriptor();
        assert!(matches!(
            Area::map(fd, 65),
            Err(Error::Short {
                held: 64,
                announced: 65
            })
        ));
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert!(matches!(Area::create(0), Err(Error::Length(0))));
        assert!(matches!(Area::create(MAX_AREA_LEN + 1), Err(Error::Length(_))));
    }

    #[test]
    fn the_kernel_does_not_read_it_for_others() {
        let mut area = Area::create(64).expect("memfd_secret");
        area.as_mut_slice()[..6].copy_from_slice(b"hidden");
        let address = area.as_slice().as_ptr() as u64;
        let memory = std::fs::File::open("/proc/self/mem").expect("own memory");
        let mut copy = [0u8; 6];
        assert!(std::os::unix::fs::FileExt::read_exact_at(&memory, &mut copy, address).is_err());
    }
}

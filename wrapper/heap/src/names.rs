//! The C library's names for the heap. Each is what malloc(3), posix_memalign(3) and malloc_usable_size(3) say of it.
//!
//! The dynamic loader itself allocates by them, before any constructor: nothing here may need one.

use std::ffi::{c_int, c_void};

use rempart_secretmem::c;

use crate::start::begin;

/// Exports one function; those that may be the first to allocate begin the heap.
macro_rules! export {
    ($($name:ident = $inner:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            #[doc = concat!(stringify!($name), "(3).")]
            ///
            /// # Safety
            /// As the manual says.
            // SAFETY: the only definition of this name here, with the signature that C demands.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) $(-> $result)? {
                begin();
                // SAFETY: the contract is the C function's own.
                #[allow(unused_unsafe, reason = "those that only take numbers are safe")]
                unsafe { c::$inner($($argument),*) }
            }
        )*
    };
}

export! {
    malloc = malloc(size: usize) -> *mut c_void;
    calloc = calloc(count: usize, size: usize) -> *mut c_void;
    memalign = memalign(align: usize, size: usize) -> *mut c_void;
    // C11's name for what memalign does; glibc does not demand a multiple either.
    aligned_alloc = memalign(align: usize, size: usize) -> *mut c_void;
    valloc = valloc(size: usize) -> *mut c_void;
    pvalloc = pvalloc(size: usize) -> *mut c_void;
    free = free(block: *mut c_void);
    realloc = realloc(block: *mut c_void, size: usize) -> *mut c_void;
    reallocarray = reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void;
    posix_memalign = posix_memalign(result: *mut *mut c_void, align: usize, size: usize) -> c_int;
    malloc_usable_size = malloc_usable_size(block: *mut c_void) -> usize;
}

//! One line puts a program into secret memory whole: Rust's heap, the C library's, and the stack of every thread but the
//! main one, which calls [`crate::on_secret_stack`].
//!
//! Only for programs: a library that exported `malloc` would put its users' whole process there. Such a program must never
//! fork: the child has no heap and ends with SIGSEGV. `std::process::Command` without `pre_exec` does not (it uses
//! posix_spawn, whose child shares the memory until exec).

/// Puts the program into secret memory. To be written once, at the root of a program's crate.
#[macro_export]
macro_rules! whole_process {
    () => {
        #[global_allocator]
        static HEAP: $crate::Heap = $crate::Heap;

        $crate::whole_process!(@export {
            malloc(size: usize) -> *mut ::std::ffi::c_void;
            calloc(count: usize, size: usize) -> *mut ::std::ffi::c_void;
            memalign(align: usize, size: usize) -> *mut ::std::ffi::c_void;
            valloc(size: usize) -> *mut ::std::ffi::c_void;
            pvalloc(size: usize) -> *mut ::std::ffi::c_void;
            free(block: *mut ::std::ffi::c_void) -> ();
            realloc(block: *mut ::std::ffi::c_void, size: usize) -> *mut ::std::ffi::c_void;
            reallocarray(block: *mut ::std::ffi::c_void, count: usize, size: usize) -> *mut ::std::ffi::c_void;
            posix_memalign(result: *mut *mut ::std::ffi::c_void, align: usize, size: usize) -> ::std::ffi::c_int;
            malloc_usable_size(block: *mut ::std::ffi::c_void) -> usize;
            pthread_create(
                thread: *mut $crate::c::Thread,
                attributes: *const $crate::c::Attributes,
                body: extern "C" fn(*mut ::std::ffi::c_void) -> *mut ::std::ffi::c_void,
                argument: *mut ::std::ffi::c_void
            ) -> ::std::ffi::c_int;
        });

        // C11's name for what memalign does; glibc does not demand a multiple either.
        // SAFETY: the only definition of this name in the program, with the signature that C demands.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut ::std::ffi::c_void {
            $crate::c::memalign(align, size)
        }
    };
    (@export { $($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)* }) => {
        $(
            // SAFETY: the only definition of this name in the program, with the signature that C demands.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> $result {
                // SAFETY: the contract is the C function's own.
                #[allow(unused_unsafe)]
                unsafe { $crate::c::$name($($argument),*) }
            }
        )*
    };
}

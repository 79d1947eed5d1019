//! execl(3), execlp(3), execle(3): the C library's own ones call execve inside, past our interposer.
//!
//! Rust cannot define a function with variable arguments, so a few instructions lay the register arguments in front
//! of those on the stack: together they are the argument array (System V ABI for x86-64, section 3.2.3).

use std::arch::naked_asm;
use std::ffi::{c_char, c_int};

use crate::exec::{execv, execve, execvp};

/// Calls `$handler(path, array)` where the array starts with the second argument.
macro_rules! spread {
    ($(#[$doc:meta])* $name:ident, $handler:path) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As exec(3): the list ends in a null pointer.
        // SAFETY: entry has rsp = 8 modulo 16. Popping the return address and pushing five registers makes the array
        // contiguous with the stack arguments; pushing the return address again aligns rsp to 16 for the call. The
        // handler keeps no pointer into the array; afterwards the stack is as found, and the same address returned to.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() {
            naked_asm!(
                "pop rax",
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rsi, rsp",
                "push rax",
                "call {handler}",
                "pop rcx",
                "add rsp, 40",
                "push rcx",
                "ret",
                handler = sym $handler,
            )
        }
    };
}

spread!(
    /// execl(3).
    execl,
    execv
);
spread!(
    /// execlp(3).
    execlp,
    execvp
);
spread!(
    /// execle(3).
    execle,
    with_environment
);

/// The environment stands behind the null that ends the arguments.
unsafe extern "C" fn with_environment(path: *const c_char, arguments: *const *const c_char) -> c_int {
    let mut end = 0;
    // SAFETY: execle(3) promises a null and, behind it, the environment.
    unsafe {
        while !arguments.add(end).read().is_null() {
            end += 1;
        }
        execve(path, arguments, arguments.add(end + 1).read().cast())
    }
}

//! librempart_preload.so: loaded into a wrapped service, it lets `getenv` and `environ` answer from secret memory, and
//! keeps the secrets out of the programs that the service starts.
//!
//! Must never print a secret, and must never let a service run without its secrets: when something fails here, the
//! process ends with one line. Known limits: programs that do not start children through the C library (Java's
//! jspawnhelper, raw system calls), and `wordexp` with command substitution.

/// The functions of exec(3) that take an array.
mod exec;
/// The secret page: `NAME=VALUE\0` one after the other.
mod page;
/// posix_spawn(3), system(3), popen(3).
mod spawn;
/// The constructor.
mod start;
/// execl(3) and its relatives with variable arguments.
mod variadic;

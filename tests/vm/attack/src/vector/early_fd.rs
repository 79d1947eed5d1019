//! mem and environ, opened before the victim is protected, read afterwards (once the file of --after is
//! there; says `ready` on standard error when it has them open).

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::{
    fs::File,
    io::Read,
    os::unix::fs::FileExt,
};

pub(super) const VECTOR: Vector = Vector {
    name: "EARLY_FD",
    title: "mem and environ, opened before the victim is protected, read afterwards (once the file of --after is there; says `ready` on standard error when it has them open)",
    source: "proc_pid_mem(5)",
    hook: "file_permission, file_ioctl",
    scope: Scope::Process,
    recorded_as: "EARLY_FD",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let addr = target.address().step("find an address")?;
    let mem = File::open(format!("/proc/{}/mem", target.pid)).step("open mem early")?;
    let mut environ = File::open(format!("/proc/{}/environ", target.pid)).step("open environ early")?;
    target.wait()?;
    let mut bytes = [0u8; 16];
    let of_environ = environ.read(&mut bytes);
    let of_mem = mem.read_at(&mut bytes, addr);
    match (of_mem, of_environ) {
        (Ok(mem), Ok(environ)) => Ok(format!("{mem} bytes of mem, {environ} of environ")),
        (Ok(mem), Err(_)) => Ok(format!("{mem} bytes of mem")),
        (Err(_), Ok(environ)) => Ok(format!("{environ} bytes of environ")),
        (mem @ Err(_), Err(_)) => mem.step("read mem and environ").map(|_| String::new()),
    }
}

//! ioperm(2) of one harmless port (0x80, the delay port): with it a device can be told to write memory.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "PORT",
    title: "ioperm(2): ports of devices that write memory",
    source: "ioperm(2)",
    hook: "locked_down",
    scope: Scope::Machine,
    recorded_as: "PORT",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    sys::call(libc::SYS_ioperm, [0x80, 1, 1, 0, 0, 0]).step("ioperm")?;
    sys::call(libc::SYS_ioperm, [0x80, 1, 0, 0, 0, 0]).step("ioperm")?;
    Ok("port 0x80 was ours".into())
}

//! iopl(2): all ports at once.

use super::{Scope, Vector};
use crate::{
    attempt::{Attempt, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "IOPL",
    title: "iopl(2): all ports at once",
    source: "iopl(2)",
    hook: "locked_down",
    scope: Scope::Machine,
    recorded_as: "PORT",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    sys::call(libc::SYS_iopl, [3, 0, 0, 0, 0, 0]).step("iopl")?;
    sys::call(libc::SYS_iopl, [0; 6]).step("iopl")?;
    Ok("level 3".into())
}

//! init_module(2): the same module from memory.

use super::{module_load, Scope, Vector};
use crate::{
    attempt::{Attempt, Failure, Step},
    sys,
    target::Target,
};

pub(super) const VECTOR: Vector = Vector {
    name: "INIT_MODULE",
    title: "init_module(2): the same module from memory",
    source: "init_module(2)",
    hook: "kernel_load_data",
    scope: Scope::Machine,
    recorded_as: "MODULE_LOAD",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(target: &Target) -> Attempt {
    let path = module_load::path(target)?;
    if !path.ends_with(".ko") {
        return Err(Failure::other("init_module wants an uncompressed module; name one with --module"));
    }
    let image = std::fs::read(&path).step("read the module")?;
    let args = [image.as_ptr() as u64, image.len() as u64, c"".as_ptr() as u64, 0, 0, 0];
    sys::call(libc::SYS_init_module, args).step("init_module")?;
    module_load::unload(&path)?;
    Ok(format!("{path} loaded and removed"))
}

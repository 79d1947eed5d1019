//! From systemd's exec to the service's exec, one step a line.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

use rempart_api::agent::Deliver;
use rempart_secretmem::{Ordinary, restore_lock_limit, settle};

use crate::args::{self, Command};
use crate::deliver::{self, Delivered};
use crate::error::Error;
use crate::{arm, ask, heap, program};

/// Becomes the service, or says why not.
///
/// # Errors
/// Whatever keeps the service from starting.
pub fn run() -> Result<Infallible, Error> {
    settle(Ordinary::Refuse)?;
    let mut command = args::parse(std::env::args_os().skip(1))?;
    let own: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    arm::arm()?;
    let released = ask::ask()?;
    let getenv = released.items.iter().any(|item| item.deliver == Deliver::Getenv);
    if getenv || released.heap.is_some() {
        let search = own.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
        command = program::for_preload(command, search).map_err(|unfit| Error::unfit(unfit, getenv))?;
    }
    let Delivered {
        mut environment,
        writable,
    } = deliver::deliver(&released, own)?;
    if let Some(keeper) = &released.keeper {
        ask::keep(keeper, writable)?;
    }
    if let Some(heap) = released.heap {
        heap::prepare(heap, &mut environment)?;
    }
    drop(released);
    become_service(command, environment)
}

fn become_service(command: Command, environment: BTreeMap<OsString, OsString>) -> Result<Infallible, Error> {
    let path = c_string(command.program.clone().into_os_string())?;
    let arguments = command
        .arguments
        .into_iter()
        .map(c_string)
        .collect::<Result<Vec<_>, _>>()?;
    let join = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        c_string(name)
    };
    let environment = environment.into_iter().map(join).collect::<Result<Vec<_>, _>>()?;
    restore_lock_limit();
    // Not std's exec: that one also resets SIGPIPE and the signal mask, which are the unit's to set.
    nix::unistd::execve(&path, &arguments, &environment).map_err(|why| Error::Exec {
        program: command.program,
        why,
    })
}

fn c_string(text: OsString) -> Result<CString, Error> {
    CString::new(text.into_vec()).map_err(|_| Error::Usage("a NUL byte in an argument"))
}

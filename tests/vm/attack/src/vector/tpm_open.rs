//! The TPM's device, by a node that we make ourselves: who can use it can have a quote signed, as the agent does.

use super::{Scope, Vector, common};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs::File;

pub(super) const VECTOR: Vector = Vector {
    name: "TPM_OPEN",
    title: "The TPM's device, by a node that we make ourselves: who can use it can have a quote signed, as the agent does",
    source: "tpm(4)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "TPM_OPEN",
    stopped: true,
    note: "the agent, and programs of systemd that measure, may",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let opened = common::open_device(10, 224, File::options().read(true).write(true))?;
    match opened {
        Ok(_) => Ok("opened".into()),
        // The driver's own answers, which come after the hook: there is none, or somebody uses it.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV | libc::EBUSY)) => {
            Ok(format!("let through to the driver: {error}"))
        }
        Err(error) => Err(error).step("open the TPM"),
    }
}

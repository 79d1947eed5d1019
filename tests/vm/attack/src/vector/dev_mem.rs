//! The memory device, by a node that we make ourselves: names do not count.

use super::{Scope, Vector, common};
use crate::{
    attempt::{Attempt, Step},
    target::Target,
};
use std::fs;

pub(super) const VECTOR: Vector = Vector {
    name: "DEV_MEM",
    title: "The memory device, by a node that we make ourselves: names do not count",
    source: "mem(4)",
    hook: "file_open",
    scope: Scope::Machine,
    recorded_as: "DEV_MEM",
    stopped: true,
    note: "",
    attempt,
};

fn attempt(_target: &Target) -> Attempt {
    let opened = common::open_device(1, 1, fs::File::options().read(true))?.step("open the memory device");
    opened.map(|_| "opened".into())
}

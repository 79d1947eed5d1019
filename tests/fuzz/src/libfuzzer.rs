//! libFuzzer around one target, chosen by the environment because the arguments are libFuzzer's own. `rempart-fuzz` starts it.
#![no_main]

use std::sync::OnceLock;

use rempart_fuzz::{Target, meter::Meter, named};

#[global_allocator]
static METER: Meter = Meter;

/// Name of the variable with the target's name.
const VARIABLE: &str = "REMPART_FUZZ_TARGET";

static CHOSEN: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    CHOSEN.get_or_init(|| {
        let name = std::env::var(VARIABLE).unwrap_or_default();
        named(&name).unwrap_or_else(|| panic!("{VARIABLE}={name} names no target"))
    })
}

libfuzzer_sys::fuzz_target!(init: { chosen(); }, |data: &[u8]| -> () { chosen().check(data); });

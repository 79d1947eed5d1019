//! The promises, one file each. To add one: a file with `pub fn play(stage: &mut Stage, report: &mut Report)
//! -> anyhow::Result<()>` and a line in one of the groups below: `on_the_node` (it uses the running node, in this order) or
//! `own_boot` (it boots a machine of its own).
//!
//! A promise that breaks reports a broken row: the run goes on, and fails.

use crate::{
    report::Report,
    stage::{Boot, Stage},
};

mod attack;
mod break_glass;
mod clock;
mod drift;
mod early_start;
mod embedded_store;
mod foreign_policy;
mod guest_memory;
mod host;
mod impostor;
mod leak;
mod old_policy;
mod prediction;
mod release;
mod same_name;
mod secure_boot;
mod stand_in;
mod vault_away;
mod verifier_away;
mod wrong_image;
mod wrong_role;

/// Plays one promise.
pub type Play = fn(&mut Stage, &mut Report) -> anyhow::Result<()>;

/// Promises that are played together.
pub struct Group {
    /// How the node is powered on.
    pub boot: fn(&Stage) -> anyhow::Result<Boot>,
    /// Played on one node, in this order: later ones lock it and unlock it again. The first is always played.
    pub on_the_node: &'static [(&'static str, Play)],
    /// Each boots its own machine.
    pub own_boot: &'static [(&'static str, Play)],
    /// More of these, which take longer than they tell.
    pub long: &'static [(&'static str, Play)],
}

/// A node's life, its servers' failures, and the attack table.
pub const VM: Group = Group {
    boot: |_| Ok(Boot::default()),
    on_the_node: &[
        ("release", release::play),
        ("early_start", early_start::play),
        ("attack", attack::play),
        ("impostor", impostor::play),
        ("stand_in", stand_in::play),
        ("break_glass", break_glass::play),
        ("wrong_role", wrong_role::play),
        ("vault_away", vault_away::play),
        ("clock", clock::play),
        ("verifier_away", verifier_away::play),
        ("old_policy", old_policy::play),
        ("foreign_policy", foreign_policy::play),
        ("embedded_store", embedded_store::play),
        // It ends the guard's enforcement for this boot. What the last one searches for is given to the guest in clear.
        ("guest_memory", guest_memory::play),
        ("leak", leak::play),
    ],
    own_boot: &[
        ("changed_command_line", wrong_image::play_command_line),
        ("changed_root", wrong_image::play_root),
        ("same_name", same_name::play),
    ],
    long: &[],
};

/// What a host hands to a machine, and what attestation makes of it.
pub const ATTEST: Group = Group {
    boot: host::given::everything,
    on_the_node: &[
        ("host_ignored", host::ignored::play),
        ("prediction", prediction::play),
        ("predict_demands", host::control::play_predict),
        ("drift", drift::play),
    ],
    own_boot: &[
        ("host_control", host::control::play),
        ("host_arguments", host::arguments::play),
        ("host_boot_partition", host::boot_partition::play),
        ("host_boot_entry", host::boot_entry::play),
        ("host_firmware_code", host::firmware_code::play),
        ("host_acpi_table", host::acpi_table::play),
        ("secure_boot_unsigned", secure_boot::play_unsigned),
    ],
    long: &[
        ("host_withheld_root", host::withheld_root::play),
        ("host_boot_loader", host::boot_loader::play),
        ("host_clock", host::clock::play_future),
        ("secure_boot_signed", secure_boot::play_signed),
        ("host_clock_past", host::clock::play_past),
        ("host_direct_kernel", host::direct_kernel::play),
    ],
};

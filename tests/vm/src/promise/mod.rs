//! The promises, one file each. To add one: a file with `pub fn play(stage: &mut Stage, report: &mut Report)
//! -> anyhow::Result<()>` and a line in [`ON_THE_NODE`] (it uses the running node, in this order) or in
//! [`OWN_BOOT`] (it boots a machine of its own).
//!
//! A promise that breaks reports a broken row: the run goes on, and fails.

use crate::{report::Report, stage::Stage};

mod attack;
mod embedded_store;
mod foreign_policy;
mod host_argument;
mod host_credential;
mod impostor;
mod leak;
mod old_policy;
mod release;
mod same_name;
mod vault_away;
mod verifier_away;
mod wrong_image;
mod wrong_role;

/// Plays one promise.
pub type Play = fn(&mut Stage, &mut Report) -> anyhow::Result<()>;

/// Played on one node, in this order: later ones lock it and unlock it again.
pub const ON_THE_NODE: &[(&str, Play)] = &[
    ("release", release::play),
    ("attack", attack::play),
    ("impostor", impostor::play),
    ("wrong_role", wrong_role::play),
    ("vault_away", vault_away::play),
    ("verifier_away", verifier_away::play),
    ("old_policy", old_policy::play),
    ("foreign_policy", foreign_policy::play),
    ("embedded_store", embedded_store::play),
    ("leak", leak::play),
];

/// Each boots its own machine.
pub const OWN_BOOT: &[(&str, Play)] = &[
    ("changed_command_line", wrong_image::play_command_line),
    ("host_argument", host_argument::play),
    ("host_credential", host_credential::play_ignored),
    ("host_credential_switched_on", host_credential::play_switched_on),
    ("changed_root", wrong_image::play_root),
    ("same_name", same_name::play),
];

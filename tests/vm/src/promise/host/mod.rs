//! What the owner of the hardware hands to the machine (docs/host-configuration.md): each way has no effect, or the node is refused
//! by the register that shows it. Ways that have no effect share one boot; of those that are refused, one boot has only ways whose
//! registers are extended by each alone, so that none can hide behind another.

pub mod acpi_table;
pub mod arguments;
pub mod boot_entry;
pub mod boot_loader;
pub mod boot_partition;
pub mod clock;
pub mod control;
pub mod direct_kernel;
pub mod firmware_code;
pub mod given;
pub mod ignored;
pub mod withheld_root;

//! What the behaviour tests stand on: a measured virtual machine, its TPM, and the real servers it talks to.
//!
//! Everything started here ends with the value that started it, also when the test process is killed. Nothing here is product code;
//! a real secret must never pass through it.

mod container;
/// Firmware variables, firmware code and boot partitions as a host can make them.
pub mod efi;
mod image;
mod logs;
mod openbao;
mod paths;
mod pki;
mod postgres;
mod process;
/// A process's memory as root reads it.
pub mod scan;
mod tpm;
mod vm;

pub use container::{Container, Root, in_own_mounts};
pub use image::{Change, Image, ImageRecipe};
pub use logs::empty_logs;
pub use openbao::OpenBao;
pub use paths::{cache_dir, program, repository, target_dir};
pub use pki::{Identity, Pki};
pub use postgres::Postgres;
pub use process::{Process, free_port, run, wait_for_port};
pub use tpm::{Tpm, TpmSocket};
pub use vm::{GuestForward, Monitor, Output, Vm, VmBuilder};

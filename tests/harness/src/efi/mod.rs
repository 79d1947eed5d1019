//! What the owner of the hardware can put before the operating system: NVRAM variables, firmware code, files on the boot partition.
//!
//! Made here byte by byte, so that a test says exactly what the host gave. Must never be linked into a product.

mod code;
mod nvram;
mod partition;
mod secure_boot;

pub use code::{driver, option_rom};
pub use nvram::{Guid, LoadOption, Nvram, utf16};
pub use partition::{BootPartition, partitioned_disk};
pub use secure_boot::SecureBootKeys;

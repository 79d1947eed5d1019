//! The variable store of an OVMF flash image (EDK II, authenticated variable format): variables appended as the firmware itself
//! would have written them. UEFI 2.10, 3.1.3 (load options) and 8.2 (variables).

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

/// EFI_FIRMWARE_VOLUME_HEADER.HeaderLength.
const VOLUME_HEADER_LENGTH: usize = 48;
/// VARIABLE_STORE_HEADER: GUID, size, format, state, reserved.
const STORE_HEADER: usize = 28;
/// AUTHENTICATED_VARIABLE_HEADER without name and data.
const VARIABLE_HEADER: usize = 60;
/// VARIABLE_DATA.
const START: [u8; 2] = [0xaa, 0x55];
/// VAR_ADDED: every state bit but these is still erased.
const ADDED: u8 = 0x3f;
/// NON_VOLATILE, BOOTSERVICE_ACCESS, RUNTIME_ACCESS.
const ATTRIBUTES: u32 = 7;
/// The same and TIME_BASED_AUTHENTICATED_WRITE_ACCESS, which Secure Boot's own variables must have.
const AUTHENTICATED: u32 = 0x27;
/// LOAD_OPTION_ACTIVE.
const ACTIVE: u32 = 1;

/// A vendor GUID as it lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// EFI_GLOBAL_VARIABLE.
    pub const GLOBAL: Self = Self([
        0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
    ]);
    /// EFI_IMAGE_SECURITY_DATABASE.
    pub const DATABASE: Self = Self([
        0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
    ]);
    /// 8cf2644b-4b0b-428f-9387-6d876050dc67: systemd's.
    pub const SYSTEMD: Self = Self([
        0x4b, 0x64, 0xf2, 0x8c, 0x0b, 0x4b, 0x8f, 0x42, 0x93, 0x87, 0x6d, 0x87, 0x60, 0x50, 0xdc, 0x67,
    ]);
    /// 4a67b082-0a4c-41cf-b6c7-440b29bb8c4f: the boot loader interface.
    pub const LOADER: Self = Self([
        0x82, 0xb0, 0x67, 0x4a, 0x4c, 0x0a, 0xcf, 0x41, 0xb6, 0xc7, 0x44, 0x0b, 0x29, 0xbb, 0x8c, 0x4f,
    ]);
    /// b1e55ed0-…-1: what [`super::driver`] writes to.
    pub const HOST: Self = Self([
        0xd0, 0x5e, 0xe5, 0xb1, 0x00, 0x00, 0x00, 0x40, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01,
    ]);
}

/// EFI_LOAD_OPTION: what Boot#### and Driver#### hold.
#[derive(Debug, Clone)]
pub struct LoadOption {
    /// Shown in the firmware's menu.
    pub description: String,
    /// Backslashes, from the root of whichever volume has it (short-form file path, UEFI 3.1.2).
    pub path: String,
    /// Optional data: the image's load options.
    pub data: Vec<u8>,
}

impl LoadOption {
    fn bytes(&self) -> Vec<u8> {
        let path = utf16(&self.path);
        let mut node = vec![4, 4];
        node.extend(u16::try_from(path.len() + 4).unwrap_or(u16::MAX).to_le_bytes());
        node.extend(path);
        node.extend([0x7f, 0xff, 4, 0]);
        let mut out = ACTIVE.to_le_bytes().to_vec();
        out.extend(u16::try_from(node.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend(utf16(&self.description));
        out.extend(node);
        out.extend_from_slice(&self.data);
        out
    }
}

/// A flash image with a variable store.
#[derive(Debug, Clone)]
pub struct Nvram {
    flash: Vec<u8>,
    end: usize,
    next: usize,
}

impl Nvram {
    /// Reads one, usually OVMF's empty store.
    pub fn open(path: &Path) -> Result<Self> {
        let flash = fs::read(path)?;
        let header = usize::from(u16::from_le_bytes(array(&flash, VOLUME_HEADER_LENGTH)?));
        let size = u32::from_le_bytes(array(&flash, header + 16)?) as usize;
        let mut next = header + STORE_HEADER;
        while flash.get(next..next + 2) == Some(&START) {
            let name = u32::from_le_bytes(array(&flash, next + 36)?) as usize;
            let data = u32::from_le_bytes(array(&flash, next + 40)?) as usize;
            next = (next + VARIABLE_HEADER + name + data).next_multiple_of(4);
        }
        Ok(Self {
            flash,
            end: header + size,
            next,
        })
    }

    /// Adds a variable that the operating system sees.
    pub fn set(&mut self, vendor: Guid, name: &str, data: &[u8]) -> Result<&mut Self> {
        self.append(vendor, name, data, ATTRIBUTES)
    }

    /// Adds a variable that only signed writes may change: PK, KEK, db, dbx.
    pub fn set_authenticated(&mut self, vendor: Guid, name: &str, data: &[u8]) -> Result<&mut Self> {
        self.append(vendor, name, data, AUTHENTICATED)
    }

    /// Adds `Boot0000` to `BootNNNN` (or `Driver…`) and their order.
    pub fn load_options(&mut self, kind: &str, options: &[LoadOption]) -> Result<&mut Self> {
        let mut order = Vec::new();
        for (number, option) in (0_u16..).zip(options) {
            self.set(Guid::GLOBAL, &format!("{kind}{number:04X}"), &option.bytes())?;
            order.extend(number.to_le_bytes());
        }
        self.set(Guid::GLOBAL, &format!("{kind}Order"), &order)
    }

    /// Writes the flash image.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(fs::write(path, &self.flash)?)
    }

    fn append(&mut self, vendor: Guid, name: &str, data: &[u8], attributes: u32) -> Result<&mut Self> {
        let name = utf16(name);
        let mut record = START.to_vec();
        record.extend([ADDED, 0]);
        record.extend(attributes.to_le_bytes());
        // Monotonic count, time stamp, index of the public key.
        record.extend([0; 8 + 16 + 4]);
        record.extend(u32::try_from(name.len())?.to_le_bytes());
        record.extend(u32::try_from(data.len())?.to_le_bytes());
        record.extend(vendor.0);
        record.extend(&name);
        record.extend(data);
        let until = self.next + record.len();
        if until > self.end {
            bail!("the variable store is full");
        }
        self.flash[self.next..until].copy_from_slice(&record);
        self.next = until.next_multiple_of(4);
        Ok(self)
    }
}

/// CHAR16 text with its final zero.
#[must_use]
pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    match bytes.get(at..at + N) {
        Some(slice) => Ok(slice.try_into()?),
        None => bail!("not a flash image with a variable store"),
    }
}

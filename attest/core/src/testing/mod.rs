//! Nodes in software, for tests, benches and fuzzing (feature `testing`; no product is built with it): an AK of each kind with a
//! certificate, a TPM that attests whatever it is told, and the logs of two real boots of one image (tests/fixtures): an ordinary
//! one, and one to which the host added a kernel argument through SMBIOS.

mod ima;
mod node;
mod tpm;

pub use ima::{Entry, Template};
pub use node::{Authority, Node};
pub use tpm::{AkKind, SoftTpm};

use crate::bytes::Fixed;
use crate::pcr::{Bank, PcrValue, Pcrs};
use crate::policy::{Image, Policy};

/// When everything in here happens, Unix seconds.
pub const NOW: u64 = 1_800_000_000;
/// The Verifier of [`Node::context`].
pub const VERIFIER: &str = "https://verifier.test";
/// TLS exporter of its connection.
pub const EXPORTER: Fixed<32> = Fixed([3; 32]);
/// Fingerprint of the EK that holds the name of [`Node::new`].
pub const EK: Fixed<32> = Fixed([0xee; 32]);

/// What one boot left behind.
pub struct Boot {
    /// The firmware's log.
    pub uefi: &'static [u8],
    /// systemd's log.
    pub userspace: &'static [u8],
    /// IMA's list; empty where it was not kept.
    pub ima: &'static [u8],
    sha256: &'static str,
    sha384: Option<&'static str>,
}

macro_rules! fixture {
    ($file:literal) => {
        concat!("../../../../tests/fixtures/", $file)
    };
}

/// A boot without disturbance.
pub const ORDINARY: Boot = Boot {
    uefi: include_bytes!(fixture!("boot/uefi.log")),
    userspace: include_bytes!(fixture!("boot/userspace.log")),
    ima: &[],
    sha256: include_str!(fixture!("boot/pcrs")),
    sha384: None,
};
/// The same with `systemd.import_credentials=yes` from the host.
pub const SMBIOS: Boot = Boot {
    uefi: include_bytes!(fixture!("boot-smbios/uefi.log")),
    userspace: include_bytes!(fixture!("boot-smbios/userspace.log")),
    ima: &[],
    sha256: include_str!(fixture!("boot-smbios/pcrs")),
    sha384: None,
};
/// An image with IMA on (template ima-sig), in both banks.
pub const IMA_SIG: Boot = Boot {
    uefi: include_bytes!(fixture!("boot-ima/uefi.log")),
    userspace: include_bytes!(fixture!("boot-ima/userspace.log")),
    ima: include_bytes!(fixture!("boot-ima/ima.log")),
    sha256: include_str!(fixture!("boot-ima/pcrs")),
    sha384: Some(include_str!(fixture!("boot-ima/pcrs-sha384"))),
};
/// The same with the template ima-ng.
pub const IMA_NG: Boot = Boot {
    uefi: include_bytes!(fixture!("boot-ima-ng/uefi.log")),
    userspace: include_bytes!(fixture!("boot-ima-ng/userspace.log")),
    ima: include_bytes!(fixture!("boot-ima-ng/ima.log")),
    sha256: include_str!(fixture!("boot-ima-ng/pcrs")),
    sha384: Some(include_str!(fixture!("boot-ima-ng/pcrs-sha384"))),
};
/// A list with the template `ima` of a boot that measured nothing else of interest, and PCR 10 after it as lines `BANK HEX`.
pub const IMA_OLD: &[u8] = include_bytes!(fixture!("ima-old/ima.log"));
const IMA_OLD_PCR: &str = include_str!(fixture!("ima-old/pcr10"));

/// PCR 10 after [`IMA_OLD`].
pub fn ima_old_register(bank: Bank) -> PcrValue {
    let value = |line: &str| {
        line.strip_prefix(bank.name())?
            .strip_prefix(' ')
            .and_then(PcrValue::from_hex)
    };
    IMA_OLD_PCR.lines().find_map(value).expect("recorded in both banks")
}

/// The image's own kernel command line.
pub const CMDLINE: &str = include_str!("../../../../tests/fixtures/boot/cmdline");

impl Boot {
    /// The registers that the TPM had in its SHA-256 bank.
    pub fn pcrs(&self) -> Pcrs {
        values(Bank::Sha256, self.sha256)
    }

    /// The registers of either bank; a boot has the second one only where it was recorded.
    pub fn pcrs_of(&self, bank: Bank) -> Pcrs {
        match bank {
            Bank::Sha256 => self.pcrs(),
            Bank::Sha384 => values(bank, self.sha384.expect("recorded in this bank")),
        }
    }
}

fn values(bank: Bank, text: &str) -> Pcrs {
    let line = |line: &str| {
        let (index, value) = line.split_once(' ').expect("INDEX HEX");
        (
            index.parse::<u8>().expect("index"),
            PcrValue::from_hex(value).expect("hex"),
        )
    };
    let values = text.lines().map(line).filter(|(index, _)| *index < 15);
    Pcrs::collect(bank, values).expect("each register once")
}

/// A policy for the image of both boots.
pub fn policy() -> Policy {
    policy_for(&ORDINARY.pcrs())
}

/// A policy for an image with these registers.
pub fn policy_for(pcrs: &Pcrs) -> Policy {
    let value = |index| vec![pcrs.value(index).expect("register")];
    let mut policy = crate::policy::sample([0; 5]);
    policy.images = vec![Image {
        cmdline: Some(CMDLINE.into()),
        pcr4: value(4),
        pcr7: value(7),
        pcr9: value(9),
        pcr11: value(11),
        pcr12: value(12),
        ..Image::new("trixie", pcrs.bank)
    }];
    policy
}

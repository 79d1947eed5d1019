//! What each judged register holds after a boot: the extends of OVMF, systemd-stub 257, Linux' EFI stub and systemd, in order.

use super::initrd;
use super::pe::Pe;
use super::uki::Uki;
use super::{PHASES, PredictError, SecureBoot};
use crate::pcr::{Bank, PcrValue, extended};

/// UKI sections in the order in which the stub measures them; .pcrsig is not measured because it signs the result.
const MEASURED: [&str; 11] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".profile",
];
/// EV_EFI_ACTION of the boot manager (PFP table 33).
const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
/// EV_SEPARATOR without an error.
const SEPARATOR: [u8; 4] = [0; 4];
/// EFI_GLOBAL_VARIABLE and EFI_IMAGE_SECURITY_DATABASE_GUID (UEFI 3.3 and 32.4), as they lie in memory.
const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];
const DATABASE: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];

fn chain(bank: Bank, digests: impl IntoIterator<Item = PcrValue>) -> PcrValue {
    digests
        .into_iter()
        .fold(bank.zero(), |old, digest| extended(&old, &digest))
}

/// The firmware starts the UKI, the stub starts the kernel in it.
pub(super) fn pcr4(uki: &Uki<'_>, bank: Bank) -> Result<PcrValue, PredictError> {
    let kernel = uki.demand(".linux")?;
    let kernel = Pe::parse(&kernel)?.authenticode(bank)?;
    Ok(chain(
        bank,
        [
            bank.hash(&[CALLING]),
            bank.hash(&[&SEPARATOR]),
            uki.pe.authenticode(bank)?,
            kernel,
        ],
    ))
}

/// OVMF built without Secure Boot: the five variables do not exist, which is measured as empty.
pub(super) fn pcr7(secure_boot: SecureBoot, bank: Bank) -> PcrValue {
    let SecureBoot::Off = secure_boot;
    let variables = [
        (GLOBAL, "SecureBoot", &[][..]),
        (GLOBAL, "PK", &[]),
        (GLOBAL, "KEK", &[]),
        (DATABASE, "db", &[]),
        (DATABASE, "dbx", &[]),
    ];
    let events = variables.map(|(guid, name, data)| bank.hash(&[&variable(guid, name, data)]));
    chain(bank, events.into_iter().chain([bank.hash(&[&SEPARATOR])]))
}

/// Linux measures its load options (UTF-16 with the final zero) and the initrd.
pub(super) fn pcr9(uki: &Uki<'_>, bank: Bank) -> Result<PcrValue, PredictError> {
    let options = load_options(&uki.command_line()?);
    let initrd = initrd::assemble(uki).map(|initrd| bank.hash(&[&initrd]));
    Ok(chain(bank, [bank.hash(&[&options])].into_iter().chain(initrd)))
}

/// The image's sections, then the phases of the boot: one value for each phase from which on a node may attest.
pub(super) fn pcr11(uki: &Uki<'_>, bank: Bank) -> Vec<PcrValue> {
    let mut value = bank.zero();
    for name in MEASURED {
        if let Some(content) = uki.content(name) {
            let measured_name = bank.hash(&[name.as_bytes(), &[0]]);
            value = extended(&extended(&value, &measured_name), &bank.hash(&[&content]));
        }
    }
    let mut accepted = Vec::new();
    for (phase, attests) in PHASES {
        value = extended(&value, &bank.hash(&[phase.as_bytes()]));
        if attests {
            accepted.push(value);
        }
    }
    accepted
}

/// UEFI_VARIABLE_DATA (PFP 10.2.6).
fn variable(guid: [u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let mut out = guid.to_vec();
    out.extend_from_slice(&(name.len() as u64).to_le_bytes());
    out.extend_from_slice(&(data.len() as u64).to_le_bytes());
    out.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    out.extend_from_slice(data);
    out
}

/// A command line as the kernel's EFI stub measures it.
pub(crate) fn load_options(command_line: &str) -> Vec<u8> {
    command_line
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

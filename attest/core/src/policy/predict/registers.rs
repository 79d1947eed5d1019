//! What each judged register holds after a boot: the extends of OVMF, systemd-stub 257, Linux' EFI stub and systemd, in order.

use super::initrd;
use super::pe::Pe;
use super::uki::Uki;
use super::{Options, PHASES, PredictError, SecureBoot};
use crate::eventlog::Event;
use crate::pcr::{Bank, PcrValue, extended};
use crate::policy::event::Part;

/// UKI sections in the order in which the stub measures them; .pcrsig is not measured because it signs the result.
pub(super) const MEASURED: [&str; 11] = [
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

/// Everything that the judged registers are extended by before the first phase of the boot, in order.
pub(super) struct Parts {
    bank: Bank,
    pub(super) events: Vec<Part>,
}

impl Parts {
    pub(super) fn new(uki: &Uki<'_>, options: &Options) -> Result<Self, PredictError> {
        let mut parts = Self {
            bank: options.bank,
            events: vec![],
        };
        parts.image_and_kernel(uki)?;
        parts.secure_boot(options.secure_boot);
        parts.handed_over(uki)?;
        parts.sections(uki);
        Ok(parts)
    }

    /// What a register holds after its events.
    pub(super) fn value(&self, pcr: u8) -> PcrValue {
        let of_pcr = self.events.iter().filter(|part| part.pcr == pcr);
        of_pcr.fold(self.bank.zero(), |old, part| extended(&old, &part.digest))
    }

    fn push(&mut self, pcr: u8, what: impl Into<String>, digest: PcrValue) {
        let what = what.into();
        self.events.push(Part { pcr, digest, what });
    }

    /// PCR 4: the firmware starts the UKI, the stub starts the kernel in it.
    fn image_and_kernel(&mut self, uki: &Uki<'_>) -> Result<(), PredictError> {
        let bank = self.bank;
        let kernel = uki.demand(".linux")?;
        let kernel = Pe::parse(&kernel)?.authenticode(bank)?;
        self.push(4, "the boot manager's call", bank.hash(&[CALLING]));
        self.push(4, "separator", bank.hash(&[&SEPARATOR]));
        self.push(4, "the unified kernel image", uki.pe.authenticode(bank)?);
        self.push(4, "the kernel in it", kernel);
        Ok(())
    }

    /// PCR 7: OVMF built without Secure Boot, where the five variables do not exist, which is measured as empty.
    fn secure_boot(&mut self, state: SecureBoot) {
        let SecureBoot::Off = state;
        for (guid, name) in [
            (GLOBAL, "SecureBoot"),
            (GLOBAL, "PK"),
            (GLOBAL, "KEK"),
            (DATABASE, "db"),
            (DATABASE, "dbx"),
        ] {
            let digest = self.bank.hash(&[&variable(guid, name, &[])]);
            self.push(7, format!("variable {name}, absent"), digest);
        }
        self.push(7, "separator", self.bank.hash(&[&SEPARATOR]));
    }

    /// PCR 9: Linux measures its load options (UTF-16 with the final zero) and the initrd.
    fn handed_over(&mut self, uki: &Uki<'_>) -> Result<(), PredictError> {
        let options = load_options(&uki.command_line()?);
        self.push(9, "the command line", self.bank.hash(&[&options]));
        if let Some(initrd) = initrd::assemble(uki) {
            self.push(9, "the initrd", self.bank.hash(&[&initrd]));
        }
        Ok(())
    }

    /// PCR 11: the stub measures each section's name and content.
    fn sections(&mut self, uki: &Uki<'_>) {
        for name in MEASURED {
            if let Some(content) = uki.content(name) {
                self.push(11, format!("name of {name}"), self.bank.hash(&[name.as_bytes(), &[0]]));
                self.push(11, format!("section {name}"), self.bank.hash(&[&content]));
            }
        }
    }
}

/// PCR 11 after the sections, then the phases of the boot: one value for each phase after which a node may attest.
pub(crate) fn after_phases(sections: PcrValue, attesting: &[String]) -> Vec<PcrValue> {
    let mut value = sections;
    let mut accepted = Vec::new();
    for phase in PHASES {
        value = extended(&value, &value.bank().hash(&[phase.as_bytes()]));
        if attesting.iter().any(|word| word == phase) {
            accepted.push(value);
        }
    }
    accepted
}

/// A register into which firmware measured nothing but the end of its own work.
pub(crate) fn separator_alone(bank: Bank) -> PcrValue {
    extended(&bank.zero(), &bank.hash(&[&SEPARATOR]))
}

#[cfg(test)]
pub(super) fn secure_boot_off(bank: Bank) -> PcrValue {
    let mut parts = Parts { bank, events: vec![] };
    parts.secure_boot(SecureBoot::Off);
    parts.value(7)
}

/// Whether firmware measured, before it let anything else run, that Secure Boot is on (PFP 3.3.4.8). Digests alone decide.
pub(crate) fn starts_with_secure_boot(bank: Bank, events: &[Event]) -> bool {
    let on = bank.hash(&[&variable(GLOBAL, "SecureBoot", &[1])]);
    let separator = bank.hash(&[&SEPARATOR]);
    events
        .iter()
        .filter(|event| event.pcr == 7)
        .take_while(|event| event.digest != separator)
        .any(|event| event.digest == on)
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

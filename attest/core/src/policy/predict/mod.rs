//! Reference values of an image before it ever boots: from the bytes of a Unified Kernel Image alone, for OVMF (EDK II) firmware,
//! systemd-stub 257 and Linux 6.1 or later. Each value was proven against the log of a real boot; what was not is refused.

mod initrd;
mod pe;
pub(crate) mod registers;
mod uki;

use self::uki::Uki;
use super::{Image, Policy, VERSION};
use crate::limits;
use crate::pcr::Bank;

pub use self::pe::PeError;

/// Without it the host can run code as root in the guest and no register shows it.
pub const REQUIRED_ARGUMENT: &str = "systemd.import_credentials=no";
/// The name under which a missing [`REQUIRED_ARGUMENT`] can be accepted.
pub const RISK_HOST_CREDENTIALS: &str = "host-credentials";

/// systemd-pcrphase words into PCR 11 in order, and whether a node may attest after them.
const PHASES: [(&str, bool); 4] = [
    ("enter-initrd", false),
    ("leave-initrd", false),
    ("sysinit", true),
    ("ready", true),
];

/// State of Secure Boot that is predicted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecureBoot {
    /// Firmware without Secure Boot (Debian's OVMF_CODE_4M.fd): its variables do not exist.
    #[default]
    Off,
}

/// What to predict.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the policy and its image.
    pub name: String,
    /// Counter of the policy.
    pub counter: u64,
    /// Bank that the nodes quote.
    pub bank: Bank,
    /// State of Secure Boot.
    pub secure_boot: SecureBoot,
    /// Risks that the operator accepts by name.
    pub accept: Vec<String>,
    /// Refuse nodes whose guard is not enforcing.
    pub require_guard: bool,
}

/// Why nothing is predicted for an image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PredictError {
    /// Over its maximum.
    #[error("the image has {found} bytes, {} are allowed", limits::IMAGE)]
    TooLarge {
        /// Its size, bytes.
        found: usize,
    },
    /// Not a PE image.
    #[error("the image cannot be read: {0}")]
    Pe(#[from] PeError),
    /// Lacks a section.
    #[error("the image has no {section} section: is it a unified kernel image?")]
    Missing {
        /// Its name.
        section: &'static str,
    },
    /// Has a section that makes the boot depend on the machine.
    #[error("the image has {section} sections, which make its measurements depend on the machine: build it without")]
    Unsupported {
        /// Its name.
        section: &'static str,
    },
    /// Another stub.
    #[error(
        "the image was built with systemd-stub {found}; predictions are proven for 257 only: build with that stub, or learn from a trusted boot"
    )]
    Stub {
        /// Its version.
        found: String,
    },
    /// A command line whose handling was not proven.
    #[error("the image's command line cannot be predicted: {0}")]
    CommandLine(&'static str),
    /// The host could inject credentials.
    #[error(
        "the image's command line lacks {REQUIRED_ARGUMENT}: the host could run code as root in the guest and no measurement would \
         show it; add the argument, or accept the risk by the name {RISK_HOST_CREDENTIALS}"
    )]
    HostCredentials,
    /// A risk that does not exist.
    #[error("there is no risk \"{0}\" to accept")]
    UnknownRisk(String),
}

/// Computes a policy for one image.
pub fn predict(image: &[u8], options: &Options) -> Result<Policy, PredictError> {
    if image.len() > limits::IMAGE {
        return Err(PredictError::TooLarge { found: image.len() });
    }
    if let Some(unknown) = options.accept.iter().find(|risk| *risk != RISK_HOST_CREDENTIALS) {
        return Err(PredictError::UnknownRisk(unknown.clone()));
    }
    let uki = Uki::parse(image)?;
    let cmdline = uki.command_line()?;
    let accepted_risks = risks(&cmdline, options)?;
    let bank = options.bank;
    let image = Image {
        name: options.name.clone(),
        bank,
        accepted_risks,
        pcr4: vec![registers::pcr4(&uki, bank)?],
        pcr7: vec![registers::pcr7(options.secure_boot, bank)],
        pcr9: vec![registers::pcr9(&uki, bank)?],
        pcr11: registers::pcr11(&uki, bank),
        pcr12: vec![bank.zero()],
        cmdline: Some(cmdline),
    };
    Ok(Policy {
        version: VERSION,
        name: options.name.clone(),
        counter: options.counter,
        require_guard: options.require_guard,
        images: vec![image],
    })
}

/// The last occurrence counts for systemd, so only an image in which all agree is safe.
fn risks(cmdline: &str, options: &Options) -> Result<Vec<String>, PredictError> {
    let values: Vec<_> = cmdline
        .split(' ')
        .filter(|a| a.starts_with("systemd.import_credentials"))
        .collect();
    let safe = !values.is_empty() && values.iter().all(|v| *v == REQUIRED_ARGUMENT);
    match (safe, options.accept.iter().any(|risk| risk == RISK_HOST_CREDENTIALS)) {
        (true, _) => Ok(vec![]),
        (false, true) => Ok(vec![RISK_HOST_CREDENTIALS.into()]),
        (false, false) => Err(PredictError::HostCredentials),
    }
}

#[cfg(test)]
mod tests;

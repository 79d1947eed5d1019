//! Reference values of an image before it ever boots: from the bytes of a Unified Kernel Image alone, for OVMF (EDK II) firmware,
//! systemd-stub 257 and Linux 6.1 or later. Each value was proven against the log of a real boot; what was not is refused.

mod initrd;
mod pe;
pub(crate) mod registers;
/// What the host could do to a guest unseen, and the arguments that stop it.
pub mod risks;
mod uki;

use self::uki::Uki;
use super::{Image, Policy};
use crate::limits;
use crate::pcr::Bank;

pub use self::pe::PeError;

/// Words that systemd-pcrphase extends PCR 11 by, in order.
pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];
/// Phases after which a node may attest, unless told otherwise.
pub const ATTESTING_PHASES: [&str; 2] = ["sysinit", "ready"];

/// The name under which option ROMs can be accepted: network cards of many hosts bring one, and firmware runs it (PCR 2).
pub const RISK_OPTION_ROMS: &str = "option-roms";

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
    /// Phases of the boot ([`PHASES`]) after which a node may attest.
    pub phases: Vec<String>,
    /// Risks that the operator accepts by name.
    pub accept: Vec<String>,
    /// Refuse nodes whose guard is not enforcing.
    pub require_guard: bool,
}

impl Default for Options {
    /// Nothing risky is accepted.
    fn default() -> Self {
        Self {
            name: "predicted".into(),
            counter: 1,
            bank: Bank::default(),
            secure_boot: SecureBoot::default(),
            phases: ATTESTING_PHASES.map(str::to_owned).to_vec(),
            accept: vec![],
            require_guard: false,
        }
    }
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
    /// The host could configure the guest unseen.
    #[error(
        "the image's command line lacks {}, or another word on it undoes that: {}; add the words, or accept the risk by the name {}",
        .0.arguments.join(" and "), .0.reason, .0.name
    )]
    Risk(&'static risks::Risk),
    /// A phase that does not exist.
    #[error("there is no boot phase \"{0}\": known are enter-initrd, leave-initrd, sysinit and ready")]
    UnknownPhase(String),
    /// No phase at all.
    #[error("no boot phase is named after which a node may attest")]
    NoPhase,
    /// A risk that does not exist.
    #[error("there is no risk \"{0}\" to accept")]
    UnknownRisk(String),
}

/// Computes a policy for one image.
pub fn predict(image: &[u8], options: &Options) -> Result<Policy, PredictError> {
    if image.len() > limits::IMAGE {
        return Err(PredictError::TooLarge { found: image.len() });
    }
    let (option_roms, accept): (Vec<_>, Vec<_>) = options
        .accept
        .iter()
        .cloned()
        .partition(|name| name == RISK_OPTION_ROMS);
    risks::are_known(&accept)?;
    phases_are_known(&options.phases)?;
    let uki = Uki::parse(image)?;
    let cmdline = uki.command_line()?;
    let bank = options.bank;
    let parts = registers::Parts::new(&uki, options)?;
    let mut accepted_risks = risks::accepted(&cmdline, &accept)?;
    let mut pcr2 = vec![registers::separator_alone(bank)];
    if let Some(risk) = option_roms.into_iter().next() {
        accepted_risks.push(risk);
        pcr2.clear();
    }
    let image = Image {
        accepted_risks,
        pcr2,
        pcr3: vec![registers::separator_alone(bank)],
        pcr4: vec![parts.value(4)],
        pcr7: vec![parts.value(7)],
        pcr9: vec![parts.value(9)],
        pcr11: registers::after_phases(parts.value(11), &options.phases),
        pcr12: vec![bank.zero()],
        pcr13: vec![bank.zero()],
        pcr14: vec![bank.zero()],
        cmdline: Some(cmdline),
        events: parts.events,
        ..Image::new(options.name.clone(), bank)
    };
    Ok(Policy {
        name: options.name.clone(),
        counter: options.counter,
        require_guard: options.require_guard,
        ..Policy::of(vec![image])
    })
}

/// Refuses a phase that does not exist, and an empty list.
pub(crate) fn phases_are_known(phases: &[String]) -> Result<(), PredictError> {
    if phases.is_empty() {
        return Err(PredictError::NoPhase);
    }
    match phases.iter().find(|phase| !PHASES.contains(&phase.as_str())) {
        Some(unknown) => Err(PredictError::UnknownPhase(unknown.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;

//! `[tee]`: which report of a trusted execution environment goes into the Evidence.
//!
//! Must never make a report optional that the operator wants: that is what `required` is for.

use super::{ConfigError, fragment::TeeFragment, value};

/// `[tee]`, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tee {
    /// Where the report comes from.
    pub provider: TeeProvider,
    /// Whether the node attests without one. What a policy demands is for the Verifier to say; this tells the operator early.
    pub required: bool,
    /// The privilege level (SEV-SNP's VMPL) that a report is asked for; `None`: the most privileged one that this guest may ask for.
    pub vmpl: Option<u8>,
}

/// The least privileged level that there is (AMD 56860, MSG_REPORT_REQ).
const MAX_VMPL: u8 = 3;

/// Where a TEE's report comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TeeProvider {
    /// The first one that this machine has; the default.
    Auto,
    /// No report is asked for.
    None,
    /// configfs-tsm (Linux 6.7): SEV-SNP and TDX.
    ConfigfsTsm,
    /// /dev/sev-guest.
    SevGuest,
    /// An NV index of a cloud's virtual TPM.
    VtpmNv,
    /// A folder in the place of hardware, for tests, which rempart-evidence is told on its own command line; production
    /// policies refuse it.
    File,
}

pub(super) fn judge(fragment: TeeFragment) -> Result<Tee, ConfigError> {
    let required = fragment.required.unwrap_or(false);
    let provider = match fragment.provider.as_deref() {
        None | Some("auto") => TeeProvider::Auto,
        Some("none") if required => {
            let why = "no report can be required when none is asked for; remove tee.required or name a provider";
            return Err(value("tee.provider", "none", why));
        }
        Some("none") => TeeProvider::None,
        Some("configfs-tsm") => TeeProvider::ConfigfsTsm,
        Some("sev-guest") => TeeProvider::SevGuest,
        Some("vtpm-nv") => TeeProvider::VtpmNv,
        Some("file") => TeeProvider::File,
        Some(other) => {
            let why = "must be \"auto\", \"none\", \"configfs-tsm\", \"sev-guest\", \"vtpm-nv\" or \"file\"";
            return Err(value("tee.provider", other, why));
        }
    };
    let vmpl = fragment.vmpl;
    match (vmpl, &provider) {
        (Some(level), _) if level > MAX_VMPL => {
            return Err(value("tee.vmpl", &level.to_string(), "must be 0, 1, 2 or 3"));
        }
        (Some(level), TeeProvider::None | TeeProvider::VtpmNv) => {
            let why = "no level can be asked for where the report is not made on request; remove tee.vmpl or name another provider";
            return Err(value("tee.vmpl", &level.to_string(), why));
        }
        _ => {}
    }
    Ok(Tee {
        provider,
        required,
        vmpl,
    })
}

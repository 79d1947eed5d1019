//! TPM2_Unseal under a policy with TPM2_PolicyNV and TPM2_PolicyCounterTimer (TPM 2.0 Library Part 3, 23.9 and 23.10; TSS 2.0 Enhanced
//! System API): one object, one session, one connection.
//!
//! A crate of its own, and with unsafe code, because the Rust interface of the TSS has neither of the two commands and hands out no
//! ESYS context to send them by; and a policy session cannot be shared by two connections (the kernel's resource manager keeps each to
//! itself). Must never leave an object or a session in the TPM, nor a copy of what was sealed in memory of the TSS.

#![deny(unsafe_op_in_unsafe_fn)]

use std::ffi::CString;

use rempart_secret::SecretBytes;
use tss_esapi::{
    structures::{Digest, PcrSelectionList, Private, Public},
    tss2_esys::TPM2B_PUBLIC,
};

/// The ESYS context.
mod esys;

use esys::Esys;

/// An object that was sealed, and all that its policy asks.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// Template of the primary key of the owner's hierarchy under which it was made.
    pub parent: Public,
    /// Its public area.
    pub public: Public,
    /// Its private area, encrypted by the TPM.
    pub private: Private,
    /// PolicyPCR: the registers.
    pub pcrs: PcrSelectionList,
    /// The hash of their values.
    pub pcr_digest: Digest,
    /// PolicyNV: a counter's NV index, which may be read with empty authorization.
    pub index: u32,
    /// What it counts.
    pub counter: u64,
    /// PolicyCounterTimer: the TPM's clock is below this, milliseconds; `None` where it does not matter.
    pub deadline: Option<u64>,
}

/// Which command failed, and so what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// No TPM answered.
    Open,
    /// The primary key could not be made.
    Primary,
    /// The object is no child of it: another TPM's, or changed.
    Load,
    /// There is no such NV index.
    Index,
    /// No session.
    Session,
    /// The registers have other values.
    Pcrs,
    /// The counter has another value.
    Counter,
    /// The clock is past the deadline.
    Clock,
    /// The policy as a whole is not the object's.
    Unseal,
}

/// The TPM, or the way to it, said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("TPM refused ({step:?}): response code {code:#010x}")]
pub struct Refused {
    /// At which step.
    pub step: Step,
    /// TPM_RC or TSS2_RC.
    pub code: u32,
}

/// What was sealed. `tcti` is a TCTI configuration (tss2-tctildr); nobody else may have that TPM open where it takes one client at a time.
///
/// # Errors
/// The first command that was refused.
pub fn unseal(tcti: &str, sealed: &Sealed) -> Result<SecretBytes, Refused> {
    let not_given = |step| move |_| Refused { step, code: 0 };
    let parent = TPM2B_PUBLIC::try_from(sealed.parent.clone()).map_err(|_| Refused {
        step: Step::Primary,
        code: 0,
    })?;
    let public = TPM2B_PUBLIC::try_from(sealed.public.clone()).map_err(|_| Refused {
        step: Step::Load,
        code: 0,
    })?;
    let tcti = CString::new(tcti).map_err(not_given(Step::Open))?;
    let mut esys = Esys::open(&tcti)?;
    let primary = esys.primary(&parent)?;
    let object = esys.load(primary, &sealed.private.clone().into(), &public)?;
    let index = esys.index(sealed.index)?;
    let session = esys.policy_session(primary)?;
    esys.policy_pcr(session, &sealed.pcr_digest.clone().into(), &sealed.pcrs.clone().into())?;
    esys.policy_counter(session, index, sealed.counter)?;
    if let Some(deadline) = sealed.deadline {
        esys.policy_clock_below(session, deadline)?;
    }
    esys.unseal(object, session)
}

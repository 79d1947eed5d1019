//! One open TPM. Every transient object and session made here is flushed before the call returns,
//! so that a TPM without a resource manager (three slots) never fills up.
//!
//! Must never leave a session set on the context between calls.

use std::str::FromStr;

use rempart_attest::pcr::Bank;
use tss_esapi::{Context, Error, structures::Public, tcti_ldr::TctiNameConf, traits::Marshall};

use crate::options::{OptionError, TpmOptions};

/// Why the TPM did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The configuration names no known way to a TPM.
    #[error("tpm.tcti {tcti:?} is not one of device:PATH, swtpm:host=…,port=…, mssim:…, tabrmd:…")]
    Tcti {
        /// What the configuration says.
        tcti: String,
    },
    /// No TPM answers there.
    #[error(
        "no TPM answers at {tcti}: {why}; check that the machine has a TPM 2.0 and that this user may open it (group tss)"
    )]
    Open {
        /// Where.
        tcti: String,
        /// What the TSS says.
        why: Error,
    },
    /// The TPM refused one command.
    #[error("TPM refused to {what}: {why}")]
    Refused {
        /// What was asked, in words.
        what: &'static str,
        /// The TPM's response code.
        why: Error,
    },
    /// The TPM gave an answer of a shape that the specification does not allow.
    #[error("TPM answered {what} with a value the specification does not allow")]
    Malformed {
        /// What was asked, in words.
        what: &'static str,
    },
    /// The configuration names a persistent key that is not there.
    #[error("TPM has no key at {handle:#010x}; make one there, or set tpm.ak to a template")]
    NoPersistentKey {
        /// The handle.
        handle: u32,
    },
    /// The configuration names a persistent key that no Verifier takes for an attestation key.
    #[error("key at {handle:#010x} is no attestation key: it lacks {lacks}")]
    UnfitKey {
        /// The handle.
        handle: u32,
        /// The attribute.
        lacks: &'static str,
    },
    /// Something else is at the handle at which the attestation key was to be kept. It is left there.
    #[error("TPM has another object at {handle:#010x}; choose another handle")]
    HandleOccupied {
        /// The handle.
        handle: u32,
    },
    /// Another NV index is where a counter of ours belongs. It is left there.
    #[error(
        "TPM has another NV index at {index:#010x}, where Rempart keeps a counter; remove it (tpm2_nvundefine -C o {index:#010x})"
    )]
    IndexOccupied {
        /// The index.
        index: u32,
    },
    /// The caller would keep a key that is persistent already.
    #[error("tpm.ak names a persistent key; only a template's key can be kept at a handle")]
    AlreadyPersistent,
    /// The caller wants the template of a key that has none.
    #[error("tpm.ak names a persistent key; only a template's key can be given to systemd")]
    NoTemplate,
    /// The caller named something that is no handle of the owner.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The chosen bank is not active.
    #[error("TPM has no active {bank} bank; activate it in the firmware's set-up, or choose another tpm.bank")]
    NoBank {
        /// Its name.
        bank: Bank,
    },
    /// PCRs moved each time between reading them and quoting them.
    #[error("PCRs changed during each of {tries} quotes; something extends them without pause")]
    Unsettled {
        /// How many quotes were taken.
        tries: u32,
    },
    /// The Verifier sent a credential that is not the TPM structure it should be.
    #[error("verifier sent a {what} that is no TPM2B structure")]
    CredentialMalformed {
        /// The structure's name.
        what: &'static str,
    },
}

impl TpmError {
    /// For `map_err`: the TPM refused to do `what`.
    pub(crate) fn refused(what: &'static str) -> impl FnOnce(Error) -> Self {
        move |why| Self::Refused { what, why }
    }
}

/// An open connection to one TPM. One user at a time: methods take `&mut self`.
pub struct Tpm {
    pub(crate) context: Context,
    pub(crate) options: TpmOptions,
}

impl std::fmt::Debug for Tpm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tpm({:?})", self.options)
    }
}

impl Tpm {
    /// Connects to the TPM that `options` name and uses it as they say.
    pub fn open(options: &TpmOptions) -> Result<Self, TpmError> {
        let context = Context::new(parse(&options.tcti)?).map_err(|why| TpmError::Open {
            tcti: options.tcti.clone(),
            why,
        })?;
        Ok(Self {
            context,
            options: options.clone(),
        })
    }

    /// How it is used.
    pub fn options(&self) -> &TpmOptions {
        &self.options
    }
}

pub(crate) fn parse(tcti: &str) -> Result<TctiNameConf, TpmError> {
    TctiNameConf::from_str(tcti).map_err(|_| TpmError::Tcti { tcti: tcti.to_owned() })
}

/// A TPM2B_PUBLIC.
pub(crate) fn public_area(public: &Public, what: &'static str) -> Result<Vec<u8>, TpmError> {
    sized(&public.marshall().map_err(TpmError::refused("marshal a key"))?, what)
}

/// `body` as a TPM2B: two bytes of length in front.
fn sized(body: &[u8], what: &'static str) -> Result<Vec<u8>, TpmError> {
    let length = u16::try_from(body.len()).map_err(|_| TpmError::Malformed { what })?;
    Ok([&length.to_be_bytes(), body].concat())
}

/// The body of a TPM2B, whose length field must say exactly what follows.
pub(crate) fn unsized_body<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a [u8], TpmError> {
    match bytes {
        [high, low, body @ ..] if usize::from(u16::from_be_bytes([*high, *low])) == body.len() => Ok(body),
        _ => Err(TpmError::CredentialMalformed { what }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tpm2b_with_another_length_than_it_says_is_refused() {
        assert!(unsized_body(&[0, 2, 1, 2], "x").is_ok());
        for wrong in [&[][..], &[0], &[0, 2, 1], &[0, 2, 1, 2, 3]] {
            assert!(unsized_body(wrong, "x").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_unknown_tcti_is_refused_before_anything_is_opened() {
        assert!(matches!(TpmOptions::new("usb:tpm").judge(), Err(TpmError::Tcti { .. })));
        assert!(TpmOptions::new("device:/dev/tpmrm0").judge().is_ok());
    }
}

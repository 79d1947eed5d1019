//! One open TPM. Every transient object and session made here is flushed before the call returns,
//! so that a TPM without a resource manager (three slots) never fills up.
//!
//! Must never leave a session set on the context between calls.

use std::str::FromStr;

use tss_esapi::{
    Context, Error,
    handles::{KeyHandle, ObjectHandle},
    interface_types::{resource_handles::Hierarchy, session_handles::AuthSession},
    structures::Public,
    tcti_ldr::TctiNameConf,
};

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
}

impl std::fmt::Debug for Tpm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tpm")
    }
}

impl Tpm {
    /// Whether `tcti` is well formed; opens nothing.
    pub fn judge(tcti: &str) -> Result<(), TpmError> {
        parse(tcti).map(drop)
    }

    /// Connects to the TPM at `tcti`, such as `device:/dev/tpmrm0`.
    pub fn open(tcti: &str) -> Result<Self, TpmError> {
        let context = Context::new(parse(tcti)?).map_err(|why| TpmError::Open {
            tcti: tcti.to_owned(),
            why,
        })?;
        Ok(Self { context })
    }

    /// Makes the primary key of `template` in the endorsement hierarchy, lends it to `use_key`, flushes it.
    pub(crate) fn with_primary<T>(
        &mut self,
        template: Public,
        use_key: impl FnOnce(&mut Context, KeyHandle, &Public) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let made = self
            .context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
            })
            .map_err(TpmError::refused(
                "make a key in the endorsement hierarchy (has its authorization been changed?)",
            ))?;
        let result = use_key(&mut self.context, made.key_handle, &made.out_public);
        let flushed = self.context.flush_context(ObjectHandle::from(made.key_handle));
        let value = result?;
        flushed.map_err(TpmError::refused("flush a key"))?;
        Ok(value)
    }
}

fn parse(tcti: &str) -> Result<TctiNameConf, TpmError> {
    TctiNameConf::from_str(tcti).map_err(|_| TpmError::Tcti { tcti: tcti.to_owned() })
}

/// `body` as a TPM2B: two bytes of length in front.
pub(crate) fn sized(body: &[u8], what: &'static str) -> Result<Vec<u8>, TpmError> {
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
        assert!(matches!(Tpm::judge("usb:tpm"), Err(TpmError::Tcti { .. })));
        assert!(Tpm::judge("device:/dev/tpmrm0").is_ok());
    }
}

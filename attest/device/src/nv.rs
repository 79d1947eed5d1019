//! NV indices as far as attestation needs them: certificates that the manufacturer left. Each authorizes its own reading, with empty
//! authorization (EK Credential Profile, 2.2.1.1).
//!
//! Must never read more than the caller's maximum.

use tss_esapi::{
    Context, Error,
    abstraction::nv,
    handles::{NvIndexTpmHandle, TpmHandle},
    interface_types::{resource_handles::NvAuth, session_handles::AuthSession},
};

use crate::{object, tpm::TpmError};

/// The content of `index`; `None` when it is not defined.
pub(crate) fn read(
    context: &mut Context,
    index: u32,
    max: usize,
    what: &'static str,
) -> Result<Option<Vec<u8>>, TpmError> {
    if !object::exists(context, index)? {
        return Ok(None);
    }
    let handle = NvIndexTpmHandle::new(index).map_err(TpmError::refused(what))?;
    let stored = read_full(context, handle).map_err(TpmError::refused(what))?;
    if stored.len() > max {
        return Err(TpmError::Malformed { what });
    }
    Ok(Some(stored))
}

/// An index holds 65,535 bytes at most (its dataSize is a UINT16), so this allocation is bounded before `max` is.
fn read_full(context: &mut Context, index: NvIndexTpmHandle) -> Result<Vec<u8>, Error> {
    let handle = context.execute_without_session(|context| context.tr_from_tpm_public(TpmHandle::NvIndex(index)))?;
    context.execute_with_session(Some(AuthSession::Password), |context| {
        nv::read_full(context, NvAuth::NvIndex(handle.into()), index)
    })
}

//! NV indices as far as attestation needs them: certificates that the manufacturer left, and reports that a paravisor leaves.
//!
//! Must never read more than the caller's maximum, and never write an index that it does not know to be for that.

use tss_esapi::{
    Context, Error,
    abstraction::nv,
    attributes::NvIndexAttributesBuilder,
    handles::{NvIndexHandle, NvIndexTpmHandle, ObjectHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::{NvAuth, Provision},
        session_handles::AuthSession,
    },
    structures::{MaxNvBuffer, NvPublicBuilder},
};

use crate::{object, tpm::TpmError};

/// Who authorizes a read.
#[derive(Clone, Copy)]
pub(crate) enum Reader {
    /// The index itself, with empty authorization: what the EK Credential Profile demands for certificates.
    Index,
    /// The owner, with empty authorization.
    Owner,
}

/// The content of `index`; `None` when it is not defined.
pub(crate) fn read(
    context: &mut Context,
    index: u32,
    reader: Reader,
    max: usize,
    what: &'static str,
) -> Result<Option<Vec<u8>>, TpmError> {
    if !object::exists(context, index)? {
        return Ok(None);
    }
    let handle = NvIndexTpmHandle::new(index).map_err(TpmError::refused(what))?;
    let stored = read_full(context, handle, reader).map_err(TpmError::refused(what))?;
    if stored.len() > max {
        return Err(TpmError::Malformed { what });
    }
    Ok(Some(stored))
}

/// An index holds 65,535 bytes at most (its dataSize is a UINT16), so this allocation is bounded before `max` is.
fn read_full(context: &mut Context, index: NvIndexTpmHandle, reader: Reader) -> Result<Vec<u8>, Error> {
    let auth = match reader {
        Reader::Owner => NvAuth::Owner,
        Reader::Index => {
            let handle =
                context.execute_without_session(|context| context.tr_from_tpm_public(TpmHandle::NvIndex(index)))?;
            NvAuth::NvIndex(handle.into())
        }
    };
    context.execute_with_session(Some(AuthSession::Password), |context| {
        nv::read_full(context, auth, index)
    })
}

/// Writes `bytes` to `index` as the owner; defines an ordinary index of that size where there is none.
pub(crate) fn write(context: &mut Context, index: u32, bytes: &[u8], what: &'static str) -> Result<(), TpmError> {
    let defined = object::exists(context, index)?;
    let put = |context: &mut Context| -> Result<(), Error> {
        let tpm_handle = NvIndexTpmHandle::new(index)?;
        let handle: NvIndexHandle = if defined {
            context
                .execute_without_session(|context| context.tr_from_tpm_public(TpmHandle::NvIndex(tpm_handle)))?
                .into()
        } else {
            define(context, tpm_handle, bytes.len())?
        };
        let data = MaxNvBuffer::try_from(bytes)?;
        let written = context.execute_with_session(Some(AuthSession::Password), |context| {
            context.nv_write(NvAuth::Owner, handle, data, 0)
        });
        let closed = context.tr_close(&mut ObjectHandle::from(handle));
        written.and(closed)
    };
    put(context).map_err(TpmError::refused(what))
}

fn define(context: &mut Context, index: NvIndexTpmHandle, size: usize) -> Result<NvIndexHandle, Error> {
    let attributes = NvIndexAttributesBuilder::new()
        .with_owner_write(true)
        .with_owner_read(true)
        .build()?;
    let public = NvPublicBuilder::new()
        .with_nv_index(index)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(attributes)
        .with_data_area_size(size)
        .build()?;
    context.execute_with_session(Some(AuthSession::Password), |context| {
        context.nv_define_space(Provision::Owner, None, public)
    })
}

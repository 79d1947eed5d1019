//! NV indices as far as attestation needs them: certificates that the manufacturer left, and reports that a paravisor leaves.
//!
//! Counters as far as sealing needs them. Must never read more than the caller's maximum, and never write an index that it does not know to be for that.

use tss_esapi::{
    Context, Error,
    abstraction::nv,
    attributes::{NvIndexAttributes, NvIndexAttributesBuilder},
    constants::NvIndexType,
    handles::{NvIndexHandle, NvIndexTpmHandle, ObjectHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::{NvAuth, Provision},
        session_handles::AuthSession,
    },
    structures::{MaxNvBuffer, NvPublicBuilder},
};

use crate::{object, tpm::TpmError};

/// Bytes of a counter (Part 2, 13.4: a counter index holds eight).
const COUNTER: usize = 8;

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
        let handle = if defined {
            handle_of(context, tpm_handle)?
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
    define_as(context, index, size, attributes)
}

fn define_as(
    context: &mut Context,
    index: NvIndexTpmHandle,
    size: usize,
    attributes: NvIndexAttributes,
) -> Result<NvIndexHandle, Error> {
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

/// A counter index: written by the owner, read by anybody, not subject to dictionary-attack protection (its authorization is empty,
/// and a power cut must not count as a guess). Not orderly: each increment is in NV when the command returns (Part 2, 13.4).
fn counter_attributes(written: bool) -> Result<NvIndexAttributes, Error> {
    NvIndexAttributesBuilder::new()
        .with_nv_index_type(NvIndexType::Counter)
        .with_owner_write(true)
        .with_owner_read(true)
        .with_auth_read(true)
        .with_no_da(true)
        .with_written(written)
        .build()
}

/// A counter's value and the Name of its index (Part 1, 16: the hash of all that defines it); `None` where it was never incremented.
pub(crate) fn counter(context: &mut Context, index: u32) -> Result<Option<(u64, Vec<u8>)>, TpmError> {
    let what = "read its counter";
    if !object::exists(context, index)? {
        return Ok(None);
    }
    let (attributes, name) = public_of(context, index).map_err(TpmError::refused(what))?;
    let ours = |written| counter_attributes(written).map_err(TpmError::refused(what));
    if attributes == ours(false)? {
        return Ok(None);
    }
    if attributes != ours(true)? {
        return Err(TpmError::IndexOccupied { index });
    }
    let bytes = read(context, index, Reader::Index, COUNTER, what)?.unwrap_or_default();
    let value = bytes
        .try_into()
        .map_err(|_| TpmError::Malformed { what: "its counter" })?;
    Ok(Some((u64::from_be_bytes(value), name)))
}

/// Increments the counter, and defines it where there is none. A TPM begins a counter above the highest value that any counter of it
/// ever had, deleted ones included (Part 1, 37.2; Part 3, 31.8): who deletes it and defines it anew cannot bring a value back.
pub(crate) fn increment(context: &mut Context, index: u32) -> Result<(), TpmError> {
    let defined = object::exists(context, index)?;
    if defined {
        // Another index is not written.
        counter(context, index)?;
    }
    let count = |context: &mut Context| -> Result<(), Error> {
        let tpm_handle = NvIndexTpmHandle::new(index)?;
        let handle = if defined {
            handle_of(context, tpm_handle)?
        } else {
            define_as(context, tpm_handle, COUNTER, counter_attributes(false)?)?
        };
        let counted = context.execute_with_session(Some(AuthSession::Password), |context| {
            context.nv_increment(NvAuth::Owner, handle)
        });
        let closed = context.tr_close(&mut ObjectHandle::from(handle));
        counted.and(closed)
    };
    count(context).map_err(TpmError::refused("increment its counter (has the owner a password?)"))
}

fn public_of(context: &mut Context, index: u32) -> Result<(NvIndexAttributes, Vec<u8>), Error> {
    let handle = handle_of(context, NvIndexTpmHandle::new(index)?)?;
    let read = context.execute_without_session(|context| context.nv_read_public(handle));
    let closed = context.tr_close(&mut ObjectHandle::from(handle));
    let (public, name) = read?;
    closed?;
    Ok((public.attributes(), name.value().to_vec()))
}

fn handle_of(context: &mut Context, index: NvIndexTpmHandle) -> Result<NvIndexHandle, Error> {
    let handle = context.execute_without_session(|context| context.tr_from_tpm_public(TpmHandle::NvIndex(index)))?;
    Ok(handle.into())
}

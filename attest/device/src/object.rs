//! Keys in the TPM for as long as one call needs them: a primary by its template, or a persistent key by its handle.
//!
//! Must never leave a transient object behind, whatever the borrower returned: a TPM without resource manager has three slots.

use tss_esapi::{
    Context,
    constants::CapabilityType,
    handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle},
    interface_types::{resource_handles::Hierarchy, session_handles::AuthSession},
    structures::{CapabilityData, Public},
};

use crate::{options::PersistentHandle, tpm::TpmError};

/// Makes the primary key of `template` in the endorsement hierarchy, lends it to `borrow`, flushes it.
pub(crate) fn with_primary<T>(
    context: &mut Context,
    template: Public,
    borrow: impl FnOnce(&mut Context, KeyHandle, &Public) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    let what = "make a key in the endorsement hierarchy (has its authorization been changed?)";
    with_primary_of(context, Hierarchy::Endorsement, what, template, borrow)
}

/// The same in the owner's hierarchy.
pub(crate) fn with_owner_primary<T>(
    context: &mut Context,
    template: Public,
    borrow: impl FnOnce(&mut Context, KeyHandle, &Public) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    let what = "make a key in the owner's hierarchy (has its authorization been changed?)";
    with_primary_of(context, Hierarchy::Owner, what, template, borrow)
}

fn with_primary_of<T>(
    context: &mut Context,
    hierarchy: Hierarchy,
    what: &'static str,
    template: Public,
    borrow: impl FnOnce(&mut Context, KeyHandle, &Public) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    let made = context
        .execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(hierarchy, template, None, None, None, None)
        })
        .map_err(TpmError::refused(what))?;
    let result = borrow(context, made.key_handle, &made.out_public);
    let flushed = context.flush_context(ObjectHandle::from(made.key_handle));
    let value = result?;
    flushed.map_err(TpmError::refused("flush a key"))?;
    Ok(value)
}

/// Lends the persistent key at `handle` to `borrow`. The key stays; only this process's reference to it is given up.
pub(crate) fn with_persistent<T>(
    context: &mut Context,
    handle: PersistentHandle,
    borrow: impl FnOnce(&mut Context, KeyHandle, &Public) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    let what = "lend its persistent key";
    if !exists(context, handle.value())? {
        return Err(TpmError::NoPersistentKey { handle: handle.value() });
    }
    let handle = PersistentTpmHandle::new(handle.value()).map_err(TpmError::refused(what))?;
    let mut object = context
        .execute_without_session(|context| context.tr_from_tpm_public(TpmHandle::Persistent(handle)))
        .map_err(TpmError::refused(what))?;
    let result = context
        .execute_without_session(|context| context.read_public(KeyHandle::from(object)))
        .map_err(TpmError::refused(what))
        .and_then(|(public, _, _)| borrow(context, KeyHandle::from(object), &public));
    let closed = context.tr_close(&mut object);
    let value = result?;
    closed.map_err(TpmError::refused(what))?;
    Ok(value)
}

/// Whether the TPM has a persistent object or an NV index with this handle.
pub(crate) fn exists(context: &mut Context, handle: u32) -> Result<bool, TpmError> {
    Ok(handles(context, handle, 1)?.first() == Some(&handle))
}

/// At most `count` handles of the kind of `first`, from `first` on, in ascending order (TPM2_GetCapability).
pub(crate) fn handles(context: &mut Context, first: u32, count: u32) -> Result<Vec<u32>, TpmError> {
    let what = "list its handles";
    let (found, _) = context
        .execute_without_session(|context| context.get_capability(CapabilityType::Handles, first, count))
        .map_err(TpmError::refused(what))?;
    let CapabilityData::Handles(found) = found else {
        return Err(TpmError::Malformed {
            what: "the list of its handles",
        });
    };
    Ok(found.as_ref().iter().map(|handle| u32::from(*handle)).collect())
}

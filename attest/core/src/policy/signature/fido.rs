//! FIDO2 signatures in SSH (OpenSSH PROTOCOL.u2f, "SSH U2F signatures"): behind the signature proper stand a byte of flags and a
//! counter, both signed by the security key.

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Signature};

/// Flags (1 byte) and counter (4 bytes) at the end of the signature's data.
const TRAILER: usize = 5;
/// The authenticator tested that somebody is there (Web Authentication, 6.1, bit 0).
const USER_PRESENT: u8 = 0x01;

/// Whether a touch stands behind a signature by `key`. Keys that are files know none: for them it is always true. The key decides
/// which kind it is, not the name that the signature gives itself: that is not signed.
#[must_use]
pub(super) fn user_was_present(key: &KeyData, signature: &Signature) -> bool {
    let named = match key {
        KeyData::SkEd25519(_) => Algorithm::SkEd25519,
        KeyData::SkEcdsaSha2NistP256(_) => Algorithm::SkEcdsaSha2NistP256,
        _ => return true,
    };
    let data = signature.as_bytes();
    let flags = data.len().checked_sub(TRAILER).and_then(|at| data.get(at));
    signature.algorithm() == named && flags.is_some_and(|flags| flags & USER_PRESENT != 0)
}

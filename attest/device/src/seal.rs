//! Keys that the TPM gives back only on this machine, booted as it was, before a moment, and until they were made void: keyedhash
//! objects under a storage primary, with PolicyPCR, PolicyNV and PolicyCounterTimer (Part 3, 23.7, 23.9, 23.10).
//!
//! PolicyNV compares with a counter index. Files can be kept and put back; a counter cannot: incrementing it makes void whatever was
//! sealed before, wherever copies are. PolicyCounterTimer compares with the TPM's own clock, which the machine's root cannot set back
//! (TPM2_ClockSet only advances it; Part 3, 29.2). It stands still without power, so a deadline is one of time with power; and after a
//! cut it may have lost what it had not stored yet, up to 2^22 ms (Part 1, 36), which its user has to know.
//!
//! The primary is one of the owner's hierarchy, not of the endorsement hierarchy as our other keys: TPM2_Clear changes the seed of the
//! first and not of the second (Part 3, 24.6), and it resets the clock. So what was sealed before a Clear is gone.
//! Must never seal to anything that the caller has not named.

use rempart_attest::{bytes::sha256, pcr::Bank};
use rempart_secret::SecretBytes;
use rempart_unseal::{Refused, Step};
use tss_esapi::{
    Context, Error,
    attributes::{ObjectAttributesBuilder, SessionAttributesBuilder},
    constants::SessionType,
    handles::{KeyHandle, SessionHandle},
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
        session_handles::AuthSession,
    },
    structures::{
        Digest, EccPoint, EccScheme, KeyDerivationFunctionScheme, KeyedHashScheme, PcrSelectionList,
        PcrSelectionListBuilder, PcrSlot, Private, Public, PublicBuilder, PublicEccParametersBuilder,
        PublicKeyedHashParameters, SensitiveData, SymmetricDefinition, SymmetricDefinitionObject,
    },
    traits::{Marshall, UnMarshall},
};

use crate::{
    nv, object,
    options::TpmOptions,
    quote::algorithm,
    tpm::{Tpm, TpmError},
};

/// Bytes of a key.
const KEY: usize = 32;
/// Most registers: what the TPM reads in one command (Part 2, TPML_DIGEST), so that all are of one moment.
const MAX_PCRS: usize = 8;
/// TPM_CC_PolicyPCR, TPM_CC_PolicyNV and TPM_CC_PolicyCounterTimer (Part 2, 6.5.2).
const POLICY_PCR: u32 = 0x0000_017f;
const POLICY_NV: u32 = 0x0000_0149;
const POLICY_COUNTER_TIMER: u32 = 0x0000_016d;
/// TPM_EO_EQ and TPM_EO_UNSIGNED_LT (Part 2, 6.8).
const EQUAL: u16 = 0;
const BELOW: u16 = 5;
/// Offset of `clock` in TPMS_TIME_INFO (Part 2, 10.11.6).
const CLOCK: u16 = 8;

/// What a key is sealed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Bank of the registers.
    pub bank: Bank,
    /// The registers, eight at most.
    pub pcrs: Vec<u8>,
    /// NV index of the counter.
    pub index: u32,
    /// Its value.
    pub counter: u64,
    /// The clock must be below this, milliseconds; `None`: for as long as the rest holds.
    pub deadline: Option<u64>,
}

/// A sealed key. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// The content of TPM2B_PRIVATE, encrypted by the TPM.
    pub private: Vec<u8>,
    /// SHA-256 of the registers' values.
    pub pcr_digest: [u8; 32],
}

/// Why a key is not given back; but for the last, the TPM's own word.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Another boot chain.
    #[error(
        "the machine has booted something else than when this was sealed (PCRs {pcrs}); it is sealed anew once it is had online"
    )]
    Pcrs {
        /// Which are compared.
        pcrs: String,
    },
    /// The counter went on.
    #[error("this was made void since it was sealed")]
    Void,
    /// The clock went on.
    #[error("the time for which this was sealed is over, by the TPM's clock")]
    Expired,
    /// Another TPM's, or changed, or sealed before a TPM2_Clear.
    #[error("this was not sealed by this TPM as it is now, or was changed")]
    Foreign,
    /// A command was refused that says nothing about what was sealed.
    #[error("{0}; check that the TPM's owner has no password and that nothing else uses the TPM")]
    Refused(#[from] Refused),
    /// The TPM, or the way to it.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

impl Tpm {
    /// The value of the counter at `index`; `None` where there is none yet.
    pub fn counter(&mut self, index: u32) -> Result<Option<u64>, TpmError> {
        Ok(nv::counter(&mut self.context, index)?.map(|(value, _)| value))
    }

    /// Increments the counter at `index`, which is defined where there is none, and gives its value: from now on whatever was sealed
    /// to an earlier one is void. The TPM's owner must have no password.
    pub fn increment(&mut self, index: u32) -> Result<u64, TpmError> {
        nv::increment(&mut self.context, index)?;
        self.counter(index)?.ok_or(TpmError::Malformed { what: "its counter" })
    }

    /// Seals `key`, 32 bytes, to the registers' present values and the rest of `bound`. The counter must have been incremented once at
    /// least; a value that it does not have yet makes a key that is given back from that increment on.
    pub fn seal_key(&mut self, key: &SecretBytes, bound: &Bound) -> Result<SealedKey, TpmError> {
        if key.len() != KEY {
            return Err(TpmError::Malformed { what: "a key" });
        }
        let selection = selection(bound)?;
        let pcr_digest = pcr_digest(&mut self.context, bound, &selection)?;
        let (_, name) =
            nv::counter(&mut self.context, bound.index)?.ok_or(TpmError::Malformed { what: "its counter" })?;
        let public = sealed_object(&policy(bound, &pcr_digest, &name)).map_err(TpmError::refused("build an object"))?;
        object::with_owner_primary(&mut self.context, storage_key()?, |context, parent, _| {
            let made = create(context, parent, public, key).map_err(TpmError::refused("seal a key"))?;
            let public = made.0.marshall().map_err(TpmError::refused("marshal an object"))?;
            Ok(SealedKey {
                public,
                private: made.1.value().to_vec(),
                pcr_digest,
            })
        })
    }
}

/// The key in `sealed`, on a connection of its own: nobody else of this process may have the TPM open.
pub fn unseal_key(options: &TpmOptions, sealed: &SealedKey, bound: &Bound) -> Result<SecretBytes, SealError> {
    let foreign = |_: Error| SealError::Foreign;
    let wanted = rempart_unseal::Sealed {
        parent: storage_key()?,
        public: Public::unmarshall(&sealed.public).map_err(foreign)?,
        private: Private::try_from(sealed.private.as_slice()).map_err(foreign)?,
        pcrs: selection(bound)?,
        pcr_digest: Digest::try_from(sealed.pcr_digest.as_slice()).map_err(foreign)?,
        index: bound.index,
        counter: bound.counter,
        deadline: bound.deadline,
    };
    let key = rempart_unseal::unseal(&options.tcti, &wanted).map_err(|refused| meaning(refused, bound))?;
    match key.len() {
        KEY => Ok(key),
        _ => Err(SealError::Foreign),
    }
}

/// Response codes of format one, without the number of handle, parameter or session (Part 2, 6.6.2).
const FORMAT_ONE: u32 = 0x0bf;
const RC_VALUE: u32 = 0x084;
const RC_HANDLE: u32 = 0x08b;
const RC_POLICY_FAIL: u32 = 0x09d;
const RC_INTEGRITY: u32 = 0x09f;
/// TPM_RC_POLICY, TPM_RC_NV_UNINITIALIZED (format zero).
const RC_POLICY: u32 = 0x126;
const RC_NV_UNINITIALIZED: u32 = 0x14a;

fn meaning(refused: Refused, bound: &Bound) -> SealError {
    // Response codes of the resource manager's layer and of the TPM have the layer in the upper half.
    let code = refused.code & 0xffff;
    let one = code & FORMAT_ONE;
    match refused.step {
        Step::Pcrs if one == RC_VALUE => SealError::Pcrs {
            pcrs: words(&bound.pcrs),
        },
        Step::Counter if code == RC_POLICY || code == RC_NV_UNINITIALIZED => SealError::Void,
        Step::Index if one == RC_HANDLE => SealError::Void,
        Step::Clock if code == RC_POLICY => SealError::Expired,
        Step::Load | Step::Unseal if one == RC_INTEGRITY || one == RC_POLICY_FAIL => SealError::Foreign,
        Step::Load if one & 0x80 != 0 => SealError::Foreign,
        _ => SealError::Refused(refused),
    }
}

fn words(pcrs: &[u8]) -> String {
    pcrs.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

fn selection(bound: &Bound) -> Result<PcrSelectionList, TpmError> {
    let what = "select PCRs";
    if bound.pcrs.is_empty() || bound.pcrs.len() > MAX_PCRS || bound.pcrs.iter().any(|pcr| *pcr > 23) {
        return Err(TpmError::Malformed { what });
    }
    let slots = bound.pcrs.iter().map(|index| PcrSlot::try_from(1_u32 << index));
    let slots = slots.collect::<Result<Vec<_>, _>>().map_err(TpmError::refused(what))?;
    PcrSelectionListBuilder::new()
        .with_selection(algorithm(bound.bank), &slots)
        .build()
        .map_err(TpmError::refused(what))
}

/// SHA-256, the session's hash, over the values in the order of their numbers.
fn pcr_digest(context: &mut Context, bound: &Bound, selection: &PcrSelectionList) -> Result<[u8; 32], TpmError> {
    let (_, read, digests) = context
        .execute_without_session(|context| context.pcr_read(selection.clone()))
        .map_err(TpmError::refused("read its PCRs"))?;
    if digests.value().is_empty() {
        return Err(TpmError::NoBank { bank: bound.bank });
    }
    if &read != selection {
        return Err(TpmError::Malformed { what: "its PCRs" });
    }
    let values: Vec<u8> = digests
        .value()
        .iter()
        .flat_map(|value| value.value().to_vec())
        .collect();
    Ok(sha256(&values).0)
}

/// The policy digest that the three commands make of a session, one after the other (Part 3: each command's description).
fn policy(bound: &Bound, pcr_digest: &[u8; 32], counter_name: &[u8]) -> [u8; 32] {
    let mut bits = [0_u8; 3];
    for pcr in &bound.pcrs {
        bits[usize::from(pcr / 8)] |= 1 << (pcr % 8);
    }
    // TPML_PCR_SELECTION: one TPMS_PCR_SELECTION.
    let bank = bound.bank.tpm_alg().to_be_bytes();
    let selected = [&1_u32.to_be_bytes()[..], &bank, &[3], &bits].concat();
    let extended = |old: &[u8], command: u32, arguments: &[&[u8]]| {
        let whole = [&[old, &command.to_be_bytes()][..], arguments].concat().concat();
        sha256(&whole).0
    };
    let compared = |value: u64, offset: u16, operation: u16| {
        sha256(
            &[
                &value.to_be_bytes()[..],
                &offset.to_be_bytes(),
                &operation.to_be_bytes(),
            ]
            .concat(),
        )
        .0
    };
    let policy = extended(&[0; 32], POLICY_PCR, &[&selected, pcr_digest]);
    let policy = extended(&policy, POLICY_NV, &[&compared(bound.counter, 0, EQUAL), counter_name]);
    match bound.deadline {
        None => policy,
        Some(deadline) => extended(&policy, POLICY_COUNTER_TIMER, &[&compared(deadline, CLOCK, BELOW)]),
    }
}

/// The ECC storage key of the TCG's provisioning guidance (template H-2 without its unique field), as most programs make it.
fn storage_key() -> Result<Public, TpmError> {
    let build = || -> Result<Public, Error> {
        let attributes = ObjectAttributesBuilder::new()
            .with_fixed_tpm(true)
            .with_fixed_parent(true)
            .with_sensitive_data_origin(true)
            .with_user_with_auth(true)
            .with_no_da(true)
            .with_restricted(true)
            .with_decrypt(true)
            .build()?;
        let parameters = PublicEccParametersBuilder::new()
            .with_symmetric(SymmetricDefinitionObject::AES_128_CFB)
            .with_ecc_scheme(EccScheme::Null)
            .with_curve(EccCurve::NistP256)
            .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
            .with_is_signing_key(false)
            .with_is_decryption_key(true)
            .with_restricted(true)
            .build()?;
        PublicBuilder::new()
            .with_public_algorithm(PublicAlgorithm::Ecc)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_ecc_parameters(parameters)
            .with_ecc_unique_identifier(EccPoint::default())
            .build()
    };
    build().map_err(TpmError::refused("build the storage key's template"))
}

/// Neither userWithAuth nor an authorization: the policy is the only way. noDA: a refused policy is no guess at a password, and must
/// not lock the TPM for others.
fn sealed_object(policy: &[u8; 32]) -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_admin_with_policy(true)
        .with_no_da(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(Digest::try_from(policy.as_slice())?)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}

/// TPM2_Create in a session that is salted by the parent and encrypts the key on its way to the TPM.
fn create(
    context: &mut Context,
    parent: KeyHandle,
    public: Public,
    key: &SecretBytes,
) -> Result<(Public, Private), Error> {
    let data = SensitiveData::try_from(key.expose().as_slice())?;
    let session = context.execute_without_session(|context| {
        context.start_auth_session(
            Some(parent),
            None,
            None,
            SessionType::Hmac,
            SymmetricDefinition::AES_128_CFB,
            HashingAlgorithm::Sha256,
        )
    })?;
    let made = session.map_or_else(
        || Err(Error::WrapperError(tss_esapi::WrapperErrorKind::WrongValueFromTpm)),
        |session| in_session(context, session, parent, public, data),
    );
    if let Some(session) = session {
        context.flush_context(SessionHandle::from(session).into())?;
    }
    made
}

fn in_session(
    context: &mut Context,
    session: AuthSession,
    parent: KeyHandle,
    public: Public,
    data: SensitiveData,
) -> Result<(Public, Private), Error> {
    let (attributes, mask) = SessionAttributesBuilder::new()
        .with_decrypt(true)
        .with_continue_session(true)
        .build();
    context.tr_sess_set_attributes(session, attributes, mask)?;
    let made = context.execute_with_session(Some(session), |context| {
        context.create(parent, public, None, Some(data), None, None)
    })?;
    Ok((made.out_public, made.out_private))
}

//! The calls of ESYS that are needed, each once.
//!
//! Must never be used for more than one unsealing: what it made in the TPM goes when the value does.

use std::{
    ffi::CStr,
    ptr::{null, null_mut},
};

use rempart_secret::SecretBytes;
use tss_esapi::{
    constants::tss::{
        TPM2_ALG_AES, TPM2_ALG_CFB, TPM2_ALG_SHA256, TPM2_EO_EQ, TPM2_EO_UNSIGNED_LT, TPM2_SE_POLICY,
        TPMA_SESSION_CONTINUESESSION, TPMA_SESSION_ENCRYPT,
    },
    tss2_esys::{
        ESYS_CONTEXT, ESYS_TR, ESYS_TR_NONE, ESYS_TR_PASSWORD, ESYS_TR_RH_OWNER, Esys_CreatePrimary, Esys_Finalize,
        Esys_FlushContext, Esys_Free, Esys_Initialize, Esys_Load, Esys_PolicyCounterTimer, Esys_PolicyNV,
        Esys_PolicyPCR, Esys_StartAuthSession, Esys_TR_FromTPMPublic, Esys_TRSess_SetAttributes, Esys_Unseal,
        TPM2B_DIGEST, TPM2B_OPERAND, TPM2B_PRIVATE, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPM2B_SENSITIVE_DATA,
        TPMA_SESSION, TPML_PCR_SELECTION, TPMT_SYM_DEF, TPMU_SYM_KEY_BITS, TPMU_SYM_MODE, TSS2_TCTI_CONTEXT,
        Tss2_TctiLdr_Finalize, Tss2_TctiLdr_Initialize,
    },
};

use crate::{Refused, Step};

/// Offset of `clock` in TPMS_TIME_INFO (Part 2, 10.11.6): after `time`, a UINT64.
const CLOCK: u16 = 8;

/// A connection of its own.
pub(crate) struct Esys {
    context: *mut ESYS_CONTEXT,
    tcti: *mut TSS2_TCTI_CONTEXT,
    /// Transient objects and sessions, in the order of their making.
    made: Vec<ESYS_TR>,
}

/// An object or a session of this context.
#[derive(Clone, Copy)]
pub(crate) struct Handle(ESYS_TR);

fn judged(step: Step, code: u32) -> Result<(), Refused> {
    match code {
        0 => Ok(()),
        code => Err(Refused { step, code }),
    }
}

fn operand(value: u64) -> TPM2B_OPERAND {
    let bytes = value.to_be_bytes();
    let mut operand = TPM2B_OPERAND {
        size: 8,
        ..Default::default()
    };
    operand.buffer[..bytes.len()].copy_from_slice(&bytes);
    operand
}

impl Esys {
    pub(crate) fn open(tcti: &CStr) -> Result<Self, Refused> {
        let mut esys = Self {
            context: null_mut(),
            tcti: null_mut(),
            made: Vec::new(),
        };
        // SAFETY: Tss2_TctiLdr_Initialize(3): the string ends with NUL and is only read; the pointer to be set is ours. Where it fails it
        // sets nothing, and the drop of `esys` passes null by.
        judged(Step::Open, unsafe {
            Tss2_TctiLdr_Initialize(tcti.as_ptr(), &mut esys.tcti)
        })?;
        // SAFETY: the TCTI context was initialised above and lives as long as the ESYS context: `drop` ends them in the reverse order. A
        // null ABI version means the one that the library was built with.
        judged(Step::Open, unsafe {
            Esys_Initialize(&mut esys.context, esys.tcti, null_mut())
        })?;
        Ok(esys)
    }

    /// A primary key of the owner's hierarchy, whose authorization must be empty.
    pub(crate) fn primary(&mut self, template: &TPM2B_PUBLIC) -> Result<Handle, Refused> {
        let mut handle = ESYS_TR_NONE;
        let sensitive = TPM2B_SENSITIVE_CREATE::default();
        let (outside, pcrs) = (Default::default(), TPML_PCR_SELECTION::default());
        // SAFETY: the context is live (`open`), all inputs are whole structures that outlive the call, and outputs that are not wanted
        // may be null (Esys_CreatePrimary(3)).
        let code = unsafe {
            Esys_CreatePrimary(
                self.context,
                ESYS_TR_RH_OWNER,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &sensitive,
                template,
                &outside,
                &pcrs,
                &mut handle,
                null_mut(),
                null_mut(),
                null_mut(),
                null_mut(),
            )
        };
        judged(Step::Primary, code)?;
        Ok(self.made(handle))
    }

    pub(crate) fn load(
        &mut self,
        parent: Handle,
        private: &TPM2B_PRIVATE,
        public: &TPM2B_PUBLIC,
    ) -> Result<Handle, Refused> {
        let mut handle = ESYS_TR_NONE;
        // SAFETY: live context, a handle of it, whole structures that outlive the call.
        let code = unsafe {
            Esys_Load(
                self.context,
                parent.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                private,
                public,
                &mut handle,
            )
        };
        judged(Step::Load, code)?;
        Ok(self.made(handle))
    }

    /// The NV index; nothing is made in the TPM for it, and the context's own record of it ends with the context.
    pub(crate) fn index(&mut self, index: u32) -> Result<Handle, Refused> {
        let mut handle = ESYS_TR_NONE;
        // SAFETY: live context; the call reads the index's public area and sets the handle.
        let code = unsafe {
            Esys_TR_FromTPMPublic(
                self.context,
                index,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &mut handle,
            )
        };
        judged(Step::Index, code)?;
        Ok(Handle(handle))
    }

    /// Salted by `key`, which is a decryption key: what the TPM answers in it can be read by nobody on the wire.
    pub(crate) fn policy_session(&mut self, key: Handle) -> Result<Handle, Refused> {
        let mut handle = ESYS_TR_NONE;
        let symmetric = TPMT_SYM_DEF {
            algorithm: TPM2_ALG_AES,
            keyBits: TPMU_SYM_KEY_BITS { aes: 128 },
            mode: TPMU_SYM_MODE { aes: TPM2_ALG_CFB },
        };
        // SAFETY: live context, a handle of it, and a whole structure; a null nonce has ESYS draw one.
        let code = unsafe {
            Esys_StartAuthSession(
                self.context,
                key.0,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                null(),
                TPM2_SE_POLICY,
                &symmetric,
                TPM2_ALG_SHA256,
                &mut handle,
            )
        };
        judged(Step::Session, code)?;
        let session = self.made(handle);
        let wanted: TPMA_SESSION = TPMA_SESSION_ENCRYPT | TPMA_SESSION_CONTINUESESSION;
        // SAFETY: live context and a session of it.
        let code = unsafe { Esys_TRSess_SetAttributes(self.context, session.0, wanted, TPMA_SESSION::MAX) };
        judged(Step::Session, code)?;
        Ok(session)
    }

    pub(crate) fn policy_pcr(
        &mut self,
        session: Handle,
        digest: &TPM2B_DIGEST,
        pcrs: &TPML_PCR_SELECTION,
    ) -> Result<(), Refused> {
        // SAFETY: live context, a session of it, whole structures that outlive the call.
        judged(Step::Pcrs, unsafe {
            Esys_PolicyPCR(
                self.context,
                session.0,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                digest,
                pcrs,
            )
        })
    }

    /// The index reads itself: its authorization is empty and its attributes allow that.
    pub(crate) fn policy_counter(&mut self, session: Handle, index: Handle, value: u64) -> Result<(), Refused> {
        // SAFETY: live context, handles of it, a whole structure that outlives the call.
        judged(Step::Counter, unsafe {
            Esys_PolicyNV(
                self.context,
                index.0,
                index.0,
                session.0,
                ESYS_TR_PASSWORD,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &operand(value),
                0,
                TPM2_EO_EQ,
            )
        })
    }

    pub(crate) fn policy_clock_below(&mut self, session: Handle, deadline: u64) -> Result<(), Refused> {
        // SAFETY: live context, a session of it, a whole structure that outlives the call.
        judged(Step::Clock, unsafe {
            Esys_PolicyCounterTimer(
                self.context,
                session.0,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                ESYS_TR_NONE,
                &operand(deadline),
                CLOCK,
                TPM2_EO_UNSIGNED_LT,
            )
        })
    }

    pub(crate) fn unseal(&mut self, object: Handle, session: Handle) -> Result<SecretBytes, Refused> {
        let mut out: *mut TPM2B_SENSITIVE_DATA = null_mut();
        // SAFETY: live context, handles of it, and a pointer of ours to be set.
        let code = unsafe { Esys_Unseal(self.context, object.0, session.0, ESYS_TR_NONE, ESYS_TR_NONE, &mut out) };
        judged(Step::Unseal, code)?;
        // SAFETY: after success Esys_Unseal(3) has set it to a structure that is the caller's until Esys_Free, and nobody else has it.
        let data = unsafe { out.as_mut() }.ok_or(Refused {
            step: Step::Unseal,
            code,
        })?;
        let bytes = &mut data.buffer;
        let len = usize::from(data.size).min(bytes.len());
        let value = SecretBytes::build(len, |to| to.copy_from_slice(&bytes[..len]));
        bytes.fill(0);
        std::hint::black_box(bytes);
        // SAFETY: it came from ESYS and is not used any more.
        unsafe { Esys_Free(out.cast()) };
        Ok(value)
    }

    fn made(&mut self, handle: ESYS_TR) -> Handle {
        self.made.push(handle);
        Handle(handle)
    }
}

impl Drop for Esys {
    fn drop(&mut self) {
        for handle in self.made.drain(..).rev() {
            // SAFETY: made by this context and flushed nowhere else. A refusal leaves nothing to do: the TPM is gone, or the session was.
            let _ = unsafe { Esys_FlushContext(self.context, handle) };
        }
        if !self.context.is_null() {
            // SAFETY: initialised in `open` and ended here only; before its TCTI.
            unsafe { Esys_Finalize(&mut self.context) };
        }
        if !self.tcti.is_null() {
            // SAFETY: initialised in `open` and ended here only; the ESYS context over it is gone.
            unsafe { Tss2_TctiLdr_Finalize(&mut self.tcti) };
        }
    }
}

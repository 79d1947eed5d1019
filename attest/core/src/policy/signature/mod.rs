//! A policy's signatures: SSHSIG (OpenSSH PROTOCOL.sshsig) made by `ssh-keygen -Y sign -n rempart-policy`, one block for each signer
//! in one file, verified against an allowed-signers file. FIDO2 keys count only when somebody touched them. No clock is read here.

mod allowed;
/// The bytes of a FIDO2 signature that tell whether somebody was there.
mod fido;

use ssh_key::SshSig;

use self::allowed::Signer;
use super::instant::Instant;
use crate::limits;

/// The namespace keeps a signature over a commit or an e-mail from counting as one over a policy.
pub const NAMESPACE: &str = "rempart-policy";
const END: &str = "-----END SSH SIGNATURE-----";

/// Why a policy's signature does not count.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicySignatureError {
    /// The signature file is not SSHSIG.
    #[error("the policy's signature is not an SSH signature: sign with ssh-keygen -Y sign -n {NAMESPACE}")]
    Malformed,
    /// More than anybody needs.
    #[error(
        "the policy has more than {} signatures or {} bytes of them",
        limits::POLICY_SIGNATURES,
        limits::POLICY_SIGNATURE_FILE
    )]
    TooMany,
    /// Made for something else.
    #[error("the policy's signature was made for \"{0}\": sign with ssh-keygen -Y sign -n {NAMESPACE}")]
    Namespace(String),
    /// By a key that nobody allowed.
    #[error("the policy is signed by {fingerprint}, who is not an allowed signer")]
    Stranger {
        /// SHA-256 fingerprint of the key.
        fingerprint: String,
    },
    /// By the key but not over this text.
    #[error("the policy was changed after {principal} signed it")]
    Mismatch {
        /// Whose key it is.
        principal: String,
    },
    /// The security key signed without a touch.
    #[error("the security key of {principal} signed without being touched: sign with a key that demands it")]
    Untouched {
        /// Whose key it is.
        principal: String,
    },
    /// The signer may not sign at this time.
    #[error("{principal} may sign policies {window}, and it is {now}")]
    Window {
        /// Whose key it is.
        principal: String,
        /// From when, until when.
        window: String,
        /// The time given.
        now: Instant,
    },
    /// Some count, but not enough of them.
    #[error("{found} of {required} signers signed the policy{}", also(.refused))]
    TooFew {
        /// How many different principals signed.
        found: usize,
        /// How many must.
        required: usize,
        /// Why the others do not count.
        refused: Vec<PolicySignatureError>,
    },
    /// The Verifier's configuration asks for nothing.
    #[error("no signature at all is asked for: at least one signer must be required")]
    NoneRequired,
    /// The operator's file is wrong.
    #[error("line {line} of the allowed signers cannot be read: {why}")]
    AllowedSigners {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// The operator's file allows nobody.
    #[error("the allowed signers file names nobody who may sign policies")]
    Nobody,
}

fn also(refused: &[PolicySignatureError]) -> String {
    refused.iter().map(|why| format!("; {why}")).collect()
}

/// Who may sign.
#[derive(Clone, Debug)]
pub struct AllowedSigners(Vec<Signer>);

impl AllowedSigners {
    /// Reads an allowed-signers file; entries for other namespaces are passed over.
    pub fn parse(text: &str) -> Result<Self, PolicySignatureError> {
        allowed::parse(text).map(Self)
    }

    /// Verifies the armoured SSHSIG blocks in `signatures` over `text` at `now` (Unix seconds) and gives the principals who signed:
    /// at least `required` different ones. Two keys of one principal count once. A block that does not count refuses nothing by
    /// itself, but is named when there are too few.
    pub fn verify(
        &self,
        text: &[u8],
        signatures: &str,
        now: u64,
        required: usize,
    ) -> Result<Vec<String>, PolicySignatureError> {
        if required == 0 {
            return Err(PolicySignatureError::NoneRequired);
        }
        let mut principals: Vec<String> = Vec::new();
        let mut refused = Vec::new();
        for block in blocks(signatures)? {
            match self.verify_one(text, block, Instant(now)) {
                Ok(principal) if principals.iter().any(|p| p == principal) => {}
                Ok(principal) => principals.push(principal.to_owned()),
                Err(why) => refused.push(why),
            }
        }
        match (principals.len(), refused.len()) {
            (found, _) if found >= required => Ok(principals),
            // The usual case of one signature: its own reason, without the counting around it.
            (0, 1) => Err(refused.remove(0)),
            (found, _) => Err(PolicySignatureError::TooFew {
                found,
                required,
                refused,
            }),
        }
    }

    fn verify_one(&self, text: &[u8], block: &str, now: Instant) -> Result<&str, PolicySignatureError> {
        let signature = SshSig::from_pem(block).map_err(|_| PolicySignatureError::Malformed)?;
        namespace_is_ours(&signature)?;
        let signer = self.signer(&signature)?;
        may_sign_at(signer, now)?;
        signer
            .key
            .verify(NAMESPACE, text, &signature)
            .map_err(|_| PolicySignatureError::Mismatch {
                principal: signer.principal.clone(),
            })?;
        somebody_touched(signer, &signature)?;
        Ok(&signer.principal)
    }

    fn signer(&self, signature: &SshSig) -> Result<&Signer, PolicySignatureError> {
        let signer = self.0.iter().find(|s| s.key.key_data() == signature.public_key());
        signer.ok_or_else(|| PolicySignatureError::Stranger {
            fingerprint: signature.public_key().fingerprint(ssh_key::HashAlg::Sha256).to_string(),
        })
    }
}

/// The blocks of a signature file that are over exactly this text, by whomever: what is worth keeping when one more is added. It says
/// nothing about who may sign.
pub fn over_this_text(text: &[u8], signatures: &str) -> Result<Vec<String>, PolicySignatureError> {
    let holds = |block: &&str| {
        SshSig::from_pem(block).is_ok_and(|signature| {
            let key = ssh_key::PublicKey::from(signature.public_key().clone());
            key.verify(NAMESPACE, text, &signature).is_ok()
        })
    };
    Ok(blocks(signatures)?
        .into_iter()
        .filter(holds)
        .map(str::to_owned)
        .collect())
}

/// The armoured blocks of a signature file, in order; at least one, and nothing behind the last.
fn blocks(signatures: &str) -> Result<Vec<&str>, PolicySignatureError> {
    if signatures.len() > limits::POLICY_SIGNATURE_FILE {
        return Err(PolicySignatureError::TooMany);
    }
    let mut blocks = Vec::new();
    let mut rest = signatures.trim_start();
    while !rest.is_empty() {
        if blocks.len() == limits::POLICY_SIGNATURES {
            return Err(PolicySignatureError::TooMany);
        }
        let end = rest.find(END).ok_or(PolicySignatureError::Malformed)? + END.len();
        blocks.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    if blocks.is_empty() {
        return Err(PolicySignatureError::Malformed);
    }
    Ok(blocks)
}

fn namespace_is_ours(signature: &SshSig) -> Result<(), PolicySignatureError> {
    if signature.namespace() == NAMESPACE {
        return Ok(());
    }
    let shown = crate::eventlog::printable(signature.namespace(), 40);
    Err(PolicySignatureError::Namespace(shown))
}

fn may_sign_at(signer: &Signer, now: Instant) -> Result<(), PolicySignatureError> {
    if signer.valid_at(now) {
        return Ok(());
    }
    let from = signer.valid_after.map(|t| format!("from {t}"));
    let until = signer.valid_before.map(|t| format!("until {t}"));
    Err(PolicySignatureError::Window {
        principal: signer.principal.clone(),
        window: [from, until].into_iter().flatten().collect::<Vec<_>>().join(" "),
        now,
    })
}

fn somebody_touched(signer: &Signer, signature: &SshSig) -> Result<(), PolicySignatureError> {
    if fido::user_was_present(signer.key.key_data(), signature.signature()) {
        Ok(())
    } else {
        Err(PolicySignatureError::Untouched {
            principal: signer.principal.clone(),
        })
    }
}

#[cfg(test)]
mod tests;

//! A policy's signature: SSHSIG (OpenSSH PROTOCOL.sshsig) made by `ssh-keygen -Y sign -n rempart-policy`, verified against an
//! allowed-signers file (ssh-keygen(1), ALLOWED SIGNERS). An option in that file that we do not know is an error, not a hint.

use ssh_key::{PublicKey, SshSig};

/// The namespace keeps a signature over a commit or an e-mail from counting as one over a policy.
pub const NAMESPACE: &str = "rempart-policy";

/// Why a policy's signature does not count.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicySignatureError {
    /// The signature file is not SSHSIG.
    #[error("the policy's signature is not an SSH signature: sign with ssh-keygen -Y sign -n {NAMESPACE}")]
    Malformed,
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

/// Who may sign.
#[derive(Clone, Debug)]
pub struct AllowedSigners(Vec<(String, PublicKey)>);

impl AllowedSigners {
    /// Reads an allowed-signers file; entries for other namespaces are passed over.
    pub fn parse(text: &str) -> Result<Self, PolicySignatureError> {
        let mut signers = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line_text = line.trim();
            if line_text.is_empty() || line_text.starts_with('#') {
                continue;
            }
            let fail = |why| PolicySignatureError::AllowedSigners { line: at + 1, why };
            signers.extend(entry(line_text).map_err(fail)?);
        }
        if signers.is_empty() {
            Err(PolicySignatureError::Nobody)
        } else {
            Ok(Self(signers))
        }
    }

    /// Verifies an armoured SSHSIG over `text` and gives the principal who signed.
    pub fn verify(&self, text: &[u8], signature: &str) -> Result<&str, PolicySignatureError> {
        let signature: SshSig = SshSig::from_pem(signature).map_err(|_| PolicySignatureError::Malformed)?;
        if signature.namespace() != NAMESPACE {
            return Err(PolicySignatureError::Namespace(crate::eventlog::printable(
                signature.namespace(),
                40,
            )));
        }
        let signer = self.0.iter().find(|(_, key)| key.key_data() == signature.public_key());
        let (principal, key) = signer.ok_or_else(|| PolicySignatureError::Stranger {
            fingerprint: signature.public_key().fingerprint(ssh_key::HashAlg::Sha256).to_string(),
        })?;
        key.verify(NAMESPACE, text, &signature)
            .map_err(|_| PolicySignatureError::Mismatch {
                principal: principal.clone(),
            })?;
        Ok(principal)
    }
}

/// `principals [options] type key [comment]`. `None`: for other namespaces.
fn entry(line: &str) -> Result<Option<(String, PublicKey)>, &'static str> {
    let (principal, rest) = line.split_once([' ', '\t']).ok_or("principal and key are expected")?;
    let rest = rest.trim_start();
    let (options, key) = if rest.starts_with("ssh-") || rest.starts_with("ecdsa-") || rest.starts_with("sk-") {
        ("", rest)
    } else {
        rest.split_once([' ', '\t'])
            .ok_or("a key is expected after the options")?
    };
    if !for_policies(options)? {
        return Ok(None);
    }
    let key =
        PublicKey::from_openssh(key.trim()).map_err(|_| "the key is not an OpenSSH public key of a known type")?;
    Ok(Some((principal.to_owned(), key)))
}

/// Only `namespaces="…"` is known: a validity time or an authority that we ignored would let more keys sign than the operator meant.
fn for_policies(options: &str) -> Result<bool, &'static str> {
    if options.is_empty() {
        return Ok(true);
    }
    let list = options.strip_prefix("namespaces=\"").and_then(|o| o.strip_suffix('"'));
    let list = list
        .filter(|l| !l.contains('"'))
        .ok_or("only the option namespaces=\"…\" is supported")?;
    Ok(list.split(',').any(|n| n == NAMESPACE))
}

#[cfg(test)]
mod tests {
    //! Signatures made by ssh-keygen.
    use super::*;

    const TEXT: &[u8] = include_bytes!("../../../../tests/fixtures/policy/text");
    const BY_OWNER: &str = include_str!("../../../../tests/fixtures/policy/text.owner.sig");
    const BY_SECOND: &str = include_str!("../../../../tests/fixtures/policy/text.second.sig");
    const FOR_FILES: &str = include_str!("../../../../tests/fixtures/policy/text.file.sig");
    const OWNER: &str = include_str!("../../../../tests/fixtures/policy/owner.pub");
    const SECOND: &str = include_str!("../../../../tests/fixtures/policy/second.pub");

    fn signers() -> AllowedSigners {
        AllowedSigners::parse(&format!("# ours\nowner@example {OWNER}")).expect("reads")
    }

    #[test]
    fn ed25519_and_p256_signatures_of_allowed_signers_count() {
        assert_eq!(signers().verify(TEXT, BY_OWNER), Ok("owner@example"));
        let second = AllowedSigners::parse(&format!("second@example namespaces=\"file,rempart-policy\" {SECOND}"))
            .expect("reads");
        assert_eq!(second.verify(TEXT, BY_SECOND), Ok("second@example"));
    }

    #[test]
    fn a_stranger_another_namespace_another_text_and_rubbish_do_not() {
        assert!(matches!(
            signers().verify(TEXT, BY_SECOND),
            Err(PolicySignatureError::Stranger { .. })
        ));
        assert_eq!(
            signers().verify(TEXT, FOR_FILES),
            Err(PolicySignatureError::Namespace("file".into()))
        );
        let mismatch = PolicySignatureError::Mismatch {
            principal: "owner@example".into(),
        };
        assert_eq!(signers().verify(b"another text", BY_OWNER), Err(mismatch));
        assert_eq!(signers().verify(TEXT, "rubbish"), Err(PolicySignatureError::Malformed));
    }

    #[test]
    fn a_signer_for_other_namespaces_may_not_sign_policies() {
        let none = AllowedSigners::parse(&format!("owner@example namespaces=\"git\" {OWNER}"));
        assert_eq!(none.err(), Some(PolicySignatureError::Nobody));
    }

    #[test]
    fn an_option_that_we_would_ignore_is_an_error() {
        for option in [
            "valid-before=\"20200101\"",
            "cert-authority",
            "namespaces=\"rempart-policy\",valid-after=\"2030\"",
        ] {
            let refused = AllowedSigners::parse(&format!("owner@example {option} {OWNER}")).err();
            assert!(
                matches!(refused, Some(PolicySignatureError::AllowedSigners { line: 1, .. })),
                "{option}"
            );
        }
    }
}

//! Judges break-glass tokens: who signed, for which node and boot, until when, and whether it was used before. Acts on nothing itself.

use rempart_api::{
    breakglass::{MAX_MINUTES, MAX_TOKEN, NAMESPACE, Token},
    guard::Lift,
};
use sha2::{Digest as _, Sha256};
use ssh_key::{PublicKey, SshSig};
use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// Why a token lifts nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// Nobody may sign.
    #[error(
        "nothing is lifted: no key in {path} may sign; the owner's public key belongs there, before the guard starts"
    )]
    NoKeys {
        /// Of the keys.
        path: String,
    },
    /// Not a token.
    #[error("nothing is lifted: the token cannot be read ({0}); make one with `rempart break-glass request`")]
    Malformed(String),
    /// Not signed.
    #[error("nothing is lifted: its signature cannot be read ({0}); sign with `ssh-keygen -Y sign -n {NAMESPACE}`")]
    SignatureMalformed(String),
    /// Signed by somebody else, or something else was signed.
    #[error("nothing is lifted: the signature is by none of the owner's keys, or over another text")]
    Foreign,
    /// For somebody else.
    #[error("nothing is lifted: the token is for node {0}, which is not this one")]
    OtherNode(String),
    /// For another time.
    #[error("nothing is lifted: the token is for another boot of this node; request a new one")]
    OtherBoot,
    /// Too late.
    #[error("nothing is lifted: the token was good until {0}; request a new one")]
    Expired(String),
    /// A value makes no sense.
    #[error("nothing is lifted: the token's {0}")]
    Value(&'static str),
    /// A second time.
    #[error("nothing is lifted: the token was used before in this boot; request a new one")]
    Used,
}

/// A token that counts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// What it says.
    pub(crate) token: Token,
    /// SHA-256 fingerprint of the key that signed it.
    pub(crate) signer: String,
    /// SHA-256 of its text.
    digest: [u8; 32],
}

/// One line for the log.
impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lift: Vec<&str> = self.token.lift.iter().map(|lift| lift.word()).collect();
        write!(
            f,
            "{} lifted for {} min, signed by {}, reason: {}",
            lift.join(" and "),
            self.token.minutes,
            self.signer,
            self.token.reason.escape_default()
        )
    }
}

impl Accepted {
    /// What tells it from every other token: its text has to be signed anew to be used again.
    pub(crate) fn identity(&self) -> String {
        hex::encode(self.digest)
    }

    /// For how long it lifts.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.token.minutes) * 60)
    }
}

/// The keys of a file as `ssh-keygen` writes them; lines that are none are passed over, and told.
pub(crate) fn keys(text: &str) -> Vec<PublicKey> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| {
            PublicKey::from_openssh(line)
                .inspect_err(|error| eprintln!("<4>rempart-guard: a break-glass key is no public key: {error}"))
                .ok()
        })
        .collect()
}

/// What is known of this machine.
pub(crate) struct Here<'a> {
    /// Keys that may sign.
    pub(crate) keys: &'a [PublicKey],
    /// Where they stand.
    pub(crate) path: &'a str,
    /// Is this the node's name?
    pub(crate) is_node: &'a dyn Fn(&str) -> bool,
    /// This boot.
    pub(crate) boot_id: &'a str,
    /// The wall clock, which root sets: a token is also good for one use only.
    pub(crate) now: SystemTime,
}

/// Judges text and signature. Whether it was used, the caller knows.
pub(crate) fn judge(text: &str, signature: &str, here: &Here<'_>) -> Result<Accepted, TokenError> {
    if here.keys.is_empty() {
        return Err(TokenError::NoKeys {
            path: here.path.to_owned(),
        });
    }
    if text.len() > MAX_TOKEN {
        return Err(TokenError::Malformed(format!("longer than {MAX_TOKEN} bytes")));
    }
    let signature = SshSig::from_pem(signature).map_err(|error| TokenError::SignatureMalformed(error.to_string()))?;
    let signer = here
        .keys
        .iter()
        .find(|key| {
            key.key_data() == signature.public_key() && key.verify(NAMESPACE, text.as_bytes(), &signature).is_ok()
        })
        .ok_or(TokenError::Foreign)?;
    let token: Token = toml::from_str(text).map_err(|error| TokenError::Malformed(error.message().to_owned()))?;
    if !(here.is_node)(&token.node) {
        return Err(TokenError::OtherNode(token.node.escape_default().to_string()));
    }
    if token.boot_id != here.boot_id {
        return Err(TokenError::OtherBoot);
    }
    let until = humantime::parse_rfc3339(&token.not_after)
        .map_err(|_| TokenError::Value("not_after is no moment like 2027-01-15T08:00:00Z"))?;
    if here.now > until {
        return Err(TokenError::Expired(token.not_after));
    }
    if !(1..=MAX_MINUTES).contains(&token.minutes) {
        return Err(TokenError::Value("minutes are not from 1 to 240"));
    }
    if token.lift.is_empty() {
        return Err(TokenError::Value("lift names nothing"));
    }
    if token.reason.trim().is_empty() {
        return Err(TokenError::Value("reason is empty"));
    }
    let signer = signer.fingerprint(ssh_key::HashAlg::Sha256).to_string();
    Ok(Accepted {
        token,
        signer,
        digest: Sha256::digest(text).into(),
    })
}

/// Bits of what is lifted.
pub(crate) fn bits(lift: &[Lift]) -> u32 {
    lift.iter().fold(0, |bits, lift| {
        bits | match lift {
            Lift::Files => rempart_bpf_common::Lift::Files as u32,
            Lift::Machine => rempart_bpf_common::Lift::Machine as u32,
        }
    })
}

/// What these bits stand for.
pub(crate) fn words(bits_: u32) -> Vec<Lift> {
    [Lift::Files, Lift::Machine]
        .into_iter()
        .filter(|lift| bits(&[*lift]) & bits_ != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path, process::Command};

    const BOOT: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
    const GOOD: &str = "node = \"web-1\"\nboot_id = \"0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\"\nlift = [\"files\"]\nminutes = 30\nnot_after = \"2027-01-15T08:00:00Z\"\nreason = \"upgrade\"\n";

    struct Owner(tempfile::TempDir);

    impl Owner {
        fn new(kind: &str) -> Self {
            let owner = Self(tempfile::tempdir().expect("a folder"));
            let args = ["-q", "-t", kind, "-N", "", "-f"];
            let made = Command::new("ssh-keygen").args(args).arg(owner.at("key")).status();
            assert!(made.is_ok_and(|status| status.success()));
            owner
        }

        fn at(&self, name: &str) -> std::path::PathBuf {
            Path::new(self.0.path()).join(name)
        }

        fn sign(&self, text: &str, namespace: &str) -> String {
            fs::write(self.at("token"), text).expect("written");
            let _ = fs::remove_file(self.at("token.sig"));
            let args = ["-q", "-Y", "sign", "-n", namespace, "-f"];
            let signed = Command::new("ssh-keygen")
                .args(args)
                .arg(self.at("key"))
                .arg(self.at("token"))
                .status();
            assert!(signed.is_ok_and(|status| status.success()));
            fs::read_to_string(self.at("token.sig")).expect("read")
        }

        fn keys(&self) -> Vec<PublicKey> {
            keys(&fs::read_to_string(self.at("key.pub")).expect("read"))
        }
    }

    fn at(text: &str, signature: &str, keys: &[PublicKey], now: &str) -> Result<Accepted, TokenError> {
        let here = Here {
            keys,
            path: "/keys",
            is_node: &|name| name == "web-1",
            boot_id: BOOT,
            now: humantime::parse_rfc3339(now).expect("a moment"),
        };
        judge(text, signature, &here)
    }

    const BEFORE: &str = "2027-01-15T07:59:00Z";

    #[test]
    fn a_token_of_the_owners_counts_for_each_kind_of_key() {
        for kind in ["ed25519", "ecdsa"] {
            let owner = Owner::new(kind);
            let accepted = at(GOOD, &owner.sign(GOOD, NAMESPACE), &owner.keys(), BEFORE).expect("accepted");
            assert_eq!(accepted.token.lift, [Lift::Files]);
            assert_eq!(accepted.duration(), Duration::from_secs(1800));
            assert!(accepted.signer.starts_with("SHA256:"));
        }
    }

    #[test]
    fn every_other_signature_is_foreign() {
        let (owner, other) = (Owner::new("ed25519"), Owner::new("ed25519"));
        let signed = owner.sign(GOOD, NAMESPACE);
        let judged = |text: &str, signature: &str| at(text, signature, &owner.keys(), BEFORE);
        assert_eq!(judged(GOOD, &other.sign(GOOD, NAMESPACE)), Err(TokenError::Foreign));
        assert_eq!(
            judged(GOOD, &owner.sign(GOOD, "rempart-policy")),
            Err(TokenError::Foreign)
        );
        assert_eq!(judged(&GOOD.replace("30", "31"), &signed), Err(TokenError::Foreign));
        assert!(matches!(judged(GOOD, "x"), Err(TokenError::SignatureMalformed(_))));
        assert!(matches!(at(GOOD, &signed, &[], BEFORE), Err(TokenError::NoKeys { .. })));
    }

    #[test]
    fn node_boot_time_and_values_are_judged() {
        let owner = Owner::new("ed25519");
        let judged = |from: &str, to: &str, now: &str| {
            let text = GOOD.replace(from, to);
            at(&text, &owner.sign(&text, NAMESPACE), &owner.keys(), now)
        };
        assert!(matches!(
            judged("web-1", "web-2", BEFORE),
            Err(TokenError::OtherNode(_))
        ));
        assert_eq!(judged("0f1e", "1f1e", BEFORE), Err(TokenError::OtherBoot));
        assert!(matches!(
            judged("x", "x", "2027-01-15T08:00:01Z"),
            Err(TokenError::Expired(_))
        ));
        for (from, to) in [
            ("= 30", "= 0"),
            ("= 30", "= 241"),
            ("[\"files\"]", "[]"),
            ("\"upgrade\"", "\" \""),
            ("2027-01-15T", "soon "),
        ] {
            assert!(matches!(judged(from, to, BEFORE), Err(TokenError::Value(_))), "{to}");
        }
        for (from, to) in [
            ("\"files\"", "\"all\""),
            ("reason", "cause"),
            ("reason = \"upgrade\"", ""),
        ] {
            assert!(
                matches!(judged(from, to, BEFORE), Err(TokenError::Malformed(_))),
                "{to}"
            );
        }
    }

    #[test]
    fn what_is_lifted_survives_its_bits() {
        for lift in [&[Lift::Files][..], &[Lift::Machine], &[Lift::Files, Lift::Machine]] {
            assert_eq!(words(bits(lift)), lift);
        }
        assert!(words(0).is_empty());
    }
}

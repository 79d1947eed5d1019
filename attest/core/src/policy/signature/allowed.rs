//! An allowed-signers file (ssh-keygen(1), ALLOWED SIGNERS): who may sign, for what, from when until when. Every option that
//! we do not honour is an error with its line: one that was passed over would let more keys sign than the operator meant.

use ssh_key::public::KeyData;
use ssh_key::{EcdsaCurve, PublicKey};

use super::super::instant::Instant;
use super::{NAMESPACE, PolicySignatureError};
use crate::limits;

/// One line of the file that may sign policies.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    pub(super) principal: String,
    pub(super) key: PublicKey,
    pub(super) valid_after: Option<Instant>,
    pub(super) valid_before: Option<Instant>,
}

impl Signer {
    /// Both ends count as valid, as they do for ssh-keygen.
    pub(super) fn valid_at(&self, now: Instant) -> bool {
        self.valid_after.is_none_or(|from| from <= now) && self.valid_before.is_none_or(|until| now <= until)
    }
}

/// The lines that count for policies; at least one, each key once.
pub(super) fn parse(text: &str) -> Result<Vec<Signer>, PolicySignatureError> {
    let mut signers: Vec<Signer> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let fail = |why| PolicySignatureError::AllowedSigners { line: at + 1, why };
        if at >= limits::ALLOWED_SIGNERS {
            return Err(fail("there are too many lines"));
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(signer) = entry(line).map_err(fail)? else {
            continue;
        };
        if signers.iter().any(|s| s.key.key_data() == signer.key.key_data()) {
            return Err(fail("this key stands in the file twice: whose is it, and until when?"));
        }
        signers.push(signer);
    }
    if signers.is_empty() {
        Err(PolicySignatureError::Nobody)
    } else {
        Ok(signers)
    }
}

/// `principal [options] type key [comment]`. `None`: for other namespaces.
fn entry(line: &str) -> Result<Option<Signer>, &'static str> {
    let (principal, rest) = line.split_once([' ', '\t']).ok_or("principal and key are expected")?;
    // Signatures are counted by principal, so each line must name exactly one.
    if principal.contains(['*', '?', '!', ',', '"']) {
        return Err("one principal in plain text is expected, no pattern and no list");
    }
    let rest = rest.trim_start();
    let is_key = ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| rest.starts_with(kind));
    let (options, key) = if is_key { ("", rest) } else { split_options(rest)? };
    let options = Options::parse(options)?;
    if !options.for_policies {
        return Ok(None);
    }
    let key = PublicKey::from_openssh(key.trim()).map_err(|_| "the key is not an OpenSSH public key")?;
    supported(key.key_data())?;
    Ok(Some(Signer {
        principal: principal.to_owned(),
        key,
        valid_after: options.valid_after,
        valid_before: options.valid_before,
    }))
}

/// Options end at the first white space outside of quotes.
fn split_options(rest: &str) -> Result<(&str, &str), &'static str> {
    let mut quoted = false;
    let end = rest.find(|c: char| {
        quoted ^= c == '"';
        !quoted && (c == ' ' || c == '\t')
    });
    end.map(|end| rest.split_at(end))
        .ok_or("a key is expected after the options")
}

fn supported(key: &KeyData) -> Result<(), &'static str> {
    match key {
        KeyData::Ed25519(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        KeyData::Ecdsa(key) if key.curve() == EcdsaCurve::NistP256 => Ok(()),
        _ => Err(
            "the key's type is not accepted: use ed25519, ecdsa with 256 bits, or a FIDO2 key (ed25519-sk, ecdsa-sk)",
        ),
    }
}

struct Options {
    for_policies: bool,
    valid_after: Option<Instant>,
    valid_before: Option<Instant>,
}

impl Options {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut out = Self {
            for_policies: true,
            valid_after: None,
            valid_before: None,
        };
        let mut rest = text;
        while !rest.is_empty() {
            let (name, after) = rest.split_once("=\"").unwrap_or((rest, ""));
            if name.split(',').any(|n| n.eq_ignore_ascii_case("cert-authority")) {
                return Err("cert-authority is not accepted: list the signers' own keys");
            }
            let (value, after) = after
                .split_once('"')
                .ok_or("an option is not of the form name=\"value\"")?;
            out.set(name, value)?;
            rest = match after.strip_prefix(',') {
                Some("") => return Err("the options end in a comma"),
                Some(next) => next,
                None if after.is_empty() => after,
                None => return Err("options are separated by commas"),
            };
        }
        if matches!((out.valid_after, out.valid_before), (Some(after), Some(before)) if after >= before) {
            return Err("valid-after is not before valid-before");
        }
        Ok(out)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        const TIME: &str =
            "a time is expected as YYYYMMDD[HHMM[SS]]Z; the Z is needed, local times differ between machines";
        match name.to_ascii_lowercase().as_str() {
            "namespaces" => {
                if value.contains(['*', '?', '!']) {
                    return Err("namespaces are compared as plain text, patterns are not accepted");
                }
                self.for_policies = value.split(',').any(|n| n == NAMESPACE);
            }
            "valid-after" => self.valid_after = Some(Instant::from_openssh(value).ok_or(TIME)?),
            "valid-before" => self.valid_before = Some(Instant::from_openssh(value).ok_or(TIME)?),
            _ => return Err("only the options namespaces, valid-after and valid-before are supported"),
        }
        Ok(())
    }
}

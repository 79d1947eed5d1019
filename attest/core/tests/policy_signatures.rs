//! Signatures between us and ssh-keygen: FIDO2 keys (made here in software, byte for byte as PROTOCOL.u2f says, and accepted by
//! ssh-keygen, which proves that the negative cases are about one changed bit) and the validity times of allowed signers.

use std::path::Path;
use std::process::{Command, Stdio};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_STANDARD};
use rempart_attest::policy::signature::{AllowedSigners, NAMESPACE, PolicySignatureError};
use ssh_key::public::{EcdsaPublicKey, Ed25519PublicKey, KeyData, SkEcdsaSha2NistP256, SkEd25519};
use ssh_key::{HashAlg, Mpint, PublicKey, SshSig};

const TEXT: &[u8] = b"version = 1\n";
const PRESENT: u8 = 1;
const VERIFIED: u8 = 4;
const COUNTER: u32 = 7;
const NOW: u64 = 1_800_000_000;

/// A security key without hardware.
enum SecurityKey {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl SecurityKey {
    fn all() -> [Self; 2] {
        [
            Self::Ed25519(Ed25519KeyPair::generate().expect("key")),
            Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key")),
        ]
    }

    fn public(&self) -> KeyData {
        match self {
            Self::Ed25519(key) => {
                let point = Ed25519PublicKey::try_from(key.public_key().as_ref()).expect("32 bytes");
                KeyData::SkEd25519(SkEd25519::new(point, "ssh:"))
            }
            Self::P256(key) => {
                let EcdsaPublicKey::NistP256(point) =
                    EcdsaPublicKey::from_sec1_bytes(key.public_key().as_ref()).expect("point")
                else {
                    panic!("another curve")
                };
                KeyData::SkEcdsaSha2NistP256(SkEcdsaSha2NistP256::new(point, "ssh:"))
            }
        }
    }

    fn algorithm(&self) -> &'static [u8] {
        match self {
            Self::Ed25519(_) => b"sk-ssh-ed25519@openssh.com",
            Self::P256(_) => b"sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    /// What the authenticator signs: hash of the application, flags, counter, hash of the message.
    fn sign(&self, flags: u8, message: &[u8]) -> Vec<u8> {
        let signed = [
            digest(&SHA256, b"ssh:").as_ref(),
            &[flags],
            &COUNTER.to_be_bytes(),
            digest(&SHA256, message).as_ref(),
        ]
        .concat();
        match self {
            Self::Ed25519(key) => key.sign(&signed).as_ref().to_vec(),
            Self::P256(key) => mpints(key.sign(&SystemRandom::new(), &signed).expect("signs").as_ref()),
        }
    }

    /// An armoured SSHSIG by a touch that is told as `told` and was signed as `signed`.
    fn sshsig(&self, signed: u8, told: u8) -> String {
        let message = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, TEXT).expect("data");
        let signature = [
            string(self.algorithm()),
            string(&self.sign(signed, &message)),
            vec![told],
            COUNTER.to_be_bytes().to_vec(),
        ]
        .concat();
        armoured(self, &signature)
    }

    fn allowed(&self, options: &str) -> String {
        let key = PublicKey::from(self.public()).to_openssh().expect("line");
        format!("alice@example {options}{key}\n")
    }
}

/// SSHSIG around a signature's own encoding.
fn armoured(key: &SecurityKey, signature: &[u8]) -> String {
    let key = PublicKey::from(key.public()).to_bytes().expect("key");
    let whole = [
        b"SSHSIG\0\0\0\x01".to_vec(),
        string(&key),
        string(NAMESPACE.as_bytes()),
        string(b""),
        string(b"sha512"),
        string(signature),
    ]
    .concat();
    let body = BASE64_STANDARD.encode(whole);
    let lines: Vec<&str> = (0..body.len())
        .step_by(70)
        .map(|at| &body[at..body.len().min(at + 70)])
        .collect();
    format!(
        "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
        lines.join("\n")
    )
}

/// An SSH string (RFC 4251, 5).
fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat()
}

/// r and s as SSH writes them.
fn mpints(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(32);
    [r, s]
        .iter()
        .flat_map(|part| string(Mpint::from_positive_bytes(part).expect("number").as_bytes()))
        .collect()
}

/// What ssh-keygen says of a signature, at a time.
fn ssh_keygen_accepts(folder: &Path, allowed: &str, signature: &str, at: Option<&str>) -> bool {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("write");
        path
    };
    let allowed = write("allowed", allowed);
    let signature = write("signature", signature);
    let text = write("text", std::str::from_utf8(TEXT).expect("text"));
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-Y", "verify", "-n", NAMESPACE, "-I", "alice@example", "-f"])
        .arg(allowed)
        .arg("-s")
        .arg(signature);
    if let Some(at) = at {
        command.arg(format!("-Overify-time={at}"));
    }
    let text = std::fs::File::open(text).expect("text");
    let output = command
        .stdin(Stdio::from(text))
        .output()
        .expect("ssh-keygen (openssh-client) must be installed");
    output.status.success()
}

fn ours(allowed: &str, signature: &str, now: u64) -> Result<Vec<String>, PolicySignatureError> {
    AllowedSigners::parse(allowed)?.verify(TEXT, signature, now, 1)
}

#[test]
fn a_touched_security_key_counts_for_both() {
    let folder = tempfile::tempdir().expect("folder");
    for key in SecurityKey::all() {
        for flags in [PRESENT, PRESENT | VERIFIED] {
            let (allowed, signature) = (key.allowed(""), key.sshsig(flags, flags));
            assert!(ssh_keygen_accepts(folder.path(), &allowed, &signature, None), "{flags}");
            assert_eq!(
                ours(&allowed, &signature, NOW),
                Ok(vec!["alice@example".to_owned()]),
                "{flags}"
            );
        }
    }
}

#[test]
fn an_untouched_one_does_not() {
    for key in SecurityKey::all() {
        for flags in [0, VERIFIED, 0x80] {
            let refused = ours(&key.allowed(""), &key.sshsig(flags, flags), NOW);
            let principal = "alice@example".to_owned();
            assert_eq!(refused, Err(PolicySignatureError::Untouched { principal }), "{flags}");
        }
    }
}

#[test]
fn a_signature_that_calls_itself_another_kind_does_not_get_around_the_touch() {
    for key in SecurityKey::all() {
        // For names that it does not know, the reader of SSH formats takes the data whole, flags and counter at its end.
        let message = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, TEXT).expect("data");
        for flags in [0, PRESENT] {
            let whole = [key.sign(flags, &message), vec![flags], COUNTER.to_be_bytes().to_vec()].concat();
            for name in ["ssh-ed25519", "ecdsa-sha2-nistp256", "another@example.org", "ssh-dss"] {
                let signature = [string(name.as_bytes()), string(&whole)].concat();
                let refused = ours(&key.allowed(""), &armoured(&key, &signature), NOW);
                assert!(refused.is_err(), "{name} {flags}: {refused:?}");
            }
        }
    }
}

#[test]
fn flags_that_the_key_did_not_sign_do_not_count_either() {
    for key in SecurityKey::all() {
        let refused = ours(&key.allowed(""), &key.sshsig(0, PRESENT), NOW);
        assert!(
            matches!(refused, Err(PolicySignatureError::Mismatch { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn validity_times_mean_the_same_to_both() {
    let folder = tempfile::tempdir().expect("folder");
    let [key, _] = SecurityKey::all();
    let signature = key.sshsig(PRESENT, PRESENT);
    // 2027-01-15T08:00:00Z is NOW.
    for options in [
        "valid-after=\"20270115075959Z\" ",
        "valid-after=\"20270115080000Z\" ",
        "valid-after=\"20270115080001Z\" ",
        "valid-before=\"20270115075959Z\" ",
        "valid-before=\"20270115080000Z\" ",
        "valid-before=\"20270115080001Z\" ",
        "valid-after=\"20270101Z\",valid-before=\"202702010000Z\" ",
        "valid-after=\"20260101Z\",valid-before=\"20260201Z\",namespaces=\"rempart-policy\" ",
    ] {
        let allowed = key.allowed(options);
        let theirs = ssh_keygen_accepts(folder.path(), &allowed, &signature, Some("20270115080000Z"));
        assert_eq!(ours(&allowed, &signature, NOW).is_ok(), theirs, "{options}");
    }
}

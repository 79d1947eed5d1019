//! Signatures made by ssh-keygen. What real security keys make is tested in tests/policy_signatures.rs.

use super::*;

const TEXT: &[u8] = include_bytes!("../../../../../tests/fixtures/policy/text");
const BY_OWNER: &str = include_str!("../../../../../tests/fixtures/policy/text.owner.sig");
const BY_SECOND: &str = include_str!("../../../../../tests/fixtures/policy/text.second.sig");
const FOR_FILES: &str = include_str!("../../../../../tests/fixtures/policy/text.file.sig");
const OWNER: &str = include_str!("../../../../../tests/fixtures/policy/owner.pub");
const SECOND: &str = include_str!("../../../../../tests/fixtures/policy/second.pub");
/// 2027-01-15T08:00:00Z.
const NOW: u64 = 1_800_000_000;

fn signers() -> AllowedSigners {
    AllowedSigners::parse(&format!("# ours\nowner@example {OWNER}")).expect("reads")
}

fn both() -> AllowedSigners {
    AllowedSigners::parse(&format!("owner@example {OWNER}\nsecond@example {SECOND}")).expect("reads")
}

fn one(text: &[u8], signature: &str) -> Result<Vec<String>, PolicySignatureError> {
    signers().verify(text, signature, NOW, 1)
}

#[test]
fn ed25519_and_p256_signatures_of_allowed_signers_count() {
    assert_eq!(one(TEXT, BY_OWNER), Ok(vec!["owner@example".to_owned()]));
    let second =
        AllowedSigners::parse(&format!("second@example namespaces=\"file,rempart-policy\" {SECOND}")).expect("reads");
    assert_eq!(
        second.verify(TEXT, BY_SECOND, NOW, 1),
        Ok(vec!["second@example".to_owned()])
    );
}

#[test]
fn a_stranger_another_namespace_another_text_and_rubbish_do_not() {
    assert!(matches!(
        one(TEXT, BY_SECOND),
        Err(PolicySignatureError::Stranger { .. })
    ));
    assert_eq!(
        one(TEXT, FOR_FILES),
        Err(PolicySignatureError::Namespace("file".into()))
    );
    let mismatch = PolicySignatureError::Mismatch {
        principal: "owner@example".into(),
    };
    assert_eq!(one(b"another text", BY_OWNER), Err(mismatch));
    for rubbish in ["", " \n", "rubbish", &BY_OWNER[1..], &BY_OWNER[..BY_OWNER.len() / 2]] {
        assert_eq!(one(TEXT, rubbish), Err(PolicySignatureError::Malformed), "{rubbish}");
    }
    let followed = format!("{BY_OWNER}\nand more");
    assert_eq!(one(TEXT, &followed), Err(PolicySignatureError::Malformed));
}

#[test]
fn several_signers_count_once_each() {
    let two = format!("{BY_OWNER}{BY_SECOND}");
    let names = vec!["owner@example".to_owned(), "second@example".to_owned()];
    assert_eq!(both().verify(TEXT, &two, NOW, 2), Ok(names));
    let twice = format!("{BY_OWNER}{BY_OWNER}");
    let too_few = |found, refused| PolicySignatureError::TooFew {
        found,
        required: 2,
        refused,
    };
    assert_eq!(both().verify(TEXT, &twice, NOW, 2), Err(too_few(1, vec![])));
    // Two keys of one person are one person.
    let alone = AllowedSigners::parse(&format!("owner@example {OWNER}\nowner@example {SECOND}")).expect("reads");
    assert_eq!(alone.verify(TEXT, &two, NOW, 2), Err(too_few(1, vec![])));
    let with_other_purpose = format!("{BY_OWNER}{FOR_FILES}");
    let refused = both().verify(TEXT, &with_other_purpose, NOW, 2);
    assert_eq!(
        refused,
        Err(too_few(1, vec![PolicySignatureError::Namespace("file".into())]))
    );
    assert!(refused.expect_err("too few").to_string().contains("1 of 2 signers"));
    assert_eq!(
        both().verify(TEXT, &two, NOW, 0),
        Err(PolicySignatureError::NoneRequired)
    );
}

#[test]
fn signatures_over_another_text_are_not_kept() {
    let both = format!("{BY_OWNER}{FOR_FILES}{BY_SECOND}");
    let kept = over_this_text(TEXT, &both).expect("reads");
    assert_eq!(kept, [BY_OWNER.trim(), BY_SECOND.trim()]);
    assert_eq!(over_this_text(b"another text", &both), Ok(vec![]));
    assert_eq!(over_this_text(TEXT, "rubbish"), Err(PolicySignatureError::Malformed));
}

#[test]
fn a_flood_of_signatures_is_refused() {
    let many = BY_OWNER.repeat(limits::POLICY_SIGNATURES + 1);
    assert_eq!(one(TEXT, &many), Err(PolicySignatureError::TooMany));
    let large = " ".repeat(limits::POLICY_SIGNATURE_FILE + 1);
    assert_eq!(one(TEXT, &large), Err(PolicySignatureError::TooMany));
    let lines = "# none\n".repeat(limits::ALLOWED_SIGNERS + 1);
    assert!(AllowedSigners::parse(&lines).is_err());
}

#[test]
fn a_signer_for_other_namespaces_may_not_sign_policies() {
    let none = AllowedSigners::parse(&format!("owner@example namespaces=\"git\" {OWNER}"));
    assert_eq!(none.err(), Some(PolicySignatureError::Nobody));
}

#[test]
fn a_signer_counts_from_valid_after_until_valid_before() {
    let during = |options: &str| {
        let signers = AllowedSigners::parse(&format!("owner@example {options} {OWNER}")).expect("reads");
        signers.verify(TEXT, BY_OWNER, NOW, 1)
    };
    for open in [
        "valid-after=\"20270115080000Z\"",
        "valid-before=\"202701150800Z\"",
        "valid-after=\"20260101Z\",valid-before=\"20280101Z\",namespaces=\"rempart-policy\"",
    ] {
        assert!(during(open).is_ok(), "{open}");
    }
    for closed in [
        "valid-after=\"20270115080001Z\"",
        "valid-before=\"20270115Z\"",
        "valid-after=\"20260101Z\",valid-before=\"20260201Z\"",
    ] {
        let refused = during(closed).expect_err(closed);
        assert!(matches!(refused, PolicySignatureError::Window { .. }), "{closed}");
        assert!(refused.to_string().contains("it is 2027-01-15T08:00:00Z"), "{refused}");
    }
}

#[test]
fn an_option_that_we_would_ignore_is_an_error() {
    for option in [
        "cert-authority",
        "cert-authority,namespaces=\"rempart-policy\"",
        "namespaces=\"rempart-policy\",cert-authority",
        "valid-before=\"20200101\"",
        "valid-before=\"20279999Z\"",
        "namespaces=\"rempart-policy\",valid-after=\"2030\"",
        "namespaces=\"rempart-*\"",
        "valid-after=\"20270101Z\",valid-before=\"20260101Z\"",
        "verify-required",
        "colour=\"red\"",
        "valid-after=\"20270101Z\",",
        "valid-after=\"20270101Z\"valid-before=\"20290101Z\"",
    ] {
        let refused = AllowedSigners::parse(&format!("owner@example {option} {OWNER}")).err();
        let at_line_1 = matches!(refused, Some(PolicySignatureError::AllowedSigners { line: 1, .. }));
        assert!(at_line_1, "{option}: {refused:?}");
    }
}

#[test]
fn a_line_that_leaves_open_who_signs_is_an_error() {
    for principal in ["*", "*@example", "a@example,b@example", "!a@example", "\"a\"@example"] {
        let refused = AllowedSigners::parse(&format!("{principal} {OWNER}")).err();
        assert!(
            matches!(refused, Some(PolicySignatureError::AllowedSigners { .. })),
            "{principal}"
        );
    }
    let twice = AllowedSigners::parse(&format!("a@example {OWNER}b@example {OWNER}"));
    assert!(matches!(
        twice,
        Err(PolicySignatureError::AllowedSigners { line: 2, .. })
    ));
}

#[test]
fn a_key_that_cannot_be_verified_here_is_refused_when_it_is_listed() {
    const P384: &str = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBP0UDoPhzordCXcsgSommUnMqG9sSUEg0ePrPnPev3RfoipUdIwjjQvg3ZEy4jVDeiZ2jc05I41WmMmL0CcAe5Vtwp1lThX2A79YcsblcaUXQbuttQaYpu3ZmP9GX6OR0g==";
    let refused = AllowedSigners::parse(&format!("owner@example {P384}")).expect_err("another curve");
    assert!(refused.to_string().contains("type is not accepted"), "{refused}");
}

//! Export and import agree, and each thing that is not understood is refused. What another implementation reads is in
//! tests/corim_interop.rs.

use ciborium::Value;

use super::*;
use crate::policy::{Identity, Image, sample};

/// Signatures.
mod signed;

const NOW: Instant = Instant(1_800_000_000);

/// One image with two phases and a second bank's image beside it.
fn policy() -> Policy {
    let mut policy = sample([4, 7, 9, 11, 0]);
    policy.images[0].pcr11.push(Bank::Sha256.hash(&[b"ready"]));
    policy.images[0].pcr2 = vec![Bank::Sha256.hash(&[b"2"])];
    let mut other = Image::new("other bank", Bank::Sha384);
    for pcr in crate::pcr::JUDGED {
        other
            .accepted_mut(pcr)
            .expect("register")
            .push(Bank::Sha384.hash(&[&[pcr]]));
    }
    policy.images.push(other);
    for image in &mut policy.images {
        image.not_before = Some(Instant(NOW.0 + 10));
        image.not_after = Some(Instant(NOW.0 + 1000));
    }
    policy
}

fn unsigned(policy: &Policy) -> Vec<u8> {
    export(policy).expect("exported")
}

/// The exported document with one thing changed.
fn changed(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> Result<Policy, CorimError> {
    let mut document: Value = ciborium::from_reader(unsigned(&policy()).as_slice()).expect("cbor");
    change(corim_map(&mut document));
    import(&encode(&document), None, NOW)
}

/// The first CoMID with one thing changed.
fn changed_comid(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> Result<Policy, CorimError> {
    changed(|corim| {
        let Value::Tag(_, encoded) = &mut at(corim, 1).as_array_mut().expect("tags")[0] else {
            panic!("not a tag")
        };
        let mut comid: Value = ciborium::from_reader(encoded.as_bytes().expect("bytes").as_slice()).expect("cbor");
        change(comid.as_map_mut().expect("map"));
        **encoded = Value::Bytes(encode(&comid));
    })
}

/// The first reference triple of the first CoMID with one thing changed.
fn changed_triples(change: impl FnOnce(&mut Vec<Value>)) -> Result<Policy, CorimError> {
    changed_comid(|comid| {
        let triples = at(comid, 4).as_map_mut().expect("triples");
        change(at(triples, 0).as_array_mut().expect("records"));
    })
}

fn corim_map(document: &mut Value) -> &mut Vec<(Value, Value)> {
    let Value::Tag(501, map) = document else {
        panic!("not a CoRIM")
    };
    map.as_map_mut().expect("map")
}

fn at(map: &mut [(Value, Value)], key: i64) -> &mut Value {
    let entry = map.iter_mut().find(|(found, _)| *found == Value::from(key));
    &mut entry.expect("key").1
}

/// measurement values of a reference triple.
fn values(record: &mut Value) -> &mut Vec<(Value, Value)> {
    let claims = record.as_array_mut().expect("triple")[1]
        .as_array_mut()
        .expect("claims");
    at(claims[0].as_map_mut().expect("measurement"), 1)
        .as_map_mut()
        .expect("values")
}

fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).expect("encodes");
    out
}

#[test]
fn a_policy_survives_the_way_out_and_in() {
    let bytes = unsigned(&policy());
    assert_eq!(import(&bytes, None, NOW), Ok(policy()));
    assert_eq!(unsaid(&policy()), [""; 0]);
    assert_eq!(
        unsigned(&import(&bytes, None, NOW).expect("read")),
        bytes,
        "and out again"
    );
}

#[test]
fn what_a_corim_cannot_say_is_named() {
    let unsaid_by = |change: fn(&mut Policy)| {
        let mut policy = policy();
        change(&mut policy);
        unsaid(&policy)
    };
    assert!(unsaid_by(|p| p.require_guard = true)[0].contains("require_guard"));
    assert!(unsaid_by(|p| p.systemd_report = Some(crate::policy::ReportRule::Required))[0].contains("systemd_report"));
    assert!(unsaid_by(|p| p.identity = vec![Identity::Certified])[0].contains("identity"));
    assert!(unsaid_by(|p| p.images[0].require_secure_boot = true)[0].contains("require_secure_boot"));
    assert!(unsaid_by(|p| p.images[0].accepted_risks = vec!["gpt-auto".into()])[0].contains("gpt-auto"));
    assert_eq!(
        unsaid_by(|p| p.images[0].not_after = Some(Instant(NOW.0 + 2))).len(),
        2,
        "two windows"
    );
    assert_eq!(
        unsaid_by(|p| p.images.iter_mut().for_each(|i| i.not_after = None)).len(),
        2,
        "no end"
    );
}

#[test]
fn a_signed_register_and_too_many_combinations_are_not_exported() {
    let mut signed = policy();
    signed.images[0].pcr11_signed = Some(crate::policy::release::Pcr11Signed {
        key: crate::policy::release::signatures::ReleaseKey::from_pem(include_str!(
            "../../../../../../tests/fixtures/pcrsig/release.pub"
        ))
        .expect("key"),
        counter: None,
        revoked: vec![],
    });
    assert_eq!(export(&signed), Err(CorimError::SignedRegister("demo".into())));
    let mut many = policy();
    for pcr in [4, 7] {
        let list = many.images[0].accepted_mut(pcr).expect("register");
        list.extend((0..20u8).map(|n| Bank::Sha256.hash(&[&[n]])));
    }
    assert!(matches!(export(&many), Err(CorimError::TooLarge { .. })));
}

#[test]
fn an_unknown_entry_is_refused_wherever_it_stands() {
    let extra = |map: &mut Vec<(Value, Value)>| map.push((99.into(), Value::Null));
    let places = [
        (changed(extra), "manifest"),
        (
            changed(|corim| extra(at(corim, 4).as_map_mut().expect("validity"))),
            "validity",
        ),
        (changed_comid(extra), "CoMID"),
        (
            changed_comid(|comid| extra(at(comid, 1).as_map_mut().expect("identity"))),
            "tag identity",
        ),
        (
            changed_comid(|comid| extra(at(comid, 4).as_map_mut().expect("triples"))),
            "triples",
        ),
        (
            changed_triples(|records| extra(values(&mut records[0]))),
            "measurement values",
        ),
        (
            changed_triples(|records| extra(records[0].as_array_mut().expect("triple")[0].as_map_mut().expect("map"))),
            "environment",
        ),
    ];
    for (read, at) in places {
        assert!(
            matches!(&read, Err(CorimError::Unknown { place, .. }) if *place == at),
            "{at}: {read:?}"
        );
    }
    // An endorsed value, an SVN or a name would be taken for decoration by a reader that passes over what it does not know.
    for key in [1, 2, 3, 5, 8, 10] {
        let read = changed_comid(|comid| {
            at(comid, 4)
                .as_map_mut()
                .expect("triples")
                .push((key.into(), Value::Array(vec![])))
        });
        assert!(
            matches!(read, Err(CorimError::Unknown { place: "triples", .. })),
            "{key}"
        );
    }
}

#[test]
fn another_profile_another_tag_and_other_versions_are_refused() {
    let profile =
        changed(|corim| *at(corim, 3) = Value::Tag(32, Box::new(Value::Text("tag:example.org,2026:x".into()))));
    assert_eq!(profile, Err(CorimError::Profile("tag:example.org,2026:x".into())));
    let none = changed(|corim| corim.retain(|(key, _)| *key != Value::from(3)));
    assert!(matches!(none, Err(CorimError::Shape { place: "manifest", .. })));
    let coswid = changed(|corim| {
        at(corim, 1).as_array_mut().expect("tags")[0] = Value::Tag(505, Box::new(Value::Bytes(vec![])))
    });
    assert!(matches!(coswid, Err(CorimError::Shape { place: "tag", .. })));
    let version = changed_comid(|comid| *at(at(comid, 1).as_map_mut().expect("identity"), 1) = 99.into());
    assert_eq!(version, Err(CorimError::Versions));
}

#[test]
fn alternatives_that_a_policy_would_widen_are_refused() {
    // Without one of the two phases' triples, but with another's value in it: register 4 of one and 11 of the other.
    let mixed = changed_triples(|records| {
        let registers = at(values(&mut records[0]), 14).as_map_mut().expect("registers");
        let digest = vec![Value::from(1), Value::Bytes(vec![0xaa; 32])];
        *at(registers, 4) = Value::Array(vec![Value::Array(digest)]);
    });
    assert_eq!(mixed, Err(CorimError::NotEveryCombination("demo".into())));
    let lacking = changed_triples(|records| {
        let registers = at(values(&mut records[0]), 14).as_map_mut().expect("registers");
        registers.retain(|(key, _)| *key != Value::from(2));
    });
    assert_eq!(
        lacking,
        Err(CorimError::NotEveryCombination("demo".into())),
        "a register that only one of them names"
    );
    let one = changed_triples(|records| records.truncate(1)).expect("fewer alternatives are stricter, and complete");
    assert_eq!(one.images[0].pcr11.len(), 1);
}

#[test]
fn registers_and_digests_that_no_policy_holds_are_refused() {
    let with = |register: i64, algorithm: i64, len: usize| {
        changed_triples(|records| {
            let digest = vec![Value::from(algorithm), Value::Bytes(vec![1; len])];
            let value = Value::Array(vec![Value::Array(digest)]);
            for record in records {
                let registers = at(values(record), 14).as_map_mut().expect("registers");
                registers.retain(|(key, _)| *key != Value::from(register));
                registers.push((register.into(), value.clone()));
            }
        })
    };
    for (register, algorithm, len) in [
        (10, 1, 32),
        (15, 1, 32),
        (300, 1, 32),
        (-1, 1, 32),
        (4, 1, 48),
        (4, 7, 32),
        (4, 8, 64),
        (4, 2, 16),
    ] {
        let read = with(register, algorithm, len);
        assert!(
            matches!(read, Err(CorimError::Register { .. })),
            "{register} {algorithm} {len}: {read:?}"
        );
    }
    let other_bank = with(4, 7, 48);
    assert!(
        matches!(other_bank, Err(CorimError::Policy(PolicyError::OtherBank { .. }))),
        "{other_bank:?}"
    );
    let two = changed_triples(|records| {
        let registers = at(values(&mut records[0]), 14).as_map_mut().expect("registers");
        let digests = at(registers, 4).as_array_mut().expect("digests");
        digests.push(digests[0].clone());
    });
    assert!(matches!(two, Err(CorimError::Shape { place: "digests", .. })));
}

#[test]
fn a_judged_register_that_is_missing_is_refused_as_in_a_policy() {
    let read = changed_triples(|records| {
        for record in records {
            at(values(record), 14)
                .as_map_mut()
                .expect("registers")
                .retain(|(key, _)| *key != Value::from(12));
        }
    });
    assert!(matches!(
        read,
        Err(CorimError::Policy(PolicyError::NoValue { pcr: 12, .. }))
    ));
}

#[test]
fn an_expired_one_is_refused() {
    let bytes = unsigned(&policy());
    assert!(import(&bytes, None, Instant(NOW.0 + 1000)).is_ok());
    let expired = import(&bytes, None, Instant(NOW.0 + 1001));
    assert!(matches!(expired, Err(CorimError::Expired { what: "validity", .. })));
}

#[test]
fn what_is_too_large_or_rubbish_is_refused() {
    let large = vec![0; limits::CORIM + 1];
    assert!(matches!(
        import(&large, None, NOW),
        Err(CorimError::TooLarge { what: "bytes", .. })
    ));
    for rubbish in [
        &b""[..],
        b"\xff",
        b"version = 1",
        &[0xd9, 0x01, 0xf5],
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert!(import(rubbish, None, NOW).is_err(), "{rubbish:?}");
    }
    let mut followed = unsigned(&policy());
    followed.push(0);
    assert!(matches!(import(&followed, None, NOW), Err(CorimError::Cbor(_))));
    let deep = vec![0x81; 100_000];
    assert!(import(&deep, None, NOW).is_err());
}

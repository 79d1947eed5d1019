//! The format, and each way in which it is refused.

use super::*;
use crate::pcr::JUDGED;

#[test]
fn a_policy_survives_the_way_to_text_and_back() {
    let policy = sample([4, 7, 9, 11, 0]);
    assert_eq!(Policy::parse(policy.to_toml().as_bytes()), Ok(policy));
}

#[test]
fn an_empty_policy_is_refused() {
    assert!(Policy::parse(b"").is_err());
    assert_eq!(
        Policy::parse(b"version = 1\nname = \"x\"\ncounter = 1\nimage = []\n"),
        Err(PolicyError::Empty)
    );
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let text = format!("colour = \"red\"\n{}", sample([1; 5]).to_toml());
    assert!(matches!(Policy::parse(text.as_bytes()), Err(PolicyError::Malformed(m)) if m.contains("colour")));
    for key in ["pcr10", "pcr15", "pcr16", "pcr23", "not_until"] {
        let text = sample([1; 5]).to_toml() + &format!("{key} = []\n");
        assert!(
            matches!(Policy::parse(text.as_bytes()), Err(PolicyError::Malformed(m)) if m.contains(key)),
            "{key}"
        );
    }
}

#[test]
fn a_judged_register_without_a_value_is_refused_by_number() {
    for pcr in JUDGED {
        let mut policy = sample([1; 5]);
        policy.images[0].accepted_mut(pcr).expect("register").clear();
        let image = "demo".to_owned();
        assert_eq!(
            Policy::parse(policy.to_toml().as_bytes()),
            Err(PolicyError::NoValue { image, pcr })
        );
    }
}

#[test]
fn a_list_that_is_there_and_empty_is_refused_for_every_register() {
    for pcr in image::REGISTERS {
        let mut policy = sample([1; 5]);
        policy.images[0].accepted_mut(pcr).expect("register").clear();
        let text = policy.to_toml() + &format!("pcr{pcr} = []\n");
        assert!(
            matches!(Policy::parse(text.as_bytes()), Err(PolicyError::Malformed(m)) if m.contains("empty")),
            "{pcr}"
        );
    }
}

#[test]
fn a_value_of_another_bank_is_refused_for_every_register() {
    for pcr in image::REGISTERS {
        let mut policy = sample([1; 5]);
        policy.images[0]
            .accepted_mut(pcr)
            .expect("register")
            .push(Bank::Sha384.zero());
        let refused = Policy::parse(policy.to_toml().as_bytes());
        assert!(
            matches!(refused, Err(PolicyError::OtherBank { pcr: p, .. }) if p == pcr),
            "{pcr}: {refused:?}"
        );
    }
}

#[test]
fn a_policy_that_accepts_nobody_or_only_in_a_time_that_never_comes_is_refused() {
    let text = sample([1; 5])
        .to_toml()
        .replace("counter = 3", "counter = 3\nidentity = []");
    assert_eq!(Policy::parse(text.as_bytes()), Err(PolicyError::NoIdentity));
    let mut policy = sample([1; 5]);
    policy.images[0].not_before = Some(Instant(2000));
    policy.images[0].not_after = Some(Instant(2000));
    let image = "demo".to_owned();
    assert_eq!(
        Policy::parse(policy.to_toml().as_bytes()),
        Err(PolicyError::Window { image })
    );
}

#[test]
fn identity_levels_are_words_and_default_to_all() {
    let policy = sample([1; 5]);
    assert!(!policy.to_toml().contains("identity"));
    let two = policy
        .to_toml()
        .replace("counter = 3", "counter = 3\nidentity = [\"certified\", \"first-use\"]");
    let read = Policy::parse(two.as_bytes()).expect("reads");
    assert_eq!(read.identity, [Identity::Certified, Identity::FirstUse]);
    assert_eq!(Policy::parse(read.to_toml().as_bytes()), Ok(read));
    let unknown = two.replace("first-use", "anybody");
    assert!(matches!(
        Policy::parse(unknown.as_bytes()),
        Err(PolicyError::Malformed(_))
    ));
}

#[test]
fn a_signed_register_stands_in_place_of_a_listed_one_never_beside_it() {
    let key = include_str!("../../../../tests/fixtures/pcrsig/release.pub");
    let mut policy = sample([1; 5]);
    policy.images[0].pcr11_signed = Some(release::Pcr11Signed {
        key: release::signatures::ReleaseKey::from_pem(key).expect("key"),
        counter: Some(7),
        revoked: vec![Bank::Sha256.zero()],
    });
    let image = || "demo".to_owned();
    assert_eq!(
        Policy::parse(policy.to_toml().as_bytes()),
        Err(PolicyError::TwoWays { image: image() })
    );
    policy.images[0].pcr11.clear();
    assert_eq!(Policy::parse(policy.to_toml().as_bytes()), Ok(policy.clone()));
    // A revoked value of another bank would never match, and the operator would believe that it does.
    let mut other_bank = policy.clone();
    let signed = other_bank.images[0].pcr11_signed.as_mut().expect("signed");
    signed.revoked = vec![Bank::Sha384.zero()];
    let refused = Policy::parse(other_bank.to_toml().as_bytes());
    assert!(
        matches!(refused, Err(PolicyError::OtherBank { pcr: 11, .. })),
        "{refused:?}"
    );
    // Registers 4 and 9 change with each image, but only Secure Boot can stand in for them.
    policy.images[0].pcr4.clear();
    policy.images[0].pcr9.clear();
    let without = Policy::parse(policy.to_toml().as_bytes());
    assert_eq!(without, Err(PolicyError::NoValue { image: image(), pcr: 4 }));
    policy.images[0].require_secure_boot = true;
    assert_eq!(Policy::parse(policy.to_toml().as_bytes()), Ok(policy.clone()));
    policy.images[0].pcr7.clear();
    let without = Policy::parse(policy.to_toml().as_bytes());
    assert_eq!(without, Err(PolicyError::NoValue { image: image(), pcr: 7 }));
}

#[test]
fn secure_boot_alone_stands_in_for_nothing() {
    let mut policy = sample([1; 5]);
    policy.images[0].require_secure_boot = true;
    policy.images[0].pcr4.clear();
    let refused = Policy::parse(policy.to_toml().as_bytes());
    assert!(matches!(refused, Err(PolicyError::NoValue { pcr: 4, .. })));
}

#[test]
fn too_large_a_policy_is_refused_before_it_is_read() {
    let found = limits::POLICY + 1;
    assert_eq!(Policy::parse(&vec![b' '; found]), Err(PolicyError::TooLarge { found }));
}

#[test]
fn an_older_counter_is_refused_and_the_same_one_is_not() {
    let policy = sample([1; 5]);
    assert_eq!(policy.check_counter(3), Ok(()));
    assert_eq!(
        policy.check_counter(4),
        Err(PolicyError::Rollback { found: 3, highest: 4 })
    );
}

//! CoRIM between us and another implementation (the crate `corim`, draft-ietf-rats-corim-11): it reads what we write, and we read
//! what it writes.

use corim::builder::{ComidBuilder, CorimBuilder};
use corim::types::common::TagIdChoice;
use corim::types::corim::{CorimId, ProfileChoice};
use corim::types::environment::{ClassMap, EnvironmentMap};
use corim::types::measurement::{
    Digest, IntegrityRegisterId, IntegrityRegisters, MeasurementMap, MeasurementValuesMap,
};
use corim::types::triples::ReferenceTriple;
use rempart_attest::Bank;
use rempart_attest::pcr::JUDGED;
use rempart_attest::policy::corim::{PROFILE, export, import};
use rempart_attest::policy::{Image, Instant, Policy};

const NOW: Instant = Instant(1_800_000_000);
const UNTIL: i64 = 1_900_000_000;

fn value(pcr: u8, word: &str) -> rempart_attest::Digest {
    Bank::Sha256.hash(&[&[pcr], word.as_bytes()])
}

/// One image with two phases.
fn policy() -> Policy {
    let mut image = Image::new("trixie-1", Bank::Sha256);
    for pcr in JUDGED {
        image.accepted_mut(pcr).expect("register").push(value(pcr, "sysinit"));
    }
    image.pcr11.push(value(11, "ready"));
    image.not_after = Some(Instant(1_900_000_000));
    Policy {
        name: "release 7".into(),
        counter: 7,
        ..Policy::of(vec![image])
    }
}

#[test]
fn the_other_implementation_reads_ours() {
    let bytes = export(&policy()).expect("exported");
    let (manifest, tags) = corim::validate::decode_and_validate_at(&bytes, 1_800_000_000).expect("valid by the draft");
    assert_eq!(manifest.id, CorimId::Text("release 7".into()));
    assert_eq!(manifest.profile, Some(ProfileChoice::Uri(PROFILE.into())));
    assert_eq!(manifest.rim_validity.map(|v| v.not_after.epoch_secs()), Some(UNTIL));
    let [tag] = &tags[..] else {
        panic!("{} tags", tags.len())
    };
    assert_eq!(tag.tag_identity.tag_version, Some(7));
    let triples = tag.triples.reference_triples.as_ref().expect("reference triples");
    assert_eq!(triples.len(), 2, "one for each phase");
    for (triple, phase) in triples.iter().zip(["sysinit", "ready"]) {
        let ReferenceTriple(environment, measurements) = triple;
        let class = environment.class.as_ref().expect("class");
        assert_eq!(class.model.as_deref(), Some("trixie-1"));
        let registers = measurements[0].mval.integrity_registers.as_ref().expect("registers");
        let of_11 = &registers.0[&IntegrityRegisterId::Uint(11)];
        assert_eq!(of_11[0], Digest::new(1, value(11, phase).as_bytes().to_vec()));
        assert_eq!(registers.0.len(), JUDGED.len());
    }
    let expired = corim::validate::decode_and_validate_at(&bytes, UNTIL + 1);
    assert!(expired.is_err(), "it honours the window too");
}

#[test]
fn we_read_the_other_implementations() {
    let class = ClassMap {
        class_id: None,
        vendor: None,
        model: Some("trixie-1".into()),
        layer: None,
        index: None,
    };
    let environment = EnvironmentMap {
        class: Some(class),
        instance: None,
        group: None,
    };
    let mut builder = ComidBuilder::new(TagIdChoice::Text("release 7/trixie-1".into())).set_tag_version(7);
    for phase in ["sysinit", "ready"] {
        let registers = JUDGED.map(|pcr| {
            let word = if pcr == 11 { phase } else { "sysinit" };
            let digest = Digest::new(1, value(pcr, word).as_bytes().to_vec());
            (IntegrityRegisterId::Uint(u64::from(pcr)), vec![digest])
        });
        let mut mval = MeasurementValuesMap::default();
        mval.integrity_registers = Some(IntegrityRegisters(registers.into_iter().collect()));
        let measurement = MeasurementMap {
            mkey: None,
            mval,
            authorized_by: None,
        };
        builder = builder.add_reference_triple(ReferenceTriple::new(environment.clone(), vec![measurement]));
    }
    let bytes = CorimBuilder::new(CorimId::Text("release 7".into()))
        .set_profile(ProfileChoice::Uri(PROFILE.into()))
        .set_validity(None, UNTIL)
        .expect("window")
        .add_comid_tag(builder.build().expect("CoMID"))
        .expect("CoMID")
        .build_bytes()
        .expect("CoRIM");
    assert_eq!(import(&bytes, None, NOW), Ok(policy()));
}

//! A policy as an unsigned CoRIM, in deterministic order: the same policy gives the same bytes.

use ciborium::Value;

use super::{CorimError, PROFILE, TAG_COMID, TAG_CORIM, TAG_TIME, TAG_URI, algorithm};
use crate::limits;
use crate::pcr::PcrValue;
use crate::policy::image::REGISTERS;
use crate::policy::instant::Instant;
use crate::policy::{Identity, Image, Policy};

/// manifest-creator ($corim-role-type-choice).
const ROLE_CREATOR: u64 = 1;

/// What of a policy a CoRIM of this profile leaves out, in words; none when it says all that is judged.
pub fn unsaid(policy: &Policy) -> Vec<String> {
    let mut unsaid = Vec::new();
    if policy.require_guard {
        unsaid.push("require_guard: that the node's guard must be enforcing".to_owned());
    }
    if policy.systemd_report.is_some() {
        unsaid.push("systemd_report: that systemd's own signed report must be there".to_owned());
    }
    if policy.identity != Identity::ALL {
        unsaid.push("identity: which endorsement keys count".to_owned());
    }
    if policy.counters.is_some() {
        unsaid.push("counters: what the TPM must say of its clock, counters and firmware".to_owned());
    }
    let window = common_window(policy);
    for image in &policy.images {
        let name = &image.name;
        if window.is_none() && image.window().is_some() {
            unsaid.push(format!(
                "the window of image \"{name}\": a CoRIM has one time of validity, which must have an end"
            ));
        }
        if image.require_secure_boot {
            unsaid.push(format!("require_secure_boot of image \"{name}\""));
        }
        if !image.accepted_risks.is_empty() {
            unsaid.push(format!(
                "the accepted risks of image \"{name}\": {}",
                image.accepted_risks.join(", ")
            ));
        }
        unsaid.extend(
            image
                .sections()
                .into_iter()
                .map(|section| format!("section {section} of image \"{name}\"")),
        );
    }
    unsaid
}

/// Writes what can be said; [`unsaid`] tells what is not.
pub fn export(policy: &Policy) -> Result<Vec<u8>, CorimError> {
    let tags: Result<Vec<Value>, CorimError> = policy.images.iter().map(|image| tag(policy, image)).collect();
    let mut corim = vec![
        entry(0, Value::Text(policy.name.clone())),
        entry(1, Value::Array(tags?)),
        entry(3, Value::Tag(TAG_URI, Box::new(Value::Text(PROFILE.into())))),
    ];
    if let Some((from, until)) = common_window(policy) {
        let mut validity = Vec::new();
        validity.extend(from.map(|from| entry(0, time(from))));
        validity.push(entry(1, time(until)));
        corim.push(entry(4, Value::Map(validity)));
    }
    let creator = vec![
        entry(0, Value::Text("Rempart".into())),
        entry(2, Value::Array(vec![ROLE_CREATOR.into()])),
    ];
    corim.push(entry(5, Value::Array(vec![Value::Map(creator)])));
    Ok(encode(&Value::Tag(TAG_CORIM, Box::new(Value::Map(corim)))))
}

/// The window, when all images have the same one and a CoRIM can say it.
fn common_window(policy: &Policy) -> Option<(Option<Instant>, Instant)> {
    let first = policy.images.first()?;
    let same = |image: &Image| (image.not_before, image.not_after) == (first.not_before, first.not_after);
    let until = first.not_after?;
    policy.images.iter().all(same).then_some((first.not_before, until))
}

/// tagged-concise-mid-tag of one image.
fn tag(policy: &Policy, image: &Image) -> Result<Value, CorimError> {
    let identity = vec![
        entry(0, Value::Text(format!("{}/{}", policy.name, image.name))),
        entry(1, policy.counter.into()),
    ];
    let records = combinations(image)?
        .iter()
        .map(|values| record(image, values))
        .collect();
    let comid = vec![
        entry(1, Value::Map(identity)),
        entry(4, Value::Map(vec![entry(0, Value::Array(records))])),
    ];
    Ok(Value::Tag(
        TAG_COMID,
        Box::new(Value::Bytes(encode(&Value::Map(comid)))),
    ))
}

/// reference-triple-record: environment (class with the image as model), one measurement with integrity registers.
fn record(image: &Image, values: &[(u8, PcrValue)]) -> Value {
    let class = vec![entry(2, Value::Text(image.name.clone()))];
    let environment = Value::Map(vec![entry(0, Value::Map(class))]);
    let registers = values.iter().map(|(pcr, value)| {
        let digest = vec![algorithm(image.bank).into(), Value::Bytes(value.as_bytes().to_vec())];
        entry(u64::from(*pcr), Value::Array(vec![Value::Array(digest)]))
    });
    let values = Value::Map(vec![entry(14, Value::Map(registers.collect()))]);
    let measurement = Value::Map(vec![entry(1, values)]);
    Value::Array(vec![environment, Value::Array(vec![measurement])])
}

/// Every combination of the values that the image accepts.
fn combinations(image: &Image) -> Result<Vec<Vec<(u8, PcrValue)>>, CorimError> {
    if image.pcr11_signed.is_some() {
        return Err(CorimError::SignedRegister(image.name.clone()));
    }
    let mut all: Vec<Vec<(u8, PcrValue)>> = vec![vec![]];
    for pcr in REGISTERS {
        let values = image.accepted(pcr);
        if values.is_empty() {
            continue;
        }
        let found = all.len().saturating_mul(values.len());
        if found > limits::CORIM_RECORDS {
            return Err(CorimError::TooLarge {
                what: "combinations of register values in one image",
                found,
                max: limits::CORIM_RECORDS,
            });
        }
        let with = |value: &PcrValue, row: &Vec<(u8, PcrValue)>| {
            let mut row = row.clone();
            row.push((pcr, *value));
            row
        };
        all = all
            .iter()
            .flat_map(|row| values.iter().map(move |value| with(value, row)))
            .collect();
    }
    Ok(all)
}

fn entry(key: u64, value: Value) -> (Value, Value) {
    (key.into(), value)
}

fn time(at: Instant) -> Value {
    Value::Tag(TAG_TIME, Box::new(at.0.into()))
}

fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).expect("a Vec takes every byte");
    out
}

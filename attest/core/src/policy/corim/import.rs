//! An unsigned CoRIM of our profile as a policy. Every entry is accounted for; several triples of one image are alternatives and must
//! be all combinations of the values in them, because that is what a policy accepts.

use std::collections::BTreeSet;

use ciborium::Value;

use super::strict::{Map, bytes, document, list, pair, shape, tagged, text, time, unsigned};
use super::{CorimError, PROFILE, TAG_COMID, TAG_CORIM, TAG_URI, algorithm};
use crate::limits;
use crate::pcr::{Bank, PcrValue};
use crate::policy::instant::Instant;
use crate::policy::{Image, Policy};

/// One alternative of an image: each register once.
type Row = Vec<(u8, PcrValue)>;

pub(super) fn policy(corim: &[u8], now: Instant) -> Result<Policy, CorimError> {
    let content = tagged(
        document(corim, "manifest")?,
        TAG_CORIM,
        "manifest",
        "an unsigned CoRIM (tag 501)",
    )?;
    let mut corim = Map::new(content, "manifest")?;
    let name = text(corim.demand(0, "a map with an id")?, "id")?;
    let tags = list(corim.demand(1, "a map with tags")?, "tags")?;
    profile(corim.demand(3, "a map with a profile")?)?;
    let (not_before, not_after) = match corim.take(4) {
        Some(validity) => validity_map(validity, "validity", now)?,
        None => (None, None),
    };
    // Who wrote it is for people; the signature says who vouches for it.
    let _entities = corim.take(5);
    corim.end()?;

    let mut counters = BTreeSet::new();
    let mut images = Vec::new();
    for tag in tags {
        let (counter, mut image) = concise_mid(tag)?;
        counters.insert(counter);
        image.not_before = not_before;
        image.not_after = not_after;
        images.push(image);
    }
    let mut counters = counters.into_iter();
    match (counters.next(), counters.next()) {
        (Some(counter), None) => Ok(Policy {
            name,
            counter,
            ..Policy::of(images)
        }),
        _ => Err(CorimError::Versions),
    }
}

fn profile(value: Value) -> Result<(), CorimError> {
    let found = text(tagged(value, TAG_URI, "profile", "a URI (tag 32)")?, "profile")?;
    if found == PROFILE {
        Ok(())
    } else {
        Err(CorimError::Profile(crate::eventlog::printable(&found, 80)))
    }
}

/// validity-map. What is over is refused here.
pub(super) fn validity_map(
    value: Value,
    what: &'static str,
    now: Instant,
) -> Result<(Option<Instant>, Option<Instant>), CorimError> {
    let mut validity = Map::new(value, what)?;
    let from = validity.take(0).map(|from| time(from, what)).transpose()?;
    let until = time(validity.demand(1, "a validity with an end")?, what)?;
    validity.end()?;
    if until < now {
        return Err(CorimError::Expired { what, until, now });
    }
    Ok((from, Some(until)))
}

/// tagged-concise-mid-tag: the tag's version and the image in it.
fn concise_mid(tag: Value) -> Result<(u64, Image), CorimError> {
    let content = tagged(tag, TAG_COMID, "tag", "a CoMID (tag 506)")?;
    let mut comid = Map::new(document(&bytes(content, "tag")?, "CoMID")?, "CoMID")?;
    let mut identity = Map::new(comid.demand(1, "a map with a tag identity")?, "tag identity")?;
    text(identity.demand(0, "a map with a tag id")?, "tag id")?;
    let counter = match identity.take(1) {
        Some(version) => unsigned(&version, "tag version")?,
        None => 0,
    };
    identity.end()?;
    let mut triples = Map::new(comid.demand(4, "a map with triples")?, "triples")?;
    let records = list(triples.demand(0, "a map with reference triples")?, "reference triples")?;
    triples.end()?;
    let _entities = comid.take(2);
    comid.end()?;
    if records.len() > limits::CORIM_RECORDS {
        return Err(CorimError::TooLarge {
            what: "reference triples in one tag",
            found: records.len(),
            max: limits::CORIM_RECORDS,
        });
    }
    image(records).map(|image| (counter, image))
}

/// The alternatives of one environment.
fn image(records: Vec<Value>) -> Result<Image, CorimError> {
    let mut name: Option<String> = None;
    let mut rows: Vec<Row> = Vec::new();
    for record in records {
        let (environment, claims) = pair(record, "reference triple")?;
        let model = environment_model(environment)?;
        if name.get_or_insert_with(|| model.clone()) != &model {
            return Err(shape("tag", "about one environment"));
        }
        rows.push(registers(&model, claims)?);
    }
    let name = name.unwrap_or_default();
    let bank = rows.iter().flatten().map(|(_, value)| value.bank()).next();
    let mut image = Image::new(name.clone(), bank.unwrap_or(Bank::Sha256));
    for (pcr, value) in rows.iter().flatten() {
        let list = image.accepted_mut(*pcr).ok_or_else(|| CorimError::Register {
            image: name.clone(),
            register: u64::from(*pcr),
        })?;
        if !list.contains(value) {
            list.push(*value);
        }
    }
    rows_are_every_combination(&image, &rows)?;
    Ok(image)
}

/// A policy accepts every combination of the values that it lists: that many different rows over the same registers must be there.
fn rows_are_every_combination(image: &Image, rows: &[Row]) -> Result<(), CorimError> {
    let judged: Vec<u8> = crate::policy::image::REGISTERS
        .into_iter()
        .filter(|pcr| !image.accepted(*pcr).is_empty())
        .collect();
    let combinations = judged.iter().fold(1usize, |product, pcr| {
        product.saturating_mul(image.accepted(*pcr).len())
    });
    let different: BTreeSet<&Row> = rows.iter().collect();
    let complete = rows
        .iter()
        .all(|row| row.iter().map(|(pcr, _)| *pcr).eq(judged.iter().copied()));
    if complete && different.len() == combinations {
        Ok(())
    } else {
        Err(CorimError::NotEveryCombination(image.name.clone()))
    }
}

/// environment-map with a class that has a model and nothing else.
fn environment_model(value: Value) -> Result<String, CorimError> {
    let mut environment = Map::new(value, "environment")?;
    let class = environment.demand(0, "a map with a class")?;
    environment.end()?;
    let mut class = Map::new(class, "class")?;
    let model = text(class.demand(2, "a map with a model")?, "model")?;
    class.end()?;
    Ok(model)
}

/// One measurement with integrity registers and nothing else, in the order of the registers.
fn registers(image: &str, claims: Value) -> Result<Row, CorimError> {
    let [measurement] = <[Value; 1]>::try_from(list(claims, "measurements")?)
        .map_err(|_| shape("measurements", "one measurement of all registers"))?;
    let mut measurement = Map::new(measurement, "measurement")?;
    let values = measurement.demand(1, "a map with values")?;
    measurement.end()?;
    let mut values = Map::new(values, "measurement values")?;
    let registers = values.demand(14, "a map with integrity registers")?;
    values.end()?;
    let mut row = Row::new();
    for (key, digests) in Map::new(registers, "integrity registers")?.into_entries() {
        let unfit = || CorimError::Register {
            image: image.to_owned(),
            register: u64::try_from(key).unwrap_or(u64::MAX),
        };
        let pcr = u8::try_from(key).map_err(|_| unfit())?;
        let [digest] = <[Value; 1]>::try_from(list(digests, "digests")?)
            .map_err(|_| shape("digests", "one digest for each register"))?;
        let value = digest_of_a_bank(digest)?.ok_or_else(unfit)?;
        row.push((pcr, value));
    }
    if row.is_empty() {
        return Err(shape("integrity registers", "a map with a register"));
    }
    row.sort_unstable();
    Ok(row)
}

/// `[algorithm, value]`; `None` for one that no bank has.
fn digest_of_a_bank(digest: Value) -> Result<Option<PcrValue>, CorimError> {
    let (id, value) = pair(digest, "digest")?;
    let id = unsigned(&id, "digest algorithm")?;
    let value = PcrValue::from_bytes(&bytes(value, "digest value")?);
    Ok(value.filter(|value| u64::try_from(algorithm(value.bank())) == Ok(id)))
}

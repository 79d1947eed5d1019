//! CBOR values taken apart so that nothing is passed over: each map's entries are taken by key, and one that is left is an error.

use ciborium::Value;

use super::CorimError;
use crate::policy::instant::Instant;

/// One document and nothing behind it.
pub(super) fn document(bytes: &[u8], place: &'static str) -> Result<Value, CorimError> {
    let mut rest = bytes;
    let value = ciborium::from_reader(&mut rest).map_err(|e| CorimError::Cbor(e.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(CorimError::Cbor(format!("{} bytes behind the {place}", rest.len())))
    }
}

pub(super) fn shape(place: &'static str, expected: &'static str) -> CorimError {
    CorimError::Shape { place, expected }
}

/// The content of a tag.
pub(super) fn tagged(value: Value, tag: u64, place: &'static str, expected: &'static str) -> Result<Value, CorimError> {
    match value {
        Value::Tag(found, content) if found == tag => Ok(*content),
        _ => Err(shape(place, expected)),
    }
}

pub(super) fn text(value: Value, place: &'static str) -> Result<String, CorimError> {
    value.into_text().map_err(|_| shape(place, "text"))
}

pub(super) fn bytes(value: Value, place: &'static str) -> Result<Vec<u8>, CorimError> {
    value.into_bytes().map_err(|_| shape(place, "a byte string"))
}

pub(super) fn unsigned(value: &Value, place: &'static str) -> Result<u64, CorimError> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| shape(place, "an unsigned number"))
}

/// At least one element.
pub(super) fn list(value: Value, place: &'static str) -> Result<Vec<Value>, CorimError> {
    match value {
        Value::Array(list) if !list.is_empty() => Ok(list),
        _ => Err(shape(place, "an array with an element")),
    }
}

/// `[a, b]`.
pub(super) fn pair(value: Value, place: &'static str) -> Result<(Value, Value), CorimError> {
    let list = list(value, place)?;
    let [first, second] = <[Value; 2]>::try_from(list).map_err(|_| shape(place, "an array of two"))?;
    Ok((first, second))
}

/// `time`: tag 1 over whole seconds.
pub(super) fn time(value: Value, place: &'static str) -> Result<Instant, CorimError> {
    let seconds = tagged(value, super::TAG_TIME, place, "a time (tag 1)")?;
    unsigned(&seconds, place).map(Instant)
}

/// A map with integer keys, each once.
pub(super) struct Map {
    place: &'static str,
    entries: Vec<(i128, Value)>,
}

impl Map {
    pub(super) fn new(value: Value, place: &'static str) -> Result<Self, CorimError> {
        let Value::Map(raw) = value else {
            return Err(shape(place, "a map"));
        };
        let mut entries: Vec<(i128, Value)> = Vec::new();
        for (key, value) in raw {
            let key = match key {
                Value::Integer(key) => i128::from(key),
                _ => return Err(shape(place, "a map with numbers as keys")),
            };
            if entries.iter().any(|(other, _)| *other == key) {
                return Err(shape(place, "a map with each key once"));
            }
            entries.push((key, value));
        }
        Ok(Self { place, entries })
    }

    /// An entry that may be there.
    pub(super) fn take(&mut self, key: i128) -> Option<Value> {
        let at = self.entries.iter().position(|(found, _)| *found == key)?;
        Some(self.entries.swap_remove(at).1)
    }

    /// An entry that must be there.
    pub(super) fn demand(&mut self, key: i128, expected: &'static str) -> Result<Value, CorimError> {
        self.take(key).ok_or_else(|| shape(self.place, expected))
    }

    /// Refuses what nobody took.
    pub(super) fn end(self) -> Result<(), CorimError> {
        match self.entries.first() {
            None => Ok(()),
            Some((key, _)) => Err(CorimError::Unknown {
                place: self.place,
                key: key.to_string(),
            }),
        }
    }

    /// All entries, where the keys are data.
    pub(super) fn into_entries(self) -> Vec<(i128, Value)> {
        self.entries
    }
}

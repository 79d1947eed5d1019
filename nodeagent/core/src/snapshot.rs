//! Which units were opted in when the agent first started in this boot, by digests over what defines each.
//!
//! Root can rewrite a unit file after boot and so name another program for the same secret. A unit whose
//! definition has changed since, or that was not there, gets nothing until an operator accepts it by a
//! reboot. What protects the files themselves is the guard; this is the second line.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// What defines a unit: each part by its name (a file's path, or what systemd has loaded) and SHA-256, in systemd's
/// order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition(Vec<(String, String)>);

impl Definition {
    /// The definition made of `parts`: name and content each.
    pub fn of<'a>(parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let part = |(name, content): (&str, &[u8])| {
            let digest = digest::digest(&digest::SHA256, content);
            (name.to_owned(), hex::encode(digest.as_ref()))
        };
        Self(parts.into_iter().map(part).collect())
    }

    /// The first difference to `before`, for people.
    fn difference(&self, before: &Self) -> String {
        let of = |definition: &Self, name: &str| definition.0.iter().find(|part| part.0 == name).cloned();
        for part in &self.0 {
            match of(before, &part.0) {
                None => return format!("{} is new", part.0),
                Some(old) if old != *part => return format!("{} was changed", part.0),
                Some(_) => {}
            }
        }
        match before.0.iter().find(|part| of(self, &part.0).is_none()) {
            Some(gone) => format!("{} is gone", gone.0),
            None => "its files stand in another order".to_owned(),
        }
    }
}

/// What the snapshot says of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// As it was.
    Unchanged,
    /// Defined otherwise than at the agent's start; says where.
    Changed(String),
    /// Not opted in at the agent's start.
    Unknown,
}

/// The units at the agent's start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(BTreeMap<String, Definition>);

impl Snapshot {
    /// Records `unit`; the first record stays.
    pub fn record(&mut self, unit: &str, definition: Definition) {
        self.0.entry(unit.to_owned()).or_insert(definition);
    }

    /// Compares `definition` with what `unit` was.
    pub fn judge(&self, unit: &str, definition: &Definition) -> Verdict {
        match self.0.get(unit) {
            Some(before) if before == definition => Verdict::Unchanged,
            Some(before) => Verdict::Changed(definition.difference(before)),
            None => Verdict::Unknown,
        }
    }

    /// What defines each unit, as one text.
    pub fn texts(&self) -> Vec<(String, String)> {
        let text = |Definition(parts): &Definition| {
            let lines = parts.iter().map(|(name, digest)| format!("{digest} {name}\n"));
            lines.collect::<String>()
        };
        self.0
            .iter()
            .map(|(unit, definition)| (unit.clone(), text(definition)))
            .collect()
    }

    /// Number of units recorded.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No unit was opted in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(before: &[(&str, &str)], after: &[(&str, &str)]) -> Verdict {
        let of = |parts: &[(&str, &str)]| Definition::of(parts.iter().map(|(name, text)| (*name, text.as_bytes())));
        let mut snapshot = Snapshot::default();
        snapshot.record("a.service", of(before));
        snapshot.judge("a.service", &of(after))
    }

    #[test]
    fn a_changed_or_new_unit_is_told_apart_and_the_first_record_stays() {
        let mut snapshot = Snapshot::default();
        let first = Definition::of([("/etc/systemd/system/a.service", &b"[Service]"[..])]);
        snapshot.record("a.service", first.clone());
        let other = Definition::of([("/etc/systemd/system/a.service", &b"[Service]\nExecStart=/evil"[..])]);
        snapshot.record("a.service", other.clone());
        assert_eq!(snapshot.judge("a.service", &first), Verdict::Unchanged);
        assert!(matches!(snapshot.judge("a.service", &other), Verdict::Changed(_)));
        assert_eq!(snapshot.judge("b.service", &first), Verdict::Unknown);
    }

    #[test]
    fn the_difference_is_named() {
        for (before, after, what) in [
            (&[("/u", "x")][..], &[("/u", "y")][..], "/u was changed"),
            (&[("/u", "x")], &[("/u", "x"), ("/d", "y")], "/d is new"),
            (&[("/u", "x"), ("/d", "y")], &[("/u", "x")], "/d is gone"),
            (
                &[("/u", "x"), ("/d", "y")],
                &[("/d", "y"), ("/u", "x")],
                "another order",
            ),
        ] {
            let Verdict::Changed(told) = changed(before, after) else {
                panic!("{what}")
            };
            assert!(told.contains(what), "{told}");
        }
    }

    #[test]
    fn moving_bytes_between_name_and_content_changes_the_definition() {
        assert!(matches!(changed(&[("ab", "c")], &[("a", "bc")]), Verdict::Changed(_)));
    }
}

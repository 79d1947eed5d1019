//! What a predicted register was extended by, event by event, so that a mismatch can name the one that differs. It explains and is
//! never judged: the register's value decides.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::eventlog::{Event, printable};
use crate::pcr::Digest;

/// Characters of an event's name.
const WHAT: usize = 120;

/// One extend; in TOML one line `PCR DIGEST WHAT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The register.
    pub pcr: u8,
    /// What it is extended by.
    pub digest: Digest,
    /// In words.
    pub what: String,
}

/// The first event in which a log differs from what was predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    /// What was predicted; none where the log goes on.
    pub expected: Option<&'a Part>,
    /// What the log has; none where it ends.
    pub found: Option<&'a Event>,
}

/// Compares the digests of one register in order. `None`: all equal, or nothing was predicted.
pub fn first_difference<'a>(parts: &'a [Part], events: &'a [Event], pcr: u8) -> Option<Difference<'a>> {
    let mut expected = parts.iter().filter(|part| part.pcr == pcr).peekable();
    expected.peek()?;
    let mut found = events.iter().filter(|event| event.pcr == pcr);
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return None,
            (Some(part), Some(event)) if part.digest == event.digest => {}
            (expected, found) => return Some(Difference { expected, found }),
        }
    }
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.expected, self.found) {
            (Some(part), Some(event)) => write!(f, "{} instead of {}", event.text, part.what),
            (Some(part), None) => write!(f, "{} is missing", part.what),
            (None, Some(event)) => write!(f, "{} is one too many", event.text),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.pcr, self.digest, self.what)
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| de::Error::custom("an event is expected as \"PCR DIGEST WHAT\""))
    }
}

fn parse(text: &str) -> Option<Part> {
    let mut words = text.splitn(3, ' ');
    let pcr = words.next()?.parse().ok().filter(|pcr| *pcr < 24)?;
    let digest = Digest::from_hex(words.next()?)?;
    let what = words
        .next()
        .filter(|what| !what.is_empty() && printable(what, WHAT) == *what)?;
    Some(Part {
        pcr,
        digest,
        what: what.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcr::Bank;

    fn part(pcr: u8, word: &str) -> Part {
        Part {
            pcr,
            digest: Bank::Sha256.hash(&[word.as_bytes()]),
            what: word.into(),
        }
    }

    fn event(pcr: u8, word: &str) -> Event {
        Event {
            pcr,
            digest: Bank::Sha256.hash(&[word.as_bytes()]),
            text: format!("EV \"{word}\""),
            command_line: None,
        }
    }

    #[test]
    fn the_event_that_differs_is_named() {
        let parts = [part(4, "firmware"), part(4, "image"), part(9, "initrd")];
        let told = |events: &[Event]| first_difference(&parts, events, 4).map(|d| d.to_string());
        assert_eq!(told(&[event(4, "firmware"), event(9, "x"), event(4, "image")]), None);
        assert_eq!(
            told(&[event(4, "firmware"), event(4, "evil")]),
            Some("EV \"evil\" instead of image".into())
        );
        assert_eq!(told(&[event(4, "firmware")]), Some("image is missing".into()));
        let more = [event(4, "firmware"), event(4, "image"), event(4, "more")];
        assert_eq!(told(&more), Some("EV \"more\" is one too many".into()));
        assert_eq!(first_difference(&parts, &more, 7), None, "nothing was predicted for it");
    }

    #[test]
    fn a_part_is_one_line_and_reads_back() {
        let one = part(11, "section .linux");
        assert_eq!(parse(&one.to_string()), Some(one));
        let hex = "11".repeat(32);
        for text in [
            "",
            "4",
            "4 11",
            &format!("4 {hex}"),
            &format!("24 {hex} x"),
            &format!("x {hex} x"),
            &format!("4 {hex} a\nb"),
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}

//! What changed between two policies, part by part where both say which events they expect. A change that lets more nodes in is
//! marked, because that is what a second signer looks for. Only told, never judged.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::event::Part;
use super::image::REGISTERS;
use super::{Image, Policy};
use crate::pcr::PcrValue;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The image it is in; none for the policy as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What changed: a key, a register or a part of one.
    pub what: String,
    /// What it was; none when it was not there.
    pub old: Option<String>,
    /// What it is; none when it is not there.
    pub new: Option<String>,
    /// The new policy accepts something here that the old one refused.
    pub weaker: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.weaker { "! " } else { "  " })?;
        if let Some(image) = &self.image {
            write!(f, "image \"{image}\": ")?;
        }
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{}: {old} → {new}", self.what),
            (Some(old), None) => write!(f, "{} gone: {old}", self.what),
            (None, Some(new)) => write!(f, "{} new: {new}", self.what),
            (None, None) => f.write_str(&self.what),
        }
    }
}

/// Every change from `old` to `new`; none when they accept the same.
pub fn diff(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut changes = Changes {
        image: None,
        list: vec![],
    };
    changes.values("name", &old.name, &new.name, false);
    changes.values("counter", &old.counter, &new.counter, new.counter < old.counter);
    let guard_dropped = old.require_guard && !new.require_guard;
    changes.values("require_guard", &old.require_guard, &new.require_guard, guard_dropped);
    let report_dropped = new.systemd_report < old.systemd_report;
    changes.options(
        "systemd_report",
        &old.systemd_report,
        &new.systemd_report,
        report_dropped,
    );
    changes.sets("identity", &old.identity, &new.identity, true);
    if old.counters != new.counters {
        changes.push("what [counters] demands", None, None, true);
    }
    for (old, new) in pairs(old, new) {
        changes.image = new.or(old).map(|image| image.name.clone());
        match (old, new) {
            (Some(old), Some(new)) => changes.images(old, new),
            (Some(_), None) => changes.push("image", Some("accepted".into()), None, false),
            (None, Some(_)) => changes.push("image", None, Some("accepted".into()), true),
            (None, None) => {}
        }
    }
    changes.list
}

/// Images of one name; a single image on each side is the same one under another name.
fn pairs<'a>(old: &'a Policy, new: &'a Policy) -> Vec<(Option<&'a Image>, Option<&'a Image>)> {
    let named = |policy: &'a Policy, name: &str| policy.images.iter().find(|image| image.name == name);
    let gone: Vec<_> = old.images.iter().filter(|i| named(new, &i.name).is_none()).collect();
    let added: Vec<_> = new.images.iter().filter(|i| named(old, &i.name).is_none()).collect();
    let both = old
        .images
        .iter()
        .filter_map(|i| Some((Some(i), Some(named(new, &i.name)?))));
    let mut pairs: Vec<_> = both.collect();
    match (&gone[..], &added[..]) {
        ([old], [new]) => pairs.push((Some(old), Some(new))),
        _ => {
            pairs.extend(gone.into_iter().map(|image| (Some(image), None)));
            pairs.extend(added.into_iter().map(|image| (None, Some(image))));
        }
    }
    pairs
}

struct Changes {
    image: Option<String>,
    list: Vec<Change>,
}

impl Changes {
    fn push(&mut self, what: impl Into<String>, old: Option<String>, new: Option<String>, weaker: bool) {
        self.list.push(Change {
            image: self.image.clone(),
            what: what.into(),
            old,
            new,
            weaker,
        });
    }

    fn values<T: PartialEq + fmt::Display>(&mut self, what: &str, old: &T, new: &T, weaker: bool) {
        if old != new {
            self.push(what, Some(old.to_string()), Some(new.to_string()), weaker);
        }
    }

    fn options<T: PartialEq + fmt::Display>(&mut self, what: &str, old: &Option<T>, new: &Option<T>, weaker: bool) {
        if old != new {
            let shown = |value: &Option<T>| value.as_ref().map(T::to_string);
            self.push(what, shown(old), shown(new), weaker);
        }
    }

    /// Entries that came and went, each a change of its own. What came lets more in when `more_is_weaker`, else what went does.
    fn sets<T: PartialEq + fmt::Display>(&mut self, what: &str, old: &[T], new: &[T], more_is_weaker: bool) {
        for gone in old.iter().filter(|entry| !new.contains(entry)) {
            self.push(what, Some(gone.to_string()), None, !more_is_weaker);
        }
        for added in new.iter().filter(|entry| !old.contains(entry)) {
            self.push(what, None, Some(added.to_string()), more_is_weaker);
        }
    }

    fn images(&mut self, old: &Image, new: &Image) {
        self.values("name", &old.name, &new.name, false);
        self.values("bank", &old.bank, &new.bank, false);
        let earlier = new.not_before.unwrap_or_default() < old.not_before.unwrap_or_default();
        self.options("not_before", &old.not_before, &new.not_before, earlier);
        let later = match (old.not_after, new.not_after) {
            (Some(old), Some(new)) => new > old,
            (old, new) => old.is_some() && new.is_none(),
        };
        self.options("not_after", &old.not_after, &new.not_after, later);
        let dropped = old.require_secure_boot && !new.require_secure_boot;
        self.values(
            "require_secure_boot",
            &old.require_secure_boot,
            &new.require_secure_boot,
            dropped,
        );
        self.sets("accepted risk", &old.accepted_risks, &new.accepted_risks, true);
        self.command_line(old, new);
        for pcr in REGISTERS {
            self.register(pcr, old, new);
        }
        self.release_key(old, new);
        self.sets("section", &old.sections(), &new.sections(), false);
        let both = |there: [bool; 2], equal: bool| there == [true, true] && !equal;
        for (section, moved) in [
            ("snp", both([old.snp.is_some(), new.snp.is_some()], old.snp == new.snp)),
            ("tdx", both([old.tdx.is_some(), new.tdx.is_some()], old.tdx == new.tdx)),
            ("ima", both([old.ima.is_some(), new.ima.is_some()], old.ima == new.ima)),
        ] {
            if moved {
                // Which way it moved is not told apart, so it is marked.
                self.push(format!("what section {section} demands"), None, None, true);
            }
        }
    }

    fn command_line(&mut self, old: &Image, new: &Image) {
        let words = |image: &Image| -> Vec<String> {
            let line = image.cmdline.as_deref().unwrap_or_default();
            line.split_ascii_whitespace().map(str::to_owned).collect()
        };
        let (before, after) = (words(old), words(new));
        let only = |these: &[String], others: &[String]| {
            let words: Vec<_> = these.iter().filter(|w| !others.contains(w)).cloned().collect();
            (!words.is_empty()).then(|| words.join(" "))
        };
        let (gone, added) = (only(&before, &after), only(&after, &before));
        if gone.is_some() || added.is_some() {
            self.push("command line", gone, added, false);
        } else if before != after {
            self.push("command line: the order of its words", None, None, false);
        }
    }

    fn register(&mut self, pcr: u8, old: &Image, new: &Image) {
        let (before, after) = (old.accepted(pcr), new.accepted(pcr));
        if set(before) == set(after) {
            return;
        }
        let judged_no_more = after.is_empty();
        let accepts_more = !before.is_empty() && set(after).is_superset(&set(before));
        let parts = changed_parts(pcr, &old.events, &new.events);
        if parts.is_empty() || judged_no_more {
            let shown = |values: &[PcrValue]| {
                let words: Vec<_> = values.iter().map(PcrValue::to_string).collect();
                (!words.is_empty()).then(|| words.join(" or "))
            };
            self.push(
                format!("PCR {pcr}"),
                shown(before),
                shown(after),
                judged_no_more || accepts_more,
            );
        }
        for (what, gone, added) in parts {
            self.push(format!("PCR {pcr}, {what}"), gone, added, accepts_more);
        }
    }

    fn release_key(&mut self, old: &Image, new: &Image) {
        match (&old.pcr11_signed, &new.pcr11_signed) {
            (Some(before), Some(after)) => {
                let keys = [before, after].map(|signed| signed.key.fingerprint());
                self.values("release key of PCR 11", &keys[0], &keys[1], keys[0] != keys[1]);
                let lower = after.counter.unwrap_or_default() < before.counter.unwrap_or_default();
                self.options("lowest image counter", &before.counter, &after.counter, lower);
                self.sets("revoked PCR 11", &before.revoked, &after.revoked, false);
            }
            (None, Some(after)) => {
                let key = after.key.fingerprint().to_string();
                self.push("release key of PCR 11", None, Some(key), true);
            }
            (Some(before), None) => {
                let key = before.key.fingerprint().to_string();
                self.push("release key of PCR 11", Some(key), None, false);
            }
            (None, None) => {}
        }
    }
}

fn set(values: &[PcrValue]) -> BTreeSet<&PcrValue> {
    values.iter().collect()
}

/// The events of one register whose digests differ, by name.
fn changed_parts(pcr: u8, old: &[Part], new: &[Part]) -> Vec<(String, Option<String>, Option<String>)> {
    fn of(parts: &[Part], pcr: u8) -> Vec<&Part> {
        parts.iter().filter(|part| part.pcr == pcr).collect()
    }
    let (before, after) = (of(old, pcr), of(new, pcr));
    if before.is_empty() || after.is_empty() {
        return vec![];
    }
    let find = |parts: &[&Part], what: &str| parts.iter().find(|p| p.what == what).map(|p| p.digest);
    let mut names: Vec<&str> = Vec::new();
    for part in before.iter().chain(&after) {
        if !names.contains(&part.what.as_str()) {
            names.push(&part.what);
        }
    }
    names
        .into_iter()
        .map(|what| (what, find(&before, what), find(&after, what)))
        .filter(|(_, gone, added)| gone != added)
        .map(|(what, gone, added)| {
            (
                what.to_owned(),
                gone.map(|d| d.to_string()),
                added.map(|d| d.to_string()),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcr::Bank;
    use crate::policy::{Identity, Instant, ReportRule, sample};

    fn told(old: &Policy, new: &Policy) -> Vec<String> {
        diff(old, new).iter().map(Change::to_string).collect()
    }

    #[test]
    fn nothing_changed_is_nothing_told() {
        assert_eq!(diff(&sample([1; 5]), &sample([1; 5])), []);
    }

    #[test]
    fn a_changed_part_is_named_and_not_only_its_register() {
        let with = |initrd: &str| {
            let mut policy = sample([1; 5]);
            let hash = |word: &str| Bank::Sha256.hash(&[word.as_bytes()]);
            policy.images[0].pcr9 = vec![hash(initrd)];
            policy.images[0].events = [("the command line", "ro"), ("the initrd", initrd)]
                .map(|(what, word)| Part {
                    pcr: 9,
                    digest: hash(word),
                    what: what.into(),
                })
                .to_vec();
            policy
        };
        let changes = diff(&with("one"), &with("two"));
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].what, "PCR 9, the initrd");
        assert!(!changes[0].weaker);
    }

    #[test]
    fn without_parts_the_values_are_told() {
        let (old, new) = (sample([1; 5]), sample([1, 2, 1, 1, 1]));
        let values = ["01", "02"].map(|byte| byte.repeat(32));
        assert_eq!(
            told(&old, &new),
            [format!("  image \"demo\": PCR 7: {} → {}", values[0], values[1])]
        );
    }

    #[test]
    fn the_command_line_is_compared_word_by_word() {
        let with = |cmdline: &str| {
            let mut policy = sample([1; 5]);
            policy.images[0].cmdline = Some(cmdline.into());
            policy
        };
        let changes = told(&with("ro quiet a=1"), &with("ro a=2 quiet"));
        assert_eq!(changes, ["  image \"demo\": command line: a=1 → a=2"]);
        let changes = told(&with("ro quiet"), &with("quiet ro"));
        assert_eq!(changes, ["  image \"demo\": command line: the order of its words"]);
    }

    #[test]
    fn whatever_lets_more_in_is_marked() {
        let strict = || {
            let mut policy = sample([1; 5]);
            policy.require_guard = true;
            policy.systemd_report = Some(ReportRule::Nonce);
            policy.identity = vec![Identity::Certified];
            policy.images[0].require_secure_boot = true;
            policy.images[0].not_before = Some(Instant(100));
            policy.images[0].not_after = Some(Instant(200));
            policy.images[0].pcr14 = vec![Bank::Sha256.zero()];
            policy
        };
        type Change = fn(&mut Policy);
        let weaker: [(&str, Change); 10] = [
            ("counter", |p| p.counter -= 1),
            ("require_guard", |p| p.require_guard = false),
            ("systemd_report", |p| p.systemd_report = None),
            ("systemd_report", |p| p.systemd_report = Some(ReportRule::Required)),
            ("identity", |p| p.identity.push(Identity::FirstUse)),
            ("require_secure_boot", |p| p.images[0].require_secure_boot = false),
            ("not_before", |p| p.images[0].not_before = None),
            ("not_after", |p| p.images[0].not_after = Some(Instant(201))),
            ("PCR 14", |p| p.images[0].pcr14.clear()),
            ("accepted risk", |p| p.images[0].accepted_risks.push("gpt-auto".into())),
        ];
        for (what, change) in weaker {
            let mut new = strict();
            change(&mut new);
            let there = diff(&strict(), &new);
            assert!(
                matches!(&there[..], [c] if c.what == what && c.weaker),
                "{what}: {there:?}"
            );
            let back = diff(&new, &strict());
            assert!(
                matches!(&back[..], [c] if c.what == what && !c.weaker),
                "{what}: {back:?}"
            );
        }
        let mut value_more = strict();
        value_more.images[0].pcr7.push(Bank::Sha256.zero());
        assert!(diff(&strict(), &value_more)[0].weaker, "one more value of a register");
        assert!(!diff(&value_more, &strict())[0].weaker);
        let mut more = strict();
        more.images.push(Image::new("other", Bank::Sha256));
        assert!(diff(&strict(), &more).iter().any(|c| c.what == "image" && c.weaker));
    }
}

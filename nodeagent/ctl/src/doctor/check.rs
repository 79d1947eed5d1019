//! One thing that was looked at: its state, why, and what to do about it.

use std::borrow::Cow;

use rempart_api::exit;
use serde::Serialize;

use crate::talk::one_line;

/// Format of the report.
const VERSION: u32 = 1;

/// How it is; the worst comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[must_use]
pub enum State {
    /// As it should be.
    Ok,
    /// Worth knowing, and no defect.
    Note,
    /// It could not be looked at: silence must not pass for content.
    Unseen,
    /// It works, and is weaker than it could be or will soon not work.
    Degraded,
    /// A service gets no secret, or a secret has not the protection that it should have.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: a name of the catalogue.
    pub name: &'static str,
    /// Which one, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How it is.
    pub state: State,
    /// What was found, one line.
    pub found: String,
    /// What to do, one line.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Cow<'static, str>>,
}

impl Check {
    fn new(name: &'static str, state: State, found: impl Into<String>, remedy: Option<Cow<'static, str>>) -> Self {
        // Other programs' words may be in it.
        let found = one_line(&found.into());
        let remedy = remedy.map(|text| {
            if text.contains(char::is_control) {
                one_line(&text).into()
            } else {
                text
            }
        });
        Self {
            name,
            subject: None,
            state,
            found,
            remedy,
        }
    }

    /// As it should be.
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, State::Ok, found, None)
    }

    /// Worth knowing.
    pub fn note(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, State::Note, found, None)
    }

    /// Not to be seen.
    pub fn unseen(name: &'static str, found: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, State::Unseen, found, Some(remedy.into()))
    }

    /// Weaker than it could be.
    pub fn degraded(name: &'static str, found: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, State::Degraded, found, Some(remedy.into()))
    }

    /// Not there.
    pub fn failed(name: &'static str, found: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, State::Failed, found, Some(remedy.into()))
    }

    /// Of one of several.
    #[must_use]
    pub fn of(self, subject: impl Into<String>) -> Self {
        Self {
            subject: Some(one_line(&subject.into())),
            ..self
        }
    }

    /// For people: one line, and one more where something is to be done.
    pub fn lines(&self) -> String {
        let word = match self.state {
            State::Ok => "ok      ",
            State::Note => "note    ",
            State::Unseen => "unseen  ",
            State::Degraded => "DEGRADED",
            State::Failed => "FAILED  ",
        };
        let subject = self
            .subject
            .as_ref()
            .map(|subject| format!("{subject}: "))
            .unwrap_or_default();
        let remedy = self
            .remedy
            .as_ref()
            .map(|remedy| format!("\n{:31}→ {remedy}", ""))
            .unwrap_or_default();
        format!("{word}  {:<20} {subject}{}{remedy}", self.name, self.found)
    }
}

/// All of it: docs/doctor.schema.json.
#[derive(Debug, Serialize)]
pub struct Report {
    v: u32,
    /// `ok`, `degraded` or `failed`.
    pub state: State,
    checks: Vec<Check>,
}

impl Report {
    /// What all checks amount to.
    pub fn of(checks: Vec<Check>) -> Self {
        let worst = checks.iter().map(|check| check.state).max().unwrap_or(State::Unseen);
        let state = match worst {
            State::Ok | State::Note => State::Ok,
            State::Unseen | State::Degraded => State::Degraded,
            State::Failed => State::Failed,
        };
        Self {
            v: VERSION,
            state,
            checks,
        }
    }

    /// For scripts.
    pub fn exit(&self) -> u8 {
        match self.state {
            State::Ok | State::Note => 0,
            State::Unseen | State::Degraded => exit::DEGRADED,
            State::Failed => exit::OS,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text: String = self.checks.iter().map(|check| check.lines() + "\n").collect();
        let count = |state| self.checks.iter().filter(|check| check.state == state).count();
        let told = [
            ("failed", State::Failed),
            ("degraded", State::Degraded),
            ("unseen", State::Unseen),
        ];
        let told: Vec<String> = told
            .into_iter()
            .filter(|(_, state)| count(*state) > 0)
            .map(|(word, state)| format!("{} {word}", count(state)))
            .collect();
        text += &match told.as_slice() {
            [] => format!("all of {} checks are well\n", self.checks.len()),
            some => format!("{} of {} checks\n", some.join(", "), self.checks.len()),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_and_what_was_not_seen_is_not_well() {
        let report = |checks| Report::of(checks);
        let (ok, note) = (|| Check::ok("a", "x"), || Check::note("b", "x"));
        assert_eq!(report(vec![ok(), note()]).exit(), 0);
        assert_eq!(report(vec![ok(), Check::unseen("c", "x", "y")]).exit(), exit::DEGRADED);
        assert_eq!(
            report(vec![ok(), Check::degraded("c", "x", "y")]).exit(),
            exit::DEGRADED
        );
        assert_eq!(
            report(vec![Check::failed("d", "x", "y"), Check::degraded("c", "x", "y"), ok()]).exit(),
            exit::OS
        );
        assert_eq!(report(Vec::new()).exit(), exit::DEGRADED, "nothing was looked at");
    }

    #[test]
    fn what_other_programs_say_stays_one_line() {
        let check = Check::failed("unit", "a\nb\u{1b}[2J", format!("c{}d", '\n')).of("x\ny");
        assert_eq!(check.lines().lines().count(), 2, "{}", check.lines());
        assert!(!check.found.contains(char::is_control));
    }

    #[test]
    fn the_schema_in_docs_has_the_fields_and_the_states() {
        let text = include_str!("../../../../docs/doctor.schema.json");
        let schema: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let report = serde_json::to_value(Report::of(vec![Check::failed("a", "x", "y").of("z")])).expect("plain");
        let keys = |value: &serde_json::Value| {
            let mut keys: Vec<String> = value.as_object().expect("an object").keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&schema["properties"]), keys(&report));
        let check = &schema["properties"]["checks"]["items"]["properties"];
        assert_eq!(keys(check), keys(&report["checks"][0]));
        let states = [State::Ok, State::Note, State::Unseen, State::Degraded, State::Failed];
        assert_eq!(check["state"]["enum"], serde_json::to_value(states).expect("words"));
    }
}

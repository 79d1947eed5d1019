//! Aggregates events into journal lines: the first of a kind at once, the rest counted and said every ten
//! seconds. A flood of attempts must not become a flood of lines, and no attempt goes uncounted.

use rempart_api::guard::Event;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long repetitions are counted before they are said.
const WINDOW: Duration = Duration::from_secs(10);
/// Kinds counted apart; further ones are counted together.
const MAX_KINDS: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Kind {
    vector: String,
    verdict: String,
    unit: String,
    actor: u32,
    comm: String,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Digest {
    kinds: HashMap<Kind, u64>,
    others: u64,
    since: Option<Instant>,
}

impl Digest {
    /// Takes an event; a line when it is the first of its kind in this window.
    pub(crate) fn take(&mut self, event: &Event, now: Instant) -> Option<String> {
        self.since.get_or_insert(now);
        let kind = Kind {
            vector: event.vector.clone(),
            verdict: event.verdict.clone(),
            unit: event.target_unit.clone(),
            actor: event.tgid,
            comm: event.comm.clone(),
        };
        if let Some(count) = self.kinds.get_mut(&kind) {
            *count += 1 + u64::from(event.suppressed);
            return None;
        }
        if self.kinds.len() >= MAX_KINDS {
            self.others += 1 + u64::from(event.suppressed);
            return None;
        }
        let line = format!(
            "{} {} on {} by {}[{}] uid {} (event {})",
            kind.verdict,
            kind.vector,
            target(&kind.unit, event.target_pid),
            kind.comm.escape_default(),
            event.tgid,
            event.uid,
            event.seq
        );
        self.kinds.insert(kind, u64::from(event.suppressed));
        Some(line)
    }

    /// The lines about repetitions once the window is over.
    pub(crate) fn flush(&mut self, now: Instant) -> Vec<String> {
        if self.since.is_none_or(|since| now.duration_since(since) < WINDOW) {
            return Vec::new();
        }
        self.since = None;
        let mut repeated: Vec<_> = self.kinds.drain().filter(|(_, count)| *count > 0).collect();
        repeated.sort();
        let mut lines: Vec<String> = repeated
            .into_iter()
            .map(|(kind, count)| {
                let who = format!("{}[{}]", kind.comm.escape_default(), kind.actor);
                format!(
                    "{} {} on {} by {who}: {count} more times",
                    kind.verdict,
                    kind.vector,
                    target(&kind.unit, 0)
                )
            })
            .collect();
        if self.others > 0 {
            lines.push(format!("{} more attempts of further kinds", self.others));
        }
        self.others = 0;
        lines
    }
}

fn target(unit: &str, pid: u32) -> String {
    match (unit, pid) {
        ("", _) => "the machine".into(),
        (unit, 0) => unit.into(),
        (unit, pid) => format!("{unit} (pid {pid})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(vector: &str, tgid: u32) -> Event {
        Event {
            v: 1,
            seq: 1,
            boottime_ns: 1,
            vector: vector.into(),
            verdict: "denied".into(),
            pid: tgid,
            tgid,
            uid: 0,
            comm: "gdb".into(),
            target_pid: 9,
            target_unit: "x.service".into(),
            suppressed: 0,
        }
    }

    #[test]
    fn what_the_programs_only_counted_is_counted_here_too() {
        let (mut digest, start) = (Digest::default(), Instant::now());
        let mut flood = event("KCMP", 5);
        flood.suppressed = 100;
        assert!(digest.take(&flood, start).is_some());
        assert!(digest.take(&flood, start).is_none());
        let lines = digest.flush(start + WINDOW);
        assert!(lines[0].ends_with("201 more times"), "{lines:?}");
    }

    #[test]
    fn the_first_is_said_at_once_and_repetitions_are_counted() {
        let (mut digest, start) = (Digest::default(), Instant::now());
        assert!(
            digest
                .take(&event("PTRACE_ATTACH", 5), start)
                .is_some_and(|l| l.contains("denied PTRACE_ATTACH"))
        );
        for _ in 0..1000 {
            assert_eq!(digest.take(&event("PTRACE_ATTACH", 5), start), None);
        }
        assert!(digest.flush(start).is_empty());
        let lines = digest.flush(start + WINDOW);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("1000 more times"), "{lines:?}");
    }

    #[test]
    fn a_flood_of_kinds_is_counted_together() {
        let (mut digest, start) = (Digest::default(), Instant::now());
        let said = (0..1000)
            .filter(|tgid| digest.take(&event("KCMP", *tgid), start).is_some())
            .count();
        assert_eq!(said, MAX_KINDS);
        assert_eq!(
            digest.flush(start + WINDOW),
            vec![format!("{} more attempts of further kinds", 1000 - MAX_KINDS)]
        );
    }

    #[test]
    fn a_command_name_cannot_forge_a_line() {
        let mut forged = event("KCMP", 1);
        forged.comm = "x\n<6>all fine".into();
        let line = Digest::default().take(&forged, Instant::now()).expect("the first");
        assert!(!line.contains('\n'));
    }
}

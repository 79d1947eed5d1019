//! Values of starts that are under way, of units with credentials: systemd asks for those one by one and before each command, the wrapper for
//! the rest at the end, and all of them are to be of one answer of the vault's.
//!
//! Must never serve another start than the one that they were fetched for, nor keep them when it is over.
//!
//! nothing → held (systemd's first question) → over (the unit is active or failed, a lock, too long); another start begins anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rempart_secret::SecretBytes;
use tokio::{sync::OwnedMutexGuard, time::timeout};

use crate::systemd::manager;

/// Between two looks at the units while something is held.
const LOOK: Duration = Duration::from_secs(2);
/// Longest start that is served, as long as `ExecStartPre=` commands of minutes need.
const LONGEST: Duration = Duration::from_secs(600);
/// A unit of Type=simple is active before its wrapper has asked: so long at most.
const WRAPPER: Duration = Duration::from_secs(60);
/// One question to systemd.
const EXCHANGE: Duration = Duration::from_secs(10);

/// Of all units, in the agent's secret memory.
#[derive(Default)]
pub struct Starts {
    starts: Mutex<HashMap<String, Start>>,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What the vault has given for one start.
#[derive(Default)]
pub struct Answer {
    /// Values of the unit's secrets, then of its ingredients.
    pub values: Vec<SecretBytes>,
    /// How old they are, when the vault was away.
    pub age: Option<Duration>,
    /// What systemd is to get, by name.
    pub credentials: Vec<(String, SecretBytes)>,
}

/// The last one of a unit.
struct Start {
    invocation: String,
    since: Instant,
    /// The wrapper has got the rest.
    complete: bool,
    /// The values, or why they are gone.
    answer: Result<Arc<Answer>, &'static str>,
}

impl Starts {
    /// Questions for one unit wait for each other.
    pub async fn turn(&self, unit: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(unit.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// What is held for this start; `None` before its first question, an error when it was and is no more.
    pub fn held(&self, unit: &str, invocation: &str) -> Result<Option<Arc<Answer>>, &'static str> {
        match self.starts().get(unit) {
            Some(start) if start.invocation == invocation => start.answer.clone().map(Some),
            _ => Ok(None),
        }
    }

    /// Holds `answer` until the start is over; what was of an earlier one is gone.
    pub fn hold(&self, unit: &str, invocation: &str, answer: Answer) -> Arc<Answer> {
        let answer = Arc::new(answer);
        let start = Start {
            invocation: invocation.to_owned(),
            since: Instant::now(),
            complete: false,
            answer: Ok(answer.clone()),
        };
        self.starts().insert(unit.to_owned(), start);
        answer
    }

    /// The wrapper has got the rest.
    pub fn complete(&self, unit: &str, invocation: &str) {
        if let Some(start) = self.starts().get_mut(unit)
            && start.invocation == invocation
        {
            start.complete = true;
        }
    }

    /// Nothing more for this start.
    pub fn end(&self, unit: &str, invocation: &str, why: &'static str) {
        if let Some(start) = self.starts().get_mut(unit)
            && start.invocation == invocation
            && start.answer.is_ok()
        {
            start.answer = Err(why);
        }
    }

    /// The node is locked.
    pub fn forget(&self) {
        for start in self.starts().values_mut().filter(|start| start.answer.is_ok()) {
            start.answer = Err("the node was locked since it began to start");
        }
    }

    /// Wipes what is of starts that are over. For ever.
    pub async fn watch(self: Arc<Self>, bus: zbus::Connection) {
        loop {
            tokio::time::sleep(LOOK).await;
            let held: Vec<(String, String)> = {
                let starts = self.starts();
                let held = starts.iter().filter(|(_, start)| start.answer.is_ok());
                held.map(|(unit, start)| (unit.clone(), start.invocation.clone()))
                    .collect()
            };
            for (unit, invocation) in held {
                let state = timeout(EXCHANGE, manager::state(&bus, &unit, &invocation)).await;
                let mut starts = self.starts();
                let Some(start) = starts.get_mut(&unit).filter(|start| start.invocation == invocation) else {
                    continue;
                };
                // What systemd does not say is no end, but for the bound.
                let state = match &state {
                    Ok(Ok(Some((active, sub)))) => Some((active.as_str(), sub.as_str())),
                    Ok(Ok(None)) => Some(("inactive", "dead")),
                    _ => None,
                };
                if let (true, Some(why)) = (start.answer.is_ok(), over(state, start.since.elapsed(), start.complete)) {
                    tracing::debug!("the values of {unit} are wiped: {why}");
                    start.answer = Err(why);
                }
            }
        }
    }

    fn starts(&self) -> MutexGuard<'_, HashMap<String, Start>> {
        // Single map operations; a panic leaves it whole.
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a start is over by `state` (`ActiveState` and `SubState`), and why.
fn over(state: Option<(&str, &str)>, age: Duration, complete: bool) -> Option<&'static str> {
    const OVER: Option<&str> = Some("that start is over");
    if age > LONGEST {
        return Some("its start took longer than 10 minutes");
    }
    match state? {
        ("activating", sub) if !sub.starts_with("auto-restart") => None,
        ("active" | "reloading" | "refreshing", _) if !complete && age < WRAPPER => None,
        _ => OVER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(value: &[u8]) -> Answer {
        Answer {
            values: vec![SecretBytes::new(value.to_vec())],
            ..Answer::default()
        }
    }

    #[test]
    fn an_answer_is_of_one_start_and_does_not_come_back_when_that_is_over() {
        let starts = Starts::default();
        assert!(starts.held("a.service", "1").expect("new").is_none());
        starts.hold("a.service", "1", answer(b"first"));
        let held = starts.held("a.service", "1").expect("held").expect("held");
        assert_eq!(held.values[0].expose().as_slice(), b"first");
        assert!(starts.held("a.service", "2").expect("another start").is_none());
        assert!(starts.held("b.service", "1").expect("another unit").is_none());
        starts.end("a.service", "2", "not this one");
        starts.end("a.service", "1", "it is over");
        assert_eq!(starts.held("a.service", "1").err(), Some("it is over"));
        let weak = Arc::downgrade(&held);
        drop(held);
        assert!(weak.upgrade().is_none(), "wiped");
        starts.hold("a.service", "2", answer(b"second"));
        starts.forget();
        assert!(starts.held("a.service", "2").is_err_and(|why| why.contains("locked")));
        starts.hold("a.service", "3", answer(b"third"));
        assert!(starts.held("a.service", "3").is_ok());
    }

    #[test]
    fn a_start_is_over_when_the_unit_is_active_failed_or_waits_for_its_next() {
        let (young, old, ancient) = (Duration::ZERO, WRAPPER, LONGEST + Duration::from_secs(1));
        for (state, age, complete, wiped) in [
            (Some(("activating", "start-pre")), old, false, false),
            (Some(("activating", "start-post")), old, true, false),
            (Some(("activating", "auto-restart")), young, false, true),
            (Some(("activating", "auto-restart-queued")), young, true, true),
            (Some(("active", "running")), young, false, false),
            (Some(("active", "running")), old, false, true),
            (Some(("active", "running")), young, true, true),
            (Some(("deactivating", "stop")), young, false, true),
            (Some(("failed", "failed")), young, false, true),
            (Some(("inactive", "dead")), young, false, true),
            (None, old, true, false),
            (None, ancient, false, true),
            (Some(("activating", "start")), ancient, false, true),
        ] {
            assert_eq!(
                over(state, age, complete).is_some(),
                wiped,
                "{state:?} {age:?} {complete}"
            );
        }
    }

    #[tokio::test]
    async fn questions_for_one_unit_take_turns_and_hold_up_no_other() {
        let starts = Starts::default();
        let first = starts.turn("a.service").await;
        drop(starts.turn("b.service").await);
        let second = timeout(Duration::from_millis(20), starts.turn("a.service")).await;
        assert!(second.is_err(), "the first has not ended");
        drop(first);
        drop(starts.turn("a.service").await);
    }
}

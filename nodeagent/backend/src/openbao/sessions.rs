//! The logins that are held, by role. Nobody waits here for the server: what is asked of it is asked with a copy.
//!
//! Must never keep a login that was made before everything was given up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::session::Session;
use crate::Lease;

/// All of them.
#[derive(Default)]
pub(super) struct Sessions {
    state: Mutex<State>,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Default)]
struct State {
    /// Counts how often everything was given up.
    epoch: u64,
    of: HashMap<String, Session>,
    /// Replaced ones with their roles, which serve their leases until they end. Those in doubt are renewed.
    retired: Vec<(String, Session)>,
}

impl Sessions {
    /// The turn to log in under `role`: one at a time, so that the others find its login.
    pub fn turn(&self, role: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(role.to_owned()).or_default().clone()
    }

    /// The one of `role`, if it can be used for something new.
    pub fn of(&self, role: &str) -> Option<Session> {
        self.state()
            .of
            .get(role)
            .filter(|session| session.usable() && !session.rests.in_doubt())
            .cloned()
    }

    /// The one that `lease` was given under, if it can be used.
    pub fn of_lease(&self, lease: &Lease) -> Option<Session> {
        let state = self.state();
        let mut all = state
            .of
            .values()
            .chain(state.retired.iter().map(|(_, session)| session));
        all.find(|session| session.serial == lease.session && session.usable())
            .cloned()
    }

    /// To be said when a login begins.
    pub fn epoch(&self) -> u64 {
        self.state().epoch
    }

    /// Holds a login that began in `epoch`; the one before it serves its leases to its end. Gives it back when everything was given up
    /// meanwhile.
    #[must_use]
    pub fn put(&self, role: &str, session: Session, epoch: u64) -> Option<Session> {
        let mut state = self.state();
        if state.epoch != epoch {
            return Some(session);
        }
        state.retired.retain(|(_, session)| session.usable());
        let before = state.of.insert(role.to_owned(), session).filter(Session::usable);
        state.retired.extend(before.map(|session| (role.to_owned(), session)));
        None
    }

    /// Every role with its login, and with those in doubt, which were replaced before their time.
    pub fn all(&self) -> Vec<(String, Session)> {
        let state = self.state();
        let doubtful = state
            .retired
            .iter()
            .filter(|(_, session)| session.rests.in_doubt() && session.usable());
        state
            .of
            .iter()
            .chain(doubtful.map(|(role, session)| (role, session)))
            .map(|(role, session)| (role.clone(), session.clone()))
            .collect()
    }

    /// Those that have served: in doubt, and nothing that is known rests on them.
    pub fn done(&self) -> Vec<(String, Session)> {
        let mut all = self.all();
        all.retain(|(_, session)| session.rests.is_done());
        all
    }

    /// The same login with another end, if it is still held.
    pub fn renew(&self, role: &str, session: Session) {
        let mut state = self.state();
        let State { of, retired, .. } = &mut *state;
        let mut held = of
            .get_mut(role)
            .into_iter()
            .chain(retired.iter_mut().map(|(_, session)| session));
        if let Some(known) = held.find(|known| known.serial == session.serial) {
            *known = session;
        }
    }

    /// Lets go of this login of a role, if it is still held.
    pub fn remove(&self, role: &str, serial: u64) {
        let mut state = self.state();
        if state.of.get(role).is_some_and(|known| known.serial == serial) {
            state.of.remove(role);
        }
        state.retired.retain(|(_, session)| session.serial != serial);
    }

    /// Lets go of all logins of a role.
    pub fn remove_all(&self, role: &str) -> Vec<Session> {
        let mut state = self.state();
        let now = state.of.remove(role);
        let (own, others) = std::mem::take(&mut state.retired)
            .into_iter()
            .partition(|(of, _)| of == role);
        state.retired = others;
        let own: Vec<(String, Session)> = own;
        now.into_iter()
            .chain(own.into_iter().map(|(_, session)| session))
            .collect()
    }

    /// Gives up everything.
    pub fn drain(&self) -> Vec<Session> {
        let mut state = self.state();
        state.epoch += 1;
        let of = std::mem::take(&mut state.of);
        let retired = std::mem::take(&mut state.retired)
            .into_iter()
            .map(|(_, session)| session);
        of.into_values().chain(retired).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Single operations on maps; a panic leaves them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

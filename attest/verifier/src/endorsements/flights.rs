//! One asker for many who want the same thing. The work runs on its own task: a waiter who goes away does not stop it for the others.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Different things asked for at once, count. Beyond it, askers are turned away rather than queued.
const UNDER_WAY: usize = 1024;

type Waiting<K, V> = Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>;

/// What is being asked for right now.
pub struct Flights<K, V>(Waiting<K, V>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Takes the entry away also when the work panics.
struct Landing<K: Eq + Hash, V>(Waiting<K, V>, K);

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Waits for who is asking for `key` already, or has `work` asked for it. `None` where too much is under way, or the work failed.
    pub async fn ask<F>(&self, key: K, work: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut answer = {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match waiting.get(&key) {
                Some(answer) => answer.clone(),
                None if waiting.len() >= UNDER_WAY => return None,
                None => {
                    let (send, answer) = watch::channel(None);
                    waiting.insert(key.clone(), answer.clone());
                    let (landing, work) = (Landing(self.0.clone(), key), work());
                    tokio::spawn(async move {
                        let value = work.await;
                        // First the entry, then the news: who comes in between finds the value where the work has put it.
                        drop(landing);
                        send.send_replace(Some(value));
                    });
                    answer
                }
            }
        };
        let value = answer.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn many_askers_cost_one_piece_of_work_and_a_later_one_another() {
        let (flights, count) = (Arc::new(Flights::<u8, usize>::default()), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let (flights, count) = (flights.clone(), count.clone());
            tokio::spawn(async move {
                let work = || async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    count.fetch_add(1, Ordering::SeqCst)
                };
                flights.ask(1, work).await
            })
        };
        let asks: Vec<_> = (0..50).map(|_| ask()).collect();
        for ask in asks {
            assert_eq!(ask.await.expect("asked"), Some(0));
        }
        assert_eq!(ask().await.expect("asked"), Some(1), "nothing is remembered here");
    }

    #[tokio::test]
    async fn beyond_the_maximum_askers_are_turned_away() {
        let flights = Arc::new(Flights::<usize, ()>::default());
        for key in 0..UNDER_WAY {
            let flights = flights.clone();
            tokio::spawn(async move { flights.ask(key, std::future::pending).await });
        }
        while flights.0.lock().expect("lock").len() < UNDER_WAY {
            tokio::task::yield_now().await;
        }
        assert_eq!(flights.ask(UNDER_WAY, std::future::pending).await, None);
    }

    #[tokio::test]
    async fn work_that_panics_frees_its_place() {
        let flights = Flights::<u8, u8>::default();
        let failed = flights.ask(1, || async { panic!("on purpose") }).await;
        assert_eq!(failed, None);
        assert_eq!(flights.ask(1, || async { 7 }).await, Some(7));
    }

    #[tokio::test]
    async fn a_waiter_who_goes_away_does_not_stop_the_work() {
        let flights = Arc::new(Flights::<u8, u8>::default());
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            7
        };
        let gone = tokio::time::timeout(Duration::from_millis(5), flights.ask(1, slow)).await;
        assert!(gone.is_err());
        let other = flights.ask(1, || async { 8 }).await;
        assert_eq!(other, Some(7), "the first work answers both");
    }
}

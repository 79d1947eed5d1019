//! What rests on a login: leases that units hold, and leases that the server may have made in an answer that never came.
//!
//! Of the latter nobody knows the id, so only the end of the login ends them. A login of which that may be true is used for nothing new; it serves and is
//! renewed while a lease that is known rests on it, and is revoked when none does. Must never say so while one does or is being asked for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::answer::Answer;

/// Of one login.
#[derive(Default)]
pub(super) struct Rests {
    /// Leases that were given and not given back, and questions that may bring one.
    known: AtomicUsize,
    /// An answer was lost.
    doubt: AtomicBool,
}

/// A question that may bring a lease. One that nobody waits for any more leaves a doubt.
pub(super) struct Asking<'a> {
    rests: &'a Rests,
    answered: bool,
    leased: bool,
}

impl Rests {
    /// Before the question.
    pub fn ask(&self) -> Asking<'_> {
        self.known.fetch_add(1, SeqCst);
        Asking {
            rests: self,
            answered: false,
            leased: false,
        }
    }

    /// A lease has ended.
    pub fn given_back(&self) {
        // One that was counted by nobody changes nothing.
        let less = |known: usize| known.checked_sub(1);
        let _ = self.known.fetch_update(SeqCst, SeqCst, less);
    }

    /// Nothing new may be asked under it.
    pub fn in_doubt(&self) -> bool {
        self.doubt.load(SeqCst)
    }

    /// It is in doubt, and nothing that is known rests on it.
    pub fn is_done(&self) -> bool {
        self.in_doubt() && self.known.load(SeqCst) == 0
    }
}

impl Asking<'_> {
    /// The server's answer is a no: it has made nothing.
    pub fn failed(&mut self, answer: &Answer) {
        self.answered = answer.is_no();
    }

    /// The answer is there, with a lease or without one.
    pub fn answered(mut self, leased: bool) {
        (self.answered, self.leased) = (true, leased);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.rests.doubt.store(true, SeqCst);
        }
        if !self.leased {
            self.rests.given_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_done_when_an_answer_was_lost_and_all_that_is_known_is_given_back() {
        let rests = Rests::default();
        rests.ask().answered(true);
        rests.ask().answered(false);
        let mut refused = rests.ask();
        refused.failed(&Answer::Refused {
            status: 403,
            why: String::new(),
        });
        drop(refused);
        assert!(!rests.in_doubt() && !rests.is_done());

        let another = rests.ask();
        drop(rests.ask());
        assert!(rests.in_doubt(), "nobody waited for it");
        rests.given_back();
        assert!(!rests.is_done(), "another is being asked for");
        another.answered(false);
        assert!(rests.is_done());
        rests.given_back();
        assert!(rests.is_done());
    }

    #[test]
    fn only_a_no_of_the_server_itself_makes_nothing() {
        for (answer, doubt) in [
            (Answer::None("cut".into()), true),
            (Answer::Malformed, true),
            (
                Answer::Refused {
                    status: 502,
                    why: String::new(),
                },
                true,
            ),
            (
                Answer::Refused {
                    status: 404,
                    why: String::new(),
                },
                false,
            ),
        ] {
            let rests = Rests::default();
            rests.ask().failed(&answer);
            assert_eq!(rests.in_doubt(), doubt, "{answer}");
        }
    }
}

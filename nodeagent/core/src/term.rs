//! When something that is given for a time is asked to last longer, and when it has to be replaced.
//!
//! Must never put off the next step beyond the end: two thirds of a life are used, the last third is for a server that is away.

use std::time::Duration;

/// What is given for less is not worth asking for again.
const LEAST: Duration = Duration::from_secs(3);

/// What follows next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// More time is asked for.
    Renew,
    /// No more time is to be had: a new one has to come.
    Replace,
}

/// Its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// How long it is good for from its giving, or from when it was last made longer.
    pub life: Duration,
    /// How long it was good for at first.
    pub first: Duration,
    /// Whether it can be made longer.
    pub renewable: bool,
}

impl Term {
    /// The next step, and when from its giving. `jitter` is 0 to 999 and spreads those of one moment over a tenth of the life.
    pub fn next(&self, jitter: u32) -> (Duration, Step) {
        let at = self.life * 2 / 3 - self.life / 10_000 * jitter.min(999);
        // Near its longest time a server grants less and less.
        let step = if self.renewable && self.life >= LEAST && self.life * 3 >= self.first {
            Step::Renew
        } else {
            Step::Replace
        };
        (at, step)
    }

    /// When to ask again for what was not answered, `passed` after its giving: sooner and sooner, and not after the end.
    pub fn again(&self, passed: Duration) -> Option<Duration> {
        let left = self.life.checked_sub(passed).filter(|left| !left.is_zero())?;
        Some((left / 4).max(Duration::from_secs(1)).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(life: u64, first: u64, renewable: bool) -> Term {
        Term {
            life: Duration::from_secs(life),
            first: Duration::from_secs(first),
            renewable,
        }
    }

    #[test]
    fn two_thirds_of_the_life_less_some_jitter() {
        let hour = term(3600, 3600, true);
        assert_eq!(hour.next(0), (Duration::from_secs(2400), Step::Renew));
        let (early, _) = hour.next(999);
        assert!(
            early > Duration::from_secs(2035) && early < Duration::from_secs(2045),
            "{early:?}"
        );
    }

    #[test]
    fn what_gets_too_little_or_cannot_last_longer_is_replaced() {
        assert_eq!(term(1200, 3600, true).next(0).1, Step::Renew);
        assert_eq!(term(1199, 3600, true).next(0).1, Step::Replace);
        assert_eq!(term(3600, 3600, false).next(0).1, Step::Replace);
        assert_eq!(term(0, 3600, true).next(999), (Duration::ZERO, Step::Replace));
        assert_eq!(
            term(0, 0, true).next(0).1,
            Step::Replace,
            "and not asked again for ever"
        );
    }

    #[test]
    fn a_silent_server_is_asked_until_the_end_and_no_longer() {
        let term = term(60, 60, true);
        let mut passed = Duration::from_secs(40);
        let mut asked = 0;
        while let Some(wait) = term.again(passed) {
            passed += wait;
            asked += 1;
        }
        assert!((3..12).contains(&asked), "{asked}");
        assert!(passed >= Duration::from_secs(60));
    }
}

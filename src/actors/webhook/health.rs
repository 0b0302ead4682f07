//! How an endpoint does, and what that means for the calls to it. Pure: told the time and how calls ended.
//!
//! Owns when an endpoint is left alone and when it is given up. Failures that were under way together count as
//! one, so that a moment's outage does not give up an endpoint that is called many times at once.

use callboard_protocol::Timestamp;

/// After so many failures in a row the endpoint is left alone for a while, and then tried one call at a time.
pub const PAUSE_AFTER: u32 = 3;
/// After so many it is given up.
pub const DISABLE_AFTER: u32 = 20;
/// The shortest pause, whatever the topic says of retries: without any, all tries would be over in an instant.
const PAUSE_MS_MIN: u64 = 100;

/// How long the pauses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first one.
    pub first_ms: u64,
    /// Each is twice as long as the one before, up to this.
    pub max_ms: u64,
}

/// Counts the times that calls were stopped: a call belongs to the one in which it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round(u64);

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    GoOn,
    /// Leave it alone until then.
    Pause(Timestamp),
    /// It has failed too often.
    GiveUp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It takes calls as they come.
    #[default]
    Well,
    /// It gets none until then.
    Waiting(Timestamp),
    /// It gets one at a time, until one succeeds.
    Trying,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Health {
    failures: u32,
    round: Round,
    phase: Phase,
}

impl Health {
    /// How many calls at once it may get, of `concurrency`.
    pub fn calls_max(&self, concurrency: u64) -> u64 {
        match self.phase {
            Phase::Well => concurrency,
            Phase::Waiting(_) => 0,
            Phase::Trying => concurrency.min(1),
        }
    }

    /// The round in which a call begins now.
    pub fn round(&self) -> Round {
        self.round
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether it gets fewer calls than it could.
    pub fn is_paused(&self) -> bool {
        self.phase != Phase::Well
    }

    /// Until when it gets none.
    pub fn waits_until(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Waiting(until) => Some(until),
            Phase::Well | Phase::Trying => None,
        }
    }

    /// A call of `round` succeeded.
    pub fn succeeded(&mut self, round: Round) {
        self.failures = 0;
        if round == self.round {
            self.phase = Phase::Well;
        }
    }

    /// A call of `round` failed; `asked_ms` is how long the endpoint asks to be left alone.
    pub fn failed(
        &mut self,
        now: Timestamp,
        round: Round,
        asked_ms: Option<u64>,
        backoff: Backoff,
    ) -> Verdict {
        let asked = asked_ms.map(|ms| now.plus_ms(ms));
        if round != self.round {
            // It was under way when the others were stopped; only what it asks for is news.
            return match (&mut self.phase, asked) {
                (Phase::Waiting(until), Some(asked)) if asked > *until => {
                    *until = asked;
                    Verdict::Pause(asked)
                }
                _ => Verdict::GoOn,
            };
        }
        self.failures += 1;
        if self.failures >= DISABLE_AFTER {
            return Verdict::GiveUp;
        }
        let own = (self.failures >= PAUSE_AFTER).then(|| now.plus_ms(self.pause_ms(backoff)));
        let Some(until) = own.max(asked) else {
            return Verdict::GoOn;
        };
        self.round.0 += 1;
        self.phase = Phase::Waiting(until);
        Verdict::Pause(until)
    }

    fn pause_ms(&self, backoff: Backoff) -> u64 {
        let doublings = (self.failures - PAUSE_AFTER).min(63);
        backoff
            .first_ms
            .saturating_mul(1 << doublings)
            .min(backoff.max_ms)
            .max(PAUSE_MS_MIN)
    }

    /// Ends a wait that is over; whether one did.
    pub fn tick(&mut self, now: Timestamp) -> bool {
        let is_over = self.waits_until().is_some_and(|until| until <= now);
        if is_over {
            self.phase = Phase::Trying;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first_ms: 1_000,
        max_ms: 60_000,
    };

    /// One call after the other fails, each at the moment at which it may begin.
    fn fail(health: &mut Health, now: &mut Timestamp) -> Verdict {
        let verdict = health.failed(*now, health.round(), None, BACKOFF);
        if let Verdict::Pause(until) = verdict {
            assert_eq!(health.calls_max(10), 0);
            assert!(!health.tick(Timestamp(until.0 - 1)));
            assert!(health.tick(until));
            assert_eq!(health.calls_max(10), 1);
            *now = until;
        }
        verdict
    }

    #[test]
    fn failures_in_a_row_pause_longer_and_longer_and_then_give_up() {
        let (mut health, mut now) = (Health::default(), Timestamp(0));
        let mut waits = Vec::new();
        for failure in 1..=DISABLE_AFTER {
            let before = now;
            let verdict = fail(&mut health, &mut now);
            assert_eq!(health.failures(), failure);
            assert_eq!(verdict == Verdict::GiveUp, failure == DISABLE_AFTER);
            waits.push(now.since(before) / 1_000);
        }
        let expected = [
            0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 0,
        ];
        assert_eq!(waits, expected);
    }

    #[test]
    fn success_begins_anew() {
        let (mut health, mut now) = (Health::default(), Timestamp(0));
        for _ in 0..PAUSE_AFTER {
            fail(&mut health, &mut now);
        }
        assert!(health.is_paused());
        health.succeeded(health.round());
        assert_eq!((health.failures(), health.is_paused()), (0, false));
        assert_eq!(health.calls_max(10), 10);
        assert_eq!(fail(&mut health, &mut now), Verdict::GoOn);
    }

    #[test]
    fn calls_that_fail_together_count_as_one_outage() {
        let mut health = Health::default();
        let began = health.round();
        let verdicts: Vec<_> = (0..100)
            .map(|_| health.failed(Timestamp(0), began, None, BACKOFF))
            .collect();
        assert_eq!(verdicts[2], Verdict::Pause(Timestamp(1_000)));
        assert!(verdicts[3..].iter().all(|verdict| *verdict == Verdict::GoOn));
        assert_eq!(health.failures(), PAUSE_AFTER);
        // One of them succeeds after all: the wait stays, and the next call decides.
        health.succeeded(began);
        assert_eq!((health.failures(), health.calls_max(10)), (0, 0));
        assert!(health.tick(Timestamp(1_000)));
        assert_eq!(health.calls_max(10), 1);
    }

    #[test]
    fn endpoint_that_asks_to_be_left_alone_is_left_alone_at_once() {
        let mut health = Health::default();
        let began = health.round();
        let verdict = health.failed(Timestamp(5), began, Some(30_000), BACKOFF);
        assert_eq!(verdict, Verdict::Pause(Timestamp(30_005)));
        // Another one that was under way asks for more, and one for less.
        let verdict = health.failed(Timestamp(6), began, Some(40_000), BACKOFF);
        assert_eq!(verdict, Verdict::Pause(Timestamp(40_006)));
        let verdict = health.failed(Timestamp(7), began, Some(1_000), BACKOFF);
        assert_eq!(verdict, Verdict::GoOn);
        assert_eq!(health.waits_until(), Some(Timestamp(40_006)));
    }

    #[test]
    fn pauses_have_a_floor_where_the_topic_has_none() {
        let mut health = Health::default();
        let none = Backoff {
            first_ms: 0,
            max_ms: 0,
        };
        let verdicts: Vec<_> = (0..3)
            .map(|_| health.failed(Timestamp(0), health.round(), None, none))
            .collect();
        assert_eq!(verdicts[2], Verdict::Pause(Timestamp(PAUSE_MS_MIN)));
    }
}

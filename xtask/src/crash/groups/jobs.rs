//! The books of a shared group: what became of each job.
//!
//! A job succeeded when its ack was answered `ok`. An ack that was sent and never answered, because a socket or the
//! broker was gone, may have counted or not: its job may come again, and is counted as such. A job that is a dead
//! letter never succeeded before, and one that succeeded never comes again.

use std::{collections::HashMap, fmt};

/// A job: what its record carries.
pub type Job = u64;

/// Where and when something happened to a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// Partition and offset of its record.
    pub place: (u64, u64),
    /// Which of the broker's lives it was, by the kills before.
    pub life: u64,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (partition, offset) = self.place;
        write!(f, "at {partition}/{offset} in life {}", self.life)
    }
}

/// What is known of one job.
#[derive(Clone, Copy, Default)]
struct Fate {
    is_published: bool,
    deliveries: u32,
    /// Acks that were answered `ok`.
    successes: u32,
    /// The last of them.
    succeeded: Scene,
    /// Acks whose answer never came.
    unanswered: u32,
    /// Deliveries that came after an ack without an answer.
    again: u32,
}

/// All jobs, and what contradicts the promise.
#[derive(Default)]
pub struct Jobs {
    fates: Vec<Fate>,
    /// Most attempts that a record may have.
    attempts_max: u64,
    violations: Vec<String>,
}

/// What came out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Jobs that the broker took.
    pub published: u64,
    /// Their deliveries that were seen.
    pub deliveries: u64,
    /// Acks that were answered `ok`.
    pub succeeded: u64,
    /// Jobs in the dead letters.
    pub dead: u64,
    /// Jobs that are finished by an ack whose answer never came.
    pub unanswered: u64,
    /// Deliveries of jobs that had been acked without an answer.
    pub again: u64,
}

impl Jobs {
    /// Of a topic whose records have at most so many attempts.
    pub fn new(attempts_max: u64) -> Self {
        Self {
            attempts_max,
            ..Self::default()
        }
    }

    fn fate(&mut self, job: Job) -> &mut Fate {
        let place = job as usize;
        if self.fates.len() <= place {
            self.fates.resize(place + 1, Fate::default());
        }
        &mut self.fates[place]
    }

    /// The broker has taken these.
    pub fn published(&mut self, jobs: std::ops::Range<Job>) {
        for job in jobs {
            self.fate(job).is_published = true;
        }
    }

    /// It was handed to a worker.
    pub fn delivered(&mut self, job: Job, attempt: u64, scene: Scene) {
        let attempts_max = self.attempts_max;
        let fate = self.fate(job);
        fate.deliveries += 1;
        fate.again += u32::from(fate.unanswered > 0);
        let fate = *fate;
        if fate.successes > 0 {
            self.violation(format!(
                "job {job} comes again {scene} (delivery {}, attempt {attempt}); it succeeded {}",
                fate.deliveries, fate.succeeded
            ));
        }
        if attempt == 0 || attempt > attempts_max {
            self.violation(format!(
                "job {job} has attempt {attempt} of {attempts_max} {scene}"
            ));
        }
    }

    /// Its ack was answered `ok`.
    pub fn succeeded(&mut self, job: Job, scene: Scene) {
        let fate = self.fate(job);
        fate.successes += 1;
        let before = std::mem::replace(&mut fate.succeeded, scene);
        if fate.successes > 1 {
            self.violation(format!("job {job} succeeded {before} and again {scene}"));
        }
    }

    /// Its ack was sent, and the connection ended before an answer came.
    pub fn unanswered(&mut self, job: Job) {
        self.fate(job).unanswered += 1;
    }

    /// A promise was broken.
    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// The group says that nothing is unfinished: so every job must have ended in one way. `dead` are the dead
    /// letters' jobs.
    pub fn settle(mut self, dead: &[Job]) -> (Totals, Vec<String>) {
        let mut letters: HashMap<Job, u32> = HashMap::new();
        for job in dead {
            *letters.entry(*job).or_default() += 1;
        }
        let mut totals = Totals {
            dead: letters.len() as u64,
            ..Totals::default()
        };
        for (job, fate) in self.fates.iter().enumerate() {
            let letters = letters.remove(&(job as Job)).unwrap_or(0);
            totals.published += u64::from(fate.is_published);
            totals.deliveries += u64::from(fate.deliveries);
            totals.succeeded += u64::from(fate.successes);
            totals.again += u64::from(fate.again);
            let is_open = fate.successes == 0 && letters == 0;
            totals.unanswered += u64::from(is_open && fate.unanswered > 0);
            if is_open && fate.unanswered == 0 && fate.is_published {
                self.violations.push(format!(
                    "job {job} is lost after {} deliveries: it neither succeeded nor is it a dead letter",
                    fate.deliveries
                ));
            }
            if fate.successes > 0 && letters > 0 {
                self.violations
                    .push(format!("job {job} succeeded and is a dead letter"));
            }
            if letters > 1 {
                self.violations
                    .push(format!("job {job} is {letters} dead letters"));
            }
        }
        for job in letters.keys() {
            self.violations
                .push(format!("a dead letter is of job {job}, which nobody had"));
        }
        (totals, self.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_one(steps: impl FnOnce(&mut Jobs), dead: &[Job]) -> (Totals, usize) {
        let mut jobs = Jobs::new(3);
        jobs.published(0..1);
        jobs.delivered(0, 1, Scene::default());
        steps(&mut jobs);
        let (totals, violations) = jobs.settle(dead);
        (totals, violations.len())
    }

    #[test]
    fn job_ends_in_exactly_one_way() {
        assert_eq!(of_one(|jobs| jobs.succeeded(0, Scene::default()), &[]).1, 0);
        assert_eq!(of_one(|_| {}, &[0]).1, 0);
        assert_eq!(of_one(|jobs| jobs.unanswered(0), &[]).1, 0);
        assert_eq!(of_one(|_| {}, &[]).1, 1, "lost");
        assert_eq!(
            of_one(|jobs| jobs.succeeded(0, Scene::default()), &[0]).1,
            1,
            "both"
        );
        assert_eq!(of_one(|_| {}, &[0, 0]).1, 1, "two dead letters");
        assert_eq!(of_one(|_| {}, &[0, 7]).1, 1, "a strange dead letter");
    }

    #[test]
    fn success_is_the_end_and_an_ack_without_answer_is_not() {
        let twice = |jobs: &mut Jobs| {
            jobs.succeeded(0, Scene::default());
            jobs.delivered(0, 2, Scene::default());
        };
        assert_eq!(of_one(twice, &[]).1, 1);
        let again = |jobs: &mut Jobs| {
            jobs.unanswered(0);
            jobs.delivered(0, 2, Scene::default());
            jobs.succeeded(0, Scene::default());
        };
        let (totals, violations) = of_one(again, &[]);
        assert_eq!((totals.again, totals.succeeded, violations), (1, 1, 0));
        assert_eq!(
            of_one(|jobs| jobs.delivered(0, 4, Scene::default()), &[0]).1,
            1,
            "too many attempts"
        );
    }
}

//! Who publishes what and who follows what: drawn from a seed, so that every server sees the same.

/// A crowd with its likings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixedPlan {
    pub topics: usize,
    pub publishers: usize,
    /// Subscribers that read all that comes. One topic each; every topic has at least one.
    pub quick: usize,
    /// Subscribers that read slowly. They follow the busiest topics.
    pub slow: usize,
    /// What each of those reads.
    pub slow_bytes_per_s: usize,
    pub keys: usize,
    /// Records of all publishers.
    pub rate_per_s: u32,
    pub seed: u64,
}

/// The busiest topics, which slow subscribers follow in turn.
const BUSY_TOPICS: usize = 5;

impl Default for MixedPlan {
    fn default() -> Self {
        Self {
            topics: 50,
            publishers: 200,
            quick: 475,
            slow: 25,
            slow_bytes_per_s: 10_000,
            keys: 1000,
            rate_per_s: 4000,
            seed: 0x00C0_FFEE,
        }
    }
}

/// One record of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    pub publisher: usize,
    pub topic: usize,
    pub key: usize,
}

/// All that was drawn.
#[derive(Debug)]
pub struct Drawn {
    /// In the order of the times at which they are due.
    pub publishes: Vec<Publish>,
    /// The topic of each subscriber; the quick ones first.
    pub follows: Vec<usize>,
}

impl Drawn {
    /// How many records each subscriber has to get; there are so many `topics`.
    pub fn expected(&self, topics: usize) -> Vec<u64> {
        let mut published = vec![0; topics];
        for publish in &self.publishes {
            published[publish.topic] += 1;
        }
        self.follows.iter().map(|&topic| published[topic]).collect()
    }
}

impl MixedPlan {
    /// What it is, in a line.
    pub fn name(&self) -> String {
        let Self {
            topics,
            publishers,
            quick,
            slow,
            rate_per_s,
            ..
        } = self;
        format!(
            "mixed, {topics} topics, {publishers} publishers, {rate_per_s}/s, {quick} quick and {slow} slow subscribers"
        )
    }

    /// The names of its topics, the busiest first.
    pub fn topics(&self) -> Vec<String> {
        (0..self.topics)
            .map(|topic| format!("mixed-{topic:02}"))
            .collect()
    }

    /// Draws a run of so many records.
    pub fn draw(&self, records: usize) -> Drawn {
        let mut chance = Chance(self.seed);
        let (topics, keys) = (Zipf::new(self.topics), Zipf::new(self.keys));
        let quick = (0..self.quick).map(|place| match place {
            place if place < self.topics => place,
            _ => topics.draw(&mut chance),
        });
        let quick: Vec<_> = quick.collect();
        let slow = (0..self.slow).map(|place| place % BUSY_TOPICS.min(self.topics));
        let publishes = (0..records).map(|_| Publish {
            publisher: chance.below(self.publishers),
            topic: topics.draw(&mut chance),
            key: keys.draw(&mut chance),
        });
        Drawn {
            publishes: publishes.collect(),
            follows: quick.into_iter().chain(slow).collect(),
        }
    }
}

/// Numbers of which each is drawn in proportion to one divided by its place.
struct Zipf {
    /// Up to each number, the sum of the weights.
    sums: Vec<f64>,
}

impl Zipf {
    fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=count).map(|place| {
            sum += 1.0 / place as f64;
            sum
        });
        Self { sums: sums.collect() }
    }

    fn draw(&self, chance: &mut Chance) -> usize {
        let most = self.sums.last().copied().unwrap_or_default();
        let point = chance.share() * most;
        let place = self.sums.partition_point(|&sum| sum <= point);
        place.min(self.sums.len().saturating_sub(1))
    }
}

/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, most: usize) -> usize {
        ((self.share() * most as f64) as usize).min(most.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_draws_the_same() {
        let plan = MixedPlan::default();
        let (long, short) = (plan.draw(2000), plan.draw(1000));
        assert_eq!(long.publishes[..1000], short.publishes[..]);
        assert_eq!(long.follows, short.follows);
        assert_ne!(
            MixedPlan { seed: 1, ..plan }.draw(1000).publishes,
            short.publishes
        );
    }

    #[test]
    fn first_topic_is_twice_as_busy_as_the_second() {
        let plan = MixedPlan::default();
        let drawn = plan.draw(100_000);
        let count = |topic| {
            drawn
                .publishes
                .iter()
                .filter(|publish| publish.topic == topic)
                .count()
        };
        let ratio = count(0) as f64 / count(1) as f64;
        assert!((ratio - 2.0).abs() < 0.1, "{ratio}");
        // The sum of the reciprocals up to 50 is 4.499.
        let share = count(0) as f64 / 100_000.0;
        assert!((share - 1.0 / 4.499).abs() < 0.01, "{share}");
        assert!(count(49) > 0);
    }

    #[test]
    fn every_topic_is_followed_and_the_slow_follow_the_busy() {
        let plan = MixedPlan::default();
        let follows = plan.draw(0).follows;
        assert_eq!(follows.len(), plan.quick + plan.slow);
        assert!((0..plan.topics).all(|topic| follows[..plan.quick].contains(&topic)));
        assert!(follows[plan.quick..].iter().all(|&topic| topic < BUSY_TOPICS));
    }
}

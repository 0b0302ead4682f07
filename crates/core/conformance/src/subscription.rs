//! Promises of a subscription: hubs and readers in random order, against what each subscriber saw.

use callboard_core::{
    record::{Batch, RecordParts},
    subscription::{Offer, Overflow, Subscription, conflate},
};
use callboard_protocol::{Offset, Timestamp};

use crate::random::Random;

/// A page on its way from the log to a subscriber.
struct Page {
    from: u64,
    next: u64,
    /// The log's end as the reader saw it.
    end: u64,
}

/// One subscriber with what a hub would keep beside its subscription.
struct Subscriber {
    subscription: Subscription,
    reading: Option<Page>,
    began: u64,
    /// The offset after the last record that it saw or was told to be left out.
    seen: u64,
    skipped: u64,
    delivered: u64,
    granted: Option<u64>,
}

impl Subscriber {
    fn random(random: &mut Random, end: u64, overflow: Overflow) -> Self {
        let began = random.below(end + 1);
        let granted = random.chance(1, 2).then(|| random.below(20));
        Self {
            subscription: Subscription::new(Offset(began), overflow, granted),
            reading: None,
            began,
            seen: began,
            skipped: 0,
            delivered: 0,
            granted,
        }
    }

    fn see(&mut self, base: u64, next: u64, at: &str) {
        assert_eq!(
            base, self.seen,
            "{at}: nothing twice, nothing out of order, nothing missed"
        );
        self.delivered += next - base;
        self.seen = next;
        if let Some(granted) = self.granted {
            assert!(self.delivered <= granted, "{at}: never more than its credit");
        }
    }

    fn offer(&mut self, base: u64, next: u64, has_room: bool, at: &str) {
        match self
            .subscription
            .offer(Offset(base), Offset(next), next - base, has_room)
        {
            Offer::Push => self.see(base, next, at),
            Offer::Ignore => assert!(next <= self.seen, "{at}: ignores only what it has"),
            Offer::Behind => assert!(!self.subscription.is_live(), "{at}"),
        }
    }

    /// Begins a read if it needs one, of at most `page` records.
    fn begin_read(&mut self, end: u64, page: u64) {
        let limit = self.subscription.read_limit().unwrap_or(u64::MAX);
        let must_wait = limit == 0 && self.subscription.next() < Offset(end);
        if self.reading.is_none() && !self.subscription.is_live() && !must_wait {
            let from = self.subscription.next().0;
            let next = from + page.min(limit).min(end - from);
            self.reading = Some(Page { from, next, end });
        }
    }

    fn finish_read(&mut self, at: &str) {
        if let Some(Page { from, next, end }) = self.reading.take() {
            self.see(from, next, at);
            self.subscription.advance(Offset(next), next - from, Offset(end));
        }
    }

    fn skip(&mut self, end: u64) {
        if self.reading.is_none() && !self.subscription.is_live() {
            let left_out = self.subscription.skip_to(Offset(end));
            assert_eq!(left_out, end - self.seen);
            self.skipped += left_out;
            self.seen = end;
        }
    }

    fn add_credit(&mut self, add: u64) {
        self.subscription.add_credit(add);
        self.granted = self.granted.map(|granted| granted + add);
        let left = self.granted.map(|granted| granted - self.delivered);
        assert_eq!(self.subscription.credit_left(), left);
    }
}

/// Plays one seed: batches are committed, announced later (perhaps several as one, perhaps lost with all
/// told that they missed something), and read meanwhile.
fn play(seed: u64, overflow: Overflow) -> Vec<Subscriber> {
    let mut random = Random::new(seed);
    let (mut end, mut announced) = (random.below(30), 0);
    announced += end;
    let mut subscribers: Vec<_> = (0..4)
        .map(|_| Subscriber::random(&mut random, end, overflow))
        .collect();
    for step in 0..80 {
        let at = format!("seed {seed}, step {step}");
        match random.below(12) {
            0..3 => end += 1 + random.below(5),
            3..6 if announced < end => {
                let next = announced + 1 + random.below(end - announced);
                for subscriber in &mut subscribers {
                    subscriber.offer(announced, next, random.chance(3, 4), &at);
                }
                announced = next;
            }
            6 if random.chance(1, 3) => {
                announced = end;
                subscribers
                    .iter_mut()
                    .for_each(|subscriber| subscriber.subscription.notice_end(Offset(end)));
            }
            kind => {
                let index = random.below(subscribers.len() as u64) as usize;
                let subscriber = &mut subscribers[index];
                match kind {
                    7 | 8 => subscriber.begin_read(end, 1 + random.below(8)),
                    9 | 10 => subscriber.finish_read(&at),
                    11 => subscriber.add_credit(random.below(6)),
                    _ if overflow == Overflow::Skip => subscriber.skip(end),
                    _ => {}
                }
            }
        }
    }
    let at = format!("seed {seed}, at the end");
    for subscriber in &mut subscribers {
        if announced < end {
            subscriber.offer(announced, end, true, &at);
        }
        subscriber.finish_read(&at);
        subscriber.add_credit(1000);
        // From here on only the subscription itself says that something is left to read.
        while !subscriber.subscription.is_live() {
            subscriber.begin_read(end, 5);
            subscriber.finish_read(&at);
        }
        assert_eq!(subscriber.seen, end, "{at}: nothing is left unread");
        assert_eq!(subscriber.subscription.next(), Offset(end), "{at}");
    }
    subscribers
}

pub fn reader_sees_every_record_once_in_order() {
    for seed in 0..4000 {
        for subscriber in play(seed, Overflow::Read) {
            assert_eq!(
                subscriber.delivered,
                subscriber.seen - subscriber.began,
                "seed {seed}"
            );
        }
    }
}

pub fn skipper_sees_or_is_told_of_every_record() {
    let mut skipped = 0;
    for seed in 0..4000 {
        for subscriber in play(seed, Overflow::Skip) {
            let accounted = subscriber.delivered + subscriber.skipped;
            assert_eq!(accounted, subscriber.seen - subscriber.began, "seed {seed}");
            skipped += subscriber.skipped;
        }
    }
    assert!(skipped > 10_000, "{skipped}: skipping is tried often");
}

pub fn page_older_than_the_latest_offer_is_not_the_end() {
    let mut subscription = Subscription::new(Offset(0), Overflow::Read, None);
    assert!(!subscription.is_live(), "it begins by reading");
    assert_eq!(subscription.offer(Offset(3), Offset(5), 2, true), Offer::Behind);
    subscription.advance(Offset(3), 3, Offset(3));
    assert!(
        !subscription.is_live(),
        "3 and 4 were committed after the page was read"
    );
    subscription.advance(Offset(5), 2, Offset(5));
    assert!(subscription.is_live());
    assert_eq!(subscription.offer(Offset(5), Offset(6), 1, true), Offer::Push);
}

pub fn page_read_before_something_was_missed_is_not_the_end() {
    let mut subscription = Subscription::new(Offset(0), Overflow::Read, None);
    // A page is read while the end is 3; then 3 and 4 are committed and their offer is lost.
    subscription.notice_end(Offset(5));
    subscription.advance(Offset(3), 3, Offset(3));
    assert!(!subscription.is_live());
    subscription.advance(Offset(5), 2, Offset(5));
    assert!(subscription.is_live());
}

pub fn credit_bounds_what_is_given() {
    let mut subscription = Subscription::new(Offset(0), Overflow::Read, Some(3));
    subscription.advance(Offset(0), 0, Offset(0));
    assert_eq!(subscription.offer(Offset(0), Offset(2), 2, true), Offer::Push);
    assert_eq!(subscription.read_limit(), Some(1));
    assert_eq!(
        subscription.offer(Offset(2), Offset(4), 2, true),
        Offer::Behind,
        "a batch is whole"
    );
    assert_eq!(subscription.next(), Offset(2));
    subscription.advance(Offset(3), 1, Offset(4));
    assert_eq!(
        (subscription.read_limit(), subscription.is_live()),
        (Some(0), false)
    );
    subscription.add_credit(10);
    assert_eq!(subscription.read_limit(), Some(10));
    let unlimited = Subscription::new(Offset(0), Overflow::Read, None);
    assert_eq!(unlimited.read_limit(), None);
}

pub fn batch_half_read_is_read_on_and_not_pushed() {
    let mut subscription = Subscription::new(Offset(0), Overflow::Read, None);
    subscription.advance(Offset(5), 5, Offset(5));
    assert_eq!(subscription.offer(Offset(0), Offset(5), 5, true), Offer::Ignore);
    assert!(subscription.is_live(), "what it has does not put it behind");
    assert_eq!(subscription.offer(Offset(3), Offset(8), 5, true), Offer::Behind);
    assert_eq!(subscription.next(), Offset(5));
}

pub fn subscription_is_small() {
    assert!(
        size_of::<Subscription>() <= 40,
        "a hub holds thousands: {}",
        size_of::<Subscription>()
    );
}

pub fn conflate_agrees_with_the_naive_one() {
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let mut batches = Vec::new();
        let mut all = Vec::new();
        let mut offset = random.below(50);
        for index in 0..random.below(5) as usize {
            let base_offset = Offset(offset);
            let mut records = Vec::new();
            for _ in 0..=random.below(5) {
                let key = *random.pick(&[None, Some(""), Some("a"), Some("b"), Some("c")]);
                let payload = offset.to_string();
                let start = records.len();
                RecordParts {
                    key,
                    payload: payload.as_bytes(),
                    ..RecordParts::default()
                }
                .encode(&mut records);
                all.push((key, (index, Offset(offset), start..records.len())));
                offset += 1;
            }
            batches.push(Batch {
                base_offset,
                timestamp: Timestamp(1),
                count: offset as u32 - base_offset.0 as u32,
                records: records.into(),
            });
            // Retention or hurt records can leave a gap between batches.
            offset += random.below(3);
        }
        let is_newest = |at: usize| all[at + 1..].iter().all(|later| later.0 != all[at].0);
        let expected: Vec<_> = (0..all.len())
            .filter(|&at| is_newest(at))
            .map(|at| all[at].1.clone())
            .collect();
        assert_eq!(conflate(&batches), expected, "seed {seed}");
    }
}

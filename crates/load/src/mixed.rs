//! A crowd: many topics, many publishers and subscribers, few topics that most follow, and some who read slowly.
//!
//! An open loop at a fixed rate, so that every server has the same to do at the same time. What counts is what it
//! costs, how late the quick ones get their records, and what becomes of the slow ones.

mod plan;

pub use plan::MixedPlan;

use std::{
    io,
    ops::Range,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use super::{
    Failure,
    block::Block,
    dialect::{Dialect, Record, Role, payload, sequence_of},
    generator::{Schedule, Snapshot},
    link::{Link, SCRATCH_BYTES, open_all},
    opening::ReceiveBuffer,
    process::Server,
    sample::{Figures, Percentiles, Slow, new_histogram},
    workload::Timing,
};
use plan::Drawn;

/// A slow reader's socket holds so little that it is the server that has to hold the rest.
const SLOW_RECEIVE_BUFFER: ReceiveBuffer = ReceiveBuffer::Bytes(8 << 10);
/// How often slow readers read.
const SLOW_INTERVAL: Duration = Duration::from_millis(50);
/// How long nothing at all has to come before what is missing counts as lost.
const QUIET: Duration = Duration::from_secs(2);
/// How long all of it may take to come.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `plan` once.
///
/// # Errors
/// The server refuses something, or cuts off a socket that reads what it gets.
pub fn measure<D: Dialect>(
    dialect: &D,
    server: &Server,
    plan: &MixedPlan,
    timing: Timing,
) -> Result<Figures, Failure> {
    let records_in = |time: Duration| (time.as_secs_f64() * f64::from(plan.rate_per_s)) as usize;
    let warm_up = records_in(timing.warm_up);
    let records = warm_up + records_in(timing.duration);
    let drawn = plan.draw(records);
    let blocks = blocks(dialect, plan, &drawn, timing.payload_bytes);
    let mut crowd = Crowd::open(dialect, server, plan, &drawn)?;
    let schedule = Schedule {
        records: records as u64,
        rate_per_s: plan.rate_per_s,
    };
    let (before, after) = crowd.run(server, (&drawn, &blocks), (&schedule, warm_up))?;
    let behind = crowd.missing(crowd.slow_places()).0;
    crowd.drain()?;
    let (lost_by_slow, cut_off) = crowd.missing(crowd.slow_places());
    let lost = crowd.missing(crowd.quick_places()).0;
    let measured = before.until(after);
    Ok(Figures {
        latency: Some(Percentiles::of(&crowd.late)),
        lost: Some(lost),
        slow: Some(Slow {
            sockets: plan.slow as u64,
            cut_off,
            behind,
            lost: lost_by_slow,
        }),
        ..Figures::counted(&measured, measured.delivered)
    })
}

/// What each publisher sends, in order; records are numbered by their places in the plan.
fn blocks<D: Dialect>(dialect: &D, plan: &MixedPlan, drawn: &Drawn, payload_bytes: usize) -> Vec<Block> {
    let topics = plan.topics();
    let keys: Vec<_> = (0..plan.keys).map(|key| format!("k{key:04}")).collect();
    let payloads: Vec<_> = (0..drawn.publishes.len() as u64)
        .map(|sequence| payload(sequence, payload_bytes))
        .collect();
    (0..plan.publishers)
        .map(|publisher| {
            let publishes = drawn.publishes.iter().zip(&payloads);
            let records: Vec<_> = publishes
                .filter(|(publish, _)| publish.publisher == publisher)
                .map(|(publish, payload)| Record {
                    topic: &topics[publish.topic],
                    key: Some(&keys[publish.key]),
                    payload,
                })
                .collect();
            dialect.block(publisher, &records)
        })
        .collect()
}

/// All sockets: publishers, then quick subscribers, then slow ones.
struct Crowd<R> {
    poll: Poll,
    events: Events,
    links: Vec<Link<R>>,
    publishers: usize,
    quick: usize,
    /// Records that each subscriber has to get.
    expected: Vec<u64>,
    /// What a slow reader reads each time.
    slow_bytes: usize,
    /// Of the slow ones: whether the server has cut them off.
    is_cut_off: Vec<bool>,
    scratch: Vec<u8>,
    /// How late quick subscribers got the records of the measured time, nanoseconds.
    late: Histogram<u64>,
}

impl<R: super::dialect::Reader> Crowd<R> {
    fn open<D>(dialect: &D, server: &Server, plan: &MixedPlan, drawn: &Drawn) -> Result<Self, Failure>
    where
        D: Dialect<Reader = R>,
    {
        let poll = Poll::new()?;
        let topics = plan.topics();
        let subscriber = |index: usize| {
            let topic = &topics[drawn.follows[index]];
            let is_slow = index >= plan.quick;
            let buffer = if is_slow {
                SLOW_RECEIVE_BUFFER
            } else {
                ReceiveBuffer::Default
            };
            (Role::Subscriber { index, topic }, buffer)
        };
        let publishers =
            (0..plan.publishers).map(|index| (Role::Publisher { index }, ReceiveBuffer::Default));
        let roles: Vec<_> = publishers
            .chain((0..drawn.follows.len()).map(subscriber))
            .collect();
        let mut links = open_all(dialect, &server.address, &roles)?;
        for (place, link) in links.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut link.stream, Token(place), interest)?;
        }
        let ticks_per_s = 1.0 / SLOW_INTERVAL.as_secs_f64();
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            links,
            publishers: plan.publishers,
            quick: plan.quick,
            expected: drawn.expected(plan.topics),
            slow_bytes: ((plan.slow_bytes_per_s as f64 / ticks_per_s) as usize).max(1),
            is_cut_off: vec![false; plan.slow],
            scratch: vec![0; SCRATCH_BYTES],
            late: new_histogram(),
        })
    }

    fn quick_places(&self) -> Range<usize> {
        self.publishers..self.publishers + self.quick
    }

    fn slow_places(&self) -> Range<usize> {
        self.publishers + self.quick..self.links.len()
    }

    /// Publishes all at their times; what was before and after the measured part.
    fn run(
        &mut self,
        server: &Server,
        (drawn, blocks): (&Drawn, &[Block]),
        (schedule, warm_up): (&Schedule, usize),
    ) -> Result<(Snapshot, Snapshot), Failure> {
        let mut next_of = vec![0; self.publishers];
        let mut before = None;
        let mut slow_at = Instant::now();
        let started_at = Instant::now();
        let mut next = 0;
        while next < drawn.publishes.len() || started_at.elapsed() < schedule.due(schedule.records) {
            while next < drawn.publishes.len() && started_at.elapsed() >= schedule.due(next as u64) {
                if next >= warm_up && before.is_none() {
                    before = Some(self.snapshot(server));
                }
                let publisher = drawn.publishes[next].publisher;
                let place = next_of[publisher];
                self.links[publisher].publish_part(&blocks[publisher], place..place + 1)?;
                next_of[publisher] += 1;
                next += 1;
            }
            // No waiting: a timer of the system is coarser than what is measured. The load has its own core.
            self.poll_once(Duration::ZERO, |sequence| {
                let is_measured = usize::try_from(sequence).is_ok_and(|place| place >= warm_up);
                is_measured.then(|| started_at.elapsed().saturating_sub(schedule.due(sequence)))
            })?;
            if slow_at.elapsed() >= SLOW_INTERVAL {
                slow_at += SLOW_INTERVAL;
                self.read_slowly();
            }
        }
        let before = before.ok_or_else(|| Failure::new("the run is too short"))?;
        Ok((before, self.snapshot(server)))
    }

    fn snapshot(&self, server: &Server) -> Snapshot {
        let sum = |links: &[Link<R>], of: fn(&Link<R>) -> u64| links.iter().map(of).sum();
        Snapshot::now(
            server,
            sum(&self.links[..self.publishers], |link| link.seen.answers),
            sum(&self.links[self.quick_places()], |link| link.seen.messages),
        )
    }

    /// Reads what came to publishers and quick subscribers; `late` says of a record how late it is, if that counts.
    fn poll_once(
        &mut self,
        timeout: Duration,
        late: impl Fn(u64) -> Option<Duration>,
    ) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        let (quick, histogram) = (self.publishers..self.publishers + self.quick, &mut self.late);
        for event in &self.events {
            let Token(place) = event.token();
            let link = &mut self.links[place];
            if place >= quick.end {
                // Slow: read only when it is their time.
                continue;
            }
            if event.is_writable() {
                link.flush()?;
            }
            if event.is_readable() && quick.contains(&place) {
                link.receive_payloads(&mut self.scratch, |payload| {
                    if let Some(late) = sequence_of(payload).and_then(&late) {
                        histogram.saturating_record(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX));
                    }
                })?;
            } else if event.is_readable() {
                link.receive(&mut self.scratch)?;
            }
        }
        Ok(())
    }

    fn read_slowly(&mut self) {
        let slow = self.slow_places();
        for (link, is_cut_off) in self.links[slow].iter_mut().zip(&mut self.is_cut_off) {
            if !*is_cut_off {
                *is_cut_off = link.receive_once(&mut self.scratch[..self.slow_bytes]).is_err();
            }
        }
    }

    /// Reads all that still comes, also what slow readers have left lying.
    fn drain(&mut self) -> Result<(), Failure> {
        let started_at = Instant::now();
        let (mut had, mut since) = (0, Instant::now());
        while since.elapsed() < QUIET && started_at.elapsed() < DRAIN_TIMEOUT {
            self.poll_once(Duration::from_millis(1), |_| None)?;
            let slow = self.slow_places();
            for (link, is_cut_off) in self.links[slow].iter_mut().zip(&mut self.is_cut_off) {
                if !*is_cut_off {
                    *is_cut_off = link.receive(&mut self.scratch).is_err();
                }
            }
            let all = self.publishers..self.links.len();
            if self.missing(all.clone()).0 == 0 {
                return Ok(());
            }
            let has = self.links[all].iter().map(|link| link.seen.messages).sum::<u64>();
            if has > had {
                (had, since) = (has, Instant::now());
            }
        }
        Ok(())
    }

    /// Of the subscribers at `places`: records that were published and have not come, and how many are cut off.
    fn missing(&self, places: Range<usize>) -> (u64, u64) {
        let (mut missing, mut cut_off) = (0, 0);
        for place in places {
            let index = place - self.publishers;
            missing += self.expected[index].saturating_sub(self.links[place].seen.messages);
            let slow = index.checked_sub(self.quick);
            cut_off += u64::from(slow.is_some_and(|slow| self.is_cut_off[slow]));
        }
        (missing, cut_off)
    }
}

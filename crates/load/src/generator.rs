//! The load: many sockets, one thread, one epoll loop.
//!
//! The same code drives every server.

use std::{
    io,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

use super::{
    Failure,
    block::Block,
    dialect::{Answers, Dialect, Role, TOPIC, sequence_of},
    link::{Link, SCRATCH_BYTES, open_all},
    opening::{ReceiveBuffer, SETUP_TIMEOUT},
    process::{Server, Usage, usage_of},
};

/// What limits how much is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// So many records of the publisher that are not answered or not yet with every subscriber.
    Delivered(usize),
    /// So many unanswered records of each publisher.
    Answered(usize),
    /// Nothing but the sockets: as where nothing is answered.
    Sockets,
}

/// What came out of a measured window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// How long it was.
    pub elapsed: Duration,
    /// Replies to publishers in it.
    pub answered: u64,
    /// Records at subscribers in it, each subscriber counted.
    pub delivered: u64,
    /// What the server used in it.
    pub server_cpu: Duration,
    /// What the load used in it.
    pub load_cpu: Duration,
    /// The server's memory at its end.
    pub memory: Usage,
}

impl Measured {
    /// What counts as done: what the window waits for, or what arrived where it waits for nothing.
    pub fn count(&self, window: Window) -> u64 {
        match window {
            Window::Delivered(_) | Window::Sockets => self.delivered,
            Window::Answered(_) => self.answered,
        }
    }
}

/// All sockets of a scenario; publishers first.
pub struct Load<R> {
    poll: Poll,
    links: Vec<Link<R>>,
    publishers: usize,
    answers: Answers,
    scratch: Vec<u8>,
    /// How many records every subscriber has.
    slowest: u64,
    /// Subscribers that have no more than that.
    at_slowest: usize,
}

/// How far everything was at one moment.
#[derive(Clone, Copy)]
pub struct Snapshot {
    pub at: Instant,
    answered: u64,
    delivered: u64,
    server: Usage,
    load: Usage,
}

impl<R: super::dialect::Reader> Load<R> {
    /// Opens all sockets.
    ///
    /// # Errors
    /// The server does not answer as it should.
    pub fn open<D>(
        dialect: &D,
        server: &Server,
        publishers: usize,
        subscribers: usize,
    ) -> Result<Self, Failure>
    where
        D: Dialect<Reader = R>,
    {
        let poll = Poll::new()?;
        let roles: Vec<_> = (0..publishers + subscribers)
            .map(|place| match place.checked_sub(publishers) {
                None => Role::Publisher { index: place },
                Some(index) => Role::Subscriber { index, topic: TOPIC },
            })
            .map(|role| (role, ReceiveBuffer::Default))
            .collect();
        let mut links = open_all(dialect, &server.address, &roles)?;
        for (place, link) in links.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut link.stream, Token(place), interest)?;
        }
        Ok(Self {
            poll,
            links,
            publishers,
            answers: dialect.answers(),
            scratch: vec![0; SCRATCH_BYTES],
            slowest: 0,
            at_slowest: subscribers,
        })
    }

    /// Publishes as fast as `window` lets it: first for `warm_up`, then for `duration`, which is measured.
    ///
    /// # Errors
    /// The server refuses something, closes a connection or does nothing at all.
    pub fn run(
        &mut self,
        server: &Server,
        blocks: &[Block],
        window: Window,
        (warm_up, duration): (Duration, Duration),
    ) -> Result<Measured, Failure> {
        let mut events = Events::with_capacity(1024);
        let started_at = Instant::now();
        let mut before: Option<Snapshot> = None;
        loop {
            self.publish(blocks, window)?;
            self.poll_once(&mut events, Some(Duration::from_millis(10)))?;
            let elapsed = started_at.elapsed();
            match before {
                None if elapsed >= warm_up => before = Some(self.snapshot(server)),
                Some(before) if before.at.elapsed() >= duration => {
                    let measured = before.until(self.snapshot(server));
                    if measured.count(window) > 0 {
                        return Ok(measured);
                    }
                    // On a busy machine a short window can pass before the server's turn comes, and
                    // nothing is no figure.
                    if measured.elapsed >= duration + SETUP_TIMEOUT {
                        return Err(Failure::new("the server did nothing in the measured time"));
                    }
                }
                _ => {}
            }
        }
    }

    /// Publishes `count` records and waits until every subscriber has them.
    ///
    /// # Errors
    /// As [`Load::run`], and if it takes longer than `timeout`.
    pub fn publish_count(&mut self, block: &Block, count: u64, timeout: Duration) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1024);
        let deadline = Instant::now() + timeout;
        let goal = self.links[0].published + count;
        let is_answered = |load: &Self| load.answers == Answers::None || load.links[0].seen.answers >= goal;
        while self.slowest < goal || !is_answered(self) {
            let left = goal - self.links[0].published;
            if left > 0 {
                self.publish(
                    std::slice::from_ref(block),
                    Window::Delivered(usize::try_from(left).map_or(8, |left| left.min(8))),
                )?;
            }
            self.poll_once(&mut events, Some(Duration::from_millis(100)))?;
            if Instant::now() > deadline {
                return Err(Failure::new("not every subscriber got every record"));
            }
        }
        Ok(())
    }

    fn snapshot(&self, server: &Server) -> Snapshot {
        let (publishers, subscribers) = self.links.split_at(self.publishers);
        Snapshot::now(
            server,
            publishers.iter().map(|link| link.seen.answers).sum(),
            subscribers.iter().map(|link| link.seen.messages).sum(),
        )
    }

    fn publish(&mut self, blocks: &[Block], window: Window) -> Result<(), Failure> {
        let (slowest, answers) = (self.slowest, self.answers);
        for (link, block) in self.links[..self.publishers].iter_mut().zip(blocks) {
            if link.is_writing() {
                continue;
            }
            let under_way =
                |done: u64| usize::try_from(link.published - done.min(link.published)).unwrap_or(usize::MAX);
            let free = match window {
                Window::Delivered(most) if answers == Answers::None => {
                    most.saturating_sub(under_way(slowest))
                }
                Window::Delivered(most) => most.saturating_sub(under_way(link.seen.answers.min(slowest))),
                Window::Answered(most) => most.saturating_sub(under_way(link.seen.answers)),
                Window::Sockets => block.records(),
            };
            if free > 0 {
                link.publish(block, free)?;
            }
        }
        Ok(())
    }

    fn poll_once(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<(), Failure> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        for event in &*events {
            let Token(index) = event.token();
            if event.is_writable() {
                self.links[index].flush()?;
            }
            if event.is_readable() {
                self.receive(index)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> Result<(), Failure> {
        let link = &mut self.links[index];
        let had = link.seen.messages;
        link.receive(&mut self.scratch)?;
        if index >= self.publishers && had <= self.slowest && link.seen.messages > self.slowest {
            self.at_slowest -= 1;
            if self.at_slowest == 0 {
                self.find_slowest();
            }
        }
        Ok(())
    }

    fn find_slowest(&mut self) {
        let subscribers = &self.links[self.publishers..];
        self.slowest = subscribers
            .iter()
            .map(|link| link.seen.messages)
            .min()
            .unwrap_or(0);
        self.at_slowest = subscribers
            .iter()
            .filter(|link| link.seen.messages == self.slowest)
            .count();
    }

    /// Publishes at a fixed rate whatever the server does, and reports when each record came.
    ///
    /// Each record is published by itself from `block`, which has all of them; `arrived` gets the place of a record and the time from when it *should* have been sent: a server
    /// that stalls is charged for every record that it held up. Returns how many never came.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub fn run_open_loop(
        &mut self,
        schedule: &Schedule,
        block: &Block,
        mut arrived: impl FnMut(u64, Duration),
    ) -> Result<u64, Failure> {
        let mut events = Events::with_capacity(1024);
        let started_at = Instant::now() + Duration::from_millis(10);
        let subscribers = self.links.len() - self.publishers;
        let mut left = schedule.records * subscribers as u64;
        let mut next = 0;
        let give_up_at = started_at + schedule.due(schedule.records) + SETUP_TIMEOUT;
        while left > 0 && Instant::now() < give_up_at {
            while next < schedule.records
                && started_at.elapsed() >= schedule.due(next)
                && Instant::now() >= started_at
            {
                let place = usize::try_from(next).unwrap_or(usize::MAX);
                self.links[0].publish_part(block, place..place + 1)?;
                next += 1;
            }
            // No waiting: a timer of the system is coarser than what is measured. The load has its own core.
            match self.poll.poll(&mut events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                let Token(index) = event.token();
                if event.is_writable() {
                    self.links[index].flush()?;
                }
                if !event.is_readable() {
                    continue;
                }
                self.links[index].receive_payloads(&mut self.scratch, |payload| {
                    if let Some(sequence) = sequence_of(payload) {
                        left -= 1;
                        arrived(
                            sequence,
                            started_at.elapsed().saturating_sub(schedule.due(sequence)),
                        );
                    }
                })?;
            }
        }
        Ok(left)
    }
}

/// When each record of an open loop is due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub records: u64,
    pub rate_per_s: u32,
}

impl Schedule {
    /// From the begin of the run to the record at `place`.
    pub fn due(&self, place: u64) -> Duration {
        Duration::from_nanos(place * 1_000_000_000 / u64::from(self.rate_per_s.max(1)))
    }
}

impl Snapshot {
    /// Looks at the clocks.
    pub fn now(server: &Server, answered: u64, delivered: u64) -> Self {
        Self {
            at: Instant::now(),
            answered,
            delivered,
            server: server.usage(),
            load: usage_of(0).unwrap_or_default(),
        }
    }

    /// What happened from here to `end`.
    pub fn until(self, end: Self) -> Measured {
        Measured {
            elapsed: end.at - self.at,
            answered: end.answered - self.answered,
            delivered: end.delivered - self.delivered,
            server_cpu: end.server.cpu.saturating_sub(self.server.cpu),
            load_cpu: end.load.cpu.saturating_sub(self.load.cpu),
            memory: end.server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_the_rate() {
        let schedule = Schedule {
            records: 2000,
            rate_per_s: 1000,
        };
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1500), Duration::from_millis(1500));
    }
}

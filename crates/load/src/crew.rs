//! Publishers, and the workers of one group that work off what they publish.
//!
//! The load of [`generator`](super::generator) with consumers that answer. Publishers wait when too much lies
//! unfinished, so that the server's time is spent on records that were stored, delivered and settled. A run
//! counts only if the server itself says in the end that all are.

use std::{
    io,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

use super::{
    Failure,
    block::Block,
    broker::duty::Duty,
    dialect::{Answers, Dialect, Progress, Role},
    generator::{Measured, Snapshot},
    link::{Link, SCRATCH_BYTES},
    opening::SETUP_TIMEOUT,
    process::Server,
};

/// How long the group may take to finish what was published.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two questions to the server.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Who works, and how much may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub publishers: usize,
    /// Unanswered records of each publisher.
    pub in_flight: usize,
    /// Records that may be published and not yet acked or committed.
    pub backlog: usize,
    pub members: usize,
    /// Records that a member may have out.
    pub credit: usize,
    pub duty: Duty,
}

/// All sockets of a scenario.
pub struct Crew<'a, D: Dialect> {
    dialect: &'a D,
    plan: Plan,
    poll: Poll,
    events: Events,
    /// Publishers first.
    links: Vec<Link<D::Reader>>,
    scratch: Vec<u8>,
}

impl<'a, D: Dialect> Crew<'a, D> {
    /// Opens all sockets one by one and waits until the server knows of all members.
    ///
    /// # Errors
    /// The server does not answer as it should.
    pub fn open(dialect: &'a D, server: &Server, plan: Plan) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let mut links = Vec::new();
        for place in 0..plan.publishers + plan.members {
            let role = match place.checked_sub(plan.publishers) {
                None => Role::Publisher { index: place },
                Some(index) => Role::Worker { index, plan: &plan },
            };
            let mut link = Link::open(dialect, &server.address, role)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut link.stream, Token(place), interest)?;
            links.push(link);
        }
        let mut crew = Self {
            dialect,
            plan,
            poll,
            events: Events::with_capacity(1024),
            links,
            scratch: vec![0; SCRATCH_BYTES],
        };
        crew.until(server, SETUP_TIMEOUT, "every member has its share", |progress| {
            !matches!(progress, Progress::Gathering(_))
        })?;
        Ok(crew)
    }

    /// Publishes and works as fast as the plan lets it: first for `warm_up`, then for `duration`, which is
    /// measured; then finishes what is left.
    ///
    /// # Errors
    /// The server refuses something, closes a connection, does nothing, or loses count.
    pub fn run(
        &mut self,
        server: &Server,
        blocks: &[Block],
        (warm_up, duration): (Duration, Duration),
    ) -> Result<Measured, Failure> {
        let started_at = Instant::now();
        let mut before: Option<Snapshot> = None;
        let measured = loop {
            self.publish(blocks)?;
            self.poll_once(Duration::from_millis(10))?;
            match before {
                None if started_at.elapsed() >= warm_up => before = Some(self.snapshot(server)),
                Some(before) if before.at.elapsed() >= duration => {
                    let measured = before.until(self.snapshot(server));
                    if measured.delivered > 0 {
                        break measured;
                    }
                    // As in the other load: on a busy machine a short window may pass before anything is done.
                    if measured.elapsed >= duration + SETUP_TIMEOUT {
                        return Err(Failure::new("nothing was settled in the measured time"));
                    }
                }
                _ => {}
            }
        };
        self.drain(server)?;
        Ok(measured)
    }

    fn sum(&self, of: impl Fn(&Link<D::Reader>) -> u64) -> u64 {
        self.links.iter().map(of).sum()
    }

    fn snapshot(&self, server: &Server) -> Snapshot {
        let answered = self.sum(|link| link.seen.answers);
        Snapshot::now(server, answered, self.sum(|link| link.seen.settled))
    }

    fn publish(&mut self, blocks: &[Block]) -> Result<(), Failure> {
        let settled = self.sum(|link| link.seen.settled);
        let unfinished = self.sum(|link| link.published).saturating_sub(settled);
        let mut room = self
            .plan
            .backlog
            .saturating_sub(usize::try_from(unfinished).unwrap_or(usize::MAX));
        for (link, block) in self.links.iter_mut().zip(blocks) {
            if link.is_writing() {
                continue;
            }
            let unanswered = match self.dialect.answers() {
                Answers::Each => link.published - link.seen.answers,
                Answers::None => 0,
            };
            let unanswered = usize::try_from(unanswered).unwrap_or(usize::MAX);
            let free = self.plan.in_flight.saturating_sub(unanswered).min(room);
            if free > 0 {
                link.publish(block, free)?;
                room -= free;
            }
        }
        Ok(())
    }

    fn poll_once(&mut self, timeout: Duration) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        for event in &self.events {
            let Token(index) = event.token();
            let link = &mut self.links[index];
            if event.is_writable() {
                link.flush()?;
            }
            if event.is_readable() {
                link.receive(&mut self.scratch)?;
            }
        }
        Ok(())
    }

    /// Publishes no more, settles all that was, and holds the server's count against ours.
    fn drain(&mut self, server: &Server) -> Result<(), Failure> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let published = self.sum(|link| link.published);
        let is_answered = |crew: &Self| match crew.dialect.answers() {
            Answers::Each => crew.sum(|link| link.seen.answers) >= published,
            Answers::None => true,
        };
        while !is_answered(self) || self.sum(|link| link.seen.messages) < published {
            self.poll_once(Duration::from_millis(10))?;
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "of {published} records {} were answered and {} delivered",
                    self.sum(|link| link.seen.answers),
                    self.sum(|link| link.seen.messages)
                )));
            }
        }
        for link in &mut self.links[self.plan.publishers..] {
            link.finish()?;
        }
        self.until(server, DRAIN_TIMEOUT, "every record is settled", |progress| {
            *progress == Progress::Settled
        })?;
        let delivered = self.sum(|link| link.seen.messages);
        if delivered == published {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "{published} records were published and {delivered} delivered"
            )))
        }
    }

    /// Asks the server until all is as it must be; the sockets go on meanwhile.
    fn until(
        &mut self,
        server: &Server,
        timeout: Duration,
        what: &str,
        holds: impl Fn(&Progress) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            let published = self.sum(|link| link.published);
            let progress = self.dialect.progress(server, &self.plan, published)?;
            if holds(&progress) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "the server does not say that {what}: {progress:?}"
                )));
            }
            let next_look_at = Instant::now() + LOOK_INTERVAL;
            while Instant::now() < next_look_at {
                self.poll_once(LOOK_INTERVAL)?;
            }
        }
    }
}

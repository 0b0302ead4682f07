//! Publishers, and the members of one group that work off what they publish: `queue` and `group`.
//!
//! The load of [`generator`](super::generator) with consumers that answer. Publishers wait when too much lies
//! unfinished, so that the server's time is spent on records that were stored, delivered and settled. A run
//! counts only if the broker's own description of the group says in the end that all are.

use std::{
    io,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use serde::Deserialize;

use super::{
    Failure,
    duty::{Doer, Duty, GROUP},
    generator::{Measured, SCRATCH_BYTES, Snapshot},
    http,
    link::{Block, Link, Looks, SETUP_TIMEOUT, TOPIC},
    process::Server,
    wire::push_client_message,
};

/// How long the group may take to finish what was published.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at the group's description.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Who works, and how much may be under way.
#[derive(Clone, Copy, Debug)]
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

impl Plan {
    fn subscribe_line(&self) -> String {
        let (mode, credit) = (self.duty.mode(), self.credit);
        format!(
            r#"{{"type":"subscribe","id":1,"topic":"{TOPIC}","group":"{GROUP}","mode":"{mode}","from":"earliest","credit":{credit}}}"#
        )
    }
}

struct Member {
    link: Link,
    doer: Doer,
}

/// All sockets of a scenario.
pub struct Crew {
    plan: Plan,
    poll: Poll,
    events: Events,
    publishers: Vec<Link>,
    members: Vec<Member>,
    scratch: Vec<u8>,
}

impl Crew {
    /// Opens all sockets one by one and waits until the group knows of all members.
    ///
    /// # Errors
    /// The server does not answer as it should.
    pub fn open(server: &Server, plan: Plan) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let open = |index: usize, subscribe: Option<&str>| -> Result<Link, Failure> {
            let mut link = Link::open(&server.address, subscribe)?;
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut link.stream, Token(index), interest)?;
            Ok(link)
        };
        let subscribe = plan.subscribe_line();
        let publishers = (0..plan.publishers)
            .map(|index| open(index, None))
            .collect::<Result<_, _>>()?;
        let members = (0..plan.members)
            .map(|index| {
                Ok(Member {
                    link: open(plan.publishers + index, Some(&subscribe))?,
                    doer: Doer::new(plan.duty),
                })
            })
            .collect::<Result<_, Failure>>()?;
        let mut crew = Self {
            plan,
            poll,
            events: Events::with_capacity(1024),
            publishers,
            members,
            scratch: vec![0; SCRATCH_BYTES],
        };
        crew.until(server, SETUP_TIMEOUT, "every member has its share", |group| {
            group.is_shared_out(plan.members)
        })?;
        Ok(crew)
    }

    /// Publishes and works as fast as `plan` lets it: first for `warm_up`, then for `duration`, which is
    /// measured; then finishes what is left.
    ///
    /// # Errors
    /// The server refuses something, closes a connection, does nothing, or loses count.
    pub fn run(
        &mut self,
        server: &Server,
        block: &Block,
        (warm_up, duration): (Duration, Duration),
    ) -> Result<Measured, Failure> {
        let started_at = Instant::now();
        let mut before: Option<Snapshot> = None;
        let measured = loop {
            self.publish(block)?;
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

    fn published(&self) -> u64 {
        self.publishers.iter().map(|link| link.published).sum()
    }

    fn settled(&self) -> u64 {
        self.members.iter().map(|member| member.doer.settled()).sum()
    }

    fn snapshot(&self, server: &Server) -> Snapshot {
        let answered = self.publishers.iter().map(Link::received).sum();
        Snapshot::now(server, answered, self.settled())
    }

    fn publish(&mut self, block: &Block) -> Result<(), Failure> {
        let unfinished = self.published().saturating_sub(self.settled());
        let mut room = self
            .plan
            .backlog
            .saturating_sub(usize::try_from(unfinished).unwrap_or(usize::MAX));
        for link in &mut self.publishers {
            if link.is_writing() {
                continue;
            }
            let unanswered = usize::try_from(link.published - link.received()).unwrap_or(usize::MAX);
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
            match index.checked_sub(self.publishers.len()) {
                None => {
                    let link = &mut self.publishers[index];
                    if event.is_writable() {
                        link.flush()?;
                    }
                    if event.is_readable() {
                        link.receive(&mut self.scratch, Looks::AtLines, |_| {})?;
                    }
                }
                Some(index) => {
                    let Member { link, doer } = &mut self.members[index];
                    if event.is_readable() {
                        link.receive(&mut self.scratch, Looks::AtLines, |line| doer.take(line))?;
                        doer.drain(|lines| push_client_message(&mut link.outgoing, lines));
                        link.flush()?;
                    } else if event.is_writable() {
                        link.flush()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Publishes no more, settles all that was, and holds the broker's count against ours.
    fn drain(&mut self, server: &Server) -> Result<(), Failure> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let published = self.published();
        let answered = |crew: &Self| crew.publishers.iter().map(Link::received).sum::<u64>();
        let taken = |crew: &Self| -> u64 { crew.members.iter().map(|member| member.doer.taken()).sum() };
        while answered(self) < published || taken(self) < published {
            self.poll_once(Duration::from_millis(10))?;
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "of {published} records {} were answered and {} delivered",
                    answered(self),
                    taken(self)
                )));
            }
        }
        for Member { link, doer } in &mut self.members {
            doer.finish();
            doer.drain(|lines| push_client_message(&mut link.outgoing, lines));
            link.flush()?;
        }
        let duty = self.plan.duty;
        self.until(server, DRAIN_TIMEOUT, "every record is settled", |group| {
            group.has_settled(duty, published)
        })?;
        if taken(self) == published {
            Ok(())
        } else {
            Err(Failure::new(format!(
                "{published} records were published and {} delivered",
                taken(self)
            )))
        }
    }

    /// Looks at the group's description until it is as it must be; the sockets go on meanwhile.
    fn until(
        &mut self,
        server: &Server,
        timeout: Duration,
        what: &str,
        mut holds: impl FnMut(&Group) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            let answer = describe(server)?;
            let group: Group = serde_json::from_str(&answer)
                .map_err(|error| Failure::new(format!("{error} in the group's description {answer}")))?;
            if holds(&group) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "the broker does not say that {what}: {answer}"
                )));
            }
            let next_look_at = Instant::now() + LOOK_INTERVAL;
            while Instant::now() < next_look_at {
                self.poll_once(LOOK_INTERVAL)?;
            }
        }
    }
}

fn describe(server: &Server) -> Result<String, Failure> {
    let path = format!("/api/v1/topics/{TOPIC}/groups/{GROUP}");
    let (status, answer) = http::request("GET", &server.address, &path)?;
    if status == 200 {
        Ok(answer)
    } else {
        Err(Failure::new(format!("GET {path}: HTTP {status} {answer}")))
    }
}

/// What a group's description says of what matters here.
#[derive(Deserialize)]
struct Group {
    members: Vec<MemberShare>,
    partitions: Vec<Progress>,
    acked: u64,
    lag: u64,
}

#[derive(Deserialize)]
struct MemberShare {
    partitions: Vec<u64>,
    revoking: Vec<u64>,
}

#[derive(Deserialize)]
struct Progress {
    committed: u64,
    member: Option<String>,
}

impl Group {
    /// Whether all members are there and nothing moves any more.
    fn is_shared_out(&self, members: usize) -> bool {
        let sizes = || self.members.iter().map(|member| member.partitions.len());
        let is_even = sizes().max().unwrap_or(0) <= sizes().min().unwrap_or(0) + 1;
        let has_owners =
            sizes().sum::<usize>() == 0 || self.partitions.iter().all(|partition| partition.member.is_some());
        self.members.len() == members
            && is_even
            && has_owners
            && self.members.iter().all(|member| member.revoking.is_empty())
    }

    fn has_settled(&self, duty: Duty, published: u64) -> bool {
        let committed: u64 = self.partitions.iter().map(|partition| partition.committed).sum();
        let is_exact = match duty {
            Duty::Ack => self.acked == published,
            Duty::Commit { .. } => committed == published,
        };
        self.lag == 0 && is_exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(text: &str) -> Group {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    #[test]
    fn group_is_shared_out_when_nothing_moves_any_more() {
        let of = |members: &str, owner: &str| {
            group(&format!(
                r#"{{"members":[{members}],"partitions":[{{"partition":0,"committed":4,"next_offset":9,"member":{owner}}}],"acked":0,"lag":5}}"#
            ))
        };
        let owns = r#"{"member":"a","partitions":[0],"revoking":[]}"#;
        let idles = r#"{"member":"b","partitions":[],"revoking":[]}"#;
        let leaves = r#"{"member":"b","partitions":[],"revoking":[1]}"#;
        assert!(of(&format!("{owns},{idles}"), r#""a""#).is_shared_out(2));
        assert!(!of(&format!("{owns},{leaves}"), r#""a""#).is_shared_out(2));
        assert!(!of(owns, r#""a""#).is_shared_out(2));
        assert!(!of(owns, "null").is_shared_out(1));
        assert!(of(idles, "null").is_shared_out(1), "a shared group has no owners");
        assert!(!of(owns, r#""a""#).has_settled(Duty::Commit { every: 1 }, 9));
    }

    #[test]
    fn settled_is_what_the_broker_counted_exactly() {
        let of = |committed: u64, acked: u64, lag: u64| {
            group(&format!(
                r#"{{"members":[],"partitions":[{{"committed":{committed},"member":null}}],"acked":{acked},"lag":{lag}}}"#
            ))
        };
        assert!(of(9, 9, 0).has_settled(Duty::Ack, 9));
        assert!(!of(9, 8, 0).has_settled(Duty::Ack, 9), "one went another way");
        assert!(!of(9, 9, 1).has_settled(Duty::Ack, 9));
        assert!(of(9, 0, 0).has_settled(Duty::Commit { every: 100 }, 9));
        assert!(!of(8, 0, 0).has_settled(Duty::Commit { every: 100 }, 9));
    }
}

//! Answers to single records of an append, which come at different times.

use std::{collections::HashMap, sync::Arc};

use super::{Answered, Origin, Reply, Settled, Settlement, Waited, receipt};
use crate::actors::{
    directory::PartitionRef,
    hub::{HubAddr, Settle},
    waiting::Held,
};

/// The duty to answer one record that waits by itself. Dropped without an answer, as in a panic, it answers
/// `internal`.
pub struct Ticket {
    origin: Arc<Origin>,
    part: Arc<PartitionRef>,
    held: Held,
    /// There until it was answered.
    reply: Option<Reply>,
}

impl Ticket {
    pub(super) fn new(origin: Arc<Origin>, part: Arc<PartitionRef>, held: Held, reply: Reply) -> Self {
        Self {
            origin,
            part,
            held,
            reply: Some(reply),
        }
    }

    /// Whether nobody wants to know any more.
    pub fn is_gone(&self) -> bool {
        self.origin.is_gone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.reply.is_some() && !self.is_gone() {
            let mut answers = Answers::default();
            answers.take(self, Err(receipt::lost()));
            for (hub, settled) in answers.send() {
                // Bounded by what a session may have waiting, so the mailbox may be passed over.
                hub.do_send(Settle(vec![settled]));
            }
        }
    }
}

/// Collects answers, so that those of one session go out together.
#[derive(Default)]
pub struct Answers {
    groups: Vec<Group>,
    /// By what makes a publisher one: where its numbers or its origin lie in memory.
    by_publisher: HashMap<usize, usize>,
}

struct Group {
    origin: Arc<Origin>,
    part: Arc<PartitionRef>,
    held: Held,
    replies: Vec<Reply>,
    outcomes: Vec<Waited>,
}

impl Answers {
    /// Answers one record.
    pub fn add(&mut self, mut ticket: Ticket, outcome: Waited) {
        self.take(&mut ticket, outcome);
    }

    fn take(&mut self, ticket: &mut Ticket, outcome: Waited) {
        let Some(reply) = ticket.reply.take() else { return };
        let publisher = match ticket.origin.as_ref() {
            Origin::Session(_, _, waits) => Arc::as_ptr(waits) as usize,
            Origin::Caller(_) => Arc::as_ptr(&ticket.origin) as usize,
        };
        let groups = &mut self.groups;
        let index = *self.by_publisher.entry(publisher).or_insert_with(|| {
            groups.push(Group {
                origin: ticket.origin.clone(),
                part: ticket.part.clone(),
                held: Held::default(),
                replies: Vec::new(),
                outcomes: Vec::new(),
            });
            groups.len() - 1
        });
        let group = &mut groups[index];
        group.held.add(ticket.held);
        group.replies.push(reply);
        group.outcomes.push(outcome);
    }

    /// Answers callers, and returns what hubs must be told.
    pub fn send(self) -> Vec<(HubAddr, Settled)> {
        let mut settled = Vec::new();
        for group in self.groups {
            let settlement = Settlement::Waited(group.outcomes);
            match group.origin.as_ref() {
                Origin::Caller(caller) => {
                    // A caller that went away does not want to know.
                    let _ = caller.send(Answered {
                        part: group.part.id,
                        replies: group.replies,
                        settlement,
                    });
                }
                Origin::Session(hub, conn, _) => settled.push((
                    hub.clone(),
                    Settled {
                        conn: *conn,
                        part: group.part,
                        released_bytes: 0,
                        released: group.held,
                        replies: group.replies,
                        settlement,
                    },
                )),
            }
        }
        settled
    }
}

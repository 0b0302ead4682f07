//! The duty to answer the publisher of an append.

use std::sync::Arc;

use callboard_core::partition::DraftEntry;
use callboard_protocol::{ErrorCode, error::Refusal};

use super::{Answered, Origin, Reply, Settled, Settlement, answers::Ticket};
use crate::actors::{
    directory::PartitionRef,
    hub::{HubAddr, Settle},
    waiting::Held,
};

/// The duty to answer a publisher. Dropped without an answer, as in a panic, it answers `internal`.
pub struct Receipt {
    origin: Option<Origin>,
    part: Arc<PartitionRef>,
    bytes: usize,
    held: Held,
    replies: Vec<Reply>,
}

impl Receipt {
    /// A receipt for records of `bytes` in flight, of which `held` is counted as waiting.
    pub fn new(
        origin: Origin,
        part: Arc<PartitionRef>,
        (bytes, held): (usize, Held),
        replies: Vec<Reply>,
    ) -> Self {
        Self {
            origin: Some(origin),
            part,
            bytes,
            held,
            replies,
        }
    }

    /// Of records that nobody waits for any more: those that were scheduled and are due now.
    pub fn nobody(part: Arc<PartitionRef>) -> Self {
        Self {
            origin: None,
            part,
            bytes: 0,
            held: Held::default(),
            replies: Vec::new(),
        }
    }

    /// Whether its records are counted among those that wait.
    pub fn is_held(&self) -> bool {
        self.held.records > 0
    }

    /// Whether nobody wants to know any more.
    pub fn is_gone(&self) -> bool {
        self.origin.as_ref().is_none_or(Origin::is_gone)
    }

    /// Takes off the replies from the one at `at` on; the records before it have `bytes`. What is held is held
    /// from the first record on, so the rest has what is more than those. The bytes in flight stay here.
    pub(super) fn split_off(&mut self, at: usize, bytes: usize) -> Self {
        let all = self.held;
        self.held = Held {
            records: all.records.min(at),
            bytes: all.bytes.min(bytes),
        };
        Self {
            origin: self.origin.clone(),
            part: self.part.clone(),
            bytes: 0,
            held: Held {
                records: all.records - self.held.records,
                bytes: all.bytes - self.held.bytes,
            },
            replies: self.replies.split_off(at),
        }
    }

    /// Counts records that are going to wait for room, from the first on, and returns how many may.
    pub fn hold(&mut self, entries: &[DraftEntry]) -> usize {
        let Some(Origin::Session(_, _, waits)) = &self.origin else {
            return entries.len();
        };
        for (index, entry) in entries.iter().enumerate() {
            match waits.hold(entry.bytes as usize) {
                Ok(held) => self.held.add(held),
                Err(_) => return index,
            }
        }
        entries.len()
    }

    /// Turns the replies that `waits` picks into tickets of their own; it says what of the record at an index
    /// is held. The others stay.
    pub fn tickets(&mut self, waits: impl Fn(usize) -> Option<Held>) -> Vec<(usize, Ticket)> {
        let Some(origin) = self.origin.clone().map(Arc::new) else {
            return Vec::new();
        };
        let mut tickets = Vec::new();
        for (index, reply) in std::mem::take(&mut self.replies).into_iter().enumerate() {
            match waits(index) {
                None => self.replies.push(reply),
                Some(held) => {
                    self.held.records -= held.records;
                    self.held.bytes -= held.bytes;
                    let ticket = Ticket::new(origin.clone(), self.part.clone(), held, reply);
                    tickets.push((index, ticket));
                }
            }
        }
        tickets
    }

    /// No longer counts the bytes as in flight, because they wait for something that may take any time; the
    /// session is read on.
    pub fn release_bytes(&mut self) -> Option<(HubAddr, Settled)> {
        let bytes = std::mem::take(&mut self.bytes);
        match &self.origin {
            Some(Origin::Session(hub, conn, _)) if bytes > 0 => Some((
                hub.clone(),
                Settled {
                    conn: *conn,
                    part: self.part.clone(),
                    released_bytes: bytes,
                    released: Held::default(),
                    replies: Vec::new(),
                    settlement: Settlement::Passed,
                },
            )),
            _ => None,
        }
    }

    /// Answers the records but keeps their bytes in flight; the rest is settled when they are written.
    pub fn answer_early(&mut self, settlement: Settlement) -> Option<(HubAddr, Settled)> {
        match &self.origin {
            Some(Origin::Session(hub, conn, _)) => Some((
                hub.clone(),
                Settled {
                    conn: *conn,
                    part: self.part.clone(),
                    released_bytes: 0,
                    released: Held::default(),
                    replies: std::mem::take(&mut self.replies),
                    settlement,
                },
            )),
            Some(Origin::Caller(_)) => self.answer(settlement),
            None => None,
        }
    }

    /// Answers a caller, or returns what its hub must be told.
    pub fn settle(mut self, settlement: Settlement) -> Option<(HubAddr, Settled)> {
        self.answer(settlement)
    }

    /// Refuses the records, from wherever it is known.
    pub fn refuse(self, refusal: Refusal) {
        self.answer_now(Settlement::Refused(refusal));
    }

    /// Answers the records, from wherever it is known.
    pub fn answer_now(self, settlement: Settlement) {
        if let Some((hub, settled)) = self.settle(settlement) {
            // Bounded by what the session had in flight, so the mailbox may be passed over.
            hub.do_send(Settle(vec![settled]));
        }
    }

    fn answer(&mut self, settlement: Settlement) -> Option<(HubAddr, Settled)> {
        let replies = std::mem::take(&mut self.replies);
        match self.origin.take()? {
            Origin::Caller(caller) => {
                // A caller that went away does not want to know.
                let _ = caller.send(Answered {
                    part: self.part.id,
                    replies,
                    settlement,
                });
                None
            }
            Origin::Session(hub, conn, _) => Some((
                hub,
                Settled {
                    conn,
                    part: self.part.clone(),
                    released_bytes: self.bytes,
                    released: self.held,
                    replies,
                    settlement,
                },
            )),
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some((hub, settled)) = self.answer(Settlement::Refused(lost())) {
            // Bounded by what the session had in flight, so the mailbox may be passed over.
            hub.do_send(Settle(vec![settled]));
        }
    }
}

/// What a publisher is told whose record met a fault of ours.
pub(in crate::actors) fn lost() -> Refusal {
    Refusal::new(
        ErrorCode::Internal,
        "the partition failed; the outcome is unknown, try again",
    )
}

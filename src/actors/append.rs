//! A publish on its way: the message to a partition, and the receipt that always comes back.

use std::sync::Arc;

use actix::{Addr, Message};
use callboard_core::partition::Draft;
use callboard_protocol::{
    ErrorCode, FrameId, Offset,
    client::Ack,
    error::Refusal,
    server::{DurabilityText, Stored},
};
use tokio::sync::oneshot;

use super::{directory::PartitionRef, hub::HubActor};

/// Which connection of a hub; never given twice by one hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub u64);

/// Records of one publisher for one partition, in order. Answered through its receipt, always.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Append {
    /// The records.
    pub draft: Draft,
    /// When to answer.
    pub ack: Ack,
    /// Whether the records are kept.
    pub keep: Keep,
    /// Who is told.
    pub receipt: Receipt,
}

/// Whether records are kept or only passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// In the log.
    Stored,
    /// `ttl_ms` 0: live subscribers only.
    Transient,
}

/// What the answer to one record must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The frame's id.
    pub id: Option<FrameId>,
    /// Where the answer goes.
    pub slot: Slot,
    /// Whether only a refusal is answered.
    pub silent: bool,
}

/// Where the answer to one record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// It is a reply of its own.
    Alone,
    /// It is an entry of a publish with several records.
    Part {
        /// Which publish of the session.
        pending: usize,
        /// Which record of it.
        index: usize,
    },
}

/// Who published.
pub enum Origin {
    /// A WebSocket session.
    Session(Addr<HubActor>, ConnId),
    /// Someone who awaits the outcome.
    Caller(oneshot::Sender<Settlement>),
}

/// What became of the records of one [`Append`].
#[derive(Clone, Debug)]
pub enum Settlement {
    /// All are stored, one after another.
    AllStored {
        /// The first one's offset.
        base: Offset,
        /// What is true of them now.
        durability: DurabilityText,
    },
    /// Each has its own outcome.
    Each(Vec<Result<Stored, Refusal>>),
    /// Given to live subscribers, not stored.
    Passed,
    /// None is stored.
    Refused(Refusal),
}

impl Settlement {
    /// The outcome of the record at `index`; `None` if it was passed on and not stored.
    pub fn outcome(&self, index: usize) -> Option<Result<Stored, Refusal>> {
        match self {
            Self::AllStored { base, durability } => Some(Ok(Stored {
                offset: base.plus(index as u64),
                duplicate: false,
                durability,
            })),
            Self::Each(outcomes) => outcomes.get(index).cloned(),
            Self::Passed => None,
            Self::Refused(refusal) => Some(Err(refusal.clone())),
        }
    }
}

/// Says to a session what became of an [`Append`]; goes to its hub.
pub struct Settled {
    /// The session.
    pub conn: ConnId,
    /// The partition.
    pub part: Arc<PartitionRef>,
    /// Bytes that are no longer in flight.
    pub released_bytes: usize,
    /// One for each record.
    pub replies: Vec<Reply>,
    /// What became of them.
    pub settlement: Settlement,
}

/// The duty to answer a publisher. Dropped without an answer, as in a panic, it answers `internal`.
pub struct Receipt {
    origin: Option<Origin>,
    part: Arc<PartitionRef>,
    bytes: usize,
    replies: Vec<Reply>,
}

impl Receipt {
    /// A receipt for records of `bytes` in flight.
    pub fn new(origin: Origin, part: Arc<PartitionRef>, bytes: usize, replies: Vec<Reply>) -> Self {
        Self {
            origin: Some(origin),
            part,
            bytes,
            replies,
        }
    }

    /// Answers the records but keeps their bytes in flight; the rest is settled when they are written.
    pub fn answer_early(&mut self, settlement: Settlement) -> Option<(Addr<HubActor>, Settled)> {
        match &self.origin {
            Some(Origin::Session(hub, conn)) => {
                let replies = std::mem::take(&mut self.replies);
                let part = self.part.clone();
                Some((
                    hub.clone(),
                    Settled {
                        conn: *conn,
                        part,
                        released_bytes: 0,
                        replies,
                        settlement,
                    },
                ))
            }
            Some(Origin::Caller(_)) => {
                if let Some(Origin::Caller(caller)) = self.origin.take() {
                    // A caller that went away does not want to know.
                    let _ = caller.send(settlement);
                }
                None
            }
            None => None,
        }
    }

    /// Answers a caller, or returns what its hub must be told.
    pub fn settle(mut self, settlement: Settlement) -> Option<(Addr<HubActor>, Settled)> {
        match self.origin.take()? {
            Origin::Caller(caller) => {
                // A caller that went away does not want to know.
                let _ = caller.send(settlement);
                None
            }
            Origin::Session(hub, conn) => {
                let replies = std::mem::take(&mut self.replies);
                let part = self.part.clone();
                Some((
                    hub,
                    Settled {
                        conn,
                        part,
                        released_bytes: self.bytes,
                        replies,
                        settlement,
                    },
                ))
            }
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(Origin::Session(hub, conn)) = self.origin.take() {
            let refusal = Refusal::new(
                ErrorCode::Internal,
                "the partition failed; the outcome is unknown, try again",
            );
            // Bounded by what the session had in flight, so the mailbox may be passed over.
            hub.do_send(super::hub::Settle(vec![Settled {
                conn,
                part: self.part.clone(),
                released_bytes: self.bytes,
                replies: std::mem::take(&mut self.replies),
                settlement: Settlement::Refused(refusal),
            }]));
        }
    }
}

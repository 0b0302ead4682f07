//! A publish on its way: the message to a partition, and the receipt that always comes back.

mod answers;
mod receipt;
pub mod spare;

use std::sync::Arc;

use actix::Message;
use bytes::Bytes;
use callboard_core::partition::Draft;
use callboard_protocol::{
    FrameId, Offset, PartitionId, Timestamp,
    client::Ack,
    error::Refusal,
    server::{DurabilityText, RecordResult, Stored},
};
use tokio::sync::mpsc::UnboundedSender;

pub(super) use self::receipt::lost;
pub use self::{
    answers::{Answers, Ticket},
    receipt::Receipt,
};
use super::{
    directory::PartitionRef,
    hub::HubAddr,
    notice::NoticeTo,
    waiting::{Held, SessionWaits, Until},
};

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
    pub asked: Asked,
    /// Whether the records are kept.
    pub keep: Keep,
    /// Who is told.
    pub receipt: Receipt,
    /// Who else is told when it comes so far, by record.
    pub notices: Vec<(usize, NoticeTo)>,
    /// When each record is due; empty unless they are scheduled.
    pub dues: Vec<Timestamp>,
}

impl Append {
    /// Takes off the records from the one at `at` on, in the order sent.
    pub fn split_off(&mut self, at: usize) -> Self {
        let bytes = self.draft.entries[..at]
            .iter()
            .map(|entry| entry.bytes as usize)
            .sum();
        let draft = Draft {
            records: self.draft.records.split_off(bytes),
            entries: self.draft.entries.split_off(at),
        };
        let notices = self.notices.extract_if(.., |(index, _)| *index >= at);
        Self {
            notices: notices.map(|(index, to)| (index - at, to)).collect(),
            receipt: self.receipt.split_off(at, bytes),
            draft,
            asked: self.asked,
            keep: self.keep,
            dues: self.dues.split_off(at.min(self.dues.len())),
        }
    }

    /// How many records.
    pub fn count(&self) -> usize {
        self.draft.entries.len()
    }
}

/// When a publisher wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// After what.
    pub ack: Ack,
    /// How long it waits for what may take any time.
    pub timeout_ms: Option<u64>,
}

impl Asked {
    /// When the records have what their topic's durability promises.
    pub const DURABLE: Self = Self {
        ack: Ack::Durable,
        timeout_ms: None,
    };

    /// What the publisher waits for once the record is stored, if it does.
    pub fn until(self) -> Option<Until> {
        match self.ack {
            Ack::None | Ack::Accepted | Ack::Durable => None,
            Ack::Delivered => Some(Until::Delivered),
            Ack::Processed => Some(Until::Processed),
        }
    }
}

/// Whether records are kept or only passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// In the log.
    Stored,
    /// `ttl_ms` 0: live subscribers only.
    Transient,
    /// Among the schedules, until it is due.
    Scheduled,
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
    /// It is one route of a record that was published through an exchange.
    Route {
        /// Which publish of the session.
        pending: usize,
        /// Which record of it.
        record: usize,
        /// Which of the record's routes.
        route: usize,
    },
}

/// Who published.
#[derive(Clone)]
pub enum Origin {
    /// A WebSocket session.
    Session(HubAddr, ConnId, Arc<SessionWaits>),
    /// Someone who awaits the outcomes until nobody can send one any more.
    Caller(UnboundedSender<Answered>),
}

impl Origin {
    /// Whether nobody wants to know any more.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Session(_, _, waits) => waits.has_ended(),
            Self::Caller(caller) => caller.is_closed(),
        }
    }
}

/// Says to a caller what became of some of its records.
pub struct Answered {
    /// The partition.
    pub part: PartitionId,
    /// One for each record.
    pub replies: Vec<Reply>,
    /// What became of them.
    pub settlement: Settlement,
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
    /// Each was waited for.
    Waited(Vec<Waited>),
    /// Given to live subscribers, not stored.
    Passed,
    /// What became of each that was to be scheduled.
    Scheduled(Vec<RecordResult>),
    /// None is stored.
    Refused(Refusal),
}

/// What became of a stored record that was waited for: with the result of the group that processed it, as
/// JSON on one line.
pub type Waited = Result<(Stored, Option<Bytes>), Refusal>;

impl Settlement {
    /// The outcome of the record at `index`, of the partition that it went to.
    pub fn outcome(&self, index: usize, part: PartitionId) -> RecordResult {
        let lost = || RecordResult::Refused(receipt::lost());
        match self {
            Self::AllStored { base, durability } => RecordResult::Stored(
                part,
                Stored {
                    offset: base.plus(index as u64),
                    duplicate: false,
                    durability,
                },
            ),
            Self::Each(outcomes) => match outcomes.get(index) {
                Some(Ok(stored)) => RecordResult::Stored(part, *stored),
                Some(Err(refusal)) => RecordResult::Refused(refusal.clone()),
                None => lost(),
            },
            Self::Waited(outcomes) => match outcomes.get(index) {
                Some(Ok((stored, None))) => RecordResult::Stored(part, *stored),
                Some(Ok((stored, Some(result)))) => RecordResult::Processed(part, *stored, result[..].into()),
                Some(Err(refusal)) => RecordResult::Refused(refusal.clone()),
                None => lost(),
            },
            Self::Passed => RecordResult::Passed(part),
            Self::Scheduled(results) => results.get(index).cloned().unwrap_or_else(lost),
            Self::Refused(refusal) => RecordResult::Refused(refusal.clone()),
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
    /// What no longer waits.
    pub released: Held,
    /// One for each record.
    pub replies: Vec<Reply>,
    /// What became of them.
    pub settlement: Settlement,
}

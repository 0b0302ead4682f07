//! Notices: a publisher asked to be told when its record reaches a level, without waiting for it.
//!
//! Owns where a notice goes and that it is counted while it waits; [`partition::notices`](super::partition) keeps
//! it until it is due. Notices live in this process: a restart forgets those that were not given yet.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use actix::Message;
use bytes::Bytes;
use callboard_protocol::{
    ErrorCode, Offset, PartitionId, TopicName,
    client::{Ack, Notify},
    error::Refusal,
    server::{self, NoticeForm, NoticeOutcome},
};

use super::{
    Shared,
    append::{ConnId, Origin},
    hub::HubAddr,
    waiting::{Held, SessionWaits},
    wire,
};

/// Most notices that wait in the process.
const WAITING_MAX: usize = 100_000;

static WAITING: AtomicUsize = AtomicUsize::new(0);

/// A notice that is to be given, with the numbers that count it.
pub struct Wanted {
    notify: Notify,
    counted: Counted,
}

/// Counts a notice for as long as it waits.
struct Counted {
    session: Option<(Arc<SessionWaits>, Held)>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::AcqRel);
        if let Some((waits, held)) = &self.session {
            waits.release(*held);
        }
    }
}

impl Wanted {
    /// Counts a notice that a publisher asks for, who is a session if it has `waits`.
    ///
    /// # Errors
    /// `overloaded` when as many wait as may; `invalid_argument` for a notice without `url` to who has no socket.
    pub fn new(notify: &Notify, waits: Option<&Arc<SessionWaits>>) -> Result<Self, Refusal> {
        if waits.is_none() && notify.url.is_none() {
            let message = "without a WebSocket a notice needs a url";
            return Err(Refusal::new(ErrorCode::InvalidArgument, message));
        }
        let before = WAITING.fetch_add(1, Ordering::AcqRel);
        // From here on it is taken back by being dropped.
        let mut counted = Counted { session: None };
        if before >= WAITING_MAX {
            let message = format!("{WAITING_MAX} notices wait already");
            return Err(Refusal::new(ErrorCode::Overloaded, message));
        }
        if let Some(waits) = waits {
            counted.session = Some((waits.clone(), waits.hold(notify.correlation_id.len())?));
        }
        Ok(Self {
            notify: notify.clone(),
            counted,
        })
    }

    /// Says where it goes, once that is known.
    pub fn to(self, origin: &Origin) -> NoticeTo {
        let Self { notify, counted } = self;
        let Notify {
            on,
            correlation_id,
            url,
        } = notify;
        let place = match (url, origin) {
            (Some(url), _) => Place::Url(url),
            (None, Origin::Session(hub, conn, _)) => Place::Session(hub.clone(), *conn),
            (None, Origin::Caller(_)) => Place::Nowhere,
        };
        NoticeTo {
            on,
            correlation_id,
            place,
            counted,
        }
    }
}

/// A notice, and where it goes.
pub struct NoticeTo {
    /// The level that is waited for.
    pub on: Ack,
    correlation_id: Box<str>,
    place: Place,
    counted: Counted,
}

enum Place {
    Session(HubAddr, ConnId),
    Url(Box<str>),
    Nowhere,
}

/// What a notice says.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The record reached the level; with the result of the group that processed it.
    Reached(Offset, Option<Bytes>),
    /// It will not.
    Failed(Refusal),
}

impl NoticeTo {
    /// Whether nobody wants to know any more.
    pub fn is_gone(&self) -> bool {
        match (&self.place, &self.counted.session) {
            (Place::Session(..), Some((waits, _))) => waits.has_ended(),
            (Place::Nowhere, _) => true,
            (Place::Url(_) | Place::Session(..), _) => false,
        }
    }

    /// Gives it.
    pub fn give(self, shared: &Shared, topic: &TopicName, partition: PartitionId, outcome: &Outcome) {
        let notice = server::Notice {
            correlation_id: &self.correlation_id,
            on: self.on,
            topic,
            outcome: match outcome {
                Outcome::Reached(offset, result) => NoticeOutcome::Reached {
                    partition,
                    offset: *offset,
                    result: result.as_deref(),
                },
                Outcome::Failed(refusal) => NoticeOutcome::Failed(refusal),
            },
        };
        match &self.place {
            Place::Session(hub, conn) => {
                let bytes = wire::text_message(|buffer| server::notice(buffer, NoticeForm::Frame, &notice));
                // Bounded by what a session may have waiting, so the mailbox may be passed over.
                hub.do_send(GiveNotice { conn: *conn, bytes });
            }
            Place::Url(url) => {
                let mut body = Vec::new();
                server::notice(&mut body, NoticeForm::Body, &notice);
                shared.push().notice(url, &self.correlation_id, body.into());
            }
            Place::Nowhere => {}
        }
    }
}

/// A notice for a session, as finished bytes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct GiveNotice {
    /// The session.
    pub conn: ConnId,
    /// The frame.
    pub bytes: Bytes,
}

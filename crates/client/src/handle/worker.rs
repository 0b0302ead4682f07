//! A member of a shared group, and the jobs that it gets, as a program holds them.

use std::{sync::Arc, time::Duration};

use callboard_protocol::{ErrorCode, json};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::{Client, Delivered, MemberEvent, consumer::Seat, unexpected};
use crate::{
    driver::{Command, Settlement},
    error::Error,
    frame::{Message, ServerFrame, Subscribed},
    request::{self, AckDelivery, Extend, Nack, Settle, whole_ms},
};

/// What a member of a shared group gets.
#[derive(Debug)]
pub enum WorkerEvent {
    /// A record to work on.
    Job(Job),
    /// It is a member again after a lost connection: jobs of the old one can no longer be settled, and come
    /// again to somebody.
    Rejoined(Subscribed),
    /// It is no member any more, and nothing comes after this.
    Unsubscribed {
        /// Why.
        reason: String,
    },
}

/// A member of a shared group; it leaves when it is dropped, and its jobs can still be settled then.
#[derive(Debug)]
pub struct Worker {
    pub(super) seat: Seat,
    pub(super) subscribed: Subscribed,
    pub(super) events: mpsc::Receiver<Delivered>,
}

impl Worker {
    /// What the broker answered when it joined.
    #[must_use]
    pub fn subscribed(&self) -> &Subscribed {
        &self.subscribed
    }

    /// The next job; `None` once nothing more comes.
    pub async fn next_job(&mut self) -> Option<Job> {
        loop {
            if let WorkerEvent::Job(job) = self.next_event().await? {
                return Some(job);
            }
        }
    }

    /// The next event; `None` after [`WorkerEvent::Unsubscribed`].
    pub async fn next_event(&mut self) -> Option<WorkerEvent> {
        loop {
            let delivered = self.events.recv().await?;
            if let Some(event) = self.heard(delivered) {
                return Some(event);
            }
        }
    }

    /// The next event if one is here already.
    pub fn try_next_event(&mut self) -> Option<WorkerEvent> {
        loop {
            let delivered = self.events.try_recv().ok()?;
            if let Some(event) = self.heard(delivered) {
                return Some(event);
            }
        }
    }

    fn heard(&self, delivered: Delivered) -> Option<WorkerEvent> {
        let Delivered::Member(event) = delivered else {
            return None;
        };
        match event {
            MemberEvent::Record { message, connection } => Some(WorkerEvent::Job(Job {
                delivery: message.delivery?,
                message,
                connection,
                client: Arc::clone(&self.seat.client),
            })),
            MemberEvent::Rejoined(subscribed) => Some(WorkerEvent::Rejoined(subscribed)),
            MemberEvent::Ended { reason } => Some(WorkerEvent::Unsubscribed { reason }),
            // Nobody owns a partition in a shared group, and what it leaves out is finished.
            MemberEvent::Assigned(_) | MemberEvent::Revoked(_) | MemberEvent::Skipped(_) => None,
        }
    }

    /// Lets so many more records be out unsettled.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn add_credit(&self, add: u64) -> Result<(), Error> {
        self.seat.add_credit(add).await
    }

    /// Leaves, and waits until the broker knows: no more jobs are sent. Those that came and were not taken
    /// come again to others when their lease ends.
    ///
    /// # Errors
    /// [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn leave(self) -> Result<(), Error> {
        self.seat.leave().await
    }
}

/// A record that is leased to this worker. One that is dropped unsettled comes again when its lease ends.
#[derive(Debug)]
pub struct Job {
    message: Message,
    delivery: u64,
    /// The connection over which it came: only there it can be settled.
    connection: u64,
    client: Arc<Client>,
}

impl Job {
    /// The record.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// How often the record has been handed out, this time included.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.message.attempt.unwrap_or(1)
    }

    /// How long it is leased from the moment that it was sent, unless it is extended.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.message.lease_ms.unwrap_or_default())
    }

    /// It is done. Returns when that is as durable as the topic's records.
    ///
    /// # Errors
    /// [`Error::UnknownDelivery`] if the connection over which it came is gone; [`Error::Refused`] with
    /// `lease_expired` if it took too long; [`Error::Disconnected`] or [`Error::Closed`]. In each case it may
    /// come again to another worker.
    pub async fn ack(self) -> Result<(), Error> {
        self.acked(None).await
    }

    /// It is done, with this for the publisher that waits for it: JSON text.
    ///
    /// # Errors
    /// As [`Self::ack`]; [`Error::Payload`] if `result` is not JSON, and then it is still leased.
    pub async fn ack_with(&self, result: &str) -> Result<(), Error> {
        let checked = json::check(result)?.into_owned();
        let result =
            RawValue::from_string(checked).expect("the protocol's scanner accepts only what serde_json does");
        self.acked(Some(&result)).await
    }

    async fn acked(&self, result: Option<&RawValue>) -> Result<(), Error> {
        let deliveries = [self.delivery];
        self.settled("ack", &AckDelivery { deliveries, result }).await
    }

    /// It could not be done.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub async fn nack(self, nack: Nack) -> Result<(), Error> {
        let deliveries = [self.delivery];
        let nack = &nack;
        self.settled("nack", &Settle { deliveries, nack }).await
    }

    /// It takes longer: the lease ends so long from now.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub async fn extend(&self, lease: Duration) -> Result<(), Error> {
        let extend = Extend {
            deliveries: [self.delivery],
            lease_ms: whole_ms(lease),
        };
        self.settled("extend", &extend).await
    }

    async fn settled(&self, kind: &str, body: &impl Serialize) -> Result<(), Error> {
        let id = self.client.new_id();
        let line = request::line(kind, Some(id), body);
        self.client.check_size(&line)?;
        let (reply, answer) = oneshot::channel();
        let settlement = Settlement {
            connection: self.connection,
            id,
            line,
            reply,
        };
        self.client.command(Command::Settle(settlement)).await?;
        match answer.await {
            Ok(Ok(ServerFrame::Ok(_))) => Ok(()),
            Ok(Err(Error::Refused(error))) if error.known_code() == Some(ErrorCode::UnknownDelivery) => {
                Err(Error::UnknownDelivery)
            }
            other => Err(unexpected(other)),
        }
    }
}

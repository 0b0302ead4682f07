//! Exchanges, and what is told of a record after its publish was answered.

use std::time::Duration;

use callboard_protocol::{ExchangeKind, Timestamp};
use tokio::sync::mpsc;

use super::{Answer, Client, Delivered, OnLoss, Outcome, RECORDS_WAITING_MAX, done};
use crate::{
    driver::Command,
    error::Error,
    frame::{Notice, Published},
    request::{self, Ack, Binding, DeclareExchange, Publish},
};

impl Client {
    /// Makes an exchange, or finds it as it is described. What reaches no topic from it goes on to `alternate`,
    /// another exchange that is there.
    ///
    /// # Errors
    /// [`Error::Refused`] with `conflict` if it is there and different, or `exchange_not_found` if the alternate is
    /// not; [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn declare_exchange(
        &self,
        exchange: &str,
        kind: ExchangeKind,
        alternate: Option<&str>,
    ) -> Result<(), Error> {
        let declare = DeclareExchange {
            exchange,
            kind,
            alternate,
        };
        done(self.ask_again("declare", &declare).await?).await
    }

    /// Adds a binding; one that is there already stays as it is.
    ///
    /// # Errors
    /// [`Error::Refused`] with `exchange_not_found`, with `invalid_argument` for a key that this kind of exchange
    /// does not take, or with `conflict` if records could go round in a circle; [`Error::Disconnected`] or
    /// [`Error::Closed`].
    pub async fn bind(&self, binding: &Binding) -> Result<(), Error> {
        done(self.ask_again("bind", binding).await?).await
    }

    /// Takes a binding away.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn unbind(&self, binding: &Binding) -> Result<(), Error> {
        // Sent once: after a lost connection the broker could not tell a repeat from a mistake.
        self.done("unbind", binding).await
    }

    /// Publishes a record that is to be delivered after `delay`, and waits until that is as durable as the record
    /// will be. The answer names it: `scheduled`, and `deliver_at`; for an exchange, in each of the `routes`.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_after(&self, publish: Publish, delay: Duration) -> Result<Published, Error> {
        self.publish_durably(publish.with_delay(delay)).await
    }

    /// Publishes a record that is to be delivered at `moment`, or at once if that has passed; else as [`Self::publish_after`].
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_at(&self, publish: Publish, moment: Timestamp) -> Result<Published, Error> {
        self.publish_durably(publish.with_deliver_at(moment)).await
    }

    async fn publish_durably(&self, publish: Publish) -> Result<Published, Error> {
        match self.publish(publish.with_ack(Ack::Durable)).await? {
            Outcome::Published(published) => Ok(published),
            Outcome::Sent { .. } => Err(Error::Closed),
        }
    }

    /// The notices that come from now on, of all records published by this client with
    /// [`Publish::with_notify`]. Of several readers each gets them all.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn notices(&self) -> Result<Notices, Error> {
        let (sender, events) = mpsc::channel(RECORDS_WAITING_MAX);
        self.command(Command::Notices(sender)).await?;
        Ok(Notices(events))
    }

    /// Asks for what is the same done twice as once.
    pub(super) async fn ask_again(&self, kind: &str, body: &impl serde::Serialize) -> Result<Answer, Error> {
        let id = self.new_id();
        let line = request::line(kind, Some(id), body);
        self.check_size(&line)?;
        self.ask(id, line, OnLoss::Repeat).await
    }
}

/// Notices, in the order in which they come. While more than 1024 wait here to be taken, the whole connection
/// waits. Does not keep the client open.
#[derive(Debug)]
pub struct Notices(mpsc::Receiver<Delivered>);

impl Notices {
    /// The next one; `None` when the client has ended.
    pub async fn next(&mut self) -> Option<Notice> {
        loop {
            if let Delivered::Notice(notice) = self.0.recv().await? {
                return Some(notice);
            }
        }
    }
}

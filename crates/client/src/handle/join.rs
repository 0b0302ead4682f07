//! Becoming a member of a group.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    Client, Delivered, RECORDS_WAITING_MAX,
    consumer::{GroupConsumer, Seat},
    worker::Worker,
};
use crate::{
    driver::{Command, Joining},
    error::Error,
    frame::Subscribed,
    request::{Join, JoinHow, MemberOptions, SharedOptions},
};

impl Client {
    /// Joins a group in which each partition has one owner, and waits until the broker has answered.
    ///
    /// After a lost connection it joins again by itself.
    ///
    /// # Errors
    /// [`Error::Refused`] with `conflict` if the group is shared, or not to be joined; [`Error::Joined`],
    /// [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn join_partitioned(
        &self,
        topic: impl Into<String>,
        group: impl Into<String>,
        options: MemberOptions,
    ) -> Result<GroupConsumer, Error> {
        let (seat, subscribed, events) = self
            .join(topic.into(), group.into(), JoinHow::Partitioned(options))
            .await?;
        Ok(GroupConsumer {
            seat,
            subscribed,
            events,
            generation: None,
        })
    }

    /// Joins a group in which each record is leased to one member, and waits until the broker has answered.
    ///
    /// After a lost connection it joins again by itself.
    ///
    /// # Errors
    /// [`Error::Refused`] with `conflict` if the group is partitioned, or not to be joined; [`Error::Joined`],
    /// [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn join_shared(
        &self,
        topic: impl Into<String>,
        group: impl Into<String>,
        options: impl Into<SharedOptions>,
    ) -> Result<Worker, Error> {
        let (seat, subscribed, events) = self
            .join(topic.into(), group.into(), JoinHow::Shared(options.into()))
            .await?;
        Ok(Worker {
            seat,
            subscribed,
            events,
        })
    }

    async fn join(
        &self,
        topic: String,
        group: String,
        how: JoinHow,
    ) -> Result<(Seat, Subscribed, mpsc::Receiver<Delivered>), Error> {
        let number = self.new_id();
        let (sender, events) = mpsc::channel(RECORDS_WAITING_MAX);
        let (reply, answer) = oneshot::channel();
        let request = Join {
            topic: topic.clone(),
            group: group.clone(),
            how,
        };
        self.command(Command::Join(Joining {
            number,
            request,
            sender,
            reply,
        }))
        .await?;
        let subscribed = answer.await.map_err(|_| Error::Closed)??;
        let seat = Seat {
            client: Arc::new(self.clone()),
            number,
            topic,
            group,
        };
        Ok((seat, subscribed, events))
    }
}

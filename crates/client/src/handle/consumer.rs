//! A member of a partitioned group, as a program holds it.

use std::sync::Arc;

use callboard_protocol::PartitionId;
use tokio::sync::mpsc;

use super::{Client, Delivered, MemberEvent};
use crate::{
    driver::Command,
    error::Error,
    frame::{Assigned, Message, Revoked, Skipped, Subscribed},
    request::{self, AddCredit, Commit, CommitTo, Release, Target},
};

/// What a member of a partitioned group gets.
#[derive(Clone, Debug)]
pub enum GroupEvent {
    /// It gained partitions; none if it idles. The others stay.
    Assigned(Assigned),
    /// It loses partitions: nothing more of them comes, and what came may be committed in the grace.
    Revoked(Revoked),
    /// A record of a partition that is assigned to it.
    Message(Message),
    /// Records were left out.
    Skipped(Skipped),
    /// It is a member again after a lost connection. Nothing is assigned to it until the broker says so.
    Rejoined(Subscribed),
    /// It is no member any more, and nothing comes after this.
    Unsubscribed {
        /// Why.
        reason: String,
    },
}

/// Where a membership is, and how to speak about it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) client: Arc<Client>,
    pub(super) number: u64,
    pub(super) topic: String,
    pub(super) group: String,
}

impl Seat {
    fn target(&self) -> Target<'_> {
        Target {
            topic: &self.topic,
            group: &self.group,
        }
    }

    /// Raises the limit of records that are out.
    pub(super) async fn add_credit(&self, add: u64) -> Result<(), Error> {
        let target = self.target();
        let line = request::line("credit", None, &AddCredit { target, add });
        self.client.command(Command::Tell { line }).await
    }

    /// Leaves, and waits until the broker knows.
    pub(super) async fn leave(&self) -> Result<(), Error> {
        self.client.command(Command::Leave(self.number)).await?;
        self.client.ping().await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // If the queue is full the driver finds out at the next record.
        let _ = self.client.commands.try_send(Command::Leave(self.number));
    }
}

/// A member of a partitioned group; it leaves when it is dropped.
#[derive(Debug)]
pub struct GroupConsumer {
    pub(super) seat: Seat,
    pub(super) subscribed: Subscribed,
    pub(super) events: mpsc::Receiver<Delivered>,
    /// The latest assignment that the program has heard of: its commits are made under this one.
    pub(super) generation: Option<u64>,
}

impl GroupConsumer {
    /// What the broker answered when it joined; `offsets` are where the group stands.
    #[must_use]
    pub fn subscribed(&self) -> &Subscribed {
        &self.subscribed
    }

    /// The next event; `None` after [`GroupEvent::Unsubscribed`].
    pub async fn next_event(&mut self) -> Option<GroupEvent> {
        loop {
            let Delivered::Member(event) = self.events.recv().await? else {
                continue;
            };
            return Some(self.heard(event));
        }
    }

    /// The next event if one is here already.
    pub fn try_next_event(&mut self) -> Option<GroupEvent> {
        loop {
            let Delivered::Member(event) = self.events.try_recv().ok()? else {
                continue;
            };
            return Some(self.heard(event));
        }
    }

    fn heard(&mut self, event: MemberEvent) -> GroupEvent {
        match event {
            MemberEvent::Record { message, .. } => GroupEvent::Message(message),
            MemberEvent::Skipped(skipped) => GroupEvent::Skipped(skipped),
            MemberEvent::Assigned(assigned) => {
                self.generation = Some(assigned.generation);
                GroupEvent::Assigned(assigned)
            }
            MemberEvent::Revoked(revoked) => {
                self.generation = Some(revoked.generation);
                GroupEvent::Revoked(revoked)
            }
            MemberEvent::Rejoined(subscribed) => GroupEvent::Rejoined(subscribed),
            MemberEvent::Ended { reason } => GroupEvent::Unsubscribed { reason },
        }
    }

    /// Commits what was processed: a record with all before it in its partition, or the next offset of each
    /// partition. All or nothing; returns when it is as durable as the topic's records.
    ///
    /// It is made under the latest assignment that [`Self::next_event`] returned, so that it cannot be
    /// taken for work on a partition that was lost and came back since.
    ///
    /// # Errors
    /// [`Error::Refused`] with `not_owner` or `stale_generation` if a partition went to another member, or was
    /// elsewhere meanwhile; [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn commit(&self, up_to: impl Into<CommitTo>) -> Result<(), Error> {
        let CommitTo(offsets) = up_to.into();
        if offsets.is_empty() {
            return Ok(());
        }
        let commit = Commit {
            target: self.seat.target(),
            offsets: &offsets,
            generation: self.generation,
        };
        self.seat.client.done("commit", &commit).await
    }

    /// Gives partitions back at once, with all that is out of them; ends the grace of revoked ones.
    ///
    /// # Errors
    /// [`Error::Refused`] with `not_owner`; [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn release(&self, partitions: &[PartitionId]) -> Result<(), Error> {
        let release = Release {
            target: self.seat.target(),
            partitions,
        };
        self.seat.client.done("release", &release).await
    }

    /// Lets so many more records be out uncommitted.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn add_credit(&self, add: u64) -> Result<(), Error> {
        self.seat.add_credit(add).await
    }

    /// Leaves, and waits until the broker knows: its partitions are others' then.
    ///
    /// # Errors
    /// [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn leave(self) -> Result<(), Error> {
        self.seat.leave().await
    }
}

//! Events for readers that have no room, oldest first.
//!
//! While something waits here the socket is not read. Knows no subscription: whoever delivers is told which
//! reader is gone.

use std::collections::VecDeque;

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::handle::Delivered;

/// Where a reader gets its events.
pub(super) type Reader = mpsc::Sender<Delivered>;

/// What waits for room.
#[derive(Default)]
pub(super) struct Backlog(VecDeque<(Reader, Delivered)>);

/// The reader of the oldest event, with room for it or gone.
pub(super) enum Room {
    Permit(mpsc::OwnedPermit<Delivered>),
    Gone,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives `event` to its reader, now or behind what waits already.
    ///
    /// # Errors
    /// The reader, if it is gone.
    pub(super) fn deliver(&mut self, reader: Reader, event: Delivered) -> Result<(), Reader> {
        if !self.0.is_empty() {
            self.0.push_back((reader, event));
            return Ok(());
        }
        match reader.try_send(event) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(event)) => {
                self.0.push_back((reader, event));
                Ok(())
            }
            Err(TrySendError::Closed(_)) => Err(reader),
        }
    }

    /// Gives the oldest event and all after it that find room; returns the readers that are gone.
    pub(super) fn deliver_oldest(&mut self, room: Room) -> Vec<Reader> {
        let mut gone = Vec::new();
        let Some((reader, event)) = self.0.pop_front() else {
            return gone;
        };
        match room {
            Room::Permit(permit) => drop(permit.send(event)),
            Room::Gone => {
                self.0.retain(|(other, _)| !other.same_channel(&reader));
                gone.push(reader);
            }
        }
        while let Some((reader, event)) = self.0.pop_front() {
            match reader.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Closed(_)) => gone.push(reader),
                Err(TrySendError::Full(event)) => {
                    self.0.push_front((reader, event));
                    break;
                }
            }
        }
        gone
    }

    /// Waits until the reader of the oldest event has room.
    pub(super) async fn room(&self) -> Room {
        match self.0.front() {
            Some((reader, _)) => match reader.clone().reserve_owned().await {
                Ok(permit) => Room::Permit(permit),
                Err(_) => Room::Gone,
            },
            None => std::future::pending().await,
        }
    }

    /// Lets readers get what waits for them after the driver has ended, by a task of its own.
    pub(super) fn hand_over(self) {
        if self.0.is_empty() {
            return;
        }
        tokio::spawn(async move {
            for (reader, event) in self.0 {
                // A reader that is gone needs nothing.
                let _ = reader.send(event).await;
            }
        });
    }
}

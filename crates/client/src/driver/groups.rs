//! The driver's part in groups: who joins and leaves, whom their frames are for, and which settlements are
//! still worth sending.

use tokio::sync::oneshot;

use super::{Driver, Pending, number};
use crate::{
    error::Error,
    frame::{Message, ServerFrame, Subscribed},
    handle::{Delivered, MemberEvent},
    members::Membership,
    request::{self, Join},
};

/// A request to become a member, and who waits for the answer.
#[derive(Debug)]
pub(crate) struct Joining {
    /// Tells the membership from others of the same group.
    pub(crate) number: u64,
    pub(crate) request: Join,
    pub(crate) sender: super::Reader,
    pub(crate) reply: oneshot::Sender<Result<Subscribed, Error>>,
}

/// What a member says about deliveries of one connection.
#[derive(Debug)]
pub(crate) struct Settlement {
    /// The one over which they came.
    pub(crate) connection: u64,
    pub(crate) id: u64,
    pub(crate) line: String,
    pub(crate) reply: oneshot::Sender<Result<ServerFrame, Error>>,
}

impl Driver {
    pub(super) fn join(&mut self, joining: Joining) {
        let Joining {
            number,
            request,
            sender,
            reply,
        } = joining;
        match self.members.insert(number, request.clone(), sender) {
            Ok(()) => self.send_join(&request, Pending::Join { number, reply }),
            // A caller that no longer waits needs no answer.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn send_join(&mut self, join: &Join, pending: Pending) {
        let id = self.new_id();
        self.pending.insert(id, pending);
        self.lines.push_back(request::line("subscribe", Some(id), join));
    }

    pub(super) fn leave(&mut self, number: u64) {
        if let Some(Membership { request, .. }) = self.members.remove(number) {
            let target = request::Target {
                topic: &request.topic,
                group: &request.group,
            };
            self.lines.push_back(request::line("unsubscribe", None, &target));
        }
    }

    /// Sends a settlement, unless its deliveries went with the connection over which they came.
    pub(super) fn settle(&mut self, settlement: Settlement) {
        let Settlement {
            connection,
            id,
            line,
            reply,
        } = settlement;
        if connection == self.connection {
            self.pending.insert(id, Pending::Ask { repeat: None, reply });
            self.lines.push_back(line);
        } else {
            // A caller that no longer waits needs no answer.
            let _ = reply.send(Err(Error::UnknownDelivery));
        }
    }

    /// A record of a group.
    pub(super) fn member_record(&mut self, message: Message) {
        let group = message.group.as_deref().unwrap_or_default();
        if let Some(reader) = self.members.reader_of(&message.topic, group) {
            let connection = self.connection;
            let record = MemberEvent::Record { message, connection };
            self.deliver(reader, Delivered::Member(record));
        }
    }

    pub(super) fn member_event(&mut self, topic: &str, group: &str, event: MemberEvent) {
        if let Some(reader) = self.members.reader_of(topic, group) {
            self.deliver(reader, Delivered::Member(event));
        }
    }

    /// The broker has answered a `subscribe` in a group.
    pub(super) fn joined(&mut self, subscribed: Subscribed) {
        let id = number(subscribed.id.as_ref());
        match id.and_then(|id| self.pending.remove(&id)) {
            Some(Pending::Join { number, reply }) => {
                self.members.joined(&subscribed);
                if reply.send(Ok(subscribed)).is_err() {
                    self.leave(number);
                }
            }
            Some(Pending::Rejoin { .. }) => {
                if let Some(reader) = self.members.joined(&subscribed) {
                    self.deliver(reader, Delivered::Member(MemberEvent::Rejoined(subscribed)));
                }
            }
            Some(_) | None => {}
        }
    }

    /// The broker says that it ended a membership.
    pub(super) fn removed(&mut self, topic: &str, group: &str, reason: String) {
        // Before the answer to a new `subscribe` it is an earlier membership that has ended.
        if self.members.reader_of(topic, group).is_some()
            && let Some(number) = self.members.number_of(topic, group)
        {
            self.end_member(number, reason);
        }
    }

    pub(super) fn end_member(&mut self, number: u64, reason: String) {
        if let Some(membership) = self.members.remove(number) {
            self.deliver(
                membership.sender,
                Delivered::Member(MemberEvent::Ended { reason }),
            );
        }
    }

    /// Joins again on a new connection; `waiting` are those whose first answer is still to come.
    pub(super) fn rejoin(&mut self, mut waiting: Vec<(u64, Pending)>) {
        for (number, request) in self.members.rejoin() {
            let place = waiting.iter().position(|(waits, _)| *waits == number);
            let pending = match place {
                Some(place) => waiting.swap_remove(place).1,
                None => Pending::Rejoin { number },
            };
            self.send_join(&request, pending);
        }
    }
}

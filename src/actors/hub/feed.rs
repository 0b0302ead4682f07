//! A partition that sessions of one thread follow.
//!
//! Owns the list of its followers, and tells the partition which subprotocols to encode for.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use callboard_protocol::Offset;

use super::Hub;
use crate::actors::{
    directory::{PartitionRef, Topic},
    events::Listeners,
    partition::Watch,
    plain::PlainSubscription,
    wire::Format,
};

/// A partition that sessions of this thread follow.
pub struct Feed {
    /// Its topic.
    pub topic: Arc<Topic>,
    /// The partition.
    pub part: Arc<PartitionRef>,
    /// The offset after the last record that this hub has heard of.
    pub end: Cell<Offset>,
    pub(super) followers: RefCell<Vec<Rc<PlainSubscription>>>,
    /// Event streams, which are woken and read from the log themselves.
    pub(in crate::actors) listeners: Listeners,
    pub(super) json: Cell<u32>,
    pub(super) ndjson: Cell<u32>,
    /// Members of groups, who read from the log and need only know of its end.
    pub(super) shares: Cell<u32>,
}

impl Feed {
    /// Adds a follower, and has the partition encode for its subprotocol.
    pub fn join(&self, hub: &Hub, follower: &Rc<PlainSubscription>) {
        self.followers.borrow_mut().push(follower.clone());
        let count = self.count(follower);
        count.set(count.get() + 1);
        if count.get() == 1 {
            self.watch(hub);
        }
    }

    /// Takes a follower out; the last one ends the feed.
    pub fn leave(&self, hub: &Hub, follower: &Rc<PlainSubscription>) {
        let mut followers = self.followers.borrow_mut();
        let Some(index) = followers.iter().position(|known| Rc::ptr_eq(known, follower)) else {
            return;
        };
        followers.swap_remove(index);
        let count = self.count(follower);
        count.set(count.get() - 1);
        if count.get() == 0 {
            self.watch(hub);
        }
        drop(followers);
        if self.is_unused() {
            hub.forget(self);
        }
    }

    fn count(&self, follower: &PlainSubscription) -> &Cell<u32> {
        match follower.following.conn.format {
            _ if follower.is_share() => &self.shares,
            Format::Json => &self.json,
            Format::Ndjson => &self.ndjson,
        }
    }

    /// Says to the partition what this hub wants of it. The answer is its end, so nothing is missed.
    pub(in crate::actors) fn watch(&self, hub: &Hub) {
        if let Some(addr) = self.part.addr() {
            let hub = hub.addr.clone();
            addr.do_send(Watch {
                hub,
                json: self.json.get() > 0,
                ndjson: self.ndjson.get() > 0,
                events: !self.listeners.is_empty() || self.shares.get() > 0,
            });
        }
    }

    /// Whether nobody of this thread follows the partition.
    pub(in crate::actors) fn is_unused(&self) -> bool {
        self.followers.borrow().is_empty() && self.listeners.is_empty()
    }
}

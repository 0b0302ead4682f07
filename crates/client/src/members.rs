//! Which groups this client is a member of, and whom their frames are for.
//!
//! No I/O: the driver asks and does. A record of a group names its group, so that a client may be a member
//! of many groups of one topic and subscribed to it besides.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use crate::{error::Error, frame::Subscribed, handle::Delivered, request::Join};

/// One membership.
pub(crate) struct Membership {
    /// Tells it from an earlier one of the same group.
    pub(crate) number: u64,
    pub(crate) request: Join,
    pub(crate) sender: mpsc::Sender<Delivered>,
    standing: Standing,
}

/// What comes before the broker's answer belongs to an earlier membership.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Asked,
    Joined,
}

/// All memberships of one client, by topic and group.
#[derive(Default)]
pub(crate) struct Members(BTreeMap<String, BTreeMap<String, Membership>>);

impl Members {
    /// Adds a membership that the broker is now asked for.
    ///
    /// # Errors
    /// [`Error::Joined`] if there is one of the same group.
    pub(crate) fn insert(
        &mut self,
        number: u64,
        request: Join,
        sender: mpsc::Sender<Delivered>,
    ) -> Result<(), Error> {
        if self.get(&request.topic, &request.group).is_some() {
            return Err(Error::Joined {
                topic: request.topic,
                group: request.group,
            });
        }
        let groups = self.0.entry(request.topic.clone()).or_default();
        groups.insert(
            request.group.clone(),
            Membership {
                number,
                request,
                sender,
                standing: Standing::Asked,
            },
        );
        Ok(())
    }

    fn get(&self, topic: &str, group: &str) -> Option<&Membership> {
        self.0.get(topic)?.get(group)
    }

    /// Whom a frame of this group is for; nobody before the broker has answered.
    pub(crate) fn reader_of(&self, topic: &str, group: &str) -> Option<mpsc::Sender<Delivered>> {
        let membership = self.get(topic, group)?;
        let is_joined = membership.standing == Standing::Joined;
        is_joined.then(|| membership.sender.clone())
    }

    /// The broker has answered: from now on frames are for this membership.
    pub(crate) fn joined(&mut self, subscribed: &Subscribed) -> Option<mpsc::Sender<Delivered>> {
        let groups = self.0.get_mut(&subscribed.topic)?;
        let membership = groups.get_mut(subscribed.group.as_ref()?)?;
        membership.standing = Standing::Joined;
        Some(membership.sender.clone())
    }

    /// What to ask for on a new connection, whose frames are not those of the old one.
    pub(crate) fn rejoin(&mut self) -> Vec<(u64, Join)> {
        let memberships = self.0.values_mut().flat_map(BTreeMap::values_mut);
        memberships
            .map(|membership| {
                membership.standing = Standing::Asked;
                (membership.number, membership.request.clone())
            })
            .collect()
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        let memberships = self.0.values().flat_map(BTreeMap::values);
        memberships.map(|membership| membership.number).collect()
    }

    /// The membership that the broker says has ended.
    pub(crate) fn number_of(&self, topic: &str, group: &str) -> Option<u64> {
        self.get(topic, group).map(|membership| membership.number)
    }

    /// The membership that `sender` belongs to.
    pub(crate) fn read_by(&self, sender: &mpsc::Sender<Delivered>) -> Option<u64> {
        let mut memberships = self.0.values().flat_map(BTreeMap::values);
        let found = memberships.find(|membership| membership.sender.same_channel(sender));
        found.map(|membership| membership.number)
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<Membership> {
        for groups in self.0.values_mut() {
            let found = groups
                .iter()
                .find(|(_, membership)| membership.number == number)
                .map(|(group, _)| group.clone());
            if let Some(group) = found {
                let removed = groups.remove(&group);
                self.0.retain(|_, groups| !groups.is_empty());
                return removed;
            }
        }
        None
    }
}

//! What a group says in `$events`: who came and went, and that its partitions have moved.

use super::{
    GroupActor,
    members::{Move, Way},
};
use crate::actors::announce::Event;

impl GroupActor {
    /// Says what has changed in this turn: each member that came or went, and one assignment at most.
    pub(super) fn announce(&mut self) {
        for moved in self.members.take_moves() {
            self.announce_move(moved);
        }
        if let Some(generation) = self.rebalanced.take() {
            self.shared.announce(Event::GroupRebalanced {
                topic: self.topic.name.to_string(),
                group: self.group.name.to_string(),
                generation: generation.0,
            });
        }
    }

    fn announce_move(&self, moved: Move) {
        let (topic, group) = (self.topic.name.to_string(), self.group.name.to_string());
        let (member, session) = (moved.member, moved.session.to_string());
        self.shared.announce(match moved.way {
            Way::Joined => Event::MemberJoined {
                topic,
                group,
                member,
                session,
            },
            Way::Left => Event::MemberLeft {
                topic,
                group,
                member,
                session,
            },
        });
    }
}

impl Drop for GroupActor {
    /// However it ends, its members are none any more; after a failure they join its next actor anew.
    fn drop(&mut self) {
        self.members.retain(|_| false);
        self.announce();
    }
}

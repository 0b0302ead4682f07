//! What an assignment must be like, held against every join and leave.

use std::collections::{BTreeMap, BTreeSet};

use callboard_core::group::{Event, Exclusive, Join, MemberId, PartitionedGroup};
use callboard_protocol::{PartitionId, Timestamp};

use super::{TIMING, from_zero};
use crate::random::Random;

/// A group whose members stop as soon as they are told, with nothing out.
struct Prompt {
    group: PartitionedGroup,
    partitions: u32,
}

impl Prompt {
    fn new(partitions: u32) -> Self {
        let mut group = PartitionedGroup::new(TIMING);
        group.set_partitions(Timestamp(0), &from_zero(partitions));
        Self { group, partitions }
    }

    fn join(&mut self, member: u64) {
        self.join_as(member, &member.to_string());
    }

    fn join_as(&mut self, member: u64, name: &str) {
        let join = Join {
            member: MemberId(member),
            name: Some(name),
            exclusive: Exclusive::No,
            starts: &BTreeMap::new(),
        };
        self.group.join(Timestamp(0), join).expect("nobody is exclusive");
        self.answer_all();
    }

    fn leave(&mut self, member: u64) {
        self.group.leave(Timestamp(0), MemberId(member));
        self.answer_all();
    }

    fn answer_all(&mut self) {
        loop {
            let events = self.group.drain_events();
            if events.is_empty() {
                return;
            }
            for event in events {
                if let Event::Revoked {
                    member, partitions, ..
                } = event
                {
                    for partition in partitions {
                        self.group.stopped(Timestamp(0), member, partition, None);
                    }
                }
            }
        }
    }

    fn owners(&self) -> Vec<Option<MemberId>> {
        (0..self.partitions)
            .map(|partition| self.group.owner(PartitionId(partition)))
            .collect()
    }

    /// Plays one change and holds its outcome against the rules.
    fn checked(&mut self, what: &str, change: impl FnOnce(&mut Self)) {
        let before = self.owners();
        self.checked_after(what, &before, change);
    }

    fn checked_after(&mut self, what: &str, before: &[Option<MemberId>], change: impl FnOnce(&mut Self)) {
        change(self);
        let after = self.owners();
        let members: BTreeSet<MemberId> = self.group.members().map(|view| view.member).collect();
        if members.is_empty() {
            assert!(after.iter().all(Option::is_none), "{what}: {after:?}");
            return;
        }
        let mut sizes: BTreeMap<MemberId, usize> = members.iter().map(|&member| (member, 0)).collect();
        for owner in &after {
            let owner = owner.unwrap_or_else(|| panic!("{what}: each partition has an owner: {after:?}"));
            *sizes.get_mut(&owner).expect("an owner is a member") += 1;
        }
        let (least, most) = (sizes.values().min(), sizes.values().max());
        assert!(
            least.zip(most).is_some_and(|(least, most)| most - least <= 1),
            "{what}: {sizes:?}"
        );
        let idle = sizes.values().filter(|&&size| size == 0).count();
        let extras = members.len().saturating_sub(self.partitions as usize);
        assert_eq!(idle, extras, "{what}: only extras idle, {sizes:?}");
        let mut had: BTreeMap<MemberId, usize> = members.iter().map(|&member| (member, 0)).collect();
        let mut moved = 0;
        for (before, after) in before.iter().zip(&after) {
            if let Some(owner) = before.filter(|owner| members.contains(owner)) {
                *had.entry(owner).or_default() += 1;
                moved += usize::from(*after != Some(owner));
            }
        }
        let had: Vec<usize> = had.into_values().collect();
        assert_eq!(
            moved,
            moves_min(&had, self.partitions as usize),
            "{what}: {before:?} to {after:?}"
        );
    }
}

/// How many partitions must at least be taken from members that stay: of all ways to say who has one more
/// than the others, the one that leaves most where it is.
fn moves_min(had: &[usize], partitions: usize) -> usize {
    let (part, left_over) = (partitions / had.len(), partitions % had.len());
    // The most that can stay, by how many of the members so far have one more.
    let mut stays = vec![None; left_over + 1];
    stays[0] = Some(0);
    for &size in had {
        for more in (0..=left_over).rev() {
            let without = stays[more].map(|stay: usize| stay + size.min(part));
            let with = more
                .checked_sub(1)
                .and_then(|fewer| stays[fewer])
                .map(|stay| stay + size.min(part + 1));
            stays[more] = without.max(with);
        }
    }
    had.iter().sum::<usize>() - stays[left_over].expect("fewer are left over than there are members")
}

pub fn assignment_rules_hold_through_every_join_and_leave() {
    for partitions in 1..=12 {
        for members in 1..=u64::from(partitions) + 2 {
            for leaver in 1..=members {
                let mut group = Prompt::new(partitions);
                for member in 1..=members {
                    group.checked(&format!("{partitions}: join {member}"), |group| {
                        group.join(member)
                    });
                }
                let what = format!("{partitions} of {members}: leave {leaver}");
                group.checked(&what, |group| group.leave(leaver));
                group.checked(&format!("{what} and join"), |group| group.join(members + 1));
            }
        }
    }
}

pub fn assignment_rules_hold_through_random_joins_and_leaves() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut group = Prompt::new(1 + random.below(12) as u32);
        // Each with its name.
        let mut members: Vec<(u64, u64)> = Vec::new();
        for step in 0..40 {
            let place = random.below(members.len().max(1) as u64) as usize;
            if members.is_empty() || random.chance(2, 5) {
                members.push((step, step));
                group.checked(&format!("seed {seed}: join {step}"), |group| group.join(step));
            } else if random.chance(1, 3) {
                let (member, name) = members[place];
                members[place].0 = step;
                // Whoever comes under a name has what that name had, so that nothing needs to move.
                let (former, newer) = (Some(MemberId(member)), Some(MemberId(step)));
                let takes_over = |owner| if owner == former { newer } else { owner };
                let before: Vec<_> = group.owners().into_iter().map(takes_over).collect();
                let what = format!("seed {seed}: {step} replaces {member}");
                group.checked_after(&what, &before, |group| group.join_as(step, &name.to_string()));
            } else {
                let (member, _) = members.swap_remove(place);
                group.checked(&format!("seed {seed}: leave {member}"), |group| {
                    group.leave(member)
                });
            }
        }
    }
}

pub fn minimum_of_moves_is_computed_right() {
    for (had, partitions, expected) in [
        (&[12, 0][..], 12, 6),
        (&[6, 6, 0], 12, 4),
        (&[3, 2, 0], 5, 1),
        (&[2, 2, 0], 5, 0),
        (&[4, 4, 4, 0, 0], 12, 4),
        (&[1, 1, 1, 0], 3, 0),
    ] {
        assert_eq!(moves_min(had, partitions), expected, "{had:?} of {partitions}");
    }
}

//! Entries of a schedule log that are read again: what is due soon, and what is written once more so that the log
//! can be cut. Reading is done on the reader threads.

use actix::prelude::*;
use callboard_core::schedule::{
    Waiting,
    log::{Entry, Scheduled},
};
use callboard_protocol::Offset;

use super::{Found, Open, Then, read_payloads};
use crate::{
    actors::{
        clock,
        partition::{PartitionActor, REOPEN_DELAY},
    },
    store::{Incarnation, StoreError},
};

impl PartitionActor {
    /// Has read what is due soon and not loaded.
    pub(super) fn load_ahead(&mut self, ctx: &mut Context<Self>) {
        if self.later.is_paused() {
            return;
        }
        let Some(log) = self.later.log.as_mut().filter(|log| !log.payloads.loading) else {
            return;
        };
        let wanted = log.payloads.wanted(&log.index, clock::now(), log.committed);
        if wanted.is_empty() {
            return;
        }
        log.payloads.loading = true;
        let (incarnation, reader) = (log.incarnation, log.log.clone());
        let read = self.shared.readers.run(move || read_payloads(&*reader, &wanted));
        ctx.spawn(read.into_actor(self).map(move |read, actor, ctx| {
            actor.loaded(incarnation, read.unwrap_or(Err(StoreError::ShuttingDown)));
            actor.settled_down(ctx);
        }));
    }

    fn loaded(&mut self, incarnation: Incarnation, read: Result<Vec<Found>, StoreError>) {
        let Some(log) = self
            .later
            .log
            .as_mut()
            .filter(|log| log.incarnation == incarnation)
        else {
            return;
        };
        log.payloads.loading = false;
        self.later.touched = true;
        match read {
            Ok(found) => {
                let mut lost = Vec::new();
                for Found { waiting, record } in found {
                    match record {
                        Some((_, record)) => log.payloads.arrived(waiting.turn, record),
                        None => lost.push(waiting),
                    }
                }
                self.give_up(lost);
            }
            Err(error) => {
                log::error!("the schedules of {:?} can not be read: {error}", self.part.key);
                self.later.pause(REOPEN_DELAY);
            }
        }
    }

    /// Writes off records whose entries are hurt.
    fn give_up(&mut self, lost: Vec<Waiting>) {
        let lost: Vec<_> = match &self.later.log {
            Some(log) => lost
                .into_iter()
                .filter(|waiting| {
                    log.index
                        .get(waiting.turn.number)
                        .is_some_and(|it| it.place == waiting.place)
                })
                .collect(),
            None => return,
        };
        if lost.is_empty() {
            return;
        }
        let numbers: Vec<u64> = lost.iter().map(|waiting| waiting.turn.number).collect();
        log::error!(
            "{} scheduled records of {:?} are hurt on disk and will not be delivered: {numbers:?}",
            lost.len(),
            self.part.key
        );
        self.submit_due(&lost, None, clock::now());
    }

    /// Writes the oldest entries again at the log's end, if little else of it counts, so that it can be cut.
    pub(super) fn move_entries(&mut self, ctx: &mut Context<Self>) {
        if self.later.is_paused() {
            return;
        }
        let Some(log) = self.later.log.as_mut().filter(|log| !log.moving) else {
            return;
        };
        let mut wanted = log.index.to_move();
        wanted.retain(|waiting| waiting.place < log.committed);
        if wanted.is_empty() {
            return;
        }
        log.moving = true;
        let (incarnation, reader) = (log.incarnation, log.log.clone());
        let read = self.shared.readers.run(move || read_payloads(&*reader, &wanted));
        ctx.spawn(read.into_actor(self).map(move |read, actor, ctx| {
            actor.moved(incarnation, read.unwrap_or(Err(StoreError::ShuttingDown)));
            actor.settled_down(ctx);
        }));
    }

    fn moved(&mut self, incarnation: Incarnation, read: Result<Vec<Found>, StoreError>) {
        let durability = self.topic.durability.into();
        let Some(log) = self
            .later
            .log
            .as_mut()
            .filter(|log| log.incarnation == incarnation)
        else {
            return;
        };
        log.moving = false;
        self.later.touched = true;
        let found = match read {
            Ok(found) => found,
            Err(error) => {
                log::error!("the schedules of {:?} can not be read: {error}", self.part.key);
                return self.later.pause(REOPEN_DELAY);
            }
        };
        let (mut records, mut entries, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for Found { waiting, record } in &found {
            let number = waiting.turn.number;
            if log.index.get(number).is_none() {
                // It was due, or cancelled, while it was read.
                continue;
            }
            match record {
                None => lost.push(*waiting),
                Some((at, record)) => {
                    let scheduled = Scheduled {
                        at: *at,
                        due: waiting.turn.due,
                        record,
                    };
                    entries.push((number, Entry::Moved { number, scheduled }.encode(&mut records)));
                }
            }
        }
        if !entries.is_empty() {
            let base = log.index.relocate(&entries);
            log.open.push_back(Open {
                until: base.plus(entries.len() as u64),
                stored_until: Offset::ZERO,
                then: Then::Release(0),
            });
            let submission = log.submission((base, entries.len() as u32), clock::now(), records, durability);
            self.submit_schedules(submission);
        }
        self.give_up(lost);
    }
}

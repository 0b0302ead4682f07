//! How a shared group hands records out: read from the log, leased by core, encoded once, sent once a turn.

use std::{collections::VecDeque, sync::Arc};

use actix::prelude::*;
use bytes::Bytes;
use callboard_core::{
    hash::xxh64,
    lease::{Leased, Take, Want},
    record::{Batch, RecordParts},
};
use callboard_protocol::{Offset, PartitionId, Timestamp, server::Lease};

use super::{
    GroupActor, Kind,
    receipt::Whats,
    shared::{DELIVERY_BITS, SharedWork},
};
use crate::{
    actors::{
        conn::OUTBOX_BYTES_MAX,
        directory::PartitionRef,
        webhook::mailbox::LeasedRecord,
        wire::{self, FrameBuffer},
    },
    store::{Page, StoreError},
};

/// About how much is read of a partition at once.
const PAGE_BYTES: usize = 128 << 10;
/// A record that comes again is read alone.
const SINGLE_BYTES: usize = 1;
/// How long to wait before a log that could not be read is tried again.
const READ_RETRY: std::time::Duration = std::time::Duration::from_secs(1);
/// What a `message` adds to its record, for guessing a buffer's size.
const MESSAGE_OVERHEAD_BYTES: usize = 160;

/// What was read of a partition and not handed out yet.
#[derive(Default)]
pub struct Reading {
    /// Consecutive batches; the first begins where handing out stopped.
    rest: VecDeque<Batch>,
    /// A record that was read because it comes again.
    single: Option<Batch>,
    /// A read is under way on a reader thread.
    is_waiting: bool,
}

/// Why a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// For records that nobody had yet.
    Fresh,
    /// For one that comes again.
    Again,
}

impl Reading {
    /// The batch that begins at `from`, if it was read already.
    fn at(&mut self, from: Offset, purpose: Purpose) -> Option<Batch> {
        match purpose {
            Purpose::Again => self.single.take().filter(|batch| batch.base_offset == from),
            Purpose::Fresh => {
                let batch = self.rest.pop_front()?;
                if batch.base_offset != from {
                    self.rest.clear();
                    return None;
                }
                Some(batch)
            }
        }
    }

    fn keep(&mut self, page: Page, purpose: Purpose) {
        match purpose {
            Purpose::Again => self.single = page.batches.into_iter().next(),
            Purpose::Fresh => self.rest = page.batches.into(),
        }
    }

    /// Whether a read is under way.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Lets go of what was read while nobody works.
    pub fn rest(&mut self) {
        *self = Self {
            is_waiting: self.is_waiting,
            ..Self::default()
        };
    }
}

impl GroupActor {
    /// Leases what can be leased to members with free credit, and adds the records to this turn's news.
    pub(super) fn hand_out(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        let Kind::Shared(work) = &mut self.kind else {
            return;
        };
        work.group.tick(now);
        work.doom_dead();
        for member in self.members.iter() {
            work.group.set_ready(member.id, member.gauge.may_send());
        }
        for part in self.parts.iter() {
            work.group.set_end(part.id, part.next_offset());
        }
        while let Some(want) = self.next_want(now) {
            let (partition, from, purpose) = match want {
                Want::Fresh { partition, from, .. } => (partition, from, Purpose::Fresh),
                Want::Again { partition, offset } => (partition, offset, Purpose::Again),
            };
            if !self.hand_out_from(now, (partition, from), purpose, ctx) {
                break;
            }
        }
        if let Kind::Shared(work) = &mut self.kind {
            self.answers.extend(work.take_processed(&self.parts));
        }
        self.send_frames();
    }

    fn next_want(&mut self, now: Timestamp) -> Option<Want> {
        match &mut self.kind {
            Kind::Shared(work) => work.group.want(now),
            Kind::Partitioned(_) => None,
        }
    }

    /// Hands out of one partition; false when no member takes more.
    fn hand_out_from(
        &mut self,
        now: Timestamp,
        (partition, from): (PartitionId, Offset),
        purpose: Purpose,
        ctx: &mut Context<Self>,
    ) -> bool {
        let Kind::Shared(work) = &mut self.kind else {
            return false;
        };
        let index = partition.0 as usize;
        let (Some(part), Some(reading)) = (self.parts.get(index), work.reading.get_mut(index)) else {
            work.group.set_paused(partition, true);
            return true;
        };
        let Some(batch) = reading.at(from, purpose) else {
            self.read(&part.clone(), from, purpose, ctx);
            return true;
        };
        let batch = match purpose {
            Purpose::Fresh => batch,
            Purpose::Again => first_of(batch),
        };
        let part = part.clone();
        let (left, is_full) = self.lease_batch(now, &part, batch);
        if let (Kind::Shared(work), Some(left), Purpose::Fresh) = (&mut self.kind, left, purpose) {
            work.reading[index].rest.push_front(left);
        }
        !is_full
    }

    /// Leases the records of a batch, in order; returns what is left of it, and whether that is because no
    /// member takes more.
    fn lease_batch(
        &mut self,
        now: Timestamp,
        part: &Arc<PartitionRef>,
        batch: Batch,
    ) -> (Option<Batch>, bool) {
        let Kind::Shared(work) = &mut self.kind else {
            return (None, true);
        };
        let is_keyed = self.group.ordering == callboard_core::lease::Ordering::Key;
        // Counted before a record can be seen: who waits for one of these is known by now.
        let is_awaited = part.waits.delivered() > 0;
        let (mut position, mut offset) = (0, batch.base_offset);
        let mut is_full = false;
        while let Ok((parts, size)) = RecordParts::decode(&batch.records[position..]) {
            if wire::is_expired(&parts, batch.timestamp, now) {
                work.group.pass_over(part.id, offset, offset.plus(1));
            } else {
                let key = parts.key.filter(|_| is_keyed).map(|key| xxh64(key.as_bytes()));
                match work.group.take(now, part.id, offset, key) {
                    Take::Leased(leased) => {
                        deliver(
                            &mut self.members,
                            work,
                            part.id,
                            (&leased, offset, batch.timestamp),
                            (&parts, &batch.records[position..position + size]),
                        );
                        if is_awaited {
                            part.tell_sent(offset, offset.plus(1));
                        }
                    }
                    Take::Held => {}
                    Take::Full => {
                        is_full = true;
                        break;
                    }
                }
            }
            position += size;
            offset = offset.plus(1);
        }
        if !is_full && offset < batch.next_offset() {
            // Checked when it was stored or read: a fault of ours, and nobody must wait for it for ever.
            log::error!(
                "records of partition {} from {offset} on can not be read",
                part.id
            );
            work.group.pass_over(part.id, offset, batch.next_offset());
            return (None, false);
        }
        let left = (offset < batch.next_offset()).then(|| Batch {
            base_offset: offset,
            timestamp: batch.timestamp,
            count: batch.next_offset().since(offset) as u32,
            records: batch.records.slice(position..),
        });
        (left, is_full)
    }

    /// Reads from the log: from memory at once, from a disk on a reader thread.
    fn read(&mut self, part: &Arc<PartitionRef>, from: Offset, purpose: Purpose, ctx: &mut Context<Self>) {
        let Kind::Shared(work) = &mut self.kind else {
            return;
        };
        let reading = &mut work.reading[part.id.0 as usize];
        let bytes_max = match purpose {
            Purpose::Fresh => PAGE_BYTES,
            Purpose::Again => SINGLE_BYTES,
        };
        let log = part.log().filter(|_| !reading.is_waiting);
        let Some(log) = log else {
            work.group.set_paused(part.id, true);
            return;
        };
        if let Some(page) = log.read_cached(from, bytes_max) {
            take_page(work, part.id, from, page, purpose);
            return;
        }
        reading.is_waiting = true;
        work.group.set_paused(part.id, true);
        let page = self.shared.readers.run(move || log.read(from, bytes_max));
        let id = part.id;
        let page = async move { page.await.unwrap_or(Err(StoreError::ShuttingDown)) };
        ctx.spawn(page.into_actor(self).map(move |page, actor, ctx| match page {
            Ok(page) => actor.was_read(id, from, Some(page), purpose, ctx),
            Err(error) => {
                log::error!("reading partition {id} for {}: {error}", actor.label());
                ctx.run_later(READ_RETRY, move |actor, ctx| {
                    actor.was_read(id, from, None, purpose, ctx)
                });
            }
        }));
    }

    fn was_read(
        &mut self,
        id: PartitionId,
        from: Offset,
        page: Option<Page>,
        purpose: Purpose,
        ctx: &mut Context<Self>,
    ) {
        let Kind::Shared(work) = &mut self.kind else {
            return;
        };
        if let Some(reading) = work.reading.get_mut(id.0 as usize) {
            reading.is_waiting = false;
        }
        work.group.set_paused(id, false);
        if let Some(page) = page {
            take_page(work, id, from, page, purpose);
        }
        self.schedule(ctx);
    }

    /// Has the records of this turn sent to those who leased them.
    fn send_frames(&mut self) {
        for member in self.members.iter_mut() {
            let leased = std::mem::take(&mut member.leased);
            if !leased.is_empty() {
                member.tell(&mut self.outgoing, Whats::Leased(leased));
            }
            let Some(frames) = member.frames.take().filter(|frames| !frames.is_empty()) else {
                continue;
            };
            let bytes = frames.finish();
            member.gauge.sent(bytes.len());
            member.tell(&mut self.outgoing, Whats::Deliver(bytes));
        }
    }
}

/// Keeps what was read, and passes over what is not there any more.
fn take_page(work: &mut SharedWork, id: PartitionId, from: Offset, page: Page, purpose: Purpose) {
    if let Some(gap) = page.gap {
        // Removed by retention or hurt: nobody can be given it. A single one goes alone, the others when
        // they are wanted.
        let next = match purpose {
            Purpose::Fresh => gap.next,
            Purpose::Again => from.plus(1),
        };
        work.group.pass_over(id, from, next);
        if purpose == Purpose::Again {
            return;
        }
    }
    if page.batches.is_empty() && page.gap.is_none() {
        // Nothing to be had although the end lies further on; the next change of the topic brings it back.
        log::warn!("nothing could be read at {from} of partition {id} for a group");
        work.group.set_paused(id, true);
    }
    work.reading[id.0 as usize].keep(page, purpose);
}

/// The first record of a batch.
fn first_of(batch: Batch) -> Batch {
    let size = callboard_core::record::encoded_len(&batch.records).unwrap_or(batch.records.len());
    Batch {
        count: 1,
        records: batch.records.slice(..size),
        ..batch
    }
}

/// Encodes a record for the member that leased it; a webhook gets it as it is.
fn deliver(
    members: &mut super::members::Members,
    work: &mut SharedWork,
    part: PartitionId,
    (leased, offset, timestamp): (&Leased, Offset, Timestamp),
    (parts, record): (&RecordParts<'_>, &[u8]),
) {
    let Some(member) = members.get_mut(leased.member) else {
        return;
    };
    if member.home.is_webhook() {
        return member.leased.push(LeasedRecord {
            delivery: leased.delivery,
            attempt: leased.attempt,
            partition: part,
            offset,
            timestamp,
            // A copy: a call may take minutes, and a slice would keep all that was read with it for so long.
            record: Bytes::copy_from_slice(record),
        });
    }
    let format = member.format;
    let guess = parts.payload.len() + MESSAGE_OVERHEAD_BYTES;
    let frames = member
        .frames
        .get_or_insert_with(|| FrameBuffer::new(format, 16 * guess));
    let delivery = u64::from(member.index) << DELIVERY_BITS | leased.delivery;
    let Some(prefix) = work.prefixes.get(part.0 as usize) else {
        return;
    };
    frames.frame(|buffer| {
        let lease = Lease {
            delivery,
            attempt: leased.attempt,
            lease_ms: leased.lease_ms,
        };
        prefix.leased(buffer, offset, timestamp, &wire::fields(parts), lease);
    });
    if frames.len() >= OUTBOX_BYTES_MAX {
        work.group.set_ready(leased.member, false);
    }
}

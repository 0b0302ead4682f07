//! Records that an exchange leads to several partitions: collected like drafts, sent as one [`Together`].

use std::sync::Arc;

use callboard_core::{
    partition::{Draft, DraftEntry},
    record::RecordParts,
    topic::Durability,
};
use callboard_protocol::{ErrorCode, client::NewRecord, error::Refusal};
use tokio::sync::oneshot;

use super::{
    DRAFT_BYTES_MAX, Intake, Open, Placing, addressed, due_later, in_flight_bytes, not_stored, parts,
};
use crate::actors::{
    append::{Asked, Keep, Origin, Receipt, Reply},
    directory::PartitionRef,
    notice::Wanted,
    together::{Kept, Stop, Together},
    waiting::Held,
};

/// Most partitions that one publish is stored in together.
pub const STOPS_MAX: usize = 1024;

/// Records for several partitions that were not sent yet.
pub struct OpenTogether {
    pub(super) asked: Asked,
    stops: Vec<OpenStop>,
    /// How many records.
    count: usize,
    bytes: usize,
}

struct OpenStop {
    part: Arc<PartitionRef>,
    kept: Kept,
    draft: Draft,
    records: Vec<usize>,
    replies: Vec<Reply>,
    held: Held,
    wanted: Vec<(usize, Wanted)>,
}

impl OpenTogether {
    pub(super) fn touches(&self, part: &Arc<PartitionRef>) -> bool {
        self.stops.iter().any(|stop| Arc::ptr_eq(&stop.part, part))
    }

    pub(super) fn is_large(&self) -> bool {
        self.bytes >= DRAFT_BYTES_MAX
    }

    /// Bytes that will be in flight.
    pub fn bytes(&self) -> usize {
        self.stops
            .iter()
            .map(|stop| in_flight_bytes(&stop.draft, stop.replies.len()))
            .sum()
    }

    /// The publish, and what resolves when it is decided whether it is stored.
    pub fn into_together(self, origin: &Origin) -> (Box<Together>, oneshot::Receiver<()>) {
        let stops = self.stops.into_iter().map(|stop| {
            let bytes = in_flight_bytes(&stop.draft, stop.replies.len());
            let held = (bytes, stop.held);
            Stop {
                receipt: Receipt::new(origin.clone(), stop.part.clone(), held, stop.replies),
                part: stop.part,
                kept: stop.kept,
                notices: addressed(stop.wanted, origin),
                draft: stop.draft,
                records: stop.records,
                reserved: None,
            }
        });
        Together::new(self.asked, stops.collect(), self.count)
    }

    fn stop_of(&mut self, part: &Arc<PartitionRef>, kept: Kept) -> &mut OpenStop {
        let index = self.stops.iter().position(|stop| Arc::ptr_eq(&stop.part, part));
        let index = index.unwrap_or_else(|| {
            self.stops.push(OpenStop {
                part: part.clone(),
                kept,
                draft: Draft::default(),
                records: Vec::new(),
                replies: Vec::new(),
                held: Held::default(),
                wanted: Vec::new(),
            });
            self.stops.len() - 1
        });
        &mut self.stops[index]
    }
}

impl Intake {
    /// Encodes a record into the drafts of all topics that it was routed to; `reply` makes the answer of each.
    ///
    /// # Errors
    /// `partition_out_of_range`, `invalid_argument`, `overloaded`; nothing is kept of the record then.
    pub fn add_routed(
        &mut self,
        placings: &mut [Placing],
        record: &NewRecord<'_>,
        asked: Asked,
        reply: &dyn Fn(usize) -> Reply,
    ) -> Result<(), Refusal> {
        let mut targets = Vec::with_capacity(placings.len());
        for placing in placings.iter_mut() {
            targets.push(placing.partition(record)?.clone());
        }
        let is_later = due_later(record, asked)?.is_some();
        if targets.len() == 1 || (record.ttl_ms == Some(0) && !is_later) {
            if asked.until().is_some() && record.ttl_ms == Some(0) {
                return Err(not_stored());
            }
            // What is not stored goes to whoever listens, each topic for itself.
            for (route, placing) in placings.iter_mut().enumerate() {
                self.add(placing, record, asked, reply(route))
                    .map_err(|denied| denied.0)?;
            }
            return Ok(());
        }
        check_together(targets.len(), is_later)?;
        let encodings: Vec<RecordParts<'_>> = placings
            .iter()
            .map(|placing| parts(record, record.ttl_ms.or(placing.config.ttl_ms)))
            .collect();
        let mut wanted = Vec::new();
        for _ in &targets {
            wanted.push(self.wanted(record, Keep::Stored)?);
        }
        self.hold_for(asked, &encodings)?;
        let is_held = self.waits.is_some() && asked.until().is_some();
        let together = self.together_for(asked, targets.len());
        let index = together.count;
        together.count += 1;
        for (route, ((placing, part), encoding)) in placings.iter().zip(&targets).zip(&encodings).enumerate()
        {
            let kept = if placing.config.durability == Durability::Memory {
                Kept::InMemory
            } else {
                Kept::OnDisk
            };
            let stop = together.stop_of(part, kept);
            let bytes = encoding.encode(&mut stop.draft.records);
            let message_id = encoding.message_id.map(|id| id.as_bytes().into());
            stop.draft.entries.push(DraftEntry {
                bytes: bytes as u32,
                message_id,
            });
            stop.records.push(index);
            let wanted = wanted[route].take();
            stop.wanted
                .extend(wanted.map(|wanted| (stop.replies.len(), wanted)));
            stop.replies.push(reply(route));
            if is_held {
                stop.held.add(Held::one(bytes));
            }
            together.bytes += bytes;
        }
        Ok(())
    }

    /// Counts the record as waiting, once for each topic, if its publisher waits.
    fn hold_for(&self, asked: Asked, encodings: &[RecordParts<'_>]) -> Result<(), Refusal> {
        let Some(waits) = self.waits.as_ref().filter(|_| asked.until().is_some()) else {
            return Ok(());
        };
        let mut taken = Held::default();
        for encoding in encodings {
            match waits.hold(encoding.encoded_bytes()) {
                Ok(held) => taken.add(held),
                Err(refusal) => {
                    waits.release(taken);
                    return Err(refusal);
                }
            }
        }
        Ok(())
    }

    /// The newest draft, if the record may go into it without passing another one of its partitions.
    fn together_for(&mut self, asked: Asked, count: usize) -> &mut OpenTogether {
        let may_join = |open: &Open| match open {
            Open::Together(known) => known.asked == asked && known.stops.len() + count <= STOPS_MAX,
            Open::Draft(_) => false,
        };
        if !self.open.last().is_some_and(may_join) {
            self.open.push(Open::Together(OpenTogether {
                asked,
                stops: Vec::new(),
                count: 0,
                bytes: 0,
            }));
        }
        match self.open.last_mut() {
            Some(Open::Together(known)) => known,
            _ => unreachable!("it was put there just now"),
        }
    }
}

fn check_together(count: usize, is_later: bool) -> Result<(), Refusal> {
    let message = if count > STOPS_MAX {
        format!("the routing key leads to {count} topics; one publish is stored in at most {STOPS_MAX}")
    } else if is_later {
        format!("the routing key leads to {count} topics; a record that is due later can go to one only")
    } else {
        return Ok(());
    };
    Err(Refusal::new(ErrorCode::InvalidArgument, message))
}

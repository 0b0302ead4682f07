//! What a partition is told and asked about its schedules.

use std::sync::Arc;

use actix::prelude::*;
use callboard_core::schedule::{Turn, Waiting, log::Entry};
use callboard_protocol::{Offset, error::Refusal};
use tokio::sync::oneshot;

use super::{Open, Then};
use crate::{
    actors::{
        clock,
        partition::{PartitionActor, admit::not_open, deleted, refusal},
    },
    store::{CommitEvent, Log, Submitted},
};

/// What the store's writer says of the schedule log.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ScheduleEvent(pub CommitEvent);

impl Handler<ScheduleEvent> for PartitionActor {
    type Result = ();

    fn handle(&mut self, ScheduleEvent(event): ScheduleEvent, ctx: &mut Self::Context) {
        let Some(log) = &mut self.later.log else { return };
        match event {
            CommitEvent::Committed {
                incarnation,
                next_offset,
            } if incarnation == log.incarnation => {
                log.committed(next_offset);
                self.settle_schedules();
                self.settled_down(ctx);
            }
            CommitEvent::Failed {
                incarnation,
                from_offset,
                error,
            } if incarnation == log.incarnation => {
                log::error!(
                    "partition {:?}: schedules from {from_offset} on were not stored: {error}",
                    self.part.key
                );
                self.reopen_schedules(refusal(&error), ctx);
            }
            // Of a former incarnation; what became of its entries was seen when the log was opened again.
            CommitEvent::Committed { .. } | CommitEvent::Failed { .. } => {}
        }
    }
}

/// Asks for records that wait, in the order in which they are due.
#[derive(Message)]
#[rtype(result = "ListedSchedules")]
pub struct ListScheduled {
    /// Those after this one.
    pub after: Option<Turn>,
    /// At most so many.
    pub limit: usize,
}

/// Records that wait.
#[derive(MessageResponse, Default)]
pub struct ListedSchedules {
    /// In the order in which they are due.
    pub waiting: Vec<Waiting>,
    /// Where their entries are.
    pub log: Option<Arc<dyn Log>>,
}

impl Handler<ListScheduled> for PartitionActor {
    type Result = ListedSchedules;

    fn handle(
        &mut self,
        ListScheduled { after, limit }: ListScheduled,
        _: &mut Self::Context,
    ) -> Self::Result {
        let Some(log) = &self.later.log else {
            return ListedSchedules::default();
        };
        ListedSchedules {
            // What is not committed nobody has been told of.
            waiting: log
                .index
                .after(after)
                .filter(|waiting| waiting.place < log.committed)
                .take(limit)
                .collect(),
            log: Some(log.log.clone()),
        }
    }
}

/// Cancels a record that waits; answers when that is durable, with whether it was there.
#[derive(Message)]
#[rtype(result = "Result<bool, Refusal>")]
pub struct CancelScheduled(pub u64);

impl Handler<CancelScheduled> for PartitionActor {
    type Result = ResponseFuture<Result<bool, Refusal>>;

    fn handle(&mut self, CancelScheduled(number): CancelScheduled, ctx: &mut Self::Context) -> Self::Result {
        let (caller, answer) = oneshot::channel();
        self.cancel(number, caller);
        self.settled_down(ctx);
        Box::pin(async move {
            // Dropped when the partition failed.
            answer
                .await
                .unwrap_or_else(|_| Err(crate::actors::append::lost()))
        })
    }
}

impl PartitionActor {
    fn cancel(&mut self, number: u64, caller: oneshot::Sender<Result<bool, Refusal>>) {
        if self.closed || self.state.is_none() {
            let refusal = if self.closed { deleted() } else { not_open() };
            // Whoever asked may have gone; so it is below.
            return drop(caller.send(Err(refusal)));
        }
        let durability = self.topic.durability.into();
        let Some(log) = &mut self.later.log else {
            return drop(caller.send(Ok(false)));
        };
        let Some(waiting) = log.index.get(number) else {
            return drop(caller.send(Ok(false)));
        };
        let mut records = Vec::new();
        let bytes = Entry::Cancelled(vec![number]).encode(&mut records);
        let place = log.index.take(&[number], bytes);
        log.payloads.forget(waiting.turn);
        log.open.push_back(Open {
            until: place.plus(1),
            stored_until: Offset::ZERO,
            then: Then::Cancelled(caller),
        });
        let submission = log.submission((place, 1), clock::now(), records, durability);
        self.submit_schedules(submission);
    }

    /// Hands entries to the store; who waits for them is in the list already.
    pub(super) fn submit_schedules(&mut self, submission: crate::store::Submission) {
        let next = submission.batch.next_offset();
        match self.shared.submit(submission) {
            Ok(submitted) => self.submitted_schedules(submitted, next),
            Err(error) => self.later.broken = Some(refusal(&error)),
        }
        self.later.touched = true;
    }

    /// The store took entries up to `next`.
    pub(super) fn submitted_schedules(&mut self, submitted: Submitted, next: Offset) {
        if submitted == Submitted::Committed
            && let Some(log) = &mut self.later.log
        {
            log.committed(next);
            self.settle_schedules();
        }
    }
}

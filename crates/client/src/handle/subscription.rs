//! A plain subscription, as a program holds it.

use futures_util::stream::{self, Stream};
use tokio::sync::mpsc;

use super::{Delivered, SubscriptionEvent};
use crate::{driver::Command, frame::Subscribed, request};

/// A subscription is given nothing that is for a member of a group.
fn only_subscription(delivered: Delivered) -> Option<SubscriptionEvent> {
    match delivered {
        Delivered::Subscription(event) => Some(event),
        Delivered::Member(_) | Delivered::Notice(_) => None,
    }
}

/// Credit is given back in halves, so that it costs one frame for many records.
#[derive(Debug)]
struct CreditLeft {
    limit: u64,
    taken: u64,
}

/// The records of one topic or pattern.
#[derive(Debug)]
pub struct Subscription {
    topic: String,
    subscribed: Subscribed,
    credit: Option<CreditLeft>,
    events: mpsc::Receiver<Delivered>,
    commands: mpsc::Sender<Command>,
}

impl Subscription {
    pub(super) fn new(
        topic: String,
        subscribed: Subscribed,
        credit: Option<u64>,
        events: mpsc::Receiver<Delivered>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            topic,
            subscribed,
            credit: credit.map(|limit| CreditLeft { limit, taken: 0 }),
            events,
            commands,
        }
    }

    /// What the broker answered when it began.
    #[must_use]
    pub fn subscribed(&self) -> &Subscribed {
        &self.subscribed
    }

    /// The next event; `None` after [`SubscriptionEvent::Ended`].
    pub async fn next_event(&mut self) -> Option<SubscriptionEvent> {
        self.give_credit().await;
        let event = only_subscription(self.events.recv().await?);
        self.count(event.as_ref());
        event
    }

    /// The next event if one is here already.
    pub fn try_next_event(&mut self) -> Option<SubscriptionEvent> {
        let event = only_subscription(self.events.try_recv().ok()?);
        self.count(event.as_ref());
        event
    }

    /// The events as a stream.
    pub fn into_stream(self) -> impl Stream<Item = SubscriptionEvent> {
        stream::unfold(self, |mut subscription| async {
            let event = subscription.next_event().await?;
            Some((event, subscription))
        })
    }

    fn count(&mut self, event: Option<&SubscriptionEvent>) {
        if let (Some(credit), Some(SubscriptionEvent::Record(_))) = (&mut self.credit, event) {
            credit.taken += 1;
        }
    }

    async fn give_credit(&mut self) {
        let Some(credit) = &mut self.credit else { return };
        if credit.taken >= credit.limit.div_ceil(2) {
            let add = std::mem::take(&mut credit.taken);
            let line = request::line(
                "credit",
                None,
                &request::Credit {
                    topic: &self.topic,
                    add,
                },
            );
            // A driver that has ended says so through `events`.
            let _ = self.commands.send(Command::Tell { line }).await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // If the queue is full the driver finds out at the next record.
        let _ = self.commands.try_send(Command::Unsubscribe {
            topic: std::mem::take(&mut self.topic),
        });
    }
}

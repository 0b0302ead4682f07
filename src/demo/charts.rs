//! The demo's partitioned group: three members draw the prices, and one of them leaves and comes back, so that
//! partitions are seen to move. Called by [`super::run`] only.

use std::{collections::BTreeMap, time::Duration};

use callboard_client::{GroupConsumer, GroupEvent, MemberOptions};
use callboard_protocol::{Offset, PartitionId};
use tokio::time::{Instant, sleep, timeout_at};

use super::PAUSE;

const TOPIC: &str = "demo.prices";
const GROUP: &str = "charts";
/// Who is there, and whether it stays.
pub(super) const MEMBERS: [(&str, Habit); 3] = [
    ("amber", Habit::Stays),
    ("birch", Habit::Stays),
    ("cedar", Habit::ComesAndGoes),
];

/// How long a member that comes and goes is there, and how long it is away: together about 40 s.
const VISIT: Duration = Duration::from_secs(26);
const ABSENCE: Duration = Duration::from_secs(14);
/// A member commits so often, as one does that writes what it has drawn in batches.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// Whether a member stays in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    Stays,
    ComesAndGoes,
}

/// Reads prices until the process ends, and joins again if the membership ends.
pub(super) async fn draw(url: String, name: &str, habit: Habit) {
    let client = match super::connect(&url).await {
        Ok(client) => client,
        Err(error) => return log::error!("the demo's {name} could not connect to {url}: {error}"),
    };
    loop {
        let options = MemberOptions::default().named(name);
        match client.join_partitioned(TOPIC, GROUP, options).await {
            Ok(consumer) => visit(consumer, name, habit).await,
            Err(error) => log::warn!("the demo's {name} could not join {GROUP}: {error}"),
        }
        sleep(match habit {
            Habit::Stays => PAUSE,
            Habit::ComesAndGoes => ABSENCE,
        })
        .await;
    }
}

/// One membership, from its first event to the last or until it is time to go.
async fn visit(mut consumer: GroupConsumer, name: &str, habit: Habit) {
    let end = Instant::now() + VISIT;
    let mut drawn = BTreeMap::new();
    while habit == Habit::Stays || Instant::now() < end {
        let until = Instant::now() + COMMIT_EVERY;
        while let Ok(event) = timeout_at(until, consumer.next_event()).await {
            match event {
                Some(GroupEvent::Message(message)) => {
                    let next = message.offset.map(|offset| (message.partition, offset.plus(1)));
                    drawn.extend(next);
                }
                // Its partitions move on as soon as what was drawn of them is committed.
                Some(GroupEvent::Revoked(_)) => break,
                // What came over the old connection comes again.
                Some(GroupEvent::Rejoined(_)) => drawn.clear(),
                Some(GroupEvent::Assigned(_) | GroupEvent::Skipped(_)) => {}
                Some(GroupEvent::Unsubscribed { .. }) | None => return,
            }
        }
        commit(&consumer, name, &mut drawn).await;
    }
    if let Err(error) = consumer.leave().await {
        log::debug!("the demo's {name} could not leave {GROUP}: {error}");
    }
}

async fn commit(consumer: &GroupConsumer, name: &str, drawn: &mut BTreeMap<PartitionId, Offset>) {
    if let Err(error) = consumer.commit(std::mem::take(drawn)).await {
        log::debug!("the demo's {name} could not commit: {error}");
    }
}

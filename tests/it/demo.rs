//! `serve --demo` as whoever opens the dashboard finds it.

use serde_json::Value;

use crate::support::{Broker, until};

fn group(broker: &Broker, topic: &str, group: &str) -> Option<Value> {
    let answer = broker.get(&format!("/api/v1/topics/{topic}/groups/{group}"));
    // Until the first member has joined there is no such group.
    (answer.status == 200).then(|| answer.json())
}

fn demo_shows_groups_at_work(options: &[&str]) {
    let broker = Broker::start_with(options);
    until("workers that have done something", || {
        let farm = group(&broker, "demo.renders", "farm")?;
        let workers = farm["members"].as_array()?.len();
        (farm["acked"].as_u64()? > 0 && workers == 3).then_some(())
    });
    until("an owner for each partition, and a position in one", || {
        let charts = group(&broker, "demo.prices", "charts")?;
        let partitions = charts["partitions"].as_array()?;
        let is_owned = |partition: &Value| partition["member"].is_string();
        let is_committed = |partition: &Value| partition["committed"].as_u64() > Some(0);
        let shows = partitions.len() == 6
            && charts["members"].as_array()?.len() == 3
            && partitions.iter().all(is_owned)
            && partitions.iter().any(is_committed);
        shows.then_some(())
    });
}

#[test]
fn demo_on_disk_shows_groups_at_work() {
    demo_shows_groups_at_work(&["--demo"]);
}

#[test]
fn demo_in_memory_shows_groups_at_work() {
    demo_shows_groups_at_work(&["--demo", "--store", "memory", "--no-auto-create"]);
}

//! `serve --demo` as whoever opens the dashboard finds it.

use serde_json::Value;

use crate::support::{Broker, until};

fn group(broker: &Broker, topic: &str, group: &str) -> Option<Value> {
    let answer = broker.get(&format!("/api/v1/topics/{topic}/groups/{group}"));
    // Until the first member has joined there is no such group.
    (answer.status == 200).then(|| answer.json())
}

fn demo_shows_its_exchanges(broker: &Broker) {
    until("readings that were routed", || {
        let topics = ["boilers", "temperatures", "archive"];
        let routed = |topic: &&str| {
            let answer = broker.get(&format!("/api/v1/topics/demo.plant.{topic}"));
            let has_some = |topic: Value| topic["partitions"][0]["next_offset"].as_u64() > Some(0);
            answer.status == 200 && has_some(answer.json())
        };
        topics.iter().all(routed).then_some(())
    });
    until("a reminder for later", || {
        let later = broker.get("/api/v1/topics/demo.reminders/scheduled").json();
        (later["total"].as_u64()? > 0).then_some(())
    });
    until("an order that nobody serves", || {
        let lost = broker.get("/api/v1/unroutable").json();
        (lost["unroutable"][0]["routing_key"] == "asia").then_some(())
    });
}

fn demo_is_at_work(options: &[&str]) {
    let broker = Broker::start_with(options);
    demo_shows_its_exchanges(&broker);
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
fn demo_on_disk_shows_everything_at_work() {
    demo_is_at_work(&["--demo"]);
}

#[test]
fn demo_in_memory_shows_everything_at_work() {
    demo_is_at_work(&["--demo", "--store", "memory", "--no-auto-create"]);
}

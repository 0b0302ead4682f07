//! Faults of groups that were found once and must not come back.

use serde_json::json;

use super::{
    Running,
    groups::{join, next_of, publish},
    sessions::create,
    waits::Talker,
};

#[actix_rt::test]
async fn member_whose_records_fill_a_buffer_gets_the_rest_of_its_credit() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut publisher = Talker::connect(&broker).await;
    let large = "x".repeat(100_000);
    for id in 0..9 {
        let frame = json!({"type": "publish", "id": id, "topic": "jobs", "payload": large});
        assert_eq!(publisher.ask(frame).await["type"], "published");
    }
    let mut worker = Talker::connect(&broker).await;
    worker.say(join(1, "shared")).await;
    // It acks nothing before it has all of them.
    for offset in 0..9 {
        assert_eq!(next_of(&mut worker, "message").await["offset"], offset);
    }
}

#[actix_rt::test]
async fn refused_release_leaves_what_is_held_as_it_was() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let mut member = Talker::connect(&broker).await;
    member.ask(join(1, "partitioned")).await;
    next_of(&mut member, "assigned").await;
    let release = json!({"type": "release", "id": 2, "topic": "jobs", "group": "crew", "partitions": [0, 7]});
    assert_eq!(member.ask(release).await["code"], "not_owner");
    let mut publisher = Talker::connect(&broker).await;
    publish(&mut publisher, 0..1).await;
    assert_eq!(next_of(&mut member, "message").await["offset"], 0);
}

//! Faults of groups that were found once and must not come back.

use serde_json::json;

use super::{
    Running,
    groups::{join, next_of},
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

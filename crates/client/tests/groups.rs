//! Members of groups against a scripted broker.
#![expect(clippy::unwrap_used, reason = "tests")]

mod broker;

use std::time::Duration;

use callboard_client::{
    Client, ConnectOptions, Error, GroupConsumer, GroupEvent, Job, MemberOptions, Nack, Publish, Worker,
    WorkerEvent, frame::Offsets,
};
use callboard_protocol::{Offset, PartitionId};
use serde_json::{Value, json};

use crate::broker::{Session, connected, quick};

impl Session {
    /// Answers the `subscribe` of a member, and returns it.
    async fn joined(&mut self) -> Value {
        let frame = self.expect("subscribe").await;
        let line = format!(
            r#"{{"type":"subscribed","id":{},"topic":"t","group":"g","mode":{},"epoch":"e","offsets":{{"0":0}},"recovered":true}}"#,
            frame["id"], frame["mode"]
        );
        self.send(&line).await;
        frame
    }

    async fn ok(&mut self, kind: &str) -> Value {
        let frame = self.expect(kind).await;
        self.send(&format!(r#"{{"type":"ok","id":{}}}"#, frame["id"]))
            .await;
        frame
    }

    async fn refuses(&mut self, kind: &str, code: &str) -> Value {
        let frame = self.expect(kind).await;
        let id = &frame["id"];
        self.send(&format!(
            r#"{{"type":"error","id":{id},"code":"{code}","message":"no"}}"#
        ))
        .await;
        frame
    }

    async fn assigned(&mut self, generation: u64, offsets: &str) {
        self.send(&format!(
            r#"{{"type":"assigned","topic":"t","group":"g","generation":{generation},"offsets":{offsets}}}"#
        ))
        .await;
    }

    async fn record(&mut self, partition: u32, offset: u64) {
        self.send(&format!(
            r#"{{"type":"message","topic":"t","group":"g","partition":{partition},"offset":{offset},"timestamp":1,"payload":1}}"#
        ))
        .await;
    }

    async fn leased(&mut self, delivery: u64, attempt: u32) {
        self.send(&format!(
            r#"{{"type":"message","topic":"t","group":"g","partition":0,"offset":3,"delivery":{delivery},"attempt":{attempt},"lease_ms":30000,"timestamp":1,"payload":[6,7]}}"#
        ))
        .await;
    }
}

async fn consumer(session: &mut Session, client: &Client, options: MemberOptions) -> GroupConsumer {
    let (consumer, _) = tokio::join!(client.join_partitioned("t", "g", options), session.joined());
    consumer.unwrap()
}

async fn worker(session: &mut Session, client: &Client) -> Worker {
    let joining = client.join_shared("t", "g", MemberOptions::default().with_credit(1));
    let (worker, _) = tokio::join!(joining, session.joined());
    worker.unwrap()
}

async fn next_record(consumer: &mut GroupConsumer) -> callboard_client::Message {
    match consumer.next_event().await.unwrap() {
        GroupEvent::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

async fn next_job(session: &mut Session, worker: &mut Worker, delivery: u64) -> Job {
    session.leased(delivery, 2).await;
    worker.next_job().await.unwrap()
}

#[tokio::test]
async fn commit_says_the_next_offset_and_the_generation_that_was_heard() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let mut consumer = consumer(&mut session, &client, MemberOptions::default()).await;
    session.assigned(5, r#"{"0":17,"2":0}"#).await;
    session.record(0, 17).await;
    session.assigned(6, r#"{"1":4}"#).await;
    assert!(
        matches!(consumer.next_event().await, Some(GroupEvent::Assigned(gained)) if gained.generation == 5)
    );
    let message = next_record(&mut consumer).await;
    assert_eq!(
        (message.partition, message.offset),
        (PartitionId(0), Some(Offset(17)))
    );
    let (committed, frame) = tokio::join!(consumer.commit(&message), session.ok("commit"));
    committed.unwrap();
    assert_eq!(
        (
            &frame["topic"],
            &frame["group"],
            &frame["offsets"],
            &frame["generation"]
        ),
        (&json!("t"), &json!("g"), &json!({"0": 18}), &json!(5)),
        "6 has come, and the program has not heard of it"
    );
    assert!(matches!(
        consumer.next_event().await,
        Some(GroupEvent::Assigned(_))
    ));
    let offsets = Offsets::from([(PartitionId(0), Offset(20)), (PartitionId(1), Offset(5))]);
    let (committed, frame) = tokio::join!(
        consumer.commit(offsets),
        session.refuses("commit", "stale_generation")
    );
    assert_eq!(
        (&frame["offsets"], &frame["generation"]),
        (&json!({"0": 20, "1": 5}), &json!(6))
    );
    assert!(matches!(committed, Err(Error::Refused(error)) if error.code == "stale_generation"));
}

#[tokio::test]
async fn revoked_partitions_are_told_and_released() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let mut consumer = consumer(&mut session, &client, MemberOptions::default()).await;
    session
        .send(r#"{"type":"revoked","topic":"t","group":"g","generation":6,"partitions":[2],"grace_ms":1000}"#)
        .await;
    let Some(GroupEvent::Revoked(revoked)) = consumer.next_event().await else {
        panic!("something else came")
    };
    assert_eq!(
        (revoked.grace_ms, &revoked.partitions[..]),
        (1000, &[PartitionId(2)][..])
    );
    let (released, frame) = tokio::join!(consumer.release(&revoked.partitions), session.ok("release"));
    released.unwrap();
    assert_eq!(frame["partitions"], json!([2]));
}

#[tokio::test]
async fn consumer_joins_again_under_its_name_after_a_lost_connection() {
    let (broker, mut session, client) = connected(quick()).await;
    let options = MemberOptions::default().named("w1").with_credit(9);
    let joining = client.join_partitioned("t", "g", options);
    let (consumer, asked) = tokio::join!(joining, session.joined());
    let mut consumer = consumer.unwrap();
    session.assigned(5, r#"{"0":17}"#).await;
    assert!(matches!(
        consumer.next_event().await,
        Some(GroupEvent::Assigned(_))
    ));
    drop(session);
    let mut session = broker.accept().await;
    let again = session.joined().await;
    for field in ["topic", "group", "mode", "member", "credit"] {
        assert_eq!(again[field], asked[field], "{field}");
    }
    session.assigned(7, r#"{"0":17}"#).await;
    session.record(0, 17).await;
    assert!(matches!(
        consumer.next_event().await,
        Some(GroupEvent::Rejoined(_))
    ));
    assert!(
        matches!(consumer.next_event().await, Some(GroupEvent::Assigned(gained)) if gained.generation == 7)
    );
    assert_eq!(next_record(&mut consumer).await.offset, Some(Offset(17)));
}

#[tokio::test]
async fn join_whose_answer_was_lost_is_asked_again() {
    let (broker, mut session, client) = connected(quick()).await;
    let serving = async {
        session.expect("subscribe").await;
        drop(session);
        let mut session = broker.accept().await;
        session.joined().await;
        session
    };
    let joining = client.join_shared("t", "g", MemberOptions::default());
    let (worker, mut session) = tokio::join!(joining, serving);
    let mut worker = worker.unwrap();
    assert_eq!(next_job(&mut session, &mut worker, 1).await.attempt(), 2);
}

#[tokio::test]
async fn job_is_settled_in_each_way() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let mut worker = worker(&mut session, &client).await;
    let job = next_job(&mut session, &mut worker, 991).await;
    assert_eq!((job.attempt(), job.lease()), (2, Duration::from_secs(30)));
    let (extended, frame) = tokio::join!(job.extend(Duration::from_secs(60)), session.ok("extend"));
    extended.unwrap();
    assert_eq!(
        (&frame["deliveries"], &frame["lease_ms"]),
        (&json!([991]), &json!(60_000))
    );
    assert!(
        matches!(job.ack_with("{").await, Err(Error::Payload(_))),
        "it is still leased"
    );
    let (acked, frame) = tokio::join!(job.ack_with(r#"{"product":42}"#), session.ok("ack"));
    acked.unwrap();
    assert_eq!(
        (&frame["deliveries"], &frame["result"]),
        (&json!([991]), &json!({"product": 42}))
    );
    let job = next_job(&mut session, &mut worker, 992).await;
    let (acked, frame) = tokio::join!(job.ack(), session.ok("ack"));
    acked.unwrap();
    assert!(frame.get("result").is_none());
    let job = next_job(&mut session, &mut worker, 993).await;
    let nack = Nack::dead_letter().because("not a number");
    let (nacked, frame) = tokio::join!(job.nack(nack), session.ok("nack"));
    nacked.unwrap();
    assert_eq!(
        (&frame["dead_letter"], &frame["reason"]),
        (&json!(true), &json!("not a number"))
    );
    let job = next_job(&mut session, &mut worker, 994).await;
    let (acked, _) = tokio::join!(job.ack(), session.refuses("ack", "lease_expired"));
    assert!(matches!(acked, Err(Error::Refused(error)) if error.code == "lease_expired"));
    let job = next_job(&mut session, &mut worker, 995).await;
    let (acked, _) = tokio::join!(job.ack(), session.refuses("ack", "unknown_delivery"));
    assert_eq!(acked, Err(Error::UnknownDelivery));
}

#[tokio::test]
async fn job_of_a_lost_connection_is_unknown_and_nothing_is_sent_for_it() {
    let (broker, mut session, client) = connected(quick()).await;
    let mut worker = worker(&mut session, &client).await;
    let job = next_job(&mut session, &mut worker, 1).await;
    let other = next_job(&mut session, &mut worker, 2).await;
    let unanswered = tokio::spawn(other.ack());
    session.expect("ack").await;
    drop(session);
    let mut session = broker.accept().await;
    session.joined().await;
    assert!(matches!(
        worker.next_event().await,
        Some(WorkerEvent::Rejoined(_))
    ));
    assert!(matches!(
        unanswered.await.unwrap(),
        Err(Error::Disconnected { .. })
    ));
    assert_eq!(job.ack().await, Err(Error::UnknownDelivery));
    // The same number is another job now.
    let job = next_job(&mut session, &mut worker, 1).await;
    let (acked, frame) = tokio::join!(job.ack(), session.ok("ack"));
    acked.unwrap();
    assert_eq!(frame["deliveries"], json!([1]));
}

#[tokio::test]
async fn job_can_be_settled_after_its_worker_has_left() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let mut worker = worker(&mut session, &client).await;
    let job = next_job(&mut session, &mut worker, 1).await;
    let leaving = async {
        assert_eq!(session.expect("unsubscribe").await["group"], "g");
        let ping = session.expect("ping").await;
        session
            .send(&format!(r#"{{"type":"pong","id":{}}}"#, ping["id"]))
            .await;
    };
    let (left, ()) = tokio::join!(worker.leave(), leaving);
    left.unwrap();
    let (acked, _) = tokio::join!(job.ack(), session.ok("ack"));
    acked.unwrap();
}

#[tokio::test]
async fn what_came_for_an_earlier_membership_is_not_given_to_the_next() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let first = consumer(&mut session, &client, MemberOptions::default()).await;
    drop(first);
    session.expect("unsubscribe").await;
    let serving = async {
        // Both were on their way when the first left.
        session.record(0, 1).await;
        session
            .send(r#"{"type":"unsubscribed","topic":"t","group":"g","reason":"replaced"}"#)
            .await;
        session.joined().await;
        session.assigned(9, r#"{"0":2}"#).await;
        session.record(0, 2).await;
    };
    let joining = client.join_partitioned("t", "g", MemberOptions::default());
    let (consumer, ()) = tokio::join!(joining, serving);
    let mut consumer = consumer.unwrap();
    assert!(matches!(
        consumer.next_event().await,
        Some(GroupEvent::Assigned(_))
    ));
    assert_eq!(next_record(&mut consumer).await.offset, Some(Offset(2)));
}

#[tokio::test]
async fn group_is_joined_once_and_again_after_it_has_ended() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let mut first = consumer(&mut session, &client, MemberOptions::default()).await;
    let second = client.join_shared("t", "g", MemberOptions::default()).await;
    assert!(matches!(second, Err(Error::Joined { .. })), "{second:?}");
    session
        .send(r#"{"type":"unsubscribed","topic":"t","group":"g","reason":"group_deleted"}"#)
        .await;
    assert!(matches!(
        first.next_event().await,
        Some(GroupEvent::Unsubscribed { reason }) if reason == "group_deleted"
    ));
    assert!(first.next_event().await.is_none());
    let mut second = worker(&mut session, &client).await;
    // The first one's end must not be the second one's.
    drop(first);
    client_is_read(&client, &mut session).await;
    next_job(&mut session, &mut second, 5).await;
}

/// Everything sent before has reached the broker, and was a `ping`.
async fn client_is_read(client: &Client, session: &mut Session) {
    let serving = async {
        let ping = session.expect("ping").await;
        session
            .send(&format!(r#"{{"type":"pong","id":{}}}"#, ping["id"]))
            .await;
    };
    let (pinged, ()) = tokio::join!(client.ping(), serving);
    pinged.unwrap();
}

#[tokio::test]
async fn refused_join_reaches_its_caller_and_leaves_nothing() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let joining = client.join_partitioned("t", "g", MemberOptions::default().exclusive());
    let (refused, frame) = tokio::join!(joining, session.refuses("subscribe", "conflict"));
    assert_eq!(frame["exclusive"], true);
    assert!(matches!(refused, Err(Error::Refused(error)) if error.code == "conflict"));
    consumer(&mut session, &client, MemberOptions::default()).await;
}

#[tokio::test]
async fn publisher_gets_what_the_worker_answered() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let record = || Publish::json("jobs", "[6,7]").unwrap();
    let serving = async {
        let frame = session.expect("publish").await;
        assert_eq!(
            (&frame["ack"], &frame["timeout_ms"]),
            (&json!("processed"), &json!(5000))
        );
        let id = &frame["id"];
        let line = format!(
            r#"{{"type":"published","id":{id},"topic":"jobs","partition":0,"offset":3,"durability":"fsync","result":{{"product":42.0}}}}"#
        );
        session.send(&line).await;
    };
    let timeout = Duration::from_secs(5);
    let (processed, ()) = tokio::join!(client.publish_and_wait(record(), timeout), serving);
    let processed = processed.unwrap();
    assert_eq!(processed.result.as_deref(), Some(r#"{"product":42.0}"#));
    assert_eq!(processed.offset, Some(Offset(3)));
    let waiting = client.publish_and_wait(record(), timeout);
    let (processed, _) = tokio::join!(waiting, session.refuses("publish", "dead_lettered"));
    assert!(matches!(processed, Err(Error::Refused(error)) if error.code == "dead_lettered"));
}

#[tokio::test]
async fn topic_is_declared_with_its_configuration() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let declaring = client.declare("t", r#"{"partitions":12,"durability":"os"}"#);
    let (declared, frame) = tokio::join!(declaring, session.ok("declare"));
    declared.unwrap();
    assert_eq!(
        (&frame["topic"], &frame["partitions"], &frame["durability"]),
        (&json!("t"), &json!(12), &json!("os"))
    );
    assert!(matches!(
        client.declare("t", "[]").await,
        Err(Error::Configuration { .. })
    ));
}

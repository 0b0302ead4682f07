//! The client crate against a real broker: exchanges, later records, and notices of what became of records.

use std::time::Duration;

use callboard_client::{
    Ack, Binding, Client, Error, ExchangeKind, From, MemberOptions, Outcome, Payload, Publish, Published,
    RecordResult, Route, Subscribe,
};

use super::{PATIENCE, Running, next_payload};
use crate::actors::clock;

async fn route(client: &Client, routing_key: &str, payload: &str) -> Result<Published, Error> {
    let publish = Publish::routed("readings", routing_key, Payload::json(payload).unwrap());
    match client.publish(publish).await? {
        Outcome::Published(published) => Ok(published),
        Outcome::Sent { .. } => panic!("an ack was asked for"),
    }
}

fn offset(route: &Route) -> u64 {
    match route.result {
        RecordResult::Stored { offset, .. } => offset.0,
        _ => panic!("{route:?}"),
    }
}

fn places(published: &Published) -> Vec<(&str, u64)> {
    let routes = published.routes.iter();
    routes.map(|route| (&*route.topic, offset(route))).collect()
}

fn code(refused: Result<impl std::fmt::Debug, Error>) -> String {
    match refused {
        Err(Error::Refused(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

#[actix_rt::test]
async fn client_routes_by_what_it_declared_and_bound() {
    let broker = Running::start().await;
    let client = broker.client().await;
    client
        .declare_exchange("lost", ExchangeKind::Fanout, None)
        .await
        .unwrap();
    for _ in 0..2 {
        client
            .declare_exchange("readings", ExchangeKind::Topic, Some("lost"))
            .await
            .unwrap();
    }
    let plant = Binding::to_topic("readings", "plant", "plant.#");
    let heat = Binding::to_topic("readings", "heat", "*.*.temp");
    for binding in [&plant, &heat, &plant] {
        client.bind(binding).await.unwrap();
    }
    let mut heats = client
        .subscribe(Subscribe::topic("heat").from(From::Earliest))
        .await
        .unwrap();
    let published = route(&client, "plant.boiler.temp", "21.50").await.unwrap();
    assert_eq!(places(&published), [("heat", 0), ("plant", 0)]);
    assert_eq!(next_payload(&mut heats).await, "21.50");
    let published = route(&client, "plant.boiler", "1").await.unwrap();
    assert_eq!(places(&published), [("plant", 1)]);
    // Nothing matches, and the alternate has no binding yet.
    assert_eq!(code(route(&client, "office", "1").await), "unroutable");
    client
        .bind(&Binding::to_topic("lost", "found", ""))
        .await
        .unwrap();
    let published = route(&client, "office", "2").await.unwrap();
    assert_eq!(places(&published), [("found", 0)]);
    client.unbind(&plant).await.unwrap();
    let published = route(&client, "plant.boiler", "3").await.unwrap();
    assert_eq!(places(&published), [("found", 1)]);
}

#[actix_rt::test]
async fn client_is_told_why_an_exchange_or_a_binding_is_refused() {
    let broker = Running::start().await;
    let client = broker.client().await;
    client
        .declare_exchange("e", ExchangeKind::Direct, None)
        .await
        .unwrap();
    client
        .declare_exchange("f", ExchangeKind::Topic, Some("e"))
        .await
        .unwrap();
    let other_kind = client.declare_exchange("e", ExchangeKind::Fanout, None).await;
    assert_eq!(code(other_kind), "conflict");
    let alternate = client
        .declare_exchange("g", ExchangeKind::Fanout, Some("nowhere"))
        .await;
    assert_eq!(code(alternate), "exchange_not_found");
    let cycle = client.bind(&Binding::to_exchange("e", "f", "k")).await;
    assert_eq!(code(cycle), "conflict");
    let nowhere = client.bind(&Binding::to_topic("nowhere", "t", "k")).await;
    assert_eq!(code(nowhere), "exchange_not_found");
    let pattern = client.bind(&Binding::to_topic("e", "t", "a.#")).await;
    assert_eq!(code(pattern), "invalid_argument");
}

#[actix_rt::test]
async fn client_hears_what_became_of_its_records() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let mut notices = client.notices().await.unwrap();
    let publish = |payload: &str| Publish::json("jobs", payload).unwrap();
    client
        .publish(publish("1").with_notify(Ack::Durable, "stored"))
        .await
        .unwrap();
    let next = async |notices: &mut callboard_client::Notices| {
        tokio::time::timeout(PATIENCE, notices.next())
            .await
            .unwrap()
            .unwrap()
    };
    let notice = next(&mut notices).await;
    assert_eq!((&*notice.correlation_id, &*notice.on), ("stored", "durable"));
    assert_eq!(notice.offset.unwrap().0, 0);
    let answered = client
        .publish(publish("2").with_notify(Ack::Processed, "done"))
        .await;
    assert!(
        answered.is_ok(),
        "the answer does not wait for what the notice waits for"
    );
    // Not asked for a notice, and it comes before the one that is.
    client.publish(publish("3").with_ack(Ack::Durable)).await.unwrap();
    let mut worker = client
        .join_shared("jobs", "workers", MemberOptions::default())
        .await
        .unwrap();
    for expected in ["1", "2", "3"] {
        let job = tokio::time::timeout(PATIENCE, worker.next_job())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(job.message().payload.as_ref().unwrap().get(), expected);
        job.ack_with("42").await.unwrap();
    }
    let notice = next(&mut notices).await;
    assert_eq!((&*notice.correlation_id, &*notice.on), ("done", "processed"));
    assert_eq!(
        (notice.offset.unwrap().0, notice.result.as_deref()),
        (1, Some("42"))
    );
}

#[actix_rt::test]
async fn client_publishes_what_is_due_later() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let mut later = client
        .subscribe(Subscribe::topic("later").from(From::Earliest))
        .await
        .unwrap();
    let before = clock::now();
    let publish = Publish::json("later", "2").unwrap();
    let second = client
        .publish_after(publish, Duration::from_millis(300))
        .await
        .unwrap();
    let due = second.deliver_at.unwrap();
    assert!(due.since(before) >= 300 && second.offset.is_none(), "{second:?}");
    let publish = Publish::json("later", "1").unwrap();
    let moment = clock::now().plus_ms(100);
    let first = client.publish_at(publish, moment).await.unwrap();
    assert_eq!(first.deliver_at, Some(moment));
    assert_ne!(first.scheduled, second.scheduled);
    assert_eq!(next_payload(&mut later).await, "1");
    assert!(clock::now() >= moment);
    assert_eq!(next_payload(&mut later).await, "2");
    assert!(clock::now() >= due);
}

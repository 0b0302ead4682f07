//! The client against a scripted broker.
#![expect(clippy::unwrap_used, reason = "tests")]

mod broker;

use callboard_client::{
    Ack, Client, ConnectOptions, Error, Event, Outcome, Publish, Reconnect, Subscribe, Subscription,
    SubscriptionEvent,
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::broker::{Broker, Session, connected, quick};

impl Session {
    async fn published(&mut self, frame: &Value, offset: u64) {
        let id = &frame["id"];
        let line = format!(
            r#"{{"type":"published","id":{id},"topic":"t","partition":0,"offset":{offset},"durability":"fsync"}}"#
        );
        self.send(&line).await;
    }

    async fn subscribed(&mut self, offset: u64) -> Value {
        let frame = self.expect("subscribe").await;
        let id = &frame["id"];
        let line = format!(
            r#"{{"type":"subscribed","id":{id},"topic":"t","epoch":"e","offsets":{{"0":{offset}}},"recovered":true}}"#
        );
        self.send(&line).await;
        frame
    }

    async fn records(&mut self, offsets: std::ops::Range<u64>) {
        let lines: Vec<String> = offsets.map(message).collect();
        self.send(&lines.join("\n")).await;
    }
}

fn message(offset: u64) -> String {
    format!(
        r#"{{"type":"message","topic":"t","partition":0,"offset":{offset},"timestamp":1,"payload":{offset}}}"#
    )
}

fn record(text: &str) -> Publish {
    Publish::json("t", text).unwrap()
}

fn offset(outcome: Option<Result<Outcome, Error>>) -> u64 {
    match outcome {
        Some(Ok(Outcome::Published(published))) => published.offset.unwrap().0,
        other => panic!("{other:?}"),
    }
}

async fn take(subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        match subscription.next_event().await.unwrap() {
            SubscriptionEvent::Record(record) => offsets.push(record.offset.unwrap().0),
            SubscriptionEvent::Resumed(_) => {}
            other => panic!("{other:?}"),
        }
    }
    offsets
}

#[tokio::test]
async fn pipelined_outcomes_come_in_order_and_no_more_are_under_way_than_allowed() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let publishing = async {
        let mut publisher = client.publisher(3);
        let mut offsets = Vec::new();
        for number in 0..5 {
            if let Some(outcome) = publisher.publish(&record(&number.to_string())).await {
                offsets.push(offset(Some(outcome)));
            }
        }
        while publisher.in_flight() > 0 {
            offsets.push(offset(publisher.next_outcome().await));
        }
        offsets
    };
    let serving = async {
        let first = [session.next().await, session.next().await, session.next().await];
        // The fourth comes only after the first is answered, so a Ping's answer comes before it.
        session.socket.send(Message::Ping("x".into())).await.unwrap();
        assert!(matches!(
            session.socket.next().await.unwrap().unwrap(),
            Message::Pong(_)
        ));
        for (place, frame) in first.iter().enumerate().rev() {
            session.published(frame, 10 + place as u64).await;
        }
        for place in 3..5 {
            let frame = session.expect("publish").await;
            session.published(&frame, 10 + place).await;
        }
    };
    let (offsets, ()) = tokio::join!(publishing, serving);
    assert_eq!(offsets, [10, 11, 12, 13, 14]);
}

#[tokio::test]
async fn subscription_goes_on_after_a_lost_connection_without_loss_or_repeats() {
    let (broker, mut session, client) = connected(quick()).await;
    let (subscription, _) = tokio::join!(client.subscribe(Subscribe::topic("t")), session.subscribed(5));
    let mut subscription = subscription.unwrap();
    session.records(5..8).await;
    assert_eq!(take(&mut subscription, 3).await, [5, 6, 7]);
    drop(session);
    let mut session = broker.accept().await;
    let asked = session.subscribed(8).await;
    assert_eq!(
        asked["from"],
        serde_json::json!({"offsets": {"0": 8}, "epoch": "e"})
    );
    session.records(6..10).await;
    assert_eq!(take(&mut subscription, 2).await, [8, 9]);
}

#[tokio::test]
async fn unanswered_record_is_sent_again_only_if_it_has_a_message_id() {
    let (broker, mut session, client) = connected(quick()).await;
    let named = record("1").with_message_id("m1");
    let publishing = async { tokio::join!(client.publish(record("2")), client.publish(named)) };
    let serving = async {
        session.expect("publish").await;
        session.expect("publish").await;
        drop(session);
        let mut session = broker.accept().await;
        let again = session.expect("publish").await;
        assert_eq!(again["message_id"], "m1");
        session.published(&again, 3).await;
        session
    };
    let ((unnamed, named), _session) = tokio::join!(publishing, serving);
    assert!(matches!(unnamed, Err(Error::Disconnected { .. })), "{unnamed:?}");
    assert_eq!(offset(Some(named)), 3);
}

#[tokio::test]
async fn slow_reader_loses_nothing() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let (subscription, _) = tokio::join!(client.subscribe(Subscribe::topic("t")), session.subscribed(0));
    let mut subscription = subscription.unwrap();
    let reading = async {
        // Reads only once the broker has sent far more than the client keeps for a reader.
        let first = take(&mut subscription, 1).await;
        [first, take(&mut subscription, 9_999).await].concat()
    };
    let (offsets, ()) = tokio::join!(reading, session.records(0..10_000));
    assert_eq!(offsets, (0..10_000).collect::<Vec<u64>>());
}

#[tokio::test]
async fn credit_is_given_back_as_records_are_taken() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let subscribe = Subscribe::topic("t").with_credit(4);
    let (subscription, asked) = tokio::join!(client.subscribe(subscribe), session.subscribed(0));
    assert_eq!(asked["credit"], 4);
    let mut subscription = subscription.unwrap();
    session.records(0..2).await;
    assert_eq!(take(&mut subscription, 2).await, [0, 1]);
    let serving = async {
        let credit = session.expect("credit").await;
        assert_eq!(
            (&credit["topic"], &credit["add"]),
            (&Value::from("t"), &Value::from(2))
        );
        session.records(2..3).await;
    };
    let (offsets, ()) = tokio::join!(take(&mut subscription, 1), serving);
    assert_eq!(offsets, [2]);
}

#[tokio::test]
async fn refusal_reaches_its_caller_with_code_and_pause() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let serving = async {
        let id = session.expect("publish").await["id"].clone();
        let line = format!(
            r#"{{"type":"error","id":{id},"code":"overloaded","message":"too much","retryable":true,"retry_after_ms":50}}"#
        );
        session.send(&line).await;
    };
    let (outcome, ()) = tokio::join!(client.publish(record("1")), serving);
    let Err(Error::Refused(error)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (error.code.as_str(), error.retry_after_ms),
        ("overloaded", Some(50))
    );
}

#[tokio::test]
async fn refusal_of_an_unacknowledged_record_is_an_event() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let mut events = client.events();
    let Ok(Outcome::Sent { id }) = client.publish(record("1").with_ack(Ack::None)).await else {
        panic!("it waited")
    };
    session.expect("publish").await;
    session
        .send(&format!(
            r#"{{"type":"error","id":{id},"code":"topic_not_found","message":"none"}}"#
        ))
        .await;
    let Event::Refused(error) = events.recv().await.unwrap() else {
        panic!("another event")
    };
    assert_eq!(error.id, Some(callboard_protocol::FrameId::Number(id)));
}

#[tokio::test]
async fn frame_that_is_too_large_is_refused_before_it_is_sent() {
    let (_broker, _session, client) = connected(ConnectOptions::default()).await;
    let outcome = client.publish(record(&format!("\"{}\"", "x".repeat(5000)))).await;
    assert!(
        matches!(outcome, Err(Error::FrameTooLarge { bytes_max: 4096, .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn deleted_topic_ends_its_subscription_and_no_other() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let (subscription, _) = tokio::join!(client.subscribe(Subscribe::topic("t")), session.subscribed(0));
    let mut subscription = subscription.unwrap();
    session
        .send(r#"{"type":"unsubscribed","topic":"t","reason":"topic_deleted"}"#)
        .await;
    let event = subscription.next_event().await;
    assert!(
        matches!(event, Some(SubscriptionEvent::Ended { ref reason }) if reason == "topic_deleted"),
        "{event:?}"
    );
    assert!(subscription.next_event().await.is_none());
    let (again, _) = tokio::join!(client.subscribe(Subscribe::topic("t")), session.subscribed(0));
    assert!(again.is_ok());
}

#[tokio::test]
async fn client_without_reconnect_ends_with_its_connection() {
    let options = ConnectOptions {
        reconnect: Reconnect::Never,
        ..ConnectOptions::default()
    };
    let (_broker, mut session, client) = connected(options).await;
    let (subscription, _) = tokio::join!(client.subscribe(Subscribe::topic("t")), session.subscribed(0));
    let mut subscription = subscription.unwrap();
    drop(session);
    assert!(matches!(
        subscription.next_event().await,
        Some(SubscriptionEvent::Ended { .. })
    ));
    assert!(client.publish(record("1")).await.is_err());
}

#[tokio::test]
async fn close_sends_what_waits() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    for number in 0..100 {
        client
            .publish(record(&number.to_string()).with_ack(Ack::None))
            .await
            .unwrap();
    }
    let serving = async {
        for number in 0..100 {
            assert_eq!(session.expect("publish").await["payload"], number);
        }
        assert!(matches!(session.socket.next().await, Some(Ok(Message::Close(_)))));
        // The library has queued the answer; it reports the sent answer as the end of the connection.
        drop(session.socket.flush().await);
    };
    tokio::join!(client.close(), serving);
}

#[tokio::test]
async fn nobody_listening_is_said_with_the_address() {
    let (broker, url) = Broker::start().await;
    drop(broker);
    let error = Client::connect(&url, ConnectOptions::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&url), "{error}");
}

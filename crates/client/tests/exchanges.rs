//! Exchanges, later records and notices of the client against a scripted broker.
#![expect(clippy::unwrap_used, reason = "tests")]

mod broker;

use std::time::Duration;

use callboard_client::{
    Ack, Binding, Client, ConnectOptions, Error, ExchangeKind, Outcome, Payload, Publish, RecordResult, Route,
};
use callboard_protocol::Timestamp;
use serde_json::json;

use crate::broker::{Session, connected, quick};

impl Session {
    async fn reply(&mut self, id: &serde_json::Value, rest: &str) {
        self.send(&format!(r#"{{"id":{id},{rest}}}"#)).await;
    }
}

fn offset(route: &Route) -> u64 {
    match route.result {
        RecordResult::Stored { offset, .. } => offset.0,
        _ => panic!("{route:?}"),
    }
}

fn reading() -> Publish {
    Publish::routed("readings", "plant.temp", Payload::json("21.5").unwrap())
}

#[tokio::test]
async fn exchange_is_declared_bound_and_published_to() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let binding = Binding::to_topic("readings", "plant", "plant.#");
    let asking = async {
        client
            .declare_exchange("readings", ExchangeKind::Topic, Some("lost"))
            .await
            .unwrap();
        client.bind(&binding).await.unwrap();
        let Outcome::Published(published) = client.publish(reading()).await.unwrap() else {
            panic!("it is answered")
        };
        let refused = client.unbind(&binding).await;
        (published, refused)
    };
    let answering = async {
        let mut declare = session.expect("declare").await;
        session.reply(&declare["id"], r#""type":"ok""#).await;
        declare["id"].take();
        assert_eq!(
            declare,
            json!({"type":"declare","id":null,"exchange":"readings","kind":"topic","alternate":"lost"})
        );
        let bind = session.expect("bind").await;
        assert_eq!(bind["routing_key"], "plant.#");
        session.reply(&bind["id"], r#""type":"ok""#).await;
        let publish = session.expect("publish").await;
        assert_eq!(
            (&publish["exchange"], &publish["topic"]),
            (&json!("readings"), &json!(null))
        );
        let routes = r#""type":"published","exchange":"readings","routes":[{"topic":"a","partition":0,"offset":5},{"topic":"plant","partition":2,"offset":9}],"durability":"fsync""#;
        session.reply(&publish["id"], routes).await;
        let unbind = session.expect("unbind").await;
        let error = r#""type":"error","code":"exchange_not_found","message":"there is no exchange readings","retryable":false"#;
        session.reply(&unbind["id"], error).await;
    };
    let ((published, refused), ()) = tokio::join!(asking, answering);
    let routes: Vec<(&str, u64)> = published
        .routes
        .iter()
        .map(|route| (&*route.topic, offset(route)))
        .collect();
    assert_eq!(routes, [("a", 5), ("plant", 9)]);
    assert!(matches!(refused, Err(Error::Refused(error)) if error.code == "exchange_not_found"));
}

#[tokio::test]
async fn lost_connection_repeats_a_binding_and_fails_an_unbinding() {
    let (broker, mut session, client) = connected(quick()).await;
    let binding = Binding::to_exchange("readings", "all", "");
    let asking = async { tokio::join!(client.bind(&binding), client.unbind(&binding)) };
    let answering = async {
        session.expect("bind").await;
        session.expect("unbind").await;
        drop(session);
        let mut session = broker.accept().await;
        let again = session.expect("bind").await;
        session.reply(&again["id"], r#""type":"ok""#).await;
        session
    };
    let ((bound, unbound), _session) = tokio::join!(asking, answering);
    assert_eq!(bound, Ok(()));
    assert!(matches!(unbound, Err(Error::Disconnected { .. })), "{unbound:?}");
}

#[tokio::test]
async fn later_record_is_named_by_its_answer() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let asking = async {
        let publish = Publish::json("later", "1").unwrap();
        let after = client
            .publish_after(publish.clone(), Duration::from_secs(60))
            .await;
        let at = client.publish_at(publish, Timestamp(1_795_146_000_123)).await;
        (after.unwrap(), at.unwrap())
    };
    let answering = async {
        for (field, value) in [
            ("delay_ms", json!(60_000)),
            ("deliver_at", json!("2026-11-20T03:40:00.123Z")),
        ] {
            let publish = session.expect("publish").await;
            assert_eq!(publish[field], value);
            let rest = r#""type":"published","topic":"later","scheduled":"s-0-41","deliver_at":1795146000123,"durability":"fsync""#;
            session.reply(&publish["id"], rest).await;
        }
    };
    let ((after, at), ()) = tokio::join!(asking, answering);
    for published in [after, at] {
        assert_eq!(published.scheduled.as_deref(), Some("s-0-41"));
        assert_eq!(published.deliver_at.unwrap().0, 1_795_146_000_123);
        assert_eq!(published.offset, None);
    }
}

async fn publish_with_notice(session: &mut Session, client: &Client, correlation_id: &str) {
    let publish = Publish::json("t", "1")
        .unwrap()
        .with_notify(Ack::Processed, correlation_id);
    let answering = async {
        let frame = session.expect("publish").await;
        assert_eq!(
            frame["notify"],
            json!({"on":"processed","correlation_id":correlation_id})
        );
        let rest = r#""type":"published","topic":"t","partition":0,"offset":3,"durability":"fsync""#;
        session.reply(&frame["id"], rest).await;
    };
    let (published, ()) = tokio::join!(client.publish(publish), answering);
    assert!(published.is_ok());
}

#[tokio::test]
async fn every_reader_gets_every_notice_in_order() {
    let (_broker, mut session, client) = connected(ConnectOptions::default()).await;
    let mut first = client.notices().await.unwrap();
    let mut second = client.notices().await.unwrap();
    let gone = client.notices().await.unwrap();
    publish_with_notice(&mut session, &client, "c-1").await;
    drop(gone);
    for line in [
        r#"{"type":"notice","correlation_id":"c-1","on":"processed","topic":"t","partition":0,"offset":3,"result":1.10}"#,
        r#"{"type":"notice","correlation_id":"c-2","on":"processed","topic":"t","error":{"code":"dead_lettered","message":"not a number","retryable":false,"partition":0,"offset":4}}"#,
    ] {
        session.send(line).await;
    }
    for notices in [&mut first, &mut second] {
        let notice = notices.next().await.unwrap();
        assert_eq!((&*notice.correlation_id, notice.offset.unwrap().0), ("c-1", 3));
        assert_eq!(notice.result.as_deref(), Some("1.10"));
        let notice = notices.next().await.unwrap();
        assert_eq!((&*notice.correlation_id, notice.offset), ("c-2", None));
        assert_eq!(notice.error.unwrap().offset.unwrap().0, 4);
    }
    drop(session);
    client.close().await;
    assert!(first.next().await.is_none(), "they end with the client");
}

//! Publishes that an exchange leads to several topics: all of them store a record, or none does.

use std::sync::Arc;

use callboard_protocol::{
    ErrorCode, ExchangeKind, ExchangeName, Offset, TopicName,
    client::{Bind, BindTo, NewRecord},
    server::{RecordResult, RoutedResult},
};
use serde_json::{Value, json};

use actix::Actor as _;
use callboard_core::exchange::Exchange;
use tokio::sync::oneshot;

use super::{
    Running,
    failing::{FailingStore, Mode},
    sessions::create,
    waits::Talker,
};
use crate::{
    actors::{
        Shared,
        append::Asked,
        broker::{BrokerActor, DeclareExchange},
        directory::PartitionRef,
        gateway::{
            self,
            exchanges::{self, Creation, NewExchange, Sender},
        },
        group::handle::GroupPart,
        partition::{InjectPanic, Stall},
        readers::Readers,
    },
    store::{
        Fact, FactChange, Store as _,
        journal::{JournalOptions, JournalStore},
        memory::MemoryStore,
    },
};

async fn exchange(broker: &Running, name: &str, kind: ExchangeKind) {
    let new = NewExchange {
        name: ExchangeName::parse(name).unwrap(),
        kind,
        alternate: None,
    };
    exchanges::declare_exchange(&broker.shared, new, Creation::New)
        .await
        .unwrap();
}

async fn bind(broker: &Running, name: &str, topic: &str, routing_key: &str) {
    let bind = Bind {
        exchange: ExchangeName::parse(name).unwrap(),
        to: BindTo::Topic(TopicName::parse(topic).unwrap()),
        routing_key: routing_key.to_owned(),
    };
    exchanges::bind(&broker.shared, bind).await.unwrap();
}

/// A fan-out exchange `all` to these topics.
async fn fan_out(broker: &Running, topics: &[&str]) {
    exchange(broker, "all", ExchangeKind::Fanout).await;
    for topic in topics {
        bind(broker, "all", topic, "").await;
    }
}

fn part(broker: &Running, topic: &str) -> Arc<PartitionRef> {
    broker.shared.directory.get(topic).unwrap().partitions()[0].clone()
}

fn kept(broker: &Running, topic: &str) -> u64 {
    part(broker, topic).next_offset().0
}

fn publish(id: u64, payload: &Value) -> Value {
    json!({"type": "publish", "id": id, "exchange": "all", "routing_key": "k", "payload": payload})
}

async fn durable(directory: &tempfile::TempDir) -> Running {
    let store = JournalStore::open(directory.path(), JournalOptions::default()).unwrap();
    Running::start_durable(Arc::new(store)).await
}

#[actix_rt::test]
async fn record_is_stored_in_every_topic_that_it_is_routed_to() {
    let directory = tempfile::tempdir().unwrap();
    let broker = durable(&directory).await;
    fan_out(&broker, &["a", "b", "c"]).await;
    let mut client = Talker::connect(&broker).await;
    for id in 0..20 {
        let answer = client.ask(publish(id, &json!(id))).await;
        let routes: Vec<Value> = ["a", "b", "c"]
            .iter()
            .map(|topic| json!({"topic": topic, "partition": 0, "offset": id}))
            .collect();
        let expected = json!({"type": "published", "id": id, "exchange": "all", "routes": routes, "durability": "fsync"});
        assert_eq!(answer, expected);
    }
}

#[actix_rt::test]
async fn full_topic_refuses_for_all_and_touches_no_neighbour() {
    let broker = Running::start().await;
    create(&broker, "b", json!({"records_max": 2})).await;
    fan_out(&broker, &["a", "b", "c"]).await;
    let mut client = Talker::connect(&broker).await;
    let records: Vec<Value> = (0..4).map(|number| json!({"payload": number})).collect();
    let frame = json!({"type": "publish", "id": 1, "exchange": "all", "messages": records});
    let answer = client.ask(frame).await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    for (number, result) in results[..2].iter().enumerate() {
        for route in result["routes"].as_array().unwrap() {
            assert_eq!(route["offset"], number, "{answer}");
        }
    }
    for result in &results[2..] {
        assert_eq!(result["error"]["code"], "topic_full", "{answer}");
        assert!(result["error"]["message"].as_str().unwrap().starts_with("b: "));
    }
    let refused = client.ask(publish(2, &json!("more"))).await;
    assert_eq!(refused["code"], "topic_full");
    for topic in ["a", "b", "c"] {
        assert_eq!(kept(&broker, topic), 2);
    }
    // Nothing that was reserved stays: the next record of one of the topics has the next offset.
    let alone = json!({"type": "publish", "id": 3, "topic": "a", "payload": null});
    assert_eq!(client.ask(alone).await["offset"], 2);
}

#[actix_rt::test]
async fn record_too_large_for_one_topic_leaves_the_others_of_its_frame() {
    let broker = Running::start().await;
    create(&broker, "small", json!({"record_bytes_max": 10})).await;
    fan_out(&broker, &["large", "small"]).await;
    let mut client = Talker::connect(&broker).await;
    let long = "x".repeat(100);
    let records =
        json!([{"payload": 1}, {"payload": long}, {"payload": 2}, {"payload": long}, {"payload": 3}]);
    let frame = json!({"type": "publish", "id": 1, "exchange": "all", "messages": records});
    let answer = client.ask(frame).await;
    let offsets: Vec<Value> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| match result.get("error") {
            Some(error) => error["code"].clone(),
            None => result["routes"][1]["offset"].clone(),
        })
        .collect();
    assert_eq!(
        json!(offsets),
        json!([0, "record_too_large", 1, "record_too_large", 2])
    );
    assert_eq!((kept(&broker, "large"), kept(&broker, "small")), (3, 3));
}

#[actix_rt::test]
async fn repeat_is_answered_with_its_first_offsets() {
    let broker = Running::start().await;
    fan_out(&broker, &["a", "b"]).await;
    let mut client = Talker::connect(&broker).await;
    let frame =
        |id: u64| json!({"type": "publish", "id": id, "exchange": "all", "message_id": "m", "payload": 1});
    let first = client.ask(frame(1)).await;
    // One that came later has not had the record, and gets it now.
    bind(&broker, "all", "c", "").await;
    let again = client.ask(frame(2)).await;
    assert_eq!(first["routes"][0]["duplicate"], Value::Null);
    assert_eq!(
        again["routes"][0],
        json!({"topic": "a", "partition": 0, "offset": 0, "duplicate": true})
    );
    assert_eq!(again["routes"][1]["duplicate"], true);
    assert_eq!(
        again["routes"][2],
        json!({"topic": "c", "partition": 0, "offset": 0})
    );
    assert_eq!((kept(&broker, "a"), kept(&broker, "c")), (1, 1));
}

#[actix_rt::test]
async fn refusing_store_stores_in_no_topic() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_durable(store.clone()).await;
    fan_out(&broker, &["a", "b"]).await;
    let mut client = Talker::connect(&broker).await;
    client.ask(publish(1, &json!(1))).await;
    store.set(Mode::Refuse);
    let refused = client.ask(publish(2, &json!(2))).await;
    assert_eq!(refused["code"], "storage_failed", "{refused}");
    store.set(Mode::Store);
    assert_eq!((kept(&broker, "a"), kept(&broker, "b")), (1, 1));
    loop {
        let answer = client.ask(publish(3, &json!(3))).await;
        if answer["type"] == "published" {
            assert_eq!(answer["routes"][0]["offset"], 1);
            assert_eq!(answer["routes"][1]["offset"], 1);
            break;
        }
        assert_eq!(answer["code"], "storage_failed", "{answer}");
    }
}

#[actix_rt::test]
async fn partition_that_dies_frees_the_others() {
    let broker = Running::start().await;
    fan_out(&broker, &["a", "b"]).await;
    let mut client = Talker::connect(&broker).await;
    client.ask(publish(1, &json!(1))).await;
    let (a, b) = (part(&broker, "a"), part(&broker, "b"));
    let (first, last) = if a.key < b.key { (&a, &b) } else { (&b, &a) };
    let (blocked, is_blocked) = tokio::sync::oneshot::channel();
    let (go, may_go) = std::sync::mpsc::channel();
    let died = last.addr().unwrap();
    died.do_send(Stall { blocked, may_go });
    is_blocked.await.unwrap();
    died.do_send(InjectPanic);
    let record = || vec![Ok(NewRecord::default())];
    let (shared, name) = (broker.shared.clone(), first.topic.clone());
    let lost = actix_rt::spawn(async move {
        let who = (Asked::DURABLE, Sender::default());
        exchanges::publish_routed(&shared, "all", "k", record(), who).await
    });
    let shared = broker.shared.clone();
    let waiting = actix_rt::spawn(async move {
        let topic = shared.directory.get(name.as_str()).unwrap();
        gateway::publish(&shared, &topic, record(), Asked::DURABLE).await
    });
    // Both are at the first partition, one of them held by it, when the last one goes on and dies.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let (handled, is_handled) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    let probe = Stall {
        blocked: handled,
        may_go: may_go_on,
    };
    first.addr().unwrap().do_send(probe);
    is_handled.await.unwrap();
    go_on.send(()).unwrap();
    go.send(()).unwrap();
    let lost = lost.await.unwrap().unwrap();
    assert!(
        matches!(&lost[..], [RoutedResult::Refused(refusal)] if refusal.code == ErrorCode::Internal),
        "{lost:?}"
    );
    let waiting = waiting.await.unwrap().unwrap();
    assert!(
        matches!(&waiting[..], [RecordResult::Stored(_, stored)] if stored.offset == Offset(1)),
        "{waiting:?}"
    );
    loop {
        let answer = client.ask(publish(4, &json!(4))).await;
        if answer["type"] == "published" {
            break;
        }
    }
}

#[actix_rt::test]
async fn publishes_that_cross_never_wait_for_each_other_and_keep_their_order() {
    let broker = Running::start().await;
    exchange(&broker, "ab", ExchangeKind::Fanout).await;
    exchange(&broker, "bc", ExchangeKind::Fanout).await;
    exchange(&broker, "ca", ExchangeKind::Fanout).await;
    for (name, topics) in [("ab", ["a", "b"]), ("bc", ["b", "c"]), ("ca", ["c", "a"])] {
        for topic in topics {
            bind(&broker, name, topic, "").await;
        }
    }
    let rounds = 60;
    let publisher = |number: usize| {
        let broker = &broker;
        async move {
            let mut client = Talker::connect(broker).await;
            for round in 0..rounds {
                let payload = json!([number, round]);
                let routed = ["ab", "bc", "ca"][(number + round) % 3];
                client
                    .say(json!({"type": "publish", "id": 2 * round, "exchange": routed, "payload": payload}))
                    .await;
                let alone = ["a", "b", "c"][(number + round) % 3];
                client
                    .say(json!({"type": "publish", "id": 2 * round + 1, "topic": alone, "payload": payload}))
                    .await;
            }
            for id in 0..2 * rounds {
                let answer = client.answer(id as u64).await;
                assert_eq!(answer["type"], "published", "{answer}");
            }
        }
    };
    futures_util::future::join_all((0..6).map(publisher)).await;
    let mut total = 0;
    for topic in ["a", "b", "c"] {
        let log = part(&broker, topic).log().unwrap();
        let mut last = [-1; 6];
        let page = log.read(log.first_offset(), usize::MAX).unwrap();
        for (_, record) in page.batches.iter().flat_map(callboard_core::record::Batch::iter) {
            let (number, round): (usize, i64) = serde_json::from_slice(record.payload).unwrap();
            assert!(
                round >= last[number],
                "{topic}: {round} of {number} came after {}",
                last[number]
            );
            last[number] = round;
            total += 1;
        }
    }
    assert_eq!(total, 6 * rounds * 3);
}

#[actix_rt::test]
async fn memory_waits_for_the_disk_and_follows_it() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_durable(store.clone()).await;
    create(&broker, "memory", json!({"durability": "memory"})).await;
    create(&broker, "disk", json!({})).await;
    fan_out(&broker, &["memory", "disk"]).await;
    let mut client = Talker::connect(&broker).await;
    let answer = client.ask(publish(1, &json!(1))).await;
    assert_eq!(answer["durability"], "memory", "{answer}");
    store.set(Mode::Hold);
    client.say(publish(2, &json!(2))).await;
    while store.held() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        kept(&broker, "memory"),
        1,
        "shown before the disk had the other part"
    );
    // What comes behind it waits, and is served when the disk has refused.
    let mut other = Talker::connect(&broker).await;
    other
        .say(json!({"type": "publish", "id": 3, "topic": "memory", "payload": 3}))
        .await;
    store.set(Mode::Store);
    store.fail();
    assert_eq!(client.answer(2).await["code"], "storage_failed");
    assert_eq!(other.answer(3).await["offset"], 1);
}

#[actix_rt::test]
async fn publisher_waits_for_every_route() {
    let broker = Running::start().await;
    fan_out(&broker, &["a", "b"]).await;
    let mut client = Talker::connect(&broker).await;
    let mut frame = publish(1, &json!(1));
    frame["ack"] = json!("processed");
    client.say(frame).await;
    for (id, topic) in [(10, "a"), (11, "b")] {
        let mut worker = Talker::connect(&broker).await;
        worker
            .say(json!({"type": "subscribe", "id": id, "topic": topic, "group": "g", "mode": "shared"}))
            .await;
        let delivery = loop {
            let frame = worker.next().await;
            if frame["type"] == "message" {
                break frame["delivery"].clone();
            }
        };
        if topic == "b" {
            assert!(client.said().await.iter().all(|frame| frame["id"] != 1));
        }
        let ack = json!({"type": "ack", "id": 20, "deliveries": [delivery], "result": topic});
        assert_eq!(worker.ask(ack).await["type"], "ok");
    }
    let answer = client.answer(1).await;
    assert_eq!(answer["routes"][0]["result"], "a", "{answer}");
    assert_eq!(answer["routes"][1]["result"], "b");
}

#[actix_rt::test]
async fn unroutable_publish_is_refused_and_remembered_with_its_sender() {
    let broker = Running::start().await;
    exchange(&broker, "readings", ExchangeKind::Topic).await;
    bind(&broker, "readings", "plant", "plant.#").await;
    let mut client = Talker::connect(&broker).await;
    let frame = |id: u64, key: &str| json!({"type": "publish", "id": id, "exchange": "readings", "routing_key": key, "payload": 1});
    assert_eq!(
        client.ask(frame(1, "plant.boiler")).await["routes"][0]["topic"],
        "plant"
    );
    let refused = client.ask(frame(2, "garden.tap")).await;
    assert_eq!(refused["code"], "unroutable");
    let noted = exchanges::unroutable(&broker.shared);
    assert_eq!(noted.len(), 1);
    assert_eq!(
        (noted[0].exchange.as_str(), noted[0].routing_key.as_str()),
        ("readings", "garden.tap")
    );
    assert!(noted[0].session.is_some() && noted[0].remote.is_some());
    let nowhere = json!({"type": "publish", "id": 3, "exchange": "none", "payload": 1});
    assert_eq!(client.ask(nowhere).await["code"], "exchange_not_found");
    // A binding that comes counts for a session that has published already, and one that goes as well.
    bind(&broker, "readings", "garden", "garden.*").await;
    assert_eq!(
        client.ask(frame(4, "garden.tap")).await["routes"][0]["topic"],
        "garden"
    );
    gateway::delete_topic(&broker.shared, "garden").await.unwrap();
    assert_eq!(client.ask(frame(5, "garden.tap")).await["code"], "unroutable");
}

#[actix_rt::test]
async fn exchange_without_a_name_routes_by_the_topics_name() {
    let broker = Running::start().await;
    let mut client = Talker::connect(&broker).await;
    let frame = json!({"type": "publish", "id": 1, "exchange": "", "routing_key": "jobs", "payload": 1});
    let answer = client.ask(frame).await;
    assert_eq!(
        answer["routes"],
        json!([{"topic": "jobs", "partition": 0, "offset": 0}]),
        "{answer}"
    );
    assert_eq!(answer["exchange"], "");
}

#[actix_rt::test]
async fn publisher_is_noticed_when_its_record_comes_so_far() {
    let broker = Running::start().await;
    let mut client = Talker::connect(&broker).await;
    let frame = |id: u64, on: &str| {
        let notify = json!({"on": on, "correlation_id": format!("c-{id}")});
        json!({"type": "publish", "id": id, "topic": "jobs", "payload": id, "notify": notify, "ack": "accepted"})
    };
    for (id, on) in [(0, "durable"), (1, "delivered"), (2, "processed")] {
        assert_eq!(client.ask(frame(id, on)).await["offset"], id);
    }
    let notices = |frames: Vec<Value>| -> Vec<Value> {
        frames
            .into_iter()
            .filter(|frame| frame["type"] == "notice")
            .collect()
    };
    assert_eq!(
        notices(client.said().await),
        [
            json!({"type": "notice", "correlation_id": "c-0", "on": "durable", "topic": "jobs", "partition": 0, "offset": 0})
        ]
    );
    let mut worker = Talker::connect(&broker).await;
    worker
        .say(json!({"type": "subscribe", "id": 1, "topic": "jobs", "group": "g", "mode": "shared"}))
        .await;
    let mut deliveries = Vec::new();
    while deliveries.len() < 3 {
        let frame = worker.next().await;
        if frame["type"] == "message" {
            deliveries.push(frame["delivery"].clone());
        }
    }
    let delivered = client.next().await;
    assert_eq!(
        (&delivered["correlation_id"], &delivered["on"]),
        (&json!("c-1"), &json!("delivered"))
    );
    let ack = json!({"type": "ack", "id": 2, "deliveries": deliveries, "result": {"done": true}});
    worker.ask(ack).await;
    let processed = client.next().await;
    assert_eq!(processed["correlation_id"], "c-2", "{processed}");
    assert_eq!(
        (&processed["result"], &processed["offset"]),
        (&json!({"done": true}), &json!(2))
    );
}

#[actix_rt::test]
async fn refused_set_takes_nothing_along_that_is_on_its_way() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_durable(store.clone()).await;
    fan_out(&broker, &["a", "b"]).await;
    let mut client = Talker::connect(&broker).await;
    store.set(Mode::Hold);
    for (id, topic) in [(1, "a"), (2, "b")] {
        let alone = json!({"type": "publish", "id": id, "topic": topic, "payload": id});
        client.say(alone).await;
    }
    while store.held() < 2 {
        tokio::task::yield_now().await;
    }
    store.set(Mode::Refuse);
    let refused = client.ask(publish(3, &json!(3))).await;
    assert_eq!(refused["code"], "storage_failed", "{refused}");
    store.set(Mode::Store);
    store.release();
    for id in [1, 2] {
        let answer = client.answer(id).await;
        assert_eq!(answer["offset"], 0, "stored, and yet: {answer}");
    }
    let answer = client.ask(publish(4, &json!(4))).await;
    for route in answer["routes"].as_array().unwrap() {
        assert_eq!(route["offset"], 1, "{answer}");
    }
}

#[actix_rt::test]
async fn route_to_a_topic_that_can_not_be_used_stores_nothing_and_is_answered() {
    let broker = Running::start().await;
    fan_out(&broker, &["a", "b"]).await;
    exchange(&broker, "one", ExchangeKind::Fanout).await;
    bind(&broker, "one", "b", "").await;
    let mut client = Talker::connect(&broker).await;
    broker.shared.directory.remove("b");
    for (id, exchange) in [(1, "all"), (2, "one")] {
        let frame = json!({"type": "publish", "id": id, "exchange": exchange, "payload": id});
        let answer = client.ask(frame).await;
        assert_eq!(answer["code"], "topic_not_found", "{answer}");
    }
    assert_eq!(kept(&broker, "a"), 0);
}

#[actix_rt::test]
async fn record_that_is_due_already_takes_every_route_and_a_later_one_none_alone() {
    let broker = Running::start().await;
    fan_out(&broker, &["a", "b"]).await;
    let mut client = Talker::connect(&broker).await;
    let mut frame = publish(1, &json!(1));
    frame["delay_ms"] = json!(0);
    let answer = client.ask(frame).await;
    assert_eq!(answer["routes"].as_array().map(Vec::len), Some(2), "{answer}");
    let mut frame = publish(2, &json!(2));
    frame["delay_ms"] = json!(60_000);
    frame["ttl_ms"] = json!(0);
    let answer = client.ask(frame).await;
    assert_eq!(answer["code"], "invalid_argument", "{answer}");
    assert_eq!(part(&broker, "a").scheduled() + part(&broker, "b").scheduled(), 0);
}

#[actix_rt::test]
async fn exchanges_are_neither_used_nor_changed_before_those_that_are_kept_are_read() {
    let store = Arc::new(MemoryStore::new());
    let kept = Fact {
        key: "binding/1".to_owned(),
        value: r#"{"exchange":"all","topic":"a","routing_key":""}"#.to_owned(),
    };
    let change = FactChange {
        key: kept.key.clone(),
        value: Some(kept.value.clone()),
    };
    store.keep_facts(vec![change]).await.unwrap().unwrap();
    let settings = Running::settings(true, true);
    let shared = Arc::new(Shared::new(settings, store.clone(), Readers::start(1).unwrap()));
    let (ready, _is_ready) = oneshot::channel();
    // None of its workers is there yet, and connections may come before the last one is.
    let registry = BrokerActor::new(shared.clone(), Vec::new(), 1, ready).start();
    let declare = DeclareExchange {
        exchange: Exchange {
            name: ExchangeName::parse("all").unwrap(),
            kind: ExchangeKind::Direct,
            alternate: None,
        },
        creation: Creation::Declare,
    };
    let refused = registry.send(declare).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overloaded);
    let refused = exchanges::find_route(&shared, ("all", "k"), 1, Sender::default).err();
    assert_eq!(refused.map(|refusal| refusal.code), Some(ErrorCode::Overloaded));
    assert_eq!(store.facts().unwrap(), [kept]);
}

#[actix_rt::test]
async fn routed_record_passes_nobody_who_waits_for_room() {
    let broker = Running::start().await;
    create(&broker, "full", json!({"records_max": 1, "when_full": "wait"})).await;
    fan_out(&broker, &["a", "full"]).await;
    let mut client = Talker::connect(&broker).await;
    let alone = |id: u64| json!({"type": "publish", "id": id, "topic": "full", "payload": id});
    assert_eq!(client.ask(alone(1)).await["offset"], 0);
    client.say(alone(2)).await;
    let full = part(&broker, "full");
    super::waits::until(|| full.waits.for_room()).await;
    // There is room, and nobody has said so yet.
    full.set_groups(Arc::new([GroupPart::detached(&full.topic, 1)]));
    let routed = client.ask(publish(3, &json!(3))).await;
    assert_eq!(routed["code"], "topic_full", "{routed}");
    assert_eq!(client.answer(2).await["offset"], 1);
    assert_eq!(kept(&broker, "a"), 0);
}

#[actix_rt::test]
async fn notice_that_waits_at_a_partition_that_dies_says_so() {
    let broker = Running::start().await;
    let mut client = Talker::connect(&broker).await;
    let notify = json!({"on": "processed", "correlation_id": "c"});
    let frame = json!({"type": "publish", "id": 1, "topic": "jobs", "payload": 1, "notify": notify});
    assert_eq!(client.ask(frame).await["offset"], 0);
    part(&broker, "jobs").addr().unwrap().do_send(InjectPanic);
    let notice = client.next().await;
    assert_eq!(notice["type"], "notice", "{notice}");
    assert_eq!(notice["error"]["code"], "internal", "{notice}");
}

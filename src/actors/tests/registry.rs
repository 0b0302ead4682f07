//! What many topics and bindings cost to make: counted in transactions, not in time.

use std::sync::Arc;

use callboard_core::exchange::BindingId;
use callboard_protocol::{
    ErrorCode, ExchangeKind, ExchangeName, TopicName,
    client::{Bind, BindTo},
    error::Refusal,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    Running,
    failing::{FailingStore, Mode},
    waits::Talker,
};
use crate::{
    actors::{
        broker::{AddBinding, CountChanges, Creation},
        gateway::exchanges::{self, NewExchange},
    },
    store::memory::MemoryStore,
};

const BINDINGS: usize = 200;

/// Asks for a binding each of these keys, all at once, and sees that they have all come.
async fn bind_all(
    broker: &Running,
    keys: std::ops::Range<usize>,
) -> tokio::task::JoinHandle<Vec<Result<BindingId, Refusal>>> {
    let addr = broker.shared.broker();
    let count = keys.len();
    let asked = keys.map(|number| {
        addr.send(AddBinding(Bind {
            exchange: ExchangeName::parse("all").unwrap(),
            to: BindTo::Topic(TopicName::parse("t").unwrap()),
            routing_key: format!("key.{number}"),
        }))
    });
    let answers = join_all(asked);
    let answers = actix_rt::spawn(async move { answers.await.into_iter().map(Result::unwrap).collect() });
    // The first one is being kept, and the others wait for it.
    while addr.send(CountChanges).await.unwrap() < count - 1 {
        tokio::task::yield_now().await;
    }
    answers
}

fn bindings(broker: &Running) -> usize {
    let known = broker.shared.exchanges.read();
    known.bindings_of("all").unwrap().len()
}

#[actix_rt::test]
async fn bindings_that_come_together_are_kept_together() {
    let store = Arc::new(FailingStore::default());
    let broker = Running::start_on(store.clone(), true).await;
    let mut client = Talker::connect(&broker).await;
    client
        .ask(json!({"type": "declare", "id": 1, "topic": "t"}))
        .await;
    let new = NewExchange {
        name: ExchangeName::parse("all").unwrap(),
        kind: ExchangeKind::Topic,
        alternate: None,
    };
    exchanges::declare_exchange(&broker.shared, new, Creation::New)
        .await
        .unwrap();

    store.hold_facts();
    let answers = bind_all(&broker, 0..BINDINGS).await;
    assert_eq!(
        store.settle_facts(Mode::Store),
        2,
        "the first alone, with its number"
    );
    while store.held_facts() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        store.settle_facts(Mode::Store),
        2 * (BINDINGS - 1),
        "and all others in one transaction"
    );
    let mut ids: Vec<_> = answers.await.unwrap().into_iter().map(Result::unwrap).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), BINDINGS, "each has a number of its own");
    assert_eq!(bindings(&broker), BINDINGS);

    let refused = bind_all(&broker, BINDINGS..BINDINGS + 50).await;
    store.settle_facts(Mode::Refuse);
    while store.held_facts() == 0 {
        tokio::task::yield_now().await;
    }
    store.settle_facts(Mode::Refuse);
    for answer in refused.await.unwrap() {
        assert_eq!(answer.unwrap_err().code, ErrorCode::StorageFailed);
    }
    assert_eq!(bindings(&broker), BINDINGS, "what is not kept is not in force");
}

#[actix_rt::test]
async fn frames_behind_declarations_find_what_these_make() {
    const TOPICS: u64 = 300;
    let broker = Running::start().await;
    let mut client = Talker::connect(&broker).await;
    for id in 0..TOPICS {
        client
            .say(json!({"type": "declare", "id": id, "topic": format!("t.{id}")}))
            .await;
    }
    client
        .say(json!({"type": "declare", "id": 1000, "exchange": "all", "kind": "fanout"}))
        .await;
    for id in 0..TOPICS {
        client
            .say(json!({"type": "bind", "id": 2000 + id, "exchange": "all", "topic": format!("t.{id}"), "routing_key": ""}))
            .await;
    }
    client
        .say(json!({"type": "unbind", "id": 3000, "exchange": "all", "topic": "t.7", "routing_key": ""}))
        .await;
    client
        .say(json!({"type": "publish", "id": 3001, "exchange": "all", "routing_key": "k", "payload": 1}))
        .await;
    for id in (0..TOPICS).chain([1000]).chain(2000..2000 + TOPICS).chain([3000]) {
        let answer = client.answer(id).await;
        assert_eq!(answer["type"], "ok", "{answer}");
    }
    let published = client.answer(3001).await;
    let routes = published["routes"].as_array().map(Vec::len);
    assert_eq!(routes, Some(TOPICS as usize - 1), "{published}");
    // So does what is like the frame before.
    for (topic, id) in [("t.7", 5000), ("more.1", 5002), ("more.2", 5004)] {
        client
            .say(json!({"type": "bind", "id": id, "exchange": "all", "topic": topic, "routing_key": ""}))
            .await;
        client
            .say(
                json!({"type": "publish", "id": id + 1, "exchange": "all", "routing_key": "k", "payload": 1}),
            )
            .await;
    }
    for (place, id) in [5001, 5003, 5005].into_iter().enumerate() {
        let published = client.answer(id).await;
        let routes = published["routes"].as_array().map(Vec::len);
        assert_eq!(routes, Some(TOPICS as usize + place), "{published}");
    }
    let refused: Value = client
        .ask(json!({"type": "bind", "id": 4000, "exchange": "none", "topic": "t.1", "routing_key": ""}))
        .await;
    assert_eq!(refused["code"], "exchange_not_found", "{refused}");
}

#[actix_rt::test]
async fn publish_like_the_one_before_waits_for_a_declaration_too() {
    let broker = Running::start_on(Arc::new(MemoryStore::new()), false).await;
    let mut client = Talker::connect(&broker).await;
    // As senders write it: only with the payload at the end is it read by its difference.
    let publish = |id: u64| format!(r#"{{"type":"publish","id":{id},"topic":"t","payload":{id}}}"#);
    client.say_text(publish(1)).await;
    assert_eq!(client.answer(1).await["code"], "topic_not_found");
    // In one message, so that the declaration is under way when the publish is looked at.
    let declare = json!({"type": "declare", "id": 2, "topic": "t"});
    client.say_text(format!("{declare}\n{}", publish(3))).await;
    let published = client.answer(3).await;
    assert_eq!(published["type"], "published", "{published}");
}

//! What must hold of the actors together, over real sockets: panics, slow sessions, acks.

mod client;
mod cold;
mod collect;
mod failing;
mod groups;
mod groups_faults;
mod raw;
mod registry;
mod room;
mod routed;
mod schedules;
mod sessions;
mod waits;
mod webhooks;
mod websocket;

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix::prelude::*;
use callboard_client::{
    Client, ConnectOptions, From, Outcome, Overflow, Publish, Subscribe, Subscription, SubscriptionEvent,
};
use tokio::sync::oneshot;

use super::{
    Settings, Shared, broker::BrokerActor, gateway, partition::InjectPanic, push::AllowPrivate,
    readers::Readers,
};
use crate::{
    store::{Store, memory::MemoryStore},
    web::server,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A broker in this process, on a free port of loopback.
struct Running {
    shared: Arc<Shared>,
    url: String,
}

impl Running {
    async fn start() -> Self {
        Self::start_on(Arc::new(MemoryStore::new()), true).await
    }

    async fn start_on(store: Arc<dyn Store>, auto_create: bool) -> Self {
        let memory_only = true;
        Self::start_with(store, auto_create, memory_only).await
    }

    /// A broker that keeps what it is told on disk.
    async fn start_durable(store: Arc<dyn Store>) -> Self {
        let (auto_create, memory_only) = (true, false);
        Self::start_with(store, auto_create, memory_only).await
    }

    async fn start_with(store: Arc<dyn Store>, auto_create: bool, memory_only: bool) -> Self {
        let settings = Self::settings(auto_create, memory_only);
        let shared = Arc::new(Shared::new(settings, store, Readers::start(1).unwrap()));
        let (ready, is_ready) = oneshot::channel();
        BrokerActor::new(shared.clone(), Vec::new(), 2, ready).start();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        actix_rt::spawn(server::start(shared.clone(), listener, &[], 2).unwrap());
        is_ready.await.unwrap();
        Self { shared, url }
    }

    fn settings(auto_create: bool, memory_only: bool) -> Settings {
        Settings {
            auto_create,
            memory_only,
            heartbeat_ms: 15_000,
            session_timeout_ms: 120_000,
            member_timeout_ms: 30_000,
            rejoin_grace_ms: 5_000,
            temporary_grace_ms: 60_000,
            revoke_grace_ms: 1_000,
            webhook_allow_private: AllowPrivate::Yes,
        }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.url, ConnectOptions::default())
            .await
            .unwrap()
    }
}

async fn publish(client: &Client, topic: &str, payload: &str) -> u64 {
    match client
        .publish(Publish::json(topic, payload).unwrap())
        .await
        .unwrap()
    {
        Outcome::Published(published) => published.offset.unwrap().0,
        Outcome::Sent { .. } => panic!("an ack was asked for"),
    }
}

async fn next_payload(subscription: &mut Subscription) -> String {
    loop {
        let event = tokio::time::timeout(PATIENCE, subscription.next_event())
            .await
            .unwrap()
            .unwrap();
        if let SubscriptionEvent::Record(message) = event {
            return message.payload.unwrap().get().to_owned();
        }
    }
}

#[actix_rt::test]
async fn panicking_partition_is_started_again_and_subscribers_go_on() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let mut subscription = client
        .subscribe(Subscribe::topic("jobs").from(From::Earliest))
        .await
        .unwrap();
    for number in 0..3 {
        assert_eq!(publish(&client, "jobs", &number.to_string()).await, number);
    }
    let part = broker.shared.directory.get("jobs").unwrap().partitions()[0].clone();
    for round in 1..4 {
        let died = part.addr().unwrap();
        died.do_send(InjectPanic);
        // Refused as retryable while nobody is there, and then taken again.
        loop {
            let record = Publish::json("jobs", &format!("\"round {round}\"")).unwrap();
            match client.publish(record).await {
                Ok(_) => break,
                Err(callboard_client::Error::Refused(error)) => assert!(error.retryable, "{error:?}"),
                Err(other) => panic!("{other}"),
            }
        }
        assert_ne!(part.addr().unwrap(), died);
    }
    for expected in ["0", "1", "2", "\"round 1\"", "\"round 2\"", "\"round 3\""] {
        assert_eq!(next_payload(&mut subscription).await, expected);
    }
}

#[actix_rt::test]
async fn panicking_topic_is_started_again_with_its_partitions() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let mut subscription = client
        .subscribe(Subscribe::topic("jobs").from(From::Earliest))
        .await
        .unwrap();
    publish(&client, "jobs", "1").await;
    let topic = broker.shared.directory.get("jobs").unwrap();
    broker
        .shared
        .broker()
        .send(super::broker::PanicTopic("jobs".to_owned()))
        .await
        .unwrap();
    publish(&client, "jobs", "2").await;
    // The new TopicActor owns the old partition: it adds one to it, and starts one again that dies.
    let patched = gateway::patch_topic(&broker.shared, "jobs", "{\"partitions\":2}".to_owned())
        .await
        .unwrap();
    assert_eq!(patched.partitions().len(), 2);
    topic.partitions()[0].addr().unwrap().do_send(InjectPanic);
    let part = topic.partitions()[0].clone();
    let mut tries = 0;
    while client
        .publish(Publish::json("jobs", "3").unwrap().with_partition(part.id))
        .await
        .is_err()
    {
        tries += 1;
        assert!(tries < 10_000, "the partition never came back");
    }
    for expected in ["1", "2", "3"] {
        assert_eq!(next_payload(&mut subscription).await, expected);
    }
}

#[actix_rt::test]
async fn raised_partitions_are_announced_and_followed() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let mut subscription = client.subscribe(Subscribe::topic("jobs")).await.unwrap();
    gateway::patch_topic(&broker.shared, "jobs", "{\"partitions\":4}".to_owned())
        .await
        .unwrap();
    for partition in 0..4 {
        let record = Publish::json("jobs", &partition.to_string()).unwrap();
        client
            .publish(record.with_partition(callboard_protocol::PartitionId(partition)))
            .await
            .unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(next_payload(&mut subscription).await);
    }
    seen.sort();
    assert_eq!(seen, ["0", "1", "2", "3"]);
}

#[actix_rt::test]
async fn credit_bounds_what_is_given_over_all_partitions() {
    let broker = Running::start().await;
    let client = broker.client().await;
    gateway::topic_or_new(
        &broker.shared,
        "jobs",
        super::broker::Want::New {
            config: "{\"partitions\":3}".to_owned(),
        },
    )
    .await
    .unwrap();
    for number in 0..30 {
        publish(&client, "jobs", &number.to_string()).await;
    }
    let mut subscription = client
        .subscribe(Subscribe::topic("jobs").from(From::Earliest).with_credit(10))
        .await
        .unwrap();
    // The client gives credit back as its user takes records, so all come in the end.
    for _ in 0..30 {
        next_payload(&mut subscription).await;
    }
}

#[actix_rt::test]
async fn conflating_subscriber_gets_the_newest_of_each_key() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let mut subscription = client
        .subscribe(
            Subscribe::topic("prices")
                .with_overflow(Overflow::Conflate)
                .with_credit(1),
        )
        .await
        .unwrap();
    publish(&client, "prices", "0").await;
    for number in 1..=50 {
        let record = Publish::json("prices", &number.to_string())
            .unwrap()
            .with_key("k");
        client.publish(record).await.unwrap();
    }
    let mut last = String::new();
    while last != "50" {
        last = next_payload(&mut subscription).await;
    }
}

#[actix_rt::test]
async fn deleted_topic_ends_its_subscriptions_and_begins_again_with_a_new_epoch() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let mut subscription = client.subscribe(Subscribe::topic("jobs")).await.unwrap();
    publish(&client, "jobs", "1").await;
    let epoch = broker.shared.directory.get("jobs").unwrap().epoch.clone();
    gateway::delete_topic(&broker.shared, "jobs").await.unwrap();
    loop {
        let event = tokio::time::timeout(PATIENCE, subscription.next_event())
            .await
            .unwrap();
        match event {
            Some(SubscriptionEvent::Ended { reason }) => break assert_eq!(reason, "topic_deleted"),
            Some(_) => {}
            None => panic!("ended without a reason"),
        }
    }
    assert_eq!(publish(&client, "jobs", "2").await, 0);
    assert_ne!(broker.shared.directory.get("jobs").unwrap().epoch, epoch);
}

//! Webhooks and notices where something of ours fails: they go on, and nothing is lost.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{Running, groups::group, sessions::create, waits::until};
use crate::actors::{
    gateway::{
        self,
        webhooks::{NewWebhook, describe},
    },
    partition::InjectPanic,
    webhook::registry::WebhookRef,
};

/// An endpoint in this process: remembers the bodies, and answers when it is let.
struct Endpoint {
    url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
    /// Answers are held back until this is told.
    gate: Option<Arc<Notify>>,
    status: Arc<AtomicU16>,
}

impl Endpoint {
    async fn start(status: u16, gate: Option<Arc<Notify>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
        let status = Arc::new(AtomicU16::new(status));
        let (kept, held, answered) = (bodies.clone(), gate.clone(), status.clone());
        actix_rt::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                actix_rt::spawn(serve(socket, answered.clone(), kept.clone(), held.clone()));
            }
        });
        Self {
            url,
            bodies,
            gate,
            status,
        }
    }

    fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) -> usize {
        self.bodies().len()
    }

    fn open(&self) {
        self.gate.as_ref().unwrap().notify_waiters();
    }
}

async fn serve(
    socket: TcpStream,
    status: Arc<AtomicU16>,
    bodies: Arc<Mutex<Vec<Value>>>,
    gate: Option<Arc<Notify>>,
) {
    let mut socket = BufReader::new(socket);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await.unwrap();
        let opened = gate.as_ref().map(|gate| gate.notified());
        bodies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(serde_json::from_slice(&body).unwrap());
        if let Some(opened) = opened {
            opened.await;
        }
        let status = status.load(Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 0\r\n\r\n");
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn webhook(broker: &Running, endpoint: &Endpoint, concurrency: u64) -> Arc<WebhookRef> {
    let wish = NewWebhook {
        topic: "jobs".into(),
        group: "crew".into(),
        url: endpoint.url.clone(),
        concurrency: Some(concurrency),
        ..NewWebhook::default()
    };
    let made = gateway::webhooks::create(&broker.shared, wish).await.unwrap();
    let webhook = broker.shared.webhooks.get(&made.id).unwrap();
    until(|| webhook.addr().is_some()).await;
    webhook
}

async fn publish(broker: &Running, numbers: std::ops::Range<u64>) {
    let client = broker.client().await;
    for number in numbers {
        super::publish(&client, "jobs", &number.to_string()).await;
    }
}

fn payloads(endpoint: &Endpoint) -> BTreeSet<u64> {
    let bodies = endpoint.bodies();
    bodies
        .iter()
        .map(|body| body["payload"].as_u64().unwrap())
        .collect()
}

#[actix_rt::test]
async fn webhook_whose_actor_dies_is_the_same_member_again_and_loses_nothing() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let gate = Arc::new(Notify::new());
    let endpoint = Endpoint::start(200, Some(gate)).await;
    let webhook = webhook(&broker, &endpoint, 2).await;
    publish(&broker, 0..10).await;
    until(|| endpoint.count() == 2).await;
    let died = webhook.addr().unwrap();
    died.do_send(InjectPanic);
    // The two that were under way come again.
    until(|| {
        let waiting = endpoint.bodies();
        waiting.iter().filter(|body| body["attempt"] == 2).count() == 2
    })
    .await;
    assert_ne!(webhook.addr().unwrap(), died);
    assert_eq!(webhook.status().in_flight, 2);
    until(|| {
        endpoint.open();
        webhook.status().succeeded == 10
    })
    .await;
    assert_eq!(payloads(&endpoint), (0..10).collect());
    let topic = broker.shared.directory.get("jobs").unwrap();
    let crew = gateway::groups::group(&broker.shared, &topic, "crew")
        .await
        .unwrap();
    assert_eq!(crew.members.len(), 1);
}

#[actix_rt::test]
async fn webhook_joins_its_group_again_that_died_and_is_not_called_more_than_it_wants() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let gate = Arc::new(Notify::new());
    let endpoint = Endpoint::start(200, Some(gate)).await;
    let webhook = webhook(&broker, &endpoint, 2).await;
    publish(&broker, 0..10).await;
    until(|| endpoint.count() == 2).await;
    let crew = group(&broker, "jobs", "crew");
    let died = crew.addr().unwrap();
    died.do_send(InjectPanic);
    until(|| crew.addr().is_some_and(|addr| addr != died)).await;
    // The new actor describes it, so it has let the webhook in by then or will; the calls of before still count.
    let topic = broker.shared.directory.get("jobs").unwrap();
    let mut has_joined = false;
    while !has_joined {
        let crew = gateway::groups::group(&broker.shared, &topic, "crew").await;
        has_joined = crew.is_ok_and(|crew| crew.members.len() == 1);
        tokio::task::yield_now().await;
    }
    assert_eq!((webhook.status().in_flight, endpoint.count()), (2, 2));
    until(|| {
        endpoint.open();
        webhook.status().succeeded >= 10 && payloads(&endpoint).len() == 10
    })
    .await;
    assert_eq!(describe(&webhook).state, "active");
}

#[actix_rt::test]
async fn webhook_that_is_deleted_before_it_has_begun_never_does() {
    let broker = Running::start().await;
    create(&broker, "jobs", json!({})).await;
    let endpoint = Endpoint::start(200, None).await;
    for _ in 0..20 {
        let wish = NewWebhook {
            topic: "jobs".into(),
            group: "crew".into(),
            url: endpoint.url.clone(),
            ..NewWebhook::default()
        };
        let made = gateway::webhooks::create(&broker.shared, wish).await.unwrap();
        let webhook = broker.shared.webhooks.get(&made.id).unwrap();
        gateway::webhooks::delete(&broker.shared, &webhook).await.unwrap();
        until(|| webhook.addr().is_some_and(|addr| !addr.connected())).await;
    }
    publish(&broker, 0..3).await;
    let topic = broker.shared.directory.get("jobs").unwrap();
    let mut lag = 0;
    // The group hears of records a moment after their publisher.
    while lag < 3 {
        let crew = gateway::groups::group(&broker.shared, &topic, "crew")
            .await
            .unwrap();
        assert_eq!((crew.members.len(), endpoint.count()), (0, 0));
        lag = crew.lag;
        tokio::task::yield_now().await;
    }
    assert_eq!(lag, 3);
}

#[actix_rt::test]
async fn notices_reach_their_endpoints_and_are_counted() {
    let broker = Running::start().await;
    let endpoint = Endpoint::start(204, None).await;
    let gone = Endpoint::start(410, None).await;
    let push = broker.shared.push();
    for number in 0..20 {
        let body = json!({"correlation_id": number.to_string()}).to_string();
        push.notice(&endpoint.url, &number.to_string(), Bytes::from(body));
    }
    push.notice(&gone.url, "c", Bytes::from_static(b"{}"));
    push.notice("ftp://hooks.example", "c", Bytes::from_static(b"{}"));
    until(|| push.notice_counts().waiting == 0).await;
    let counts = push.notice_counts();
    assert_eq!((counts.delivered, counts.failed, counts.dropped), (20, 2, 0));
    assert_eq!((endpoint.count(), gone.count()), (20, 1));
    let told: BTreeSet<String> = endpoint
        .bodies()
        .iter()
        .map(|body| body["correlation_id"].to_string())
        .collect();
    assert_eq!(told.len(), 20);
}

#[actix_rt::test]
async fn notice_that_is_not_taken_is_tried_again() {
    let broker = Running::start().await;
    let endpoint = Endpoint::start(503, None).await;
    let push = broker.shared.push();
    push.notice(&endpoint.url, "c", Bytes::from_static(b"{}"));
    until(|| endpoint.count() == 1).await;
    endpoint.status.store(200, Ordering::SeqCst);
    until(|| push.notice_counts().delivered == 1).await;
    let counts = push.notice_counts();
    assert_eq!((endpoint.count(), counts.waiting, counts.failed), (2, 0, 0));
}

#[actix_rt::test]
async fn hung_host_keeps_the_notices_of_no_other_waiting_and_what_is_too_much_is_dropped() {
    let broker = Running::start().await;
    let hung = Endpoint::start(200, Some(Arc::new(Notify::new()))).await;
    let endpoint = Endpoint::start(200, None).await;
    let push = broker.shared.push();
    let notice = || Bytes::from_static(b"{}");
    for _ in 0..9_990 {
        push.notice(&hung.url, "c", notice());
    }
    until(|| hung.count() > 0).await;
    for _ in 0..10 {
        push.notice(&endpoint.url, "c", notice());
    }
    until(|| push.notice_counts().delivered == 10).await;
    assert_eq!(endpoint.count(), 10);
    for _ in 0..30 {
        push.notice(&hung.url, "c", notice());
    }
    let counts = push.notice_counts();
    assert_eq!((counts.waiting, counts.dropped), (10_000, 20));
    // A few of them at a time, and no more.
    assert!(hung.count() <= 4, "{}", hung.count());
}

#[actix_rt::test]
async fn nothing_is_made_before_those_that_are_kept_are_there() {
    let broker = Running::start().await;
    // As a broker is that still opens its topics.
    let readers = crate::actors::readers::Readers::start(1).unwrap();
    let store = Arc::new(crate::store::memory::MemoryStore::new());
    let settings = broker.shared.settings.clone();
    let starting = Arc::new(crate::actors::Shared::new(settings, store, readers));
    let wish = NewWebhook {
        topic: "jobs".into(),
        group: "crew".into(),
        url: "http://127.0.0.1:9/".into(),
        ..NewWebhook::default()
    };
    let refused = gateway::webhooks::create(&starting, wish).await.err();
    let code = refused.map(|refusal| refusal.code);
    assert_eq!(code, Some(callboard_protocol::ErrorCode::Overloaded));
    assert_eq!(starting.webhooks.count(), 0);
}

#[actix_rt::test]
async fn change_is_seen_through_although_whoever_asked_has_gone() {
    let broker = Running::start().await;
    let wish = NewWebhook {
        topic: "jobs".into(),
        group: "crew".into(),
        url: "http://127.0.0.1:9/".into(),
        ..NewWebhook::default()
    };
    // Dropped at the first wait, as a handler is whose connection was reset.
    tokio::select! {
        biased;
        _ = gateway::webhooks::create(&broker.shared, wish) => panic!("it waits for the topic"),
        () = std::future::ready(()) => {}
    }
    until(|| broker.shared.webhooks.count() == 1).await;
    let webhook = broker.shared.webhooks.all().remove(0);
    until(|| webhook.addr().is_some()).await;
    tokio::select! {
        biased;
        _ = gateway::webhooks::delete(&broker.shared, &webhook) => {}
        () = std::future::ready(()) => {}
    }
    until(|| broker.shared.webhooks.count() == 0).await;
    until(|| !webhook.addr().unwrap().connected()).await;
}

//! Topics that go with their last subscriber, and subscribers who want to be alone.

use std::io::Read as _;

use serde_json::{Value, json};

use super::Watcher;
use crate::{
    groups::client::{Client, GROUP, TOPIC},
    support::{Broker, until},
};

const PATH: &str = "/api/v1/topics/jobs";

fn temporary(broker: &Broker) -> Client {
    let mut client = Client::new(broker);
    client.declare(json!({"temporary":true}));
    client
}

fn subscriber(broker: &Broker, topic: &str) -> Client {
    let mut client = Client::new(broker);
    client.expect(json!({"type":"subscribe","topic":topic}), "subscribed");
    client
}

fn is_there(broker: &Broker) -> bool {
    broker.get(PATH).status == 200
}

fn until_gone(broker: &Broker) {
    until("the topic to go", || (!is_there(broker)).then_some(()));
}

/// Asks the registry something that it answers only after what was sent to it before.
fn settle(broker: &Broker) {
    broker
        .request("PATCH", "/api/v1/topics/never.made")
        .json("{}")
        .send()
        .expect_problem(404, "topic_not_found");
}

#[test]
fn topics_of_six_sensors_go_with_who_reads_them() {
    let broker = Broker::start();
    let mut watcher = Watcher::new(&broker);
    let sensors: Vec<String> = (0..6).map(|number| format!("sensor.{number}")).collect();
    let mut all = Client::new(&broker);
    all.expect(json!({"type":"subscribe","topic":"sensor.*"}), "subscribed");
    for sensor in &sensors {
        all.expect(json!({"type":"declare","topic":sensor,"temporary":true}), "ok");
        watcher.until("topic_created", &json!({"topic":sensor,"temporary":true}));
    }
    let mut board = Client::new(&broker);
    for sensor in &sensors {
        board.expect(json!({"type":"subscribe","topic":sensor}), "subscribed");
        all.expect(
            json!({"type":"publish","topic":sensor,"payload":21.5}),
            "published",
        );
        assert_eq!(board.message()["topic"], *sensor);
    }
    let leaving = board.expect(json!({"type":"unsubscribe","topic":"sensor.3"}), "ok");
    assert!(leaving["error"].is_null());
    watcher.until("topic_deleted", &json!({"topic":"sensor.3"}));
    // Five are left, and whoever reads them is killed; the pattern keeps none of them.
    drop(board);
    let mut gone: Vec<String> = (0..5)
        .map(|_| {
            watcher.until("topic_deleted", &json!({}))["topic"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    gone.sort();
    assert_eq!(gone, ["sensor.0", "sensor.1", "sensor.2", "sensor.4", "sensor.5"]);
    let list = broker.get("/api/v1/topics").expect(200);
    assert_eq!(list["topics"].as_array().unwrap().len(), 1, "{list}");
}

#[test]
fn topic_stays_before_its_first_subscriber_and_until_its_last() {
    let broker = Broker::start();
    let mut publisher = temporary(&broker);
    publisher.publish(0, 0..3);
    broker.request("HEAD", &format!("{PATH}/events")).send();
    settle(&broker);
    assert!(is_there(&broker), "who only asks for the head does not subscribe");
    let first = subscriber(&broker, TOPIC);
    let second = subscriber(&broker, TOPIC);
    drop(first);
    let sessions = || broker.get("/api/v1/sessions").expect(200)["sessions"].clone();
    until("the first one to go", || {
        (sessions().as_array().unwrap().len() == 2).then_some(())
    });
    settle(&broker);
    assert!(is_there(&broker), "the second one is there");
    drop(second);
    until_gone(&broker);
}

#[test]
fn event_stream_is_a_subscriber() {
    // A stream that nobody reads is noticed when something is written to it.
    let broker = Broker::start_with(&["--heartbeat-ms", "100"]);
    let mut publisher = temporary(&broker);
    let mut stream = broker.request("GET", &format!("{PATH}/events")).open();
    assert_eq!(stream.status, 200);
    stream.read_exact(&mut [0; 1]).unwrap();
    let other = subscriber(&broker, TOPIC);
    drop(other);
    until("the session to go", || {
        let sessions = broker.get("/api/v1/sessions").expect(200);
        (sessions["sessions"].as_array().unwrap().len() == 1).then_some(())
    });
    settle(&broker);
    assert!(is_there(&broker));
    publisher.publish(0, 0..1);
    drop(stream);
    until_gone(&broker);
}

#[test]
fn named_member_that_may_come_back_keeps_the_topic() {
    let broker = Broker::start_with(&["--rejoin-grace-ms", "1500"]);
    let publisher = temporary(&broker);
    let mut watcher = Watcher::new(&broker);
    let mut member = Client::new(&broker);
    member.join(json!({"member":"only"}));
    member.owns(1);
    let session = watcher.until("member_joined", &json!({}))["session"].clone();
    drop(member);
    watcher.until("session_left", &json!({"session":session}));
    let mut member = Client::new(&broker);
    member.join(json!({"member":"only"}));
    member.owns(1);
    assert!(is_there(&broker), "it came back in time");
    drop(member);
    watcher.until("topic_deleted", &json!({"topic":TOPIC}));
    drop(publisher);
}

#[test]
fn leases_that_are_out_keep_the_topic() {
    let broker = Broker::start();
    let mut publisher = temporary(&broker);
    publisher.publish(0, 0..1);
    let mut worker = Client::new(&broker);
    worker.work(json!({}));
    let message = worker.message();
    worker.expect(json!({"type":"unsubscribe","topic":TOPIC,"group":GROUP}), "ok");
    settle(&broker);
    assert!(is_there(&broker));
    worker.ack(&message);
    until_gone(&broker);
}

#[test]
fn member_that_was_denied_does_not_count() {
    let broker = Broker::start();
    let _publisher = temporary(&broker);
    let mut first = Client::new(&broker);
    first.join(json!({"exclusive":true}));
    let mut second = Client::new(&broker);
    let joining = json!({"type":"subscribe","topic":TOPIC,"group":GROUP,"mode":"partitioned"});
    second.refused(joining, "conflict");
    first.leave();
    until_gone(&broker);
    assert!(second.has_none("unsubscribed"));
}

#[test]
fn restarted_broker_waits_a_while_for_subscribers() {
    let mut broker = Broker::start_with(&["--temporary-grace-ms", "700"]);
    let mut publisher = temporary(&broker);
    publisher.expect(json!({"type":"declare","topic":"kept","temporary":true}), "ok");
    let reader = subscriber(&broker, TOPIC);
    publisher.publish(0, 0..1);
    broker.kill();
    drop(reader);
    broker.restart();
    let mut back = Client::new(&broker);
    let subscribed = back.expect(
        json!({"type":"subscribe","topic":TOPIC,"from":"earliest"}),
        "subscribed",
    );
    assert_eq!(subscribed["offsets"], json!({"0":0}), "it is the same topic");
    until("the other one to go", || {
        (broker.get("/api/v1/topics/kept").status == 404).then_some(())
    });
    settle(&broker);
    assert!(is_there(&broker));
    assert_eq!(back.message()["payload"], 0);
}

#[test]
fn patch_makes_a_topic_temporary_and_lasting() {
    let broker = Broker::start();
    let patch = |json: &str| broker.request("PATCH", PATH).json(json).send().expect(200);
    let _publisher = temporary(&broker);
    assert_eq!(patch(r#"{"temporary":false}"#)["config"]["temporary"], false);
    let reader = subscriber(&broker, TOPIC);
    drop(reader);
    until("the reader to go", || {
        let sessions = broker.get("/api/v1/sessions").expect(200);
        (sessions["sessions"].as_array().unwrap().len() == 1).then_some(())
    });
    settle(&broker);
    assert!(is_there(&broker));
    patch(r#"{"temporary":true}"#);
    drop(subscriber(&broker, TOPIC));
    until_gone(&broker);
}

#[test]
fn webhook_is_a_subscriber_until_it_is_deleted() {
    let mut broker = Broker::start_with(&["--webhook-allow-private", "--temporary-grace-ms", "500"]);
    temporary(&broker);
    let mut watcher = Watcher::new(&broker);
    // Nobody listens there, and nothing is sent.
    let wish = r#"{"topic":"jobs","group":"push","url":"http://127.0.0.1:9/hook"}"#;
    let webhook = broker.post("/api/v1/webhooks", wish).expect(201);
    watcher.until("member_joined", &json!({"group":"push"}));
    drop(subscriber(&broker, TOPIC));
    broker.kill();
    broker.restart();
    Client::new(&broker).expect(json!({"type":"declare","topic":"other","temporary":true}), "ok");
    broker.kill();
    broker.restart();
    // Of two that waited for somebody, the one that nobody came to has gone.
    until("the other topic to go", || {
        (broker.get("/api/v1/topics/other").status == 404).then_some(())
    });
    settle(&broker);
    assert!(is_there(&broker), "the webhook is there");
    let id = webhook["id"].as_str().unwrap();
    broker.delete(&format!("/api/v1/webhooks/{id}")).expect(204);
    until_gone(&broker);
}

/// Whoever is told to be subscribed gets what is published after that, however the last one before went.
#[test]
fn subscriber_that_comes_as_the_last_one_goes_is_not_lost() {
    let broker = Broker::start();
    let mut publisher = Client::new(&broker);
    let mut readers = [Client::new(&broker), Client::new(&broker)];
    readers[0].expect(json!({"type":"subscribe","topic":TOPIC}), "subscribed");
    let mut made_anew = 0;
    for round in 0..300 {
        // It may have come back as a lasting one.
        broker
            .request("PATCH", PATH)
            .json(r#"{"temporary":true}"#)
            .send()
            .expect(200);
        let epoch = broker.get(PATH).expect(200)["epoch"].clone();
        let [going, coming] = &mut readers;
        let left = going.begin(json!({"type":"unsubscribe","topic":TOPIC}));
        let came = coming.begin(json!({"type":"subscribe","topic":TOPIC}));
        let subscribed = coming.reply(came);
        assert_eq!(subscribed["type"], "subscribed", "round {round}: {subscribed}");
        assert_eq!(going.reply(left)["type"], "ok");
        publisher.publish_one(json!({"payload":round}));
        assert_eq!(coming.message()["payload"], round);
        made_anew += u32::from(subscribed["epoch"] != epoch);
        readers.swap(0, 1);
    }
    assert!(
        made_anew > 0,
        "the one who comes was always first, so nothing was tried"
    );
}

#[test]
fn exclusive_subscription_is_the_only_one() {
    let broker = Broker::start();
    let mut first = Client::new(&broker);
    let mut second = Client::new(&broker);
    let plain = || json!({"type":"subscribe","topic":TOPIC});
    let alone = || json!({"type":"subscribe","topic":TOPIC,"exclusive":true});
    first.expect(plain(), "subscribed");
    second.refused(alone(), "conflict");
    let unsubscribe = || json!({"type":"unsubscribe","topic":TOPIC});
    first.expect(unsubscribe(), "ok");
    second.expect(alone(), "subscribed");
    first.refused(plain(), "conflict");
    first.refused(alone(), "conflict");
    let stream = broker.get(&format!("{PATH}/events"));
    stream.expect_problem(409, "conflict");
    // Groups share work, and patterns name no topic.
    first.work(json!({}));
    first.expect(json!({"type":"subscribe","topic":"#"}), "subscribed");
    drop(second);
    until("the place to be free", || {
        (first.ask(alone())["type"] == "subscribed").then_some(())
    });
    let refused: Value = Client::new(&broker).refused(plain(), "conflict");
    assert_eq!(refused["retryable"], false);
}

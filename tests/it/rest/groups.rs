//! Groups: looked at, sought, redriven, deleted; and publishers that wait for them.

use serde_json::{Value, json};

use crate::{
    socket::Socket,
    support::{Broker, until},
};

const GROUPS: &str = "/api/v1/topics/orders/groups";
const BILLING: &str = "/api/v1/topics/orders/groups/billing";
const WORKERS: &str = "/api/v1/topics/jobs/groups/workers";
const DEAD_LETTERS: &str = "/api/v1/topics/jobs.workers.dlq/partitions/0/messages";

/// A broker with the topic `orders` of two partitions: three records in the first, one in the second.
fn orders() -> Broker {
    let broker = Broker::start();
    broker
        .post("/api/v1/topics", r#"{"name":"orders","partitions":2}"#)
        .expect(201);
    let records = r#"[{"payload":0,"partition":0},{"payload":1,"partition":0},{"payload":2,"partition":0},{"payload":3,"partition":1}]"#;
    broker.post("/api/v1/topics/orders/messages", records).expect(200);
    broker
}

/// A member of the group `billing`, with all of `orders`.
fn billing(broker: &Broker) -> Socket {
    let mut member = connect(broker);
    let join = r#"{"type":"subscribe","id":1,"topic":"orders","group":"billing","mode":"partitioned","member":"worker-1"}"#;
    assert_eq!(member.ask(join)["type"], "subscribed");
    member
}

/// A worker of the group `workers` of `jobs`, which gives up at the first failure.
fn worker(broker: &Broker) -> Socket {
    broker
        .post("/api/v1/topics", r#"{"name":"jobs","attempts_max":1}"#)
        .expect(201);
    let mut worker = connect(broker);
    let join = r#"{"type":"subscribe","id":1,"topic":"jobs","group":"workers","mode":"shared"}"#;
    assert_eq!(worker.ask(join)["type"], "subscribed");
    worker
}

fn connect(broker: &Broker) -> Socket {
    let url = broker.ws_url();
    let address = url.trim_start_matches("ws://").trim_end_matches("/ws");
    Socket::connect(address)
}

/// The next frame of this type.
fn hear(socket: &mut Socket, wanted: &str) -> Value {
    let mut frames = std::iter::repeat_with(|| socket.frame());
    frames.find(|frame| frame["type"] == wanted).unwrap()
}

fn hear_messages(socket: &mut Socket, count: usize) -> Vec<Value> {
    (0..count).map(|_| hear(socket, "message")).collect()
}

#[test]
fn group_that_is_not_there_is_missing() {
    let broker = orders();
    assert_eq!(broker.get(GROUPS).expect(200), json!({"groups": []}));
    broker.get(BILLING).expect_problem(404, "not_subscribed");
    broker.delete(BILLING).expect_problem(404, "not_subscribed");
    let seek = |body: &str| broker.post(&format!("{BILLING}/offsets"), body);
    seek(r#"{"from":"earliest"}"#).expect_problem(404, "not_subscribed");
    seek(r#"{"from":"newest"}"#).expect_problem(400, "bad_frame");
    seek("").expect_problem(400, "bad_frame");
    let redrive = |body: &str| broker.post(&format!("{BILLING}/redrive"), body);
    redrive("").expect_problem(404, "not_subscribed");
    redrive(r#"{"limit":0}"#).expect_problem(400, "invalid_argument");
    broker
        .get("/api/v1/topics/other/groups")
        .expect_problem(404, "topic_not_found");
    broker.post(GROUPS, "{}").expect_problem(405, "invalid_argument");
}

#[test]
fn topic_and_metrics_say_what_its_groups_have_not_finished() {
    let broker = orders();
    let lag = |broker: &Broker| broker.get("/api/v1/topics/orders").expect(200)["lag"].clone();
    assert_eq!(lag(&broker), json!({}));
    let mut member = billing(&broker);
    until("the lag is shown", || {
        (lag(&broker) == json!({"billing": 4})).then_some(())
    });
    hear_messages(&mut member, 4);
    member.send(r#"{"type":"commit","id":2,"topic":"orders","group":"billing","offsets":{"0":2}}"#);
    hear(&mut member, "ok");
    until("the commit is shown", || {
        (lag(&broker) == json!({"billing": 2})).then_some(())
    });
    let metrics = broker.get("/metrics").text().to_owned();
    let series = "callboard_group_lag_records{topic=\"orders\",group=\"billing\"} 2.0";
    assert!(metrics.contains(series), "{metrics}");
}

#[test]
fn group_shows_its_members_its_position_and_its_lag() {
    let broker = orders();
    let mut member = billing(&broker);
    hear_messages(&mut member, 4);
    let commit = r#"{"type":"commit","id":2,"topic":"orders","group":"billing","offsets":{"0":2,"1":1}}"#;
    member.send(commit);
    hear(&mut member, "ok");
    let group = broker.get(BILLING).expect(200);
    assert_eq!(
        (&group["group"], &group["mode"]),
        (&json!("billing"), &json!("partitioned"))
    );
    assert!(group["generation"].as_u64() > Some(0), "{group}");
    assert_eq!(group["lag"], 1);
    assert_eq!(group["lag_ms"], group["partitions"][0]["lag_ms"]);
    let place = |committed: u64, next_offset: u64| {
        json!({"committed": committed, "next_offset": next_offset, "lag": next_offset - committed,
            "member": "worker-1", "leased": 0, "waiting": 0})
    };
    for (id, expected) in [place(2, 3), place(1, 1)].iter().enumerate() {
        let mut partition = group["partitions"][id].clone();
        let fields = partition.as_object_mut().unwrap();
        assert_eq!(fields.remove("partition"), Some(json!(id)));
        assert!(fields.remove("lag_ms").unwrap().is_u64());
        assert_eq!(&partition, expected);
    }
    let shown = &group["members"][0];
    assert_eq!(
        (&shown["member"], &shown["connected"]),
        (&json!("worker-1"), &json!(true))
    );
    assert_eq!(
        (&shown["partitions"], &shown["credit"]),
        (&json!([0, 1]), &json!(256))
    );
    assert_eq!(broker.get(GROUPS).expect(200)["groups"][0]["group"], "billing");
}

#[test]
fn sought_group_goes_on_from_there() {
    let broker = orders();
    let mut member = billing(&broker);
    let generation = hear(&mut member, "assigned")["generation"].as_u64().unwrap();
    hear_messages(&mut member, 4);
    let seek = |body: &str| broker.post(&format!("{BILLING}/offsets"), body);
    let committed = |group: &Value| {
        let at = |id: usize| group["partitions"][id]["committed"].as_u64().unwrap();
        (at(0), at(1))
    };
    assert_eq!(committed(&seek(r#"{"from":"latest"}"#).expect(200)), (3, 1));
    assert_eq!(committed(&seek(r#"{"offsets":{"0":1}}"#).expect(200)), (1, 1));
    // From wherever it was before, the member is told and gets the rest again.
    let assigned = loop {
        let assigned = hear(&mut member, "assigned");
        if assigned["offsets"]["0"] == 1 {
            break assigned;
        }
    };
    assert!(
        assigned["generation"].as_u64().unwrap() > generation,
        "{assigned}"
    );
    let offsets: Vec<Value> = hear_messages(&mut member, 2)
        .iter()
        .map(|frame| frame["offset"].clone())
        .collect();
    assert_eq!(offsets, [1, 2]);
    let old = format!(
        r#"{{"type":"commit","id":2,"topic":"orders","group":"billing","offsets":{{"0":2}},"generation":{generation}}}"#
    );
    member.send(&old);
    assert_eq!(hear(&mut member, "error")["code"], "stale_generation");

    seek(r#"{"offsets":{"0":0,"1":99}}"#).expect_problem(400, "offset_out_of_range");
    seek(r#"{"offsets":{"7":0}}"#).expect_problem(400, "partition_out_of_range");
    seek(r#"{"time":"yesterday"}"#).expect_problem(400, "invalid_argument");
    assert_eq!(committed(&broker.get(BILLING).expect(200)), (1, 1));
    assert_eq!(
        committed(&seek(r#"{"from":{"time":"2020-01-01T00:00:00Z"}}"#).expect(200)),
        (0, 0)
    );
    assert_eq!(
        committed(&seek(r#"{"to":{"offsets":{"0":3}}}"#).expect(200)),
        (3, 0)
    );
}

#[test]
fn deleted_group_is_forgotten_and_its_members_are_told() {
    let broker = orders();
    let mut member = billing(&broker);
    hear_messages(&mut member, 4);
    broker
        .post(&format!("{BILLING}/offsets"), r#"{"from":"latest"}"#)
        .expect(200);
    assert_eq!(broker.delete(BILLING).status, 204);
    let told = hear(&mut member, "unsubscribed");
    let expected =
        json!({"type": "unsubscribed", "topic": "orders", "group": "billing", "reason": "group_deleted"});
    assert_eq!(told, expected);
    broker.get(BILLING).expect_problem(404, "not_subscribed");
    assert_eq!(broker.get(GROUPS).expect(200), json!({"groups": []}));
    // One of the same name begins anew.
    let join = r#"{"type":"subscribe","id":3,"topic":"orders","group":"billing","mode":"shared"}"#;
    member.send(join);
    assert_eq!(
        hear(&mut member, "subscribed")["offsets"],
        json!({"0": 0, "1": 0})
    );
}

#[test]
fn dead_letters_say_why_and_are_moved_back_once() {
    let broker = Broker::start();
    let mut worker = worker(&broker);
    let record = r#"{"payload":"seven","key":"k","headers":{"own":"1"}}"#;
    broker.post("/api/v1/topics/jobs/messages", record).expect(200);
    let job = hear(&mut worker, "message");
    let nack = json!({"type": "nack", "id": 2, "deliveries": [job["delivery"]], "dead_letter": true, "reason": "not a number"});
    worker.send(&nack.to_string());
    hear(&mut worker, "ok");
    let letter = until("the dead letter", || {
        let answer = broker.get(DEAD_LETTERS);
        (answer.status == 200)
            .then(|| answer.expect(200)["messages"][0].clone())
            .filter(|letter| !letter.is_null())
    });
    assert_eq!(
        (&letter["payload"], &letter["key"]),
        (&json!("seven"), &json!("k"))
    );
    for (header, value) in [
        ("own", "1"),
        ("callboard-topic", "jobs"),
        ("callboard-partition", "0"),
        ("callboard-offset", "0"),
        ("callboard-group", "workers"),
        ("callboard-attempts", "1"),
        ("callboard-reason", "not a number"),
    ] {
        assert_eq!(letter["headers"][header], value, "{letter}");
    }
    until("the group to count it", || {
        let group = broker.get(WORKERS).expect(200);
        (group["dead_letters"] == 1 && group["lag"] == 0).then_some(())
    });
    let redrive = |body: &str| broker.post(&format!("{WORKERS}/redrive"), body).expect(200);
    assert_eq!(
        redrive(r#"{"limit":1}"#),
        json!({"redriven": 1, "dead_letters": 0})
    );
    let again = hear(&mut worker, "message");
    assert_eq!(
        (&again["payload"], &again["attempt"]),
        (&json!("seven"), &json!(1))
    );
    assert_eq!(again["headers"], json!({"own": "1"}));
    assert_eq!(redrive(""), json!({"redriven": 0, "dead_letters": 0}));
}

#[test]
fn publisher_over_rest_waits_for_the_worker_and_gets_its_result() {
    let broker = Broker::start();
    let mut worker = worker(&broker);
    let publish =
        |query: &str, body: &str| broker.post(&format!("/api/v1/topics/jobs/messages{query}"), body);
    // Nobody acks the first one, so it is in time for nobody.
    let late = publish("?ack=processed&timeout_ms=1", r#"{"payload":0}"#).expect_problem(504, "timeout");
    assert_eq!((&late["partition"], &late["offset"]), (&json!(0), &json!(0)));
    hear(&mut worker, "message");
    std::thread::scope(|scope| {
        let asked =
            scope.spawn(|| publish("?ack=processed&timeout_ms=60000", r#"{"payload":[6,7]}"#).expect(200));
        let job = hear(&mut worker, "message");
        let ack = json!({"type": "ack", "deliveries": [job["delivery"]], "result": {"product": 42}});
        worker.send(&ack.to_string());
        let answer = asked.join().unwrap();
        assert_eq!(
            (&answer["offset"], &answer["result"]),
            (&json!(1), &json!({"product": 42}))
        );

        // The body may say it as well.
        let asked = scope.spawn(|| publish("", r#"{"payload":"x","ack":"processed","timeout_ms":60000}"#));
        let job = hear(&mut worker, "message");
        let nack = json!({"type": "nack", "deliveries": [job["delivery"]], "reason": "not a number"});
        worker.send(&nack.to_string());
        let problem = asked.join().unwrap().expect_problem(422, "dead_lettered");
        assert_eq!(
            (&problem["offset"], &problem["partition"]),
            (&json!(2), &json!(0))
        );
        assert!(
            problem["detail"].as_str().unwrap().contains("not a number"),
            "{problem}"
        );
    });
}

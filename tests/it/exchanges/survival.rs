//! What is left of exchanges, and of what went through them, after kill -9.

use serde_json::json;

use super::{Asker, stored};
use crate::support::{Broker, until};

#[test]
fn exchanges_and_bindings_are_there_after_kill_9_with_their_ids() {
    let mut broker = Broker::start();
    let mut client = Asker::new(&broker);
    client.declare("lost", "fanout");
    client.ok(json!({"type": "declare", "exchange": "readings", "kind": "topic", "alternate": "lost"}));
    client.bind("readings", "plant", "plant.#");
    client.bind("lost", "found", "");
    client
        .ok(json!({"type": "bind", "exchange": "readings", "to_exchange": "lost", "routing_key": "*.copy"}));
    client.bind("readings", "gone", "gone");
    let with_gone = broker.get("/api/v1/exchanges/readings/bindings").expect(200);
    let gone = with_gone["bindings"].as_array().unwrap().last().unwrap()["id"].clone();
    client.ok(json!({"type": "unbind", "exchange": "readings", "topic": "gone", "routing_key": "gone"}));
    let paths = [
        "/api/v1/exchanges",
        "/api/v1/exchanges/readings/bindings",
        "/api/v1/exchanges/lost/bindings",
    ];
    let before = paths.map(|path| broker.get(path).expect(200));
    assert_eq!(before[1]["bindings"].as_array().unwrap().len(), 2);
    broker.kill();
    broker.restart();
    assert_eq!(paths.map(|path| broker.get(path).expect(200)), before);
    let mut client = Asker::new(&broker);
    assert_eq!(client.routed("readings", "plant.copy"), ["found", "plant"]);
    assert_eq!(client.routed("readings", "elsewhere"), ["found"]);
    // Ids are not given again, not even the newest one's.
    client.bind("readings", "new", "new");
    let bindings = broker.get(paths[1]).expect(200);
    let ids: Vec<_> = bindings["bindings"].as_array().unwrap().iter().collect();
    assert!(
        !before[1]["bindings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|known| known["id"] == ids[2]["id"])
    );
    assert_ne!(ids[2]["id"], gone);
}

#[test]
fn routes_of_a_publish_are_stored_together_or_not_at_all_through_kill_9() {
    let mut broker = Broker::start();
    let mut client = Asker::new(&broker);
    client.declare("all", "fanout");
    for topic in ["a", "b", "c"] {
        client.bind("all", topic, "");
    }
    let mut acked = 0;
    for round in 0..3 {
        let mut client = broker.connect();
        // Without an id: as fast as they go, so that the kill meets some under way.
        for _ in 0..400 {
            client.send(r#"{"type":"publish","exchange":"all","routing_key":"k","payload":"x"}"#);
        }
        let before = acked;
        until("records to be stored", || {
            acked = stored(&broker, "a");
            (acked > before + 20).then_some(())
        });
        broker.kill();
        broker.restart();
        let counts = ["a", "b", "c"].map(|topic| stored(&broker, topic));
        assert!(counts[0] >= acked, "round {round}: {counts:?} of {acked}");
        assert!(
            counts.iter().all(|&count| count == counts[0]),
            "round {round}: {counts:?}"
        );
        acked = counts[0];
    }
}

//! Health, metrics, sessions and the description.

use std::time::Duration;

use callboard_client::{Client, ConnectOptions};

use crate::support::{Broker, until};

#[test]
fn health_and_readiness_are_said() {
    let broker = Broker::start();
    assert_eq!(broker.get("/healthz").expect(200)["status"], "ok");
    assert_eq!(broker.get("/readyz").expect(200)["status"], "ready");
}

fn metric(broker: &Broker, series: &str) -> f64 {
    let answer = broker.get("/metrics");
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(answer.text().ends_with("# EOF\n"));
    let mut lines = answer.text().lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {series} in {}", answer.text()))
}

#[test]
fn metrics_count_what_came_in_and_never_fall() {
    let broker = Broker::start();
    let body = r#"[{"payload":1},{"payload":2},{"payload":3}]"#;
    broker.post("/api/v1/topics/orders/messages", body).expect(200);
    assert_eq!(metric(&broker, "callboard_records_in_total"), 3.0);
    assert_eq!(
        metric(&broker, "callboard_topic_records_in_total{topic=\"orders\"}"),
        3.0
    );
    assert_eq!(metric(&broker, "callboard_topics"), 1.0);
    assert!(metric(&broker, "callboard_kept_bytes") > 0.0);
    assert!(metric(&broker, "process_resident_memory_bytes") > 1e6);
    assert!(metric(&broker, "callboard_http_answers_total{class=\"2xx\"}") >= 5.0);
    broker.delete("/api/v1/topics/orders").expect(204);
    assert_eq!(metric(&broker, "callboard_records_in_total"), 3.0);
    assert_eq!(metric(&broker, "callboard_topics"), 0.0);
}

#[test]
fn session_is_listed_and_can_be_ended() {
    let broker = Broker::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let options = ConnectOptions::default();
    let client = runtime
        .block_on(Client::connect(&broker.ws_url(), options))
        .unwrap();
    let id = client.welcome().session.clone();
    let sessions = broker.get("/api/v1/sessions").expect(200)["sessions"].clone();
    assert_eq!(sessions.as_array().unwrap().len(), 1);
    assert_eq!(sessions[0]["id"], id.as_str());
    assert!(sessions[0]["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(metric(&broker, "callboard_sessions"), 1.0);
    let path = format!("/api/v1/sessions/{id}");
    broker.delete(&path).expect(204);
    // The client comes back by itself, as another session; the one that was ended is gone.
    until("the session to go", || {
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        (broker.delete(&path).status == 404).then_some(())
    });
    broker.delete(&path).expect_problem(404, "invalid_argument");
    drop(client);
}

#[test]
fn description_is_served() {
    let broker = Broker::start();
    let description = broker.get("/api/v1/openapi.json").expect(200);
    assert_eq!(description["openapi"], "3.1.0");
}

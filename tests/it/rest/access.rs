//! Who may ask, with which methods, and what a browser is told.

use crate::support::Broker;

const ORDERS: &str = "/api/v1/topics/orders";

#[test]
fn page_from_elsewhere_reads_and_changes_nothing() {
    let broker = Broker::start();
    broker.post("/api/v1/topics", r#"{"name":"orders"}"#).expect(201);
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("host", "evil.example"),
        ("host", "127.0.0.1.evil.example"),
    ] {
        for (method, path) in [
            ("GET", "/api/v1/topics"),
            ("DELETE", ORDERS),
            ("POST", "/api/v1/topics/orders/messages"),
            ("GET", "/api/v1/topics/orders/events"),
            ("GET", "/"),
            ("GET", "/metrics"),
            ("GET", "/nothing"),
            ("PUT", ORDERS),
        ] {
            let answer = broker
                .request(method, path)
                .header(name, value)
                .json(r#"{"payload":1}"#)
                .send();
            assert_eq!(answer.header("access-control-allow-origin"), None);
            answer.expect_problem(403, "forbidden");
        }
    }
    let preflight = broker
        .request("OPTIONS", ORDERS)
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "DELETE")
        .send();
    preflight.expect_problem(403, "forbidden");
    assert_eq!(broker.get(ORDERS).expect(200)["partitions"][0]["next_offset"], 0);
}

#[test]
fn image_of_another_site_creates_no_topic() {
    let broker = Broker::start();
    broker
        .request("GET", "/api/v1/topics/junk/events")
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "no-cors")
        .send()
        .expect_problem(403, "forbidden");
    broker
        .get("/api/v1/topics/junk")
        .expect_problem(404, "topic_not_found");
    // A link to the dashboard is fine.
    let page = broker
        .request("GET", "/")
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "navigate")
        .send();
    assert_eq!(page.status, 200);
}

#[test]
fn allowed_origin_gets_its_headers_also_with_a_problem() {
    let broker = Broker::start_with(&["--allow-origin", "https://app.example"]);
    for origin in [
        "https://app.example",
        "http://localhost:3000",
        "http://127.0.0.1:9",
    ] {
        let preflight = broker
            .request("OPTIONS", ORDERS)
            .header("origin", origin)
            .header("access-control-request-method", "PATCH")
            .header("access-control-request-private-network", "true")
            .send();
        assert_eq!(preflight.status, 204);
        assert_eq!(preflight.header("access-control-allow-origin"), Some(origin));
        assert_eq!(
            preflight.header("access-control-allow-private-network"),
            Some("true")
        );
        let methods = preflight.header("access-control-allow-methods").unwrap();
        assert!(
            ["GET", "POST", "PATCH", "DELETE"]
                .iter()
                .all(|method| methods.contains(method))
        );
        let allowed = preflight.header("access-control-allow-headers").unwrap();
        assert!(allowed.contains("content-type") && allowed.contains("last-event-id"));
        let missing = broker.request("GET", ORDERS).header("origin", origin).send();
        assert_eq!(missing.header("access-control-allow-origin"), Some(origin));
        assert_eq!(missing.header("vary"), Some("Origin"));
        missing.expect_problem(404, "topic_not_found");
    }
}

#[test]
fn unknown_paths_and_methods_are_problems() {
    let broker = Broker::start();
    for path in [
        "/api/v1",
        "/api/v1/",
        "/api/v1/nothing",
        "/api/v2/topics",
        "/api/v1/topics/",
        "/nothing.js",
    ] {
        broker.get(path).expect_problem(404, "invalid_argument");
    }
    broker
        .post("/nothing", "{}")
        .expect_problem(404, "invalid_argument");
    for (method, path, allow) in [
        ("PUT", "/api/v1/topics", "GET, HEAD, POST, OPTIONS"),
        ("POST", ORDERS, "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("GET", "/api/v1/topics/orders/messages", "POST, OPTIONS"),
        ("TRACE", "/healthz", "GET, HEAD, OPTIONS"),
        ("DELETE", "/api/v1/sessions", "GET, HEAD, OPTIONS"),
        ("POST", "/index.html", "GET, HEAD"),
    ] {
        let answer = broker.request(method, path).send();
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        answer.expect_problem(405, "invalid_argument");
    }
    let options = broker.request("OPTIONS", "/api/v1/topics").send();
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("GET, HEAD, POST, OPTIONS"))
    );
    let plain = broker.get("/ws");
    assert_eq!(plain.header("upgrade"), Some("websocket"));
    plain.expect_problem(426, "invalid_argument");
}

#[test]
fn head_has_the_headers_and_no_body() {
    let broker = Broker::start();
    broker.post("/api/v1/topics", r#"{"name":"orders"}"#).expect(201);
    for path in ["/", "/healthz", ORDERS, "/api/v1/topics/orders/events"] {
        let head = broker.request("HEAD", path).send();
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert!(head.header("content-type").is_some());
    }
}

#[test]
fn dashboard_is_served_under_a_strict_policy_and_revalidated() {
    let broker = Broker::start();
    let page = broker.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"));
    assert!(!policy.contains("unsafe"));
    assert!(page.text().contains("<title>Callboard</title>"));
    let tag = page.header("etag").unwrap();
    let known = broker.request("GET", "/").header("if-none-match", tag).send();
    assert_eq!((known.status, known.body.len()), (304, 0));
    let other = broker
        .request("GET", "/")
        .header("if-none-match", "\"other\"")
        .send();
    assert_eq!(other.status, 200);
    let script = broker.get("/app.js");
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    for path in [
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/..%2fCargo.toml",
        "//etc/passwd",
        "/.gitignore",
    ] {
        broker.get(path).expect_problem(404, "invalid_argument");
    }
}

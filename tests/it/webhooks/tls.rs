//! Endpoints that speak TLS: only one that shows a certificate of its own name from somebody who is trusted is
//! told anything.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use serde_json::json;
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::{ALLOWED, TOPIC, publish, until_webhook};
use crate::support::Broker;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Requests as they came, after decryption.
type Requests = Arc<Mutex<Vec<String>>>;

/// An endpoint with a certificate for this name; its port, and what it was sent.
fn start(authority: &Authority, name: &str) -> (u16, Requests) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests: Requests = Arc::default();
    let kept = requests.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, socket);
            let mut request = vec![0; 4096];
            // One that does not trust it sends an alert instead.
            if let Ok(count) = stream.read(&mut request) {
                request.truncate(count);
                kept.lock().unwrap().push(String::from_utf8(request).unwrap());
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        }
    });
    (port, requests)
}

#[test]
fn endpoint_is_told_only_if_its_certificate_is_trusted_and_its_own() {
    let (trusted, unknown) = (authority(), authority());
    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("roots.pem");
    std::fs::write(&roots, trusted.pem()).unwrap();
    let broker = Broker::start_in(ALLOWED, vec![("SSL_CERT_FILE", roots.display().to_string())]);
    let endpoints = [
        start(&trusted, "localhost"),
        start(&trusted, "elsewhere.example"),
        start(&unknown, "localhost"),
    ];
    let webhooks: Vec<_> = endpoints
        .iter()
        .enumerate()
        .map(|(number, (port, _))| {
            let url = format!("https://localhost:{port}/hook?a=1");
            let wish = json!({"topic": TOPIC, "group": format!("group-{number}"), "url": url});
            broker.post("/api/v1/webhooks", &wish.to_string()).expect(201)
        })
        .collect();
    publish(&broker, 7..8);
    until_webhook(&broker, &webhooks[0], "a success", |shown| {
        shown["succeeded"] == 1
    });
    let requests = endpoints[0].1.lock().unwrap().clone();
    assert!(
        requests[0].starts_with("POST /hook?a=1 HTTP/1.1\r\n"),
        "{requests:?}"
    );
    assert!(
        requests[0].contains(&format!("host: localhost:{}\r\n", endpoints[0].0)),
        "{requests:?}"
    );
    for (webhook, (_, requests)) in webhooks.iter().zip(&endpoints).skip(1) {
        let shown = until_webhook(&broker, webhook, "a failure", |shown| shown["failed"] != 0);
        let error = shown["answers"][0]["error"].as_str().unwrap();
        assert!(error.starts_with("TLS failed: "), "{error}");
        assert_eq!(*requests.lock().unwrap(), Vec::<String>::new());
        assert_eq!(shown["succeeded"], 0);
    }
}

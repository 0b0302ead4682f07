//! A scripted broker: a real WebSocket on loopback, frames written by hand.

use std::{collections::VecDeque, time::Duration};

use callboard_client::{Client, ConnectOptions, Reconnect};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};

const WELCOME: &str = r#"{"type":"welcome","session":"s","server":"test","heartbeat_ms":15000,"frame_bytes_max":4096,"auth":"none"}"#;

pub struct Broker(TcpListener);

impl Broker {
    pub async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        (Self(listener), url)
    }

    pub async fn accept(&self) -> Session {
        let (stream, _) = self.0.accept().await.unwrap();
        #[expect(clippy::result_large_err, reason = "the library's signature")]
        let choose = |request: &Request, mut response: Response| {
            assert_eq!(request.headers()[SEC_WEBSOCKET_PROTOCOL], "callboard.v1.ndjson");
            let chosen = HeaderValue::from_static("callboard.v1.ndjson");
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
            Ok(response)
        };
        let socket = accept_hdr_async(stream, choose).await.unwrap();
        let mut session = Session {
            socket,
            lines: VecDeque::new(),
        };
        session.send(WELCOME).await;
        session
    }
}

pub struct Session {
    pub socket: WebSocketStream<TcpStream>,
    lines: VecDeque<Value>,
}

impl Session {
    pub async fn send(&mut self, lines: &str) {
        self.socket.send(Message::text(lines)).await.unwrap();
    }

    pub async fn next(&mut self) -> Value {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return line;
            }
            if let Message::Text(text) = self.socket.next().await.unwrap().unwrap() {
                self.lines.extend(
                    text.lines()
                        .map(|line| serde_json::from_str::<Value>(line).unwrap()),
                );
            }
        }
    }

    pub async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }
}

pub fn quick() -> ConnectOptions {
    ConnectOptions {
        reconnect: Reconnect::Always {
            pause_min: Duration::from_millis(1),
            pause_max: Duration::from_millis(10),
        },
        ..ConnectOptions::default()
    }
}

pub async fn connected(options: ConnectOptions) -> (Broker, Session, Client) {
    let (broker, url) = Broker::start().await;
    let (session, client) = tokio::join!(broker.accept(), Client::connect(&url, options));
    (broker, session, client.unwrap())
}

//! A WebSocket client that does as it is told, also what no library would do.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::PATIENCE;

pub const TEXT: u8 = 0x81;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;

/// A frame of a client: masked with zeros, so that the body stays as it is.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match body.len() {
        0..126 => frame.push(0x80 | body.len() as u8),
        126..=0xffff => {
            frame.push(0xfe);
            frame.extend_from_slice(&(body.len() as u16).to_be_bytes());
        }
        _ => {
            frame.push(0xff);
            frame.extend_from_slice(&(body.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(body);
    frame
}

/// An upgrade request for `callboard.v1.ndjson`.
pub fn upgrade_request(address: SocketAddr) -> Vec<u8> {
    format!(
        "GET /ws HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: callboard.v1.ndjson\r\n\r\n"
    )
    .into_bytes()
}

pub struct RawClient {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl RawClient {
    /// Connects, and waits for `welcome`.
    pub async fn connect(url: &str, behind: &[u8]) -> Self {
        let mut client = Self::open(url, behind).await;
        assert_eq!(client.next().await["type"], "welcome");
        client
    }

    /// Connects with a small receive buffer and sends `behind` in one piece with the upgrade request.
    pub async fn open(url: &str, behind: &[u8]) -> Self {
        let address: SocketAddr = url
            .trim_start_matches("ws://")
            .trim_end_matches("/ws")
            .parse()
            .unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let mut client = Self {
            stream,
            read: Vec::new(),
        };
        let request = [&upgrade_request(address)[..], behind].concat();
        client.stream.write_all(&request).await.unwrap();
        while !client.read.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(client.fill().await, "the handshake was refused");
        }
        let end = client.read.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(client.read.drain(..end + 4).collect()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        client
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        read.expect("nothing came").is_ok_and(|count| count > 0)
    }

    pub async fn send(&mut self, first: u8, body: impl AsRef<[u8]>) {
        self.stream.write_all(&frame(first, body.as_ref())).await.unwrap();
    }

    pub async fn text(&mut self, body: impl AsRef<[u8]>) {
        self.send(TEXT, body).await;
    }

    /// The next frame of the broker's: its first byte and its body; none at the end.
    pub async fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let head = match (self.read.get(1).copied(), self.read.len()) {
                (Some(126), 4..) => Some((4, usize::from(u16::from_be_bytes([self.read[2], self.read[3]])))),
                (Some(127), 10..) => {
                    let length: [u8; 8] = self.read[2..10].try_into().unwrap();
                    Some((10, u64::from_be_bytes(length) as usize))
                }
                (Some(short @ 0..126), _) => Some((2, usize::from(short))),
                _ => None,
            };
            if let Some((start, length)) = head
                && self.read.len() >= start + length
            {
                let first = self.read[0];
                let frame: Vec<u8> = self.read.drain(..start + length).collect();
                return Some((first, frame[start..].to_vec()));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next text message, which is one frame of the protocol.
    pub async fn next(&mut self) -> Value {
        let (first, body) = self.next_frame().await.expect("the connection ended");
        assert_eq!(first, TEXT, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&body)))
    }

    /// Every frame of the protocol up to the `pong` with this id, which is left out.
    pub async fn until_pong(&mut self, id: u64) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let (first, body) = self.next_frame().await.expect("the connection ended");
            assert_eq!(first, TEXT, "{}", String::from_utf8_lossy(&body));
            for line in body.split(|byte| *byte == b'\n') {
                let frame: Value = serde_json::from_slice(line).unwrap();
                if frame["type"] == "pong" && frame["id"] == id {
                    return frames;
                }
                frames.push(frame);
            }
        }
    }

    /// The code of the Close that comes next.
    pub async fn close_code(&mut self) -> Option<u16> {
        while let Some((first, body)) = self.next_frame().await {
            if first == CLOSE {
                return Some(u16::from_be_bytes([body[0], body[1]]));
            }
        }
        None
    }

    /// Whether nothing comes for a while.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.stream.readable()).await.is_err()
    }
}

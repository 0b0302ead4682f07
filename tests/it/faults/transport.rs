//! What is wrong below the frames: the close code says what, and nobody else notices.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::{
    process::{Broker, PATIENCE},
    socket::{BINARY, Incoming, PING, Socket, TEXT, handshake, masked},
};

/// Largest frame, as `welcome` says.
const FRAME_BYTES_MAX: usize = 1 << 20;

fn broker() -> (tempfile::TempDir, Broker) {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    (data, broker)
}

fn closes_with(broker: &Broker, bytes: &[u8], code: u16) {
    let mut witness = broker.connect();
    let mut client = broker.connect();
    client.send_bytes(bytes);
    assert_eq!(
        client.ending().1,
        Some(code),
        "after {:02x?}…",
        &bytes[..bytes.len().min(16)]
    );
    assert_eq!(witness.ask(r#"{"type":"ping","id":1}"#)["type"], "pong");
}

#[test]
fn wrong_messages_close_with_the_code_that_says_why() {
    let (_data, broker) = broker();
    closes_with(&broker, &masked(BINARY, b"{}"), 1003);
    closes_with(&broker, &masked(TEXT, b"\xff\xfe"), 1007);
    closes_with(
        &broker,
        &masked(TEXT, b"{\"type\":\"ping\",\"x\":\"\xc3\"}"),
        1007,
    );
    // Not masked, a reserved bit, a Ping that is too long, a continuation of nothing, an unknown opcode.
    closes_with(&broker, b"\x81\x02{}", 1002);
    closes_with(&broker, &masked(0xC1, b"{}"), 1002);
    closes_with(&broker, &masked(PING, &[b'x'; 126]), 1002);
    closes_with(&broker, &masked(0x80, b"{}"), 1002);
    closes_with(&broker, &masked(0x83, b"{}"), 1002);
}

#[test]
fn oversized_frame_is_told_so_and_closed_with_1009() {
    let (_data, broker) = broker();
    let mut client = broker.connect();
    client.send(&format!(
        r#"{{"type":"ping","id":"{}"}}"#,
        "x".repeat(FRAME_BYTES_MAX)
    ));
    let (last, code) = client.ending();
    assert_eq!(last.unwrap()["code"], "frame_too_large");
    assert_eq!(code, Some(1009));
}

#[test]
fn announced_size_is_refused_before_it_is_sent() {
    let (_data, broker) = broker();
    let before = broker.resident_bytes();
    let mut clients: Vec<Socket> = (0..50).map(|_| broker.connect()).collect();
    for client in &mut clients {
        let mut head = vec![TEXT, 0xff];
        head.extend((1_u64 << 40).to_be_bytes());
        head.extend([1, 2, 3, 4]);
        client.send_bytes(&head);
    }
    for client in &mut clients {
        assert_eq!(client.ending().1, Some(1009));
    }
    assert!(
        broker.resident_bytes() < before + (32 << 20),
        "memory was set aside for what was announced"
    );
}

#[test]
fn fragments_are_joined_with_a_ping_between_them() {
    let (_data, broker) = broker();
    let mut client = broker.connect();
    let frame = r#"{"type":"publish","id":1,"topic":"t","payload":"in pieces: ä"}"#.as_bytes();
    // Cut inside the letter of two bytes as well.
    let cut = frame.len() - 4;
    client.send_frame(0x01, &frame[..10]);
    client.send_frame(PING, b"are you there");
    client.send_frame(0x00, &frame[10..cut]);
    client.send_frame(0x80, &frame[cut..]);
    assert_eq!(client.frame()["type"], "published");
}

#[test]
fn endless_fragments_are_closed_with_1009() {
    let (_data, broker) = broker();
    let before = broker.resident_bytes();
    let mut client = broker.connect();
    client.send_frame(0x01, &[b' '; 1000]);
    for _ in 0..40 {
        client.send_frame(0x00, &[b' '; 64 << 10]);
    }
    assert_eq!(client.ending().1, Some(1009));
    assert!(broker.resident_bytes() < before + (32 << 20));
}

#[test]
fn close_is_answered() {
    let (_data, broker) = broker();
    let mut client = broker.connect();
    client.send_frame(0x88, &1000_u16.to_be_bytes());
    assert!(matches!(client.next(), Incoming::Close(Some(1000))));
    assert_eq!(client.next(), Incoming::End);
}

#[test]
fn half_a_handshake_and_a_trickled_request_are_ended() {
    let (_data, broker) = broker();
    let whole = handshake(broker.address());
    let mut half = TcpStream::connect(broker.address()).unwrap();
    half.write_all(&whole.as_bytes()[..whole.len() / 2]).unwrap();
    let mut trickle = TcpStream::connect(broker.address()).unwrap();
    trickle.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    let mut silent = TcpStream::connect(broker.address()).unwrap();
    let dripping = trickle.try_clone().map(|mut drip| {
        std::thread::spawn(move || {
            // A byte now and then, for as long as the broker takes them.
            while drip.write_all(b"X-Slow: loris\r\n").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        })
    });
    for stream in [&mut half, &mut trickle, &mut silent] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        // Ended by an answer and a close, or by a reset: not by our own patience.
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    dripping.unwrap().join().unwrap();
    assert_eq!(broker.connect().ask(r#"{"type":"ping","id":1}"#)["type"], "pong");
}

//! What RFC 6455 asks of a server, held against sockets that break it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Running,
    raw::{CLOSE, PING, RawClient, TEXT, frame, upgrade_request},
};

#[actix_rt::test]
async fn frames_right_behind_the_upgrade_request_are_answered() {
    let broker = Running::start().await;
    let ping = frame(TEXT, br#"{"type":"ping","id":1}"#);
    let mut client = RawClient::connect(&broker.url, &ping).await;
    assert_eq!(client.next().await["id"], 1);
}

#[actix_rt::test]
async fn close_is_answered_with_a_code_that_may_be_sent() {
    let broker = Running::start().await;
    for (body, code) in [
        (&b""[..], 1000),
        (&[0x03, 0xe9], 1001),
        (&[0x0b, 0xb8], 3000),
        (&[0x03, 0xed], 1002),       // 1005 says that there was none.
        (&[0x03, 0xee], 1002),       // 1006 says that no Close came.
        (&[0x03, 0xe7], 1002),       // 999
        (&[0x07, 0xd0], 1002),       // 2000 is nobody's.
        (&[0x03], 1002),             // Half a code.
        (&[0x03, 0xe8, 0xff], 1007), // A reason that is not UTF-8.
    ] {
        let mut client = RawClient::connect(&broker.url, b"").await;
        client.send(CLOSE, body).await;
        assert_eq!(client.close_code().await, Some(code), "{body:?}");
        assert!(client.next_frame().await.is_none());
    }
}

#[actix_rt::test]
async fn what_is_no_websocket_is_closed_with_its_code() {
    let broker = Running::start().await;
    let unmasked = [&[TEXT, 2][..], b"{}"].concat();
    let mut huge = vec![TEXT, 0xff];
    huge.extend_from_slice(&(3u64 << 20).to_be_bytes());
    for (what, bytes, code) in [
        ("reserved bits", frame(0xc1, b"{}"), 1002),
        ("unmasked", unmasked, 1002),
        ("unknown opcode", frame(0x83, b""), 1002),
        ("a Ping in fragments", frame(0x09, b""), 1002),
        ("a Close in fragments", frame(0x08, b""), 1002),
        ("a Ping that is too long", frame(PING, &[0; 126]), 1002),
        ("a continuation of nothing", frame(0x80, b"{}"), 1002),
        (
            "a message inside another",
            [frame(0x01, b"{"), frame(TEXT, b"{}")].concat(),
            1002,
        ),
        ("binary", frame(0x82, b"{}"), 1003),
        ("not UTF-8", frame(TEXT, &[0xff]), 1007),
        (
            "not UTF-8 in fragments",
            [frame(0x01, b"\"\xc3"), frame(0x80, b"\"")].concat(),
            1007,
        ),
        ("too large", huge, 1009),
    ] {
        let mut client = RawClient::connect(&broker.url, b"").await;
        client.stream.write_all(&bytes).await.unwrap();
        assert_eq!(client.close_code().await, Some(code), "{what}");
    }
}

#[actix_rt::test]
async fn fragments_are_joined_and_control_frames_between_them_answered() {
    let broker = Running::start().await;
    let mut client = RawClient::connect(&broker.url, b"").await;
    client.send(0x01, br#"{"type":"ping","#).await;
    client.send(PING, b"now").await;
    client.send(0x00, b"").await;
    client.send(0x80, br#""id":3}"#).await;
    assert_eq!(client.next_frame().await, Some((0x8a, b"now".to_vec())));
    assert_eq!(client.next().await["id"], 3);
}

#[actix_rt::test]
async fn empty_ndjson_message_is_passed_over() {
    let broker = Running::start().await;
    let mut client = RawClient::connect(&broker.url, b"").await;
    client.text("").await;
    client.text("\n \n").await;
    client.text(r#"{"type":"ping","id":1}"#).await;
    assert_eq!(client.next().await["type"], "pong");
}

#[actix_rt::test]
async fn handshake_of_another_version_is_told_ours() {
    let broker = Running::start().await;
    let address = broker.url.trim_start_matches("ws://").trim_end_matches("/ws");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = String::from_utf8(upgrade_request(address.parse().unwrap())).unwrap();
    let older = request.replace("version: 13", "version: 8");
    stream.write_all(older.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("\r\nsec-websocket-version: 13\r\n"), "{answer}");
}

//! Thousands of connections that never say anything.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    process::{Broker, raise_file_limit},
    socket::{Incoming, Socket, handshake},
};

/// As many as the issue of silent connections is about; fewer where fewer files may be open.
const SILENT_MAX: u64 = 10_000;
/// Files that the test needs for other things.
const FILES_ELSEWHERE: u64 = 300;
/// More than a connection may cost, and far less than one that keeps buffers.
const CONNECTION_BYTES_MAX: u64 = 16 << 10;
/// Another client may wait this long for an answer on a busy machine.
const NOTICE: Duration = Duration::from_secs(5);

#[test]
fn thousands_of_silent_connections_cost_little_and_nobody_notices() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let mut witness = broker.connect();
    let count = SILENT_MAX.min(raise_file_limit().saturating_sub(FILES_ELSEWHERE));
    let before = broker.resident_bytes();
    let mut silent = Vec::new();
    for index in 0..count {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        // Half of them shake hands, and all of those are through before the next: the backlog is not the point.
        if index % 2 == 0 {
            stream.write_all(handshake(broker.address()).as_bytes()).unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 101");
        }
        silent.push(stream);
        if index % 1_000 == 0 {
            answers_in_time(&mut witness);
        }
    }
    answers_in_time(&mut witness);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(
        grown < count * CONNECTION_BYTES_MAX,
        "{grown} bytes for {count} silent connections"
    );
    drop(silent);
    answers_in_time(&mut witness);
    answers_in_time(&mut broker.connect());
}

fn answers_in_time(client: &mut Socket) {
    let began = Instant::now();
    let reply = client.ask(r#"{"type":"publish","id":1,"topic":"t","payload":1,"ack":"accepted"}"#);
    assert_eq!(reply["type"], "published");
    assert!(began.elapsed() < NOTICE, "an answer took {:?}", began.elapsed());
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let come_and_go = |times: usize| {
        for _ in 0..times {
            let mut client = broker.connect();
            client.ask(r##"{"type":"subscribe","id":1,"topic":"#"}"##);
            client.send_frame(0x88, &1000_u16.to_be_bytes());
            assert_eq!(client.next(), Incoming::Close(Some(1000)));
        }
    };
    come_and_go(300);
    let before = broker.resident_bytes();
    come_and_go(1_500);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(
        grown < 8 << 20,
        "{grown} bytes stay of 1,500 clients that are gone"
    );
}

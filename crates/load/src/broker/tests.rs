//! What is sent is read by the broker's own decoder, and what it sends is counted wherever it is cut.

use callboard_protocol::client::ClientFrame;

use super::*;
use crate::{
    dialect::{Reader as _, Seen, payload, sequence_of},
    wire::{FrameReader, Piece},
};

fn speaking(subprotocol: Subprotocol, ack: Ack) -> Callboard {
    Callboard {
        subprotocol,
        ack,
        ..Callboard::new(Durability::Memory)
    }
}

/// The messages of a stream that a client sends.
fn messages(mut bytes: Vec<u8>) -> Vec<String> {
    let (mut messages, mut message) = (Vec::new(), String::new());
    FrameReader::default().feed(&mut bytes, |piece| match piece {
        Piece::Text(text) => message.push_str(&String::from_utf8_lossy(text)),
        Piece::End => messages.push(std::mem::take(&mut message)),
        Piece::Close => {}
    });
    messages
}

#[test]
fn block_is_made_of_frames_that_a_broker_reads() {
    let payloads: Vec<_> = (0..300).map(|sequence| payload(sequence, 128)).collect();
    let key = |place: usize| place.is_multiple_of(2).then_some("k1");
    let records: Vec<_> = payloads
        .iter()
        .enumerate()
        .map(|(place, payload)| Record {
            topic: TOPIC,
            key: key(place),
            payload,
        })
        .collect();
    for ack in [Ack::None, Ack::Accepted, Ack::Durable] {
        for (subprotocol, count) in [(Subprotocol::Json, 7), (Subprotocol::Ndjson, 1)] {
            let mut bytes = Vec::new();
            speaking(subprotocol, ack)
                .block(0, &records)
                .push(&mut bytes, 100..107);
            let messages = messages(bytes);
            assert_eq!(messages.len(), count);
            let lines: Vec<_> = messages.iter().flat_map(|message| message.lines()).collect();
            assert_eq!(lines.len(), 7);
            for (place, line) in lines.iter().enumerate() {
                assert!(ClientFrame::decode(line).is_ok(), "{line}");
                assert!(line.contains(&format!("{:010}", 100 + place)), "{line}");
            }
        }
    }
}

#[test]
fn messages_are_counted_and_looked_at_wherever_they_are_cut() {
    let payloads: Vec<_> = (0..5).map(|sequence| payload(sequence, 40)).collect();
    for subprotocol in [Subprotocol::Json, Subprotocol::Ndjson] {
        let callboard = speaking(subprotocol, Ack::None);
        let (_, sent) = callboard.offline(&payloads);
        for cut in 0..=sent.len() {
            let (mut counting, _) = callboard.offline(&[]);
            let (mut looking, _) = callboard.offline(&[]);
            let (mut counted, mut looked) = (Seen::default(), Seen::default());
            let (mut reply, mut sequences) = (Vec::new(), Vec::new());
            for part in [&sent[..cut], &sent[cut..]] {
                let outcome = counting.take(&mut part.to_vec(), &mut reply, &mut counted);
                assert!(outcome.is_ok());
                let outcome = looking.take_payloads(&mut part.to_vec(), &mut reply, &mut looked, |payload| {
                    sequences.extend(sequence_of(payload));
                });
                assert!(outcome.is_ok());
            }
            assert_eq!((counted.messages, looked.messages), (5, 5), "cut at {cut}");
            assert_eq!(sequences, [0, 1, 2, 3, 4], "cut at {cut}");
            assert!(reply.is_empty());
        }
    }
}

#[test]
fn worker_acks_in_the_messages_of_its_subprotocol() {
    let line = r#"{"type":"message","topic":"bench","partition":0,"offset":3,"timestamp":1,"payload":"x","group":"bench","delivery":77,"attempt":1,"lease_ms":30000}"#;
    let acks = r#"{"type":"ack","deliveries":[77]}"#;
    for (subprotocol, expected) in [
        (Subprotocol::Json, vec![acks.to_owned(), acks.to_owned()]),
        (Subprotocol::Ndjson, vec![format!("{acks}\n{acks}\n")]),
    ] {
        let mut stream = Vec::new();
        push_server_message(&mut stream, Opcode::Text, format!("{line}\n{line}\n").as_bytes());
        let (mut reply, mut seen) = (Vec::new(), Seen::default());
        let mut worker = Reader::worker(FrameReader::default(), Doer::new(duty::Duty::Ack), subprotocol);
        assert!(worker.take(&mut stream, &mut reply, &mut seen).is_ok());
        assert_eq!(messages(reply), expected);
        assert_eq!((seen.messages, seen.settled), (2, 2));
    }
}

#[test]
fn refusal_ends_the_run() {
    let refusal = r#"{"type":"error","id":1000,"code":"topic_full","message":"full","retryable":true}"#;
    let mut stream = Vec::new();
    push_server_message(&mut stream, Opcode::Text, refusal.as_bytes());
    let mut seen = Seen::default();
    let outcome = Reader::publisher(FrameReader::default()).take(&mut stream, &mut Vec::new(), &mut seen);
    assert!(outcome.is_err_and(|failure| failure.to_string().contains("topic_full")));
}

//! Where bytes come in and go out: frames, drafts, the journal's entries, the finished WebSocket bytes.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use callboard::{
    actors::{
        append::{Append, Asked, Origin, Reply, Slot},
        directory::PartitionRef,
        intake::{Intake, Open, Placing},
        push::AllowPrivate,
        wire::{self, Format},
    },
    store::{
        PartitionKey, TopicId,
        journal::format::{EntryHeader, EntryKind},
    },
};
use callboard_core::record::Batch;
use callboard_instructions::{
    records::{self, Answer, TOPIC},
    stand::OneThread,
};
use callboard_protocol::{
    FrameId, PartitionId, Timestamp, TopicName,
    client::{Ack, ClientFrame, NewRecord, Records, Request},
    server::MessagePrefix,
};
use gungraun::{library_benchmark, library_benchmark_group};
use tokio::sync::mpsc::unbounded_channel;

fn one_frame() -> Vec<String> {
    vec![records::publish_frame(17, Answer::Accepted)]
}

fn batch_of_frames() -> Vec<String> {
    records::publish_lines(Answer::Accepted)
        .lines()
        .map(str::to_owned)
        .collect()
}

// Frames as a session's decoder sees them, from text to parts that lie in it.
#[library_benchmark]
#[bench::one_publish(setup = one_frame)]
#[bench::batch(setup = batch_of_frames)]
fn scan(frames: Vec<String>) -> Vec<String> {
    for frame in black_box(&frames) {
        black_box(ClientFrame::decode(frame)).expect("the frame is good");
    }
    frames
}

/// A session's intake before a batch comes.
struct Taking {
    /// The topic lives as long as its broker.
    _broker: OneThread,
    intake: Intake,
    placing: Placing,
    records: Vec<(NewRecord<'static>, FrameId)>,
    origin: Origin,
    /// What was taken.
    appends: Vec<(Arc<PartitionRef>, Append)>,
}

fn taking(partitions: u32) -> Taking {
    let broker = OneThread::start();
    let topic = broker.topic(TOPIC, &format!(r#"{{"partitions":{partitions}}}"#));
    // Leaked, because the records lie in it and the process ends with the benchmark.
    let text: &'static str = records::publish_lines(Answer::Accepted).leak();
    let records = text.lines().map(|line| {
        let frame = ClientFrame::decode(line).expect("the frame is good");
        match frame.request {
            Request::Publish(publish) => match publish.records {
                Records::One(record) => (record, frame.id.expect("it has one")),
                Records::Many(_) => unreachable!("each has one record"),
            },
            _ => unreachable!("all are publishes"),
        }
    });
    let (answers, heard) = unbounded_channel();
    drop(heard);
    let mut intake = Intake::of_caller(AllowPrivate::No);
    intake.expect(text.len());
    Taking {
        _broker: broker,
        intake,
        placing: Placing::new(topic),
        records: records.collect(),
        origin: Origin::Caller(answers),
        appends: Vec::new(),
    }
}

// Decoded records into the drafts of their partitions, as messages that are ready to be sent there.
#[library_benchmark]
#[bench::batch(args = (1), setup = taking)]
#[bench::batch_to_8_partitions(args = (8), setup = taking)]
fn intake(mut taking: Taking) -> Taking {
    const ASKED: Asked = Asked {
        ack: Ack::Accepted,
        timeout_ms: None,
    };
    for (record, id) in &taking.records {
        taking.placing.begin_frame();
        let reply = Reply {
            id: Some(id.clone()),
            slot: Slot::Alone,
            silent: false,
        };
        let added = taking.intake.add(&mut taking.placing, record, ASKED, reply);
        assert!(added.is_ok(), "the record is taken");
    }
    for open in taking.intake.take() {
        match open {
            Open::Draft(open) => taking.appends.push(open.into_append(taking.origin.clone())),
            Open::Together(_) => unreachable!("nothing is routed"),
        }
    }
    taking
}

/// A batch and the writer's buffer, as large as it is after a while.
fn to_journal() -> (Batch, Vec<u8>) {
    (records::batch(), Vec::with_capacity(1 << 20))
}

// A batch as an entry of the journal, up to the write.
#[library_benchmark]
#[bench::batch(setup = to_journal)]
fn journal((batch, mut buffer): (Batch, Vec<u8>)) -> (Batch, Vec<u8>) {
    let header = EntryHeader {
        id: 0x5eed,
        sequence: 17,
        key: PartitionKey {
            topic: TopicId(3),
            partition: PartitionId(0),
        },
        kind: EntryKind::Records,
        base_offset: batch.base_offset,
        timestamp: batch.timestamp,
        count: batch.count,
        body_bytes: batch.records.len() as u32,
    };
    black_box(header).encode_entry(&batch.records, &mut buffer);
    (batch, buffer)
}

fn to_wire(format: Format) -> (MessagePrefix, [Batch; 1], Format) {
    let topic = TopicName::parse(TOPIC).expect("a good name");
    let prefix = MessagePrefix::new(&topic, PartitionId(0));
    (prefix, [records::batch()], format)
}

// A committed batch as the bytes that go to all subscribers of one subprotocol.
#[library_benchmark]
#[bench::ndjson(args = (Format::Ndjson), setup = to_wire)]
#[bench::json(args = (Format::Json), setup = to_wire)]
fn encode((prefix, batches, format): (MessagePrefix, [Batch; 1], Format)) -> (Bytes, [Batch; 1]) {
    let encoded = wire::encode_batches(&prefix, black_box(&batches), format, Timestamp(0), u64::MAX);
    assert_eq!(encoded.count, records::BATCH);
    (encoded.bytes, batches)
}

library_benchmark_group!(name = carry, benchmarks = [scan, intake, journal, encode]);

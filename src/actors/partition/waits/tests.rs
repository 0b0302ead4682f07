//! Who waits is answered once, for what was waited for and nothing else.

use std::time::Duration;

use callboard_protocol::{PartitionId, TopicName, server::RecordResult};
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::*;
use crate::{
    actors::{
        append::{Answered, Origin, Receipt, Reply, Slot},
        waiting::Held,
    },
    store::{PartitionKey, TopicId},
};

struct Table {
    list: WaitList,
    part: Arc<PartitionRef>,
    start: Instant,
    answered: UnboundedReceiver<Answered>,
    receipt: Box<dyn Fn() -> Receipt>,
}

fn table() -> Table {
    let key = PartitionKey {
        topic: TopicId(1),
        partition: PartitionId(2),
    };
    let part = Arc::new(PartitionRef::new(key, &TopicName::parse("jobs").unwrap()));
    let (caller, answered) = mpsc::unbounded_channel();
    let of = part.clone();
    Table {
        list: WaitList::new(part.clone()),
        part,
        start: Instant::now(),
        answered,
        receipt: Box::new(move || {
            let reply = Reply {
                id: None,
                slot: Slot::Alone,
                silent: false,
            };
            let origin = Origin::Caller(caller.clone());
            Receipt::new(origin, of.clone(), (0, Held::default()), vec![reply])
        }),
    }
}

impl Table {
    fn wait(&mut self, offset: u64, until: Until, timeout_ms: Option<u64>) {
        let deadline = timeout_ms.map(|timeout_ms| self.start + Duration::from_millis(timeout_ms));
        let (_, ticket) = (self.receipt)().tickets(|_| Some(Held::default())).pop().unwrap();
        self.list.insert(Offset(offset), until, deadline, ticket);
    }

    fn run(&mut self, step: &str) {
        let words: Vec<_> = step.split(' ').collect();
        let number = |index: usize| words.get(index).map(|word| word.parse::<u64>().unwrap());
        let mut answers = Answers::default();
        match words[0] {
            "delivered" => self.wait(number(1).unwrap(), Until::Delivered, number(2)),
            "processed" => self.wait(number(1).unwrap(), Until::Processed, number(2)),
            "sent" => {
                let sent = Sent {
                    from: Offset(number(1).unwrap()),
                    next: Offset(number(2).unwrap()),
                };
                self.list.sent(sent, "fsync", &mut answers);
            }
            "acked" | "dead" => {
                let outcome = match words[0] {
                    "acked" => ProcessedOutcome::Acked(Some(Bytes::from_static(b"42"))),
                    _ => ProcessedOutcome::DeadLettered("broken".to_owned()),
                };
                let processed = Processed(vec![(Offset(number(1).unwrap()), outcome)]);
                self.list.processed(processed, "fsync", &mut answers);
            }
            "tick" => {
                let now = self.start + Duration::from_millis(number(1).unwrap());
                let visible = Offset(number(2).unwrap_or(u64::MAX));
                self.list.expire(now, visible, &mut answers);
            }
            "fail" => {
                let refusal = Refusal::new(ErrorCode::StorageFailed, "no");
                let from = Offset(number(1).unwrap());
                self.list.refuse(from.., &refusal, Stays::No, &mut answers);
            }
            "end" => {
                let refusal = Refusal::new(ErrorCode::ShuttingDown, "the end");
                let visible = Offset(number(1).unwrap());
                self.list.refuse(..visible, &refusal, Stays::Yes, &mut answers);
            }
            other => panic!("no step {other}"),
        }
        assert!(answers.send().is_empty(), "callers are answered at once");
    }

    /// What was answered since the last look, in order.
    fn said(&mut self) -> String {
        let mut said = Vec::new();
        while let Ok(answered) = self.answered.try_recv() {
            for index in 0..answered.replies.len() {
                let place = |partition: PartitionId, offset: Offset| format!("{partition}/{offset}");
                said.push(match answered.settlement.outcome(index, answered.part) {
                    RecordResult::Stored(partition, stored) => {
                        format!("{} {}", place(partition, stored.offset), stored.durability)
                    }
                    RecordResult::Processed(partition, stored, result) => format!(
                        "{} says {}",
                        place(partition, stored.offset),
                        String::from_utf8_lossy(&result)
                    ),
                    RecordResult::Refused(refusal) => match refusal.place {
                        Some((partition, offset)) => format!("{} {}", place(partition, offset), refusal.code),
                        None => refusal.code.to_string(),
                    },
                    RecordResult::Passed(_) => "passed".to_owned(),
                    RecordResult::Scheduled(_) => "scheduled".to_owned(),
                });
            }
        }
        said.join(", ")
    }

    fn counts(&self) -> (u64, u64) {
        (self.part.waits.delivered(), self.part.waits.processed())
    }
}

fn check(script: &str, expected: &str) {
    let mut table = table();
    for step in script.split("; ") {
        table.run(step);
    }
    assert_eq!(table.said(), expected, "{script}");
}

#[test]
fn each_is_answered_for_what_it_waits_for() {
    check("delivered 3; delivered 4; sent 3 4", "2/3 fsync");
    check("delivered 3; delivered 4; sent 0 9", "2/3 fsync, 2/4 fsync");
    check("delivered 3; sent 0 3; sent 4 9; sent 9 0", "");
    check("processed 3; sent 0 9; acked 4", "");
    check("processed 3; acked 3; acked 3", "2/3 says 42");
    check("delivered 3; acked 3", "");
    check(
        "processed 3; processed 4; dead 4; acked 3",
        "2/4 dead_lettered, 2/3 says 42",
    );
}

#[test]
fn waiting_ends_in_time_with_the_place_of_the_record() {
    check("delivered 3 100; processed 4 50; tick 49", "");
    check("delivered 3 100; processed 4 50; tick 50", "2/4 timeout");
    check(
        "delivered 3 100; processed 4 50; tick 200; sent 0 9",
        "2/4 timeout, 2/3 timeout",
    );
    check("delivered 3 100; sent 3 4; tick 200", "2/3 fsync");
    check("delivered 3; tick 9999999", "");
}

#[test]
fn records_that_were_not_stored_are_refused_without_a_place() {
    check(
        "delivered 3; processed 4; fail 4; sent 0 9",
        "storage_failed, 2/3 fsync",
    );
    // The offsets are given again, to others.
    check(
        "delivered 4; fail 4; delivered 4; sent 4 5",
        "storage_failed, 2/4 fsync",
    );
}

#[test]
fn place_is_said_only_of_records_that_are_stored() {
    check("delivered 3 10; delivered 4 10; tick 20 4", "2/3 timeout");
    check("delivered 3 10; tick 20 3; tick 21 4", "2/3 timeout");
    check("delivered 3 10; tick 20 3; fail 3; tick 21 4", "storage_failed");
    check("delivered 3; processed 4; end 4", "2/3 shutting_down");
    let mut table = table();
    table.run("delivered 3 10");
    assert_eq!(table.list.next_timeout(Offset(3)), None);
    assert!(table.list.next_timeout(Offset(4)).is_some());
}

#[test]
fn counts_are_those_of_who_waits() {
    let mut table = table();
    assert_eq!(table.counts(), (0, 0));
    for step in ["delivered 1 10", "delivered 2", "processed 3", "processed 4 10"] {
        table.run(step);
    }
    assert_eq!(table.counts(), (2, 2));
    assert_eq!(
        table.list.next_timeout(Offset(9)),
        Some(table.start + Duration::from_millis(10))
    );
    table.run("tick 10");
    assert_eq!(table.counts(), (1, 1));
    assert_eq!(table.list.next_timeout(Offset(9)), None);
    table.run("sent 0 9");
    assert_eq!(table.counts(), (0, 1));
    table.answered.close();
    table.list.forget_gone();
    assert_eq!(table.counts(), (0, 0));
    assert!(table.list.is_empty());
}

#[test]
fn waits_that_are_dropped_in_a_panic_are_answered_and_no_longer_counted() {
    let mut table = table();
    table.run("delivered 1");
    table.run("processed 2 10");
    table.list = WaitList::new(table.part.clone());
    assert_eq!(table.counts(), (0, 0));
    assert_eq!(table.said(), "internal, internal");
}

//! Which subscription a record belongs to, and where each goes on after a reconnect.
//!
//! No I/O: the driver asks and does. A record of a plain subscription does not say to which
//! subscription it belongs (it is the same bytes for everyone), so two subscriptions of one client
//! must never cover the same topic; [`Positions::insert`] refuses the second.

use std::collections::{BTreeMap, HashMap};

use callboard_protocol::{Offset, PartitionId};
use tokio::sync::mpsc;

use crate::{
    error::Error,
    frame::{FollowedTopic, Message, Skipped, Subscribed},
    handle::Delivered,
    request::{From, Position, Subscribe},
};

/// One subscription.
pub(crate) struct Entry {
    request: Subscribe,
    /// Where it is in each of its topics; empty until the broker has answered.
    topics: BTreeMap<String, Position>,
    pub(crate) sender: mpsc::Sender<Delivered>,
}

/// All subscriptions of one client, by topic or pattern.
#[derive(Default)]
pub(crate) struct Positions {
    entries: BTreeMap<String, Entry>,
    /// Which entry follows a topic.
    routes: HashMap<String, String>,
}

/// Whether a record is to be delivered.
pub(crate) enum Accepted {
    /// Yes, to this subscription.
    Yes(mpsc::Sender<Delivered>),
    /// It was delivered before, or nobody asked for it.
    No,
}

impl Positions {
    /// Adds a subscription.
    ///
    /// # Errors
    /// [`Error::Overlap`] if another one covers some of the same topics.
    pub(crate) fn insert(
        &mut self,
        request: Subscribe,
        sender: mpsc::Sender<Delivered>,
    ) -> Result<(), Error> {
        if let Some(other) = self.entries.keys().find(|other| overlap(other, &request.topic)) {
            return Err(Error::Overlap {
                topic: request.topic,
                other: other.clone(),
            });
        }
        let entry = Entry {
            topics: BTreeMap::new(),
            sender,
            request,
        };
        self.entries.insert(entry.request.topic.clone(), entry);
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Entry> {
        self.routes.retain(|_, entry| entry != name);
        self.entries.remove(name)
    }

    /// The subscription that `sender` belongs to.
    pub(crate) fn name_of(&self, sender: &mpsc::Sender<Delivered>) -> Option<String> {
        let found = self
            .entries
            .iter()
            .find(|(_, entry)| entry.sender.same_channel(sender));
        found.map(|(name, _)| name.clone())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// What to ask for on a new connection: each subscription from where it is.
    pub(crate) fn resume(&self) -> Vec<Subscribe> {
        self.entries.values().map(Entry::resume).collect()
    }

    /// Takes over what the broker said about where a subscription begins or what it covers now.
    pub(crate) fn subscribed(&mut self, frame: &Subscribed) {
        let Some(entry) = self.entries.get_mut(&frame.topic) else {
            return;
        };
        // Without an `id` it tells of new partitions; the places of the old ones are the client's.
        let is_answer = frame.id.is_some();
        if is_answer {
            // A topic of a pattern that the answer does not name is gone, with its offsets.
            entry.topics.clear();
        }
        let single = frame.epoch.as_ref().map(|epoch| FollowedTopic {
            epoch: epoch.clone(),
            offsets: frame.offsets.clone(),
            recovered: frame.recovered,
        });
        let single = single.iter().map(|followed| (&frame.topic, followed));
        for (topic, followed) in frame.topics.iter().chain(single) {
            self.routes.insert(topic.clone(), frame.topic.clone());
            entry.follow(topic, followed);
        }
    }

    /// Notes a record and says whom it is for.
    pub(crate) fn accept(&mut self, message: &Message) -> Accepted {
        let Some((sender, position)) = self.position_mut(&message.topic) else {
            return Accepted::No;
        };
        if let Some(offset) = message.offset {
            let next = position.offsets.entry(message.partition).or_insert(offset);
            if offset < *next {
                return Accepted::No;
            }
            *next = offset.plus(1);
        }
        Accepted::Yes(sender)
    }

    /// Notes records that were left out and says whom to tell.
    pub(crate) fn skip(&mut self, skipped: &Skipped) -> Accepted {
        let Some((sender, position)) = self.position_mut(&skipped.topic) else {
            return Accepted::No;
        };
        position.advance(skipped.partition, skipped.next_offset);
        Accepted::Yes(sender)
    }

    fn position_mut(&mut self, topic: &str) -> Option<(mpsc::Sender<Delivered>, &mut Position)> {
        let entry = self.entries.get_mut(self.routes.get(topic)?)?;
        Some((entry.sender.clone(), entry.topics.get_mut(topic)?))
    }
}

impl Entry {
    fn resume(&self) -> Subscribe {
        let mut request = self.request.clone();
        if is_pattern(&request.topic) {
            // A pattern without topics yet is not at the place where it began: topics may have come since.
            if !self.topics.is_empty() {
                request.from = From::Topics {
                    topics: self.topics.clone(),
                };
            }
        } else if let Some(position) = self.topics.get(&request.topic) {
            request.from = From::Offsets(position.clone());
        }
        request
    }

    fn follow(&mut self, topic: &str, followed: &FollowedTopic) {
        let position = self.topics.entry(topic.to_owned()).or_default();
        if position.epoch.as_ref() != Some(&followed.epoch) {
            *position = Position {
                offsets: BTreeMap::new(),
                epoch: Some(followed.epoch.clone()),
            };
        }
        for (partition, offset) in &followed.offsets {
            position.offsets.entry(*partition).or_insert(*offset);
        }
    }
}

impl Position {
    fn advance(&mut self, partition: PartitionId, next: Offset) {
        let place = self.offsets.entry(partition).or_insert(next);
        *place = (*place).max(next);
    }
}

pub(crate) fn is_pattern(topic: &str) -> bool {
    topic.contains(['*', '#'])
}

/// Whether some topic is covered by both; each is a topic or a pattern.
fn overlap(left: &str, right: &str) -> bool {
    // `$`-names are matched only by patterns that begin with `$`.
    if left.starts_with('$') != right.starts_with('$') {
        return false;
    }
    let left: Vec<&str> = left.split('.').collect();
    let right: Vec<&str> = right.split('.').collect();
    // `row[j]` says whether the words so far of `left` and the first `j` of `right` can match the same words.
    let mut row = vec![false; right.len() + 1];
    for i in 0..=left.len() {
        let mut next = vec![false; right.len() + 1];
        for j in 0..=right.len() {
            let left_word = i.checked_sub(1).map(|i| left[i]);
            let right_word = j.checked_sub(1).map(|j| right[j]);
            next[j] = match (left_word, right_word) {
                (None, None) => true,
                (Some("#"), Some("#")) => row[j] || next[j - 1] || row[j - 1],
                (Some("#"), None) => row[j],
                (Some("#"), Some(_)) => row[j] || next[j - 1],
                (None, Some("#")) => next[j - 1],
                (Some(_), Some("#")) => next[j - 1] || row[j],
                (Some(a), Some(b)) => row[j - 1] && (a == b || a == "*" || b == "*"),
                _ => false,
            };
        }
        row = next;
    }
    row[right.len()]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::frame::ServerFrame;

    fn subscribed(line: &str) -> Subscribed {
        match ServerFrame::decode(line).unwrap() {
            ServerFrame::Subscribed(frame) => frame,
            other => panic!("{other:?}"),
        }
    }

    fn accepts(positions: &mut Positions, topic: &str, partition: u32, offset: u64) -> bool {
        let line = format!(
            r#"{{"type":"message","topic":"{topic}","partition":{partition},"offset":{offset},"timestamp":1,"payload":1}}"#
        );
        let ServerFrame::Message(message) = ServerFrame::decode(&line).unwrap() else {
            panic!("not a message")
        };
        matches!(positions.accept(&message), Accepted::Yes(_))
    }

    fn with(topic: &str) -> Positions {
        let mut positions = Positions::default();
        positions
            .insert(Subscribe::topic(topic), mpsc::channel(1).0)
            .unwrap();
        positions
    }

    #[test]
    fn repeats_after_a_reconnect_are_dropped() {
        let mut positions = with("t");
        let line =
            r#"{"type":"subscribed","id":1,"topic":"t","epoch":"a","offsets":{"0":10},"recovered":true}"#;
        positions.subscribed(&subscribed(line));
        assert!(accepts(&mut positions, "t", 0, 10));
        assert!(accepts(&mut positions, "t", 0, 13));
        assert!(!accepts(&mut positions, "t", 0, 13));
        assert!(!accepts(&mut positions, "t", 0, 11));
        let resume = positions.resume();
        let expected = Position {
            offsets: BTreeMap::from([(PartitionId(0), Offset(14))]),
            epoch: Some(callboard_protocol::Epoch("a".to_owned())),
        };
        assert_eq!(resume[0].from, From::Offsets(expected));
    }

    #[test]
    fn new_epoch_begins_where_the_broker_says() {
        let mut positions = with("t");
        let old =
            r#"{"type":"subscribed","id":1,"topic":"t","epoch":"a","offsets":{"0":10},"recovered":true}"#;
        let new =
            r#"{"type":"subscribed","id":2,"topic":"t","epoch":"b","offsets":{"0":0},"recovered":false}"#;
        positions.subscribed(&subscribed(old));
        positions.subscribed(&subscribed(new));
        assert!(accepts(&mut positions, "t", 0, 0));
    }

    #[test]
    fn announced_partitions_leave_the_others_where_they_are() {
        let mut positions = with("t");
        let first =
            r#"{"type":"subscribed","id":1,"topic":"t","epoch":"a","offsets":{"0":5},"recovered":true}"#;
        let more =
            r#"{"type":"subscribed","topic":"t","epoch":"a","offsets":{"0":0,"1":0},"recovered":true}"#;
        positions.subscribed(&subscribed(first));
        positions.subscribed(&subscribed(more));
        assert!(!accepts(&mut positions, "t", 0, 4));
        assert!(accepts(&mut positions, "t", 1, 0));
    }

    #[test]
    fn pattern_resumes_in_every_topic_that_it_follows() {
        let mut positions = with("orders.*");
        let first = r#"{"type":"subscribed","id":1,"topic":"orders.*","topics":{"orders.a":{"epoch":"x","offsets":{"0":3}}}}"#;
        let later = r#"{"type":"subscribed","topic":"orders.*","topics":{"orders.b":{"epoch":"y","offsets":{"0":0}}}}"#;
        positions.subscribed(&subscribed(first));
        positions.subscribed(&subscribed(later));
        assert!(accepts(&mut positions, "orders.b", 0, 0));
        assert!(!accepts(&mut positions, "orders.c", 0, 0));
        let From::Topics { topics } = &positions.resume()[0].from else {
            panic!("not by topics")
        };
        let next: Vec<_> = topics
            .iter()
            .map(|(topic, at)| (topic.as_str(), at.offsets[&PartitionId(0)].0))
            .collect();
        assert_eq!(next, [("orders.a", 3), ("orders.b", 1)]);
    }

    #[test]
    fn overlap_is_found_between_topics_and_patterns() {
        let table = [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("#", "x.y", true),
            ("#", "$sys", false),
            ("$sys.#", "$sys.a", true),
            ("a.*.c", "a.b.#", true),
            ("a.*.c", "*.b.d", false),
            ("#.z", "a.#", true),
            ("#.z", "a.*.y", false),
        ];
        for (left, right, expected) in table {
            assert_eq!(overlap(left, right), expected, "{left} {right}");
            assert_eq!(overlap(right, left), expected, "{right} {left}");
        }
    }

    #[test]
    fn second_subscription_to_the_same_topics_is_refused() {
        let mut positions = with("orders.*");
        let refused = positions.insert(Subscribe::topic("orders.eu"), mpsc::channel(1).0);
        assert!(matches!(refused, Err(Error::Overlap { .. })));
        assert!(positions.remove("orders.*").is_some());
        assert!(
            positions
                .insert(Subscribe::topic("orders.eu"), mpsc::channel(1).0)
                .is_ok()
        );
    }
}

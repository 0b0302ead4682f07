//! A group driven by a script of words, and what it says as words.

use std::{collections::BTreeMap, fmt::Write as _};

use callboard_core::{
    group::{Event, Exclusive, Generation, GroupError, Join, MemberId, PartitionedGroup},
    group_log::{EntryWriter, entries},
};
use callboard_protocol::{Offset, PartitionId, Timestamp};

use super::{TIMING, entry, from_zero};

/// A group driven by a script: what happens in it, and what it says.
struct Script {
    group: PartitionedGroup,
    now: Timestamp,
    /// All entries that the group gave to its log.
    log: EntryWriter,
    flushed: Vec<Vec<u8>>,
    said: Vec<String>,
}

/// Members are letters.
fn letter(member: MemberId) -> char {
    char::from(b'a' + member.0 as u8)
}

fn member(word: &str) -> MemberId {
    MemberId(u64::from(word.as_bytes()[0] - b'a'))
}

fn number<N: std::str::FromStr>(word: &str) -> N {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
}

/// `0@5 1@7`: an offset for each partition.
fn offsets(words: &[&str]) -> BTreeMap<PartitionId, Offset> {
    let pair = |word: &&str| {
        let (partition, offset) = word.split_once('@').unwrap_or_else(|| panic!("{word:?}"));
        (PartitionId(number(partition)), Offset(number(offset)))
    };
    words.iter().map(pair).collect()
}

fn shown(offsets: &BTreeMap<PartitionId, Offset>) -> String {
    let mut text = String::new();
    for (partition, offset) in offsets {
        let _ = write!(text, " {partition}@{offset}");
    }
    text
}

impl Script {
    fn new() -> Self {
        Self {
            group: PartitionedGroup::new(TIMING),
            now: Timestamp(0),
            log: EntryWriter::new(),
            flushed: Vec::new(),
            said: Vec::new(),
        }
    }

    fn play(&mut self, step: &str) {
        let words: Vec<&str> = step.split_whitespace().collect();
        match words[..] {
            ["partitions", count] => {
                self.group.set_partitions(self.now, &from_zero(number(count)));
            }
            ["partitions", "from", ref firsts @ ..] => {
                self.group.set_partitions(self.now, &offsets(firsts));
            }
            ["wait", ms] => {
                self.now = self.now.plus_ms(number(ms));
                self.group.tick(self.now);
                let timeout = self.group.next_timeout();
                assert!(
                    timeout.is_none_or(|timeout| timeout > self.now),
                    "{step}: a tick is all it takes"
                );
            }
            ["timeout"] => {
                let timeout = self.group.next_timeout();
                self.said.push(timeout.map_or("none".to_owned(), |timeout| {
                    format!("in {}", timeout.since(self.now))
                }));
            }
            ["seek", ref to @ ..] => self.group.seek(self.now, &offsets(to)),
            ["restart"] => self.restart(),
            [who, "leaves"] => self.group.leave(self.now, member(who)),
            [who, "is", "lost"] => self.group.lost(self.now, member(who)),
            [who, "stops", partition] => self.stopped(who, partition, None),
            [who, "stops", partition, "out", out] => self.stopped(who, partition, Some(Offset(number(out)))),
            [who, "joins", ref how @ ..] => self.join(who, how),
            [who, "releases", ref partitions @ ..] => {
                let partitions: Vec<PartitionId> = partitions
                    .iter()
                    .map(|partition| PartitionId(number(partition)))
                    .collect();
                let released = self.group.release(self.now, member(who), &partitions);
                self.answered(released);
            }
            [who, "commits", ref to @ .., "in", generation] => {
                let generation = Some(Generation(number(generation)));
                let committed = self.group.commit(self.now, member(who), generation, &offsets(to));
                self.answered(committed);
            }
            [who, "commits", ref to @ ..] => {
                let committed = self.group.commit(self.now, member(who), None, &offsets(to));
                self.answered(committed);
            }
            _ => panic!("{step:?} is no step"),
        }
        self.listen();
    }

    fn stopped(&mut self, who: &str, partition: &str, out: Option<Offset>) {
        self.group
            .stopped(self.now, member(who), PartitionId(number(partition)), out);
    }

    /// `joins`, then `as NAME`, `alone`, `from 0@5 …` in this order, each or none.
    fn join(&mut self, who: &str, how: &[&str]) {
        let (name, how) = match how {
            ["as", name, rest @ ..] => (Some(*name), rest),
            rest => (None, rest),
        };
        let (exclusive, how) = match how {
            ["alone", rest @ ..] => (Exclusive::Yes, rest),
            rest => (Exclusive::No, rest),
        };
        let starts = match how {
            ["from", starts @ ..] => offsets(starts),
            _ => BTreeMap::new(),
        };
        let join = Join {
            member: member(who),
            name,
            exclusive,
            starts: &starts,
        };
        let joined = self.group.join(self.now, join);
        self.answered(joined);
    }

    fn answered(&mut self, answer: Result<(), GroupError>) {
        self.said.extend(answer.err().map(|error| match error {
            GroupError::Conflict(_) => "conflict".to_owned(),
            GroupError::NotOwner { partition } => format!("not owner of {partition}"),
            GroupError::StaleGeneration { partition, since } => format!("stale {partition} since {since}"),
            GroupError::UnknownMember => "no member".to_owned(),
        }));
    }

    fn listen(&mut self) {
        let mut positioned = BTreeMap::new();
        for event in self.group.drain_events() {
            if let Some(entry) = entry(&event) {
                self.log.push(&entry);
            }
            match event {
                Event::Positioned { partition, offset } => drop(positioned.insert(partition, offset)),
                Event::Generation(generation) => self.said.push(format!("g{generation}")),
                Event::Assigned { member, offsets, .. } if offsets.is_empty() => {
                    self.said.push(format!("{} idles", letter(member)));
                }
                Event::Assigned {
                    member,
                    offsets,
                    generation,
                } => {
                    assert_eq!(generation, self.group.generation());
                    self.said
                        .push(format!("{} gains{}", letter(member), shown(&offsets)));
                }
                Event::Revoked {
                    member,
                    partitions,
                    grace_ms,
                    generation,
                } => {
                    assert_eq!(generation, self.group.generation());
                    let mut text = format!("{} loses", letter(member));
                    for partition in partitions {
                        let _ = write!(text, " {partition}");
                    }
                    if grace_ms == 0 {
                        text.push_str(" at once");
                    }
                    self.said.push(text);
                }
                Event::Replaced { member } => self.said.push(format!("{} is replaced", letter(member))),
            }
        }
        if !positioned.is_empty() {
            self.said.push(format!("at{}", shown(&positioned)));
        }
    }

    fn restart(&mut self) {
        self.flushed.push(self.log.finish());
        self.group = PartitionedGroup::new(TIMING);
        for record in &self.flushed {
            for entry in entries(record).expect("it was written by this version") {
                self.group.apply(&entry.expect("it was written whole"));
            }
        }
        // What a snapshot says is the same, so the log may be cut behind it.
        self.group.snapshot(&mut self.log);
        self.flushed.clear();
    }
}

/// Plays `script` step by step; the steps before `|` are not listened to.
pub(super) fn check(script: &str, expected: &str) {
    let mut play = Script::new();
    let (before, listened) = script.split_once('|').unwrap_or(("", script));
    for step in before.split(';').filter(|step| !step.trim().is_empty()) {
        play.play(step);
    }
    play.said.clear();
    for step in listened.split(';') {
        play.play(step);
    }
    assert_eq!(play.said.join("; "), expected, "{script}");
}

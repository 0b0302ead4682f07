//! How a group is known again from its log, and the snapshot that lets a log be cut.
//!
//! During a replay every record that was taken and is not finished waits; what becomes of it is decided
//! once, at the end, when nothing can follow that says otherwise.

use std::{collections::BTreeMap, ops::Range};

use callboard_protocol::{Offset, PartitionId, Timestamp, limits::PARTITIONS_MAX};

use super::{
    Counters, Ordering, SharedGroup,
    progress::{Comes, Doom, Progress, WaitState, Waiting},
    settle::{Cause, Dead},
    timers::Timer,
};
use crate::group_log::{Entry, EntryWriter};

impl SharedGroup {
    /// Takes in an entry of the group's log, each in its order, before anything else happens.
    pub fn apply(&mut self, entry: &Entry<'_>) {
        match *entry {
            Entry::Snapshot => {
                self.partitions.clear();
                self.fresh.clear();
                self.counters = Counters::default();
                self.redriven_next.clear();
                self.letters = None;
            }
            Entry::Position { partition, offset } if partition.0 < PARTITIONS_MAX => {
                self.set_position(partition, offset);
            }
            Entry::Taken {
                partition,
                from,
                count,
                attempt,
            } => {
                if let Some(progress) = self.progress_mut(partition) {
                    replay_taken(progress, from.0..from.0 + count, attempt);
                }
            }
            Entry::Finished {
                partition,
                from,
                count,
            } => self.apply_finished(partition, from.0..from.0 + count),
            Entry::Returned {
                partition,
                offset,
                due,
            } => {
                if let Some(progress) = self.progress_mut(partition) {
                    replay_returned(progress, offset.0, due);
                }
            }
            Entry::Doomed {
                partition,
                offset,
                failed_at,
                reason,
            } => {
                if let Some(progress) = self.progress_mut(partition) {
                    replay_doomed(progress, offset.0, (failed_at, reason.into()));
                }
            }
            Entry::Counters {
                acked,
                dead_lettered,
                redriven,
            } => {
                self.counters = Counters {
                    acked,
                    dead_lettered,
                    redriven,
                }
            }
            Entry::Redriven {
                partition,
                next,
                count,
            } => {
                self.redriven_next.insert(partition, next);
                self.counters.redriven += count;
            }
            Entry::Letters(topic) => {
                if self.letters.replace(topic).is_some_and(|former| former != topic) {
                    self.redriven_next.clear();
                }
            }
            // Generations are of partitioned groups.
            Entry::Generation(_) | Entry::Position { .. } => {}
        }
    }

    fn apply_finished(&mut self, partition: PartitionId, range: Range<u64>) {
        if let Some(progress) = self.progress_mut(partition) {
            let (acked, buried) = replay_finished(progress, range);
            self.counters.acked += acked;
            self.counters.dead_lettered += buried;
        }
    }

    /// The log ends here: what was out comes again, and what has had its attempts is dead.
    pub fn restored(&mut self, now: Timestamp) {
        let partitions: Vec<_> = self.partitions().collect();
        for partition in partitions {
            self.restore_partition(now, partition);
        }
    }

    fn restore_partition(&mut self, now: Timestamp, partition: PartitionId) {
        let (attempts_max, ordering) = (self.settings.attempts_max, self.ordering);
        let Some(progress) = self.progress_mut(partition) else {
            return;
        };
        restore_held_back(progress);
        let (mut dead, mut timers) = (Vec::new(), Vec::new());
        for (&offset, waiting) in &mut progress.waiting {
            if waiting.attempts >= attempts_max {
                dead.push((offset, waiting.attempts));
            } else if ordering == Ordering::BestEffort && waiting.due > now {
                waiting.state = WaitState::Delayed;
                timers.push((waiting.due, Timer::Retry(partition, Offset(offset))));
            } else {
                // In key order also if it is not due, because its key must be known.
                progress.ready.insert(offset);
            }
        }
        for &(offset, attempts) in &dead {
            progress.waiting.remove(&offset);
            let verdict = None;
            progress.dead.insert(offset, Doom { attempts, verdict });
        }
        progress.end = progress.end.max(progress.cursor);
        let has_ready = !progress.ready.is_empty();
        self.dead.extend(dead.into_iter().map(|(offset, attempts)| Dead {
            partition,
            offset: Offset(offset),
            attempts,
            cause: Cause::Gone,
        }));
        for (at, timer) in timers {
            self.set_timer(at, timer);
        }
        if has_ready {
            self.comes(partition, Comes::AtOnce);
        }
        self.queue_fresh(partition);
    }

    /// Writes all that there is to know, so that the log before it can be cut.
    pub fn snapshot(&self, out: &mut EntryWriter) {
        out.push(&Entry::Snapshot);
        let mut leased: BTreeMap<PartitionId, Vec<(u64, u32)>> = BTreeMap::new();
        for (_, lease) in self.members.iter().flat_map(|member| member.window.leases()) {
            let of_partition = leased.entry(lease.partition).or_default();
            of_partition.push((lease.offset.0, lease.attempt));
        }
        for partition in self.partitions() {
            if let Some(progress) = self.progress(partition) {
                let leased = leased.remove(&partition).unwrap_or_default();
                snapshot_partition(partition, progress, leased, out);
            }
        }
        out.push(&Entry::Counters {
            acked: self.counters.acked,
            dead_lettered: self.counters.dead_lettered,
            redriven: self.counters.redriven,
        });
        if let Some(topic) = self.letters {
            out.push(&Entry::Letters(topic));
        }
        for (&partition, &next) in &self.redriven_next {
            out.push(&Entry::Redriven {
                partition,
                next,
                count: 0,
            });
        }
    }
}

fn replay_taken(progress: &mut Progress, range: Range<u64>, attempts: u32) {
    progress.cursor = progress.cursor.max(range.end);
    for offset in range.filter(|&offset| !progress.finished.contains(offset)) {
        let waiting = Waiting {
            attempts,
            due: Timestamp(0),
            key: None,
            state: WaitState::Ready,
        };
        progress.waiting.insert(offset, waiting);
    }
}

fn replay_returned(progress: &mut Progress, offset: u64, due: Timestamp) {
    if let Some(waiting) = progress.waiting.get_mut(&offset) {
        waiting.due = due;
    }
}

fn replay_doomed(progress: &mut Progress, offset: u64, verdict: (Timestamp, Box<str>)) {
    let waiting = progress.waiting.remove(&offset);
    let doom = Doom {
        attempts: waiting.map_or(0, |waiting| waiting.attempts),
        verdict: Some(verdict),
    };
    progress.dead.insert(offset, doom);
}

/// Returns how many of them were out, and how many were doomed.
fn replay_finished(progress: &mut Progress, range: Range<u64>) -> (u64, u64) {
    progress.cursor = progress.cursor.max(range.end);
    progress.finished.insert_range(range.start, range.end);
    let out = progress.waiting.extract_if(range.clone(), |_, _| true).count();
    let doomed = progress.dead.extract_if(range, |_, _| true).count();
    (out as u64, doomed as u64)
}

/// What lies before the cursor and was neither taken nor finished was held back behind its key.
fn restore_held_back(progress: &mut Progress) {
    let mut offset = progress.finished.floor();
    while offset < progress.cursor {
        if !progress.dead.contains_key(&offset) {
            progress.waiting.entry(offset).or_insert(Waiting {
                attempts: 0,
                due: Timestamp(0),
                key: None,
                state: WaitState::Ready,
            });
        }
        offset = progress.finished.next_open(offset + 1);
    }
}

fn snapshot_partition(
    partition: PartitionId,
    progress: &Progress,
    leased: Vec<(u64, u32)>,
    out: &mut EntryWriter,
) {
    out.push(&Entry::Position {
        partition,
        offset: Offset(progress.finished.floor()),
    });
    for (from, next) in progress.finished.runs() {
        out.push(&Entry::Finished {
            partition,
            from: Offset(from),
            count: next - from,
        });
    }
    let waiting = progress
        .waiting
        .iter()
        .map(|(&offset, waiting)| (offset, waiting.attempts));
    let dead = progress
        .dead
        .iter()
        .map(|(&offset, doom)| (offset, doom.attempts));
    let mut attempts: Vec<_> = leased.into_iter().chain(waiting).chain(dead).collect();
    // In the order of offsets, so that neighbours become one entry.
    attempts.sort_unstable();
    for (offset, attempt) in attempts {
        // Never handed out: it was held back, which the replay sees from the gap.
        if attempt > 0 {
            out.push(&Entry::Taken {
                partition,
                from: Offset(offset),
                count: 1,
                attempt,
            });
        }
    }
    for (&offset, waiting) in progress.waiting.iter().filter(|(_, it)| it.due.0 > 0) {
        out.push(&Entry::Returned {
            partition,
            offset: Offset(offset),
            due: waiting.due,
        });
    }
    for (&offset, doom) in &progress.dead {
        if let Some((failed_at, reason)) = &doom.verdict {
            out.push(&Entry::Doomed {
                partition,
                offset: Offset(offset),
                failed_at: *failed_at,
                reason,
            });
        }
    }
}

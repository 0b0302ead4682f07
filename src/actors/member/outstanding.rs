//! What a member of a partitioned group was given and has not committed.
//!
//! Owns the count that its credit is held against, and what a commit must reach for nothing to be out.

use std::collections::VecDeque;

use callboard_protocol::Offset;

/// What a member was given of one partition and has not committed: runs of offsets, oldest first.
#[derive(Debug, Default)]
pub struct Outstanding {
    runs: VecDeque<Run>,
    count: u64,
}

#[derive(Debug)]
struct Run {
    from: Offset,
    next: Offset,
    /// Records in it; fewer than offsets where some had expired.
    count: u64,
}

impl Outstanding {
    /// It was given `count` records of `from..next`.
    pub fn given(&mut self, (from, next): (Offset, Offset), count: u64) {
        if count == 0 {
            return;
        }
        self.count += count;
        let is_dense = |run: &Run| run.next.since(run.from) == run.count;
        match self.runs.back_mut() {
            Some(last) if last.next == from && is_dense(last) && next.since(from) == count => {
                last.next = next;
                last.count += count;
            }
            _ => self.runs.push_back(Run { from, next, count }),
        }
    }

    /// Everything before `offset` is committed; returns how many records that frees.
    pub fn committed(&mut self, offset: Offset) -> u64 {
        let before = self.count;
        while let Some(run) = self.runs.front_mut() {
            let freed = if run.next <= offset {
                run.count
            } else {
                run.count.min(offset.since(run.from))
            };
            self.count -= freed;
            run.count -= freed;
            if run.count > 0 {
                run.from = run.from.max(offset);
                break;
            }
            self.runs.pop_front();
        }
        before - self.count
    }

    /// How many records are out.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What a commit must reach for nothing to be out; none if nothing is.
    pub fn until(&self) -> Option<Offset> {
        self.runs.back().map(|run| run.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_free_what_lies_before_them_and_no_more() {
        let mut out = Outstanding::default();
        out.given((Offset(0), Offset(10)), 10);
        out.given((Offset(10), Offset(15)), 5);
        assert_eq!(out.runs.len(), 1);
        assert_eq!(out.committed(Offset(4)), 4);
        assert_eq!(out.committed(Offset(3)), 0);
        assert_eq!((out.count(), out.until()), (11, Some(Offset(15))));
        assert_eq!(out.committed(Offset(15)), 11);
        assert_eq!((out.count(), out.until()), (0, None));
    }

    #[test]
    fn expired_offsets_at_the_end_keep_nothing_out() {
        let mut out = Outstanding::default();
        out.given((Offset(0), Offset(10)), 3);
        out.given((Offset(10), Offset(20)), 0);
        assert_eq!(out.committed(Offset(3)), 3);
        assert_eq!((out.count(), out.until()), (0, None));
    }
}

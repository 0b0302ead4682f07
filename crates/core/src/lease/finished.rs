//! Which records of one partition a shared group has finished: all before the floor, and a bitmap above.
//!
//! The bitmap is cut into chunks, and a chunk of which every record is finished needs no bits. So one
//! record that stays out for a day, while millions after it are acked, costs next to nothing.

use std::collections::VecDeque;

/// Offsets of one chunk.
const CHUNK: u64 = 4096;
const WORDS: usize = CHUNK as usize / 64;

#[derive(Debug)]
enum Chunk {
    /// Nothing of it is finished.
    Empty,
    /// Some of it may be.
    Partial(Box<Words>),
    /// All of it is finished.
    Full,
}

#[derive(Debug)]
struct Words {
    bits: [u64; WORDS],
    /// How many bits are set.
    count: u64,
}

impl Chunk {
    /// The bits, all clear at first; `None` if they are all set and not kept.
    fn words(&mut self) -> Option<&mut Words> {
        if let Self::Empty = self {
            *self = Self::Partial(Box::new(Words {
                bits: [0; WORDS],
                count: 0,
            }));
        }
        match self {
            Self::Partial(words) => Some(words),
            Self::Full | Self::Empty => None,
        }
    }
}

/// The finished offsets of one partition.
#[derive(Debug)]
pub(super) struct Finished {
    /// Every offset before it is finished, and it is not.
    floor: u64,
    /// The first offset of the first chunk; at or before the floor. Means nothing without chunks.
    base: u64,
    chunks: VecDeque<Chunk>,
}

impl Finished {
    /// Everything before `floor` is finished and nothing after it; allocates nothing.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            floor,
            base: 0,
            chunks: VecDeque::new(),
        }
    }

    /// The first offset that is not finished.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Finishes one offset; does nothing if it is finished already.
    #[inline]
    pub(super) fn insert(&mut self, offset: u64) {
        if offset == self.floor && self.chunks.is_empty() {
            self.floor += 1;
            return;
        }
        if offset < self.floor {
            return;
        }
        self.set(offset);
        if offset == self.floor {
            self.advance();
        }
    }

    /// Finishes `from..next`, in time that does not grow with the offsets but with the chunks.
    pub(super) fn insert_range(&mut self, from: u64, next: u64) {
        let from = from.max(self.floor);
        if from >= next {
            return;
        }
        if from == self.floor && self.chunks.is_empty() {
            self.floor = next;
            return;
        }
        let mut at = from;
        while at < next {
            let end = next.min((at / CHUNK + 1) * CHUNK);
            if end - at == CHUNK {
                *self.chunk_of(at) = Chunk::Full;
            } else {
                (at..end).for_each(|offset| self.set(offset));
            }
            at = end;
        }
        self.advance();
    }

    /// Sets the bit of an offset at or above the floor, and leaves the floor where it is.
    #[inline]
    fn set(&mut self, offset: u64) {
        let chunk = self.chunk_of(offset);
        if let Some(words) = chunk.words() {
            let bit = 1 << (offset % 64);
            let word = &mut words.bits[(offset % CHUNK / 64) as usize];
            words.count += u64::from(*word & bit == 0);
            *word |= bit;
            if words.count == CHUNK {
                *chunk = Chunk::Full;
            }
        }
    }

    /// Whether an offset is finished.
    pub(super) fn contains(&self, offset: u64) -> bool {
        if offset < self.floor {
            return true;
        }
        match self.chunk_at(offset) {
            None | Some(Chunk::Empty) => false,
            Some(Chunk::Full) => true,
            Some(Chunk::Partial(words)) => {
                words.bits[(offset % CHUNK / 64) as usize] & (1 << (offset % 64)) != 0
            }
        }
    }

    /// The first offset from `at` on that is not finished.
    pub(super) fn next_open(&self, at: u64) -> u64 {
        let mut at = at.max(self.floor);
        loop {
            match self.chunk_at(at) {
                None | Some(Chunk::Empty) => return at,
                Some(Chunk::Full) => at = (at / CHUNK + 1) * CHUNK,
                Some(Chunk::Partial(words)) => match first_bit(words, at, |word| !word) {
                    Some(open) => return open,
                    None => at = (at / CHUNK + 1) * CHUNK,
                },
            }
        }
    }

    /// The finished runs above the floor, in their order.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut at = self.floor;
        std::iter::from_fn(move || {
            let from = self.next_finished(at)?;
            at = self.next_open(from);
            Some((from, at))
        })
    }

    fn next_finished(&self, mut at: u64) -> Option<u64> {
        loop {
            match self.chunk_at(at)? {
                Chunk::Empty => {}
                Chunk::Full => return Some(at),
                Chunk::Partial(words) => {
                    if let Some(finished) = first_bit(words, at, |word| word) {
                        return Some(finished);
                    }
                }
            }
            at = (at / CHUNK + 1) * CHUNK;
        }
    }

    fn chunk_at(&self, offset: u64) -> Option<&Chunk> {
        let index = offset.checked_sub(self.base)? / CHUNK;
        self.chunks.get(usize::try_from(index).ok()?)
    }

    /// The chunk of an offset at or above the floor; makes those up to it.
    fn chunk_of(&mut self, offset: u64) -> &mut Chunk {
        if self.chunks.is_empty() {
            self.base = self.floor / CHUNK * CHUNK;
        }
        let index = ((offset - self.base) / CHUNK) as usize;
        while self.chunks.len() <= index {
            self.chunks.push_back(Chunk::Empty);
        }
        &mut self.chunks[index]
    }

    /// Moves the floor over what is finished, and lets go of the chunks behind it.
    fn advance(&mut self) {
        while let Some(front) = self.chunks.front() {
            let end = self.base + CHUNK;
            let open = match front {
                Chunk::Empty => None,
                Chunk::Full => Some(end),
                Chunk::Partial(words) => Some(first_bit(words, self.floor, |word| !word).unwrap_or(end)),
            };
            self.floor = open.unwrap_or(self.floor);
            if self.floor < end {
                return;
            }
            self.chunks.pop_front();
            self.base = end;
        }
    }
}

/// The first offset from `at` to the end of its chunk whose bit is set in what `of` makes of the words.
#[inline]
fn first_bit(words: &Words, at: u64, of: impl Fn(u64) -> u64) -> Option<u64> {
    let first = (at % CHUNK / 64) as usize;
    let mut mask = u64::MAX << (at % 64);
    for (index, &word) in words.bits.iter().enumerate().skip(first) {
        let bits = of(word) & mask;
        if bits != 0 {
            return Some(at / CHUNK * CHUNK + index as u64 * 64 + u64::from(bits.trailing_zeros()));
        }
        mask = u64::MAX;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A walk of pseudo-random numbers; enough to meet every border of words and chunks.
    fn numbers(seed: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(seed | 1);
            state >> 33
        })
    }

    #[test]
    fn bitmap_agrees_with_a_set() {
        for seed in 0..30 {
            let mut numbers = numbers(seed);
            let mut below = |bound: u64| numbers.next().expect("endless") % bound;
            let start = below(10_000);
            let (mut finished, mut set) = (Finished::new(start), BTreeSet::new());
            let mut floor = start;
            for _ in 0..12 {
                let from = floor + below(9_000);
                let next = from + 1 + below(3) * below(5_000);
                if below(3) == 0 {
                    finished.insert_range(floor, from);
                    set.extend(floor..from);
                } else if next == from + 1 {
                    finished.insert(from);
                    set.insert(from);
                } else {
                    finished.insert_range(from, next);
                    set.extend(from..next);
                }
                while set.remove(&floor) {
                    floor += 1;
                }
                assert_eq!(finished.floor(), floor, "seed {seed}");
                let in_runs: Vec<_> = finished.runs().flat_map(|(from, next)| from..next).collect();
                assert!(in_runs.iter().eq(&set), "seed {seed}");
                let at = floor + below(10_000);
                assert_eq!(finished.contains(at), set.contains(&at), "seed {seed}");
                let open = (at..).find(|offset| !set.contains(offset));
                assert_eq!(Some(finished.next_open(at)), open, "seed {seed}");
            }
        }
    }

    #[test]
    fn one_open_record_below_a_billion_finished_costs_little() {
        let mut finished = Finished::new(7);
        finished.insert_range(8, 1_000_000_000);
        assert_eq!(finished.floor(), 7);
        let with_bits = |chunk: &&Chunk| matches!(chunk, Chunk::Partial(_));
        assert!(finished.chunks.iter().filter(with_bits).count() <= 2);
        finished.insert(7);
        assert_eq!(finished.floor(), 1_000_000_000);
        assert!(finished.chunks.len() <= 1);
    }
}

//! What has a key with wildcards in it, by the words of the key: the bindings of one topic exchange, and the
//! patterns that subscribers follow topics by ([`Patterns`](crate::patterns::Patterns)).
//!
//! A key is a path from the root: a plain word, `*` (exactly one word) or `#` (any number of words, also
//! none) leads to the next node, and an entry lies where its key ends. Matching walks down with the set
//! of *positions* at which a node can be reached: how many words of the routing key are used up by then.
//! So each node is visited at most once, whatever the number of `#` above it, and nodes whose words the
//! routing key does not hold are not visited at all.

use std::{collections::HashMap, sync::Arc};

use super::Binding;

/// Something that lies in the trie.
pub(crate) trait Keyed {
    /// Where it lies.
    fn key(&self) -> &str;
    /// Its number; no other entry of the trie has the same.
    fn number(&self) -> u64;
}

impl Keyed for Arc<Binding> {
    fn key(&self) -> &str {
        &self.routing_key
    }

    fn number(&self) -> u64 {
        self.id.0
    }
}

/// One node, and everything below it.
#[derive(Debug)]
pub(crate) struct Node<E> {
    words: HashMap<Box<str>, Box<Node<E>>>,
    /// Below `*`.
    any_word: Option<Box<Node<E>>>,
    /// Below `#`.
    any_words: Option<Box<Node<E>>>,
    /// Those whose keys end here, by their numbers.
    here: Vec<E>,
}

impl<E> Default for Node<E> {
    fn default() -> Self {
        Self {
            words: HashMap::new(),
            any_word: None,
            any_words: None,
            here: Vec::new(),
        }
    }
}

/// A routing key split into words, as every trie on its way needs it.
#[derive(Debug)]
pub(crate) struct Words<'k> {
    words: Vec<Word<'k>>,
}

#[derive(Debug)]
struct Word<'k> {
    text: &'k str,
    /// Every position in which this word stands.
    positions: Positions,
}

impl<'k> Words<'k> {
    pub(crate) fn of(routing_key: &'k str) -> Self {
        let mut words: Vec<Word<'k>> = Vec::with_capacity(routing_key.len().div_ceil(4));
        for text in split(routing_key) {
            words.push(Word {
                text,
                positions: Positions::NONE,
            });
        }
        for at in 0..words.len() {
            let text = words[at].text;
            // The first of its kind collects for all of them, and the others copy what it has.
            match words[..at].iter().position(|word| word.text == text) {
                Some(first) => words[at].positions = words[first].positions,
                None => {
                    let same = (at..words.len()).filter(|&other| words[other].text == text);
                    words[at].positions = same.collect();
                }
            }
        }
        Self { words }
    }

    /// The position after the last word.
    fn end(&self) -> usize {
        self.words.len()
    }
}

/// The words of a key. The empty key has none, so that only `#` and another empty key match it.
fn split(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').skip(usize::from(key.is_empty()))
}

/// The steps from the root to where a binding of this key lies.
///
/// Of several wildcards in a row the `*` come first and one `#` is enough: `#.*.#` means `*.#`. So there
/// are no two ways to say the same, and no `#` directly below another.
fn steps(binding_key: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    let mut has_any_words = false;
    for word in split(binding_key) {
        match word {
            "#" => has_any_words = true,
            "*" => steps.push("*"),
            _ => {
                if std::mem::take(&mut has_any_words) {
                    steps.push("#");
                }
                steps.push(word);
            }
        }
    }
    if has_any_words {
        steps.push("#");
    }
    steps
}

impl<E: Keyed> Node<E> {
    pub(crate) fn insert(&mut self, entry: E) {
        let mut node = self;
        for step in steps(entry.key()) {
            let below = match step {
                "*" => node.any_word.get_or_insert_default(),
                "#" => node.any_words.get_or_insert_default(),
                word => {
                    // Two look-ups for a new word, so that a known one is not copied.
                    if !node.words.contains_key(word) {
                        node.words.insert(word.into(), Box::default());
                    }
                    node.words.get_mut(word).expect("it was put there if it was not")
                }
            };
            node = below;
        }
        insert_sorted(&mut node.here, entry);
    }

    /// Takes the entry out, and the nodes that were there only for it.
    pub(crate) fn remove(&mut self, key: &str, number: u64) {
        self.remove_below(&steps(key), number);
    }

    fn remove_below(&mut self, steps: &[&str], number: u64) {
        let Some((&step, rest)) = steps.split_first() else {
            remove_sorted(&mut self.here, number);
            return;
        };
        let below = match step {
            "*" => self.any_word.as_mut(),
            "#" => self.any_words.as_mut(),
            word => self.words.get_mut(word),
        };
        let Some(below) = below else {
            return;
        };
        below.remove_below(rest, number);
        if !below.is_empty() {
            return;
        }
        match step {
            "*" => self.any_word = None,
            "#" => self.any_words = None,
            word => {
                self.words.remove(word);
                super::table::shrink(&mut self.words);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.words.is_empty() && self.any_word.is_none() && self.any_words.is_none()
    }

    /// Calls `found` with each entry that matches, once.
    pub(crate) fn matching<'t>(&'t self, words: &Words<'_>, found: &mut impl FnMut(&'t E)) {
        self.visit(words, Positions::START, found);
    }

    /// `reached` is never empty.
    fn visit<'t>(&'t self, words: &Words<'_>, reached: Positions, found: &mut impl FnMut(&'t E)) {
        let end = words.end();
        if reached.contains(end) {
            for entry in &self.here {
                found(entry);
            }
        }
        if let Some(below) = &self.any_words {
            below.visit(words, reached.and_later(end), found);
        }
        let before_a_word = reached.without(end);
        if before_a_word.is_none() {
            return;
        }
        if let Some(below) = &self.any_word {
            below.visit(words, before_a_word.one_further(), found);
        }
        if self.words.is_empty() {
            return;
        }
        let mut left = before_a_word;
        while let Some(at) = left.first() {
            let word = &words.words[at];
            if let Some(below) = self.words.get(word.text) {
                below.visit(words, left.both(word.positions).one_further(), found);
            }
            left = left.except(word.positions);
        }
    }
}

/// Puts an entry where its number belongs: at the end, as a rule, because numbers grow.
pub(super) fn insert_sorted<E: Keyed>(entries: &mut Vec<E>, entry: E) {
    let at = entries.partition_point(|other| other.number() < entry.number());
    entries.insert(at, entry);
}

pub(super) fn remove_sorted<E: Keyed>(entries: &mut Vec<E>, number: u64) {
    if let Ok(at) = entries.binary_search_by_key(&number, Keyed::number) {
        entries.remove(at);
        if entries.len() < entries.capacity() / 4 {
            entries.shrink_to(entries.len() * 2);
        }
    }
}

/// A set of positions in a routing key, from before its first word to after its last.
///
/// 255 bytes that are all dots are 256 words, so the last of 257 positions is 256.
#[derive(Clone, Copy, Debug)]
struct Positions([u64; Positions::PARTS]);

impl Positions {
    const PARTS: usize = 5;
    const NONE: Self = Self([0; Self::PARTS]);
    const START: Self = Self([1, 0, 0, 0, 0]);

    fn insert(&mut self, position: usize) {
        self.0[position / 64] |= 1 << (position % 64);
    }

    fn contains(self, position: usize) -> bool {
        self.0[position / 64] & (1 << (position % 64)) != 0
    }

    fn without(mut self, position: usize) -> Self {
        self.0[position / 64] &= !(1 << (position % 64));
        self
    }

    fn is_none(self) -> bool {
        self.0 == Self::NONE.0
    }

    fn first(self) -> Option<usize> {
        let part = self.0.iter().position(|&part| part != 0)?;
        Some(part * 64 + self.0[part].trailing_zeros() as usize)
    }

    fn both(self, other: Self) -> Self {
        Self(std::array::from_fn(|part| self.0[part] & other.0[part]))
    }

    fn except(self, other: Self) -> Self {
        Self(std::array::from_fn(|part| self.0[part] & !other.0[part]))
    }

    /// Each position one word later; none of them is the last.
    fn one_further(self) -> Self {
        let mut carry = 0;
        Self(self.0.map(|part| {
            let shifted = part << 1 | carry;
            carry = part >> 63;
            shifted
        }))
    }

    /// The first position and all after it, up to and with `end`.
    fn and_later(self, end: usize) -> Self {
        let first = self.first().unwrap_or(end);
        (first..=end).collect()
    }
}

impl FromIterator<usize> for Positions {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut set = Self::NONE;
        for position in positions {
            set.insert(position);
        }
        set
    }
}

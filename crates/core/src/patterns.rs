//! Which of many patterns a topic's name matches, found by its words and not by trying each.
//!
//! Owns the patterns and one value for each. Knows no topics; its callers are whoever keeps subscriptions that follow
//! topics to come. Matches just what [`Pattern::matches`] does.

use callboard_protocol::{TopicName, name::Pattern};

use crate::exchange::trie::{Keyed, Node, Words};

/// A pattern's place among the [`Patterns`]: they are told in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PatternId(u64);

/// See the module.
#[derive(Debug)]
pub struct Patterns<T> {
    /// Those of ordinary topics.
    ordinary: Node<Entry<T>>,
    /// Those that begin with `$`, which stand for the broker's own topics, without it.
    internal: Node<Entry<T>>,
    count: usize,
    last: u64,
}

#[derive(Debug)]
struct Entry<T> {
    pattern: Pattern,
    id: PatternId,
    value: T,
}

impl<T> Keyed for Entry<T> {
    fn key(&self) -> &str {
        words_of(self.pattern.as_str()).1
    }

    fn number(&self) -> u64 {
        self.id.0
    }
}

/// Whether a name or a pattern is about the broker's own topics, and the rest of it.
fn words_of(text: &str) -> (bool, &str) {
    match text.strip_prefix('$') {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self {
            ordinary: Node::default(),
            internal: Node::default(),
            count: 0,
            last: 0,
        }
    }
}

impl<T> Patterns<T> {
    /// Takes a pattern in; the same one may be there any number of times.
    pub fn insert(&mut self, pattern: &Pattern, value: T) -> PatternId {
        self.last += 1;
        self.count += 1;
        let id = PatternId(self.last);
        self.side_mut(words_of(pattern.as_str()).0).insert(Entry {
            pattern: pattern.clone(),
            id,
            value,
        });
        id
    }

    /// Takes it out again. Called once for each that was taken in.
    pub fn remove(&mut self, pattern: &Pattern, id: PatternId) {
        let (is_internal, key) = words_of(pattern.as_str());
        self.side_mut(is_internal).remove(key, id.0);
        self.count -= 1;
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    fn side_mut(&mut self, is_internal: bool) -> &mut Node<Entry<T>> {
        if is_internal {
            &mut self.internal
        } else {
            &mut self.ordinary
        }
    }
}

impl<T: Clone> Patterns<T> {
    /// The values of the patterns that `topic` matches, in the order in which they came.
    #[must_use]
    pub fn matching(&self, topic: &TopicName) -> Vec<T> {
        let (is_internal, name) = words_of(topic.as_str());
        let side = if is_internal {
            &self.internal
        } else {
            &self.ordinary
        };
        let mut found: Vec<&Entry<T>> = Vec::new();
        side.matching(&Words::of(name), &mut |entry| found.push(entry));
        found.sort_unstable_by_key(|entry| entry.id);
        found.iter().map(|entry| entry.value.clone()).collect()
    }
}

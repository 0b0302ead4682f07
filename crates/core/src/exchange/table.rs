//! Where one exchange keeps its bindings so that a routing key finds those that match.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use callboard_protocol::ExchangeKind;

use super::{
    Binding,
    trie::{Node, Words, insert_sorted, remove_sorted},
};

/// The bindings of one exchange, as its kind looks for them.
#[derive(Debug)]
pub(super) enum Table {
    /// By the whole key.
    Direct(HashMap<Box<str>, Vec<Arc<Binding>>>),
    /// All match.
    Fanout(Vec<Arc<Binding>>),
    /// By the words of the key.
    Topic(Node<Arc<Binding>>),
}

impl Table {
    pub(super) fn new(kind: ExchangeKind) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(HashMap::new()),
            ExchangeKind::Fanout => Self::Fanout(Vec::new()),
            ExchangeKind::Topic => Self::Topic(Node::default()),
        }
    }

    pub(super) fn insert(&mut self, binding: Arc<Binding>) {
        match self {
            Self::Direct(by_key) => match by_key.get_mut(&binding.routing_key) {
                Some(same_key) => insert_sorted(same_key, binding),
                None => {
                    by_key.insert(binding.routing_key.clone(), vec![binding]);
                }
            },
            Self::Fanout(all) => insert_sorted(all, binding),
            Self::Topic(root) => root.insert(binding),
        }
    }

    pub(super) fn remove(&mut self, binding: &Binding) {
        match self {
            Self::Direct(by_key) => {
                let Some(same_key) = by_key.get_mut(&binding.routing_key) else {
                    return;
                };
                remove_sorted(same_key, binding.id.0);
                if same_key.is_empty() {
                    by_key.remove(&binding.routing_key);
                    shrink(by_key);
                }
            }
            Self::Fanout(all) => remove_sorted(all, binding.id.0),
            Self::Topic(root) => root.remove(&binding.routing_key, binding.id.0),
        }
    }

    /// Calls `found` with each binding that matches, once. `words` keeps the key's words from one topic
    /// exchange to the next.
    pub(super) fn matching<'t, 'k>(
        &'t self,
        routing_key: &'k str,
        words: &mut Option<Words<'k>>,
        found: &mut impl FnMut(&'t Binding),
    ) {
        let matched = match self {
            Self::Direct(by_key) => by_key.get(routing_key).map_or(&[][..], Vec::as_slice),
            Self::Fanout(all) => all,
            Self::Topic(root) => {
                let words = words.get_or_insert_with(|| Words::of(routing_key));
                root.matching(words, &mut |binding| found(binding));
                return;
            }
        };
        for binding in matched {
            found(binding);
        }
    }
}

/// Gives memory back when most of it is unused, and leaves room so that this does not come at every change.
pub(super) fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

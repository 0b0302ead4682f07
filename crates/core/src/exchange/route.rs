//! From an exchange and a routing key to topics.

use std::collections::HashSet;

use callboard_protocol::{ExchangeName, TopicName};

use super::{BindingId, Destination, ExchangeError, Exchanges, Router, trie::Words};

/// Where one routing key leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Sorted, each once, by however many ways it is reached; none means unroutable.
    pub topics: Vec<TopicName>,
    /// All that matched, sorted; also those to exchanges where nothing matched.
    pub bindings: Vec<BindingId>,
    /// All that the key passed, each once: first the one that was asked, last those of alternates.
    pub exchanges: Vec<ExchangeName>,
    /// Whether the exchange that was asked led to no topic, so that its alternate was asked.
    pub took_alternate: bool,
}

impl Exchanges {
    /// Finds the topics that `routing_key` reaches from `exchange`.
    ///
    /// Bindings to exchanges are followed with the same key. If that reaches no topic the exchange's
    /// alternate is asked, then that one's. Takes time for what matches, not for what does not.
    ///
    /// # Errors
    /// [`ExchangeError::NotFound`].
    pub fn route(&self, exchange: &str, routing_key: &str) -> Result<Routes, ExchangeError> {
        let mut asked = self.router(exchange)?;
        let mut walk = Walk {
            all: self,
            routing_key,
            words: None,
            routes: Routes::default(),
            passed: HashSet::new(),
        };
        walk.from(asked);
        while walk.routes.topics.is_empty()
            && let Some(alternate) = &asked.exchange.alternate
        {
            asked = self.router(alternate.as_str())?;
            walk.routes.took_alternate = true;
            walk.from(asked);
        }
        Ok(walk.end())
    }
}

/// One key on its way.
struct Walk<'a> {
    all: &'a Exchanges,
    routing_key: &'a str,
    words: Option<Words<'a>>,
    routes: Routes,
    /// The exchanges that have been asked or are about to be, from the first that a binding led to. What they
    /// found is found for every later way to them, too.
    passed: HashSet<&'a str>,
}

impl<'a> Walk<'a> {
    fn from(&mut self, first: &'a Router) {
        // An alternate may have been on the way already, and then it had nothing.
        if self.passed.contains(first.exchange.name.as_str()) {
            return;
        }
        let mut waiting = vec![first];
        while let Some(router) = waiting.pop() {
            self.ask(router, &mut waiting);
        }
    }

    /// Takes the topics of one exchange and lets the exchanges that it leads to wait.
    fn ask(&mut self, router: &'a Router, waiting: &mut Vec<&'a Router>) {
        let Self {
            all,
            routing_key,
            words,
            routes,
            passed,
        } = self;
        routes.exchanges.push(router.exchange.name.clone());
        router.table.matching(routing_key, words, &mut |binding| {
            routes.bindings.push(binding.id);
            match &binding.to {
                Destination::Topic(topic) => routes.topics.push(topic.clone()),
                Destination::Exchange(next) => {
                    if passed.insert(next.as_str()) {
                        let next = all.exchanges.get(next.as_str());
                        waiting.push(next.expect("a binding leads to an exchange that is there"));
                    }
                }
            }
        });
    }

    fn end(mut self) -> Routes {
        self.routes.topics.sort_unstable();
        self.routes.topics.dedup();
        self.routes.bindings.sort_unstable();
        self.routes
    }
}

//! Exchanges: which topics a routing key reaches.
//!
//! Owns every declared exchange, its bindings, and what is needed to find those that match quickly. Never
//! knows whether a topic exists, stores nothing and gives no ids: its caller does, and holds one
//! [`Exchanges`] for the whole broker. The default exchange, whose name is empty and whose routing key is
//! the topic, is the caller's, too, and never in here.
//!
//! - [`table`]: the bindings of one exchange, as its kind looks for them;
//! - [`trie`]: those of a `topic` exchange;
//! - [`route`]: the walk over exchanges and their alternates.

mod error;
mod route;
mod table;
pub(crate) mod trie;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use callboard_protocol::{ExchangeKind, ExchangeName, TopicName, name::check_binding_key};

pub use error::ExchangeError;
pub use route::Routes;
use table::Table;

/// A binding's number, given by the caller and never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingId(pub u64);

impl BindingId {
    /// Reads what `Display` writes: `b-17`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix("b-")?;
        // `parse` takes a sign, and an id has one spelling.
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
        let is_short = number == "0" || !number.starts_with('0');
        (is_plain && is_short).then(|| number.parse().ok().map(Self))?
    }
}

impl fmt::Display for BindingId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "b-{}", self.0)
    }
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// Records go into it.
    Topic(TopicName),
    /// It routes on, with the same key.
    Exchange(ExchangeName),
}

/// A rule of one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its number.
    pub id: BindingId,
    /// Whose rule it is.
    pub exchange: ExchangeName,
    /// Where a routing key goes that matches.
    pub to: Destination,
    /// What matches: `direct` compares it, `topic` reads `*` and `#` in it, `fanout` ignores it.
    pub routing_key: Box<str>,
}

/// What an exchange is, without its bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: ExchangeName,
    /// How it matches.
    pub kind: ExchangeKind,
    /// Where a routing key goes on that reaches no topic from here.
    pub alternate: Option<ExchangeName>,
}

/// What became of a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// It was not there before.
    New,
    /// It is there, just so.
    Same,
}

/// What became of a new binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It was not there before.
    New,
    /// It is there, under this id.
    Same(BindingId),
}

/// What goes with an exchange that is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Its own bindings and those that led to it, by their ids.
    pub bindings: Vec<Binding>,
    /// Those whose alternate it was, as they are now: without one.
    pub orphaned: Vec<Exchange>,
}

/// All exchanges of a broker.
#[derive(Debug, Default)]
pub struct Exchanges {
    exchanges: BTreeMap<ExchangeName, Router>,
    to_topics: BTreeMap<TopicName, Arriving>,
    to_exchanges: BTreeMap<ExchangeName, Arriving>,
    version: u64,
}

/// The bindings to one destination.
type Arriving = BTreeMap<BindingId, Arc<Binding>>;

/// One exchange with its bindings.
#[derive(Debug)]
struct Router {
    exchange: Exchange,
    bindings: BTreeMap<BindingId, Arc<Binding>>,
    /// The same ones, to find out whether a rule is there already.
    rules: BTreeSet<Rule>,
    /// The same ones, to route by.
    table: Table,
    /// How many of them lead to which exchange.
    next: BTreeMap<ExchangeName, usize>,
}

/// A binding without its id: what it does.
#[derive(Debug)]
struct Rule(Arc<Binding>);

impl Rule {
    fn parts(&self) -> (&Destination, &str) {
        (&self.0.to, &self.0.routing_key)
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Rule {}

impl PartialOrd for Rule {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rule {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl Exchanges {
    /// Takes in what was kept, in any order. What contradicts the rest is left out and told: an alternate or a
    /// destination that is not there, a cycle, a binding twice over.
    #[must_use]
    pub fn restore(exchanges: Vec<Exchange>, bindings: Vec<Binding>) -> (Self, Vec<ExchangeError>) {
        let mut all = Self::default();
        let mut faults = Vec::new();
        let mut alternates = Vec::new();
        for mut exchange in exchanges {
            if let Some(alternate) = exchange.alternate.take() {
                alternates.push((exchange.name.clone(), alternate));
            }
            faults.extend(all.declare(exchange).err());
        }
        for (name, alternate) in alternates {
            match all.check_edge(&name, &alternate) {
                Ok(()) => {
                    let router = all.exchanges.get_mut(&name).expect("it was just declared");
                    router.exchange.alternate = Some(alternate);
                }
                Err(fault) => faults.push(fault),
            }
        }
        for binding in bindings {
            faults.extend(all.bind(binding).err());
        }
        (all, faults)
    }

    /// Makes an exchange, or finds that it is there.
    ///
    /// # Errors
    /// [`ExchangeError::Conflict`] if it is there with another kind or alternate, [`ExchangeError::NotFound`] if
    /// its alternate is not, [`ExchangeError::Cycle`] if it would be its own alternate.
    pub fn declare(&mut self, exchange: Exchange) -> Result<Declared, ExchangeError> {
        if let Some(there) = self.exchanges.get(&exchange.name) {
            return if there.exchange == exchange {
                Ok(Declared::Same)
            } else {
                Err(ExchangeError::Conflict(there.exchange.clone()))
            };
        }
        if let Some(alternate) = &exchange.alternate {
            if *alternate == exchange.name {
                return Err(ExchangeError::cycle(&exchange.name, alternate));
            }
            // Nothing leads to an exchange that is not there yet, so no longer cycle can come of it.
            self.router(alternate.as_str())?;
        }
        self.exchanges
            .insert(exchange.name.clone(), Router::new(exchange));
        self.version += 1;
        Ok(Declared::New)
    }

    /// Takes an exchange away, with all bindings from it and to it.
    ///
    /// # Errors
    /// [`ExchangeError::NotFound`].
    pub fn delete(&mut self, name: &str) -> Result<Deleted, ExchangeError> {
        let Some((name, router)) = self.exchanges.remove_entry(name) else {
            return Err(ExchangeError::NotFound(name.into()));
        };
        // The table goes as a whole: taking each binding out of it would be slow.
        let Router {
            bindings,
            table,
            rules,
            ..
        } = router;
        drop((table, rules));
        let mut gone: BTreeMap<BindingId, Arc<Binding>> = bindings;
        for binding in gone.values() {
            self.forget_arrival(binding);
        }
        for (id, binding) in self.to_exchanges.remove(&name).unwrap_or_default() {
            if let Some(from) = self.exchanges.get_mut(&binding.exchange) {
                from.remove(&binding);
            }
            gone.insert(id, binding);
        }
        let mut orphaned = Vec::new();
        for other in self.exchanges.values_mut() {
            if other.exchange.alternate.as_ref() == Some(&name) {
                other.exchange.alternate = None;
                orphaned.push(other.exchange.clone());
            }
        }
        self.version += 1;
        let bindings = gone.into_values().map(Arc::unwrap_or_clone).collect();
        Ok(Deleted { bindings, orphaned })
    }

    /// Adds a binding, or finds that the same rule is there under another id.
    ///
    /// # Errors
    /// [`ExchangeError::NotFound`] for its exchange or the one that it leads to, [`ExchangeError::Key`] for a key
    /// that its kind of exchange does not take, [`ExchangeError::Cycle`] if records could come back to where they
    /// were, also by way of an alternate.
    pub fn bind(&mut self, binding: Binding) -> Result<Bound, ExchangeError> {
        let router = self.router(binding.exchange.as_str())?;
        check_binding_key(router.exchange.kind, &binding.routing_key)?;
        if let Destination::Exchange(to) = &binding.to {
            self.check_edge(&binding.exchange, to)?;
        }
        let binding = Arc::new(binding);
        let rule = Rule(Arc::clone(&binding));
        if let Some(there) = router.rules.get(&rule) {
            return Ok(Bound::Same(there.0.id));
        }
        debug_assert!(!router.bindings.contains_key(&binding.id), "an id is given once");
        let arriving = match &binding.to {
            Destination::Topic(topic) => self.to_topics.entry(topic.clone()).or_default(),
            Destination::Exchange(to) => self.to_exchanges.entry(to.clone()).or_default(),
        };
        arriving.insert(binding.id, Arc::clone(&binding));
        let router = self.exchanges.get_mut(&binding.exchange);
        router.expect("it was found above").insert(binding);
        self.version += 1;
        Ok(Bound::New)
    }

    /// Takes one binding away and says what it was; `None` if the exchange has no such one.
    pub fn unbind(&mut self, exchange: &str, id: BindingId) -> Option<Binding> {
        let router = self.exchanges.get_mut(exchange)?;
        let binding = Arc::clone(router.bindings.get(&id)?);
        router.remove(&binding);
        self.forget_arrival(&binding);
        self.version += 1;
        Some(Arc::unwrap_or_clone(binding))
    }

    /// Takes away every binding to `topic`, which is deleted, and says what they were, by their ids.
    pub fn forget_topic(&mut self, topic: &str) -> Vec<Binding> {
        let Some(arriving) = self.to_topics.remove(topic) else {
            return Vec::new();
        };
        for binding in arriving.values() {
            if let Some(router) = self.exchanges.get_mut(&binding.exchange) {
                router.remove(binding);
            }
        }
        self.version += 1;
        arriving.into_values().map(Arc::unwrap_or_clone).collect()
    }

    /// The id of the binding that does just this.
    #[must_use]
    pub fn find(&self, exchange: &str, to: &Destination, routing_key: &str) -> Option<BindingId> {
        let router = self.exchanges.get(exchange)?;
        let wanted = Rule(Arc::new(Binding {
            id: BindingId(0),
            exchange: router.exchange.name.clone(),
            to: to.clone(),
            routing_key: routing_key.into(),
        }));
        router.rules.get(&wanted).map(|rule| rule.0.id)
    }

    /// One exchange, if it is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Exchange> {
        self.exchanges.get(name).map(|router| &router.exchange)
    }

    /// All exchanges, by their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Exchange> {
        self.exchanges.values().map(|router| &router.exchange)
    }

    /// The bindings of one exchange, by their ids.
    ///
    /// # Errors
    /// [`ExchangeError::NotFound`].
    pub fn bindings_of(&self, name: &str) -> Result<impl ExactSizeIterator<Item = &Binding>, ExchangeError> {
        Ok(self.router(name)?.bindings.values().map(|binding| &**binding))
    }

    /// One binding of one exchange, if both are there.
    #[must_use]
    pub fn binding(&self, exchange: &str, id: BindingId) -> Option<&Binding> {
        self.exchanges
            .get(exchange)?
            .bindings
            .get(&id)
            .map(|binding| &**binding)
    }

    /// Counts the changes: as long as it is the same, so is every route.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    fn router(&self, name: &str) -> Result<&Router, ExchangeError> {
        self.exchanges
            .get(name)
            .ok_or_else(|| ExchangeError::NotFound(name.into()))
    }

    /// Whether `from` may lead to `to`: it is there, and nothing leads from it to `from`.
    fn check_edge(&self, from: &ExchangeName, to: &ExchangeName) -> Result<(), ExchangeError> {
        let mut waiting = vec![self.router(to.as_str())?];
        let mut seen = BTreeSet::from([to]);
        while let Some(router) = waiting.pop() {
            if router.exchange.name == *from {
                return Err(ExchangeError::cycle(from, to));
            }
            for next in router.next.keys().chain(&router.exchange.alternate) {
                if seen.insert(next) {
                    waiting.push(self.router(next.as_str())?);
                }
            }
        }
        Ok(())
    }

    /// Takes a binding out of the list of those to its destination.
    fn forget_arrival(&mut self, binding: &Binding) {
        match &binding.to {
            Destination::Topic(topic) => forget_one(&mut self.to_topics, topic, binding.id),
            Destination::Exchange(to) => forget_one(&mut self.to_exchanges, to, binding.id),
        }
    }
}

fn forget_one<N: Ord>(lists: &mut BTreeMap<N, Arriving>, to: &N, id: BindingId) {
    if let Some(arriving) = lists.get_mut(to) {
        arriving.remove(&id);
        if arriving.is_empty() {
            lists.remove(to);
        }
    }
}

impl Router {
    fn new(exchange: Exchange) -> Self {
        Self {
            table: Table::new(exchange.kind),
            exchange,
            bindings: BTreeMap::new(),
            rules: BTreeSet::new(),
            next: BTreeMap::new(),
        }
    }

    fn insert(&mut self, binding: Arc<Binding>) {
        if let Destination::Exchange(to) = &binding.to {
            *self.next.entry(to.clone()).or_default() += 1;
        }
        self.rules.insert(Rule(Arc::clone(&binding)));
        self.bindings.insert(binding.id, Arc::clone(&binding));
        self.table.insert(binding);
    }

    fn remove(&mut self, binding: &Arc<Binding>) {
        if let Destination::Exchange(to) = &binding.to
            && let Some(count) = self.next.get_mut(to)
        {
            *count -= 1;
            if *count == 0 {
                self.next.remove(to);
            }
        }
        self.rules.remove(&Rule(Arc::clone(binding)));
        self.bindings.remove(&binding.id);
        self.table.remove(binding);
    }
}

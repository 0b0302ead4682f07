//! What exchanges mean, said as shortly as possible: lists, and the definition of each word.

use callboard_core::exchange::{
    Binding, BindingId, Bound, Declared, Deleted, Destination, Exchange, ExchangeError, Routes,
};
use callboard_protocol::{ExchangeKind, ExchangeName};

/// All exchanges and bindings, each as a list in the order in which they came.
#[derive(Default)]
pub struct Naive {
    pub exchanges: Vec<Exchange>,
    pub bindings: Vec<Binding>,
}

impl Naive {
    pub fn get(&self, name: &str) -> Option<&Exchange> {
        self.exchanges
            .iter()
            .find(|exchange| exchange.name.as_str() == name)
    }

    fn existing(&self, name: &str) -> Result<&Exchange, ExchangeError> {
        self.get(name).ok_or_else(|| ExchangeError::NotFound(name.into()))
    }

    pub fn declare(&mut self, exchange: Exchange) -> Result<Declared, ExchangeError> {
        match self.get(exchange.name.as_str()) {
            Some(there) if *there == exchange => return Ok(Declared::Same),
            Some(there) => return Err(ExchangeError::Conflict(there.clone())),
            None => {}
        }
        if let Some(alternate) = &exchange.alternate {
            if *alternate == exchange.name {
                return Err(cycle(&exchange.name, alternate));
            }
            self.existing(alternate.as_str())?;
        }
        self.exchanges.push(exchange);
        Ok(Declared::New)
    }

    pub fn delete(&mut self, name: &str) -> Result<Deleted, ExchangeError> {
        let name = self.existing(name)?.name.clone();
        self.exchanges.retain(|exchange| exchange.name != name);
        let mut orphaned = Vec::new();
        self.exchanges.sort_by(|one, other| one.name.cmp(&other.name));
        for exchange in &mut self.exchanges {
            if exchange.alternate.as_ref() == Some(&name) {
                exchange.alternate = None;
                orphaned.push(exchange.clone());
            }
        }
        let to = Destination::Exchange(name.clone());
        let bindings = self.take(|binding| binding.exchange == name || binding.to == to);
        Ok(Deleted { bindings, orphaned })
    }

    pub fn bind(&mut self, binding: Binding) -> Result<Bound, ExchangeError> {
        self.existing(binding.exchange.as_str())?;
        if let Destination::Exchange(to) = &binding.to {
            self.existing(to.as_str())?;
            if self.leads(to, &binding.exchange) {
                return Err(cycle(&binding.exchange, to));
            }
        }
        match self.find(binding.exchange.as_str(), &binding.to, &binding.routing_key) {
            Some(id) => Ok(Bound::Same(id)),
            None => {
                self.bindings.push(binding);
                Ok(Bound::New)
            }
        }
    }

    pub fn find(&self, exchange: &str, to: &Destination, key: &str) -> Option<BindingId> {
        let is_it = |binding: &&Binding| {
            binding.exchange.as_str() == exchange && binding.to == *to && *binding.routing_key == *key
        };
        self.bindings.iter().find(is_it).map(|binding| binding.id)
    }

    pub fn unbind(&mut self, exchange: &str, id: BindingId) -> Option<Binding> {
        self.take(|binding| binding.exchange.as_str() == exchange && binding.id == id)
            .pop()
    }

    pub fn forget_topic(&mut self, topic: &str) -> Vec<Binding> {
        self.take(|binding| matches!(&binding.to, Destination::Topic(to) if to.as_str() == topic))
    }

    /// Takes out those that `which` chooses, by their ids.
    fn take(&mut self, which: impl Fn(&Binding) -> bool) -> Vec<Binding> {
        let mut taken: Vec<Binding> = self.bindings.iter().filter(|one| which(one)).cloned().collect();
        taken.sort_by_key(|binding| binding.id);
        self.bindings.retain(|binding| !which(binding));
        taken
    }

    /// Whether what `from` gets can come to `to`.
    fn leads(&self, from: &ExchangeName, to: &ExchangeName) -> bool {
        let alternate = self
            .get(from.as_str())
            .and_then(|exchange| exchange.alternate.as_ref());
        from == to
            || alternate.is_some_and(|alternate| self.leads(alternate, to))
            || self.bindings.iter().any(|binding| {
                binding.exchange == *from
                    && matches!(&binding.to, Destination::Exchange(next) if self.leads(next, to))
            })
    }

    /// As [`callboard_core::exchange::Exchanges::route`], except that the exchanges come sorted.
    pub fn route(&self, exchange: &str, key: &str) -> Result<Routes, ExchangeError> {
        let asked = self.existing(exchange)?;
        let mut routes = Routes::default();
        self.follow(asked, key, &mut routes);
        if routes.topics.is_empty()
            && let Some(alternate) = &asked.alternate
        {
            let others = self.route(alternate.as_str(), key)?;
            routes.topics = others.topics;
            routes.bindings.extend(others.bindings);
            routes.exchanges.extend(others.exchanges);
            routes.took_alternate = true;
        }
        routes.topics.sort();
        routes.topics.dedup();
        routes.bindings.sort();
        routes.bindings.dedup();
        routes.exchanges.sort();
        routes.exchanges.dedup();
        Ok(routes)
    }

    fn follow(&self, exchange: &Exchange, key: &str, routes: &mut Routes) {
        routes.exchanges.push(exchange.name.clone());
        for binding in self
            .bindings
            .iter()
            .filter(|binding| binding.exchange == exchange.name)
        {
            if !key_matches(exchange.kind, &binding.routing_key, key) {
                continue;
            }
            routes.bindings.push(binding.id);
            match &binding.to {
                Destination::Topic(topic) => routes.topics.push(topic.clone()),
                Destination::Exchange(next) => {
                    let next = self.get(next.as_str()).expect("bindings lead to what is there");
                    self.follow(next, key, routes);
                }
            }
        }
    }
}

fn cycle(from: &ExchangeName, to: &ExchangeName) -> ExchangeError {
    ExchangeError::Cycle {
        from: from.clone(),
        to: to.clone(),
    }
}

/// Whether a binding's key takes a routing key, by the definition of each kind.
pub fn key_matches(kind: ExchangeKind, binding_key: &str, routing_key: &str) -> bool {
    match kind {
        ExchangeKind::Direct => binding_key == routing_key,
        ExchangeKind::Fanout => true,
        ExchangeKind::Topic => words_match(&words(binding_key), &words(routing_key)),
    }
}

fn words(key: &str) -> Vec<&str> {
    if key.is_empty() {
        Vec::new()
    } else {
        key.split('.').collect()
    }
}

/// Source: the AMQP 0-9-1 specification, 3.1.3.3: `*` matches a single word and `#` zero or more.
fn words_match(binding: &[&str], routing: &[&str]) -> bool {
    match (binding, routing) {
        ([], _) => routing.is_empty(),
        (["#", rest @ ..], _) => (0..=routing.len()).any(|taken| words_match(rest, &routing[taken..])),
        (["*", rest @ ..], [_, others @ ..]) => words_match(rest, others),
        ([word, rest @ ..], [first, others @ ..]) => word == first && words_match(rest, others),
        (_, []) => false,
    }
}

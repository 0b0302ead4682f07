//! What the registry does for exchanges: makes, binds and deletes them one change at a time, and keeps them.
//!
//! A change is in force before it is kept and confirmed when it is; what can not be kept is undone by reading
//! again what is.

use std::collections::HashSet;

use actix::prelude::*;
use callboard_core::exchange::{
    Binding, BindingId, Bound, Declared, Destination, Exchange, ExchangeError, Exchanges,
};
use callboard_protocol::{
    ErrorCode, ExchangeKind, ExchangeName, TopicName,
    client::{Bind, BindTo},
    error::Refusal,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{BrokerActor, not_found};
use crate::{
    actors::{Shared, announce::Event, partition::refusal},
    store::{Fact, FactChange, StoreError},
};

const EXCHANGE: &str = "exchange/";
const BINDING: &str = "binding/";
/// The highest number that a binding was ever given, so that none is given twice.
const LAST_BINDING: &str = "last-binding";

/// What the store keeps of an exchange besides its name.
#[derive(Serialize, Deserialize)]
struct KeptExchange {
    kind: ExchangeKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    alternate: Option<ExchangeName>,
}

/// What the store keeps of a binding besides its number.
#[derive(Serialize, Deserialize)]
struct KeptBinding {
    exchange: ExchangeName,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<TopicName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_exchange: Option<ExchangeName>,
    routing_key: Box<str>,
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names always have a JSON form")
}

fn keep_exchange(exchange: &Exchange) -> FactChange {
    let kept = KeptExchange {
        kind: exchange.kind,
        alternate: exchange.alternate.clone(),
    };
    FactChange {
        key: format!("{EXCHANGE}{}", exchange.name),
        value: Some(json(&kept)),
    }
}

fn keep_binding(binding: &Binding) -> FactChange {
    let (topic, to_exchange) = match &binding.to {
        Destination::Topic(topic) => (Some(topic.clone()), None),
        Destination::Exchange(exchange) => (None, Some(exchange.clone())),
    };
    let kept = KeptBinding {
        exchange: binding.exchange.clone(),
        topic,
        to_exchange,
        routing_key: binding.routing_key.clone(),
    };
    FactChange {
        key: format!("{BINDING}{}", binding.id.0),
        value: Some(json(&kept)),
    }
}

fn keep_last(id: BindingId) -> FactChange {
    FactChange {
        key: LAST_BINDING.to_owned(),
        value: Some(id.0.to_string()),
    }
}

fn forget_binding(binding: &Binding) -> FactChange {
    FactChange {
        key: format!("{BINDING}{}", binding.id.0),
        value: None,
    }
}

fn exchange_of(fact: &Fact) -> Option<Exchange> {
    let name = ExchangeName::parse(fact.key.strip_prefix(EXCHANGE)?).ok()?;
    let kept: KeptExchange = serde_json::from_str(&fact.value).ok()?;
    Some(Exchange {
        name,
        kind: kept.kind,
        alternate: kept.alternate,
    })
}

fn binding_of(fact: &Fact) -> Option<Binding> {
    let id = BindingId(fact.key.strip_prefix(BINDING)?.parse().ok()?);
    let kept: KeptBinding = serde_json::from_str(&fact.value).ok()?;
    let to = match (kept.topic, kept.to_exchange) {
        (Some(topic), None) => Destination::Topic(topic),
        (None, Some(exchange)) => Destination::Exchange(exchange),
        _ => return None,
    };
    Some(Binding {
        id,
        exchange: kept.exchange,
        to,
        routing_key: kept.routing_key,
    })
}

/// Makes an exchange, or confirms that it is just so.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct DeclareExchange {
    /// What it is to be.
    pub exchange: Exchange,
    /// And if it is there.
    pub creation: Creation,
}

/// What who makes something expects of what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// Nothing; else it is `conflict`.
    New,
    /// Nothing, or the same.
    Declare,
}

/// Deletes an exchange and all its bindings.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct DeleteExchange(pub String);

/// Adds a binding to a topic that is there or to an exchange; the same one again has the same id.
#[derive(Message)]
#[rtype(result = "Result<BindingId, Refusal>")]
pub struct AddBinding(pub Bind);

/// Removes a binding.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct RemoveBinding(pub WhichBinding);

/// Names a binding.
pub enum WhichBinding {
    /// By its exchange and its id.
    Id(String, BindingId),
    /// By what it does.
    Rule(Bind),
}

impl WhichBinding {
    fn find(&self, known: &Exchanges) -> Result<(String, BindingId), Refusal> {
        let (exchange, id) = match self {
            Self::Id(exchange, id) => (exchange.as_str(), known.binding(exchange, *id).map(|_| *id)),
            Self::Rule(bind) => {
                let exchange = bind.exchange.as_str();
                let to = destination(&bind.to);
                (exchange, known.find(exchange, &to, &bind.routing_key))
            }
        };
        if known.get(exchange).is_none() {
            return Err(ExchangeError::NotFound(exchange.into()).refusal());
        }
        let no_binding = || {
            let message = format!("the exchange {exchange} has no such binding");
            Refusal::new(ErrorCode::InvalidArgument, message)
        };
        Ok((exchange.to_owned(), id.ok_or_else(no_binding)?))
    }
}

fn destination(to: &BindTo) -> Destination {
    match to {
        BindTo::Topic(topic) => Destination::Topic(topic.clone()),
        BindTo::Exchange(exchange) => Destination::Exchange(exchange.clone()),
    }
}

/// A change, what it means for the store, and what is told of it when it is kept.
struct Change<T> {
    outcome: T,
    facts: Vec<FactChange>,
    events: Vec<Event>,
}

impl<T> Change<T> {
    /// Nothing changes.
    fn none(outcome: T) -> Self {
        Self {
            outcome,
            facts: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// Changes of exchanges that are on their way.
#[derive(Default)]
pub(super) struct ExchangeChanges {
    waiting: Vec<Step>,
    /// Some that were made are being kept.
    is_keeping: bool,
}

/// Makes one change when it is its turn; one that is refused has been answered.
type Step = Box<dyn FnOnce(&mut BrokerActor, &mut Exchanges) -> Option<Made>>;

/// A change that was made, and who waits to hear that it is kept.
struct Made {
    facts: Vec<FactChange>,
    events: Vec<Event>,
    answer: Box<dyn FnOnce(Result<(), Refusal>)>,
}

fn was_created(exchange: &Exchange) -> Event {
    Event::ExchangeCreated {
        exchange: exchange.name.to_string(),
        kind: exchange.kind.as_str().to_owned(),
    }
}

/// A binding's id, its exchange, the topic or the exchange that it leads to, and its key.
fn texts(binding: &Binding) -> (String, String, Option<String>, Option<String>, String) {
    let (topic, to_exchange) = match &binding.to {
        Destination::Topic(topic) => (Some(topic.to_string()), None),
        Destination::Exchange(exchange) => (None, Some(exchange.to_string())),
    };
    let (id, exchange) = (binding.id.to_string(), binding.exchange.to_string());
    (id, exchange, topic, to_exchange, binding.routing_key.to_string())
}

fn was_bound(binding: &Binding) -> Event {
    let (id, exchange, topic, to_exchange, routing_key) = texts(binding);
    Event::BindingCreated {
        id,
        exchange,
        topic,
        to_exchange,
        routing_key,
    }
}

fn was_unbound(binding: &Binding) -> Event {
    let (id, exchange, topic, to_exchange, routing_key) = texts(binding);
    Event::BindingDeleted {
        id,
        exchange,
        topic,
        to_exchange,
        routing_key,
    }
}

impl BrokerActor {
    /// Reads the exchanges that the store keeps. Bindings to topics that are gone were being deleted with them,
    /// and are.
    pub(super) fn load_exchanges(&mut self) {
        let facts = match self.shared.store.facts() {
            Ok(facts) => facts,
            Err(error) => return log::error!("the exchanges can not be read: {error}"),
        };
        let topics: HashSet<&TopicName> = self.kept.iter().map(|stored| &stored.name).collect();
        let is_orphan = |binding: &Binding| match &binding.to {
            Destination::Topic(topic) => !topics.contains(topic),
            Destination::Exchange(_) => false,
        };
        let (orphans, bindings): (Vec<_>, Vec<_>) = facts.iter().filter_map(binding_of).partition(is_orphan);
        let numbers = bindings.iter().chain(&orphans).map(|binding| binding.id.0);
        let given = facts.iter().find(|fact| fact.key == LAST_BINDING);
        let given = given.and_then(|fact| fact.value.parse().ok());
        self.last_binding = numbers.chain(given).max().unwrap_or_default();
        let exchanges = facts.iter().filter_map(exchange_of).collect();
        let (known, faults) = Exchanges::restore(exchanges, bindings);
        for fault in faults {
            log::error!("something of an exchange is left out: {fault}");
        }
        self.shared.exchanges.change(|all| *all = known);
        self.shared.exchanges.set_known();
        if !orphans.is_empty() {
            // Not awaited: tried again at the next start.
            drop(
                self.shared
                    .store
                    .keep_facts(orphans.iter().map(forget_binding).collect()),
            );
        }
    }

    /// Makes a change when those before it are kept, keeps it, and undoes it if that fails.
    ///
    /// What comes while others are being kept is made and kept together after them, so that thousands of bindings
    /// cost a few flushes and not as many.
    fn change_exchanges<T: 'static>(
        &mut self,
        change: impl FnOnce(&mut Self, &mut Exchanges) -> Result<Change<T>, Refusal> + 'static,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<T, Refusal>> {
        if !self.shared.exchanges.are_known() {
            // It would take the place, and a binding the number, of one that is kept.
            let (code, why) = if self.shared.is_ready() {
                (
                    ErrorCode::StorageFailed,
                    "the exchanges that are kept could not be read",
                )
            } else {
                (ErrorCode::Overloaded, "the broker is starting")
            };
            return Box::pin(std::future::ready(Err(Refusal::new(code, why))));
        }
        let (sender, receiver) = oneshot::channel();
        self.exchange_changes.waiting.push(Box::new(move |broker, known| {
            match change(broker, known) {
                Ok(Change {
                    outcome,
                    facts,
                    events,
                }) => Some(Made {
                    facts,
                    events,
                    // Whoever asked may have gone.
                    answer: Box::new(move |kept| drop(sender.send(kept.map(|()| outcome)))),
                }),
                Err(refusal) => {
                    drop(sender.send(Err(refusal)));
                    None
                }
            }
        }));
        if !self.exchange_changes.is_keeping {
            self.keep_exchange_changes(ctx);
        }
        Box::pin(async move {
            let no_answer = |_| Err(refusal(&StoreError::ShuttingDown));
            receiver.await.unwrap_or_else(no_answer)
        })
    }

    /// Makes all changes that wait, and keeps them in one transaction: all of them, or none.
    fn keep_exchange_changes(&mut self, ctx: &mut Context<Self>) {
        let waiting = std::mem::take(&mut self.exchange_changes.waiting);
        let shared = self.shared.clone();
        let mut made: Vec<Made> = if waiting.is_empty() {
            Vec::new()
        } else {
            shared.exchanges.change(|known| {
                let made = waiting.into_iter().map(|step| step(self, known));
                made.flatten().collect()
            })
        };
        let facts: Vec<_> = made.iter_mut().flat_map(|one| one.facts.drain(..)).collect();
        self.exchange_changes.is_keeping = !facts.is_empty();
        if facts.is_empty() {
            return made.into_iter().for_each(|one| (one.answer)(Ok(())));
        }
        let kept = shared.store.keep_facts(facts).into_actor(self);
        ctx.spawn(kept.map(move |kept, broker, ctx| {
            let kept = kept.unwrap_or(Err(StoreError::ShuttingDown));
            if kept.is_err() {
                broker.undo_exchanges();
            }
            for one in made {
                if kept.is_ok() {
                    one.events.into_iter().for_each(|event| shared.announce(event));
                }
                (one.answer)(kept.as_ref().map(|_| ()).map_err(refusal));
            }
            broker.keep_exchange_changes(ctx);
        }));
    }

    /// Puts what the store keeps into force again.
    fn undo_exchanges(&self) {
        let facts = match self.shared.store.facts() {
            Ok(facts) => facts,
            Err(error) => return log::error!("a change of the exchanges that was not kept stays: {error}"),
        };
        // Those of a topic that is gone are perhaps not forgotten yet.
        let leads_somewhere = |binding: &Binding| match &binding.to {
            Destination::Topic(topic) => self.topics.contains_key(topic),
            Destination::Exchange(_) => true,
        };
        let exchanges = facts.iter().filter_map(exchange_of).collect();
        let bindings = facts.iter().filter_map(binding_of).filter(leads_somewhere);
        let (known, _) = Exchanges::restore(exchanges, bindings.collect());
        self.shared.exchanges.change(|all| *all = known);
    }

    /// Forgets the bindings of a topic that is deleted; kept by the caller.
    pub(super) fn forget_topic_bindings(&self, topic: &str) -> Vec<FactChange> {
        let forgotten = self.shared.exchanges.change(|known| known.forget_topic(topic));
        forget_counts(&self.shared, None, &forgotten);
        for binding in &forgotten {
            self.shared.announce(was_unbound(binding));
        }
        forgotten.iter().map(forget_binding).collect()
    }
}

fn forget_counts(shared: &Shared, exchange: Option<&ExchangeName>, bindings: &[Binding]) {
    let ids: Vec<BindingId> = bindings.iter().map(|binding| binding.id).collect();
    shared.exchanges.forget_counts(exchange, &ids);
}

impl Handler<DeclareExchange> for BrokerActor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, declare: DeclareExchange, ctx: &mut Self::Context) -> Self::Result {
        let DeclareExchange { exchange, creation } = declare;
        let change = move |_: &mut Self, known: &mut Exchanges| {
            let declared = known.declare(exchange.clone()).map_err(|error| error.refusal())?;
            match (declared, creation) {
                (Declared::New, _) => Ok(Change {
                    outcome: (),
                    facts: vec![keep_exchange(&exchange)],
                    events: vec![was_created(&exchange)],
                }),
                (Declared::Same, Creation::Declare) => Ok(Change::none(())),
                (Declared::Same, Creation::New) => {
                    let message = format!("the exchange {} exists", exchange.name);
                    Err(Refusal::new(ErrorCode::Conflict, message))
                }
            }
        };
        self.change_exchanges(change, ctx)
    }
}

impl Handler<DeleteExchange> for BrokerActor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, DeleteExchange(name): DeleteExchange, ctx: &mut Self::Context) -> Self::Result {
        let change = move |broker: &mut Self, known: &mut Exchanges| {
            let deleted = known.delete(&name).map_err(|error| error.refusal())?;
            let exchange = ExchangeName::parse(&name).ok();
            forget_counts(&broker.shared, exchange.as_ref(), &deleted.bindings);
            let mut facts = vec![FactChange {
                key: format!("{EXCHANGE}{name}"),
                value: None,
            }];
            facts.extend(deleted.bindings.iter().map(forget_binding));
            facts.extend(deleted.orphaned.iter().map(keep_exchange));
            let mut events: Vec<Event> = deleted.bindings.iter().map(was_unbound).collect();
            events.push(Event::ExchangeDeleted { exchange: name });
            Ok(Change {
                outcome: (),
                facts,
                events,
            })
        };
        self.change_exchanges(change, ctx)
    }
}

impl Handler<AddBinding> for BrokerActor {
    type Result = ResponseFuture<Result<BindingId, Refusal>>;

    fn handle(&mut self, AddBinding(bind): AddBinding, ctx: &mut Self::Context) -> Self::Result {
        let change = move |broker: &mut Self, known: &mut Exchanges| {
            if let BindTo::Topic(topic) = &bind.to
                && broker.topics.get(topic).is_none_or(|entry| entry.topic.is_none())
            {
                return Err(not_found(topic.as_str()));
            }
            let id = BindingId(broker.last_binding + 1);
            let binding = Binding {
                id,
                exchange: bind.exchange,
                to: destination(&bind.to),
                routing_key: bind.routing_key.into(),
            };
            match known.bind(binding.clone()).map_err(|error| error.refusal())? {
                Bound::Same(outcome) => Ok(Change::none(outcome)),
                Bound::New => {
                    broker.last_binding = id.0;
                    Ok(Change {
                        outcome: id,
                        facts: vec![keep_binding(&binding), keep_last(id)],
                        events: vec![was_bound(&binding)],
                    })
                }
            }
        };
        self.change_exchanges(change, ctx)
    }
}

impl Handler<RemoveBinding> for BrokerActor {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, RemoveBinding(which): RemoveBinding, ctx: &mut Self::Context) -> Self::Result {
        let change = move |broker: &mut Self, known: &mut Exchanges| {
            let (exchange, id) = which.find(known)?;
            let removed = known.unbind(&exchange, id);
            let removed: Vec<Binding> = removed.into_iter().collect();
            forget_counts(&broker.shared, None, &removed);
            Ok(Change {
                outcome: (),
                facts: removed.iter().map(forget_binding).collect(),
                events: removed.iter().map(was_unbound).collect(),
            })
        };
        self.change_exchanges(change, ctx)
    }
}

/// How many changes of exchanges wait for those that are being kept.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "usize")]
pub struct CountChanges;

#[cfg(test)]
impl Handler<CountChanges> for BrokerActor {
    type Result = usize;

    fn handle(&mut self, _: CountChanges, _: &mut Self::Context) -> Self::Result {
        self.exchange_changes.waiting.len()
    }
}

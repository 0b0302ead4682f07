//! What sessions, REST and other callers ask of exchanges.

use std::sync::atomic::Ordering;

use callboard_core::exchange::{Binding, BindingId, Destination, Exchange, ExchangeError};
use callboard_protocol::{
    ErrorCode, ExchangeKind, ExchangeName, TopicName,
    client::{Bind, BindTo, NewRecord},
    error::Refusal,
    server::{RecordResult, RoutedResult},
    time::format_rfc3339,
};
use serde::Serialize;

use super::{bounded, check_running, internal, send, topic_or_new};
use crate::actors::{
    Shared,
    append::{Asked, Reply, Slot},
    broker::{AddBinding, DeclareExchange, DeleteExchange, RemoveBinding, Want, WhichBinding},
    clock,
    directory::Meter,
    exchanges::{Route, Unroutable},
    intake::{Intake, Placing},
    pending::PendingRoutes,
};

pub use crate::actors::{broker::Creation, exchanges::Sender};

/// An exchange as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ExchangeInfo {
    /// Its name.
    pub name: String,
    /// How it matches.
    #[serde(rename = "type")]
    pub kind: ExchangeKind,
    /// Where what matches nothing goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternate: Option<String>,
    /// How many bindings it has.
    pub bindings: usize,
    /// Records that matched nothing, since the broker started.
    pub unroutable: u64,
    /// What goes through it.
    pub rates: ExchangeRates,
}

/// What goes through an exchange or a binding.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ExchangeRates {
    /// Records a second, over the last full seconds.
    pub publishes_per_s: f64,
}

/// A binding as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub struct BindingInfo {
    /// Its id.
    pub id: String,
    /// The topic that it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Or the exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// What matches.
    pub routing_key: String,
    /// What goes this way.
    pub rates: ExchangeRates,
}

/// Where a routing key leads.
#[derive(Clone, Debug, Serialize)]
pub struct DryRun {
    /// The topics, each once.
    pub routes: Vec<DryRoute>,
    /// The bindings that match, by id.
    pub bindings: Vec<String>,
    /// The exchanges that it passes, the asked one first.
    pub exchanges: Vec<String>,
    /// Whether it took an alternate.
    pub alternate: bool,
}

/// One topic that a routing key reaches.
#[derive(Clone, Debug, Serialize)]
pub struct DryRoute {
    /// Its name.
    pub topic: String,
}

/// A publish that matched nothing, as REST shows it.
#[derive(Clone, Debug, Serialize)]
pub struct UnroutableInfo {
    /// When; RFC 3339.
    pub at: String,
    /// Through which exchange.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// The session that published it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Address and port of the publisher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// What the publisher calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// How many records.
    pub count: u64,
}

/// An exchange to be made.
#[derive(Clone, Debug)]
pub struct NewExchange {
    /// Its name.
    pub name: ExchangeName,
    /// How it matches.
    pub kind: ExchangeKind,
    /// Where what matches nothing goes on.
    pub alternate: Option<ExchangeName>,
}

fn rates(meter: Option<&Meter>) -> ExchangeRates {
    let now = clock::now().0;
    ExchangeRates {
        publishes_per_s: meter.map_or(0.0, |meter| meter.rates(now).records_in_per_s),
    }
}

fn info(shared: &Shared, exchange: &Exchange, bindings: usize) -> ExchangeInfo {
    let counts = shared.exchanges.counts_of(&exchange.name);
    ExchangeInfo {
        name: exchange.name.to_string(),
        kind: exchange.kind,
        alternate: exchange.alternate.as_ref().map(ToString::to_string),
        bindings,
        unroutable: counts.unroutable.load(Ordering::Relaxed),
        rates: rates(Some(&counts.meter)),
    }
}

fn binding_info(shared: &Shared, binding: &Binding) -> BindingInfo {
    let (topic, exchange) = match &binding.to {
        Destination::Topic(topic) => (Some(topic.to_string()), None),
        Destination::Exchange(exchange) => (None, Some(exchange.to_string())),
    };
    BindingInfo {
        id: binding.id.to_string(),
        topic,
        exchange,
        routing_key: binding.routing_key.to_string(),
        rates: rates(shared.exchanges.known_meter_of(binding.id).as_deref()),
    }
}

fn no_exchange(name: &str) -> Refusal {
    ExchangeError::NotFound(name.into()).refusal()
}

/// Every exchange, by name.
pub fn exchanges(shared: &Shared) -> Vec<ExchangeInfo> {
    let known = shared.exchanges.read();
    let count = |exchange: &Exchange| {
        known
            .bindings_of(exchange.name.as_str())
            .map_or(0, |all| all.len())
    };
    known
        .iter()
        .map(|exchange| info(shared, exchange, count(exchange)))
        .collect()
}

/// One exchange.
///
/// # Errors
/// `exchange_not_found`.
pub fn exchange(shared: &Shared, name: &str) -> Result<ExchangeInfo, Refusal> {
    let known = shared.exchanges.read();
    let exchange = known.get(name).ok_or_else(|| no_exchange(name))?;
    let bindings = known.bindings_of(name).map_or(0, |all| all.len());
    Ok(info(shared, exchange, bindings))
}

/// Makes an exchange.
///
/// # Errors
/// `conflict` if it is there with another kind or alternate, or at all with [`Creation::New`];
/// `exchange_not_found` for its alternate, `storage_failed`.
pub async fn declare_exchange(
    shared: &Shared,
    new: NewExchange,
    creation: Creation,
) -> Result<ExchangeInfo, Refusal> {
    let name = new.name.clone();
    let exchange = Exchange {
        name: new.name,
        kind: new.kind,
        alternate: new.alternate,
    };
    let message = DeclareExchange { exchange, creation };
    shared.broker().send(message).await.map_err(internal)??;
    self::exchange(shared, name.as_str())
}

/// Deletes an exchange, its bindings and those to it. Exchanges whose alternate it was have none then.
///
/// # Errors
/// `exchange_not_found`, `storage_failed`.
pub async fn delete_exchange(shared: &Shared, name: &str) -> Result<(), Refusal> {
    let message = DeleteExchange(name.to_owned());
    shared.broker().send(message).await.map_err(internal)?
}

/// The bindings of an exchange, by id.
///
/// # Errors
/// `exchange_not_found`.
pub fn bindings(shared: &Shared, exchange: &str) -> Result<Vec<BindingInfo>, Refusal> {
    let known = shared.exchanges.read();
    let bindings = known.bindings_of(exchange).map_err(|error| error.refusal())?;
    Ok(bindings.map(|binding| binding_info(shared, binding)).collect())
}

/// Binds an exchange to a topic, which is made if need be and allowed, or to another exchange.
///
/// # Errors
/// `exchange_not_found`, `topic_not_found`, `conflict` for a cycle, `invalid_argument` for a routing key,
/// `forbidden` for a topic of the broker's own, `storage_failed`.
pub async fn bind(shared: &Shared, bind: Bind) -> Result<BindingInfo, Refusal> {
    if shared.exchanges.read().get(bind.exchange.as_str()).is_none() {
        return Err(no_exchange(bind.exchange.as_str()));
    }
    if let BindTo::Topic(topic) = &bind.to {
        if topic.is_internal() {
            let message = "names that begin with $ are the broker's own";
            return Err(Refusal::new(ErrorCode::Forbidden, message));
        }
        topic_or_new(shared, topic.as_str(), Want::Auto).await?;
    }
    let exchange = bind.exchange.clone();
    let id = shared.broker().send(AddBinding(bind)).await.map_err(internal)??;
    let known = shared.exchanges.read();
    let binding = known.binding(exchange.as_str(), id);
    binding
        .map(|binding| binding_info(shared, binding))
        .ok_or_else(|| no_exchange(exchange.as_str()))
}

/// Removes a binding.
///
/// # Errors
/// `exchange_not_found`, `invalid_argument` if there is no such binding, `storage_failed`.
pub async fn unbind(shared: &Shared, exchange: &str, id: &str) -> Result<(), Refusal> {
    let id = BindingId::parse(id).unwrap_or(BindingId(u64::MAX));
    remove_binding(shared, WhichBinding::Id(exchange.to_owned(), id)).await
}

/// Removes a binding, named by its id or by what it does.
///
/// # Errors
/// As [`unbind`].
pub async fn remove_binding(shared: &Shared, which: WhichBinding) -> Result<(), Refusal> {
    shared
        .broker()
        .send(RemoveBinding(which))
        .await
        .map_err(internal)?
}

/// Where a routing key leads.
///
/// # Errors
/// `exchange_not_found`. A key that leads nowhere has no routes.
pub fn dry_run(shared: &Shared, exchange: &str, routing_key: &str) -> Result<DryRun, Refusal> {
    let known = shared.exchanges.read();
    let routes = known
        .route(exchange, routing_key)
        .map_err(|error| error.refusal())?;
    let route = |topic: &callboard_protocol::TopicName| DryRoute {
        topic: topic.to_string(),
    };
    Ok(DryRun {
        routes: routes.topics.iter().map(route).collect(),
        bindings: routes.bindings.iter().map(ToString::to_string).collect(),
        exchanges: routes.exchanges.iter().map(ToString::to_string).collect(),
        alternate: routes.took_alternate,
    })
}

/// The last publishes that matched nothing, newest first.
pub fn unroutable(shared: &Shared) -> Vec<UnroutableInfo> {
    let info = |unroutable: Unroutable| UnroutableInfo {
        at: format_rfc3339(unroutable.at),
        exchange: unroutable.exchange,
        routing_key: unroutable.routing_key,
        session: unroutable.sender.session,
        remote: unroutable.sender.remote,
        client: unroutable.sender.client,
        count: unroutable.count,
    };
    shared.exchanges.unroutable().into_iter().map(info).collect()
}

/// Finds where a publish of `count` records goes, and remembers one that goes nowhere.
///
/// # Errors
/// `exchange_not_found`, `unroutable`, `invalid_argument` for what is no routing key.
pub fn find_route(
    shared: &Shared,
    (exchange, routing_key): (&str, &str),
    count: u64,
    sender: impl FnOnce() -> Sender,
) -> Result<Route, Refusal> {
    callboard_protocol::name::check_routing_key(routing_key)
        .map_err(|error| Refusal::new(ErrorCode::InvalidArgument, error.to_string()))?;
    let route = shared.exchanges.route(exchange, routing_key);
    if let Err(refusal) = &route
        && !shared.exchanges.are_known()
        && refusal.code == ErrorCode::ExchangeNotFound
    {
        return Err(starting());
    }
    if let Err(refusal) = &route
        && refusal.code == ErrorCode::Unroutable
    {
        shared.exchanges.note_unroutable(Unroutable {
            at: clock::now(),
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            count,
            sender: sender(),
        });
    }
    route
}

/// The topics of a route as they are now: all of them, because a record goes to all or to none.
///
/// # Errors
/// `overloaded` while the broker starts and one is not open yet, `topic_not_found` if one is not there, because it
/// is being deleted or could not be read at the start.
pub fn placings(shared: &Shared, route: &Route) -> Result<Vec<Placing>, Refusal> {
    let placing = |name: &TopicName| match shared.directory.get(name.as_str()) {
        Some(topic) => Ok(Placing::new(topic)),
        None if shared.is_ready() => {
            let message = format!("the routing key leads to {name}, which can not be used");
            Err(Refusal::new(ErrorCode::TopicNotFound, message))
        }
        None => Err(starting()),
    };
    route.topics.iter().map(placing).collect()
}

fn starting() -> Refusal {
    Refusal::new(ErrorCode::Overloaded, "the broker is starting")
}

/// Publishes records that stand alone each through an exchange; each is stored in all topics that it is routed to
/// or in none. The exchange without a name routes by the topic's name.
///
/// # Errors
/// Those that concern all records: `exchange_not_found`, `unroutable`, `topic_not_found` and `forbidden` of the
/// exchange without a name, `shutting_down`.
pub async fn publish_routed(
    shared: &Shared,
    exchange: &str,
    routing_key: &str,
    records: Vec<Result<NewRecord<'_>, Refusal>>,
    (asked, sender): (Asked, Sender),
) -> Result<Vec<RoutedResult>, Refusal> {
    check_running(shared)?;
    let count = records.len();
    let mut placings = if exchange.is_empty() {
        if routing_key.starts_with('$') {
            let message = "names that begin with $ are the broker's own";
            return Err(Refusal::new(ErrorCode::Forbidden, message));
        }
        vec![Placing::new(topic_or_new(shared, routing_key, Want::Auto).await?)]
    } else {
        let route = find_route(shared, (exchange, routing_key), count as u64, || sender)?;
        let placings = self::placings(shared, &route)?;
        route.count(clock::now(), count as u64);
        placings
    };
    let asked = bounded(asked);
    let mut intake = Intake::of_caller(shared.push().allow_private());
    let mut pending = PendingRoutes::new(exchange, count);
    placings.iter_mut().for_each(Placing::begin_frame);
    for (record, new) in records.into_iter().enumerate() {
        let reply = |route| Reply {
            id: None,
            slot: Slot::Route {
                pending: 0,
                record,
                route,
            },
            silent: false,
        };
        let added = new.and_then(|new| intake.add_routed(&mut placings, &new, asked, &reply));
        match added {
            Ok(()) => pending.set_routes(record, placings.iter().map(|placing| &placing.topic().name)),
            Err(refusal) => pending.refuse(record, refusal),
        }
    }
    let mut answers = send(&mut intake).await;
    while let Some(answered) = answers.recv().await {
        for (place, reply) in answered.replies.iter().enumerate() {
            if let Slot::Route { record, route, .. } = reply.slot {
                let outcome: RecordResult = answered.settlement.outcome(place, answered.part);
                pending.set(record, route, outcome);
            }
        }
    }
    Ok(pending.take_results(crate::actors::append::lost))
}

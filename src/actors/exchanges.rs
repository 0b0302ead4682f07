//! The exchanges as every thread sees them: where a publish goes, how much goes there, and what went nowhere.
//!
//! Core decides (`callboard_core::exchange`); changed by the BrokerActor only, which keeps what it changes. Read
//! with each publish through an exchange, so sessions keep what they found until the exchanges change.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use callboard_core::exchange::{BindingId, Exchanges as Known};
use callboard_protocol::{ErrorCode, ExchangeName, Timestamp, TopicName, error::Refusal};

use super::directory::Meter;

/// Unroutable publishes that are remembered.
const UNROUTABLE_MAX: usize = 100;

/// See the module.
#[derive(Default)]
pub struct Exchanges {
    known: RwLock<Known>,
    /// Whether what the store keeps of them was read.
    are_known: AtomicBool,
    version: AtomicU64,
    counts: RwLock<Counts>,
    unroutable: Mutex<VecDeque<Unroutable>>,
}

#[derive(Default)]
struct Counts {
    exchanges: HashMap<ExchangeName, Arc<ExchangeCounts>>,
    bindings: HashMap<BindingId, Arc<Meter>>,
}

/// What went through an exchange.
#[derive(Default)]
pub struct ExchangeCounts {
    /// What was published through it, also from another exchange.
    pub meter: Meter,
    /// Publishes that matched nothing.
    pub unroutable: AtomicU64,
}

/// A publish that matched nothing.
#[derive(Clone, Debug)]
pub struct Unroutable {
    /// When.
    pub at: Timestamp,
    /// Through which exchange.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// How many records.
    pub count: u64,
    /// Who published it.
    pub sender: Sender,
}

/// Who publishes, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The id of its session.
    pub session: Option<String>,
    /// Its address and port.
    pub remote: Option<String>,
    /// What it calls itself.
    pub client: Option<String>,
}

/// Where a routing key leads, and what counts it.
#[derive(Clone)]
pub struct Route {
    /// The topics, each once, in order.
    pub topics: Arc<[TopicName]>,
    exchanges: Arc<[Arc<ExchangeCounts>]>,
    bindings: Arc<[Arc<Meter>]>,
}

impl Route {
    /// Counts so many records that went this way at `now`.
    pub fn count(&self, now: Timestamp, records: u64) {
        for exchange in self.exchanges.iter() {
            exchange.meter.count(now.0, records, 0);
        }
        for binding in self.bindings.iter() {
            binding.count(now.0, records, 0);
        }
    }
}

impl Exchanges {
    /// Changes with every change of what routes where; read before [`Self::route`] by whoever keeps its outcome.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether they are all there; not before the broker has read what it keeps of them.
    pub fn are_known(&self) -> bool {
        self.are_known.load(Ordering::Acquire)
    }

    /// They are all there.
    pub(super) fn set_known(&self) {
        self.are_known.store(true, Ordering::Release);
    }

    /// All of them.
    pub fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes them.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known: RwLockWriteGuard<'_, Known> =
            self.known.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut known);
        // While it is locked: whoever reads the new version finds the change.
        self.version.fetch_add(1, Ordering::Release);
        outcome
    }

    /// Where a routing key leads.
    ///
    /// # Errors
    /// `exchange_not_found`, `unroutable`.
    pub fn route(&self, exchange: &str, routing_key: &str) -> Result<Route, Refusal> {
        let routes = self
            .read()
            .route(exchange, routing_key)
            .map_err(|error| error.refusal())?;
        if routes.topics.is_empty() {
            let message = format!("no binding of {exchange} matches {routing_key:?}");
            return Err(Refusal::new(ErrorCode::Unroutable, message));
        }
        let exchanges = routes.exchanges.iter().map(|name| self.counts_of(name));
        let bindings = routes.bindings.iter().map(|id| self.meter_of(*id));
        Ok(Route {
            exchanges: exchanges.collect(),
            bindings: bindings.collect(),
            topics: routes.topics.into(),
        })
    }

    /// What went through an exchange.
    pub fn counts_of(&self, name: &ExchangeName) -> Arc<ExchangeCounts> {
        if let Some(counts) = self.counts().exchanges.get(name) {
            return counts.clone();
        }
        self.counts_mut()
            .exchanges
            .entry(name.clone())
            .or_default()
            .clone()
    }

    /// What went through a binding.
    pub fn meter_of(&self, id: BindingId) -> Arc<Meter> {
        if let Some(meter) = self.counts().bindings.get(&id) {
            return meter.clone();
        }
        self.counts_mut().bindings.entry(id).or_default().clone()
    }

    /// What went through a binding, if anything did.
    pub fn known_meter_of(&self, id: BindingId) -> Option<Arc<Meter>> {
        self.counts().bindings.get(&id).cloned()
    }

    /// Forgets what went through what is no more.
    pub(super) fn forget_counts(&self, exchange: Option<&ExchangeName>, bindings: &[BindingId]) {
        let mut counts = self.counts_mut();
        if let Some(exchange) = exchange {
            counts.exchanges.remove(exchange);
        }
        for id in bindings {
            counts.bindings.remove(id);
        }
    }

    fn counts(&self) -> RwLockReadGuard<'_, Counts> {
        self.counts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts_mut(&self) -> RwLockWriteGuard<'_, Counts> {
        self.counts.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a publish that matched nothing.
    pub fn note_unroutable(&self, unroutable: Unroutable) {
        if let Ok(name) = ExchangeName::parse(&unroutable.exchange) {
            let counts = self.counts_of(&name);
            counts.unroutable.fetch_add(unroutable.count, Ordering::Relaxed);
        }
        let mut noted = self.unroutable.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() == UNROUTABLE_MAX {
            noted.pop_front();
        }
        noted.push_back(unroutable);
    }

    /// The last publishes that matched nothing, newest first.
    pub fn unroutable(&self) -> Vec<Unroutable> {
        let noted = self.unroutable.lock().unwrap_or_else(PoisonError::into_inner);
        noted.iter().rev().cloned().collect()
    }
}

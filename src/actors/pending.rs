//! Publishes whose answer is put together of several: records that stand alone, and the routes of an exchange.
//!
//! Owns outcomes until the last one is there. Kept by a connection for its frames and by `gateway` for its
//! callers.

use callboard_protocol::{
    FrameId, TopicName,
    error::Refusal,
    server::{self, RecordResult, RouteResult, RoutedResult},
};

use super::wire::FrameBuffer;

/// A publish that waits for some of its outcomes.
pub enum Pending {
    /// Several records to one topic.
    Records(PendingRecords),
    /// One or several records through an exchange.
    Routes(PendingRoutes),
}

/// See [`Pending::Records`].
pub struct PendingRecords {
    /// The frame's id.
    pub id: Option<FrameId>,
    /// Its topic.
    pub topic: TopicName,
    /// The outcomes so far.
    pub results: Vec<Option<RecordResult>>,
    /// How many are missing.
    pub missing: usize,
    /// Whether success is answered at all.
    pub silent: bool,
}

/// See [`Pending::Routes`].
pub struct PendingRoutes {
    /// The frame's id.
    pub id: Option<FrameId>,
    /// The exchange, as the publisher named it.
    pub exchange: Box<str>,
    /// Whether success is answered at all.
    pub silent: bool,
    /// Whether the frame is the record, and its answer that of the record.
    pub is_single: bool,
    /// By record.
    pub records: Vec<RoutedRecord>,
    /// How many outcomes are missing.
    missing: usize,
}

/// The outcomes of one record's routes.
pub struct RoutedRecord {
    routes: Vec<(TopicName, Option<RecordResult>)>,
    /// Why it is stored nowhere, or what was waited for did not come.
    refused: Option<Refusal>,
}

impl Pending {
    /// Takes in the outcome of a record of several; the last one answers the frame. Whether that was it.
    pub fn record(&mut self, index: usize, result: RecordResult, frames: &mut FrameBuffer) -> bool {
        match self {
            Self::Records(records) => records.record(index, result, frames),
            Self::Routes(routes) => {
                if let RecordResult::Refused(refusal) = result {
                    routes.refuse(index, refusal);
                }
                routes.answer(frames)
            }
        }
    }

    /// Takes in the outcome of one route of a record; the last one answers the frame. Whether that was it.
    pub fn route(
        &mut self,
        (record, route): (usize, usize),
        result: RecordResult,
        frames: &mut FrameBuffer,
    ) -> bool {
        match self {
            Self::Records(_) => false,
            Self::Routes(routes) => {
                routes.set(record, route, result);
                routes.answer(frames)
            }
        }
    }
}

impl PendingRecords {
    fn record(&mut self, index: usize, result: RecordResult, frames: &mut FrameBuffer) -> bool {
        if self.id.is_none()
            && let RecordResult::Refused(refusal) = &result
        {
            frames.frame(|buffer| server::error(buffer, None, refusal, Some(index)));
        }
        self.results[index] = Some(result);
        self.missing -= 1;
        if self.missing > 0 {
            return false;
        }
        let results: Vec<RecordResult> = std::mem::take(&mut self.results).into_iter().flatten().collect();
        let refused = results
            .iter()
            .any(|result| matches!(result, RecordResult::Refused(_)));
        if let Some(id) = self.id.as_ref().filter(|_| !self.silent || refused) {
            frames.frame(|buffer| server::published_many(buffer, Some(id), &self.topic, &results));
        }
        true
    }
}

impl PendingRoutes {
    /// A publish of `count` records whose routes are not known yet.
    pub fn new(exchange: &str, count: usize) -> Self {
        let record = || RoutedRecord {
            routes: Vec::new(),
            refused: None,
        };
        Self {
            id: None,
            exchange: exchange.into(),
            silent: false,
            is_single: false,
            records: std::iter::repeat_with(record).take(count).collect(),
            missing: count,
        }
    }

    /// Says where a record goes.
    pub fn set_routes<'a>(&mut self, record: usize, topics: impl Iterator<Item = &'a TopicName>) {
        let routes: Vec<_> = topics.map(|topic| (topic.clone(), None)).collect();
        // One outcome was expected of a record of which nothing was known.
        self.missing = self.missing + routes.len() - 1;
        self.records[record].routes = routes;
    }

    /// A record goes nowhere; called instead of [`Self::set_routes`].
    pub fn refuse(&mut self, record: usize, refusal: Refusal) {
        self.records[record].refused.get_or_insert(refusal);
        self.missing -= 1;
    }

    /// Takes in the outcome of one route.
    pub fn set(&mut self, record: usize, route: usize, result: RecordResult) {
        let known = &mut self.records[record];
        match result {
            RecordResult::Refused(refusal) => drop(known.refused.get_or_insert(refusal)),
            stored => known.routes[route].1 = Some(stored),
        }
        self.missing -= 1;
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The outcomes, by record; where one is missing after all, `lost` says what to tell.
    pub fn take_results(&mut self, lost: impl Fn() -> Refusal) -> Vec<RoutedResult> {
        let records = std::mem::take(&mut self.records);
        records.into_iter().map(|record| record.result(&lost)).collect()
    }

    fn answer(&mut self, frames: &mut FrameBuffer) -> bool {
        if !self.is_complete() {
            return false;
        }
        let mut results = self.take_results(super::append::lost);
        let id = self.id.as_ref();
        if id.is_none() {
            let is_single = self.is_single;
            for (index, result) in results.iter().enumerate() {
                if let RoutedResult::Refused(refusal) = result {
                    let index = (!is_single).then_some(index);
                    frames.frame(|buffer| server::error(buffer, None, refusal, index));
                }
            }
            return true;
        }
        let is_refused = |result: &RoutedResult| matches!(result, RoutedResult::Refused(_));
        if self.silent && !results.iter().any(is_refused) {
            return true;
        }
        if !self.is_single {
            frames.frame(|buffer| server::published_routes_many(buffer, id, &self.exchange, &results));
            return true;
        }
        match results.pop() {
            Some(RoutedResult::Routes(routes)) => {
                frames.frame(|buffer| server::published_routes(buffer, id, &self.exchange, &routes));
            }
            Some(RoutedResult::Refused(refusal)) => {
                frames.frame(|buffer| server::error(buffer, id, &refusal, None));
            }
            None => {}
        }
        true
    }
}

impl RoutedRecord {
    fn result(self, lost: impl Fn() -> Refusal) -> RoutedResult {
        if let Some(refusal) = self.refused {
            return RoutedResult::Refused(refusal);
        }
        let mut routes = Vec::with_capacity(self.routes.len());
        for (topic, result) in self.routes {
            match result {
                Some(result) => routes.push(RouteResult { topic, result }),
                None => return RoutedResult::Refused(lost()),
            }
        }
        RoutedResult::Routes(routes)
    }
}

//! `publish`: records on their way from a frame into drafts, to a topic or through an exchange.

use std::collections::HashMap;

use actix::prelude::*;
use callboard_protocol::{
    ErrorCode, FrameId,
    client::{Ack, NewRecord, Payload, Publish, Records, Repeated, To},
    error::Refusal,
    server::RecordResult,
};

use super::{Flow, SessionActor, requests::Found};
use crate::actors::{
    append::{Asked, Reply, Slot},
    clock,
    conn::Conn,
    exchanges::{Route, Sender},
    gateway::exchanges::{find_route, placings},
    intake::Placing,
    pending::{Pending, PendingRecords, PendingRoutes},
    wire::FrameBuffer,
};

/// Routing keys of which a session remembers where they lead …
const ROUTES_MAX: usize = 64;
/// … and how many topics those may be in all.
const ROUTED_TOPICS_MAX: usize = 4096;

/// A publish is learnt after so many that were not like the one that was learnt before: who never sends two alike
/// does not pay for it each time.
const LEARN_EVERY: u32 = 8;

/// What a session's publishes have in common, as most senders' have.
#[derive(Default)]
pub struct Habit {
    known: Option<Box<Repeated>>,
    /// Publishes that were not like it.
    unlike: u32,
}

impl Habit {
    /// Looks at a publish that was read as a whole.
    pub(super) fn learn(&mut self, line: &str) {
        if self.unlike.is_multiple_of(LEARN_EVERY) {
            self.known = Repeated::learn(line).map(Box::new);
        }
        self.unlike = self.unlike.wrapping_add(1);
    }
}

/// Where the routing keys of a session led, as long as the exchanges stay as they are.
#[derive(Default)]
pub struct Routing {
    version: u64,
    /// By exchange and routing key, with a byte between that neither has.
    known: HashMap<Box<str>, (Route, Vec<Placing>)>,
    /// How many topics those are.
    topics: usize,
    /// The key that is looked up, so that looking takes no memory of its own.
    wanted: String,
}

impl Routing {
    /// Makes ready to look a routing key up: forgets what is no longer true.
    fn begin(&mut self, version: u64, (exchange, routing_key): (&str, &str)) {
        if self.version != version {
            self.forget();
            self.version = version;
        }
        self.wanted.clear();
        self.wanted.push_str(exchange);
        self.wanted.push('\0');
        self.wanted.push_str(routing_key);
    }

    fn forget(&mut self) {
        self.known = HashMap::new();
        self.topics = 0;
    }

    /// Keeps where the key leads that was looked up.
    fn keep(&mut self, route: Route, placings: Vec<Placing>) {
        if self.known.len() >= ROUTES_MAX || self.topics + placings.len() > ROUTED_TOPICS_MAX {
            self.forget();
        }
        self.topics += placings.len();
        self.known.insert(self.wanted.as_str().into(), (route, placings));
    }
}

impl SessionActor {
    /// Handles a publish that is like the one before; none if it is not, or no publish at all.
    #[inline]
    pub(super) fn publish_repeated(&mut self, line: &str, ctx: &mut Context<Self>) -> Option<Flow> {
        let known = self.habit.known.take()?;
        let flow = known.read(line).map(|(id, payload)| {
            let record = NewRecord {
                payload: Payload::Json(payload.into()),
                ..NewRecord::default()
            };
            let asked = Asked {
                ack: known.ack(),
                timeout_ms: None,
            };
            let flow = match self.refuse_at_end(id.map(FrameId::Number).as_ref()) {
                Some(flow) => flow,
                None => self.publish_one(id.map(FrameId::Number), known.topic(), (asked, &record), ctx),
            };
            let flow = self.send_large(flow, ctx);
            self.count(flow)
        });
        self.habit.known = Some(known);
        flow
    }

    /// Refuses a publish when the broker shuts down.
    fn refuse_at_end(&self, id: Option<&FrameId>) -> Option<Flow> {
        self.hub.shared.is_shutting_down().then(|| {
            let refusal = Refusal::new(ErrorCode::ShuttingDown, "the broker is shutting down");
            self.refuse(id, &refusal)
        })
    }

    /// Sends the drafts on if one has grown large.
    fn send_large(&mut self, flow: Flow, ctx: &mut Context<Self>) -> Flow {
        if flow == Flow::Done && self.intake.is_large() {
            self.send_drafts(ctx);
            if self.conn.paused.get() {
                return Flow::Wait;
            }
        }
        flow
    }

    pub(super) fn publish(
        &mut self,
        id: Option<FrameId>,
        publish: Publish<'_>,
        ctx: &mut Context<Self>,
    ) -> Flow {
        if let Some(flow) = self.refuse_at_end(id.as_ref()) {
            return flow;
        }
        let Publish {
            to,
            ack,
            timeout_ms,
            records,
        } = publish;
        let asked = Asked { ack, timeout_ms };
        let flow = match to {
            To::Topic(topic) => match records {
                Records::One(record) => self.publish_one(id, &topic, (asked, &record), ctx),
                Records::Many(records) => self.publish_many(id, &topic, (asked, records), ctx),
            },
            To::Exchange {
                exchange,
                routing_key,
            } if exchange.is_empty() => self.publish_by_name(id, &routing_key, (asked, records), ctx),
            To::Exchange {
                exchange,
                routing_key,
            } => self.publish_through(id, (&exchange, &routing_key), (asked, records)),
        };
        self.send_large(flow, ctx)
    }

    /// The topic that the last publish named, or another one.
    fn placing_of(&mut self, topic: &str, ctx: &mut Context<Self>) -> Result<Box<Placing>, Found> {
        if topic.starts_with('$') {
            let message = "names that begin with $ are the broker's own";
            return Err(Found::Denied(Refusal::new(ErrorCode::Forbidden, message)));
        }
        let mut placing = match self.placing.take() {
            Some(known) if known.topic().name.as_str() == topic && !known.topic().is_deleted() => known,
            _ => match self.topic_or_new(topic, ctx) {
                Found::Topic(topic) => Box::new(Placing::new(topic)),
                other => return Err(other),
            },
        };
        placing.begin_frame();
        Ok(placing)
    }

    fn not_placed(&self, id: Option<&FrameId>, found: &Found) -> Flow {
        match found {
            Found::Denied(refusal) => self.refuse(id, refusal),
            Found::Creating | Found::Topic(_) => Flow::Again,
        }
    }

    fn publish_one(
        &mut self,
        id: Option<FrameId>,
        topic: &str,
        (asked, record): (Asked, &NewRecord<'_>),
        ctx: &mut Context<Self>,
    ) -> Flow {
        let mut placing = match self.placing_of(topic, ctx) {
            Ok(placing) => placing,
            Err(found) => return self.not_placed(id.as_ref(), &found),
        };
        let reply = Reply {
            id,
            slot: Slot::Alone,
            silent: asked.ack == Ack::None,
        };
        if let Err(denied) = self.intake.add(&mut placing, record, asked, reply) {
            let (refusal, reply) = *denied;
            self.refuse(reply.id.as_ref(), &refusal);
        }
        self.placing = Some(placing);
        Flow::Done
    }

    fn publish_many(
        &mut self,
        id: Option<FrameId>,
        topic: &str,
        (asked, records): (Asked, Vec<Result<NewRecord<'_>, Refusal>>),
        ctx: &mut Context<Self>,
    ) -> Flow {
        let mut placing = match self.placing_of(topic, ctx) {
            Ok(placing) => placing,
            Err(found) => return self.not_placed(id.as_ref(), &found),
        };
        let count = records.len();
        let silent = asked.ack == Ack::None;
        let pending = self.wait_for(Pending::Records(PendingRecords {
            id,
            topic: placing.topic().name.clone(),
            results: vec![None; count],
            missing: count,
            silent,
        }));
        let mut frames = FrameBuffer::new(self.conn.format, 0);
        for (index, record) in records.into_iter().enumerate() {
            let reply = Reply {
                id: None,
                slot: Slot::Part { pending, index },
                silent,
            };
            let added = record.and_then(|record| {
                self.intake
                    .add(&mut placing, &record, asked, reply)
                    .map_err(|denied| denied.0)
            });
            if let Err(refusal) = added {
                let outcome = RecordResult::Refused(refusal);
                self.conn
                    .take_outcome(pending, |known| known.record(index, outcome, &mut frames));
            }
        }
        self.conn.push(frames.finish());
        self.placing = Some(placing);
        Flow::Done
    }

    fn wait_for(&self, pending: Pending) -> usize {
        self.conn.pending.borrow_mut().insert(pending)
    }

    /// Through the exchange without a name, which leads to the topic that the routing key names.
    fn publish_by_name(
        &mut self,
        id: Option<FrameId>,
        topic: &str,
        what: (Asked, Records<'_>),
        ctx: &mut Context<Self>,
    ) -> Flow {
        let placing = match self.placing_of(topic, ctx) {
            Ok(placing) => placing,
            Err(found) => return self.not_placed(id.as_ref(), &found),
        };
        let mut placings = vec![*placing];
        self.publish_routed(id, "", &mut placings, what);
        self.placing = placings.pop().map(Box::new);
        Flow::Done
    }

    fn publish_through(
        &mut self,
        id: Option<FrameId>,
        (exchange, routing_key): (&str, &str),
        what: (Asked, Records<'_>),
    ) -> Flow {
        let shared = self.hub.shared.clone();
        let mut routing = self.routing.take().unwrap_or_default();
        routing.begin(shared.exchanges.version(), (exchange, routing_key));
        let count = match &what.1 {
            Records::One(_) => 1,
            Records::Many(records) => records.len() as u64,
        };
        if !routing.known.contains_key(routing.wanted.as_str()) {
            let route = find_route(&shared, (exchange, routing_key), count, || sender(&self.conn));
            let placed = route.and_then(|route| Ok((placings(&shared, &route)?, route)));
            match placed {
                Ok((placings, route)) => routing.keep(route, placings),
                Err(refusal) => {
                    self.routing = Some(routing);
                    return self.refuse(id.as_ref(), &refusal);
                }
            }
        }
        if let Some((route, placings)) = routing.known.get_mut(routing.wanted.as_str()) {
            route.count(clock::now(), count);
            placings.iter_mut().for_each(Placing::begin_frame);
            self.publish_routed(id, exchange, placings, what);
        }
        self.routing = Some(routing);
        Flow::Done
    }

    /// Adds the records of a frame to the drafts of all topics that they go to.
    fn publish_routed(
        &mut self,
        id: Option<FrameId>,
        exchange: &str,
        placings: &mut [Placing],
        (asked, records): (Asked, Records<'_>),
    ) {
        let (is_single, records) = match records {
            Records::One(record) => (true, vec![Ok(record)]),
            Records::Many(records) => (false, records),
        };
        let silent = asked.ack == Ack::None;
        let mut outcomes = PendingRoutes::new(exchange, records.len());
        outcomes.id = id;
        outcomes.silent = silent;
        outcomes.is_single = is_single;
        let pending = self.wait_for(Pending::Routes(outcomes));
        let mut frames = FrameBuffer::new(self.conn.format, 0);
        for (record, new) in records.into_iter().enumerate() {
            let reply = |route| Reply {
                id: None,
                slot: Slot::Route {
                    pending,
                    record,
                    route,
                },
                silent,
            };
            let added = new.and_then(|new| self.intake.add_routed(placings, &new, asked, &reply));
            match added {
                Ok(()) => {
                    if let Some(Pending::Routes(known)) = self.conn.pending.borrow_mut().get_mut(pending) {
                        known.set_routes(record, placings.iter().map(|placing| &placing.topic().name));
                    }
                }
                Err(refusal) => {
                    let outcome = RecordResult::Refused(refusal);
                    self.conn
                        .take_outcome(pending, |known| known.record(record, outcome, &mut frames));
                }
            }
        }
        self.conn.push(frames.finish());
    }
}

fn sender(conn: &Conn) -> Sender {
    Sender {
        session: Some(conn.session.to_string()),
        remote: Some(conn.remote.to_string()),
        client: (!conn.client.is_empty()).then(|| conn.client.to_string()),
    }
}

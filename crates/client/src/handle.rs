//! What a program holds: [`Client`], [`Publisher`], [`Subscription`], and members of groups. They only talk
//! to the driver.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use callboard_protocol::{Offset, PartitionId};
use serde::Serialize;

use crate::{
    driver::{self, Command, OnLoss},
    error::{Error, ServerError},
    frame::{Assigned, Message, Notice, Page, Published, Revoked, ServerFrame, Skipped, Subscribed, Welcome},
    request::{self, Ack, Declare, Fetch, Publish, Subscribe},
};

mod consumer;
mod exchange;
mod join;
mod subscription;
mod worker;
pub use consumer::{GroupConsumer, GroupEvent};
pub use exchange::Notices;
pub use subscription::Subscription;
pub use worker::{Job, Worker, WorkerEvent};

/// How many commands wait for the socket before callers do.
const COMMANDS_MAX: usize = 1024;
/// How many events of a subscription wait for its reader before the socket is no longer read.
const RECORDS_WAITING_MAX: usize = 1024;
/// How many [`Event`]s a listener may lag behind before it misses some.
const EVENTS_MAX: usize = 1024;

/// What happens when the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// The client ends.
    Never,
    /// It connects again and again, with growing pauses, and subscriptions go on where they were.
    Always {
        /// The first pause.
        pause_min: Duration,
        /// The longest pause.
        pause_max: Duration,
    },
}

impl Default for Reconnect {
    fn default() -> Self {
        Self::Always {
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(10),
        }
    }
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// What happens when the connection is lost. The first connection is tried once.
    pub reconnect: Reconnect,
    /// How long one attempt may take.
    pub connect_timeout: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            reconnect: Reconnect::default(),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// What happens to the connection as a whole.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something was refused after its caller had gone on, as a record with [`Ack::None`]. The `id` is
    /// that of [`Outcome::Sent`].
    Refused(ServerError),
    /// The broker will close the session.
    GoingAway {
        /// Why.
        reason: String,
    },
    /// The connection was lost; another attempt follows after `pause`.
    Disconnected {
        /// What ended it, or why the last attempt failed.
        reason: String,
        /// How long the client waits.
        pause: Duration,
    },
    /// The connection stands again.
    Reconnected,
}

/// What a subscription brings.
#[derive(Clone, Debug)]
pub enum SubscriptionEvent {
    /// A record.
    Record(Message),
    /// Records were left out.
    Skipped(Skipped),
    /// The subscription goes on after a lost connection.
    Resumed(
        /// What the broker answered; `recovered` false says that records are gone.
        Subscribed,
    ),
    /// No more will come.
    Ended {
        /// Why.
        reason: String,
    },
}

/// What the driver gives to whoever reads.
#[derive(Debug)]
pub(crate) enum Delivered {
    Subscription(SubscriptionEvent),
    Member(MemberEvent),
    Notice(Notice),
}

impl std::convert::From<SubscriptionEvent> for Delivered {
    fn from(event: SubscriptionEvent) -> Self {
        Self::Subscription(event)
    }
}

/// What a member of a group of either kind gets.
#[derive(Debug)]
pub(crate) enum MemberEvent {
    /// With the number of the connection over which it came.
    Record {
        message: Message,
        connection: u64,
    },
    Skipped(Skipped),
    Assigned(Assigned),
    Revoked(Revoked),
    Rejoined(Subscribed),
    Ended {
        reason: String,
    },
}

/// What a worker made of a published record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processed {
    /// Where the record is stored.
    pub partition: Option<PartitionId>,
    /// Its offset.
    pub offset: Option<Offset>,
    /// What the worker answered, as JSON text; `None` if it said only that it is done.
    pub result: Option<Box<str>>,
}

/// What became of a published record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored, as the reply says.
    Published(Published),
    /// It was handed to the connection with [`Ack::None`]; a refusal would come as [`Event::Refused`].
    Sent {
        /// The `id` that such a refusal would carry.
        id: u64,
    },
}

/// A connection to a broker. Cheap to clone; the connection ends when the last clone, publisher and
/// subscription is gone.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
    closing: Arc<watch::Sender<bool>>,
    next_id: Arc<AtomicU64>,
    welcome: Arc<Welcome>,
}

impl Client {
    /// Connects to `url`, as `ws://127.0.0.1:8080/ws`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`] or [`Error::Connect`].
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<Self, Error> {
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let (closing, closed) = watch::channel(false);
        let next_id = Arc::new(AtomicU64::new(1));
        let channels = driver::Channels {
            commands: queue,
            events: events.clone(),
            closing: closed,
            next_id: Arc::clone(&next_id),
        };
        let welcome = driver::start(url.to_owned(), options, channels).await?;
        Ok(Self {
            commands,
            events,
            closing: Arc::new(closing),
            next_id,
            welcome: Arc::new(welcome),
        })
    }

    /// What the broker said at the first connection.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// What happens to the connection from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Publishes one record and waits for its outcome.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::FrameTooLarge`], [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn publish(&self, publish: Publish) -> Result<Outcome, Error> {
        self.begin_publish(&publish).await?.outcome().await
    }

    /// Publishes many records, at most `in_flight_max` of them unanswered.
    #[must_use]
    pub fn publisher(&self, in_flight_max: usize) -> Publisher {
        Publisher {
            client: self.clone(),
            in_flight_max: in_flight_max.max(1),
            in_flight: VecDeque::new(),
        }
    }

    /// Begins a subscription and waits until it stands.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Overlap`], [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, Error> {
        let credit = subscribe.credit;
        let topic = subscribe.topic.clone();
        let (sender, events) = mpsc::channel(RECORDS_WAITING_MAX);
        let (reply, answer) = oneshot::channel();
        self.command(Command::Subscribe {
            subscribe,
            sender,
            reply,
        })
        .await?;
        let subscribed = answer.await.map_err(|_| Error::Closed)??;
        Ok(Subscription::new(
            topic,
            subscribed,
            credit,
            events,
            self.commands.clone(),
        ))
    }

    /// Creates a topic, or finds it as `config` says: a JSON object of its configuration's fields.
    ///
    /// # Errors
    /// [`Error::Refused`] with `conflict` if it is there and different; [`Error::Configuration`],
    /// [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn declare(&self, topic: &str, config: &str) -> Result<(), Error> {
        let declare = Declare::new(topic, config)?;
        done(self.ask_again("declare", &declare).await?).await
    }

    /// Publishes a record and waits, for at most `timeout`, until a worker of a shared group has done it.
    ///
    /// # Errors
    /// [`Error::Refused`] with `timeout`, and then the record is stored and a worker may still do it, or with
    /// `dead_lettered` and the reason; else as [`Self::publish`].
    pub async fn publish_and_wait(&self, publish: Publish, timeout: Duration) -> Result<Processed, Error> {
        let publish = publish.with_ack(Ack::Processed).with_timeout(timeout);
        match self.begin_publish(&publish).await?.outcome().await? {
            Outcome::Published(published) => Ok(Processed {
                partition: published.partition,
                offset: published.offset,
                result: published.result,
            }),
            Outcome::Sent { .. } => Err(Error::Closed),
        }
    }

    /// Reads a page without a subscription.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn fetch(&self, fetch: &Fetch) -> Result<Page, Error> {
        let id = self.new_id();
        let line = request::line("fetch", Some(id), fetch);
        match self.ask(id, line, OnLoss::Repeat).await?.await {
            Ok(Ok(ServerFrame::Messages(page))) => Ok(page),
            other => Err(unexpected(other)),
        }
    }

    /// Waits until the broker has read everything sent before.
    ///
    /// # Errors
    /// [`Error::Disconnected`] or [`Error::Closed`].
    pub async fn ping(&self) -> Result<(), Error> {
        let id = self.new_id();
        let line = request::line("ping", Some(id), &request::Ping {});
        match self.ask(id, line, OnLoss::Fail).await?.await {
            Ok(Ok(ServerFrame::Pong(_))) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Sends what waits and closes the connection.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        // While the connection is away nobody takes the command; the flag ends the attempts.
        self.closing.send_replace(true);
        if self.commands.send(Command::Close { done }).await.is_ok() {
            // An error says that the driver has ended, which is what was asked for.
            let _ = closed.await;
        }
    }

    fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    async fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Closed)
    }

    /// Asks for something that has no result.
    async fn done(&self, kind: &str, body: &impl Serialize) -> Result<(), Error> {
        let id = self.new_id();
        let line = request::line(kind, Some(id), body);
        self.check_size(&line)?;
        done(self.ask(id, line, OnLoss::Fail).await?).await
    }

    fn check_size(&self, line: &str) -> Result<(), Error> {
        let (bytes, bytes_max) = (line.len(), self.welcome.frame_bytes_max);
        if bytes > bytes_max {
            return Err(Error::FrameTooLarge { bytes, bytes_max });
        }
        Ok(())
    }

    async fn ask(&self, id: u64, line: String, on_loss: OnLoss) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Ask {
            id,
            line,
            on_loss,
            reply,
        })
        .await?;
        Ok(answer)
    }

    async fn begin_publish(&self, publish: &Publish) -> Result<InFlight, Error> {
        let id = self.new_id();
        let line = request::line("publish", Some(id), publish);
        self.check_size(&line)?;
        if publish.ack() == Ack::None {
            self.command(Command::Tell { line }).await?;
            return Ok(InFlight::Sent(id));
        }
        let on_loss = if publish.may_repeat() {
            OnLoss::Repeat
        } else {
            OnLoss::Fail
        };
        Ok(InFlight::Asked(self.ask(id, line, on_loss).await?))
    }
}

type Answer = oneshot::Receiver<Result<ServerFrame, Error>>;

async fn done(answer: Answer) -> Result<(), Error> {
    match answer.await {
        Ok(Ok(ServerFrame::Ok(_))) => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn unexpected(answer: Result<Result<ServerFrame, Error>, oneshot::error::RecvError>) -> Error {
    match answer {
        Ok(Err(error)) => error,
        Ok(Ok(frame)) => Error::Disconnected {
            reason: format!("the broker answered with something else: {frame:?}"),
        },
        Err(_) => Error::Closed,
    }
}

#[derive(Debug)]
enum InFlight {
    Asked(Answer),
    Sent(u64),
    Failed(Error),
}

impl InFlight {
    async fn outcome(self) -> Result<Outcome, Error> {
        match self {
            Self::Sent(id) => Ok(Outcome::Sent { id }),
            Self::Failed(error) => Err(error),
            Self::Asked(answer) => match answer.await {
                Ok(Ok(ServerFrame::Published(published))) => Ok(Outcome::Published(published)),
                other => Err(unexpected(other)),
            },
        }
    }
}

/// Publishes records one behind the other without waiting for each; outcomes come in the order sent.
#[derive(Debug)]
pub struct Publisher {
    client: Client,
    in_flight_max: usize,
    in_flight: VecDeque<InFlight>,
}

impl Publisher {
    /// Sends a record; if as many as allowed are unanswered, first waits for the oldest and returns its
    /// outcome.
    pub async fn publish(&mut self, publish: &Publish) -> Option<Result<Outcome, Error>> {
        let oldest = if self.in_flight.len() < self.in_flight_max {
            None
        } else {
            self.next_outcome().await
        };
        let sent = self.client.begin_publish(publish).await;
        self.in_flight.push_back(sent.unwrap_or_else(InFlight::Failed));
        oldest
    }

    /// The outcome of the oldest record without one; `None` if there is none.
    ///
    /// Must not be dropped before it is done, else that outcome is lost.
    pub async fn next_outcome(&mut self) -> Option<Result<Outcome, Error>> {
        Some(self.in_flight.pop_front()?.outcome().await)
    }

    /// How many records have no outcome yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

//! The task that owns the socket.
//!
//! It writes what the handles ask, several lines a message, and gives what comes to whom it is for.
//! It waits for three things at once: the socket, commands, and room at a slow reader. While a reader
//! has no room the socket is not read, and TCP tells the broker, which then reads on from the log.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    error::{Error, ServerError},
    frame::{Goaway, Notice, ServerFrame, Subscribed, Welcome},
    handle::{ConnectOptions, Delivered, Event, MemberEvent, Reconnect, SubscriptionEvent},
    members::Members,
    positions::{Accepted, Positions},
    request::{self, Subscribe},
    transport::{self, Incoming, Reading, Socket, Turn},
};

mod backlog;
mod groups;
use backlog::{Backlog, Reader, Room};
pub(crate) use groups::{Joining, Settlement};

/// Lines are put together into one message up to this length, bytes.
const BATCH_BYTES_MAX: usize = 64 << 10;
/// How long a broker may take to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// What is added to twice the heartbeat before silence counts as a lost connection.
const SILENCE_MARGIN: Duration = Duration::from_secs(5);

/// What becomes of an unanswered request when the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnLoss {
    /// Its caller is told: it may or may not have been done.
    Fail,
    /// It is sent again; doing it twice is the same as once.
    Repeat,
}

/// What the handles ask of the driver.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send and report the answer.
    Ask {
        id: u64,
        line: String,
        on_loss: OnLoss,
        reply: oneshot::Sender<Result<ServerFrame, Error>>,
    },
    /// Send; nothing is awaited.
    Tell {
        line: String,
    },
    Subscribe {
        subscribe: Subscribe,
        sender: Reader,
        reply: oneshot::Sender<Result<Subscribed, Error>>,
    },
    Unsubscribe {
        topic: String,
    },
    Join(Joining),
    /// End the membership of this number.
    Leave(u64),
    Settle(Settlement),
    /// Give notices to one more reader.
    Notices(Reader),
    /// Send what came before and end.
    Close {
        done: oneshot::Sender<()>,
    },
}

/// How the driver and the handles reach each other.
pub(crate) struct Channels {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) next_id: Arc<AtomicU64>,
}

/// What an `id` on the wire stands for.
enum Pending {
    Ask {
        repeat: Option<String>,
        reply: oneshot::Sender<Result<ServerFrame, Error>>,
    },
    Subscribe {
        topic: String,
        reply: oneshot::Sender<Result<Subscribed, Error>>,
    },
    /// A subscription that goes on after a lost connection.
    Resume { topic: String },
    Join {
        number: u64,
        reply: oneshot::Sender<Result<Subscribed, Error>>,
    },
    /// A membership that is taken up again after a lost connection.
    Rejoin { number: u64 },
}

/// Why a connection is no longer used.
enum End {
    Lost(String),
    Closed(Option<oneshot::Sender<()>>),
}

struct Driver {
    url: String,
    options: ConnectOptions,
    channels: Channels,
    pending: BTreeMap<u64, Pending>,
    positions: Positions,
    members: Members,
    /// Who reads notices.
    notices: Vec<Reader>,
    /// Counts the connections: a delivery belongs to the one over which it came.
    connection: u64,
    backlog: Backlog,
    /// Lines that the next message takes first.
    lines: VecDeque<String>,
    /// When the broker asked to come back.
    goaway: Option<Goaway>,
}

/// Connects and starts the task.
pub(crate) async fn start(
    url: String,
    options: ConnectOptions,
    channels: Channels,
) -> Result<Welcome, Error> {
    let (socket, welcome) = connect(&url, &options).await?;
    let driver = Driver {
        url,
        options,
        channels,
        pending: BTreeMap::new(),
        positions: Positions::default(),
        members: Members::default(),
        notices: Vec::new(),
        connection: 0,
        backlog: Backlog::default(),
        lines: VecDeque::new(),
        goaway: None,
    };
    tokio::spawn(driver.run(socket, silence_max(&welcome)));
    Ok(welcome)
}

fn silence_max(welcome: &Welcome) -> Duration {
    Duration::from_millis(welcome.heartbeat_ms) * 2 + SILENCE_MARGIN
}

async fn connect(url: &str, options: &ConnectOptions) -> Result<(Socket, Welcome), Error> {
    let failed = |reason: String| Error::Connect {
        url: url.to_owned(),
        reason,
    };
    let mut socket = transport::open(url, options.connect_timeout).await?;
    let greeting = async {
        loop {
            if let Turn::Received(Incoming::Text(text)) = socket.turn(&mut None, Reading::On).await? {
                return Ok(text);
            }
        }
    };
    let text = timeout(options.connect_timeout, greeting)
        .await
        .map_err(|_| failed("the broker did not greet".to_owned()))?
        .map_err(failed)?;
    match ServerFrame::decode(text.trim_end()) {
        Ok(ServerFrame::Welcome(welcome)) => Ok((socket, welcome)),
        Ok(ServerFrame::Error(error)) => Err(Error::Refused(Box::new(error))),
        _ => Err(failed(format!("instead of a welcome came {:.80}", text.as_str()))),
    }
}

impl Driver {
    async fn run(mut self, mut socket: Socket, mut silence_max: Duration) {
        loop {
            let reason = match self.drive(&mut socket, silence_max).await {
                End::Closed(done) => {
                    socket.close(CLOSE_TIMEOUT).await;
                    self.end("the client was closed");
                    drop(done);
                    return;
                }
                End::Lost(reason) => reason,
            };
            log::debug!("connection to {} lost: {reason}", self.url);
            self.fail_unrepeatable(&reason);
            let Some((new_socket, welcome)) = self.reconnect(reason.clone()).await else {
                self.end(&reason);
                return;
            };
            socket = new_socket;
            self.connection += 1;
            silence_max = crate::driver::silence_max(&welcome);
            self.resume();
            // Nobody needs to listen.
            let _ = self.channels.events.send(Event::Reconnected);
        }
    }

    /// Uses one connection until it ends.
    async fn drive(&mut self, socket: &mut Socket, silence_max: Duration) -> End {
        let mut outgoing: Option<String> = None;
        let mut closing: Option<oneshot::Sender<()>> = None;
        let mut heard_at = Instant::now();
        loop {
            if outgoing.is_none() {
                outgoing = self.next_batch(&mut closing);
                if outgoing.is_none() && closing.is_some() {
                    return End::Closed(closing);
                }
            }
            let reading = if self.backlog.is_empty() {
                Reading::On
            } else {
                Reading::Off
            };
            tokio::select! {
                turn = socket.turn(&mut outgoing, reading) => match turn {
                    Ok(Turn::Sent) => {}
                    Ok(Turn::Received(incoming)) => {
                        heard_at = Instant::now();
                        if let Incoming::Text(text) = incoming && let Err(reason) = self.receive(&text) {
                            return End::Lost(reason);
                        }
                    }
                    Err(reason) => return End::Lost(reason),
                },
                command = self.channels.commands.recv(), if outgoing.is_none() => match command {
                    Some(command) => self.command(command, &mut closing),
                    None => return End::Closed(None),
                },
                room = self.backlog.room(), if !self.backlog.is_empty() => {
                    self.deliver_oldest(room);
                    heard_at = Instant::now();
                }
                () = sleep_until(heard_at + silence_max), if reading == Reading::On => {
                    return End::Lost(format!("nothing came for {} ms", silence_max.as_millis()));
                }
            }
        }
    }

    /// Everything that waits to be sent, as one message.
    fn next_batch(&mut self, closing: &mut Option<oneshot::Sender<()>>) -> Option<String> {
        let mut batch = String::new();
        while batch.len() < BATCH_BYTES_MAX {
            if self.lines.is_empty() {
                if closing.is_some() {
                    break;
                }
                let Ok(command) = self.channels.commands.try_recv() else {
                    break;
                };
                self.command(command, closing);
                continue;
            }
            let Some(line) = self.lines.front() else { break };
            // A message may hold no more than a frame may.
            if !batch.is_empty() && batch.len() + line.len() > BATCH_BYTES_MAX {
                break;
            }
            if let Some(line) = self.lines.pop_front() {
                if !batch.is_empty() {
                    batch.push('\n');
                }
                batch.push_str(&line);
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn command(&mut self, command: Command, closing: &mut Option<oneshot::Sender<()>>) {
        match command {
            Command::Ask {
                id,
                line,
                on_loss,
                reply,
            } => {
                let repeat = (on_loss == OnLoss::Repeat).then(|| line.clone());
                self.pending.insert(id, Pending::Ask { repeat, reply });
                self.lines.push_back(line);
            }
            Command::Tell { line } => self.lines.push_back(line),
            Command::Subscribe {
                subscribe,
                sender,
                reply,
            } => match self.positions.insert(subscribe.clone(), sender) {
                Ok(()) => {
                    let topic = subscribe.topic.clone();
                    self.send_subscribe(&subscribe, Pending::Subscribe { topic, reply });
                }
                // A caller that no longer waits needs no answer.
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Unsubscribe { topic } => self.unsubscribe(&topic),
            Command::Join(joining) => self.join(joining),
            Command::Leave(number) => self.leave(number),
            Command::Settle(settlement) => self.settle(settlement),
            Command::Notices(reader) => self.notices.push(reader),
            Command::Close { done } => *closing = Some(done),
        }
    }

    fn send_subscribe(&mut self, subscribe: &Subscribe, pending: Pending) {
        let id = self.new_id();
        self.pending.insert(id, pending);
        self.lines
            .push_back(request::line("subscribe", Some(id), subscribe));
    }

    fn new_id(&self) -> u64 {
        self.channels.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn unsubscribe(&mut self, topic: &str) {
        if self.positions.remove(topic).is_some() {
            self.lines.push_back(request::line(
                "unsubscribe",
                None,
                &request::Unsubscribe { topic },
            ));
        }
    }

    /// Takes one message apart.
    fn receive(&mut self, text: &str) -> Result<(), String> {
        for line in text.lines().filter(|line| !line.is_empty()) {
            let frame =
                ServerFrame::decode(line).map_err(|error| format!("the broker sent {line:.80} ({error})"))?;
            self.frame(frame);
        }
        Ok(())
    }

    fn frame(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Message(message) if message.group.is_some() => self.member_record(message),
            ServerFrame::Message(message) => {
                if let Accepted::Yes(sender) = self.positions.accept(&message) {
                    self.deliver(sender, SubscriptionEvent::Record(message).into());
                }
            }
            ServerFrame::Skipped(skipped) => match skipped.group.clone() {
                Some(group) => {
                    let topic = skipped.topic.clone();
                    self.member_event(&topic, &group, MemberEvent::Skipped(skipped));
                }
                None => {
                    if let Accepted::Yes(sender) = self.positions.skip(&skipped) {
                        self.deliver(sender, SubscriptionEvent::Skipped(skipped).into());
                    }
                }
            },
            ServerFrame::Assigned(frame) => {
                let (topic, group) = (frame.topic.clone(), frame.group.clone());
                self.member_event(&topic, &group, MemberEvent::Assigned(frame));
            }
            ServerFrame::Revoked(frame) => {
                let (topic, group) = (frame.topic.clone(), frame.group.clone());
                self.member_event(&topic, &group, MemberEvent::Revoked(frame));
            }
            ServerFrame::Published(ref published) => self.answer(number(published.id.as_ref()), frame),
            ServerFrame::Messages(ref page) => self.answer(number(page.id.as_ref()), frame),
            ServerFrame::Ok(ref done) | ServerFrame::Pong(ref done) => {
                self.answer(number(done.id.as_ref()), frame);
            }
            ServerFrame::Subscribed(subscribed) if subscribed.group.is_some() => self.joined(subscribed),
            ServerFrame::Subscribed(subscribed) => self.subscribed(subscribed),
            ServerFrame::Unsubscribed(ended) => match &ended.group {
                Some(group) => self.removed(&ended.topic, group, ended.reason),
                None => self.end_one(&ended.topic, ended.reason),
            },
            ServerFrame::Goaway(goaway) => {
                let reason = goaway.reason.clone();
                self.goaway = Some(goaway);
                // Nobody needs to listen.
                let _ = self.channels.events.send(Event::GoingAway { reason });
            }
            ServerFrame::Notice(notice) => self.notice(&notice),
            ServerFrame::Error(error) => self.refused(error),
            ServerFrame::Welcome(_) | ServerFrame::Unknown => {}
        }
    }

    fn answer(&mut self, id: Option<u64>, frame: ServerFrame) {
        let pending = id.and_then(|id| self.pending.remove(&id));
        if let Some(Pending::Ask { reply, .. }) = pending {
            // A caller that no longer waits needs no answer.
            let _ = reply.send(Ok(frame));
        }
    }

    fn subscribed(&mut self, subscribed: Subscribed) {
        self.positions.subscribed(&subscribed);
        match number(subscribed.id.as_ref()).and_then(|id| self.pending.remove(&id)) {
            Some(Pending::Subscribe { topic, reply }) => {
                if reply.send(Ok(subscribed)).is_err() {
                    self.unsubscribe(&topic);
                }
            }
            Some(Pending::Resume { topic }) => {
                if let Some(sender) = self.positions.get(&topic).map(|entry| entry.sender.clone()) {
                    self.deliver(sender, SubscriptionEvent::Resumed(subscribed).into());
                }
            }
            Some(Pending::Ask { .. } | Pending::Join { .. } | Pending::Rejoin { .. }) | None => {}
        }
    }

    fn refused(&mut self, error: ServerError) {
        match number(error.id.as_ref()).and_then(|id| self.pending.remove(&id)) {
            // In each case a caller that no longer waits needs no answer.
            Some(Pending::Ask { reply, .. }) => drop(reply.send(Err(Error::Refused(Box::new(error))))),
            Some(Pending::Subscribe { topic, reply }) => {
                self.positions.remove(&topic);
                drop(reply.send(Err(Error::Refused(Box::new(error)))));
            }
            Some(Pending::Resume { topic }) => self.end_one(&topic, error.to_string()),
            Some(Pending::Join { number, reply }) => {
                self.members.remove(number);
                drop(reply.send(Err(Error::Refused(Box::new(error)))));
            }
            Some(Pending::Rejoin { number }) => self.end_member(number, error.to_string()),
            None => drop(self.channels.events.send(Event::Refused(error))),
        }
    }

    fn end_one(&mut self, topic: &str, reason: String) {
        if let Some(entry) = self.positions.remove(topic) {
            self.deliver(entry.sender, SubscriptionEvent::Ended { reason }.into());
        }
    }

    fn notice(&mut self, notice: &Notice) {
        for reader in self.notices.clone() {
            self.deliver(reader, Delivered::Notice(notice.clone()));
        }
    }

    fn deliver(&mut self, reader: Reader, event: Delivered) {
        if let Err(gone) = self.backlog.deliver(reader, event) {
            self.reader_gone(&gone);
        }
    }

    fn deliver_oldest(&mut self, room: Room) {
        for gone in self.backlog.deliver_oldest(room) {
            self.reader_gone(&gone);
        }
    }

    fn reader_gone(&mut self, reader: &Reader) {
        self.notices.retain(|other| !other.same_channel(reader));
        if let Some(topic) = self.positions.name_of(reader) {
            self.unsubscribe(&topic);
        } else if let Some(number) = self.members.read_by(reader) {
            self.leave(number);
        }
    }

    /// Tells the callers whose request must not be sent twice.
    fn fail_unrepeatable(&mut self, reason: &str) {
        let lost = |pending: &mut Pending| {
            matches!(
                pending,
                Pending::Ask { repeat: None, .. } | Pending::Resume { .. } | Pending::Rejoin { .. }
            )
        };
        for (_, pending) in self.pending.extract_if(.., |_, pending| lost(pending)) {
            if let Pending::Ask { reply, .. } = pending {
                let reason = reason.to_owned();
                // A caller that no longer waits needs no answer.
                let _ = reply.send(Err(Error::Disconnected { reason }));
            }
        }
        // Lines of requests that were just failed, or that are written again by `resume`.
        self.lines.clear();
    }

    /// Writes again what a new session needs to know.
    fn resume(&mut self) {
        let mut waiting: BTreeMap<String, Pending> = BTreeMap::new();
        let mut joining: Vec<(u64, Pending)> = Vec::new();
        let is_waiting =
            |pending: &Pending| matches!(pending, Pending::Subscribe { .. } | Pending::Join { .. });
        for (_, pending) in self.pending.extract_if(.., |_, pending| is_waiting(pending)) {
            match &pending {
                Pending::Subscribe { topic, .. } => drop(waiting.insert(topic.clone(), pending)),
                Pending::Join { number, .. } => joining.push((*number, pending)),
                Pending::Ask { .. } | Pending::Resume { .. } | Pending::Rejoin { .. } => {}
            }
        }
        let repeats = self.pending.values().filter_map(|pending| match pending {
            Pending::Ask { repeat, .. } => repeat.clone(),
            _ => None,
        });
        self.lines = repeats.collect();
        for subscribe in self.positions.resume() {
            let topic = subscribe.topic.clone();
            let pending = waiting.remove(&topic).unwrap_or(Pending::Resume { topic });
            self.send_subscribe(&subscribe, pending);
        }
        self.rejoin(joining);
    }

    /// Tries until it works; `None` if it is not to be tried, or the client was closed meanwhile.
    async fn reconnect(&mut self, mut reason: String) -> Option<(Socket, Welcome)> {
        let Reconnect::Always { pause_min, pause_max } = self.options.reconnect else {
            return None;
        };
        let asked = self
            .goaway
            .take()
            .map(|goaway| Duration::from_millis(goaway.reconnect_ms));
        let mut pause = asked.unwrap_or(pause_min).min(pause_max);
        loop {
            let wait = jitter(pause);
            // Nobody needs to listen.
            let _ = self
                .channels
                .events
                .send(Event::Disconnected { reason, pause: wait });
            tokio::select! {
                // An error says that every `Client` is gone; subscriptions may still be read.
                Ok(_) = self.channels.closing.wait_for(|closing| *closing) => return None,
                () = sleep_until(Instant::now() + wait) => {}
            }
            if self.channels.commands.is_closed() {
                return None;
            }
            match connect(&self.url, &self.options).await {
                Ok(connected) => return Some(connected),
                Err(error) => reason = error.to_string(),
            }
            pause = (pause * 2).min(pause_max);
        }
    }

    /// Tells everyone who waits that nothing more comes.
    fn end(&mut self, reason: &str) {
        for topic in self.positions.names() {
            self.end_one(&topic, reason.to_owned());
        }
        for number in self.members.numbers() {
            self.end_member(number, reason.to_owned());
        }
        // Readers get what is already there.
        std::mem::take(&mut self.backlog).hand_over();
        for (_, pending) in std::mem::take(&mut self.pending) {
            let error = Error::Disconnected {
                reason: reason.to_owned(),
            };
            match pending {
                Pending::Ask { reply, .. } => drop(reply.send(Err(error))),
                Pending::Subscribe { reply, .. } | Pending::Join { reply, .. } => {
                    drop(reply.send(Err(error)));
                }
                Pending::Resume { .. } | Pending::Rejoin { .. } => {}
            }
        }
    }
}

fn number(id: Option<&callboard_protocol::FrameId>) -> Option<u64> {
    match id {
        Some(callboard_protocol::FrameId::Number(number)) => Some(*number),
        Some(callboard_protocol::FrameId::Text(_)) | None => None,
    }
}

/// Between half of `pause` and all of it, so that a thousand clients do not come back at once.
fn jitter(pause: Duration) -> Duration {
    let share = RandomState::new().hash_one(0_u8) % 1024;
    let share = u32::try_from(share).expect("it is below 1024");
    pause / 2 + (pause / 2) * share / 1024
}

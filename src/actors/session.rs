//! SessionActor: one WebSocket connection.
//!
//! Reads frames and hands each on: records to their partitions, subscriptions to this thread's hub. What
//! goes out is written by the hub through [`Conn`]. Frames are handled in the order in which they came; one
//! that must wait (a topic that is being created, a disk) makes those behind it wait, and the socket is not
//! read from meanwhile.

mod declare;
mod groups;
mod incoming;
mod publish;
mod reading;
mod requests;

use std::{collections::VecDeque, rc::Rc, sync::Arc};

use actix::prelude::*;
use bytes::BytesMut;
use callboard_protocol::{error::Refusal, server::ServerFrame};
use reading::{Lines, SocketEvent, SocketEvents};
use tokio::sync::oneshot;

use super::{
    append::{Append, Origin},
    conn::Conn,
    directory::PartitionRef,
    hub::Hub,
    intake::{Intake, Open, Placing},
    together::Together,
};

/// See the module.
pub struct SessionActor {
    hub: Rc<Hub>,
    conn: Rc<Conn>,
    intake: Intake,
    /// The begin of a WebSocket frame whose rest has not come, or what must wait.
    unread: BytesMut,
    /// Frames of a message that must wait for the one before them.
    lines: Lines,
    /// A message that comes in fragments.
    fragments: Option<BytesMut>,
    /// The topic that the last publish named; most sessions publish to one.
    placing: Option<Box<Placing>>,
    /// What its publishes have in common.
    habit: publish::Habit,
    /// Where the routing keys of its publishes led.
    routing: Option<Box<publish::Routing>>,
    /// Why the topic that a waiting frame needs is not to be had.
    denied: Option<Refusal>,
    /// What found a mailbox full, or must go alone, in order.
    unsent: VecDeque<Unsent>,
    /// What was asked about deliveries and goes to the groups with what else came in the same read.
    settling: Vec<groups::Settling>,
    /// Where the last delivery of the frame that is being read was put.
    last_settled: Option<usize>,
    /// Why nothing is handled just now, if it is for the client's sake.
    hold: Hold,
    /// What was asked of the registry and is not answered.
    wishes: declare::Wishes,
}

/// Records that wait before they go to their partitions.
enum Unsent {
    /// Until the partition's mailbox has room.
    Append(Arc<PartitionRef>, Box<Append>),
    /// What comes behind it waits until all of its partitions have it in their order: they hand it on from one to
    /// the next, and it must not be passed on that way.
    Together(Box<Together>, oneshot::Receiver<()>),
}

/// Whether the client must take replies before more is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// No.
    None,
    /// Its outbox is full of them.
    Replies,
}

/// What a frame means for those behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// They go on.
    Done,
    /// They wait until [`SessionActor::resume`].
    Wait,
    /// They wait, and so does this one: it is handled again.
    Again,
}

impl SessionActor {
    /// Starts a session on this thread; `came` is what the client sent right behind its handshake.
    pub fn start_on(hub: Rc<Hub>, conn: Rc<Conn>, came: BytesMut) {
        hub.add(conn.clone());
        conn.reply(|buffer| {
            ServerFrame::welcome(conn.session.to_string(), hub.shared.settings.heartbeat_ms).push(buffer);
        });
        if hub.has_said_goodbye() {
            // Its handshake was under way when the others were told.
            hub.say_goodbye(&conn);
        }
        let intake = Intake::of_session(conn.waits.clone(), hub.shared.push().allow_private());
        Self {
            hub,
            conn,
            intake,
            // Copied, because it lies in the large buffer of the HTTP stack.
            unread: BytesMut::from(&came[..]),
            lines: Lines::default(),
            fragments: None,
            placing: None,
            habit: publish::Habit::default(),
            routing: None,
            denied: None,
            unsent: VecDeque::new(),
            settling: Vec::new(),
            last_settled: None,
            hold: Hold::None,
            wishes: declare::Wishes::default(),
        }
        .start();
    }

    /// Goes on after a wait, with the frames that waited and then with what came meanwhile.
    fn resume(&mut self, ctx: &mut Context<Self>) {
        if !self.unsent.is_empty() {
            // Found a full mailbox while the session waited for something else.
            return self.send_next(ctx);
        }
        self.conn.paused.set(false);
        self.read_lines(ctx);
        if !self.conn.paused.get() {
            self.read_on(ctx);
        } else {
            self.send_drafts(ctx);
        }
        self.conn.wake();
    }

    /// Sends what was collected to its partitions, one message each.
    fn send_drafts(&mut self, ctx: &mut Context<Self>) {
        self.send_settling();
        if self.intake.is_empty() {
            return;
        }
        for open in self.intake.take() {
            let origin = Origin::Session(self.hub.addr.clone(), self.conn.id, self.conn.waits.clone());
            match open {
                Open::Draft(open) => {
                    self.hub.hold(&self.conn, open.bytes());
                    let (part, append) = open.into_append(origin);
                    let unsent = if self.unsent.is_empty() {
                        part.try_send(append)
                    } else {
                        Some(append)
                    };
                    if let Some(append) = unsent {
                        self.unsent.push_back(Unsent::Append(part, Box::new(append)));
                    }
                }
                Open::Together(open) => {
                    self.hub.hold(&self.conn, open.bytes());
                    let (together, decided) = open.into_together(&origin);
                    self.unsent.push_back(Unsent::Together(together, decided));
                }
            }
        }
        if !self.unsent.is_empty() && !self.conn.paused.replace(true) {
            self.send_next(ctx);
        }
    }

    /// Sends what waits next, and goes on with what is behind it when that may go.
    fn send_next(&mut self, ctx: &mut Context<Self>) {
        let Some(unsent) = self.unsent.pop_front() else {
            return self.resume(ctx);
        };
        let sent = async move {
            match unsent {
                Unsent::Append(part, append) => {
                    // Without an actor the append is dropped, and its receipt answers.
                    let sent = part.addr().map(|addr| addr.send(*append));
                    if let Some(sent) = sent {
                        let _ = sent.await;
                    }
                }
                Unsent::Together(together, decided) => {
                    together.forward();
                    // Its end says the same as a word.
                    let _ = decided.await;
                }
            }
        };
        ctx.spawn(
            sent.into_actor(self)
                .map(|(), session, ctx| session.send_next(ctx)),
        );
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.add_stream(SocketEvents {
            hub: self.hub.clone(),
            conn: self.conn.clone(),
        });
        self.read_on(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.hub.remove(&self.conn);
    }
}

impl Drop for SessionActor {
    /// After a panic as well: the hub must not keep a connection that nobody reads from.
    fn drop(&mut self) {
        self.conn.die();
        self.hub.remove(&self.conn);
    }
}

impl StreamHandler<SocketEvent> for SessionActor {
    fn handle(&mut self, event: SocketEvent, ctx: &mut Self::Context) {
        match event {
            SocketEvent::Came(came) => self.came(came, ctx),
            SocketEvent::Writable => {
                self.conn.flush();
                if self.hold == Hold::Replies && self.conn.has_room() {
                    self.hold = Hold::None;
                    self.resume(ctx);
                }
                super::plain::pump(&self.conn, &self.hub);
                super::member::drained(&self.conn);
            }
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

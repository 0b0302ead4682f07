//! SessionActor: one WebSocket connection.
//!
//! Reads frames and hands each on: records to their partitions, subscriptions to this thread's hub. What
//! goes out is written by the hub through [`Conn`]. Frames are handled in the order in which they came; one
//! that must wait (a topic that is being created, a disk) makes those behind it wait, and the socket is not
//! read from meanwhile.

mod declare;
mod groups;
mod publish;
mod requests;

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use actix::prelude::*;
use actix_http::ws::{OpCode, Parser};
use bytes::{Buf as _, BytesMut};
use callboard_protocol::{
    ErrorCode,
    error::Refusal,
    limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX},
    server::{self, ServerFrame},
};
use futures_util::Stream;
use tokio::sync::oneshot;

use super::{
    append::{Append, Origin},
    conn::{Conn, Phase},
    directory::PartitionRef,
    hub::Hub,
    intake::{Intake, Open, Placing},
    together::Together,
    wire::{Format, pong_frame},
};

/// The socket is read in pieces of this size into a buffer that all sessions of a thread share.
const READ_BYTES: usize = 64 << 10;
/// The longest header of a WebSocket frame.
const HEADER_BYTES_MAX: usize = 14;

const CLOSE_NORMAL: u16 = 1000;
const CLOSE_PROTOCOL: u16 = 1002;
const CLOSE_UNSUPPORTED: u16 = 1003;
const CLOSE_NOT_UTF8: u16 = 1007;
const CLOSE_TOO_LARGE: u16 = 1009;

thread_local! {
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// See the module.
pub struct SessionActor {
    hub: Rc<Hub>,
    conn: Rc<Conn>,
    intake: Intake,
    /// The begin of a WebSocket frame whose rest has not come, or what must wait.
    unread: BytesMut,
    /// Frames of a message that must wait for the one before them.
    lines: BytesMut,
    /// A message that comes in fragments.
    fragments: Option<BytesMut>,
    /// The topic that the last publish named; most sessions publish to one.
    placing: Option<Box<Placing>>,
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

/// Whose memory bytes that were read lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Buffer {
    /// The thread's scratch buffer.
    Shared,
    /// The session's.
    Own,
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
            lines: BytesMut::new(),
            fragments: None,
            placing: None,
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

    fn came(&mut self, data: BytesMut, ctx: &mut Context<Self>) {
        if self.conn.phase() != Phase::Open {
            // Only drained, so that the Close gets through, and no reason to go on for ever.
            return;
        }
        self.conn.is_active.set(true);
        if self.unread.is_empty() {
            self.read_frames(data, Buffer::Shared, ctx);
        } else {
            let mut all = std::mem::take(&mut self.unread);
            all.extend_from_slice(&data);
            self.read_frames(all, Buffer::Own, ctx);
        }
    }

    /// Takes WebSocket frames off the front of `data`, and keeps what is left.
    fn read_frames(&mut self, mut data: BytesMut, buffer: Buffer, ctx: &mut Context<Self>) {
        // A record takes about three quarters of its frame.
        self.intake.expect(data.len() / 4 * 3);
        while !self.conn.paused.get() && self.conn.phase() == Phase::Open && !self.holds_for_replies() {
            if declared_len(&data).is_some_and(|length| length > MESSAGE_BYTES_MAX as u64) {
                self.too_large();
                break;
            }
            match Parser::parse(&mut data, true, MESSAGE_BYTES_MAX + HEADER_BYTES_MAX) {
                Ok(Some((is_final, opcode, payload))) => {
                    self.ws_frame(is_final, opcode, payload.unwrap_or_default(), ctx);
                }
                Ok(None) => break,
                Err(error) => {
                    self.conn.close(CLOSE_PROTOCOL, &error.to_string());
                    break;
                }
            }
        }
        self.send_drafts(ctx);
        if !data.is_empty() && self.conn.phase() == Phase::Open {
            // Copied out of the shared buffer, so that this is free for the next session, and out of
            // one of its own that has become too large for what is left.
            let fits = data.capacity() <= 2 * data.len() + READ_BYTES;
            self.unread = if buffer == Buffer::Own && fits {
                data
            } else {
                BytesMut::from(&data[..])
            };
        }
    }

    /// Whether the client has too many replies to take before more is handled: one message may hold frames
    /// whose replies are many times its size. Goes on when the socket has taken some.
    fn holds_for_replies(&mut self) -> bool {
        if self.conn.phase() == Phase::Open && !self.conn.has_room() {
            self.hold = Hold::Replies;
            self.conn.paused.set(true);
        }
        self.hold == Hold::Replies
    }

    fn too_large(&mut self) {
        let refusal = Refusal::new(
            ErrorCode::FrameTooLarge,
            format!("a message has at most {MESSAGE_BYTES_MAX} bytes, and a frame {FRAME_BYTES_MAX}"),
        );
        self.conn
            .reply(|buffer| server::error(buffer, None, &refusal, None));
        self.conn.close(CLOSE_TOO_LARGE, "frame too large");
    }

    fn ws_frame(&mut self, is_final: bool, opcode: OpCode, payload: BytesMut, ctx: &mut Context<Self>) {
        match opcode {
            OpCode::Ping | OpCode::Pong | OpCode::Close if !is_final => {
                self.conn
                    .close(CLOSE_PROTOCOL, "control frames come in one piece");
            }
            OpCode::Text if self.fragments.is_some() => {
                self.conn
                    .close(CLOSE_PROTOCOL, "a new message began inside a fragmented one");
            }
            OpCode::Text if is_final => self.message(payload, ctx),
            // Copied, because it may lie in the buffer that all sessions share, and stay for long.
            OpCode::Text => self.fragments = Some(BytesMut::from(&payload[..])),
            OpCode::Continue => self.fragment(is_final, &payload, ctx),
            OpCode::Binary => self.conn.close(CLOSE_UNSUPPORTED, "messages are text"),
            OpCode::Ping => self.conn.push(pong_frame(&payload)),
            OpCode::Pong => {}
            OpCode::Close => {
                self.send_drafts(ctx);
                self.conn.has_left.set(true);
                self.conn.close(close_answer(&payload), "");
            }
            OpCode::Bad => self.conn.close(CLOSE_PROTOCOL, "unknown opcode"),
        }
    }

    fn fragment(&mut self, is_final: bool, payload: &BytesMut, ctx: &mut Context<Self>) {
        let Some(mut message) = self.fragments.take() else {
            return self.conn.close(CLOSE_PROTOCOL, "a continuation without a begin");
        };
        if message.len() + payload.len() > MESSAGE_BYTES_MAX {
            return self.too_large();
        }
        message.extend_from_slice(payload);
        if is_final {
            self.message(message, ctx);
        } else {
            self.fragments = Some(message);
        }
    }

    fn message(&mut self, message: BytesMut, ctx: &mut Context<Self>) {
        if std::str::from_utf8(&message).is_err() {
            return self.conn.close(CLOSE_NOT_UTF8, "messages are UTF-8");
        }
        if message.is_empty() && self.conn.format == Format::Json {
            self.frame("", ctx);
        }
        self.handle_lines(message, Buffer::Shared, ctx);
    }

    /// Handles the frames of a message, and keeps those that must wait.
    fn handle_lines(&mut self, mut message: BytesMut, buffer: Buffer, ctx: &mut Context<Self>) {
        let mut start = 0;
        while start < message.len() {
            let end = match self.conn.format {
                Format::Json => message.len(),
                Format::Ndjson => {
                    memchr::memchr(b'\n', &message[start..]).map_or(message.len(), |length| start + length)
                }
            };
            // Line by line, so that frames that wait often do not have what follows looked at as often.
            let line = std::str::from_utf8(&message[start..end]).expect("checked when the message came");
            let next = (end + 1).min(message.len());
            if !line.trim_ascii().is_empty() || self.conn.format == Format::Json {
                let flow = if self.holds_for_replies() {
                    Flow::Again
                } else {
                    self.frame(line, ctx)
                };
                if flow != Flow::Done {
                    self.conn.paused.set(true);
                    message.advance(if flow == Flow::Again { start } else { next });
                    self.lines = match buffer {
                        Buffer::Shared => BytesMut::from(&message[..]),
                        Buffer::Own => message,
                    };
                    return;
                }
            }
            start = next;
        }
    }

    /// Goes on after a wait, with the frames that waited and then with what came meanwhile.
    fn resume(&mut self, ctx: &mut Context<Self>) {
        if !self.unsent.is_empty() {
            // Found a full mailbox while the session waited for something else.
            return self.send_next(ctx);
        }
        self.conn.paused.set(false);
        let lines = std::mem::take(&mut self.lines);
        if !lines.is_empty() {
            self.handle_lines(lines, Buffer::Own, ctx);
        }
        if !self.conn.paused.get() {
            let unread = std::mem::take(&mut self.unread);
            self.read_frames(unread, Buffer::Own, ctx);
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

/// The code that answers a client's Close.
///
/// Source: RFC 6455, sections 5.5.1 and 7.4.
fn close_answer(payload: &[u8]) -> u16 {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            CLOSE_NORMAL
        } else {
            CLOSE_PROTOCOL
        };
    };
    match u16::from_be_bytes(*code) {
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => {
            if std::str::from_utf8(reason).is_ok() {
                code
            } else {
                CLOSE_NOT_UTF8
            }
        }
        // Nobody's, or one that says that there was none and is never sent.
        _ => CLOSE_PROTOCOL,
    }
}

/// The length that a WebSocket frame says it has, if enough of its header has come.
fn declared_len(data: &[u8]) -> Option<u64> {
    match data.get(1)? & 0x7f {
        126 => data
            .get(2..4)?
            .try_into()
            .ok()
            .map(|bytes| u64::from(u16::from_be_bytes(bytes))),
        127 => data.get(2..10)?.try_into().ok().map(u64::from_be_bytes),
        short => Some(u64::from(short)),
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.add_stream(SocketEvents {
            hub: self.hub.clone(),
            conn: self.conn.clone(),
        });
        let came = std::mem::take(&mut self.unread);
        self.read_frames(came, Buffer::Own, ctx);
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

/// What the socket can do.
enum SocketEvent {
    /// These bytes came.
    Came(BytesMut),
    /// It takes more of what waits.
    Writable,
}

/// The events of one socket, as long as it lives.
struct SocketEvents {
    hub: Rc<Hub>,
    conn: Rc<Conn>,
}

impl Stream for SocketEvents {
    type Item = SocketEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<SocketEvent>> {
        let conn = &self.conn;
        conn.park(cx);
        if conn.phase() == Phase::Dead {
            return Poll::Ready(None);
        }
        if conn.poll_writable(cx).is_ready() {
            return Poll::Ready(Some(SocketEvent::Writable));
        }
        if !self.hub.may_read(conn) {
            return Poll::Pending;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.reserve(READ_BYTES);
            match conn.poll_read(cx, scratch) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Some(SocketEvent::Came(scratch.split()))),
                Poll::Ready(_) => {
                    conn.die();
                    Poll::Ready(None)
                }
            }
        })
    }
}

impl StreamHandler<SocketEvent> for SessionActor {
    fn handle(&mut self, event: SocketEvent, ctx: &mut Self::Context) {
        match event {
            SocketEvent::Came(data) => self.came(data, ctx),
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

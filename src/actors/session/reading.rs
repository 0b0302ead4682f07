//! What comes in on the socket: from bytes to frames, read where they lie in a buffer that all sessions of a thread
//! share.
//!
//! Owns nothing between two reads but what is not whole yet or has to wait: that is copied into memory of the
//! session's own.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll},
};

use actix::prelude::*;
use bytes::{Buf as _, BytesMut};
use callboard_protocol::{
    ErrorCode,
    error::Refusal,
    limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX},
    server,
};
use futures_util::Stream;

use super::{
    Flow, Hold, SessionActor,
    incoming::{Fault, Frame, Opcode},
};
use crate::actors::{
    conn::{Conn, Phase},
    hub::Hub,
    wire::{Format, pong_frame},
};

/// The socket is read in pieces of this size.
const READ_BYTES: usize = 64 << 10;

const CLOSE_NORMAL: u16 = 1000;
const CLOSE_PROTOCOL: u16 = 1002;
const CLOSE_UNSUPPORTED: u16 = 1003;
const CLOSE_NOT_UTF8: u16 = 1007;
const CLOSE_TOO_LARGE: u16 = 1009;

thread_local! {
    /// Empty while a session reads what came, and before the first read.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What came with one read, at the front of the thread's buffer.
pub(super) struct Came {
    buffer: Vec<u8>,
    count: usize,
}

/// Frames of a message that wait.
#[derive(Default)]
pub(super) struct Lines {
    text: String,
    /// Where the first one that waits begins.
    at: usize,
}

impl SessionActor {
    /// Takes in what came with one read.
    pub(super) fn came(&mut self, Came { mut buffer, count }: Came, ctx: &mut Context<Self>) {
        // Only drained once the session closes, so that the Close gets through, and no reason to go on for ever.
        if self.conn.phase() == Phase::Open {
            self.conn.is_active.set(true);
            self.read_behind_unread(&mut buffer[..count], ctx);
            self.send_drafts(ctx);
        }
        SCRATCH.set(buffer);
    }

    fn read_behind_unread(&mut self, mut data: &mut [u8], ctx: &mut Context<Self>) {
        self.intake.expect(data.len());
        // Of what came only as much is copied as the frame lacks whose begin was kept: the rest is read where it lies.
        while !self.unread.is_empty() && !data.is_empty() && self.goes_on() {
            let (front, rest) = data.split_at_mut(Frame::lacking(&self.unread).min(data.len()));
            self.unread.extend_from_slice(front);
            data = rest;
            self.read_unread(ctx);
        }
        if self.unread.is_empty() {
            let used = self.read_frames(data, ctx);
            self.keep(BytesMut::from(&data[used..]));
        } else {
            self.unread.extend_from_slice(data);
        }
    }

    /// Goes on with what was kept.
    pub(super) fn read_on(&mut self, ctx: &mut Context<Self>) {
        self.intake.expect(self.unread.len());
        self.read_unread(ctx);
        self.send_drafts(ctx);
    }

    fn read_unread(&mut self, ctx: &mut Context<Self>) {
        let mut unread = std::mem::take(&mut self.unread);
        let used = self.read_frames(&mut unread, ctx);
        unread.advance(used);
        if unread.capacity() > 2 * unread.len() + READ_BYTES {
            // The memory is too large for what is left.
            unread = BytesMut::from(&unread[..]);
        }
        self.keep(unread);
    }

    fn goes_on(&self) -> bool {
        !self.conn.paused.get() && self.conn.phase() == Phase::Open
    }

    fn keep(&mut self, unread: BytesMut) {
        if !unread.is_empty() && self.conn.phase() == Phase::Open {
            self.unread = unread;
        }
    }

    /// Takes WebSocket frames off the front of `data` and says how many bytes that was.
    fn read_frames(&mut self, data: &mut [u8], ctx: &mut Context<Self>) -> usize {
        let mut used = 0;
        while self.goes_on() && !self.holds_for_replies() {
            let rest = &mut data[used..];
            match Frame::read(rest) {
                Ok(Some(frame)) => {
                    used += frame.body.end;
                    self.ws_frame(&frame, rest, ctx);
                }
                Ok(None) => break,
                Err(Fault::TooLarge) => {
                    self.too_large();
                    break;
                }
                Err(fault) => {
                    self.conn.close(CLOSE_PROTOCOL, &fault.to_string());
                    break;
                }
            }
        }
        used
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

    pub(super) fn too_large(&mut self) {
        let refusal = Refusal::new(
            ErrorCode::FrameTooLarge,
            format!("a message has at most {MESSAGE_BYTES_MAX} bytes, and a frame {FRAME_BYTES_MAX}"),
        );
        self.conn
            .reply(|buffer| server::error(buffer, None, &refusal, None));
        self.conn.close(CLOSE_TOO_LARGE, "frame too large");
    }

    fn ws_frame(&mut self, frame: &Frame, data: &mut [u8], ctx: &mut Context<Self>) {
        let body = frame.unmask(data);
        match frame.opcode {
            Opcode::Text if self.fragments.is_some() => {
                self.conn
                    .close(CLOSE_PROTOCOL, "a new message began inside a fragmented one");
            }
            Opcode::Text if frame.is_final => self.message(body.text(), ctx),
            Opcode::Text => self.fragments = Some(BytesMut::from(body.bytes)),
            Opcode::Continuation => self.fragment(frame.is_final, body.bytes, ctx),
            Opcode::Binary => self.conn.close(CLOSE_UNSUPPORTED, "messages are text"),
            Opcode::Ping => self.conn.push(pong_frame(body.bytes)),
            Opcode::Pong => {}
            Opcode::Close => {
                self.send_drafts(ctx);
                self.conn.has_left.set(true);
                self.conn.close(close_answer(body.bytes), "");
            }
        }
    }

    fn fragment(&mut self, is_final: bool, body: &[u8], ctx: &mut Context<Self>) {
        let Some(mut message) = self.fragments.take() else {
            return self.conn.close(CLOSE_PROTOCOL, "a continuation without a begin");
        };
        if message.len() + body.len() > MESSAGE_BYTES_MAX {
            return self.too_large();
        }
        message.extend_from_slice(body);
        if is_final {
            self.message(std::str::from_utf8(&message).ok(), ctx);
        } else {
            self.fragments = Some(message);
        }
    }

    fn message(&mut self, text: Option<&str>, ctx: &mut Context<Self>) {
        let Some(text) = text else {
            return self.conn.close(CLOSE_NOT_UTF8, "messages are UTF-8");
        };
        if text.is_empty() && self.conn.format == Format::Json {
            self.frame("", ctx);
        }
        if let Err(at) = self.handle_lines(text, ctx) {
            self.lines = Lines {
                text: text[at..].to_owned(),
                at: 0,
            };
        }
    }

    /// Goes on with the frames of a message that waited.
    pub(super) fn read_lines(&mut self, ctx: &mut Context<Self>) {
        let mut lines = std::mem::take(&mut self.lines);
        if let Err(at) = self.handle_lines(&lines.text[lines.at..], ctx) {
            lines.at += at;
            self.lines = lines;
        }
    }

    /// Handles the frames of a message.
    ///
    /// # Errors
    /// Where those begin that must wait.
    fn handle_lines(&mut self, text: &str, ctx: &mut Context<Self>) -> Result<(), usize> {
        let mut start = 0;
        while start < text.len() {
            let end = match self.conn.format {
                Format::Json => text.len(),
                Format::Ndjson => memchr::memchr(b'\n', &text.as_bytes()[start..])
                    .map_or(text.len(), |length| start + length),
            };
            let line = &text[start..end];
            let next = (end + 1).min(text.len());
            if self.conn.format == Format::Json || !line.trim_ascii().is_empty() {
                let flow = if self.holds_for_replies() {
                    Flow::Again
                } else {
                    self.frame(line, ctx)
                };
                if flow != Flow::Done {
                    self.conn.paused.set(true);
                    return Err(if flow == Flow::Again { start } else { next });
                }
            }
            start = next;
        }
        Ok(())
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

/// What the socket can do.
pub(super) enum SocketEvent {
    /// These bytes came.
    Came(Came),
    /// It takes more of what waits.
    Writable,
}

/// The events of one socket, as long as it lives.
pub(super) struct SocketEvents {
    pub(super) hub: Rc<Hub>,
    pub(super) conn: Rc<Conn>,
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
        let mut buffer = SCRATCH.take();
        buffer.resize(READ_BYTES, 0);
        match conn.poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(count)) if count > 0 => {
                Poll::Ready(Some(SocketEvent::Came(Came { buffer, count })))
            }
            polled => {
                SCRATCH.set(buffer);
                if polled.is_pending() {
                    return Poll::Pending;
                }
                conn.die();
                Poll::Ready(None)
            }
        }
    }
}

//! One WebSocket connection: its socket, its bounded outbox, and what it follows.
//!
//! Lives on one worker thread and is shared there by its SessionActor, which reads from it, and the hub,
//! which writes to it. A write goes to the socket at once if nothing waits before it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use actix_rt::net::TcpStream;
use bytes::Bytes;
use callboard_protocol::{Timestamp, time::format_rfc3339};

use super::{
    append::ConnId,
    gateway::SessionInfo,
    member::Membership,
    pending::Pending,
    plain::{Following, PlainSubscription},
    waiting::SessionWaits,
    wire::{self, Format},
};

/// A session whose outbox holds more than this is behind: it is given nothing more until it has taken
/// most of it, and its own requests wait.
pub const OUTBOX_BYTES_MAX: usize = 256 << 10;
/// When so little is left, a session that is behind is given the next page.
const OUTBOX_BYTES_LOW: usize = 64 << 10;
/// Records of one session on their way to their partitions; beyond it the session is not read from.
pub const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;
/// Buffers written with one call.
const SLICES_MAX: usize = 32;

/// See the module.
pub struct Conn {
    /// The hub's number of it.
    pub id: ConnId,
    /// The session's id, as `welcome` says it.
    pub session: uuid::Uuid,
    /// Who is at the other end.
    pub remote: SocketAddr,
    /// What the client calls itself, or nothing.
    pub client: Box<str>,
    /// When it came.
    pub connected_at: Timestamp,
    /// Its subprotocol.
    pub format: Format,
    /// What it follows.
    pub following: RefCell<Vec<Rc<Following>>>,
    /// The groups that it is a member of.
    pub memberships: RefCell<Vec<Rc<Membership>>>,
    /// How many there were over its life: each has a number of its own.
    pub memberships_made: Cell<u32>,
    /// Whether it ends by somebody's will, and not because its socket is gone.
    pub has_left: Cell<bool>,
    /// What the socket had taken when the hub last looked, and for how long it has taken nothing since.
    pub stalled: Cell<(u64, u64)>,
    /// Its subscriptions that have more to read and nothing under way.
    pub behind: RefCell<VecDeque<Rc<PlainSubscription>>>,
    /// Publishes that wait for some of their outcomes.
    pub pending: RefCell<slab::Slab<Pending>>,
    /// Bytes of records on their way.
    pub in_flight_bytes: Cell<usize>,
    /// Its publishes that wait for a delivery, for a worker or for room.
    pub waits: Arc<SessionWaits>,
    /// Whether the session waits for something and must not be read from.
    pub paused: Cell<bool>,
    /// Whether it waits until less is in flight on its thread.
    pub is_starved: Cell<bool>,
    /// Whether a page is being read for it on a reader thread; one at a time, so that what it is given
    /// at once is bounded.
    pub is_reading: Cell<bool>,
    /// Whether it has had its turn of the thread and waits for the next one.
    pub is_resting: Cell<bool>,
    /// Whether something came, or the socket took something, since the hub last looked.
    pub is_active: Cell<bool>,
    /// For how long the hub has seen it quiet.
    pub quiet_ms: Cell<u64>,
    /// How long ago it was pinged, while it is quiet.
    pub unpinged_ms: Cell<u64>,
    /// Frames that came.
    pub received: Cell<u64>,
    /// Bytes that the socket took.
    pub sent_bytes: Cell<u64>,
    stream: TcpStream,
    outbox: RefCell<VecDeque<Bytes>>,
    front_written: Cell<usize>,
    outbox_bytes: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    phase: Cell<Phase>,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Frames go both ways.
    Open,
    /// The Close is in the outbox; what comes is thrown away.
    Closing,
    /// Nothing more can be written.
    Dead,
}

/// What a connection is made with.
pub struct ConnParts {
    /// The hub's number.
    pub id: ConnId,
    /// The socket.
    pub stream: TcpStream,
    /// Who is at the other end.
    pub remote: SocketAddr,
    /// What the client calls itself.
    pub client: Box<str>,
    /// Its subprotocol.
    pub format: Format,
    /// The time now.
    pub now: Timestamp,
}

#[cfg(test)]
thread_local! {
    /// How many connections of this thread are in memory.
    pub static IN_MEMORY: Cell<usize> = const { Cell::new(0) };
}

#[cfg(test)]
impl Drop for Conn {
    fn drop(&mut self) {
        IN_MEMORY.set(IN_MEMORY.get() - 1);
    }
}

impl Conn {
    /// Has a publish take in an outcome, and forgets it when that was the last one.
    pub fn take_outcome(&self, pending: usize, take: impl FnOnce(&mut Pending) -> bool) {
        let mut waiting = self.pending.borrow_mut();
        if waiting.get_mut(pending).is_some_and(take) {
            waiting.remove(pending);
        }
    }

    /// A connection after its handshake.
    pub fn new(parts: ConnParts) -> Self {
        #[cfg(test)]
        IN_MEMORY.set(IN_MEMORY.get() + 1);
        Self {
            id: parts.id,
            session: uuid::Uuid::now_v7(),
            remote: parts.remote,
            client: parts.client,
            connected_at: parts.now,
            format: parts.format,
            following: RefCell::default(),
            memberships: RefCell::default(),
            memberships_made: Cell::new(0),
            has_left: Cell::new(false),
            stalled: Cell::new((0, 0)),
            behind: RefCell::default(),
            pending: RefCell::default(),
            in_flight_bytes: Cell::new(0),
            waits: Arc::default(),
            paused: Cell::new(false),
            is_starved: Cell::new(false),
            is_reading: Cell::new(false),
            is_resting: Cell::new(false),
            is_active: Cell::new(true),
            quiet_ms: Cell::new(0),
            unpinged_ms: Cell::new(0),
            received: Cell::new(0),
            sent_bytes: Cell::new(0),
            stream: parts.stream,
            outbox: RefCell::default(),
            front_written: Cell::new(0),
            outbox_bytes: Cell::new(0),
            waker: RefCell::new(None),
            phase: Cell::new(Phase::Open),
        }
    }

    /// Whether the socket holds small messages back until the one before is acknowledged.
    #[cfg(test)]
    pub fn holds_back(&self) -> bool {
        !self.stream.nodelay().is_ok_and(|nodelay| nodelay)
    }

    /// Bytes that wait for the socket.
    pub fn buffered_bytes(&self) -> usize {
        self.outbox_bytes.get()
    }

    /// Whether a push is taken now.
    pub fn has_room(&self) -> bool {
        self.outbox_bytes.get() < OUTBOX_BYTES_MAX && self.phase.get() == Phase::Open
    }

    /// Whether so little waits that a page may be read for it.
    pub fn has_drained(&self) -> bool {
        self.outbox_bytes.get() <= OUTBOX_BYTES_LOW && self.phase.get() == Phase::Open
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Writes finished bytes, at once if nothing waits before them. The caller has looked for room, or
    /// what it sends is a reply, of which there are never more than the session has asked for.
    pub fn push(&self, bytes: Bytes) {
        if bytes.is_empty() || self.phase.get() != Phase::Open {
            return;
        }
        self.enqueue(bytes);
    }

    /// Adds finished bytes to the outbox without trying the socket; true if nothing waited before them, so
    /// that somebody has to call [`Self::flush_soon`].
    pub fn push_soon(&self, bytes: Bytes) -> bool {
        if bytes.is_empty() || self.phase.get() != Phase::Open {
            return false;
        }
        let was_empty = self.outbox_bytes.get() == 0;
        self.outbox_bytes.set(self.outbox_bytes.get() + bytes.len());
        self.outbox.borrow_mut().push_back(bytes);
        was_empty
    }

    /// Writes what [`Self::push_soon`] left, with what came behind it.
    pub fn flush_soon(&self) {
        self.flush();
        if self.outbox_bytes.get() > 0 {
            self.wake();
        }
    }

    /// Sends a Ping if nothing waits. A socket that takes it is alive; behind one that does not there is
    /// something waiting, or a peer that TCP itself gives up.
    pub fn ping(&self) {
        if self.outbox_bytes.get() == 0 && self.phase.get() == Phase::Open {
            match self.stream.try_write(wire::PING_FRAME) {
                Ok(written) => {
                    self.took(written);
                    if written < wire::PING_FRAME.len() {
                        self.enqueue(Bytes::from_static(&wire::PING_FRAME[written..]));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.die(),
            }
        }
    }

    fn enqueue(&self, mut bytes: Bytes) {
        if self.outbox_bytes.get() == 0 {
            match self.stream.try_write(&bytes) {
                Ok(written) => {
                    self.took(written);
                    if written == bytes.len() {
                        return;
                    }
                    bytes = bytes.slice(written..);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.die(),
            }
            // From now on the session's task waits for the socket to take more.
            self.wake();
        }
        self.outbox_bytes.set(self.outbox_bytes.get() + bytes.len());
        self.outbox.borrow_mut().push_back(bytes);
    }

    fn took(&self, written: usize) {
        self.sent_bytes.set(self.sent_bytes.get() + written as u64);
        self.is_active.set(true);
    }

    /// Writes a reply of one frame.
    pub fn reply(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.push(wire::text_message(write));
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&self) {
        while self.outbox_bytes.get() > 0 {
            let written = {
                let outbox = self.outbox.borrow();
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let mut count = 0;
                for (slice, bytes) in slices.iter_mut().zip(outbox.iter()) {
                    let skip = if count == 0 { self.front_written.get() } else { 0 };
                    *slice = IoSlice::new(&bytes[skip..]);
                    count += 1;
                }
                self.stream.try_write_vectored(&slices[..count])
            };
            match written {
                Ok(written) => self.written(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.die(),
            }
        }
        // A busy moment is not paid for ever.
        let mut outbox = self.outbox.borrow_mut();
        if outbox.capacity() > 8 {
            *outbox = VecDeque::new();
        }
        drop(outbox);
        if self.phase.get() == Phase::Closing {
            // Half closed: a socket that is closed with unread bytes in it would take back the Close.
            if socket2::SockRef::from(&self.stream)
                .shutdown(Shutdown::Write)
                .is_err()
            {
                self.die();
            }
        }
    }

    fn written(&self, mut written: usize) {
        self.took(written);
        self.outbox_bytes.set(self.outbox_bytes.get() - written);
        let mut outbox = self.outbox.borrow_mut();
        while let Some(front) = outbox.front() {
            let left = front.len() - self.front_written.get();
            if written < left {
                self.front_written.set(self.front_written.get() + written);
                return;
            }
            written -= left;
            self.front_written.set(0);
            outbox.pop_front();
        }
    }

    /// Sends a Close behind what waits, and takes nothing in any more.
    pub fn close(&self, code: u16, reason: &str) {
        if self.phase.get() == Phase::Open {
            self.enqueue(wire::close_frame(code, reason));
            if self.phase.get() == Phase::Open {
                self.phase.set(Phase::Closing);
                self.flush();
            }
            self.wake();
        }
    }

    /// Gives the connection up.
    pub fn die(&self) {
        self.phase.set(Phase::Dead);
        self.outbox.borrow_mut().clear();
        self.outbox_bytes.set(0);
        self.wake();
    }

    /// What an administrator is shown of it.
    pub fn describe(&self) -> SessionInfo {
        SessionInfo {
            id: self.session.to_string(),
            remote: self.remote.to_string(),
            client: self.client.to_string(),
            subprotocol: self.format.subprotocol(),
            connected_at: format_rfc3339(self.connected_at),
            subscriptions: self
                .following
                .borrow()
                .iter()
                .map(|known| known.target.to_string())
                .chain(self.memberships.borrow().iter().map(|known| known.label()))
                .collect(),
            behind: self
                .following
                .borrow()
                .iter()
                .map(|known| known.behind_count())
                .sum(),
            buffered_bytes: self.outbox_bytes.get(),
            in_flight_bytes: self.in_flight_bytes.get(),
            received: self.received.get(),
            sent_bytes: self.sent_bytes.get(),
        }
    }

    /// Lets the session's task look at the connection again.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Remembers the task that drives this connection.
    pub fn park(&self, cx: &mut Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Whether the socket takes more of what waits.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.outbox_bytes.get() == 0 {
            return Poll::Pending;
        }
        self.stream.poll_write_ready(cx).map(drop)
    }

    /// A read that did not fill its buffer has taken all there was, and what comes next is an event of its own: nobody
    /// need ask again to be told that there is nothing. Sound only where the thread that reads is the one on which events
    /// come in, as every worker's runtime has it: an event that came in between the read and this would be forgotten.
    fn has_been_drained(&self) {
        if cfg!(target_os = "linux") {
            let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            // Its only effect is on what tokio remembers of the socket.
            let _ = self.stream.try_io(tokio::io::Interest::READABLE, nothing);
        }
    }

    /// Reads what has come into `buffer`; 0 bytes is the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => match self.stream.try_read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    outcome => {
                        if outcome
                            .as_ref()
                            .is_ok_and(|count| (1..buffer.len()).contains(count))
                        {
                            self.has_been_drained();
                        }
                        return Poll::Ready(outcome);
                    }
                },
            }
        }
    }
}

//! A broker, its hub and its clients, all on the thread that counts.
//!
//! The same actors as `callboard serve` runs, with the memory engine and without the HTTP stack: a session is
//! started on a socket as it is after the handshake. Whoever waits for a socket waits in the poller and does not
//! spin, so that a slow kernel adds no instructions.

use std::{future::Future, rc::Rc, sync::Arc};

use actix::prelude::*;
use actix_rt::{System, SystemRunner, net::TcpStream};
use bytes::BytesMut;
use callboard::{
    actors::{
        Settings, Shared,
        broker::{BrokerActor, RegisterWorker, Want},
        clock,
        conn::{Conn, ConnParts},
        directory::Topic,
        gateway,
        hub::Hub,
        push::AllowPrivate,
        readers::Readers,
        session::SessionActor,
        wire::Format,
    },
    store::memory::MemoryStore,
};
use callboard_protocol::limits;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, sync::oneshot};

/// What one read of a client's takes at most; more than a round of the benchmarks brings.
const READ_BYTES: usize = 256 << 10;

const TEXT: u8 = 0x81;

/// A broker with one worker, which is this thread.
pub struct OneThread {
    system: SystemRunner,
    shared: Arc<Shared>,
    hub: Rc<Hub>,
}

impl OneThread {
    /// Starts it.
    ///
    /// # Panics
    /// When the operating system gives no thread or no poller.
    #[must_use]
    pub fn start() -> Self {
        let system = System::new();
        let (shared, hub) = system.block_on(async {
            let readers = Readers::start(1).expect("a thread can be started");
            let shared = Arc::new(Shared::new(settings(), Arc::new(MemoryStore::new()), readers));
            let (ready, is_ready) = oneshot::channel();
            BrokerActor::new(shared.clone(), Vec::new(), 1, ready).start();
            // The broker is known to the others once it runs.
            tokio::task::yield_now().await;
            let hub = Hub::start(shared.clone());
            let worker = callboard::actors::Worker::new(hub.addr.clone(), Arbiter::current());
            shared.broker().do_send(RegisterWorker(worker));
            is_ready.await.expect("the broker starts");
            (shared, hub)
        });
        Self { system, shared, hub }
    }

    /// Makes a topic.
    ///
    /// # Panics
    /// When it is there already, or its configuration is none.
    pub fn topic(&self, name: &str, config: &str) -> Arc<Topic> {
        let want = Want::New {
            config: config.to_owned(),
        };
        self.run(gateway::topic_or_new(&self.shared, name, want))
            .expect("the topic is made")
    }

    /// Connects a client.
    ///
    /// # Panics
    /// When loopback can not be listened on.
    #[must_use]
    pub fn connect(&self, format: Format) -> Client {
        self.run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
            let address = listener.local_addr().expect("it listens");
            let connected = TcpStream::connect(address).await.expect("it is listened to");
            let (stream, remote) = listener.accept().await.expect("somebody has connected");
            for socket in [&connected, &stream] {
                socket.set_nodelay(true).expect("a socket can be told so");
            }
            let parts = ConnParts {
                id: self.hub.next_conn_id(),
                stream,
                remote,
                client: "instructions".into(),
                format,
                now: clock::now(),
            };
            SessionActor::start_on(self.hub.clone(), Rc::new(Conn::new(parts)), BytesMut::new());
            let mut client = Client {
                stream: connected,
                format,
                read: BytesMut::with_capacity(READ_BYTES),
            };
            // `welcome`.
            client.receive(1).await;
            client
        })
    }

    /// The connections of all clients, as the broker sees them.
    #[must_use]
    pub fn conns(&self) -> Vec<Rc<Conn>> {
        self.hub.conns()
    }

    /// Runs the thread until `work` is done.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.system.block_on(work)
    }
}

fn settings() -> Settings {
    Settings {
        auto_create: false,
        memory_only: true,
        heartbeat_ms: limits::HEARTBEAT_MS,
        session_timeout_ms: limits::SESSION_TIMEOUT_MS,
        member_timeout_ms: limits::MEMBER_TIMEOUT_MS,
        rejoin_grace_ms: limits::REJOIN_GRACE_MS,
        temporary_grace_ms: 60_000,
        revoke_grace_ms: limits::REVOKE_GRACE_MS,
        webhook_allow_private: AllowPrivate::No,
    }
}

/// The other end of a session: sends bytes that were made before, and counts what comes.
pub struct Client {
    stream: TcpStream,
    format: Format,
    read: BytesMut,
}

impl Client {
    /// Sends finished WebSocket bytes, all with one write.
    ///
    /// # Panics
    /// When the session has ended.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the session is there");
    }

    /// Waits for so many frames of the protocol.
    ///
    /// # Panics
    /// When the session ends, or more come.
    pub async fn receive(&mut self, frames: usize) {
        let mut seen = 0;
        while seen < frames {
            seen += self.take_whole();
            if seen < frames {
                self.fill().await;
            }
        }
        assert_eq!(seen, frames, "no more than what was waited for");
    }

    /// Counts the frames in what is there, and keeps only what is not whole yet.
    fn take_whole(&mut self) -> usize {
        let (mut at, mut frames) = (0, 0);
        while let Some((body, next)) = message(&self.read, at) {
            frames += match self.format {
                Format::Json => 1,
                Format::Ndjson => 1 + memchr::memchr_iter(b'\n', &self.read[body..next]).count(),
            };
            at = next;
        }
        if at == self.read.len() {
            self.read.clear();
        } else {
            let rest = self.read.split_off(at);
            self.read = BytesMut::with_capacity(READ_BYTES);
            self.read.extend_from_slice(&rest);
        }
        frames
    }

    async fn fill(&mut self) {
        self.read.reserve(READ_BYTES);
        loop {
            self.stream.readable().await.expect("the session is there");
            match self.stream.try_read_buf(&mut self.read) {
                Ok(0) => panic!("the session has ended"),
                Ok(_) => return,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("the session has ended: {error}"),
            }
        }
    }

    /// Sends a frame and waits for its answer.
    ///
    /// # Panics
    /// As [`Self::send`] and [`Self::receive`].
    pub async fn ask(&mut self, frame: &str) {
        self.send(&websocket(frame)).await;
        self.receive(1).await;
    }
}

/// Where the body of the message at `at` begins and where it ends, if it is all there. The broker's are not masked.
fn message(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let bytes = &bytes[at..];
    let (header, length) = match *bytes.get(1)? {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
        ),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= header + length).then_some((at + header, at + header + length))
}

/// A text message as a browser sends it: masked, with a mask that is always the same.
#[must_use]
pub fn websocket(body: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut message = vec![TEXT];
    match body.len() {
        0..126 => message.push(0x80 | body.len() as u8),
        126..=0xffff => {
            message.push(0x80 | 126);
            message.extend_from_slice(&(body.len() as u16).to_be_bytes());
        }
        _ => {
            message.push(0x80 | 127);
            message.extend_from_slice(&(body.len() as u64).to_be_bytes());
        }
    }
    message.extend_from_slice(&MASK);
    message.extend(
        body.bytes()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    message
}

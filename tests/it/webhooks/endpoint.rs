//! An HTTP endpoint that does what a test tells it, and remembers what it was sent.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::process::PATIENCE;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub at: Instant,
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    /// The value of a header that must be there.
    pub fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// The value of a header.
    pub fn find(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The payload of the record in the format `message`.
    pub fn payload(&self) -> Value {
        self.json()["payload"].clone()
    }

    /// How often the record was handed out.
    pub fn attempt(&self) -> u64 {
        self.header("callboard-attempt").parse().unwrap()
    }

    /// Checks the signature as the specification tells those who receive webhooks to.
    pub fn assert_signed(&self, secret: &str) {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let (id, timestamp) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        assert!(!id.contains('.'), "{id}");
        let age = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            .abs_diff(timestamp.parse().unwrap());
        assert!(age < 300, "{timestamp}");
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &self.body].concat();
        let signature = self.header("webhook-signature").strip_prefix("v1,").unwrap();
        let signature = STANDARD.decode(signature).unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        ring::hmac::verify(&key, &signed, &signature).unwrap();
    }
}

/// What an endpoint answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status and more lines of a head.
    Status(u16, &'static str),
    /// A status, when the gate is opened.
    Held(u16, Gate),
    /// Nothing, for as long as the other side waits.
    Hang,
    /// Nothing, and the connection ends.
    Close,
    /// A good status, and a body without an end.
    Endless,
    /// What is no HTTP.
    Garbage,
}

/// Holds answers back until it is opened.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut is_open = self.0.0.lock().unwrap();
        while !*is_open {
            is_open = self.0.1.wait(is_open).unwrap();
        }
    }
}

type Behaviour = dyn Fn(&Received) -> Reply + Send + Sync;

struct State {
    behave: Mutex<Arc<Behaviour>>,
    received: Mutex<Vec<Received>>,
    came: Condvar,
    /// Requests that are not answered yet, and the most that there were at once.
    open: AtomicUsize,
    most_open: AtomicUsize,
    connections: AtomicUsize,
    is_over: AtomicBool,
}

/// See the module.
pub struct Endpoint {
    address: SocketAddr,
    state: Arc<State>,
}

impl Endpoint {
    /// Listens on a free port of loopback.
    pub fn start(behave: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            behave: Mutex::new(Arc::new(behave)),
            received: Mutex::default(),
            came: Condvar::new(),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let state = shared.clone();
                std::thread::spawn(move || state.serve(socket));
            }
        });
        Self { address, state }
    }

    /// One that takes everything.
    pub fn good() -> Self {
        Self::start(|_| Reply::Status(200, ""))
    }

    /// Does something else from now on.
    pub fn behave(&self, behave: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *self.state.behave.lock().unwrap() = Arc::new(behave);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        let begin = Instant::now();
        let mut received = self.state.received.lock().unwrap();
        while received.len() < count {
            assert!(begin.elapsed() < PATIENCE, "{} of {count} came", received.len());
            let waited = self.state.came.wait_timeout(received, Duration::from_secs(1));
            received = waited.unwrap().0;
        }
        received.clone()
    }

    /// The most requests that were open at once.
    pub fn most_open(&self) -> usize {
        self.state.most_open.load(Ordering::SeqCst)
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections; the endpoint may be gone already.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    /// Answers one request after the other, until the other side goes.
    fn serve(&self, socket: TcpStream) {
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut writer = socket;
        while let Some(received) = read_request(&mut reader) {
            let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_open.fetch_max(open, Ordering::SeqCst);
            let behave = self.behave.lock().unwrap().clone();
            let reply = behave(&received);
            self.received.lock().unwrap().push(received);
            self.came.notify_all();
            let goes_on = answer(&reply, &mut reader, &mut writer);
            self.open.fetch_sub(1, Ordering::SeqCst);
            if !goes_on {
                return;
            }
        }
    }
}

/// Answers; whether the connection goes on.
fn answer(reply: &Reply, reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> bool {
    let status = |writer: &mut TcpStream, status: u16, more: &str| {
        let head = format!("HTTP/1.1 {status} Whatever\r\n{more}content-length: 2\r\n\r\nok");
        writer.write_all(head.as_bytes()).is_ok()
    };
    match reply {
        Reply::Status(code, more) => status(writer, *code, more),
        Reply::Held(code, gate) => {
            gate.pass();
            status(writer, *code, "")
        }
        Reply::Hang => {
            // Until the other side gives up.
            let _ = reader.read(&mut [0; 1]);
            false
        }
        Reply::Close => false,
        Reply::Endless => {
            let mut sent = writer.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            while sent.is_ok() {
                sent = writer.write_all(b"400\r\n").and_then(|()| {
                    writer.write_all(&[b'x'; 1024])?;
                    writer.write_all(b"\r\n")
                });
            }
            false
        }
        Reply::Garbage => {
            let _ = writer.write_all(b"220 mail.example ESMTP\r\n");
            false
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut line = || {
        let mut line = String::new();
        let count = reader.read_line(&mut line).ok()?;
        (count > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let at = Instant::now();
    let (method, rest) = first.split_once(' ').unwrap();
    assert_eq!(method, "POST", "{first}");
    let target = rest.split(' ').next().unwrap().to_owned();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.unwrap().1.parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    Some(Received {
        at,
        target,
        headers,
        body,
    })
}

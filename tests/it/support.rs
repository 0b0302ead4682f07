//! A broker process of a test's own, and HTTP by hand: what is sent and what came back, byte for byte.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    process::{self, PATIENCE, serve_on},
    socket::Socket,
};

/// A running broker; killed when it is dropped.
pub struct Broker {
    child: Child,
    address: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    data: TempDir,
}

impl Broker {
    /// Starts one on a free loopback port and a directory of its own.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(arguments, Vec::new())
    }

    /// The same in an environment with more variables.
    pub fn start_in(arguments: &[&str], environment: Vec<(&'static str, String)>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let (child, address) = launch("127.0.0.1:0", &arguments, &environment, &data);
        Self {
            child,
            address,
            arguments,
            environment,
            data,
        }
    }

    /// A WebSocket client that has read its `welcome`.
    pub fn connect(&self) -> Socket {
        Socket::connect(&self.address)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Resident memory.
    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.child.id())
    }

    /// Where WebSocket is served.
    pub fn ws_url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same directory and the same port.
    pub fn restart(&mut self) {
        let (child, address) = launch(&self.address, &self.arguments, &self.environment, &self.data);
        self.child = child;
        self.address = address;
    }

    /// The same with other arguments.
    pub fn restart_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self.restart();
    }

    /// SIGTERM; how it ended, and how long that took.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let begin = Instant::now();
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: kill only sends a signal, and the process is a child that was not waited for yet.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        let status = until("the broker to end", || self.child.try_wait().unwrap());
        (status, begin.elapsed())
    }

    /// A request that is sent when it is complete.
    pub fn request(&self, method: &str, path: &str) -> Request<'_> {
        Request {
            broker: self,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// GET.
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send()
    }

    /// POST of JSON text.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path).json(body).send()
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path).send()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already, as the test wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(
    listen: &str,
    arguments: &[String],
    environment: &[(&'static str, String)],
    data: &TempDir,
) -> (Child, String) {
    let mut command = serve_on(listen, data.path(), arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    process::launch(command.args(["--workers", "2"]).env("RUST_LOG", "error"))
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A request under construction.
pub struct Request<'a> {
    broker: &'a Broker,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request<'_> {
    /// Adds a header; `Host` replaces the one that is sent by itself.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a body as it is.
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = Some(body.to_vec());
        self
    }

    /// Adds a body of JSON text.
    pub fn json(self, body: &str) -> Self {
        self.header("content-type", "application/json")
            .body(body.as_bytes())
    }

    /// Sends it and reads the answer's head; the body can be read as it comes.
    pub fn open(self) -> Stream {
        let mut socket = TcpStream::connect(&self.broker.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let names_host = self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"));
        if !names_host {
            head += &format!("host: {}\r\n", self.broker.address);
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "connection: close\r\n\r\n";
        socket.write_all(head.as_bytes()).unwrap();
        // The broker may answer and close before it has taken all of a body that is too large.
        let _ = socket.write_all(self.body.as_deref().unwrap_or_default());
        Stream::read_head(BufReader::new(socket), &self.method)
    }

    /// Sends it and reads the whole answer.
    pub fn send(self) -> Answer {
        let mut stream = self.open();
        let is_endless = matches!(stream.rest, Rest::Chunks(_))
            && stream
                .headers
                .iter()
                .any(|(_, value)| value == "text/event-stream");
        assert!(!is_endless, "events never end, so their answer is never whole");
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        let Stream { status, headers, .. } = stream;
        Answer {
            status,
            headers,
            body,
        }
    }
}

/// What is left of an answer's body.
enum Rest {
    Bytes(u64),
    /// In chunks, of which the present one has so many bytes left.
    Chunks(u64),
    End,
}

/// An answer whose body is read as it comes.
pub struct Stream {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    socket: BufReader<TcpStream>,
    rest: Rest,
}

impl Stream {
    fn read_head(mut socket: BufReader<TcpStream>, method: &str) -> Self {
        let status = line(&mut socket);
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let headers: Vec<(String, String)> = std::iter::from_fn(|| {
            let line = line(&mut socket);
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        })
        .collect();
        let find = |wanted: &str| headers.iter().find(|(name, _)| name == wanted);
        let rest = if method == "HEAD" {
            Rest::End
        } else if find("transfer-encoding").is_some() {
            Rest::Chunks(0)
        } else {
            find("content-length").map_or(Rest::End, |(_, length)| Rest::Bytes(length.parse().unwrap()))
        };
        Self {
            status: status.unwrap(),
            headers,
            socket,
            rest,
        }
    }
}

fn line(socket: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    socket.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Rest::Chunks(0) = self.rest {
            let size = line(&mut self.socket);
            let size = u64::from_str_radix(&size, 16).map_err(|_| std::io::ErrorKind::UnexpectedEof)?;
            self.rest = if size == 0 { Rest::End } else { Rest::Chunks(size) };
        }
        let left = match &mut self.rest {
            Rest::Bytes(left) | Rest::Chunks(left) => left,
            Rest::End => return Ok(0),
        };
        let wanted = buffer.len().min(usize::try_from(*left).unwrap());
        let count = self.socket.read(&mut buffer[..wanted])?;
        *left -= count as u64;
        if let Rest::Chunks(0) = self.rest {
            line(&mut self.socket);
        }
        Ok(count)
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The answer's body if it has this status.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// Asserts a problem that has all it must have.
    pub fn expect_problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        for field in ["type", "title", "detail"] {
            assert!(
                problem[field].as_str().is_some_and(|text| !text.is_empty()),
                "{problem}"
            );
        }
        assert!(problem["retryable"].is_boolean(), "{problem}");
        let waits = problem["retry_after_ms"].is_u64();
        assert_eq!(self.header("retry-after").is_some(), waits, "{problem}");
        problem
    }
}

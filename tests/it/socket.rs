//! A WebSocket as bytes: tests decide what goes out, well-formed or not. Source: RFC 6455.

use std::{
    collections::VecDeque,
    io::{BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Instant,
};

use serde_json::Value;
use socket2::{Domain, Protocol, Type};

use crate::process::PATIENCE;

/// The first byte of a whole text message.
pub const TEXT: u8 = 0x81;
/// The first byte of a whole binary message.
pub const BINARY: u8 = 0x82;
/// The first byte of a Ping.
pub const PING: u8 = 0x89;
/// The first byte of a Pong.
const PONG: u8 = 0x8a;

/// What came.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// One frame of the protocol.
    Frame(Value),
    /// A close, with its code if it has one.
    Close(Option<u16>),
    /// The other side is gone without a close.
    End,
}

/// A connection.
pub struct Socket {
    stream: BufReader<TcpStream>,
    /// Frames that came in one message with those before them.
    waiting: VecDeque<Value>,
}

/// What a client says to begin.
pub fn handshake(address: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A client whose side of the network takes only a little.
pub fn connect_narrow(address: &str) -> Socket {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    socket
        .connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
        .unwrap();
    Socket::upgrade(TcpStream::from(socket), address)
}

impl Socket {
    /// Shakes hands and reads the `welcome`.
    pub fn connect(address: &str) -> Self {
        Self::upgrade(TcpStream::connect(address).unwrap(), address)
    }

    /// The same on a socket that was made with other settings.
    pub fn upgrade(stream: TcpStream, address: &str) -> Self {
        let (mut socket, _) = Self::shake_hands(stream, &handshake(address));
        assert_eq!(socket.frame()["type"], "welcome");
        socket
    }

    /// Shakes hands for a subprotocol, which the broker must take; the `welcome` is still to come.
    pub fn speak(address: &str, subprotocol: &str) -> Self {
        let mut request = handshake(address);
        request.truncate(request.len() - "\r\n".len());
        request.push_str(&format!("Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"));
        let (socket, head) = Self::shake_hands(TcpStream::connect(address).unwrap(), &request);
        let taken = format!("sec-websocket-protocol: {subprotocol}\r\n");
        assert!(head.to_ascii_lowercase().contains(&taken), "{head}");
        socket
    }

    /// Returns the answer's head beside the socket.
    fn shake_hands(mut stream: TcpStream, request: &str) -> (Self, String) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let waiting = VecDeque::new();
        (Self { stream, waiting }, head)
    }

    /// Sends bytes as they are. The other side may have closed already: what it said is what counts.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// Sends a WebSocket frame, masked, with any first byte.
    pub fn send_frame(&mut self, first: u8, body: &[u8]) {
        self.send_bytes(&masked(first, body));
    }

    /// Sends text.
    pub fn send(&mut self, text: &str) {
        self.send_frame(TEXT, text.as_bytes());
    }

    /// The next thing that comes; Pings and Pongs are passed over, but not for ever.
    pub fn next(&mut self) -> Incoming {
        let began = Instant::now();
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Incoming::Frame(frame);
            }
            let Some((opcode, body)) = self.read() else {
                return Incoming::End;
            };
            match opcode {
                // A frame has no line feed in it, so this reads both subprotocols.
                0x1 => self.waiting.extend(
                    body.split(|&byte| byte == b'\n')
                        .filter(|line| !line.is_empty())
                        .map(|line| serde_json::from_slice::<Value>(line).unwrap()),
                ),
                0x8 => return Incoming::Close(body.first_chunk().map(|code| u16::from_be_bytes(*code))),
                0x9 | 0xA => assert!(began.elapsed() < PATIENCE, "nothing but Pings came"),
                other => panic!("a message with opcode {other}"),
            }
        }
    }

    /// Waits for a Ping of the broker and answers it; frames on the way are passed over.
    pub fn answer_ping(&mut self) {
        let body = self.take_ping();
        self.send_frame(PONG, &body);
    }

    /// Waits for a Ping, and leaves it at that.
    pub fn take_ping(&mut self) -> Vec<u8> {
        loop {
            let (opcode, body) = self.read().unwrap();
            if opcode == 0x9 {
                return body;
            }
        }
    }

    /// The next message as the text that it is.
    pub fn text(&mut self) -> String {
        loop {
            let (opcode, body) = self.read().unwrap();
            if opcode == 0x1 {
                return String::from_utf8(body).unwrap();
            }
        }
    }

    /// The next frame, which must come.
    pub fn frame(&mut self) -> Value {
        match self.next() {
            Incoming::Frame(frame) => frame,
            other => panic!("{other:?} instead of a frame"),
        }
    }

    /// Sends a frame with an id and returns the reply; what comes meanwhile is dropped.
    pub fn ask(&mut self, frame: &str) -> Value {
        let id = serde_json::from_str::<Value>(frame).unwrap()["id"].clone();
        assert!(!id.is_null(), "{frame} needs an id");
        self.send(frame);
        loop {
            let reply = self.frame();
            if reply["id"] == id {
                return reply;
            }
        }
    }

    /// Reads on until the connection ends; returns the last frame and the close's code.
    pub fn ending(&mut self) -> (Option<Value>, Option<u16>) {
        let mut last = None;
        loop {
            match self.next() {
                Incoming::Frame(frame) => last = Some(frame),
                Incoming::Close(code) => return (last, code),
                Incoming::End => return (last, None),
            }
        }
    }

    fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).ok()?;
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length).ok()?;
                u64::from_be_bytes(length)
            }
            length => u64::from(length),
        };
        let mut body = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut body).ok()?;
        Some((head[0] & 0x0f, body))
    }
}

/// Sends the head of an HTTP request (with the promise of a body, for a POST) and leaves it open.
pub fn open(address: &str, request: &str) -> TcpStream {
    let length = if request.starts_with("POST") {
        "Content-Length: 100\r\n"
    } else {
        ""
    };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: {address}\r\n{length}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// All that comes until the other side ends the connection, in whatever way.
pub fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8(answer).unwrap()
}

/// Asks over HTTP, without a body; returns the whole answer.
pub fn request(address: &str, request: &str) -> String {
    read_to_end(&mut open(address, request))
}

/// The body that a path answers with.
pub fn get(address: &str, path: &str) -> String {
    let answer = request(address, &format!("GET {path}"));
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// A WebSocket frame as a client must send it.
pub fn masked(first: u8, body: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match body.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(
        body.iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

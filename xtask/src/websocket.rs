//! A small blocking WebSocket client: what the crash runs need and no more.
//!
//! It is deliberately not the project's own client, so that a mistake of that one cannot hide a mistake of the
//! broker. Source: RFC 6455.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    io::{self, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use serde_json::{Value, value::RawValue};

/// How long an answer may take before the broker counts as hung.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A connection that has shaken hands.
pub struct WebSocket {
    stream: BufReader<TcpStream>,
    lines: VecDeque<String>,
    mask: u32,
}

/// A way to end a connection from outside, without a close frame, wherever it stands.
pub struct Cut(TcpStream);

impl Cut {
    /// Ends it. One that has ended stays so.
    pub fn now(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Why nothing more comes from a connection.
#[derive(Debug)]
pub enum Ended {
    /// The other side is gone, or closed with this code.
    Gone(Option<u16>),
    /// It is there and says nothing.
    Hung,
    /// It said what it may not say.
    Broken(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(None) => f.write_str("the broker is gone"),
            Self::Gone(Some(code)) => write!(f, "the broker closed with code {code}"),
            Self::Hung => f.write_str("the broker says nothing any more"),
            Self::Broken(what) => write!(f, "the broker said what it may not say: {what}"),
        }
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Hung,
            _ => Self::Gone(None),
        }
    }
}

impl WebSocket {
    /// Connects to `/ws` at `address` with a subprotocol.
    ///
    /// # Errors
    /// When the broker is gone or refuses the handshake.
    pub fn connect(address: &str, subprotocol: &str) -> Result<Self, Ended> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut socket = Self {
            stream: BufReader::new(stream),
            lines: VecDeque::new(),
            mask: 0x5eed_1e55,
        };
        let head = socket.read_head()?;
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(Ended::Broken(format!("the handshake was answered {head:?}")));
        }
        Ok(socket)
    }

    /// Makes a way to end it from another thread.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn cut(&self) -> Result<Cut, Ended> {
        Ok(Cut(self.stream.get_ref().try_clone()?))
    }

    fn read_head(&mut self) -> Result<String, Ended> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    /// Sends one text message.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn send(&mut self, text: &str) -> Result<(), Ended> {
        self.write_message(0x1, text.as_bytes())
    }

    fn write_message(&mut self, opcode: u8, body: &[u8]) -> Result<(), Ended> {
        self.mask = self.mask.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        let mask = self.mask.to_be_bytes();
        let mut message = Vec::with_capacity(body.len() + 14);
        message.push(0x80 | opcode);
        match body.len() {
            length @ 0..126 => message.push(0x80 | length as u8),
            length @ 126..0x1_0000 => {
                message.push(0x80 | 126);
                message.extend((length as u16).to_be_bytes());
            }
            length => {
                message.push(0x80 | 127);
                message.extend((length as u64).to_be_bytes());
            }
        }
        message.extend(mask);
        message.extend(
            body.iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        self.stream.get_mut().write_all(&message)?;
        Ok(())
    }

    /// The next frame as text; waits for it. Pings are answered on the way.
    ///
    /// # Errors
    /// When nothing more comes.
    pub fn receive(&mut self) -> Result<String, Ended> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(line);
            }
            let (opcode, body) = self.read_message()?;
            match opcode {
                0x1 => {
                    let text = String::from_utf8(body)
                        .map_err(|_| Ended::Broken("text that is not UTF-8".into()))?;
                    self.lines
                        .extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
                }
                0x8 => {
                    return Err(Ended::Gone(
                        body.first_chunk().map(|code| u16::from_be_bytes(*code)),
                    ));
                }
                0x9 => self.write_message(0xA, &body)?,
                0xA => {}
                other => return Err(Ended::Broken(format!("a message with opcode {other}"))),
            }
        }
    }

    /// Whether a frame has already arrived, so that [`receive`](Self::receive) need not wait for the network.
    pub fn has_more(&self) -> bool {
        !self.lines.is_empty() || !self.stream.buffer().is_empty()
    }

    fn read_message(&mut self) -> Result<(u8, Vec<u8>), Ended> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let length = match head[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length)?;
                u64::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length)?;
                u64::from_be_bytes(length)
            }
            length => u64::from(length),
        };
        if head[1] & 0x80 != 0 || head[0] & 0x80 == 0 || length > 64 << 20 {
            return Err(Ended::Broken(format!(
                "a message that starts {head:?} with {length} bytes"
            )));
        }
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body)?;
        Ok((head[0] & 0x0f, body))
    }

    /// Sends `frame` and waits for the reply with its id; what comes meanwhile is dropped.
    ///
    /// # Errors
    /// When nothing more comes.
    pub fn ask(&mut self, id: u64, frame: &str) -> Result<Frame, Ended> {
        self.send(frame)?;
        loop {
            let frame = Frame::read(self.receive()?)?;
            if frame.id == Some(id) {
                return Ok(frame);
            }
        }
    }
}

/// A server frame, read as far as all frames are alike.
pub struct Frame {
    /// Its type.
    pub kind: String,
    /// The id of the client's frame that it answers.
    pub id: Option<u64>,
    /// All of it.
    pub value: Value,
    line: String,
}

/// A record as a consumer sees it.
pub struct Shown {
    /// All members.
    pub value: Value,
    /// The payload's bytes as they came.
    pub payload: String,
}

impl Frame {
    /// Reads one line.
    ///
    /// # Errors
    /// When it is not an object with a `type`.
    pub fn read(line: String) -> Result<Self, Ended> {
        let value: Value = serde_json::from_str(&line).map_err(|error| unreadable(&error, &line))?;
        match value["type"].as_str() {
            None => Err(Ended::Broken(format!("no type in {line}"))),
            Some(kind) => Ok(Self {
                kind: kind.to_owned(),
                id: value["id"].as_u64(),
                value,
                line,
            }),
        }
    }

    /// The record of a `message`.
    ///
    /// # Errors
    /// When it has no payload.
    pub fn record(self) -> Result<Shown, Ended> {
        let payload = exact_payload(&self.line)?;
        Ok(Shown {
            value: self.value,
            payload,
        })
    }

    /// The records of a `messages`.
    ///
    /// # Errors
    /// When it has none, or one has no payload.
    pub fn records(&self) -> Result<Vec<Shown>, Ended> {
        let list = member(&self.line, "messages")?;
        let list: Vec<&RawValue> = serde_json::from_str(list).map_err(|error| unreadable(&error, list))?;
        list.into_iter()
            .map(|entry| {
                let value =
                    serde_json::from_str(entry.get()).map_err(|error| unreadable(&error, entry.get()))?;
                Ok(Shown {
                    value,
                    payload: exact_payload(entry.get())?,
                })
            })
            .collect()
    }
}

fn unreadable(error: &serde_json::Error, text: &str) -> Ended {
    Ended::Broken(format!("{error} in {text}"))
}

fn exact_payload(object: &str) -> Result<String, Ended> {
    member(object, "payload").map(str::to_owned)
}

/// A member's bytes, as they stand in the object.
fn member<'a>(object: &'a str, name: &str) -> Result<&'a str, Ended> {
    let members: BTreeMap<&str, &RawValue> =
        serde_json::from_str(object).map_err(|error| unreadable(&error, object))?;
    members
        .get(name)
        .map(|value| value.get())
        .ok_or_else(|| Ended::Broken(format!("no {name} in {object}")))
}

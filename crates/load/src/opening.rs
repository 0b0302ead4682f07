//! A new socket: connected, and talked over in small steps until it is what a run needs.
//!
//! Nothing here is measured, so it blocks and allocates as it likes.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{
    Failure,
    wire::{FrameReader, Opcode, Piece, handshake, push_client_message},
};

/// How long a server may take to answer while sockets are opened.
pub const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a socket takes in before its reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveBuffer {
    /// What the system gives.
    Default,
    /// So few bytes that a reader who does not read is noticed soon.
    Bytes(usize),
}

/// A socket that is being made ready.
pub struct Opening {
    stream: TcpStream,
    address: String,
    /// Once WebSocket was agreed on: what takes its frames apart.
    frames: Option<FrameReader>,
    /// What the server has said and nobody has waited for yet.
    said: Vec<u8>,
}

impl Opening {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(address: &str, receive_buffer: ReceiveBuffer) -> Result<Self, Failure> {
        let target = address.to_socket_addrs()?.next();
        let target = target.ok_or_else(|| Failure::new(format!("{address}: no such address")))?;
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        if let ReceiveBuffer::Bytes(bytes) = receive_buffer {
            // Before it connects, because it decides on the window that is offered.
            socket.set_recv_buffer_size(bytes)?;
        }
        socket
            .connect(&target.into())
            .map_err(|error| Failure::new(format!("{address}: {error}")))?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SETUP_TIMEOUT))?;
        Ok(Self {
            stream,
            address: address.to_owned(),
            frames: None,
            said: Vec::new(),
        })
    }

    /// Agrees on WebSocket; what is sent and awaited from now on is the contents of messages.
    ///
    /// # Errors
    /// The server answers with anything but 101.
    pub fn upgrade(&mut self, path: &str, subprotocol: Option<&str>) -> Result<(), Failure> {
        let request = handshake(&self.address, path, subprotocol);
        self.stream.write_all(request.as_bytes())?;
        let mut scratch = [0; 4096];
        loop {
            if let Some(end) = memchr::memmem::find(&self.said, b"\r\n\r\n") {
                if !self.said.starts_with(b"HTTP/1.1 101") {
                    let answer = String::from_utf8_lossy(&self.said);
                    let first = answer.lines().next().unwrap_or("");
                    return Err(Failure::new(format!("the server answered {first}")));
                }
                let mut rest = self.said.split_off(end + 4);
                self.said.clear();
                self.frames = Some(FrameReader::default());
                self.take(&mut rest);
                return Ok(());
            }
            let count = self.stream.read(&mut scratch)?;
            if count == 0 {
                return Err(Failure::new("the server closed a connection before it was open"));
            }
            self.said.extend_from_slice(&scratch[..count]);
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The socket takes nothing.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends one WebSocket message.
    ///
    /// # Errors
    /// The socket takes nothing.
    pub fn send_message(&mut self, opcode: Opcode, contents: &[u8]) -> Result<(), Failure> {
        let mut message = Vec::new();
        push_client_message(&mut message, opcode, contents);
        self.send(&message)
    }

    /// Waits until the server has said `wanted`, and returns all that it said up to there.
    ///
    /// # Errors
    /// It says `refusal` before, or nothing, or closes the connection.
    pub fn until(&mut self, wanted: &[u8], refusal: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut scratch = [0; 4096];
        loop {
            if let Some(place) = memchr::memmem::find(&self.said, wanted) {
                let rest = self.said.split_off(place + wanted.len());
                return Ok(std::mem::replace(&mut self.said, rest));
            }
            let text = || String::from_utf8_lossy(&self.said).into_owned();
            if memchr::memmem::find(&self.said, refusal).is_some() {
                return Err(Failure::new(format!("the server refused: {}", text())));
            }
            let count = self.stream.read(&mut scratch).map_err(|error| {
                Failure::new(format!(
                    "the server said {:?} before the run, and then: {error}",
                    text()
                ))
            })?;
            if count == 0 {
                return Err(Failure::new(format!(
                    "the server closed a connection before the run: {}",
                    text()
                )));
            }
            self.take(&mut scratch[..count]);
        }
    }

    fn take(&mut self, bytes: &mut [u8]) {
        let said = &mut self.said;
        match &mut self.frames {
            None => said.extend_from_slice(bytes),
            Some(frames) => frames.feed(bytes, |piece| {
                if let Piece::Text(contents) = piece {
                    said.extend_from_slice(contents);
                }
            }),
        }
    }

    /// What takes the frames of its WebSocket apart from here on.
    pub fn frames(&mut self) -> FrameReader {
        self.frames.take().unwrap_or_default()
    }

    /// The socket, which blocks no more.
    ///
    /// # Errors
    /// The system's.
    pub fn into_stream(self) -> Result<mio::net::TcpStream, Failure> {
        self.stream.set_nonblocking(true)?;
        Ok(mio::net::TcpStream::from_std(self.stream))
    }
}

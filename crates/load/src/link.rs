//! One socket of the load.

use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;

use super::{
    Failure,
    block::Block,
    dialect::{Dialect, Reader, Role, Seen},
    opening::{Opening, ReceiveBuffer},
};

/// Longest read at once, bytes.
pub const SCRATCH_BYTES: usize = 256 << 10;

/// A socket, what takes apart what comes on it, and what waits to be sent.
pub struct Link<R> {
    pub stream: TcpStream,
    pub reader: R,
    /// What came so far.
    pub seen: Seen,
    /// Records published.
    pub published: u64,
    outgoing: Vec<u8>,
    outgoing_at: usize,
}

/// Opens a socket for each of `roles`, in their order.
///
/// # Errors
/// The server does not answer as it should.
pub fn open_all<D: Dialect>(
    dialect: &D,
    address: &str,
    roles: &[(Role<'_>, ReceiveBuffer)],
) -> Result<Vec<Link<D::Reader>>, Failure> {
    let open = |(role, buffer): &(Role<'_>, ReceiveBuffer)| Link::open_with(dialect, address, *role, *buffer);
    let share = roles.len().div_ceil(dialect.openers()).max(1);
    if share >= roles.len() {
        return roles.iter().map(open).collect();
    }
    std::thread::scope(|scope| {
        let openers: Vec<_> = roles
            .chunks(share)
            .map(|share| scope.spawn(|| share.iter().map(open).collect::<Result<Vec<_>, _>>()))
            .collect();
        let mut links = Vec::with_capacity(roles.len());
        for opener in openers {
            let opened = opener
                .join()
                .map_err(|_| Failure::new("a socket's opening panicked"))?;
            links.extend(opened?);
        }
        Ok(links)
    })
}

impl<R: Reader> Link<R> {
    /// Opens a socket for `role`.
    ///
    /// # Errors
    /// The server does not answer as it should.
    pub fn open<D>(dialect: &D, address: &str, role: Role<'_>) -> Result<Self, Failure>
    where
        D: Dialect<Reader = R>,
    {
        Self::open_with(dialect, address, role, ReceiveBuffer::Default)
    }

    /// As [`Link::open`], with a receive buffer of its own.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub fn open_with<D>(
        dialect: &D,
        address: &str,
        role: Role<'_>,
        receive_buffer: ReceiveBuffer,
    ) -> Result<Self, Failure>
    where
        D: Dialect<Reader = R>,
    {
        let mut opening = Opening::connect(address, receive_buffer)?;
        let reader = dialect.open(&mut opening, role)?;
        Ok(Self::new(opening.into_stream()?, reader))
    }

    /// A socket that is open already.
    pub fn new(stream: TcpStream, reader: R) -> Self {
        Self {
            stream,
            reader,
            seen: Seen::default(),
            published: 0,
            outgoing: Vec::new(),
            outgoing_at: 0,
        }
    }

    /// Reads until the socket is empty, counts what came and sends what must be said in return.
    ///
    /// # Errors
    /// The server refuses something, or closes the connection.
    pub fn receive(&mut self, scratch: &mut [u8]) -> Result<(), Failure> {
        while let Some(count) = self.read(scratch)? {
            let chunk = &mut scratch[..count];
            self.reader.take(chunk, &mut self.outgoing, &mut self.seen)?;
            // A short read says that the socket is empty; asking again would cost a call for nothing.
            if count < scratch.len() {
                break;
            }
        }
        self.flush()
    }

    /// As [`Link::receive`]; hands out each record's payload.
    ///
    /// # Errors
    /// As [`Link::receive`].
    pub fn receive_payloads(
        &mut self,
        scratch: &mut [u8],
        mut payload: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        while let Some(count) = self.read(scratch)? {
            let chunk = &mut scratch[..count];
            self.reader
                .take_payloads(chunk, &mut self.outgoing, &mut self.seen, &mut payload)?;
            if count < scratch.len() {
                break;
            }
        }
        self.flush()
    }

    /// Reads once, at most as much as `scratch` holds.
    ///
    /// # Errors
    /// As [`Link::receive`].
    pub fn receive_once(&mut self, scratch: &mut [u8]) -> Result<(), Failure> {
        if let Some(count) = self.read(scratch)? {
            let chunk = &mut scratch[..count];
            self.reader.take(chunk, &mut self.outgoing, &mut self.seen)?;
        }
        self.flush()
    }

    /// How many bytes came; none if the socket is empty.
    fn read(&mut self, scratch: &mut [u8]) -> Result<Option<usize>, Failure> {
        match self.stream.read(scratch) {
            Ok(0) => Err(Failure::new("the server closed a connection during the run")),
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Publishes the first `records` records of `block`; nothing may wait to be written.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn publish(&mut self, block: &Block, records: usize) -> Result<(), Failure> {
        self.publish_part(block, 0..records)
    }

    /// Publishes `records` of `block`.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn publish_part(&mut self, block: &Block, records: std::ops::Range<usize>) -> Result<(), Failure> {
        self.published += records.len() as u64;
        block.push(&mut self.outgoing, records);
        self.flush()
    }

    /// Settles what is left, at the end of a worker's run.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.reader.finish(&mut self.outgoing, &mut self.seen);
        self.flush()
    }

    /// Sends what `write` appends.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        write(&mut self.outgoing);
        self.flush()
    }

    /// Whether bytes wait for room in the socket.
    pub fn is_writing(&self) -> bool {
        self.outgoing_at < self.outgoing.len()
    }

    /// Writes what the socket takes.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn flush(&mut self) -> Result<(), Failure> {
        while self.outgoing_at < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.outgoing_at..]) {
                Ok(count) => self.outgoing_at += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing.clear();
        self.outgoing_at = 0;
        Ok(())
    }
}

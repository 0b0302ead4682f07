//! One HTTP request over a socket of its own: what a run asks a server beside its load.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use super::Failure;

/// Longest answer that is read, bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks `address` (`host:port`); status and body of the answer.
///
/// # Errors
/// No answer came, or none of HTTP/1.1.
pub fn request(method: &str, address: &str, path: &str) -> Result<(u16, String), Failure> {
    let failed = |what: &str| Failure::new(format!("{method} http://{address}{path}: {what}"));
    let mut answer = Vec::new();
    let mut exchange = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(())
    };
    exchange().map_err(|error| failed(&error.to_string()))?;
    parse(&answer).ok_or_else(|| failed("the answer is no HTTP"))
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &answer[end + 4..];
    let body = if head.contains("\r\ntransfer-encoding: chunked") {
        unchunked(body)?
    } else {
        body.to_vec()
    };
    Some((status, String::from_utf8(body).ok()?))
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = memchr::memmem::find(rest, b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = end + 2;
        body.extend_from_slice(rest.get(start..start + size)?);
        rest = rest.get(start + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_is_found_whole_or_in_chunks() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(whole), Some((200, "{}".to_owned())));
        let chunks = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n";
        assert_eq!(parse(chunks), Some((404, "abcd".to_owned())));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n"), None);
    }
}

//! What a NATS server sends, taken apart: messages, and the few lines beside them.
//!
//! Source: the NATS client protocol. A message is looked at where it lies.

use crate::carry::Carry;

/// What [`Messages::feed`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Message {
        /// Where an answer goes; empty where none is wanted.
        reply: &'a [u8],
        payload: &'a [u8],
    },
    /// A message without payload that says how a request for messages stands, such as that it ended.
    Status(&'a [u8]),
    /// The server wants to hear `PONG`.
    Ping,
    /// The server refuses something.
    Refused(&'a [u8]),
}

/// Takes what comes on one connection apart.
#[derive(Debug, Default)]
pub struct Messages {
    carry: Carry,
    last: Head,
}

/// The line before the last message that wanted no answer. Those of a run are alike, and to compare a line costs a
/// fraction of taking it apart.
#[derive(Debug, Default)]
struct Head {
    /// With its end; empty before the first.
    line: Vec<u8>,
    /// Of the payload that follows.
    length: usize,
}

impl Messages {
    /// Reads what came.
    pub fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Found<'_>)) {
        let Self { carry, last } = self;
        carry.feed(bytes, |bytes| {
            if !last.line.is_empty() && bytes.starts_with(&last.line) {
                let start = last.line.len();
                let whole = start + last.length + 2;
                return (bytes.len() >= whole).then(|| {
                    let payload = &bytes[start..start + last.length];
                    found(Found::Message { reply: b"", payload });
                    whole
                });
            }
            let end = memchr::memchr(b'\n', bytes)?;
            let line = &bytes[..end.saturating_sub(1)];
            match line.first() {
                Some(b'M') => {
                    let (reply, length) = fields(line);
                    let payload = bytes.get(end + 1..end + 1 + length)?;
                    let whole = end + 1 + length + 2;
                    if reply.is_empty() {
                        last.line.clear();
                        last.line.extend_from_slice(&bytes[..=end]);
                        last.length = length;
                    }
                    (bytes.len() >= whole).then(|| {
                        found(Found::Message { reply, payload });
                        whole
                    })
                }
                Some(b'H') => {
                    let whole = end + 1 + fields(line).1 + 2;
                    let status = bytes.get(end + 1..whole)?;
                    found(Found::Status(status));
                    Some(whole)
                }
                Some(b'-') => {
                    found(Found::Refused(line));
                    Some(end + 1)
                }
                Some(b'P') if line == b"PING" => {
                    found(Found::Ping);
                    Some(end + 1)
                }
                _ => Some(end + 1),
            }
        });
    }
}

/// The subject for answers, if there is one, and the length of what follows, of
/// `MSG subject sid [reply] length` or `HMSG subject sid [reply] header-length length`.
fn fields(line: &[u8]) -> (&[u8], usize) {
    let (head, length) = last_word(line);
    let length = length.iter().fold(0, |value, digit| {
        value * 10 + usize::from(digit.wrapping_sub(b'0'))
    });
    let (head, last) = last_word(head);
    // `MSG subject` is left where no answer is wanted.
    let has_reply = memchr::memchr_iter(b' ', head).nth(1).is_some();
    (if has_reply { last } else { b"" }, length)
}

fn last_word(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b' ', line) {
        Some(space) => (&line[..space], &line[space + 1..]),
        None => (b"", line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood_wherever_they_are_cut() {
        let stream =
            b"INFO {\"a\":1} \r\nPONG\r\nMSG bench 7 3\r\na\r\n\r\nPING\r\nMSG bench 7 3\r\nb\r\n\r\n\
            MSG bench 12 $JS.ACK.b.w.1.5.5.17.0 0\r\n\r\n+OK\r\n-ERR 'no'\r\n\
            HMSG _W.0 2 28 28\r\nNATS/1.0 408 Request Timeo\r\n\r\nMSG b 1 r 2\r\nhi\r\n";
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for size in 1..=stream.len() {
            let (mut messages, mut said) = (Messages::default(), Vec::new());
            for piece in stream.chunks(size) {
                messages.feed(piece, |found| {
                    said.push(match found {
                        Found::Message { reply, payload } => format!("<{}> {}", text(reply), text(payload)),
                        Found::Status(status) => text(&status[..12]),
                        Found::Ping => "ping".to_owned(),
                        Found::Refused(reason) => text(reason),
                    });
                });
            }
            assert_eq!(
                said,
                [
                    "<> a\r\n",
                    "ping",
                    "<> b\r\n",
                    "<$JS.ACK.b.w.1.5.5.17.0> ",
                    "-ERR 'no'",
                    "NATS/1.0 408",
                    "<r> hi"
                ],
                "in pieces of {size}"
            );
        }
    }
}

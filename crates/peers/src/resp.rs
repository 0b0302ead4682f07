//! Redis's protocol: commands as they are sent, and the answers that streams give.
//!
//! Source: the specification of RESP version 2. A token is looked at where it lies; nothing is built of an answer
//! but the id of the record that is being read, because an ack needs it.

use crate::carry::Carry;

/// How deep the answers nest that are understood: answer, stream, records, record, fields.
const DEPTH_MAX: usize = 6;
/// Where a record's own array stands in an answer to `XREAD` and `XREADGROUP`.
const RECORD_DEPTH: usize = 4;

/// Appends a command in the form that every client sends.
pub fn push_command(buffer: &mut Vec<u8>, words: &[&[u8]]) {
    buffer.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        buffer.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        buffer.extend_from_slice(word);
        buffer.extend_from_slice(b"\r\n");
    }
}

/// What [`Answers::feed`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A command that returns no records was carried out.
    Answer,
    /// A command was refused.
    Refused(&'a [u8]),
    /// A record of a stream: its id and the value of its last field.
    Record { id: &'a [u8], payload: &'a [u8] },
    /// A read of a stream is over, also one that waited in vain.
    ReadDone,
}

/// Takes the answers of one connection apart.
#[derive(Debug, Default)]
pub struct Answers {
    carry: Carry,
    nesting: Nesting,
}

/// Where in an answer the next token stands.
#[derive(Debug, Default)]
struct Nesting {
    /// Tokens that are still to come in each array that is open.
    left: [u32; DEPTH_MAX],
    depth: usize,
    id: Vec<u8>,
}

enum Token<'a> {
    Status,
    Error(&'a [u8]),
    /// `None` where the protocol has its null.
    Text(Option<&'a [u8]>),
    /// `None` where the protocol has its null.
    Array(Option<u32>),
}

impl Answers {
    /// Reads what came.
    pub fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Found<'_>)) {
        let Self { carry, nesting } = self;
        carry.feed(bytes, |bytes| {
            let (token, length) = token(bytes)?;
            nesting.take(&token, &mut found);
            Some(length)
        });
    }
}

impl Nesting {
    fn take(&mut self, token: &Token<'_>, found: &mut impl FnMut(Found<'_>)) {
        match token {
            Token::Error(reason) => found(Found::Refused(reason)),
            Token::Array(Some(count)) if *count > 0 => {
                assert!(
                    self.depth < DEPTH_MAX,
                    "no answer to a stream's commands nests so deep"
                );
                self.left[self.depth] = *count;
                self.depth += 1;
                return; // It is open: what stands in it comes next.
            }
            Token::Text(Some(text)) if self.depth == RECORD_DEPTH => {
                self.id.clear();
                self.id.extend_from_slice(text);
            }
            Token::Text(Some(payload)) if self.depth == RECORD_DEPTH + 1 && self.left[RECORD_DEPTH] == 1 => {
                found(Found::Record {
                    id: &self.id,
                    payload,
                });
            }
            Token::Array(_) if self.depth == 0 => found(Found::ReadDone),
            _ if self.depth == 0 => found(Found::Answer),
            _ => {}
        }
        self.close(found);
    }

    /// Counts a token that is whole, and the arrays that end with it.
    fn close(&mut self, found: &mut impl FnMut(Found<'_>)) {
        while let Some(innermost) = self.depth.checked_sub(1) {
            self.left[innermost] -= 1;
            if self.left[innermost] > 0 {
                return;
            }
            self.depth = innermost;
            if innermost == 0 {
                found(Found::ReadDone);
            }
        }
    }
}

/// The token at the beginning of `bytes` and its length, if it is whole.
fn token(bytes: &[u8]) -> Option<(Token<'_>, usize)> {
    let end = memchr::memchr(b'\n', bytes)?;
    let line = bytes.get(1..end.checked_sub(1)?)?;
    let after = end + 1;
    let token = match bytes[0] {
        b'-' => Token::Error(line),
        b'*' => Token::Array(number(line)),
        b'$' => {
            let Some(length) = number(line) else {
                return Some((Token::Text(None), after));
            };
            let text = after..after + length as usize;
            let whole = text.end + 2;
            if bytes.len() < whole {
                return None;
            }
            return Some((Token::Text(Some(&bytes[text])), whole));
        }
        _ => Token::Status,
    };
    Some((token, after))
}

/// A length; `None` for `-1`, the protocol's null.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |value, &digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        Some(value * 10 + u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stream: &[u8], size: usize) -> Vec<String> {
        let (mut answers, mut said) = (Answers::default(), Vec::new());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for piece in stream.chunks(size) {
            answers.feed(piece, |found| {
                said.push(match found {
                    Found::Answer => "answer".to_owned(),
                    Found::Refused(reason) => format!("refused {}", text(reason)),
                    Found::Record { id, payload } => format!("{} {}", text(id), text(payload)),
                    Found::ReadDone => "done".to_owned(),
                });
            });
        }
        said
    }

    #[test]
    fn answers_of_streams_are_understood_wherever_they_are_cut() {
        let stream = b"$3\r\n1-0\r\n:1\r\n+OK\r\n*-1\r\n-ERR no\r\n\
            *1\r\n*2\r\n$5\r\nbench\r\n*2\r\n\
            *2\r\n$3\r\n1-0\r\n*2\r\n$1\r\np\r\n$4\r\na\r\nb\r\n\
            *2\r\n$3\r\n1-1\r\n*4\r\n$1\r\nk\r\n$1\r\nv\r\n$1\r\np\r\n$0\r\n\r\n:7\r\n*0\r\n";
        for size in 1..=stream.len() {
            assert_eq!(
                said(stream, size),
                [
                    "answer",
                    "answer",
                    "answer",
                    "done",
                    "refused ERR no",
                    "1-0 a\r\nb",
                    "1-1 ",
                    "done",
                    "answer",
                    "done"
                ],
                "in pieces of {size}"
            );
        }
    }

    #[test]
    fn command_is_an_array_of_its_words() {
        let mut buffer = Vec::new();
        push_command(&mut buffer, &[b"XACK", b"a\r\n", b""]);
        assert_eq!(buffer, b"*3\r\n$4\r\nXACK\r\n$3\r\na\r\n\r\n$0\r\n\r\n");
    }
}

//! Takes a JSON array apart element by element, without holding it and without altering a byte.
//!
//! Only brackets and strings are understood here, which is enough to know where an element ends; whether
//! it is valid is for the caller to check.

use std::io::{self, BufRead};

/// The elements of an array in a stream, each with the line on which it begins.
pub(crate) struct Elements<R> {
    reader: R,
    line: u64,
    state: State,
    /// Longest element taken, bytes.
    element_bytes_max: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    First,
    Next,
    Done,
}

/// Why no more elements come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArrayError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("line {0}: a JSON array begins with [")]
    NoArray(u64),
    #[error("line {0}: the array does not go on with , or ]")]
    Separator(u64),
    #[error("line {0}: the array ends before its ]")]
    Cut(u64),
    #[error("line {0}: an element is longer than {1} bytes")]
    TooLong(u64, usize),
    #[error("line {0}: something follows the array")]
    Trailing(u64),
}

impl<R: BufRead> Elements<R> {
    pub(crate) fn new(reader: R, element_bytes_max: usize) -> Self {
        Self {
            reader,
            line: 1,
            state: State::Before,
            element_bytes_max,
        }
    }

    /// Passes white space and returns the next byte without taking it.
    fn peek(&mut self) -> Result<Option<u8>, ArrayError> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let Some(&byte) = buffer.first() else {
                return Ok(None);
            };
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                // A byte order mark may stand before the array and nowhere else.
                0xEF | 0xBB | 0xBF if self.state == State::Before => {}
                _ => return Ok(Some(byte)),
            }
            self.reader.consume(1);
        }
    }

    fn advance(&mut self) -> Result<Option<(u64, Vec<u8>)>, ArrayError> {
        if self.state == State::Before {
            match self.peek()? {
                Some(b'[') => self.reader.consume(1),
                _ => return Err(ArrayError::NoArray(self.line)),
            }
            self.state = State::First;
        }
        match (self.state, self.peek()?) {
            (State::Done, _) => return Ok(None),
            (_, None) => return Err(ArrayError::Cut(self.line)),
            (_, Some(b']')) => return self.finish(),
            (State::Next, Some(b',')) => {
                self.reader.consume(1);
                self.peek()?;
            }
            (State::Next, Some(_)) => return Err(ArrayError::Separator(self.line)),
            (State::First | State::Before, Some(_)) => {}
        }
        self.state = State::Next;
        let line = self.line;
        self.element().map(|element| Some((line, element)))
    }

    fn finish(&mut self) -> Result<Option<(u64, Vec<u8>)>, ArrayError> {
        self.reader.consume(1);
        self.state = State::Done;
        match self.peek()? {
            None => Ok(None),
            Some(_) => Err(ArrayError::Trailing(self.line)),
        }
    }

    /// Takes bytes up to the comma or bracket that ends the element.
    fn element(&mut self) -> Result<Vec<u8>, ArrayError> {
        let mut element = Vec::new();
        let mut scan = Scan::default();
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Err(ArrayError::Cut(self.line));
            }
            let end = buffer.iter().position(|&byte| scan.ends_at(byte));
            let taken = end.unwrap_or(buffer.len());
            self.line += buffer[..taken].iter().filter(|&&byte| byte == b'\n').count() as u64;
            element.extend_from_slice(&buffer[..taken]);
            self.reader.consume(taken);
            if element.len() > self.element_bytes_max {
                return Err(ArrayError::TooLong(self.line, self.element_bytes_max));
            }
            if end.is_some() {
                return Ok(element);
            }
        }
    }
}

/// Where in an element a byte is.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    after_backslash: bool,
}

impl Scan {
    fn ends_at(&mut self, byte: u8) -> bool {
        if self.in_string {
            if self.after_backslash {
                self.after_backslash = false;
            } else if byte == b'\\' {
                self.after_backslash = true;
            } else if byte == b'"' {
                self.in_string = false;
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'[' | b'{' => self.depth += 1,
            b',' | b']' if self.depth == 0 => return true,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        false
    }
}

impl<R: BufRead> Iterator for Elements<R> {
    type Item = Result<(u64, Vec<u8>), ArrayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Done {
            return None;
        }
        let next = self.advance();
        if next.is_err() {
            self.state = State::Done;
        }
        next.transpose()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Reads with every size of buffer, so that a cut falls between any two bytes.
    fn elements(text: &str) -> Result<Vec<(u64, String)>, String> {
        let mut outcomes = (1..=text.len().max(1)).map(|capacity| {
            let reader = BufReader::with_capacity(capacity, text.as_bytes());
            let elements = Elements::new(reader, 64).map(|element| {
                let (line, bytes) = element.map_err(|error| error.to_string())?;
                Ok((line, String::from_utf8(bytes).unwrap().trim().to_owned()))
            });
            elements.collect::<Result<Vec<_>, String>>()
        });
        let first = outcomes.next().unwrap();
        assert!(outcomes.all(|outcome| outcome == first));
        first
    }

    #[test]
    fn elements_keep_their_bytes_and_lines() {
        let text = "\u{feff}[{\"a\":1.10,\"b\":[1,{}]},\n  \"x],\\\"y\" ,\n\n999999996000000004, {}\n]\n";
        let found = elements(text).unwrap();
        let expected = [
            (1, r#"{"a":1.10,"b":[1,{}]}"#),
            (2, r#""x],\"y""#),
            (4, "999999996000000004"),
            (4, "{}"),
        ];
        assert_eq!(found, expected.map(|(line, element)| (line, element.to_owned())));
        assert_eq!(elements(" [ ] ").unwrap(), []);
    }

    #[test]
    fn what_is_not_one_array_is_an_error_with_its_line() {
        let long = format!("[\"{}\"]", "x".repeat(100));
        let table = [
            ("", "line 1: a JSON array begins with ["),
            ("{}", "line 1: a JSON array begins with ["),
            ("[1,\n2", "line 2: the array ends before its ]"),
            ("[1] 2", "line 1: something follows the array"),
            (long.as_str(), "line 1: an element is longer than 64 bytes"),
        ];
        for (text, expected) in table {
            assert_eq!(elements(text).unwrap_err(), expected, "{text}");
        }
    }
}

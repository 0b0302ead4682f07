//! A validating scanner over JSON text that finds values without building them.
//!
//! A payload must be checked (valid, not too deep) but never built, and a frame's fields must be found
//! in the same pass: one walk over the bytes does both. It accepts exactly what RFC 8259 calls JSON,
//! which its tests hold against `serde_json`.

use std::borrow::Cow;

use crate::limits::PAYLOAD_DEPTH_MAX;

/// Why the text was refused, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("not valid JSON at byte {0}")]
    Syntax(usize),
    /// A value is nested more than [`PAYLOAD_DEPTH_MAX`] deep.
    #[error("nested more than {PAYLOAD_DEPTH_MAX} deep at byte {0}")]
    TooDeep(usize),
    /// The value at this byte is not of the type that belongs there.
    #[error("{1} expected at byte {0}")]
    Type(usize, &'static str),
}

/// Walks over one JSON text. The text is UTF-8 already, so only structure is left to check.
pub struct Scanner<'a> {
    text: &'a str,
    position: usize,
    saw_line_break: bool,
}

impl<'a> Scanner<'a> {
    /// Starts before the first byte.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            position: 0,
            saw_line_break: false,
        }
    }

    /// The byte that the scanner stands at.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether a CR or LF was seen between tokens so far.
    #[must_use]
    pub fn saw_line_break(&self) -> bool {
        self.saw_line_break
    }

    /// The next byte that is not white space, without passing it.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        match self.text.as_bytes().get(self.position) {
            // What most programs write between tokens: nothing.
            Some(&byte) if byte > b' ' => Some(byte),
            _ => self.peek_behind_space(),
        }
    }

    fn peek_behind_space(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.position) {
            match byte {
                b' ' | b'\t' => {}
                b'\n' | b'\r' => self.saw_line_break = true,
                _ => return Some(byte),
            }
            self.position += 1;
        }
        None
    }

    /// Passes `byte`, or fails.
    ///
    /// # Errors
    /// [`JsonError::Syntax`] when something else comes.
    #[inline]
    pub fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() == Some(byte) {
            self.position += 1;
            Ok(())
        } else {
            Err(JsonError::Syntax(self.position))
        }
    }

    /// Fails unless only white space is left.
    ///
    /// # Errors
    /// [`JsonError::Syntax`] at the first byte too many.
    pub fn end(&mut self) -> Result<(), JsonError> {
        if self.peek().is_some() {
            Err(JsonError::Syntax(self.position))
        } else {
            Ok(())
        }
    }

    /// Walks over an object and calls `member` at each value, which it must pass.
    ///
    /// The key is given as it stands between its quotes; see [`unescaped_name`] for one with an escape.
    ///
    /// # Errors
    /// [`JsonError::Type`] when there is no object, and whatever `member` returns.
    pub fn object<E: From<JsonError>>(
        &mut self,
        mut member: impl FnMut(&mut Self, &'a str) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != Some(b'{') {
            return Err(JsonError::Type(self.position, "an object").into());
        }
        self.position += 1;
        if self.peek() == Some(b'}') {
            self.position += 1;
            return Ok(());
        }
        loop {
            self.peek();
            let key = self.string()?;
            self.expect(b':')?;
            self.peek();
            member(self, &key[1..key.len() - 1])?;
            if self.separator(b'}')? {
                return Ok(());
            }
        }
    }

    /// Walks over an array and calls `element` at each value, which it must pass.
    ///
    /// # Errors
    /// [`JsonError::Type`] when there is no array, and whatever `element` returns.
    pub fn array<E: From<JsonError>>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != Some(b'[') {
            return Err(JsonError::Type(self.position, "an array").into());
        }
        self.position += 1;
        if self.peek() == Some(b']') {
            self.position += 1;
            return Ok(());
        }
        loop {
            self.peek();
            element(self)?;
            if self.separator(b']')? {
                return Ok(());
            }
        }
    }

    /// Passes a comma (false) or the closing byte (true).
    #[inline]
    fn separator(&mut self, close: u8) -> Result<bool, JsonError> {
        match self.peek() {
            Some(b',') => {
                self.position += 1;
                Ok(false)
            }
            Some(byte) if byte == close => {
                self.position += 1;
                Ok(true)
            }
            _ => Err(JsonError::Syntax(self.position)),
        }
    }

    /// Passes any value and returns its text without the white space around it.
    ///
    /// # Errors
    /// [`JsonError::Syntax`], and [`JsonError::TooDeep`]: then the value was valid and is passed all the
    /// same, so that what follows it can be read.
    pub fn value(&mut self) -> Result<&'a str, JsonError> {
        if self.peek() == Some(b'"') {
            return self.string();
        }
        let start = self.position;
        let mut open = Nesting::default();
        let mut too_deep_at = None;
        loop {
            match self.peek().ok_or(JsonError::Syntax(self.position))? {
                byte @ (b'{' | b'[') => {
                    if open.depth == PAYLOAD_DEPTH_MAX {
                        too_deep_at.get_or_insert(self.position);
                    }
                    self.position += 1;
                    let container = if byte == b'{' {
                        Container::Object
                    } else {
                        Container::Array
                    };
                    if self.peek() != Some(container.close()) {
                        open.push(container);
                        if container == Container::Object {
                            self.key()?;
                        }
                        continue;
                    }
                    self.position += 1;
                }
                b'"' => {
                    self.string()?;
                }
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                _ => self.number()?,
            }
            // A value has ended: close what it was the last of, or go on to the next one.
            while let Some(container) = open.last() {
                if !self.separator(container.close())? {
                    if container == Container::Object {
                        self.key()?;
                    }
                    break;
                }
                open.pop();
            }
            if open.depth == 0 {
                return match too_deep_at {
                    None => Ok(&self.text[start..self.position]),
                    Some(at) => Err(JsonError::TooDeep(at)),
                };
            }
        }
    }

    fn key(&mut self) -> Result<(), JsonError> {
        self.peek();
        self.string()?;
        self.expect(b':')
    }

    /// Passes a string and returns it with its quotes, escapes checked but not replaced.
    ///
    /// # Errors
    /// [`JsonError::Type`] when there is no string, [`JsonError::Syntax`] inside one.
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, JsonError> {
        let bytes = self.text.as_bytes();
        let start = self.position;
        if bytes.get(start) != Some(&b'"') {
            return Err(JsonError::Type(start, "a string"));
        }
        let end = plain_run_end(bytes, start + 1);
        if bytes.get(end) == Some(&b'"') {
            self.position = end + 1;
        } else {
            self.position = self.escaped_string_end(end)?;
        }
        Ok(&self.text[start..self.position])
    }

    /// Where a string ends whose plain begin ends at `at`, with something else than its last quote.
    fn escaped_string_end(&self, mut at: usize) -> Result<usize, JsonError> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(at) {
                Some(b'"') => return Ok(at + 1),
                Some(b'\\') => at = escape_end(bytes, at).ok_or(JsonError::Syntax(at))?,
                _ => return Err(JsonError::Syntax(at)),
            }
            at = plain_run_end(bytes, at);
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), JsonError> {
        if self.text.as_bytes()[self.position..].starts_with(word.as_bytes()) {
            self.position += word.len();
            Ok(())
        } else {
            Err(JsonError::Syntax(self.position))
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let bytes = self.text.as_bytes();
        let mut at = self.position;
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let digits = |mut at: usize| -> Result<usize, JsonError> {
            if !byte(at).is_ascii_digit() {
                return Err(JsonError::Syntax(at));
            }
            while byte(at).is_ascii_digit() {
                at += 1;
            }
            Ok(at)
        };
        if byte(at) == b'-' {
            at += 1;
        }
        at = if byte(at) == b'0' { at + 1 } else { digits(at)? };
        if byte(at) == b'.' {
            at = digits(at + 1)?;
        }
        if matches!(byte(at), b'e' | b'E') {
            at += 1;
            if matches!(byte(at), b'+' | b'-') {
                at += 1;
            }
            at = digits(at)?;
        }
        self.position = at;
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Array,
    Object,
}

impl Container {
    fn close(self) -> u8 {
        match self {
            Self::Array => b']',
            Self::Object => b'}',
        }
    }
}

/// What is open around a value: one bit a level, set for an object.
///
/// The levels that are allowed fit into a word on the stack. Only a value that is refused in the end, and
/// walked over for the sake of what follows it, needs memory: one bit a byte of its text.
#[derive(Default)]
struct Nesting {
    objects: u128,
    spilled: Vec<u128>,
    depth: usize,
}

impl Nesting {
    const WORD_BITS: usize = u128::BITS as usize;

    fn push(&mut self, container: Container) {
        if self.depth > 0 && self.depth.is_multiple_of(Self::WORD_BITS) {
            self.spilled.push(self.objects);
        }
        self.objects = (self.objects << 1) | u128::from(container == Container::Object);
        self.depth += 1;
    }

    fn last(&self) -> Option<Container> {
        match (self.depth, self.objects & 1) {
            (0, _) => None,
            (_, 0) => Some(Container::Array),
            _ => Some(Container::Object),
        }
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(Self::WORD_BITS) {
            self.objects = self
                .spilled
                .pop()
                .expect("a word was spilled at each multiple of its width");
        }
    }
}

/// Bytes that are looked at together.
const BLOCK_BYTES: usize = 16;

/// The first byte from `at` on that ends a run of plain string bytes: a quote, a backslash, a control
/// byte, or the end.
#[inline]
fn plain_run_end(bytes: &[u8], mut at: usize) -> usize {
    // Names and short values end within the first block.
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let stops = stops_in(block);
        if stops != 0 {
            return at + stops.trailing_zeros() as usize;
        }
        at += BLOCK_BYTES;
    }
    // What is left is the end of the last block, unless the whole text is shorter than one.
    match bytes.last_chunk() {
        Some(block) => {
            let left = bytes.len().saturating_sub(at);
            let stops = stops_in(block) >> (BLOCK_BYTES - left);
            at + left.min(stops.trailing_zeros() as usize)
        }
        None => {
            let is_stop = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
            let rest = bytes.get(at..).unwrap_or_default();
            rest.iter()
                .position(is_stop)
                .map_or(bytes.len(), |place| at + place)
        }
    }
}

/// One bit for each quote, backslash or control byte.
#[cfg(target_arch = "x86_64")]
#[inline]
fn stops_in(block: &[u8; BLOCK_BYTES]) -> u32 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };
    // SAFETY: sixteen bytes are read where sixteen are borrowed, from any address, and every processor of
    // this kind has these instructions.
    unsafe {
        let block = _mm_loadu_si128(block.as_ptr().cast::<__m128i>());
        let quotes = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'"'.cast_signed()));
        let slashes = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'\\'.cast_signed()));
        let controls = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
        let stops = _mm_or_si128(_mm_or_si128(quotes, slashes), controls);
        _mm_movemask_epi8(stops).cast_unsigned()
    }
}

/// One bit for each quote, backslash or control byte.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn stops_in(block: &[u8; BLOCK_BYTES]) -> u32 {
    let bit = |(place, &byte): (usize, &u8)| u32::from(matches!(byte, b'"' | b'\\' | ..0x20)) << place;
    block.iter().enumerate().map(bit).sum()
}

/// The place after the escape that begins at `at`; `None` if it is not one.
fn escape_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
        b'u' => {
            let hex = bytes.get(at + 2..at + 6)?;
            hex.iter().all(u8::is_ascii_hexdigit).then_some(at + 6)
        }
        _ => None,
    }
}

/// Checks that `text` is one JSON value, at most [`PAYLOAD_DEPTH_MAX`] deep; returns it without the
/// white space around it and with line breaks between tokens as spaces.
///
/// # Errors
/// [`JsonError`] says what and where.
pub fn check(text: &str) -> Result<Cow<'_, str>, JsonError> {
    let mut scanner = Scanner::new(text);
    let value = scanner.value()?;
    scanner.end()?;
    Ok(one_line(value, scanner.saw_line_break()))
}

/// Replaces each CR and LF by a space. In valid JSON they stand only between tokens.
#[must_use]
pub fn one_line(value: &str, may_have_line_breaks: bool) -> Cow<'_, str> {
    if may_have_line_breaks && value.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        Cow::Owned(value.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(value)
    }
}

/// The content of a string value as [`Scanner::value`] returned it; borrowed unless it has escapes.
///
/// `None` if the value is not a string, or escapes to half a surrogate pair.
#[must_use]
pub fn as_text(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if inner.as_bytes().contains(&b'\\') {
        serde_json::from_str(value).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The value of a field that may be left out: `null` says the same as leaving it out.
#[must_use]
pub fn not_null(value: &str) -> Option<&str> {
    (value != "null").then_some(value)
}

/// The name that `key`, as [`Scanner::object`] gives it, spells with escapes; `None` if it has none.
///
/// Nobody writes a name of ours like this, but JSON says that it is the same name.
#[must_use]
pub fn unescaped_name(key: &str) -> Option<String> {
    if key.contains('\\') {
        serde_json::from_str(&format!("\"{key}\"")).ok()
    } else {
        None
    }
}

/// A whole number from 0 to 2^53 - 1 without sign, fraction or exponent.
#[must_use]
pub fn as_integer(value: &str) -> Option<u64> {
    if value.len() > 16 || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    value
        .parse()
        .ok()
        .filter(|&number| number <= crate::id::SAFE_INTEGER_MAX)
}

/// Appends `text` as a JSON string with its quotes.
pub fn push_text(buffer: &mut Vec<u8>, text: &str) {
    buffer.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    loop {
        let at = plain_run_end(bytes, start);
        buffer.extend_from_slice(&bytes[start..at]);
        let Some(&byte) = bytes.get(at) else { break };
        match byte {
            b'"' => buffer.extend_from_slice(b"\\\""),
            b'\\' => buffer.extend_from_slice(b"\\\\"),
            b'\n' => buffer.extend_from_slice(b"\\n"),
            b'\r' => buffer.extend_from_slice(b"\\r"),
            b'\t' => buffer.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                buffer.extend_from_slice(b"\\u00");
                buffer.push(HEX[usize::from(byte >> 4)]);
                buffer.push(HEX[usize::from(byte & 15)]);
            }
        }
        start = at + 1;
    }
    buffer.push(b'"');
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

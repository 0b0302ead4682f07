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
    pub fn peek(&mut self) -> Option<u8> {
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
    /// The key is given as it stands between its quotes; one with an escape equals no name of ours.
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
    /// [`JsonError::Syntax`] and [`JsonError::TooDeep`].
    pub fn value(&mut self) -> Result<&'a str, JsonError> {
        self.peek();
        let start = self.position;
        // One bit a level: whether it is an object. Depth is bounded by the width of the stack.
        let mut objects: u128 = 0;
        let mut depth: usize = 0;
        loop {
            match self.peek().ok_or(JsonError::Syntax(self.position))? {
                open @ (b'{' | b'[') => {
                    if depth == PAYLOAD_DEPTH_MAX {
                        return Err(JsonError::TooDeep(self.position));
                    }
                    self.position += 1;
                    depth += 1;
                    let is_object = open == b'{';
                    objects = (objects << 1) | u128::from(is_object);
                    let close = if is_object { b'}' } else { b']' };
                    if self.peek() != Some(close) {
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                    self.position += 1;
                    depth -= 1;
                    objects >>= 1;
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
            loop {
                if depth == 0 {
                    return Ok(&self.text[start..self.position]);
                }
                let is_object = objects & 1 == 1;
                if !self.separator(if is_object { b'}' } else { b']' })? {
                    if is_object {
                        self.key()?;
                    }
                    break;
                }
                depth -= 1;
                objects >>= 1;
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
    pub fn string(&mut self) -> Result<&'a str, JsonError> {
        let bytes = self.text.as_bytes();
        let start = self.position;
        if bytes.get(start) != Some(&b'"') {
            return Err(JsonError::Type(start, "a string"));
        }
        let mut at = start + 1;
        loop {
            at = plain_run_end(bytes, at);
            match bytes.get(at) {
                Some(b'"') => {
                    self.position = at + 1;
                    return Ok(&self.text[start..self.position]);
                }
                Some(b'\\') => at = escape_end(bytes, at).ok_or(JsonError::Syntax(at))?,
                _ => return Err(JsonError::Syntax(at)),
            }
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

/// The first byte from `at` on that ends a run of plain string bytes: a quote, a backslash, a control
/// byte, or the end. Eight bytes at a time.
fn plain_run_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quotes = zero_bytes(word ^ (ONES * u64::from(b'"')));
        let slashes = zero_bytes(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let stops = quotes | slashes | controls;
        if stops != 0 {
            return at + (stops.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            break;
        }
        at += 1;
    }
    at
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What `serde_json` says of the same text; it limits depth to 128 only when it builds.
    fn reference_accepts(text: &str) -> bool {
        serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
    }

    #[test]
    fn accepts_and_refuses_what_the_grammar_says() {
        for good in [
            "0",
            "-0",
            "1.10",
            "1e5",
            "1E-5",
            "-1.5e+10",
            "true",
            "null",
            "\"\"",
            "[]",
            "{}",
            " [ 1 , 2 ] ",
            r#"{"a":[{"b":"c\u00e9\n"}]}"#,
            "\"\\ud800\"",
            "999999996000000004",
            "[[[[]]]]",
            "\"é\"",
        ] {
            assert!(check(good).is_ok(), "{good}");
            assert!(reference_accepts(good), "{good}");
        }
        for bad in [
            "",
            " ",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "tru",
            "nul",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "[",
            "]",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "1 2",
            "\"a\nb\"",
            "\"\u{1}\"",
            "[1}",
            "NaN",
            "'a'",
            "{\"a\":1]",
            "\u{feff}1",
        ] {
            assert!(check(bad).is_err(), "{bad}");
            assert!(!reference_accepts(bad), "{bad}");
        }
    }

    #[test]
    fn depth_of_128_is_the_last_one_accepted() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check(&nested(128)).is_ok());
        assert!(matches!(check(&nested(129)), Err(JsonError::TooDeep(128))));
        assert!(matches!(
            check(&"[".repeat(1_000_000)),
            Err(JsonError::TooDeep(_))
        ));
        assert!(check(&("{\"a\":".repeat(128) + "1" + &"}".repeat(128))).is_ok());
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        assert_eq!(check("{\r\n\"a\": 1.10\n}\n").unwrap(), "{  \"a\": 1.10 }");
        assert!(matches!(check("{\"a\": 1.10}").unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn integers_are_exact_or_nothing() {
        assert_eq!(as_integer("9007199254740991"), Some((1 << 53) - 1));
        for bad in [
            "9007199254740992",
            "-1",
            "1.0",
            "1e3",
            "",
            "99999999999999999999",
            "\"1\"",
        ] {
            assert_eq!(as_integer(bad), None, "{bad}");
        }
    }

    fn json_like() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just("[".to_owned()),
            Just("]".to_owned()),
            Just(",".to_owned()),
            Just(":".to_owned()),
            Just("\"a\"".to_owned()),
            Just("\"\\n\"".to_owned()),
            Just("1".to_owned()),
            Just("-2.5e3".to_owned()),
            Just("true".to_owned()),
            Just(" ".to_owned()),
            Just("\n".to_owned()),
            "[ -~]{0,4}",
            "\"[a-z\\\\\"]{0,12}\"",
        ];
        proptest::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_serde_json_on_token_soup(text in json_like()) {
            prop_assert_eq!(check(&text).is_ok(), reference_accepts(&text), "{}", text);
        }

        #[test]
        fn pushed_text_reads_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut buffer = Vec::new();
            push_text(&mut buffer, &text);
            let encoded = String::from_utf8(buffer).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&encoded).unwrap(), text.clone());
            prop_assert_eq!(as_text(&encoded).unwrap(), text);
        }

        #[test]
        fn valid_documents_pass_byte_for_byte(value in arbitrary_json()) {
            let text = value.to_string();
            prop_assert_eq!(check(&text).unwrap(), text.as_str());
        }
    }

    fn arbitrary_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "\\PC{0,20}".prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
                proptest::collection::hash_map("\\PC{0,8}", inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}

//! Publishes whose begin is the one of the frame before: only what differs is read.
//!
//! A sender mostly writes the same fields in the same order, and all but the `id` and the payload are the same from
//! frame to frame. Comparing them with those of the last frame takes a fraction of reading them. Whatever is not exactly
//! alike is no business of this module: the caller then has the frame read as any other.

use super::{Ack, publish};
use crate::json::{self, JsonError, Scanner};

/// A longer begin is not worth remembering.
const HEAD_BYTES_MAX: usize = 512;
/// Digits that are exact in every number of JavaScript.
const ID_DIGITS_MAX: usize = 15;

/// What stands before the payload of a `publish` of one record that has a topic, at most an `ack` and an `id`, and its
/// payload as the last field.
#[derive(Debug, PartialEq, Eq)]
pub struct Repeated {
    /// Up to the id, or up to the payload if there is none.
    before_id: Box<str>,
    /// From behind the id up to the payload, if there is an id.
    after_id: Option<Box<str>>,
    topic: Box<str>,
    ack: Ack,
}

/// The fields of a frame that may be repeated, as they were found.
#[derive(Default)]
struct Found<'a> {
    frame_type: Option<&'a str>,
    topic: Option<&'a str>,
    ack: Option<&'a str>,
    /// With where it stands.
    id: Option<(usize, &'a str)>,
    /// Where it begins.
    payload: Option<usize>,
}

impl Repeated {
    /// What of this frame may come again; none if it is not of that kind.
    #[must_use]
    pub fn learn(text: &str) -> Option<Self> {
        let mut scanner = Scanner::new(text);
        let mut found = Found::default();
        scanner
            .object(|scanner, key| {
                found
                    .take(scanner, key)
                    .ok_or(JsonError::Syntax(scanner.position()))
            })
            .ok()?;
        if found.frame_type? != "\"publish\"" {
            return None;
        }
        let payload_at = found.payload?;
        let (before_id, after_id) = match found.id {
            None => (&text[..payload_at], None),
            Some((at, digits)) => {
                json::as_integer(digits)?;
                (&text[..at], Some(&text[at + digits.len()..payload_at]))
            }
        };
        let repeated = Self {
            before_id: before_id.into(),
            after_id: after_id.map(Into::into),
            topic: json::as_text(found.topic?)?.as_ref().into(),
            ack: found.ack.map_or(Ok(Ack::default()), publish::ack).ok()?,
        };
        // It must find in this frame what it will find in the next one: line breaks, or something behind the payload.
        (payload_at <= HEAD_BYTES_MAX && repeated.read(text).is_some()).then_some(repeated)
    }

    /// Reads the id and the payload of a frame that differs from the one before in nothing else; none if it is
    /// another one, or wrong.
    #[inline]
    #[must_use]
    pub fn read<'a>(&self, text: &'a str) -> Option<(Option<u64>, &'a str)> {
        let rest = text.strip_prefix(&*self.before_id)?;
        let (id, rest) = match &self.after_id {
            None => (None, rest),
            Some(after_id) => {
                let (id, rest) = leading_integer(rest)?;
                (Some(id), rest.strip_prefix(&**after_id)?)
            }
        };
        let mut scanner = Scanner::new(rest);
        let payload = scanner.value().ok()?;
        (&rest[scanner.position()..] == "}" && !scanner.saw_line_break()).then_some((id, payload))
    }

    /// The topic that all of them go to.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// When all of them are answered.
    #[must_use]
    pub fn ack(&self) -> Ack {
        self.ack
    }
}

impl<'a> Found<'a> {
    /// Takes in a field; none if it is not one that may be repeated, or stands behind the payload.
    fn take(&mut self, scanner: &mut Scanner<'a>, key: &str) -> Option<()> {
        let at = scanner.position();
        let value = scanner.value().ok()?;
        if self.payload.is_some() {
            return None;
        }
        let is_new = match key {
            "type" => self.frame_type.replace(value).is_none(),
            "topic" => self.topic.replace(value).is_none(),
            "ack" => self.ack.replace(value).is_none(),
            "id" => self.id.replace((at, value)).is_none(),
            "payload" => self.payload.replace(at).is_none(),
            _ => false,
        };
        is_new.then_some(())
    }
}

/// The whole number at the start of `text`, and what follows it.
#[inline]
fn leading_integer(text: &str) -> Option<(u64, &str)> {
    let bytes = text.as_bytes();
    let mut number = 0;
    let mut count = 0;
    while let Some(&digit @ b'0'..=b'9') = bytes.get(count) {
        if count == ID_DIGITS_MAX {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
        count += 1;
    }
    let has_leading_zero = count > 1 && bytes[0] == b'0';
    (count > 0 && !has_leading_zero).then(|| (number, &text[count..]))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        FrameId,
        client::{ClientFrame, NewRecord, Payload, Publish, Records, Request, To},
    };

    fn shown(text: &str) -> String {
        match ClientFrame::decode(text) {
            Ok(frame) => match frame.request {
                Request::Publish(publish) => format!("{:?} {publish:?}", frame.id),
                other => format!("{:?} {other:?}", frame.id),
            },
            Err(bad) => format!("{bad:?}"),
        }
    }

    /// Has `next` read as a repetition of `first`, which must come to the same as reading it alone.
    fn check(first: &str, next: &str) -> bool {
        let Some(repeated) = Repeated::learn(first) else {
            return false;
        };
        let Some((id, payload)) = repeated.read(next) else {
            return false;
        };
        let publish = Publish {
            to: To::Topic(repeated.topic().into()),
            ack: repeated.ack(),
            timeout_ms: None,
            records: Records::One(NewRecord {
                payload: Payload::Json(payload.into()),
                ..NewRecord::default()
            }),
        };
        let id = id.map(FrameId::Number);
        assert_eq!(format!("{id:?} {publish:?}"), shown(next), "{first} then {next}");
        true
    }

    #[test]
    fn frame_that_differs_in_id_and_payload_is_read_as_a_repetition() {
        for (first, next) in [
            (
                r#"{"type":"publish","topic":"a","payload":1}"#,
                r#"{"type":"publish","topic":"a","payload":{"b":[1,"\u00e4",null]}}"#,
            ),
            (
                r#"{"type":"publish","id":9,"topic":"a.b","ack":"none","payload":"x"}"#,
                r#"{"type":"publish","id":10,"topic":"a.b","ack":"none","payload":"y"}"#,
            ),
        ] {
            assert!(check(first, next), "{first} then {next}");
        }
        let spaced =
            |id, payload| format!(r#"{{"id": {id}, "type": "publish", "topic": "a", "payload": {payload}}}"#);
        assert!(check(&spaced(0, "1"), &spaced(7, " 22")));
    }

    #[test]
    fn what_is_not_alike_is_read_alone() {
        let first = r#"{"type":"publish","id":1,"topic":"a","payload":1}"#;
        for next in [
            r#"{"type":"publish","id":01,"topic":"a","payload":1}"#,
            r#"{"type":"publish","id":"1","topic":"a","payload":1}"#,
            r#"{"type":"publish","id":1.0,"topic":"a","payload":1}"#,
            r#"{"type":"publish","id":-1,"topic":"a","payload":1}"#,
            r#"{"type":"publish","id":9007199254740993,"topic":"a","payload":1}"#,
            r#"{"type":"publish","id":2,"topic":"b","payload":1}"#,
            r#"{"type":"publish","id":2,"topic":"a","payload":1,"key":"k"}"#,
            r#"{"type":"publish","id":2,"topic":"a","payload":1} "#,
            r#"{"type":"publish","id":2,"topic":"a","payload":1"#,
            r#"{"type":"publish","id":2,"topic":"a","payload":}"#,
            r#"{"type":"publish","id":2,"topic":"a","payload":01}"#,
            "{\"type\":\"publish\",\"id\":2,\"topic\":\"a\",\"payload\":[1,\n2]}",
            "",
        ] {
            assert!(!check(first, next), "{next}");
        }
        let deep = format!(
            r#"{{"type":"publish","id":2,"topic":"a","payload":{}1{}}}"#,
            "[".repeat(129),
            "]".repeat(129)
        );
        assert!(!check(first, &deep));
    }

    #[test]
    fn frame_with_other_fields_is_not_learnt() {
        for first in [
            r#"{"type":"publish","topic":"a","key":"k","payload":1}"#,
            r#"{"type":"publish","topic":"a","payload":1,"ack":"none"}"#,
            r#"{"type":"publish","topic":"a","payload":1,"payload":2}"#,
            r#"{"type":"publish","topic":"a","topic":"b","payload":2}"#,
            r#"{"type":"publish","topic":"a","ack":"never","payload":2}"#,
            r#"{"type":"publish","topic":7,"payload":2}"#,
            r#"{"type":"publish","id":"text","topic":"a","payload":2}"#,
            r#"{"type":"publish","exchange":"a","payload":2}"#,
            r#"{"type":"ping","topic":"a","payload":2}"#,
            "{\"type\":\"publish\",\"topic\":\"a\",\"payload\":[\n]}",
            r#"{"topic":"a","payload":2}"#,
            "[]",
            "",
        ] {
            assert_eq!(Repeated::learn(first), None, "{first}");
        }
    }

    proptest! {
        #[test]
        fn repetition_is_never_read_otherwise_than_alone(
            first in r#"\{("type":"publish",|"id":[0-9]{1,3},|"topic":"a",|"ack":"none",|"ack":null,| ){2,5}"payload":(1|"x"|\{\})\}"#,
            id in "[0-9]{1,17}|null|\"x\"",
            payload in r#"[0-9]{1,3}|"[a\\"n]{0,3}"|\[[0-9, \n]{0,4}\]|null|tru"#,
        ) {
            let next = with_other(&first, &id, &payload);
            check(&first, &next);
            check(&first, &first);
        }
    }

    /// `first` with another id, if it has one, and another payload.
    fn with_other(first: &str, id: &str, payload: &str) -> String {
        let (head, _) = first.split_once("\"payload\":").unwrap();
        let head = match head.split_once("\"id\":") {
            None => head.to_owned(),
            Some((before, after)) => format!("{before}\"id\":{id}{}", &after[after.find(',').unwrap()..]),
        };
        format!("{head}\"payload\":{payload}}}")
    }
}

//! Bodies of requests: read with a limit on everything, and held as the text that they are.

use std::{cell::Cell, time::Duration};

use actix_web::{HttpMessage as _, HttpRequest, http::StatusCode, web::Payload};
use callboard_protocol::{ErrorCode, error::Refusal, limits::FRAME_BYTES_MAX};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::web::problem::Problem;

/// Largest body that is an array of records.
pub const ARRAY_BYTES_MAX: usize = 8 << 20;
/// How much of a body that is too large is still taken, so that its sender gets to read the answer.
const DISCARD_BYTES_MAX: usize = 32 << 20;
/// A body whose sender is silent for this long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Bytes of bodies that one worker thread holds at once.
const HELD_BYTES_MAX: usize = 256 << 20;

thread_local! {
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// What a body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// One object, as large as a frame.
    Object,
    /// One object as large as a frame, or an array that may be larger.
    Records,
}

/// The text of a body; counted while it is held.
pub struct Body {
    text: String,
    _held: Held,
}

impl Body {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The fields of a body that is `what`: one object that has the `known` fields and no others, because one that
    /// is misspelt would do nothing and nobody would notice.
    ///
    /// # Errors
    /// `bad_frame` for what is no such object, `invalid_argument` for another field.
    pub fn fields<T: DeserializeOwned>(&self, what: &str, known: &[&str]) -> Result<T, Refusal> {
        object(&self.text, what, known)
    }
}

struct Held(usize);

impl Held {
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let total = HELD_BYTES.get() + bytes;
        if total > HELD_BYTES_MAX {
            let message = "too many large requests at once";
            return Err(Refusal::new(ErrorCode::Overloaded, message));
        }
        HELD_BYTES.set(total);
        self.0 += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD_BYTES.set(HELD_BYTES.get() - self.0);
    }
}

fn object<T: DeserializeOwned>(text: &str, what: &str, known: &[&str]) -> Result<T, Refusal> {
    let bad = |error: serde_json::Error| {
        Refusal::new(ErrorCode::BadFrame, format!("{what} is a JSON object: {error}"))
    };
    // An array would be taken for the fields in their order.
    let fields: Map<String, Value> = serde_json::from_str(text).map_err(bad)?;
    if let Some(other) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        let shown: String = other.chars().take(64).collect();
        let message = format!("{what} has no field {shown:?}; it has {}", known.join(", "));
        return Err(Refusal::new(ErrorCode::InvalidArgument, message));
    }
    T::deserialize(Value::from(fields)).map_err(bad)
}

/// Reads a request's body.
///
/// # Errors
/// `invalid_argument` for a content type that is not JSON, `frame_too_large`, `bad_frame` for what is not
/// UTF-8 or ended early, `timeout` when nothing came for too long, `overloaded`.
pub async fn read(request: &HttpRequest, mut payload: Payload, expect: Expect) -> Result<Body, Problem> {
    check_media(request)?;
    let mut bytes = Vec::new();
    let mut held = Held(0);
    while let Some(chunk) = next(&mut payload).await? {
        if bytes.len() + chunk.len() > limit(&bytes, &chunk, expect) {
            discard(&mut payload).await;
            return Err(too_large(expect));
        }
        held.grow(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Body { text, _held: held }),
        Err(_) => Err(Refusal::new(ErrorCode::BadFrame, "the body is not UTF-8").into()),
    }
}

async fn next(payload: &mut Payload) -> Result<Option<bytes::Bytes>, Problem> {
    match tokio::time::timeout(SILENCE_MAX, payload.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(error))) => {
            let message = format!("the body could not be read: {error}");
            Err(Refusal::new(ErrorCode::BadFrame, message).into())
        }
        Err(_) => {
            let refusal = Refusal::new(ErrorCode::Timeout, "the body did not come in time");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, refusal))
        }
    }
}

/// How long the body may be, from what came of it so far.
fn limit(bytes: &[u8], chunk: &[u8], expect: Expect) -> usize {
    let first = bytes.iter().chain(chunk).find(|byte| !byte.is_ascii_whitespace());
    match (expect, first) {
        (Expect::Records, Some(b'[')) => ARRAY_BYTES_MAX,
        _ => FRAME_BYTES_MAX,
    }
}

fn too_large(expect: Expect) -> Problem {
    let message = match expect {
        Expect::Object => format!("a body has at most {FRAME_BYTES_MAX} bytes"),
        Expect::Records => {
            format!("a record has at most {FRAME_BYTES_MAX} bytes, an array of them {ARRAY_BYTES_MAX}")
        }
    };
    Refusal::new(ErrorCode::FrameTooLarge, message).into()
}

async fn discard(payload: &mut Payload) {
    let mut discarded = 0;
    while let Ok(Some(chunk)) = next(payload).await {
        discarded += chunk.len();
        if discarded > DISCARD_BYTES_MAX {
            return;
        }
    }
}

/// JSON, and what clients say of JSON that they did not label: nothing, or what `curl -d` says.
fn check_media(request: &HttpRequest) -> Result<(), Problem> {
    let media = request.content_type().to_ascii_lowercase();
    let is_json = matches!(
        media.as_str(),
        "" | "application/json" | "text/json" | "text/plain" | "application/x-www-form-urlencoded"
    ) || media.ends_with("+json");
    if !is_json {
        return Err(Problem::invalid(format!(
            "the body must be application/json, not {media}"
        )));
    }
    let coding = request.headers().get(actix_web::http::header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| coding != "identity") {
        return Err(Problem::invalid("the body must not be compressed"));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Pair {
        name: String,
        count: Option<u64>,
    }

    fn pair(text: &str) -> Result<Pair, ErrorCode> {
        object(text, "a pair", &["name", "count"]).map_err(|refusal| refusal.code)
    }

    #[test]
    fn an_object_has_its_fields_and_no_others() {
        let name = "n".to_owned();
        assert_eq!(pair(r#"{"name":"n"}"#), Ok(Pair { name, count: None }));
        assert_eq!(pair(r#"{"count":5,"name":"n"}"#).unwrap().count, Some(5));
        for (text, code) in [
            ("", ErrorCode::BadFrame),
            (r#"["n",5]"#, ErrorCode::BadFrame),
            (r#""n""#, ErrorCode::BadFrame),
            ("{}", ErrorCode::BadFrame),
            (r#"{"name":5}"#, ErrorCode::BadFrame),
            (r#"{"name":"n","count":-1}"#, ErrorCode::BadFrame),
            (r#"{"name":"n","counts":1}"#, ErrorCode::InvalidArgument),
        ] {
            assert_eq!(pair(text), Err(code), "{text}");
        }
    }
}

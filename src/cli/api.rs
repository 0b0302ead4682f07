//! REST as the commands speak it: one request at a time, and what the broker's problems say.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Failure, address::ServerArgs};

/// Longest answer that is read, bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

/// The REST interface of one broker.
pub(super) struct Api<'a> {
    base: String,
    server: &'a ServerArgs,
}

impl<'a> Api<'a> {
    /// The one at this address; paths are below `/api/v1`.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the address is not a broker's.
    pub(super) fn new(server: &'a ServerArgs) -> Result<Self, Failure> {
        Ok(Self {
            base: format!("{}/api/v1", server.http()?),
            server,
        })
    }

    /// Asks, and returns the answer's body.
    ///
    /// # Errors
    /// [`Failure`] carries the broker's reason.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Map<String, Value>>,
    ) -> Result<String, Failure> {
        let text = body.map(|body| serde_json::to_string(body).expect("a JSON object is written as JSON"));
        let (status, answer) = request(method, &format!("{}{path}", self.base), text)
            .map_err(|error| self.server.hint(&error))?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        match serde_json::from_str::<Problem>(&answer) {
            Ok(problem) if !problem.code.is_empty() => {
                let text = if problem.detail.is_empty() {
                    problem.title
                } else {
                    problem.detail
                };
                Err(Failure::new(format!("{}: {text}", problem.code)))
            }
            _ => Err(Failure::new(format!(
                "the server answered HTTP {status}; is it a Callboard?"
            ))),
        }
    }
}

/// A name as a path: what is not of a topic's alphabet is escaped, and the broker says that it is none.
pub(super) fn path(name: &str) -> String {
    let mut path = String::from("/");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'$' => {
                path.push(char::from(byte))
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// One HTTP request; status and body of the answer.
///
/// # Errors
/// No answer came; the text says why.
pub(super) fn request(method: &str, url: &str, body: Option<String>) -> Result<(u16, String), ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(std::time::Duration::from_secs(30)))
        .build()
        .into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", "application/json")
        .body(body.unwrap_or_default())?;
    let mut response = agent.run(request)?;
    let status = response.status().as_u16();
    let text = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()?;
    Ok((status, text))
}

/// What to say of an answer that is not as expected.
pub(super) fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::new(format!(
        "the server's answer cannot be read ({error}); is it a Callboard of this version?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_cannot_leave_its_place_in_the_path() {
        assert_eq!(path("orders.eu-1"), "/orders.eu-1");
        assert_eq!(path("a/../b?c"), "/a%2F..%2Fb%3Fc");
    }
}

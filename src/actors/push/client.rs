//! Calls to one endpoint, over a few connections that are kept for the next call.
//!
//! Owns the idle connections to one target, bounded. A call ends in the time that it is given, whatever the other
//! side does: redirects are not followed, and a body that does not end is left.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT},
};

use super::{
    connect::{CallError, Connector, Sender},
    retry_after::retry_after_ms,
    target::Target,
};

/// How much of an answer's body is read, so that its connection can be used again.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long that may take: the status has come, and nobody waits for the rest.
const BODY_TIME_MAX: Duration = Duration::from_secs(1);
/// A connection that was idle for longer is not used again: many servers close theirs after a minute.
const IDLE_MAX: Duration = Duration::from_secs(30);
const USER_AGENT_TEXT: &str = concat!("callboard/", env!("CARGO_PKG_VERSION"));

/// What is sent.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Path and query, as a checked URL has them.
    pub path: Arc<str>,
    /// Besides `Host`, `User-Agent` and `Content-Length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// How long to wait, if it says so.
    pub retry_after_ms: Option<u64>,
}

/// One target and the connections to it.
pub struct Endpoint {
    connector: Arc<Connector>,
    target: Target,
    idle: RefCell<Vec<(Sender, Instant)>>,
    idle_max: usize,
}

impl Endpoint {
    /// A target without connections yet, of which at most `idle_max` are kept.
    pub fn new(connector: Arc<Connector>, target: Target, idle_max: usize) -> Self {
        Self {
            connector,
            target,
            idle: RefCell::default(),
            idle_max,
        }
    }

    /// Sends a POST and waits for its answer, for `timeout` in all. Dropped, it ends its connection.
    ///
    /// # Errors
    /// Each variant of [`CallError`].
    pub async fn post(&self, call: &Call, timeout: Duration) -> Result<Answer, CallError> {
        let until = Instant::now() + timeout;
        let (sender, response) = tokio::time::timeout_at(until.into(), self.ask(call))
            .await
            .unwrap_or(Err(CallError::TimedOut(timeout.as_millis())))?;
        let answer = Answer {
            status: response.status().as_u16(),
            retry_after_ms: response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| retry_after_ms(value.to_str().ok()?, crate::actors::clock::now())),
        };
        // The status is the answer: a body that is late makes no failure of it.
        let until = until.min(Instant::now() + BODY_TIME_MAX);
        if is_read_to_its_end(response, until).await {
            self.keep(sender);
        }
        Ok(answer)
    }

    async fn ask(&self, call: &Call) -> Result<(Sender, Response<Incoming>), CallError> {
        if let Some(sender) = self.take_idle()
            && let Ok(answered) = self.ask_on(sender, call).await
        {
            return Ok(answered);
        }
        // Without an idle one, or if it was closed just as it was used: no failure of the endpoint's.
        let sender = self.connector.connect(&self.target).await?;
        self.ask_on(sender, call).await
    }

    async fn ask_on(
        &self,
        mut sender: Sender,
        call: &Call,
    ) -> Result<(Sender, Response<Incoming>), CallError> {
        let request = self.request(call)?;
        let no_answer = |error: hyper::Error| CallError::NoAnswer(cause(&error));
        sender.ready().await.map_err(no_answer)?;
        let response = sender.send_request(request).await.map_err(no_answer)?;
        Ok((sender, response))
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, CallError> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = Method::POST;
        let malformed = |error: &dyn std::fmt::Display| CallError::NoAnswer(error.to_string());
        *request.uri_mut() = call.path.parse().map_err(|error| malformed(&error))?;
        *request.headers_mut() = call.headers.clone();
        let host = HeaderValue::from_str(&self.target.authority).map_err(|error| malformed(&error))?;
        request.headers_mut().insert(HOST, host);
        let agent = HeaderValue::from_static(USER_AGENT_TEXT);
        request.headers_mut().insert(USER_AGENT, agent);
        Ok(request)
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(is_usable);
        idle.pop().map(|(sender, _)| sender)
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.idle_max && !sender.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }

    /// Closes connections that were idle for too long.
    pub fn sweep(&self) {
        self.idle.borrow_mut().retain(is_usable);
    }
}

/// Throws the body away; whether all of it came until then, so that the connection can be used again.
async fn is_read_to_its_end(response: Response<Incoming>, until: Instant) -> bool {
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
    let read = tokio::time::timeout_at(until.into(), body.collect()).await;
    matches!(read, Ok(Ok(_)))
}

fn is_usable((sender, since): &(Sender, Instant)) -> bool {
    !sender.is_closed() && since.elapsed() < IDLE_MAX
}

/// What is at the bottom of an error: the library's own words say only where it was noticed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut lowest = error;
    while let Some(source) = lowest.source() {
        lowest = source;
    }
    lowest.to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;
    use crate::actors::push::address::AllowPrivate;

    #[test]
    fn status_counts_although_its_body_does_not_come_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let endpoint = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive.")
                .unwrap();
            // Until the other side has had enough.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let tasks = tokio::task::LocalSet::new();
        let answer = tasks.block_on(&runtime, async {
            let connector = Arc::new(Connector::new(AllowPrivate::Yes));
            let target = Target::parse(&url, AllowPrivate::Yes).unwrap();
            let endpoint = Endpoint::new(connector, target, 1);
            let call = Call {
                path: "/".into(),
                ..Call::default()
            };
            let answer = endpoint.post(&call, BODY_TIME_MAX / 4).await;
            assert!(endpoint.idle.borrow().is_empty(), "a body is under way on it");
            answer
        });
        drop((tasks, runtime));
        assert_eq!(answer.map(|answer| answer.status), Ok(200));
        endpoint.join().unwrap();
    }
}

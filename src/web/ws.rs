//! The WebSocket handshake. After it the socket leaves the HTTP stack and belongs to a SessionActor.
//!
//! Every request with `Upgrade` comes here, and no middleware runs on it: other paths, other protocols and
//! origins that are not allowed are answered here.

use std::{io::Write as _, net::SocketAddr, rc::Rc, time::Duration};

use actix_codec::Framed;
use actix_http::{
    HttpMessage as _, Request, StatusCode, h1,
    header::{HeaderMap, HeaderName, USER_AGENT},
    ws::handshake,
};
use actix_rt::net::TcpStream;
use callboard_protocol::{ErrorCode, error::Refusal};
use tokio::io::AsyncWriteExt;

use super::{origin::OriginRules, problem::Problem};
use crate::actors::{
    clock,
    conn::{Conn, ConnParts},
    hub::Hub,
    session::SessionActor,
    wire::Format,
};

const SUBPROTOCOL: HeaderName = actix_http::header::SEC_WEBSOCKET_PROTOCOL;
/// What an administrator is shown of a client's name for itself.
const CLIENT_BYTES_MAX: usize = 120;

/// Answers an upgrade request, and starts a session if it is one.
pub async fn upgrade(
    request: Request,
    framed: Framed<TcpStream, h1::Codec>,
    hub: Rc<Hub>,
    rules: Rc<OriginRules>,
) {
    let parts = framed.into_parts();
    // What the HTTP codec has read beyond the request are frames of the client's already.
    let (mut stream, came) = (parts.io, parts.read_buf);
    let outcome = accept(&request, &hub, &rules);
    let head = match &outcome {
        Ok((_, head)) => head,
        Err(answer) => answer,
    };
    // A client that is gone before its answer needs none.
    if stream.write_all(head).await.is_err() {
        return;
    }
    let Ok((format, _)) = outcome else {
        let _ = stream.shutdown().await;
        return;
    };
    // A peer that is gone without a word takes Pings no longer than this.
    let timeout = Duration::from_millis(hub.shared.settings.session_timeout_ms);
    if let Err(error) = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(timeout)) {
        log::debug!("the socket keeps the system's time-out: {error}");
    }
    let fallback = SocketAddr::from(([0, 0, 0, 0], 0));
    let remote = stream.peer_addr().unwrap_or(fallback);
    let parts = ConnParts {
        id: hub.next_conn_id(),
        stream,
        remote,
        client: client(request.headers()),
        format,
        now: clock::now(),
    };
    SessionActor::start_on(hub, Rc::new(Conn::new(parts)), came);
}

/// Checks the request and makes the head of its answer.
fn accept(request: &Request, hub: &Hub, rules: &OriginRules) -> Result<(Format, Vec<u8>), Vec<u8>> {
    let refuse = |status: StatusCode, code: ErrorCode, detail: &str| Err(problem(status, code, detail));
    if let Err(error) = rules.check(request.headers()) {
        return refuse(StatusCode::FORBIDDEN, ErrorCode::Forbidden, &error.to_string());
    }
    if request.path() != "/ws" {
        return refuse(
            StatusCode::NOT_FOUND,
            ErrorCode::InvalidArgument,
            "WebSocket is served at /ws",
        );
    }
    if hub.shared.is_shutting_down() {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::ShuttingDown,
            "the broker is shutting down",
        );
    }
    let mut answer = match handshake(request.head()) {
        Ok(mut answer) => answer.finish(),
        Err(error) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                ErrorCode::InvalidArgument,
                &error.to_string(),
            );
        }
    };
    let (format, named) = choose(request.headers());
    let mut head = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for (name, value) in answer.headers_mut().iter() {
        push_header(&mut head, name.as_str(), value.as_bytes());
    }
    push_header(&mut head, "connection", b"upgrade");
    if let Some(named) = named {
        push_header(&mut head, SUBPROTOCOL.as_str(), named.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    Ok((format, head))
}

fn push_header(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// The first subprotocol asked for that is known, and what the answer must name.
fn choose(headers: &HeaderMap) -> (Format, Option<&'static str>) {
    let known = [Format::Json, Format::Ndjson];
    for value in headers.get_all(SUBPROTOCOL) {
        let asked = value.to_str().unwrap_or_default().split(',').map(str::trim);
        for name in asked {
            if let Some(format) = known.into_iter().find(|format| format.subprotocol() == name) {
                return (format, Some(format.subprotocol()));
            }
        }
    }
    (Format::Json, None)
}

fn client(headers: &HeaderMap) -> Box<str> {
    let name = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    name.chars().take(CLIENT_BYTES_MAX).collect::<String>().into()
}

/// A whole answer with a problem, for requests that never reach the ordinary routes.
fn problem(status: StatusCode, code: ErrorCode, detail: &str) -> Vec<u8> {
    let body = Problem::new(status, Refusal::new(code, detail)).body();
    let mut answer = Vec::new();
    write!(
        answer,
        "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nsec-websocket-version: 13\r\nconnection: close\r\n\r\n{body}",
        body.len(),
    )
    .expect("writing to memory does not fail");
    answer
}

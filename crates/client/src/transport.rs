//! The socket: text messages in and out, nothing about frames.
//!
//! Everything else in the crate uses only [`open`], [`Socket`] and [`Incoming`]; a browser build
//! replaces this module and no other.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, Utf8Bytes,
        client::IntoClientRequest as _,
        http::{HeaderValue, Uri, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

use crate::error::Error;

/// The subprotocol of one frame a line, several lines a message.
const SUBPROTOCOL: &str = "callboard.v1.ndjson";
/// Largest message taken from a broker: a page of `fetch` is 1 MiB and one record more.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What came from the socket.
pub(crate) enum Incoming {
    /// One or more lines.
    Text(Utf8Bytes),
    /// A Ping or a Pong: the other side lives.
    Alive,
}

/// What one turn of the socket brought.
pub(crate) enum Turn {
    /// Something came.
    Received(Incoming),
    /// The outgoing message is with the operating system.
    Sent,
}

/// Whether a turn may take something from the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Yes.
    On,
    /// Not now: whoever it is for has no room.
    Off,
}

/// An open WebSocket.
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// Something is written but not yet flushed.
    is_unflushed: bool,
    /// Which direction goes first; it alternates, so that neither starves the other.
    reads_first: bool,
}

/// Connects and shakes hands.
///
/// # Errors
/// [`Error::Address`] if `url` can never work, [`Error::Connect`] if it did not this time.
pub(crate) async fn open(url: &str, timeout: Duration) -> Result<Socket, Error> {
    let (host, port) = host_and_port(url)?;
    let failed = |reason: String| Error::Connect {
        url: url.to_owned(),
        reason,
    };
    let connecting = async {
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(|error| failed(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| failed(error.to_string()))?;
        let mut request = url
            .into_client_request()
            .map_err(|error| failed(error.to_string()))?;
        request
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let (socket, response) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
            .await
            .map_err(|error| failed(describe(&error)))?;
        if response
            .headers()
            .get(SEC_WEBSOCKET_PROTOCOL)
            .is_none_or(|name| name != SUBPROTOCOL)
        {
            return Err(failed(format!(
                "the server does not speak {SUBPROTOCOL}; is it a Callboard?"
            )));
        }
        Ok(Socket {
            stream: socket,
            is_unflushed: false,
            reads_first: false,
        })
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(outcome) => outcome,
        Err(_) => Err(failed(format!("no answer within {} ms", timeout.as_millis()))),
    }
}

impl Socket {
    /// Sends `outgoing` and receives at the same time; returns with whichever is done first.
    ///
    /// Both directions go on together because a broker stops reading from a client that does not
    /// read its replies. May be dropped and called again without loss; `outgoing` is `None` once the
    /// message was taken over.
    ///
    /// # Errors
    /// What ended the connection.
    pub(crate) async fn turn(
        &mut self,
        outgoing: &mut Option<String>,
        reading: Reading,
    ) -> Result<Turn, String> {
        self.reads_first = !self.reads_first;
        std::future::poll_fn(|context| {
            if self.reads_first
                && reading == Reading::On
                && let Poll::Ready(outcome) = self.poll_receive(context)
            {
                return Poll::Ready(outcome.map(Turn::Received));
            }
            if (self.is_unflushed || outgoing.is_some())
                && let Poll::Ready(outcome) = self.poll_send(context, outgoing)
            {
                return Poll::Ready(outcome.map(|()| Turn::Sent));
            }
            if !self.reads_first
                && reading == Reading::On
                && let Poll::Ready(outcome) = self.poll_receive(context)
            {
                return Poll::Ready(outcome.map(Turn::Received));
            }
            Poll::Pending
        })
        .await
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        outgoing: &mut Option<String>,
    ) -> Poll<Result<(), String>> {
        if outgoing.is_some() {
            ready!(self.stream.poll_ready_unpin(context)).map_err(|error| describe(&error))?;
            if let Some(text) = outgoing.take() {
                self.is_unflushed = true;
                self.stream
                    .start_send_unpin(Message::text(text))
                    .map_err(|error| describe(&error))?;
            }
        }
        ready!(self.stream.poll_flush_unpin(context)).map_err(|error| describe(&error))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, String>> {
        loop {
            return Poll::Ready(match ready!(self.stream.poll_next_unpin(context)) {
                Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
                Some(Ok(Message::Ping(_))) => {
                    // The library queues the answer; only a flush sends it while nothing else is sent.
                    self.is_unflushed = true;
                    Ok(Incoming::Alive)
                }
                Some(Ok(Message::Pong(_))) => Ok(Incoming::Alive),
                Some(Ok(Message::Close(Some(close)))) => Err(format!(
                    "closed by the broker: {} {}",
                    u16::from(close.code),
                    close.reason
                )),
                Some(Ok(Message::Close(None))) | None => Err("closed by the broker".to_owned()),
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => Err(describe(&error)),
            });
        }
    }

    /// Says good-bye and waits, for at most `timeout`, until the broker has read everything before it.
    pub(crate) async fn close(&mut self, timeout: Duration) {
        let closing = async {
            if self.stream.send(Message::Close(None)).await.is_ok() {
                while let Some(Ok(message)) = self.stream.next().await {
                    if message.is_close() {
                        return;
                    }
                }
            }
        };
        // A broker that does not answer the close frame is left without it.
        let _ = tokio::time::timeout(timeout, closing).await;
    }
}

fn describe(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Http(response) => format!("the server answered HTTP {}", response.status()),
        other => other.to_string(),
    }
}

fn host_and_port(url: &str) -> Result<(String, u16), Error> {
    let wrong = |reason: &str| Error::Address {
        url: url.to_owned(),
        reason: reason.to_owned(),
    };
    let uri: Uri = url.parse().map_err(|_| wrong("write it as ws://host:port/ws"))?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => return Err(wrong("TLS is not available in this version; use ws://")),
        _ => return Err(wrong("write it as ws://host:port/ws")),
    }
    let host = uri.host().ok_or_else(|| wrong("it has no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, uri.port_u16().unwrap_or(80)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn address_names_host_and_port() {
        assert_eq!(host_and_port("ws://[::1]:81/ws").unwrap(), ("::1".to_owned(), 81));
        assert_eq!(
            host_and_port("ws://broker/ws").unwrap(),
            ("broker".to_owned(), 80)
        );
    }

    #[test]
    fn address_of_another_scheme_is_refused_with_the_right_one() {
        for url in ["wss://a/ws", "http://a", "a:80", ""] {
            let error = host_and_port(url).unwrap_err();
            assert!(error.to_string().contains("ws://"), "{error}");
        }
    }
}

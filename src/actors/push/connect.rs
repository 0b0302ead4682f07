//! How a call gets a connection: the name is looked up, the addresses are checked, and one of those that were
//! checked is connected to.
//!
//! Owns the certificates that are trusted. Nothing is kept between connects but these, so that a name that
//! leads to another address the next time is checked anew. There are no proxies: one would be asked to go where
//! the broker must not.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    sync::OnceCell,
    time::{Instant, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{InvalidDnsNameError, ServerName},
    },
};

use super::{
    address::AllowPrivate,
    target::{Scheme, Target, TargetHost},
};

/// A connect that takes longer than this has failed, however long the whole call may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A connection on which requests can be sent.
pub type Sender = SendRequest<Full<Bytes>>;

/// Why there is no answer; the text is what people are shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It took too long.
    #[error("timed out after {0} ms")]
    TimedOut(u128),
    /// The host has only addresses that must not be called.
    #[error("refused: {0} is not a public address")]
    Forbidden(String),
    /// The name leads nowhere.
    #[error("{0} could not be looked up: {1}")]
    Unknown(String, String),
    /// Nobody could be reached.
    #[error("could not connect: {0}")]
    Unreachable(String),
    /// Who was reached is not who was meant, or speaks no TLS.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The connection ended before an answer came, or what came was no HTTP.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

/// See the module.
pub struct Connector {
    allow: AllowPrivate,
    tls: OnceCell<TlsConnector>,
}

impl Connector {
    /// One that calls what it is allowed to.
    pub fn new(allow: AllowPrivate) -> Self {
        Self {
            allow,
            tls: OnceCell::new(),
        }
    }

    /// What may be called.
    pub fn allow(&self) -> AllowPrivate {
        self.allow
    }

    /// Connects to where a target is now.
    ///
    /// # Errors
    /// Each variant of [`CallError`] but [`CallError::NoAnswer`].
    pub async fn connect(&self, target: &Target) -> Result<Sender, CallError> {
        let until = Instant::now() + CONNECT_MAX;
        let opening = async {
            let addresses = self.addresses(target).await?;
            let stream = open(&addresses, until).await?;
            // What is sent is one request, written as one; it must not wait for an acknowledgement.
            if let Err(error) = stream.set_nodelay(true) {
                log::debug!("a call's socket may hold small messages back: {error}");
            }
            match target.scheme {
                Scheme::Http => shake_hands(stream).await,
                Scheme::Https => {
                    let tls = self.tls().await?;
                    let name =
                        server_name(&target.host).map_err(|error| CallError::Tls(error.to_string()))?;
                    let stream = tls.connect(name, stream).await;
                    shake_hands(stream.map_err(|error| CallError::Tls(error.to_string()))?).await
                }
            }
        };
        timeout_at(until, opening)
            .await
            .unwrap_or(Err(CallError::TimedOut(CONNECT_MAX.as_millis())))
    }

    /// The addresses of a target that may be called.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, CallError> {
        let found: Vec<SocketAddr> = match &target.host {
            TargetHost::Address(address) => vec![SocketAddr::new(*address, target.port)],
            TargetHost::Name(name) => lookup_host((name.as_str(), target.port))
                .await
                .map_err(|error| CallError::Unknown(name.clone(), error.to_string()))?
                .collect(),
        };
        if found.is_empty() {
            return Err(CallError::Unknown(target.host_text(), "it has no address".into()));
        }
        let allowed = permitted(self.allow, found);
        if allowed.is_empty() {
            return Err(CallError::Forbidden(target.host_text()));
        }
        Ok(allowed)
    }

    /// What speaks TLS; made at the first call that needs it, because reading the system's certificates takes
    /// a moment and a file.
    async fn tls(&self) -> Result<&TlsConnector, CallError> {
        // A failure is not remembered: certificates may be there the next time.
        let made = self.tls.get_or_try_init(|| async {
            let made = tokio::task::spawn_blocking(load_tls).await;
            made.unwrap_or_else(|error| Err(CallError::Tls(error.to_string())))
        });
        made.await
    }
}

/// Those of the addresses that may be called, the first few.
fn permitted(allow: AllowPrivate, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let allowed = found.into_iter().filter(|address| allow.allows(address.ip()));
    allowed.take(ADDRESSES_MAX).collect()
}

fn load_tls() -> Result<TlsConnector, CallError> {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        log::warn!("a trusted certificate could not be read: {error}");
    }
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        return Err(CallError::Tls(
            "this system has no trusted certificates; install ca-certificates or set SSL_CERT_FILE".into(),
        ));
    }
    log::info!("{added} certificates are trusted for calls over TLS, {ignored} are not understood");
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| CallError::Tls(error.to_string()))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn server_name(host: &TargetHost) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match host {
        TargetHost::Name(name) => ServerName::try_from(name.clone()),
        TargetHost::Address(address) => Ok(ServerName::IpAddress((*address).into())),
    }
}

/// Connects to the first address that answers; each has its share of the time.
async fn open(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, CallError> {
    let mut failed = CallError::Unreachable("there is no address".into());
    for (tried, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - tried) as u32;
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = CallError::Unreachable(error.to_string()),
            Err(_) => failed = CallError::Unreachable(format!("{} does not answer", address.ip())),
        }
    }
    Err(failed)
}

async fn shake_hands<S>(stream: S) -> Result<Sender, CallError>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| CallError::NoAnswer(error.to_string()))?;
    // Ends when its sender is dropped or the other side closes; what went wrong the sender hears, too.
    tokio::task::spawn_local(async move { drop(connection.await) });
    Ok(sender)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn only_the_public_addresses_of_a_name_are_used() {
        let found = addresses(&[
            "127.0.0.1:80",
            "8.8.8.8:80",
            "[::1]:80",
            "[::ffff:10.0.0.1]:80",
            "[2606:4700::1]:80",
        ]);
        let public = addresses(&["8.8.8.8:80", "[2606:4700::1]:80"]);
        assert_eq!(permitted(AllowPrivate::No, found.clone()), public);
        assert_eq!(
            permitted(AllowPrivate::Yes, found.clone()),
            found[..ADDRESSES_MAX]
        );
    }

    #[test]
    fn name_that_leads_to_this_machine_is_refused_when_it_is_connected_to() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let tasks = tokio::task::LocalSet::new();
        // As a name would be whose owner changed its address after the webhook was made.
        let target = Target::parse("http://localhost:9/", AllowPrivate::Yes).unwrap();
        let refused = tasks.block_on(&runtime, Connector::new(AllowPrivate::No).connect(&target));
        assert_eq!(refused.err(), Some(CallError::Forbidden("localhost".into())));
    }
}

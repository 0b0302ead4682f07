//! Who may connect: a web page from elsewhere must not read or delete a developer's topics.
//!
//! Applies to WebSocket and REST alike, before anything else is looked at.

use std::net::SocketAddr;

use actix_http::header::{HOST, HeaderMap, ORIGIN};

/// The rules of one listener.
#[derive(Clone, Debug)]
pub struct OriginRules {
    allowed: Vec<String>,
    listens_on_loopback: bool,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// A page of another origin.
    #[error("this origin is not allowed; start the broker with --allow-origin to allow it")]
    Origin,
    /// A name that was pointed at this machine from elsewhere.
    #[error("this broker listens on loopback and answers only to a loopback Host")]
    Host,
}

impl OriginRules {
    /// Rules for a listener at `listen`; `allowed` are origins as browsers send them.
    pub fn new(listen: SocketAddr, allowed: &[String]) -> Self {
        let normal = |origin: &String| origin.trim_end_matches('/').to_ascii_lowercase();
        Self {
            allowed: allowed.iter().map(normal).collect(),
            listens_on_loopback: listen.ip().is_loopback(),
        }
    }

    /// Checks a request's headers.
    ///
    /// # Errors
    /// [`OriginError`] says which rule it breaks.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), OriginError> {
        let mut hosts = headers.get_all(HOST);
        let host = match hosts.next() {
            None => None,
            Some(value) => Some(
                value
                    .to_str()
                    .map_err(|_| OriginError::Host)?
                    .to_ascii_lowercase(),
            ),
        };
        if hosts.next().is_some() {
            return Err(OriginError::Host);
        }
        if self.listens_on_loopback && host.as_deref().is_some_and(|host| !is_loopback(host)) {
            return Err(OriginError::Host);
        }
        let mut origins = headers.get_all(ORIGIN);
        let Some(origin) = origins.next() else {
            return Ok(());
        };
        if origins.next().is_some() {
            return Err(OriginError::Origin);
        }
        let origin = origin
            .to_str()
            .map_err(|_| OriginError::Origin)?
            .to_ascii_lowercase();
        if self
            .allowed
            .iter()
            .any(|allowed| *allowed == origin || allowed == "*")
        {
            return Ok(());
        }
        let Some(authority) = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
        else {
            return Err(OriginError::Origin);
        };
        let is_own = !self.listens_on_loopback && host.as_deref() == Some(authority);
        if is_loopback(authority) || is_own {
            Ok(())
        } else {
            Err(OriginError::Origin)
        }
    }
}

/// Whether `host[:port]` is a name of this machine's loopback.
fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use actix_http::header::HeaderValue;

    use super::*;

    fn check(listen: &str, host: &str, origin: Option<&str>) -> Result<(), OriginError> {
        let rules = OriginRules::new(listen.parse().unwrap(), &["https://app.example/".to_owned()]);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        rules.check(&headers)
    }

    #[test]
    fn pages_from_elsewhere_are_refused_and_local_ones_served() {
        const LOCAL: &str = "127.0.0.1:8080";
        for good in [
            None,
            Some("http://localhost:3000"),
            Some("http://127.0.0.1:8080"),
            Some("http://[::1]:1"),
            Some("https://app.example"),
            Some("https://dev.localhost"),
        ] {
            assert_eq!(check(LOCAL, "localhost:8080", good), Ok(()), "{good:?}");
        }
        for bad in [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://localhost:80@evil.example",
            "file://",
            "http://app.example",
            "",
        ] {
            assert_eq!(
                check(LOCAL, "localhost", Some(bad)),
                Err(OriginError::Origin),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_rebound_name_is_refused_on_loopback() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost:8080:1",
            "[::1",
        ] {
            assert_eq!(
                check("127.0.0.1:8080", host, None),
                Err(OriginError::Host),
                "{host}"
            );
        }
        for host in ["127.0.0.1:8080", "localhost", "[::1]:8080", "127.9.9.9"] {
            assert_eq!(check("127.0.0.1:8080", host, None), Ok(()), "{host}");
        }
    }

    #[test]
    fn beyond_loopback_a_page_of_the_same_host_is_served() {
        assert_eq!(
            check("0.0.0.0:80", "broker.example", Some("http://broker.example")),
            Ok(())
        );
        assert_eq!(
            check("0.0.0.0:80", "broker.example", Some("http://other.example")),
            Err(OriginError::Origin)
        );
        assert_eq!(check("0.0.0.0:80", "broker.example", None), Ok(()));
    }
}

//! Where a call goes: a URL that was checked once, in the parts that a call needs.

use std::{net::IpAddr, sync::Arc};

use callboard_protocol::{ErrorCode, error::Refusal};
use url::{Host, Url};

use super::address::AllowPrivate;

/// Longest URL.
pub const URL_BYTES_MAX: usize = 2048;

/// A checked URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether TLS is spoken.
    pub scheme: Scheme,
    /// Who is called.
    pub host: TargetHost,
    /// On which port.
    pub port: u16,
    /// What `Host` says: the port only if it is not the scheme's own.
    pub authority: String,
    /// What is asked for there.
    pub path: Arc<str>,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP as it is.
    Http,
    /// HTTP over TLS.
    Https,
}

/// Who is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetHost {
    /// A name, looked up at every connect.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// Checks a URL that a client gave. What a name leads to is checked at every connect and not here, because it
/// may lead elsewhere by then.
///
/// # Errors
/// `invalid_argument` for what is no `http` or `https` URL or says who asks, `forbidden` for an address that is
/// not public.
pub fn check_url(text: &str, allow: AllowPrivate) -> Result<Url, Refusal> {
    let invalid = |message: String| Refusal::new(ErrorCode::InvalidArgument, message);
    if text.len() > URL_BYTES_MAX {
        return Err(invalid(format!("a url has at most {URL_BYTES_MAX} bytes")));
    }
    let url = Url::parse(text).map_err(|error| invalid(format!("url: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(format!("url: {} is not http or https", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let message = "url: a user or a password in it would be shown to all; check the signature instead";
        return Err(invalid(message.into()));
    }
    let is_refused = match url.host() {
        Some(Host::Ipv4(address)) => !allow.allows(address.into()),
        Some(Host::Ipv6(address)) => !allow.allows(address.into()),
        Some(Host::Domain(name)) => allow == AllowPrivate::No && is_local_name(name),
        None => return Err(invalid("url: it names no host".into())),
    };
    let asked = path_of(&url);
    if let Err(error) = asked.parse::<hyper::Uri>() {
        return Err(invalid(format!("url: {asked} can not be asked for: {error}")));
    }
    if is_refused {
        return Err(forbidden(url.host_str().unwrap_or_default()));
    }
    Ok(url)
}

fn path_of(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

/// What is said of a host that is not public.
pub fn forbidden(host: &str) -> Refusal {
    let message = format!("{host} is not a public address; serve with --webhook-allow-private to call it");
    Refusal::new(ErrorCode::Forbidden, message)
}

/// Names that are this machine's own by definition. Source: RFC 6761, section 6.3.
fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

impl Target {
    /// The parts of a URL that [`check_url`] has let pass.
    ///
    /// # Errors
    /// As [`check_url`]; a URL that is kept may be older than the setting.
    pub fn parse(text: &str, allow: AllowPrivate) -> Result<Self, Refusal> {
        let url = check_url(text, allow)?;
        let (scheme, standard_port) = match url.scheme() {
            "https" => (Scheme::Https, 443),
            _ => (Scheme::Http, 80),
        };
        let port = url.port().unwrap_or(standard_port);
        let host_text = url.host_str().unwrap_or_default();
        let authority = if port == standard_port {
            host_text.to_owned()
        } else {
            format!("{host_text}:{port}")
        };
        let host = match url.host() {
            Some(Host::Ipv4(address)) => TargetHost::Address(address.into()),
            Some(Host::Ipv6(address)) => TargetHost::Address(address.into()),
            Some(Host::Domain(name)) => TargetHost::Name(name.to_owned()),
            None => TargetHost::Name(String::new()),
        };
        let path = path_of(&url).into();
        Ok(Self {
            scheme,
            host,
            port,
            authority,
            path,
        })
    }

    /// Who is called, as text.
    pub fn host_text(&self) -> String {
        match &self.host {
            TargetHost::Name(name) => name.clone(),
            TargetHost::Address(address) => address.to_string(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn url_falls_into_the_parts_of_a_call() {
        let target = Target::parse("https://Hooks.Example/a%20b?x=1&y=%2f#part", AllowPrivate::No).unwrap();
        assert_eq!(target.scheme, Scheme::Https);
        assert_eq!(target.host, TargetHost::Name("hooks.example".into()));
        assert_eq!((target.port, target.authority.as_str()), (443, "hooks.example"));
        assert_eq!(&*target.path, "/a%20b?x=1&y=%2f");
        let target = Target::parse("http://[2606:4700::1]:8080", AllowPrivate::No).unwrap();
        assert_eq!(target.host, TargetHost::Address("2606:4700::1".parse().unwrap()));
        assert_eq!(
            (target.port, target.authority.as_str(), &*target.path),
            (8080, "[2606:4700::1]:8080", "/")
        );
    }

    #[test]
    fn what_is_no_url_to_call_is_an_invalid_argument() {
        for text in [
            "",
            "hooks.example/a",
            "ftp://hooks.example/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "http://",
            "http://user@hooks.example/",
            "https://user:secret@hooks.example/",
            &format!("https://hooks.example/{}", "a".repeat(URL_BYTES_MAX)),
        ] {
            let refusal = check_url(text, AllowPrivate::Yes).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidArgument, "{text}");
        }
    }

    #[test]
    fn private_addresses_are_forbidden_however_they_are_spelt() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "%31%32%37.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
            "192.168.1.1:8080",
            "LOCALHOST",
            "localhost.",
            "a.localhost:3000",
        ] {
            let text = format!("http://{host}/");
            let refusal = check_url(&text, AllowPrivate::No).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::Forbidden, "{host}");
            check_url(&text, AllowPrivate::Yes).unwrap();
        }
        check_url("http://localhost.example/", AllowPrivate::No).unwrap();
    }
}

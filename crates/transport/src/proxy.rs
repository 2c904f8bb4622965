//! Proxies on the way to a server that is reached over TLS, as Go programs find them: `HTTPS_PROXY` of the environment, unless
//! `NO_PROXY` names the server, and never for this machine itself (golang.org/x/net/http/httpproxy).

use std::net::IpAddr;

use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;

/// What the environment says of proxies.
#[derive(Debug)]
pub struct Rules {
    /// As it is written, with what it says of who asks.
    written: Option<Uri>,
    matcher: Matcher,
}

/// A proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    written: Uri,
    bare: Uri,
    auth: Option<HeaderValue>,
}

/// Why a proxy cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the proxy that HTTPS_PROXY names is reached by {0:?}: only http:// can carry events")]
pub struct BadProxy(String);

impl Rules {
    /// The rules of this process.
    pub fn from_env() -> Self {
        let read = |name: &str| {
            let names = [name.to_owned(), name.to_lowercase()];
            let mut values = names.iter().filter_map(|name| std::env::var(name).ok());
            values.find(|value| !value.is_empty()).unwrap_or_default()
        };
        Self::new(&read("HTTPS_PROXY"), &read("NO_PROXY"))
    }

    /// The rules of these values.
    pub fn new(https_proxy: &str, no_proxy: &str) -> Self {
        let whole = if https_proxy.is_empty() || https_proxy.contains("://") {
            https_proxy.to_owned()
        } else {
            format!("http://{https_proxy}")
        };
        let matcher = Matcher::builder().https(whole.clone()).no(no_proxy);
        Self {
            written: whole.parse().ok(),
            matcher: matcher.build(),
        }
    }

    /// The proxy on the way to a server.
    pub fn on_the_way(&self, server: &Uri) -> Option<Proxy> {
        if server.host().is_none_or(is_here) {
            return None;
        }
        let mut parts = server.clone().into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let found = self.matcher.intercept(&Uri::from_parts(parts).ok()?)?;
        Some(Proxy {
            written: self.written.clone()?,
            bare: found.uri().clone(),
            auth: found.basic_auth().cloned(),
        })
    }
}

fn is_here(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

impl Proxy {
    /// As it is written, with the name and the password of who asks.
    pub fn uri(&self) -> &Uri {
        &self.written
    }

    /// Opens connections through it.
    pub(crate) fn tunnel(self) -> Result<Tunnel<HttpConnector>, BadProxy> {
        let scheme = self.bare.scheme_str().unwrap_or_default();
        if scheme != "http" {
            return Err(BadProxy(scheme.to_owned()));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let tunnel = Tunnel::new(self.bare, connector);
        Ok(match self.auth {
            Some(auth) => tunnel.with_auth(auth),
            None => tunnel,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(proxy: &str, no: &str, server: &str, expected: Option<&str>) {
        let server: Uri = server.parse().expect("a server");
        let found = Rules::new(proxy, no).on_the_way(&server);
        let found = found.map(|found| found.uri().to_string());
        assert_eq!(found.as_deref(), expected, "{proxy} {no} {server}");
    }

    #[test]
    fn a_proxy_is_on_the_way_unless_somebody_says_no() {
        let proxy = "http://proxy.example:3128/";
        let hub = "https://hub.example.com:8443";
        check("", "", hub, None);
        check(proxy, "", hub, Some(proxy));
        check("proxy.example:3128", "", hub, Some(proxy));
        check(proxy, "", "hub.example.com:8443", Some(proxy));
        let known = "http://ann:secret@proxy.example:3128/";
        check(known, "", hub, Some(known));
        for no in ["*", "example.com", ".example.com", "a, hub.example.com"] {
            check(proxy, no, hub, None);
        }
        check(proxy, "10.0.0.0/8", hub, Some(proxy));
        check(proxy, "10.0.0.0/8", "https://10.1.2.3:6443", None);
        for here in [
            "https://localhost:1",
            "https://127.0.0.1:1",
            "https://[::1]:1",
        ] {
            check(proxy, "", here, None);
        }
    }

    #[test]
    fn only_plain_proxies_carry_events() {
        let open = |proxy: &str| {
            let server = Uri::from_static("https://hub.example.com");
            let found = Rules::new(proxy, "").on_the_way(&server);
            found.expect("a proxy").tunnel().map(|_| ())
        };
        assert!(open("http://proxy.example").is_ok());
        let why = open("https://proxy.example").expect_err("TLS").to_string();
        assert!(why.contains("\"https\""), "{why}");
    }
}

//! Where a server is: an https origin (RFC 6454, 4) and nothing behind it.
//!
//! Must never take a path, a user name or another scheme: what is configured is what is connected to.

use super::ConfigError;

/// An `https://host[:port]` origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Host name, as it stands in the server's certificate.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Origin {
    /// The origin as a URL without a trailing slash.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.host, self.port)
    }

    /// Reads one that stands at `key`.
    ///
    /// # Errors
    ///
    /// Anything that is not an https origin.
    pub fn parse(key: &'static str, text: &str) -> Result<Self, ConfigError> {
        let wrong = |why| ConfigError::OperatorValue {
            key,
            value: text.to_owned(),
            why,
        };
        let rest = text
            .strip_prefix("https://")
            .ok_or_else(|| wrong("must begin with https://"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong("the port must be 1 to 65535"))?),
            None => (rest, 443),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) || port == 0 {
            return Err(wrong("must be https://HOST[:PORT] with nothing behind it"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

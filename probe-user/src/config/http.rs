//! What an HTTP probe sends and expects beside the address, the status and the text.

use serde_json::Value;

use super::secret::Secret;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpOptions {
    pub method: HttpMethod,
    /// Names and values, in addition to those that every request has or in their place.
    pub headers: Vec<(String, Secret)>,
    pub body: Option<Secret>,
    /// Redirects are followed, and the last answer counts.
    pub redirects: bool,
    pub version: HttpVersion,
    /// JSON Pointers (RFC 6901) and what has to be there.
    pub expect_json: Vec<(String, Value)>,
    /// The passwords and tokens in headers and body.
    pub secrets: Vec<Secret>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpMethod {
    #[default]
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
}

impl HttpMethod {
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Options, Self::Post, Self::Put, Self::Patch, Self::Delete];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// The version of HTTP that a probe speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// Over TLS what the server chooses (ALPN), and 1.1 otherwise.
    #[default]
    Auto,
    Http1,
    /// Over TLS by ALPN, and otherwise by prior knowledge (h2c).
    Http2,
}

impl HttpVersion {
    pub const ALL: [Self; 3] = [Self::Auto, Self::Http1, Self::Http2];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Http1 => "1.1",
            Self::Http2 => "2",
        }
    }
}

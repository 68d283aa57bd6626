//! The request of a probe, and what a redirect makes of it.

use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use reqwest::{Body, Client, Method, Response, StatusCode, Url};

use super::target::{AGENT, Target, host_and_port};
use crate::{
    config::{HttpMethod, Probe},
    fact::ProbeFailure,
    probe::failure::Failure,
};

/// One request of a run.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) target: Target,
    method: HttpMethod,
    /// Whether the headers and the body of the configuration are sent.
    sends: Sends,
}

#[derive(Clone, Copy, Debug)]
struct Sends {
    headers: bool,
    body: bool,
}

impl Hop {
    pub(super) fn first(probe: &Probe, target: Target) -> Self {
        Self { target, method: probe.http.method, sends: Sends { headers: true, body: true } }
    }

    /// The request, with a whole URL; None if there can be none.
    pub(super) fn request(&self, probe: &Probe, client: &Client) -> Option<hyper::Request<Body>> {
        let method = Method::from_bytes(self.method.as_str().as_bytes()).ok()?;
        let url = self.target.url.clone();
        let host = HeaderValue::try_from(host_and_port(&url)).ok()?;
        let body = probe.http.body.as_ref().filter(|_| self.sends.body);
        let mut builder = client.request(method, url);
        if let Some(body) = body {
            builder = builder.body(body.expose().to_owned());
        }
        let mut request = hyper::Request::<Body>::try_from(builder.build().ok()?).ok()?;
        let length = body.map(|body| HeaderValue::from(body.expose().len()));
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.extend(length.map(|length| (hyper::header::CONTENT_LENGTH, length)));
        for (name, value) in probe.http.headers.iter().filter(|_| self.sends.headers) {
            headers.insert(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.expose()).ok()?);
        }
        Some(request)
    }

    /// The request that a response redirects to; None if it is the answer.
    pub(super) fn next(&self, probe: &Probe, response: &Response) -> Result<Option<Self>, Failure> {
        let status = response.status();
        let location = response.headers().get(LOCATION).filter(|_| probe.http.redirects);
        let Some(location) =
            location.filter(|_| (301..=308).contains(&status.as_u16()) && status != StatusCode::NOT_MODIFIED)
        else {
            return Ok(None);
        };
        let target =
            location.to_str().ok().and_then(|location| self.target.join(location)).ok_or_else(|| {
                let text = format!("{} redirects to what is no http or https address", self.target.peer());
                Failure::new(ProbeFailure::Rejected, text)
            })?;
        // RFC 9110, section 15.4: these become a GET.
        let becomes_get = match status {
            StatusCode::SEE_OTHER => self.method != HttpMethod::Head,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == HttpMethod::Post,
            _ => false,
        };
        let is_same = self.target.url.origin() == target.url.origin();
        let method = if becomes_get { HttpMethod::Get } else { self.method };
        // What is for one server is not for another.
        let sends = Sends {
            headers: self.sends.headers && is_same,
            body: self.sends.body && is_same && !becomes_get,
        };
        let target = if is_same { target.with_user_of(&self.target.url) } else { target };
        Ok(Some(Self { target, method, sends }))
    }
}

impl Target {
    /// With the user and password of another URL.
    fn with_user_of(mut self, other: &Url) -> Self {
        // It fails where there is no host, and then there is no user either.
        let _ = self.url.set_username(other.username());
        let _ = self.url.set_password(other.password());
        self
    }
}

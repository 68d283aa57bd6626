//! What a request over HTTP asks for: the parameters after `?`, each with a bound.

use std::time::Duration;

use axum::http::Uri;
use percent_encoding::percent_decode_str;

use crate::config::duration;

/// The longest query, in bytes: a name of the longest, with each byte as three.
const QUERY_MAX: usize = 2048;

/// The longest name of a service, in characters.
pub(super) const NAME_MAX: usize = 128;

/// The longest period that is asked for, in days: more is not kept.
pub(super) const LONGEST_DAYS: u64 = 400;
const LONGEST: Duration = Duration::from_secs(LONGEST_DAYS * 24 * 3600);

/// The parameters that some answers take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// `since`: the last so long.
    pub since: Option<Duration>,
    /// `service`: of this one alone.
    pub service: Option<String>,
}

impl Query {
    /// The parameters of a request. The error is a sentence for the client.
    pub fn of(uri: &Uri) -> Result<Self, String> {
        let text = uri.query().unwrap_or_default();
        if text.len() > QUERY_MAX {
            return Err(format!("a query has at most {QUERY_MAX} bytes"));
        }
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value)
                .decode_utf8()
                .map_err(|_| format!("{name:?}: its value is not UTF-8"))?;
            let is_first = match name {
                "since" => query.since.replace(period(&value)?).is_none(),
                "service" => query.service.replace(service(&value)?).is_none(),
                other => return Err(format!("unknown parameter {other:?}; there are since and service")),
            };
            if !is_first {
                return Err(format!("{name} is given twice"));
            }
        }
        Ok(query)
    }
}

fn period(text: &str) -> Result<Duration, String> {
    let period = duration(text).map_err(|expected| format!("since={text:?}: {expected}"))?;
    if period.is_zero() || period > LONGEST {
        return Err(format!("since={text:?}: expected more than nothing and at most 400d"));
    }
    Ok(period)
}

fn service(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().count() > NAME_MAX || text.chars().any(char::is_control) {
        return Err(format!("service: expected a name of 1 to {NAME_MAX} characters, and none of control"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Query, String> {
        Query::of(&format!("/api/v1/report{query}").parse().unwrap())
    }

    #[test]
    fn parameters_are_read_and_bounded() {
        assert_eq!(of(""), Ok(Query::default()));
        let day = Some(Duration::from_secs(86_400));
        assert_eq!(of("?since=24h&service=a%2Db"), Ok(Query { since: day, service: Some("a-b".to_owned()) }));
        assert_eq!(of("?since=1d&"), Ok(Query { since: day, service: None }));
        // No service has such a name, and the answer says so.
        let name = "ä \u{202e}".repeat(42);
        let encoded = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC);
        assert_eq!(of(&format!("?service={encoded}")).map(|query| query.service), Ok(Some(name)));
        let long = format!("?service={}", "x".repeat(129));
        let longer = format!("?x={}", "x".repeat(QUERY_MAX));
        for wrong in [
            "?since=",
            "?since=0s",
            "?since=401d",
            "?since=99999999999999999999d",
            "?since=-1h",
            "?service=",
            "?service=%ff",
            "?service=a%0Ab",
            "?service=%C2%85",
            "?other=1",
            "?since=1d&since=2d",
            &long,
            &longer,
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}

//! The way of the fuzzers to what a request over HTTP brings along.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Uri, header};

use super::{access, query::Query};

/// The parameters of a request: `since` and `service`. None for what is no address; the error is a sentence.
pub fn query(uri: &str) -> Option<Result<(Option<Duration>, Option<String>), String>> {
    let uri: Uri = uri.parse().ok()?;
    Some(Query::of(&uri).map(|query| (query.since, query.service)))
}

/// The token that the values of `Authorization` hold.
pub fn token(values: &[&[u8]]) -> Option<Vec<u8>> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(value).ok()?);
    }
    access::given(&headers)
}

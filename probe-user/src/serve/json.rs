//! Answers in JSON.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use crate::escape::escaped_json;

/// JSON that a terminal can show, where `curl` is run.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut json) => {
            escaped_json(&mut json);
            ([(header::CONTENT_TYPE, "application/json")], json).into_response()
        }
        // Only a map without string keys could fail, and there is none.
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

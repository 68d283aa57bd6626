//! One table of what HTTP answers. The router and its description (`serve/openapi.rs`) are made from it, so neither has what the
//! other lacks.

use axum::{Router, routing::MethodRouter};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// One path of the router.
pub(super) struct Route {
    pub path: &'static str,
    pub method: Method,
    /// One word for programs that are made from the description.
    pub id: &'static str,
    pub summary: &'static str,
    /// Whether it is answered without the token.
    pub is_open: bool,
    pub parameters: &'static [Parameter],
    pub answers: Vec<Answer>,
    pub handler: MethodRouter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

/// What a request may bring along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Since,
    Service,
    /// A service that has to be named.
    OneService,
    IncidentId,
    JobName,
    LastEventId,
}

/// One status of an answer.
pub(super) struct Answer {
    pub status: u16,
    pub meaning: &'static str,
    pub bodies: Vec<Body>,
}

/// What an answer holds.
pub(super) enum Body {
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// Of this media type, without a schema.
    Of(&'static str),
}

impl Answer {
    /// 200 with JSON of this type.
    pub fn json<T: JsonSchema>(meaning: &'static str) -> Self {
        Self { status: 200, meaning, bodies: vec![Body::Json(|generator| generator.subschema_for::<T>())] }
    }

    /// 200 with a body of this media type.
    pub fn of(media_type: &'static str, meaning: &'static str) -> Self {
        Self { status: 200, meaning, bodies: vec![Body::Of(media_type)] }
    }

    /// A sentence.
    pub fn text(status: u16, meaning: &'static str) -> Self {
        Self { status, meaning, bodies: vec![Body::Of("text/plain")] }
    }

    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

/// A route that takes no parameters.
pub(super) fn get_route(
    (path, id): (&'static str, &'static str),
    summary: &'static str,
    answers: Vec<Answer>,
    handler: MethodRouter,
) -> Route {
    Route { path, method: Method::Get, id, summary, is_open: false, parameters: &[], answers, handler }
}

pub(super) fn router(routes: Vec<Route>) -> Router {
    routes.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler))
}

//! The description of what HTTP answers, in OpenAPI 3.1: from the table of routes and the types of the answers.

use axum::{http::header, response::IntoResponse as _, routing::get};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    query::{LONGEST_DAYS, NAME_MAX},
    route::{Answer, Body, Method, Parameter, Route, get_route},
};

const PATH: &str = "/api/v1/openapi.json";

/// As [`document`] makes it; a test holds the two together. It is served from here, so that no request waits for it to be made.
const TEXT: &str = include_str!("../../../docs/openapi.json");

const ABOUT: &str = "What hostprobe shows over HTTP. Nothing of the host can be changed here. \
    A request under a name that is not one of the host is answered 421 on loopback, one without the token 401 where \
    http.token_file is set, and one in plain text 400 where http.tls is set.";

pub(super) fn route() -> Route {
    let handler = get(async || ([(header::CONTENT_TYPE, "application/json")], TEXT).into_response());
    let answer = Answer::of("application/json", "OpenAPI 3.1");
    get_route((PATH, "openapi"), "This description.", vec![answer], handler)
}

/// The description of these routes.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut schemas = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let method = match route.method {
            Method::Get => "get",
            Method::Post => "post",
        };
        let operation = operation(route, &mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "hostprobe", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT },
        "servers": [{ "url": "/" }],
        "security": [{}, { "bearer": [] }, { "password": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "The token of http.token_file." },
                "password": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The same token as the password of any user, as browsers send it."
                },
            },
            "schemas": schemas.take_definitions(true),
        },
    })
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for answer in &route.answers {
        responses.insert(answer.status.to_string(), response(answer, schemas));
    }
    if !route.is_open {
        let refused = Answer::text(401, "The token is missing or wrong.");
        responses.entry("401").or_insert(response(&refused, schemas));
    }
    let foreign = Answer::text(421, "The name in `Host` is not one of this host.");
    responses.insert("421".to_owned(), response(&foreign, schemas));
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "responses": responses,
    });
    if route.is_open {
        operation["security"] = json!([]);
    }
    if !route.parameters.is_empty() {
        operation["parameters"] = route.parameters.iter().map(|it| parameter(*it)).collect();
    }
    operation
}

fn response(answer: &Answer, schemas: &mut SchemaGenerator) -> Value {
    let mut content = Map::new();
    for body in &answer.bodies {
        match body {
            Body::Json(schema) => {
                content.insert("application/json".to_owned(), json!({ "schema": schema(schemas) }));
            }
            Body::Of(media_type) => {
                content.insert((*media_type).to_owned(), json!({}));
            }
        }
    }
    json!({ "description": answer.meaning, "content": content })
}

fn parameter(parameter: Parameter) -> Value {
    let service = json!({ "type": "string", "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$", "minLength": 1, "maxLength": NAME_MAX });
    match parameter {
        Parameter::Since => json!({
            "name": "since",
            "in": "query",
            "description": format!(
                "The last so long: a number and ms, s, m, h or d, at most {LONGEST_DAYS}d. The pattern has the usual ones."
            ),
            "schema": {
                "type": "string",
                "pattern": "^(?:[1-9][0-9]{0,6}s|[1-9][0-9]{0,4}m|[1-9][0-9]{0,2}h|[1-9][0-9]?d|[123][0-9][0-9]d)$",
                "examples": ["24h", "30d"],
            },
        }),
        Parameter::Service => json!({
            "name": "service",
            "in": "query",
            "description": "Of this service alone.",
            "schema": service,
        }),
        Parameter::OneService => json!({
            "name": "service",
            "in": "query",
            "required": true,
            "description": "The service.",
            "schema": service,
        }),
        Parameter::IncidentId => json!({
            "name": "id",
            "in": "path",
            "required": true,
            "description": "Its id, or a part of it that no other one has.",
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9-]{1,64}$" },
        }),
        Parameter::JobName => json!({
            "name": "name",
            "in": "path",
            "required": true,
            "description": "The name of the `heartbeat` probe.",
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" },
        }),
        Parameter::LastEventId => json!({
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The id of the last event that the client has got: it gets the later ones first.",
            "schema": { "type": "string", "pattern": "^[!-~]+$", "maxLength": 128 },
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::serve;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

    #[test]
    fn the_description_in_the_documentation_is_that_of_the_routes() {
        let expected = format!("{:#}\n", serve::openapi());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(FILE, &expected).unwrap();
        }
        let found = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(found == expected, "docs/openapi.json is out of date: run this test with UPDATE_DOCS=1");
    }

    /// The generator adds a number where two types share a name.
    #[test]
    fn no_schema_has_a_number_for_a_name() {
        let document = serve::openapi();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let numbered: Vec<_> =
            schemas.keys().filter(|name| name.ends_with(|it: char| it.is_ascii_digit())).collect();
        assert!(numbered.is_empty() && !schemas.contains_key("Answer"), "{numbered:?}");
    }

    #[test]
    fn each_operation_has_an_id_of_its_own_and_names_only_schemas_that_exist() {
        let document = serve::openapi();
        let operations: Vec<&Value> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|path| path.as_object().unwrap().values())
            .collect();
        let ids: BTreeSet<&str> = operations.iter().map(|it| it["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), operations.len());
        let text = document.to_string();
        for named in text.split("\"#/components/schemas/").skip(1) {
            let name = named.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}

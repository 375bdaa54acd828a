//! The OpenAPI 3.1 document of both APIs, made from the table of endpoints, from what [`table`] says of each, and from
//! the schemas of the types that travel.

mod operation;
mod table;
mod types;

use std::sync::OnceLock;

use actix_web::HttpResponse;
use serde_json::{Map, Value, json};

use super::problem::Document;
use super::roles::{ENDPOINTS, Endpoint, Who};
use operation::{Parts, plain};
use types::Types;

/// The document, also checked in as `schemas/openapi.json`. Endpoints without an operation in its table are missing.
#[must_use]
pub fn openapi() -> Value {
    let mut types = Types::new();
    let mut parts = Parts::new(types.of::<Document<'_>>());
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let Some(operation) = table::operation(&mut types, endpoint) else {
            continue;
        };
        let at = paths.entry(plain(endpoint.path)).or_insert_with(|| json!({}));
        if let Value::Object(at) = at {
            let operation = operation.render(endpoint, &mut parts);
            at.insert(endpoint.method.to_ascii_lowercase(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Keyward",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The host API, `/vm`, by which hypervisors launch guests and ask for their secrets; and the \
                owner API, `/v1`. A request that is refused is answered with a problem document (RFC 9457) whose \
                `type` is a path at which this server explains it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": types.definitions(),
            "responses": parts.responses(),
            "headers": operation::headers(),
            "parameters": operation::parameters(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `keyward token create`. `x-keyward-roles` of an operation are the \
                        roles that may call it.",
                },
            },
        },
    })
}

/// `GET /openapi.json`.
pub(super) async fn document() -> HttpResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| openapi().to_string());
    HttpResponse::Ok()
        .content_type("application/json")
        .body(text.as_str())
}

/// The roles that may call it; none: anybody.
fn roles(endpoint: &Endpoint) -> Option<Vec<&'static str>> {
    match endpoint.who {
        Who::Anybody | Who::Hosts => None,
        Who::Roles(roles) => Some(roles.iter().map(|role| role.as_str()).collect()),
    }
}

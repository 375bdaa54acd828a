//! The OpenAPI document says of every endpoint what it takes, what it answers, and how it fails.

use std::collections::BTreeSet;

use keyward::http::{ENDPOINTS, Who, openapi};
use serde_json::{Value, json};

use crate::support::App;

fn plain(path: &str) -> String {
    path.replace(":.+", "")
}

/// Every value below, with the path to it.
fn walk<'a>(value: &'a Value, path: &str, each: &mut dyn FnMut(&str, &'a Value)) {
    each(path, value);
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, member)| walk(member, &format!("{path}/{name}"), each)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(n, item)| walk(item, &format!("{path}/{n}"), each)),
        _ => {}
    }
}

#[test]
fn every_endpoint_has_an_operation_with_the_roles_that_may_call_it() {
    let document = openapi();
    let mut expected = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for endpoint in ENDPOINTS {
        let (path, method) = (plain(endpoint.path), endpoint.method.to_lowercase());
        let operation = &document["paths"][&path][&method];
        assert!(
            operation["summary"].is_string(),
            "{method} {path} has no operation"
        );
        let roles = match endpoint.who {
            Who::Anybody | Who::Hosts => Value::Null,
            Who::Roles(roles) => roles.iter().map(|role| role.as_str()).collect(),
        };
        assert_eq!(operation["x-keyward-roles"], roles, "{method} {path}");
        let security = match endpoint.who {
            Who::Anybody => json!([]),
            Who::Hosts => json!([{}, {"token": []}]),
            Who::Roles(_) => json!([{"token": []}]),
        };
        assert_eq!(operation["security"], security, "{method} {path}");
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap()),
            "{method} {path}"
        );
        let statuses = operation["responses"].as_object().unwrap();
        assert!(
            statuses.keys().any(|status| status.starts_with('2')),
            "{method} {path}"
        );
        let body = operation.get("requestBody").is_some();
        assert_eq!(
            body,
            ["post", "put"].contains(&method.as_str()),
            "{method} {path}"
        );
        expected.insert((path, method));
    }
    let paths = document["paths"].as_object().unwrap();
    let said: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, at)| {
            at.as_object()
                .unwrap()
                .keys()
                .map(|method| (path.clone(), method.clone()))
        })
        .collect();
    assert_eq!(said, expected);
}

#[test]
fn every_list_is_asked_for_page_by_page() {
    let document = openapi();
    let mut lists = 0;
    for (path, at) in document["paths"].as_object().unwrap() {
        let schema = &at["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        let Some(name) = schema
            .as_str()
            .and_then(|place| place.strip_prefix("#/components/schemas/"))
        else {
            continue;
        };
        // All objects are read in one moment, so that they are one state when they are applied again.
        if !name.ends_with("List") || name == "ObjectList" {
            continue;
        }
        lists += 1;
        let has = |wanted: &str| {
            let parameters = at["get"]["parameters"].as_array().unwrap();
            parameters.iter().any(|parameter| parameter["name"] == wanted)
        };
        assert!(has("cursor") && has("limit"), "{path}");
        let members = &document["components"]["schemas"][name]["properties"];
        assert!(
            members["next"].is_object() && members["items"].is_object(),
            "{path}"
        );
    }
    assert!(lists > 10, "{lists}");
}

#[test]
fn every_reference_leads_somewhere_and_everything_shared_is_used() {
    let document = openapi();
    let mut used = BTreeSet::new();
    walk(&document, "", &mut |path, value| {
        if let Some(place) = value.get("$ref").and_then(Value::as_str) {
            let pointer = place.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{path}: {place}");
            used.insert(pointer.to_owned());
        }
    });
    for (kind, parts) in document["components"].as_object().unwrap() {
        for name in parts.as_object().unwrap().keys() {
            let place = format!("/components/{kind}/{name}");
            assert!(
                kind == "securitySchemes" || used.contains(&place),
                "{place} is not used"
            );
        }
    }
}

#[test]
fn the_server_shows_the_document_and_explains_every_type_of_problem_in_it() {
    let app = App::new();
    let shown = app.request("GET", "/openapi.json", &[], b"");
    assert_eq!(shown.ok().body, openapi());
    let document = openapi();
    let mut types = BTreeSet::new();
    for response in document["components"]["responses"].as_object().unwrap().values() {
        let told = &response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"];
        for name in told["type"]["enum"].as_array().unwrap() {
            types.insert((
                name.as_str().unwrap().to_owned(),
                told["status"]["const"].as_u64().unwrap(),
            ));
        }
    }
    assert!(types.len() > 10, "{types:?}");
    for (name, status) in types {
        let page = app.request("GET", &name, &[], b"");
        assert_eq!(page.status, 200, "{name}");
        assert!(
            page.body.as_str().unwrap().contains(&format!("HTTP {status}")),
            "{name}"
        );
    }
}

#[test]
fn a_method_that_a_path_does_not_have_is_answered_with_those_it_has() {
    let app = App::new();
    for (method, path, allowed) in [
        ("PATCH", "/v1/secrets/disk", "GET, PUT, DELETE"),
        ("DELETE", "/v1/secrets", "GET"),
        ("TRACE", "/livez", "GET, HEAD"),
        ("GET", "/vm/11111111-2222-4333-8444-555555555555", "POST, PUT"),
    ] {
        let reply = app.request(method, path, &[], b"");
        let reply = reply.expect(405, "method-not-allowed");
        assert_eq!(reply.headers["allow"], allowed, "{method} {path}");
    }
}

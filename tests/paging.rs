//! Every list comes in pages, which what is registered between them does not shift.

use keyward::domain::{Base64Bytes, Role};
use openssl::nid::Nid;
use serde_json::{Value, json};

use crate::policy_signing::{ec, public_pem};
use crate::support::host::{ALLOW, IMAGE, digest};
use crate::support::{App, platform};

/// The items of a list, page by page, with something done after the first of them.
fn walk(ask: impl Fn(&str) -> Value, path: &str, limit: u32, between: impl FnOnce()) -> (Vec<Value>, usize) {
    let separator = if path.contains('?') { '&' } else { '?' };
    let (mut items, mut pages, mut between) = (Vec::new(), 0, Some(between));
    let mut cursor = String::new();
    loop {
        let page = ask(&format!("{path}{separator}limit={limit}{cursor}"));
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        pages += 1;
        let Some(next) = page["next"].as_str() else {
            return (items, pages);
        };
        cursor = format!("&cursor={next}");
        if let Some(between) = between.take() {
            between();
        }
    }
}

fn secret(name: &str) -> Value {
    json!({"kind": "Secret", "name": name, "type": "luks-passphrase", "value": {"generate": 32},
           "policies": ["release.any"]})
}

/// An owner with several objects of each kind.
fn house() -> App {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let firmware = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/first-release/guest/firmware.fd"
    );
    let firmware = Base64Bytes(std::fs::read(firmware).unwrap());
    for name in ["b", "d", "f", "h"] {
        app.apply(json!([
            secret(name),
            {"kind": "KeySet", "name": name, "secrets": [name], "policies": []},
            {"kind": "Firmware", "name": name, "content": firmware},
            {"kind": "Workload", "name": name, "scheme": "amd-sev", "policy": 3,
             "launch_digests": [digest(IMAGE)], "secrets": [name], "policies": []},
        ]));
        app.clock.advance(std::time::Duration::from_secs(1));
        let text = format!("{ALLOW}\n# {name}\n");
        let body = json!({"files": {"release/any.rego": Base64Bytes(text.into_bytes())}});
        app.owner("POST", "/v1/bundles", &body).expect(201, "ok");
        app.mint(Role::Auditor, Some("acme"), None);
    }
    app.run(&platform).1.ok();
    for name in ["b", "d", "f", "h"] {
        let key = json!({"public_key": public_pem(&ec(Nid::X9_62_PRIME256V1))});
        app.owner("PUT", &format!("/v1/signing-keys/{name}"), &key).ok();
    }
    app.service.checkpoint().unwrap();
    app
}

#[test]
fn pages_of_any_size_hold_each_item_once_in_the_list_s_order() {
    let app = house();
    let admin = app.mint(Role::Admin, None, None).text;
    for n in 0..3 {
        let body = json!({"name": format!("owner-{n}")});
        app.as_token(&admin, "POST", "/v1/owners", &body)
            .expect(201, "ok");
    }
    for (n, product) in ["naples", "rome", "genoa"].into_iter().enumerate() {
        let body = json!({"target": {"type": "product", "name": product}, "reason": "x"});
        app.owner("POST", "/v1/freezes", &body).expect(201, "ok");
        let path = format!("/v1/platforms/{}/enrol", format!("0{n}").repeat(32));
        app.owner("POST", &path, &json!({"reason": "x"})).ok();
        app.owner("POST", "/v1/secret-versions/b", &json!({"version": 1}))
            .ok();
        app.apply(json!([secret("b")]));
    }
    for path in [
        "/v1/freezes",
        "/v1/platforms",
        "/v1/impact?workload=web",
        "/v1/secret-versions/b",
        "/v1/secrets",
        "/v1/keysets",
        "/v1/firmware",
        "/v1/workloads",
        "/v1/bundles",
        "/v1/revisions",
        "/v1/signing-keys",
        "/v1/decisions",
        "/v1/limits",
        "/v1/tokens",
        "/v1/owners",
        "/v1/audit/entries",
        "/v1/audit/checkpoints",
    ] {
        let ask = |path: &str| match path.starts_with("/v1/owners") {
            true => app.as_token(&admin, "GET", path, &Value::Null).ok().body,
            false => app.owner("GET", path, &Value::Null).ok().body,
        };
        let (all, pages) = walk(ask, path, 1000, || ());
        assert_eq!(pages, 1, "{path}");
        assert!(!all.is_empty(), "{path}");
        let page = ask(path);
        assert_eq!(page["items"].as_array().unwrap(), &all, "{path}");
        for limit in [1, 2, 3] {
            let (found, _) = walk(ask, path, limit, || ());
            // When a token was used last is written down beside, about once a minute.
            let ids = |list: &[Value]| {
                list.iter()
                    .map(|item| match item.get("id") {
                        Some(id) => id.clone(),
                        None => item.clone(),
                    })
                    .collect::<Vec<_>>()
            };
            assert_eq!(ids(&found), ids(&all), "{path} {limit}");
        }
    }
}

#[test]
fn what_is_registered_and_removed_between_pages_shifts_nothing() {
    let app = house();
    let names = |found: Vec<Value>| -> Vec<String> {
        found
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let ask = |path: &str| app.owner("GET", path, &Value::Null).ok().body;
    // After the first page, `b` and `d`: one before them, one behind, and the last item shown is gone.
    let (found, _) = walk(ask, "/v1/keysets", 2, || {
        app.owner("DELETE", "/v1/keysets/d", &Value::Null);
        for name in ["a", "e"] {
            let set = json!({"name": name, "secrets": ["b"], "policies": []});
            app.owner("PUT", &format!("/v1/keysets/{name}"), &set).ok();
        }
    });
    assert_eq!(names(found), ["b", "d", "e", "f", "h"]);
    let (found, _) = walk(ask, "/v1/tokens", 2, || {
        app.mint(Role::Auditor, Some("acme"), None);
    });
    let all = app.owner("GET", "/v1/tokens", &Value::Null).ok().body;
    assert_eq!(found.len(), all["items"].as_array().unwrap().len());
}

#[test]
fn a_cursor_of_another_list_and_pages_without_bounds_are_refused() {
    let app = house();
    let page = app.owner("GET", "/v1/secrets?limit=1", &Value::Null).ok().body;
    let cursor = page["next"].as_str().unwrap();
    for bad in [
        format!("/v1/keysets?cursor={cursor}"),
        format!("/v1/decisions?cursor={cursor}"),
        "/v1/secrets?cursor=".to_owned(),
        "/v1/secrets?cursor=%00".to_owned(),
        "/v1/secrets?limit=0".to_owned(),
        "/v1/secrets?limit=1001".to_owned(),
        "/v1/secrets?limit=-1".to_owned(),
        "/v1/secrets?limt=1".to_owned(),
        format!("/v1/secrets?cursor={}", "A".repeat(5000)),
    ] {
        app.owner("GET", &bad, &Value::Null).expect(400, "malformed");
    }
}

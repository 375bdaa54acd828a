//! Impact: every launch that received or ran what went wrong, and what must be replaced for it.

use keyward::domain::impact::Cause;
use keyward::store::IncidentStore as _;
use keyward::store::{SqlStore, sqlite::FILE};
use serde_json::{Value, json};

use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, standard};
use crate::support::other::{Other, shared};
use crate::support::{App, platform};

/// All launches that a question finds, by pages of this size, and how many pages those were.
fn walk(app: &App, query: &str, limit: usize) -> (Vec<Value>, usize) {
    let (mut all, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/v1/impact?{query}&limit={limit}{cursor}");
        let page = app.owner("GET", &path, &Value::Null).ok().body;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        all.extend(items.iter().cloned());
        pages += 1;
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (all, pages),
        }
    }
}

fn decisions(found: &[Value]) -> Vec<Value> {
    found.iter().map(|item| item["decision"].clone()).collect()
}

fn rotation(app: &App, query: &str) -> Value {
    app.owner("GET", &format!("/v1/impact?{query}"), &Value::Null)
        .ok()
        .body["rotation"]
        .clone()
}

fn replace(app: &App, value: &str) {
    let mut secret = standard(json!({}))[1].clone();
    secret["value"] = json!({"base64": value});
    app.apply(json!([secret]));
}

#[test]
fn whoever_received_a_secret_is_found_on_however_many_pages() {
    let (app, one, other) = (App::new(), platform(), platform());
    app.standard();
    let mut expected = Vec::new();
    for n in 0..7 {
        let reply = app.run(if n % 3 == 0 { &one } else { &other }).1.ok();
        expected.insert(0, reply.body["decision"].clone());
    }
    // Others that received nothing lie between.
    let mut vm = app.start(&one);
    let request = vm.measure(IMAGE);
    app.bundle(&[("release/any.rego", "package release.any\n\nallow := false\n")]);
    app.post(&vm.path(), &request).expect(403, "denied");
    app.bundle(&[("release/any.rego", ALLOW)]);
    for limit in [1, 2, 3, 7, 100] {
        let (found, pages) = walk(&app, "secret=disk", limit);
        assert_eq!(decisions(&found), expected, "{limit}");
        assert_eq!(pages, 7_usize.div_ceil(limit), "{limit}");
    }
    let (found, _) = walk(&app, "secret=disk", 100);
    let newest = &found[0];
    assert_eq!(newest["time"], "2026-01-02T03:04:05.000Z");
    assert_eq!(newest["secrets"], json!([{"name": "disk", "version": 1}]));
    assert_eq!(newest["workload"]["name"], "web");
    assert_eq!(newest["address"], "127.0.0.1");
    assert_eq!(newest["attested"]["launch_digest"], digest(IMAGE));
    assert!(newest["platform"]["fingerprints"]["cek"].is_string());
    assert!(newest["launch"].is_string());
    assert_eq!(walk(&app, "secret=nobodys", 100).0, [] as [Value; 0]);
}

#[test]
fn versions_are_told_apart_and_a_newer_one_settles_the_rotation() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let first = app.run(&platform).1.ok().body["decision"].clone();
    replace(&app, "Z2VoZWlt");
    let second = app.run(&platform).1.ok().body["decision"].clone();
    let of = |query: &str| decisions(&walk(&app, query, 1).0);
    assert_eq!(of("secret=disk@1"), std::slice::from_ref(&first));
    assert_eq!(of("secret=disk@2"), std::slice::from_ref(&second));
    assert_eq!(of("secret=disk"), [second, first]);
    assert_eq!(of("secret=disk@3"), [] as [Value; 0]);

    let due = |released: Value, current: Value, state: &str| json!([{"secret": "disk", "released": released, "current": current, "state": state}]);
    assert_eq!(
        rotation(&app, "secret=disk@1"),
        due(json!([1]), json!(2), "replaced")
    );
    assert_eq!(rotation(&app, "secret=disk@2"), due(json!([2]), json!(2), "due"));
    assert_eq!(rotation(&app, "secret=disk"), due(json!([1, 2]), json!(2), "due"));
    replace(&app, "bmV1ZXI=");
    assert_eq!(
        rotation(&app, "secret=disk"),
        due(json!([1, 2]), json!(3), "replaced")
    );
    // Going back to what went out is no replacement, and neither is a newer one beside it that is held fast.
    let back = |version: u64| {
        app.owner("POST", "/v1/secret-versions/disk", &json!({ "version": version }))
            .ok()
    };
    back(1);
    assert_eq!(rotation(&app, "secret=disk@1"), due(json!([1]), json!(4), "due"));
    assert_eq!(
        rotation(&app, "secret=disk@2"),
        due(json!([2]), json!(4), "replaced")
    );
    back(3);
    assert_eq!(
        rotation(&app, "secret=disk@1"),
        due(json!([1]), json!(5), "replaced")
    );
    app.apply(json!([standard(json!({"secrets": ["disk@4"]}))[2]]));
    assert_eq!(rotation(&app, "secret=disk@1"), due(json!([1]), json!(5), "due"));
    let path = format!("/v1/workloads/{WORKLOAD}");
    app.owner("DELETE", &path, &Value::Null).expect(204, "ok");
    app.owner("DELETE", "/v1/secrets/disk", &Value::Null)
        .expect(204, "ok");
    assert_eq!(
        rotation(&app, "secret=disk"),
        due(json!([1, 2]), Value::Null, "deleted")
    );
    // A deleted workload is found by its UUID.
    assert_eq!(walk(&app, &format!("workload={WORKLOAD}"), 10).0.len(), 2);
}

#[test]
fn platforms_images_policies_and_workloads_are_found_with_what_only_ran() {
    let (app, one, other) = (App::new(), platform(), platform());
    app.standard();
    let released = app.run(&one).1.ok();
    let elsewhere = app.run(&other).1.ok();
    app.bundle(&[("release/any.rego", &format!("{ALLOW}\n# the second\n"))]);
    let later = app.run(&one).1.ok();
    let mut vm = app.start(&one);
    let mut request = vm.measure(b"what nobody ever reviewed, 32 by");
    let unknown = digest(b"what nobody ever reviewed, 32 by");
    request["launch-digest"] = json!(unknown);
    let denied = app.post(&vm.path(), &request).expect(403, "denied");
    let id = |reply: &crate::support::Reply| reply.body["decision"].clone();
    let prints = app.decision(&id(&released))["input"]["platform"]["fingerprints"].clone();
    let active = app.owner("GET", "/v1/bundles", &Value::Null).ok().body["active"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for (query, expected) in [
        (
            format!("platform={}", text(&prints["cek"])),
            vec![&denied, &later, &released],
        ),
        (
            format!("platform={}", text(&prints["oca"])),
            vec![&denied, &later, &released],
        ),
        (format!("digest={unknown}"), vec![&denied]),
        (
            format!("digest={}", digest(IMAGE)),
            vec![&later, &elsewhere, &released],
        ),
        ("policy=1".to_owned(), vec![&elsewhere, &released]),
        ("policy=2".to_owned(), vec![&later]),
        (format!("policy={}", text(&active)), vec![&later]),
        (
            "workload=web".to_owned(),
            vec![&denied, &later, &elsewhere, &released],
        ),
        (
            format!("workload={WORKLOAD}"),
            vec![&denied, &later, &elsewhere, &released],
        ),
        (format!("platform={}", "00".repeat(32)), vec![]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(id).collect();
        for limit in [1, 2, 100] {
            assert_eq!(
                decisions(&walk(&app, &query, limit).0),
                expected,
                "{query} by {limit}"
            );
        }
    }
    // What only ran is found and asks for no rotation.
    assert_eq!(rotation(&app, &format!("digest={unknown}")), json!([]));
    assert_eq!(
        rotation(&app, &format!("platform={}", text(&prints["cek"])))[0]["state"],
        "due"
    );
}

#[test]
fn another_owner_finds_nothing_and_bad_questions_are_named() {
    let app = App::with(shared());
    let other = Other::of(&app);
    app.standard();
    app.run(&platform()).1.ok();
    assert_eq!(other.items("/v1/impact?secret=disk"), [] as [Value; 0]);
    assert_eq!(
        other.items(&format!("/v1/impact?workload={WORKLOAD}")),
        [] as [Value; 0]
    );
    other.get("/v1/impact?workload=web").expect(404, "not-found");
    other.get("/v1/impact?policy=1").expect(404, "not-found");
    for (query, said) in [
        ("", "the query has one of `secret`"),
        ("secret=a&workload=b", "the query has one of `secret`"),
        ("secret=a@x", "after @ stands a version"),
        ("secret=a..b", "a name has 1 to 128 characters"),
        ("platform=00", "64 hexadecimal digits"),
        ("policy=newest", "expected a revision's number"),
        ("secret=a&limit=x", "the query"),
        ("colour=red", "unknown field `colour`"),
    ] {
        let reply = app.owner("GET", &format!("/v1/impact?{query}"), &Value::Null);
        let reply = reply.expect(400, "malformed");
        assert!(reply.detail().contains(said), "{query}: {}", reply.body);
    }
}

#[test]
fn decisions_of_an_earlier_version_s_database_are_found_too() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let released = app.run(&platform).1.ok().body["decision"].clone();
    let taken = app.decision(&released);
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    app.bundle(&[("release/any.rego", "package release.any\n\nallow := false\n")]);
    app.post(&vm.path(), &request).expect(403, "denied");

    let folder = tempfile::tempdir().unwrap();
    let old = rusqlite::Connection::open(folder.path().join(FILE)).unwrap();
    for text in [
        include_str!("../src/store/sqlite/schema.sql"),
        include_str!("../src/store/sqlite/schema_2.sql"),
        include_str!("../src/store/sqlite/schema_3_tokens.sql"),
        include_str!("../src/store/sqlite/schema_4_audit.sql"),
        include_str!("../src/store/sqlite/schema_5_holds.sql"),
        "PRAGMA user_version = 5; PRAGMA application_id = 0x4b575244;
         INSERT INTO owners (name, created) VALUES ('acme', 0);",
    ] {
        old.execute_batch(text).unwrap();
    }
    let file = app.folder.path().join(FILE);
    old.execute("ATTACH ?1 AS new", [file.to_str().unwrap()]).unwrap();
    old.execute_batch("INSERT INTO main.decisions SELECT * FROM new.decisions")
        .unwrap();
    drop(old);

    let store = SqlStore::open(folder.path(), false).unwrap();
    let owner = "acme".parse().unwrap();
    let found = |cause: Cause| {
        let page = store.impact(&owner, &cause, None, 100).unwrap();
        page.touched
            .iter()
            .map(|touched| json!(touched.decision))
            .collect::<Vec<_>>()
    };
    let (name, bundle) = ("disk".parse().unwrap(), taken["policies"].as_array().unwrap());
    let bundle = bundle
        .iter()
        .find_map(|policy| policy["bundle"].as_str())
        .unwrap();
    let hex = |value: &Value| value.as_str().unwrap().parse().unwrap();
    let only = [released];
    assert_eq!(
        found(Cause::Secret {
            name,
            version: Some(1)
        }),
        only
    );
    assert_eq!(found(Cause::Policy(bundle.parse().unwrap())), only);
    for key in ["cek", "oca"] {
        let print = hex(&taken["input"]["platform"]["fingerprints"][key]);
        assert_eq!(found(Cause::Platform(print)).len(), 2, "{key}");
    }
    assert_eq!(found(Cause::Digest(hex(&json!(digest(IMAGE))))).len(), 2);
}

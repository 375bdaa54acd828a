//! «What public implementations get wrong», numbers three and four: policies that are lost, and lists that are empty.

use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, standard};
use crate::support::{App, platform};

/// What may have become of the policies, and what a release is then answered.
const LOST: [(&str, &str, u16); 14] = [
    ("the bundle's row", "DELETE FROM bundles", 403),
    ("its content", "UPDATE bundles SET archive = x'00'", 403),
    (
        "its end",
        "UPDATE bundles SET archive = substr(archive, 1, length(archive) - 40)",
        403,
    ),
    (
        "another bundle in its place",
        "UPDATE bundles SET archive = (SELECT archive FROM bundles WHERE digest <> (SELECT bundle FROM owners))",
        403,
    ),
    ("which one is active", "UPDATE owners SET bundle = NULL", 403),
    ("the whole table", "DROP TABLE bundles", 503),
    (
        "the secret's bindings",
        "UPDATE secrets SET document = json_set(document, '$.policies', json('[]'))",
        403,
    ),
    (
        "their names",
        "UPDATE secrets SET document = json_set(document, '$.policies', json('[\"release.gone\"]'))",
        403,
    ),
    (
        "their form",
        "UPDATE secrets SET document = json_set(document, '$.policies', 'release.any')",
        503,
    ),
    (
        "their member",
        "UPDATE secrets SET document = json_remove(document, '$.policies')",
        503,
    ),
    ("the owner's bindings", "UPDATE owners SET policies = ''", 503),
    ("the workload", "UPDATE workloads SET document = '{}'", 503),
    ("the owner", "DELETE FROM owners", 503),
    ("the key sets", "DROP TABLE keysets", 503),
];

#[test]
fn wrong_03_a_policy_that_is_lost_or_can_t_be_read_is_no_absence_of_policies() {
    let platform = platform();
    for (what, statement, status) in LOST {
        let mut app = App::new();
        app.bundle(&[("release/any.rego", "package release.any\n\nallow := true\n")]);
        app.standard();
        let mut vm = app.start(&platform);
        let request = vm.measure(IMAGE);
        app.sql(statement);
        // A fresh server has prepared nothing yet.
        app.restart();
        let reply = app.post(&vm.path(), &request);
        assert_eq!(reply.status, status, "{what}: {}", reply.body);
        assert!(reply.body.get("secret-payload").is_none(), "{what}");
        if what == "the bundle's row" {
            assert!(
                app.reason(&reply).contains("is missing"),
                "{}",
                app.reason(&reply)
            );
        }
    }
}

#[test]
fn wrong_03_no_change_of_the_owner_s_leaves_a_secret_without_its_policies() {
    let app = App::new();
    app.standard();
    let set = json!({"kind": "KeySet", "name": "set", "secrets": ["disk"], "policies": ["release.any"]});
    let mut unbound = standard(json!({}));
    unbound[1]["policies"] = json!([]);
    unbound.as_array_mut().unwrap().push(set);
    app.apply(unbound);

    let renamed = json!({"objects": [bundle(&[("other.rego", &ALLOW.replace("release.any", "other"))])]});
    for (method, path, body) in [
        ("DELETE", "/v1/keysets/set", Value::Null),
        ("DELETE", "/v1/secrets/disk", Value::Null),
        ("POST", "/v1/apply", renamed),
        (
            "PUT",
            "/v1/keysets/set",
            json!({"name": "set", "secrets": [], "policies": ["release.any"]}),
        ),
        (
            "PUT",
            "/v1/keysets/set",
            json!({"name": "set", "secrets": ["disk"], "policies": []}),
        ),
        (
            "PUT",
            "/v1/keysets/set",
            json!({"name": "set", "secrets": ["disk"], "policies": ["release.an"]}),
        ),
    ] {
        let refused = app.owner(method, path, &body);
        assert_eq!(
            (refused.status, refused.problem()),
            (422, "invalid"),
            "{method} {path}"
        );
    }
    app.run(&platform()).1.ok();
}

#[test]
fn wrong_04_lists_that_are_empty_allow_nothing() {
    let (app, platform) = (App::new(), platform());
    for changes in [
        json!({"launch_digests": []}),
        json!({"launch_digests": null, "images": []}),
    ] {
        let mut objects = standard(changes);
        objects[1]["policies"] = json!(["keyward.workload"]);
        app.try_apply(objects).expect(422, "invalid");
    }
    let mailed = json!({
        "scheme": "amd-sev", "policy": 3, "firmware-hashes": [], "launch-digests": [],
        "secrets": [{"type": "luks-passphrase", "passphrase": "hunter2"}],
    });
    app.owner("POST", &format!("/vm/{WORKLOAD}"), &mailed)
        .expect(422, "invalid");

    app.standard();
    let rules = "package release.any\n\nimport data.keyward.platform\n\ndefault allow := false\n\n\
        allow if input.attested.launch_digest in data.reviewed.digests\n";
    let mut objects = standard(json!({}));
    objects[0] = bundle(&[
        ("any.rego", rules),
        ("data.json", r#"{"reviewed": {"digests": []}}"#),
    ]);
    app.apply(objects);
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    assert!(
        app.denied(&vm, &request)
            .contains("release.any for disk: allow is false")
    );
}

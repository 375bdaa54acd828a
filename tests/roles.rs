//! Who may call what: every role at every endpoint, on one's own objects and on another owner's.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use keyward::domain::{Base64Bytes, Clock as _, Role};
use keyward::http::ENDPOINTS;
use openssl::nid::Nid;
use serde_json::{Value, json};

use crate::identity_jwt::trusting;
use crate::policy_signing::{ec, public_pem};
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, standard};
use crate::support::other::{OTHERS_WORKLOAD, Other, run, shared};
use crate::support::{App, Reply};

const SPARE: &str = "33333333-2222-4333-8444-555555555555";

/// One endpoint, and what is to come of it.
struct Row {
    method: &'static str,
    /// As the router has it.
    pattern: &'static str,
    /// Roles that may call it; `anybody`: also without a token; `hosts`: as well, but not with a bad one.
    who: &'static str,
    /// A path of the caller's own objects. Names in angle brackets are filled in.
    own: &'static str,
    /// Status that those get who may call it; 2: any of success.
    status: u16,
    /// A path of another owner's objects, which do not exist for the caller.
    foreign: &'static str,
}

const fn row(
    method: &'static str,
    pattern: &'static str,
    who: &'static str,
    own: &'static str,
    status: u16,
    foreign: &'static str,
) -> Row {
    Row {
        method,
        pattern,
        who,
        own,
        status,
        foreign,
    }
}

#[rustfmt::skip]
const MATRIX: &[Row] = &[
    row("GET", "/livez", "anybody", "/livez", 2, ""),
    row("HEAD", "/livez", "anybody", "/livez", 2, ""),
    row("GET", "/readyz", "anybody", "/readyz", 2, ""),
    row("HEAD", "/readyz", "anybody", "/readyz", 2, ""),
    row("GET", "/problems/{name}", "anybody", "/problems/forbidden", 2, ""),
    row("HEAD", "/problems/{name}", "anybody", "/problems/forbidden", 2, ""),
    row("GET", "/openapi.json", "anybody", "/openapi.json", 2, ""),
    row("HEAD", "/openapi.json", "anybody", "/openapi.json", 2, ""),
    row("POST", "/vm/{uuid}/launch", "hosts", "/vm/<workload>/launch", 400, ""),
    row("POST", "/vm/{uuid}/validate", "hosts", "/vm/<workload>/validate", 400, ""),
    row("POST", "/vm/{uuid}", "owner", "/vm/<new-uuid>", 2, "/vm/<their-workload>"),
    row("PUT", "/vm/{uuid}", "owner", "/vm/<new-uuid>", 2, "/vm/<their-workload>"),
    row("POST", "/v1/apply", "owner secret-writer policy-author", "/v1/apply", 2, ""),
    row("GET", "/v1/objects", "owner secret-writer policy-author auditor", "/v1/objects", 2, ""),
    row("GET", "/v1/secrets", "owner secret-writer auditor", "/v1/secrets", 2, ""),
    row("GET", "/v1/secrets/{name:.+}", "owner secret-writer auditor", "/v1/secrets/disk", 2, "/v1/secrets/theirs"),
    row("PUT", "/v1/secrets/{name:.+}", "owner secret-writer", "/v1/secrets/spare", 2, ""),
    row("DELETE", "/v1/secrets/{name:.+}", "owner secret-writer", "/v1/secrets/spare", 2, "/v1/secrets/theirs"),
    row("GET", "/v1/secret-versions/{name:.+}", "owner secret-writer auditor", "/v1/secret-versions/disk", 2, "/v1/secret-versions/theirs"),
    row("POST", "/v1/secret-versions/{name:.+}", "owner secret-writer", "/v1/secret-versions/disk", 2, "/v1/secret-versions/theirs"),
    row("DELETE", "/v1/secret-versions/{name:.+}", "owner secret-writer", "/v1/secret-versions/disk?version=1", 409, "/v1/secret-versions/theirs?version=1"),
    row("GET", "/v1/keysets", "owner auditor", "/v1/keysets", 2, ""),
    row("GET", "/v1/keysets/{name:.+}", "owner auditor", "/v1/keysets/spare", 2, "/v1/keysets/theirs"),
    row("PUT", "/v1/keysets/{name:.+}", "owner", "/v1/keysets/spare", 2, ""),
    row("DELETE", "/v1/keysets/{name:.+}", "owner", "/v1/keysets/spare", 2, "/v1/keysets/theirs"),
    row("GET", "/v1/firmware", "owner auditor", "/v1/firmware", 2, ""),
    row("GET", "/v1/firmware/{name:.+}", "owner auditor", "/v1/firmware/spare", 2, "/v1/firmware/theirs"),
    row("PUT", "/v1/firmware/{name:.+}", "owner", "/v1/firmware/spare", 2, ""),
    row("DELETE", "/v1/firmware/{name:.+}", "owner", "/v1/firmware/spare", 2, "/v1/firmware/theirs"),
    row("GET", "/v1/workloads", "owner auditor", "/v1/workloads", 2, ""),
    row("GET", "/v1/workloads/{uuid}", "owner auditor", "/v1/workloads/<workload>", 2, "/v1/workloads/<their-workload>"),
    row("DELETE", "/v1/workloads/{uuid}", "owner", "/v1/workloads/<spare-workload>", 2, "/v1/workloads/<their-workload>"),
    row("GET", "/v1/bundles", "owner policy-author auditor", "/v1/bundles", 2, ""),
    row("POST", "/v1/bundles", "owner policy-author", "/v1/bundles", 2, ""),
    row("GET", "/v1/bundles/active", "owner policy-author auditor", "/v1/bundles/active", 2, ""),
    row("PUT", "/v1/bundles/active", "owner policy-author", "/v1/bundles/active", 2, ""),
    row("GET", "/v1/bundles/{digest}", "owner policy-author auditor", "/v1/bundles/<bundle>", 2, "/v1/bundles/<their-bundle>"),
    row("GET", "/v1/bundles/{digest}/archive", "owner policy-author auditor", "/v1/bundles/<bundle>/archive", 2, "/v1/bundles/<their-bundle>/archive"),
    row("GET", "/v1/revisions", "owner policy-author auditor", "/v1/revisions", 2, ""),
    row("POST", "/v1/revisions", "owner policy-author", "/v1/revisions", 2, ""),
    row("GET", "/v1/revisions/{number}", "owner policy-author auditor", "/v1/revisions/1", 2, "/v1/revisions/<their-revision>"),
    row("GET", "/v1/revisions/{number}/archive", "owner policy-author auditor", "/v1/revisions/1/archive", 2, "/v1/revisions/<their-revision>/archive"),
    row("GET", "/v1/signing-keys", "owner", "/v1/signing-keys", 2, ""),
    row("PUT", "/v1/signing-keys/{name:.+}", "owner", "/v1/signing-keys/ours", 2, ""),
    row("GET", "/v1/signing-keys/{name:.+}", "owner", "/v1/signing-keys/ours", 2, "/v1/signing-keys/theirs"),
    row("DELETE", "/v1/signing-keys/{name:.+}", "owner", "/v1/signing-keys/ours?allow-unsigned=true", 2, "/v1/signing-keys/theirs"),
    row("GET", "/v1/decisions", "owner policy-author auditor", "/v1/decisions", 2, ""),
    row("GET", "/v1/decisions/{id}", "owner policy-author auditor", "/v1/decisions/<decision>", 2, "/v1/decisions/<their-decision>"),
    row("GET", "/v1/decisions/{id}/explanation", "owner policy-author auditor", "/v1/decisions/<decision>/explanation", 2, "/v1/decisions/<their-decision>/explanation"),
    row("POST", "/v1/policies/evaluate", "owner policy-author auditor", "/v1/policies/evaluate", 2, ""),
    row("GET", "/v1/holds", "owner approver auditor", "/v1/holds", 2, ""),
    row("GET", "/v1/holds/{id}", "owner approver auditor", "/v1/holds/<hold>", 2, "/v1/holds/<their-hold>"),
    row("POST", "/v1/holds/{id}/confirm", "owner approver", "/v1/holds/<hold>/confirm", 2, "/v1/holds/<their-hold>/confirm"),
    row("POST", "/v1/holds/{id}/reject", "owner approver", "/v1/holds/<hold>/reject", 2, "/v1/holds/<their-hold>/reject"),
    row("POST", "/v1/holds/{id}/withdraw", "owner approver", "/v1/holds/<confirmed-hold>/withdraw", 2, "/v1/holds/<their-hold>/withdraw"),
    row("GET", "/v1/limits", "owner policy-author approver auditor", "/v1/limits", 2, ""),
    row("POST", "/v1/limits/reset", "owner approver", "/v1/limits/reset", 2, ""),
    row("GET", "/v1/approvals", "owner policy-author approver auditor", "/v1/approvals", 2, ""),
    row("PUT", "/v1/approvals", "owner approver", "/v1/approvals", 2, ""),
    row("GET", "/v1/freezes", "admin owner approver auditor", "/v1/freezes", 2, ""),
    row("POST", "/v1/freezes", "admin owner approver", "/v1/freezes", 2, ""),
    row("GET", "/v1/freezes/{id}", "admin owner approver auditor", "/v1/freezes/<freeze>", 2, "/v1/freezes/<their-freeze>"),
    row("POST", "/v1/freezes/{id}/lift", "admin owner", "/v1/freezes/<freeze>/lift", 2, "/v1/freezes/<their-freeze>/lift"),
    row("GET", "/v1/platforms", "owner approver auditor", "/v1/platforms", 2, ""),
    row("PUT", "/v1/platforms/accepted", "owner", "/v1/platforms/accepted", 2, ""),
    row("GET", "/v1/platforms/{cek}", "owner approver auditor", "/v1/platforms/<platform>", 2, "/v1/platforms/<their-platform>"),
    row("POST", "/v1/platforms/{cek}/enrol", "owner", "/v1/platforms/<platform>/enrol", 2, ""),
    row("POST", "/v1/platforms/{cek}/refuse", "owner approver", "/v1/platforms/<nobodys-platform>/refuse", 2, ""),
    row("GET", "/v1/trust", "owner approver auditor", "/v1/trust", 2, ""),
    row("PUT", "/v1/trust", "owner", "/v1/trust", 2, ""),
    row("GET", "/v1/impact", "owner policy-author auditor", "/v1/impact?secret=disk", 2, ""),
    row("GET", "/v1/audit/entries", "admin owner auditor", "/v1/audit/entries", 2, ""),
    row("GET", "/v1/audit/checkpoint", "admin owner auditor", "/v1/audit/checkpoint", 2, ""),
    row("GET", "/v1/audit/checkpoints", "admin owner auditor", "/v1/audit/checkpoints", 2, ""),
    row("GET", "/v1/audit/consistency", "admin owner auditor", "/v1/audit/consistency?from=0&to=1", 2, ""),
    row("GET", "/v1/audit/proof/{id}", "admin owner auditor", "/v1/audit/proof/<decision>", 2, "/v1/audit/proof/<their-decision>"),
    row("GET", "/v1/tokens", "admin owner auditor", "/v1/tokens?owner=acme", 2, "/v1/tokens?owner=umbra"),
    row("POST", "/v1/tokens", "admin owner", "/v1/tokens", 2, ""),
    row("DELETE", "/v1/tokens/{id}", "admin owner", "/v1/tokens/<token>", 2, "/v1/tokens/<their-token>"),
    row("GET", "/v1/owners", "admin", "/v1/owners", 2, ""),
    row("POST", "/v1/owners", "admin", "/v1/owners", 2, ""),
];

/// Two owners with everything that there can be of each, and a token of `acme` for each role.
struct House {
    app: App,
    tokens: Vec<(&'static str, String)>,
    key: String,
    decision: String,
    their_decision: String,
    their_hold: String,
    their_freeze: String,
    their_platform: String,
    bundle: String,
    their_bundle: String,
}

fn firmware() -> Base64Bytes {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/first-release/guest/firmware.fd"
    );
    Base64Bytes(std::fs::read(path).unwrap())
}

/// Objects that can be removed, as nothing refers to them.
fn extra(name: &str, uuid: &str) -> Value {
    json!([
        {"kind": "Secret", "name": name, "type": "luks-passphrase", "value": {"base64": "aHVudGVyMg=="},
         "policies": ["release.any"]},
        {"kind": "KeySet", "name": name, "secrets": ["disk"], "policies": ["release.any"]},
        {"kind": "Firmware", "name": name, "content": firmware()},
        {"kind": "Workload", "name": name, "uuid": uuid, "scheme": "amd-sev", "policy": 3,
         "launch_digests": [digest(IMAGE)], "secrets": ["disk"], "policies": []},
    ])
}

impl House {
    fn new() -> Self {
        Self::of(App::with(shared()))
    }

    fn of(app: App) -> Self {
        let other = Other::of(&app);
        app.apply(standard(json!({"max_releases": 1})));
        let theirs = standard(json!({"uuid": OTHERS_WORKLOAD, "max_releases": 1}));
        other.send("POST", "/v1/apply", &json!({"objects": theirs})).ok();
        let objects = extra("theirs", "88888888-2222-4333-8444-555555555555");
        other.send("POST", "/v1/apply", &json!({"objects": objects})).ok();
        for n in 0..50 {
            let text = format!("{ALLOW}\n# {n}\n");
            let body = json!({"files": {"release/any.rego": Base64Bytes(text.into_bytes())}});
            other.send("POST", "/v1/bundles", &body).expect(201, "ok");
        }
        app.service.checkpoint().unwrap();
        let key = public_pem(&ec(Nid::X9_62_PRIME256V1));
        let body = json!({"public_key": key});
        other.send("PUT", "/v1/signing-keys/theirs", &body).ok();
        let id = |reply: Reply| reply.body["decision"].as_str().unwrap().to_owned();
        let decision = id(run(&app, WORKLOAD).1.ok());
        let their_decision = id(run(&app, OTHERS_WORKLOAD).1.ok());
        let their_hold = held(&app, OTHERS_WORKLOAD);
        let their_freeze = frozen(other.send("POST", "/v1/freezes", &naples()));
        let their_platform = other.items("/v1/platforms")[0]["cek"]
            .as_str()
            .unwrap()
            .to_owned();
        let active = |reply: Reply| reply.ok().body["active"].as_str().unwrap().to_owned();
        let bundle = active(app.owner("GET", "/v1/bundles", &Value::Null));
        let their_bundle = active(other.get("/v1/bundles"));
        let mut tokens = Vec::new();
        for role in Role::ALL {
            let owner = (role != Role::Admin).then_some("acme");
            tokens.push((role.as_str(), app.mint(role, owner, None).text));
        }
        Self {
            app,
            tokens,
            key,
            decision,
            their_decision,
            their_hold,
            their_freeze,
            their_platform,
            bundle,
            their_bundle,
        }
    }

    /// A path with what is in angle brackets filled in.
    fn path(&self, template: &str) -> String {
        let Some((before, rest)) = template.split_once('<') else {
            return template.to_owned();
        };
        let (name, after) = rest.split_once('>').unwrap();
        let value = match name {
            "workload" => WORKLOAD.to_owned(),
            "their-workload" => OTHERS_WORKLOAD.to_owned(),
            "spare-workload" => SPARE.to_owned(),
            "new-uuid" => uuid::Uuid::new_v4().to_string(),
            "decision" => self.decision.clone(),
            "their-decision" => self.their_decision.clone(),
            "hold" => held(&self.app, WORKLOAD),
            "confirmed-hold" => {
                let hold = json!(held(&self.app, WORKLOAD));
                let body = json!({"additional": 1, "any": true, "reason": "a test"});
                self.app.say(&hold, "confirm", &body).ok();
                hold.as_str().unwrap().to_owned()
            }
            "their-hold" => self.their_hold.clone(),
            "freeze" => frozen(self.app.owner("POST", "/v1/freezes", &naples())),
            "their-freeze" => self.their_freeze.clone(),
            "platform" => cek(&self.app, &self.decision),
            "their-platform" => self.their_platform.clone(),
            "nobodys-platform" => "00".repeat(32),
            "bundle" => self.bundle.clone(),
            "their-bundle" => self.their_bundle.clone(),
            "their-revision" => "50".to_owned(),
            "token" => self.app.mint(Role::Auditor, Some("acme"), None).id.to_string(),
            "their-token" => self.app.mint(Role::Auditor, Some("umbra"), None).id.to_string(),
            other => panic!("{other}"),
        };
        format!("{before}{value}{after}")
    }

    fn body(&self, row: &Row) -> Value {
        let secret = json!({"name": "spare", "type": "luks-passphrase", "value": {"base64": "aHVudGVyMg=="},
                            "policies": ["release.any"]});
        let files = json!({"release/any.rego": Base64Bytes(ALLOW.as_bytes().to_vec())});
        match (row.method, row.pattern) {
            ("POST", "/v1/apply") => json!({"objects": []}),
            ("POST", "/vm/{uuid}/launch" | "/vm/{uuid}/validate") => json!({}),
            (_, "/vm/{uuid}") => json!({
                "scheme": "amd-sev", "policy": 3, "launch-digests": [digest(IMAGE)],
                "secrets": [{"type": "luks-passphrase", "passphrase": "sesame"}],
            }),
            ("PUT", "/v1/secrets/{name:.+}") => secret,
            ("POST", "/v1/secret-versions/{name:.+}") => json!({"version": 1}),
            ("PUT", "/v1/keysets/{name:.+}") => {
                json!({"name": "spare", "secrets": ["disk"], "policies": ["release.any"]})
            }
            ("PUT", "/v1/firmware/{name:.+}") => json!({"name": "spare", "content": firmware()}),
            ("POST", "/v1/bundles") | ("PUT", "/v1/bundles/active") => json!({"files": files}),
            ("POST", "/v1/revisions") => json!({"number": 1}),
            ("PUT", "/v1/signing-keys/{name:.+}") => json!({"public_key": self.key}),
            ("POST", "/v1/holds/{id}/confirm") => json!({"additional": 1, "any": true, "reason": "a test"}),
            ("POST", "/v1/holds/{id}/reject" | "/v1/holds/{id}/withdraw") => json!({"reason": "a test"}),
            ("POST", "/v1/limits/reset") => {
                let binding = json!({"kind": "workload", "name": WORKLOAD});
                json!({"binding": binding, "secret": "disk", "to": 0, "reason": "a test"})
            }
            ("POST", "/v1/policies/evaluate") => {
                json!({"policy": "release.any", "decision": self.decision, "secret": "disk"})
            }
            ("PUT", "/v1/approvals") => json!({"approvals_required": 1, "reason": "a test"}),
            ("POST", "/v1/freezes") => naples(),
            ("PUT", "/v1/trust") => json!({"platforms": "any"}),
            ("PUT", "/v1/platforms/accepted") => json!({"accepted": "any", "reason": "a test"}),
            (
                "POST",
                "/v1/freezes/{id}/lift" | "/v1/platforms/{cek}/enrol" | "/v1/platforms/{cek}/refuse",
            ) => json!({"reason": "a test"}),
            ("POST", "/v1/tokens") => json!({"name": "new", "role": "auditor", "owner": "acme"}),
            ("POST", "/v1/owners") => json!({"name": "nova"}),
            ("GET" | "HEAD" | "DELETE", _) => Value::Null,
            other => panic!("{other:?} has no body here"),
        }
    }

    fn send(&self, row: &Row, template: &str, token: Option<&str>) -> Reply {
        let (path, body) = (self.path(template), self.body(row));
        match token {
            Some(token) => self.app.as_token(token, row.method, &path, &body),
            None => self
                .app
                .request(row.method, &path, &[], body.to_string().as_bytes()),
        }
    }
}

/// A freeze that is in no test's way.
fn naples() -> Value {
    json!({"target": {"type": "product", "name": "naples"}, "reason": "a test"})
}

/// The id of what was frozen, now or before.
fn frozen(reply: Reply) -> String {
    assert!([200, 201].contains(&reply.status), "{}", reply.body);
    reply.body["id"].as_str().unwrap().to_owned()
}

/// The platform that a decision was about.
fn cek(app: &App, decision: &str) -> String {
    let decision = app.decision(&json!(decision));
    let cek = &decision["input"]["platform"]["fingerprints"]["cek"];
    cek.as_str().unwrap().to_owned()
}

/// The hold of a launch of this workload: the count is used up first, and what was confirmed beyond it.
fn held(app: &App, workload: &str) -> String {
    for _ in 0..5 {
        let reply = run(app, workload).1;
        if let Some(hold) = reply.body["hold"].as_str() {
            return hold.to_owned();
        }
        reply.ok();
    }
    panic!("no launch was held");
}

fn met(status: u16, expected: u16) -> bool {
    status == expected || status / 100 == expected
}

#[test]
fn every_endpoint_does_what_the_matrix_says_for_every_role_and_owner() {
    does_what_the_matrix_says(&House::new());
}

#[test]
fn every_endpoint_does_the_same_for_every_role_that_an_identity_provider_vouches_for() {
    let (app, _folder) = trusting(shared());
    let mut house = House::of(app);
    house.tokens = Role::ALL
        .map(|role| (role.as_str(), house.app.jwt_of(role)))
        .to_vec();
    does_what_the_matrix_says(&house);
}

fn does_what_the_matrix_says(house: &House) {
    let mut wrong = Vec::new();
    let mut asked = 0;
    for row in MATRIX {
        let anybody = matches!(row.who, "anybody" | "hosts");
        for (role, token) in &house.tokens {
            let may = anybody || row.who.split(' ').any(|name| name == *role);
            if row.own.contains("spare") && may {
                house.app.apply(extra("spare", SPARE));
            }
            if row.pattern == "/v1/limits/reset" {
                // Until a launch is held, the count is used up.
                held(&house.app, WORKLOAD);
            }
            let own = house.send(row, row.own, Some(token));
            // Objects of owners are not an administrator's own, nor are the records about them, nor owners' freezes.
            let owners = [
                "/v1/audit/proof/{id}",
                "/v1/freezes/{id}",
                "/v1/freezes/{id}/lift",
            ];
            let nobodys = *role == "admin" && owners.contains(&row.pattern);
            let expected = match may {
                true if nobodys => 404,
                true => row.status,
                false => 403,
            };
            let problem = if may { own.problem() } else { "forbidden" };
            if !met(own.status, expected) || own.problem() != problem {
                wrong.push(format!(
                    "{role} {} {}: {} {}",
                    row.method, row.own, own.status, own.body
                ));
            }
            asked += 1;
            if row.foreign.is_empty() {
                continue;
            }
            let foreign = house.send(row, row.foreign, Some(token));
            // An administrator has no owner, so that no owner's tokens are foreign.
            let expected = match (may, *role) {
                (false, _) => 403,
                (true, "admin") if !nobodys => 2,
                (true, _) if row.pattern == "/vm/{uuid}" => 422,
                (true, _) => 404,
            };
            if !met(foreign.status, expected) {
                let line = format!("{} {}: {}", row.method, row.foreign, foreign.status);
                wrong.push(format!("foreign: {role} {line} {}", foreign.body));
            }
            asked += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(asked > Role::ALL.len() * MATRIX.len(), "only {asked} were asked");
}

#[test]
fn without_a_valid_token_nothing_is_to_be_had_but_what_anybody_may_have() {
    let house = House::new();
    let app = &house.app;
    let soon = app.clock.now().after(Duration::from_secs(60));
    let expired = app.mint(Role::Owner, Some("acme"), Some(soon));
    app.as_token(&expired.text, "GET", "/v1/secrets", &Value::Null)
        .ok();
    let revoked = app.mint(Role::Owner, Some("acme"), None);
    app.owner("DELETE", &format!("/v1/tokens/{}", revoked.id), &Value::Null)
        .expect(204, "ok");
    app.clock.advance(Duration::from_secs(60));
    let unknown = format!("kw_{}", "A".repeat(43));
    let callers = [
        None,
        Some(expired.text.as_str()),
        Some(&revoked.text),
        Some(&unknown),
        Some("kw_"),
        Some(""),
    ];
    for row in MATRIX {
        for token in callers {
            let reply = house.send(row, row.own, token);
            let line = format!("{token:?} {} {}: {}", row.method, row.own, reply.body);
            if row.who == "anybody" || (row.who == "hosts" && token.is_none()) {
                assert!(met(reply.status, row.status), "{line}");
            } else {
                assert_eq!((reply.status, reply.problem()), (401, "unauthorized"), "{line}");
                assert_eq!(reply.headers["www-authenticate"], "Bearer");
            }
        }
    }
}

#[test]
fn the_matrix_the_server_s_table_and_its_routes_are_the_same_endpoints() {
    let tested: BTreeSet<_> = MATRIX
        .iter()
        .map(|row| endpoint(row.method, row.pattern))
        .collect();
    assert_eq!(tested.len(), MATRIX.len(), "an endpoint is there twice");
    let table: BTreeSet<_> = ENDPOINTS
        .iter()
        .map(|row| endpoint(row.method, row.path))
        .collect();
    assert_eq!(table.len(), ENDPOINTS.len(), "an endpoint is there twice");
    assert_eq!(
        tested, table,
        "an endpoint was added to the server without a row in MATRIX, or the other way around"
    );
    assert_eq!(
        routes(),
        table,
        "a route was added to the router without a row in ENDPOINTS, or the other way around"
    );
}

fn endpoint(method: &str, path: &str) -> String {
    format!("{method} {path}")
}

/// The router's routes, read from its sources.
fn routes() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let (mut found, mut scopes, mut read) = (BTreeSet::new(), 0, 0);
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    // Metrics are on a listener of their own, which has nothing else: tests/metrics.rs.
    let of_apis = |path: &std::path::PathBuf| path.is_file() && !path.ends_with("exposition.rs");
    for path in entries.filter(of_apis) {
        let text = std::fs::read_to_string(&path).unwrap();
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        scopes += code.matches("web::scope(").count();
        assert!(
            !code.contains(".route(\"") && !code.contains("#[actix_web::"),
            "{path:?}"
        );
        let prefix = match path.file_name().unwrap().to_str().unwrap() {
            "host.rs" | "mod.rs" => "",
            _ => "/v1",
        };
        let mut here = 0;
        for resource in code
            .split("resource(\"")
            .skip(1)
            .chain(code.split("readable(\"").skip(1))
        {
            let (pattern, rest) = resource.split_once('"').unwrap();
            let rest = rest.split(".service(").next().unwrap();
            for route in rest.split(".route(").skip(1) {
                let methods: &[&str] = match route.split('.').next().unwrap().trim() {
                    "web::get()" => &["GET"],
                    "web::put()" => &["PUT"],
                    "web::post()" => &["POST"],
                    "web::delete()" => &["DELETE"],
                    "head_or_get()" => &["GET", "HEAD"],
                    other => panic!("{path:?}: {other}"),
                };
                here += 1;
                found.extend(methods.iter().map(|m| endpoint(m, &format!("{prefix}{pattern}"))));
            }
        }
        assert_eq!(
            here,
            code.matches(".route(").count(),
            "{path:?} has routes that are not understood"
        );
        read += here;
    }
    assert_eq!(scopes, 1, "this reader knows of one scope, /v1");
    assert!(read > 40, "only {read} routes were found");
    found
}

#[test]
fn an_endpoint_without_a_row_is_not_there_and_paths_in_disguise_are_the_same_endpoint() {
    let app = App::new();
    app.standard();
    let author = app.mint(Role::PolicyAuthor, Some("acme"), None).text;
    let send = |method, path| app.as_token(&author, method, path, &Value::Null);
    for method in ["PATCH", "DELETE", "OPTIONS", "POST", "HEAD"] {
        let reply = send(method, "/v1/secrets");
        assert_eq!(reply.status, 405, "{method}");
    }
    for path in [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1//secrets",
        "//v1/secrets",
        "/v1/secrets/",
    ] {
        assert_eq!(send("GET", path).status, 404, "{path}");
    }
    for path in [
        "/v1/secrets/disk",
        "/v1/%73ecrets/disk",
        "/%761/secrets/d%69sk",
        "/v1/secrets/x/../disk",
    ] {
        send("GET", path).expect(403, "forbidden");
    }
    app.owner("GET", "/v1/%73ecrets/d%69sk", &Value::Null).ok();
    send("GET", "/v1/bundles/%61ctive").ok();
}

#[test]
fn each_object_of_an_apply_needs_a_role_that_may_register_it_and_one_refused_refuses_all() {
    let house = House::new();
    let secret = json!({"kind": "Secret", "name": "one", "type": "luks-passphrase",
                        "value": {"base64": "aHVudGVyMg=="}, "policies": ["release.any"]});
    let bundle = crate::support::app::bundle(&[("release/any.rego", ALLOW)]);
    let spare = extra("spare", SPARE);
    let kinds = [
        (&secret, "Secret one", "owner secret-writer"),
        (&bundle, "PolicyBundle", "owner policy-author"),
        (&spare[1], "KeySet spare", "owner"),
        (&spare[2], "Firmware spare", "owner"),
        (&spare[3], "Workload spare", "owner"),
    ];
    let callers = "owner secret-writer policy-author";
    for (role, token) in house.tokens.iter().filter(|(role, _)| callers.contains(role)) {
        for (object, label, who) in &kinds {
            let reply = house
                .app
                .as_token(token, "POST", "/v1/apply", &json!({"objects": [object]}));
            if who.split(' ').any(|name| name == *role) {
                reply.ok();
                continue;
            }
            let reply = reply.expect(403, "forbidden");
            let expected = format!(
                "{label}: nothing was registered, as this needs the role {}; the token a-{role} has the role {role}",
                who.replace(' ', " or ")
            );
            assert_eq!(reply.detail(), expected);
        }
    }
    let fresh = json!({"kind": "Secret", "name": "fresh", "type": "luks-passphrase",
                       "value": {"base64": "aHVudGVyMg=="}, "policies": ["release.any"]});
    let mixed = json!({"objects": [fresh, bundle], "dry_run": false});
    let (_, writer) = house
        .tokens
        .iter()
        .find(|(role, _)| *role == "secret-writer")
        .unwrap();
    let reply = house.app.as_token(writer, "POST", "/v1/apply", &mixed);
    assert!(
        reply
            .expect(403, "forbidden")
            .detail()
            .starts_with("PolicyBundle: ")
    );
    house
        .app
        .owner("GET", "/v1/secrets/fresh", &Value::Null)
        .expect(404, "not-found");
}

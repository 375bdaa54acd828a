//! Requests that are wrong in themselves: each is told which member is wrong, and nothing else.

use keyward::domain::Base64Bytes;
use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::{App, Reply, platform};

/// A UUID that nothing has.
pub(crate) const UNKNOWN: &str = "99999999-2222-4333-8444-555555555555";

/// A problem document as it should be, and a client's fault.
#[track_caller]
pub(crate) fn problem(reply: &Reply) {
    assert!(
        (400..500).contains(&reply.status),
        "{} {}",
        reply.status,
        reply.body
    );
    assert_eq!(
        reply.headers["content-type"], "application/problem+json",
        "{}",
        reply.body
    );
    assert_eq!(reply.body["status"], reply.status);
    for member in ["type", "title", "detail"] {
        assert!(
            reply.body[member].as_str().is_some_and(|text| !text.is_empty()),
            "{}",
            reply.body
        );
    }
    assert_eq!(reply.body["request_id"], reply.headers["x-request-id"]);
}

/// The four calls that take a body, each with a request that is right.
pub(crate) struct Calls {
    pub(crate) app: App,
    pub(crate) valid: [(String, Value); 4],
}

impl Calls {
    pub(crate) fn new() -> Self {
        let (app, platform) = (App::new(), platform());
        app.standard();
        let mut vm = app.start(&platform);
        let mut validate = vm.measure(IMAGE);
        for hash in [
            "launch-digest",
            "firmware-hash",
            "kernel-hash",
            "initrd-hash",
            "cmdline-hash",
        ] {
            validate[hash] = json!("ab".repeat(32));
        }
        validate["cpu-count"] = json!(2);
        validate["secrets"] = json!(["disk"]);
        validate["description"] = json!("a guest");
        let mut launch = launch_request(&platform);
        launch["cpu-id"] = json!(Base64Bytes(vec![7; 64]));
        launch["scheme"] = json!("amd-sev");
        launch["policy"] = json!(3);
        let register = json!({
            "scheme": "amd-sev", "policy": 3, "cpu-count": 2, "launch-digests": ["ab".repeat(32)],
            "firmware-hashes": ["cd".repeat(32)], "max-releases": 4,
            "secrets": [{"type": "luks-passphrase", "passphrase": "sesame"}],
        });
        let valid = [
            (format!("/vm/{WORKLOAD}/launch"), launch),
            (vm.path(), validate),
            (format!("/vm/{UNKNOWN}"), register),
            (
                "/v1/apply".to_owned(),
                json!({"objects": standard(json!({})), "dry_run": true}),
            ),
        ];
        Self { app, valid }
    }

    pub(crate) fn send(&self, path: &str, body: &[u8]) -> Reply {
        let bearer = format!("Bearer {}", self.app.token);
        self.app
            .request("POST", path, &[("authorization", &bearer)], body)
    }
}

#[test]
fn what_is_no_json_object_is_told_so_by_every_call() {
    let calls = Calls::new();
    let deep = [b"[".repeat(60_000), b"{\"a\":".repeat(12_000)];
    let bodies: Vec<&[u8]> = vec![
        b" ",
        b"{",
        b"}",
        b"[]",
        b"null",
        b"1",
        b"\"x\"",
        b"{\"pdh\"}",
        b"{,}",
        b"{'pdh': 1}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b"{\"\xc3\x28\": 1}",
        b"{\"\\ud800\": 1}",
        b"NaN",
        &deep[0],
        &deep[1],
    ];
    for (path, valid) in &calls.valid {
        for body in &bodies {
            let reply = calls.send(path, body);
            problem(&reply);
            reply.expect(400, "malformed");
        }
        let twice = format!("{valid} {valid}");
        calls.send(path, twice.as_bytes()).expect(400, "malformed");
    }
}

#[test]
fn a_host_s_body_of_more_than_64_kib_is_too_large() {
    let calls = Calls::new();
    for (path, valid) in &calls.valid[..3] {
        let padded = |length: usize| {
            let mut body = valid.to_string().into_bytes();
            body.resize(length, b' ');
            calls.send(path, &body)
        };
        let fits = padded(64 << 10);
        assert!(
            matches!(fits.status, 200 | 201 | 403 | 422),
            "{path}: {}",
            fits.body
        );
        let reply = padded((64 << 10) + 1);
        problem(&reply);
        reply.expect(413, "too-large");
    }
    let mut long = calls.valid[0].1.clone();
    long["cert-chain"] = json!(Base64Bytes(vec![0; (16 << 10) + 1]));
    let reply = calls.app.post(&calls.valid[0].0, &long).expect(400, "malformed");
    assert!(reply.detail().contains("`cert-chain`"), "{}", reply.detail());
}

#[test]
fn a_member_that_is_missing_unknown_twice_or_of_another_type_is_named() {
    let calls = Calls::new();
    let optional = [
        "cpu-id",
        "scheme",
        "policy",
        "cpu-count",
        "launch-digest",
        "firmware-hash",
        "kernel-hash",
        "initrd-hash",
        "cmdline-hash",
        "secrets",
        "description",
        "launch-digests",
        "firmware-hashes",
        "max-releases",
        "dry_run",
    ];
    for (path, valid) in &calls.valid {
        let named = |body: &str, member: &str| {
            let reply = calls.send(path, body.as_bytes());
            problem(&reply);
            let reply = reply.expect(400, "malformed");
            assert!(
                reply.detail().contains(&format!("`{member}")),
                "{path} {member}: {}",
                reply.detail()
            );
        };
        for (member, value) in valid.as_object().unwrap() {
            let text = valid.to_string();
            named(
                &text.replacen('{', &format!("{{\"{member}\":{value},"), 1),
                member,
            );
            for wrong in [json!({}), json!([[]]), json!(1.5), json!("\u{0}")] {
                let mut changed = valid.clone();
                changed[member] = wrong;
                if member != "description" || !changed[member].is_string() {
                    named(&changed.to_string(), member);
                }
            }
            let mut without = valid.clone();
            without.as_object_mut().unwrap().remove(member);
            if !optional.contains(&member.as_str()) {
                named(&without.to_string(), member);
            }
        }
        let mut more = valid.clone();
        more["sekrets"] = json!({"deep": [[[]]]});
        named(&more.to_string(), "sekrets");
    }
}

#[test]
fn a_value_of_the_wrong_length_range_or_alphabet_names_its_member() {
    let calls = Calls::new();
    let bytes = |length: usize| json!(Base64Bytes(vec![0xfb; length]));
    let many: Vec<String> = (0..65).map(|n| format!("s{n}")).collect();
    let table: [(usize, &str, Vec<Value>); 9] = [
        (
            0,
            "pdh",
            vec![
                json!(""),
                bytes(2083),
                bytes(2085),
                json!("%%%"),
                json!("A".repeat(2779)),
            ],
        ),
        (
            0,
            "cert-chain",
            vec![
                json!("*"),
                json!("AAA"),
                json!("A A="),
                json!("-_-_"),
                json!("AAAA===="),
            ],
        ),
        (
            0,
            "cpu-id",
            vec![
                json!(""),
                bytes(63),
                bytes(65),
                json!("0".repeat(127)),
                json!("g".repeat(128)),
            ],
        ),
        (
            0,
            "scheme",
            vec![json!("AMD-SEV"), json!(""), json!("amd-sev-snp"), json!(0)],
        ),
        (
            1,
            "measurement",
            vec![json!(""), bytes(47), bytes(49), json!("=".repeat(64))],
        ),
        (
            1,
            "launch-digest",
            vec![
                json!(""),
                json!("ab".repeat(31)),
                json!("xy".repeat(32)),
                bytes(33),
            ],
        ),
        (
            1,
            "secrets",
            vec![
                json!([""]),
                json!(["../x"]),
                json!(["a\u{0}"]),
                json!("disk"),
                json!(many),
            ],
        ),
        (
            1,
            "description",
            vec![json!("x".repeat(1025)), json!("é".repeat(513)), json!(["x"])],
        ),
        (
            2,
            "max-releases",
            vec![json!(-1), json!(1.5), json!(1e20), json!("4")],
        ),
    ];
    for (call, member, values) in table {
        let (path, valid) = &calls.valid[call];
        for value in values {
            let mut changed = valid.clone();
            changed[member] = value.clone();
            let reply = calls.send(path, changed.to_string().as_bytes());
            problem(&reply);
            let reply = reply.expect(400, "malformed");
            assert!(
                reply.detail().contains(&format!("`{member}")),
                "{value}: {}",
                reply.detail()
            );
        }
    }
}

#[test]
fn points_off_the_curve_are_refused_in_a_chain_and_in_a_registration() {
    let calls = Calls::new();
    let platform = platform();
    let full = platform.full_chain();
    for (certificate, name) in ["PDH", "PEK", "OCA", "CEK"].iter().enumerate() {
        let mut forged = full.clone();
        forged[certificate * 2084 + 20] ^= 1;
        let (pdh, rest) = forged.split_at(2084);
        let request = json!({"pdh": Base64Bytes(pdh.to_vec()), "cert-chain": Base64Bytes(rest.to_vec())});
        let reply = calls.app.ask_launch(&request);
        problem(&reply);
        let reply = reply.expect(422, "chain-invalid");
        assert!(reply.detail().contains(name), "{name}: {}", reply.detail());
    }
    let (path, valid) = &calls.valid[2];
    let mut oca = full[2 * 2084..3 * 2084].to_vec();
    oca[20] ^= 1;
    for bytes in [oca, full[2084..2 * 2084].to_vec(), vec![0; 2084], vec![]] {
        let mut changed = valid.clone();
        changed["cloud-cert"] = json!(Base64Bytes(bytes));
        let reply = calls.send(path, changed.to_string().as_bytes());
        problem(&reply);
        let reply = reply.expect(422, "invalid");
        assert!(reply.detail().contains("`cloud_cert`"), "{}", reply.detail());
    }
}

#[test]
fn no_refusal_repeats_a_secret_that_was_put_in_a_wrong_place() {
    let calls = Calls::new();
    let (path, valid) = &calls.valid[3];
    let secret = "correct horse battery staple";
    let object = |value: Value| json!({"kind": "Secret", "name": "disk", "type": "luks-passphrase", "value": value, "policies": []});
    let mut objects = vec![
        object(json!(secret)),
        object(json!([secret])),
        object(json!({"base64": secret})),
        object(json!({"base64": [secret]})),
        object(json!({"generate": secret})),
        object(json!({"base64": "aHVudGVyMg==", "generate": secret})),
        json!({"kind": secret}),
        json!(secret),
    ];
    let mut typed = object(json!({"generate": 8}));
    typed["type"] = json!(secret);
    objects.push(typed);
    for object in objects {
        let mut body = valid.clone();
        body["objects"] = json!([object]);
        let reply = calls.send(path, body.to_string().as_bytes());
        problem(&reply);
        assert!(!reply.body.to_string().contains("horse"), "{}", reply.body);
        assert!(reply.detail().contains("objects"), "{}", reply.detail());
    }
    let (path, valid) = &calls.valid[2];
    for inline in [
        json!({"type": "luks-passphrase", "value": secret}),
        json!({"type": "luks-passphrase", "passphrase": [secret]}),
        json!({"type": secret, "passphrase": "x"}),
        json!({"type": "opaque", "passphrase": secret}),
        json!({"type": "luks-passphrase", "passphrase": secret, "generate": 8}),
        json!(secret),
    ] {
        let mut body = valid.clone();
        body["secrets"] = json!([inline]);
        let reply = calls.send(path, body.to_string().as_bytes());
        problem(&reply);
        assert!(!reply.body.to_string().contains("horse"), "{}", reply.body);
        assert!(reply.detail().contains("secrets"), "{}", reply.detail());
    }
}

#[test]
fn one_bad_object_among_good_ones_registers_nothing() {
    let app = App::new();
    let mut objects = standard(json!({}));
    objects.as_array_mut().unwrap().push(json!({
        "kind": "KeySet", "name": "set", "secrets": ["nowhere"], "policies": ["release.any"],
    }));
    let reply = app.try_apply(objects);
    problem(&reply);
    let reply = reply.expect(422, "invalid");
    assert!(
        reply.detail().contains("KeySet set") && reply.detail().contains("nowhere"),
        "{}",
        reply.detail()
    );
    for list in ["secrets", "workloads", "keysets", "bundles"] {
        let found = app.owner("GET", &format!("/v1/{list}"), &Value::Null).ok().body;
        assert_eq!(found["items"], json!([]), "{list}");
    }
    app.bundle(&[("a.rego", "package a\n\nallow := false\n")]);
    app.try_apply(json!([bundle(&[("../a.rego", "package a\n\nallow := false\n")])]))
        .expect(422, "invalid");
}

//! Nothing secret is in a log, in an answer that refuses, or on the disk in clear, at whatever level is logged.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::sealing::spellings;
use crate::support::cli::Server;
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, launch_request};
use crate::support::{Reply, Shell, Vm, platform};

const SECRET: &str = "Tr0ub4dor and 3 more words";

/// What must not be seen: each secret in every form in which it could be written by accident.
struct Secrets(Vec<(&'static str, Vec<u8>)>);

impl Secrets {
    fn add(&mut self, what: &'static str, bytes: &[u8]) {
        let forms = [
            bytes.to_vec(),
            STANDARD.encode(bytes).trim_end_matches('=').as_bytes().to_vec(),
            URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
            hex::encode(bytes).into_bytes(),
            hex::encode_upper(bytes).into_bytes(),
            // As `Debug` writes bytes, and as it does over lines.
            format!("{bytes:?}").trim_matches(['[', ']']).as_bytes().to_vec(),
            format!("{bytes:#?}").into_bytes(),
        ];
        self.0.extend(forms.map(|form| (what, form)));
        // Base64 at every alignment, and all of it in UTF-16.
        self.0
            .extend(spellings(bytes).into_iter().map(|form| (what, form)));
    }

    #[track_caller]
    fn assert_absent(&self, place: &str, text: &[u8]) {
        for (what, form) in &self.0 {
            let found = text.windows(form.len()).position(|bytes| bytes == form);
            if let Some(at) = found {
                let around = &text[at.saturating_sub(200)..(at + form.len() + 50).min(text.len())];
                panic!("{what} is in {place}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

/// A server that logs everything, with a secret registered.
fn served() -> (Shell, Server, Secrets) {
    let mut shell = Shell::initialised();
    shell.set("KEYWARD_LOG", "trace");
    shell.set("RUST_LOG", "trace");
    shell.set("PASSPHRASE", SECRET);
    shell.write("data/ark.cert", platform().ark());
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: test, file: ark.cert}]\n",
    );
    let mut secrets = Secrets(Vec::new());
    secrets.add("the secret", SECRET.as_bytes());
    secrets.add("the token", shell.read("token").trim().as_bytes());
    secrets.add("the key file's key", &key_in(&shell, "data/keyward.key"));

    let server = shell.served();
    shell.write("policy/release/any.rego", ALLOW);
    let manifest = format!(
        "kind: PolicyBundle\npath: policy\n---\n\
         kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{env: PASSPHRASE}}\npolicies: [release.any]\n---\n\
         kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\nlaunch_digests: [{}]\nsecrets: [disk]\n",
        digest(IMAGE)
    );
    shell.write("m.yaml", manifest);
    let applied = shell.run(&["apply", "-f", "m.yaml", "-o", "json"]).done();
    secrets.assert_absent("what apply prints", applied.as_bytes());
    let mint = [
        "token", "create", "--name", "ci", "--role", "auditor", "-o", "json",
    ];
    let made = shell.run(&mint).json();
    secrets.add(
        "a token that was made",
        made["token"].as_str().unwrap().as_bytes(),
    );
    shell
        .run(&[&mint[..], &["--token-out", "second"]].concat())
        .done();
    secrets.add("a token in a file", shell.read("second").trim().as_bytes());
    let refused = shell
        .run(&["apply", "-f", "m.yaml", "--token-file", "second"])
        .failed();
    secrets.assert_absent("a refusal", refused.as_bytes());
    let listed = shell.run(&["token", "list", "-o", "json"]).done();
    secrets.assert_absent("the list of tokens", listed.as_bytes());
    // A key takes over meanwhile, and a value of the secret is another's by now.
    let rotate = ["keys", "rotate", "--data-dir", "data", "--old-key-out", "old.key"];
    let rotated = shell.run(&rotate).done();
    secrets.add("the new key", &key_in(&shell, "data/keyward.key"));
    secrets.assert_absent("what keys rotate prints", rotated.as_bytes());
    let checked = shell.run(&["keys", "check", "--data-dir", "data"]).done();
    secrets.assert_absent("what keys check prints", checked.as_bytes());
    (shell, server, secrets)
}

fn key_in(shell: &Shell, file: &str) -> Vec<u8> {
    let text = shell.read(file);
    STANDARD.decode(text.trim().rsplit(' ').next().unwrap()).unwrap()
}

fn reply((status, text): (u16, String)) -> Reply {
    Reply {
        status,
        headers: Default::default(),
        body: serde_json::from_str(&text).unwrap(),
    }
}

#[test]
fn nothing_secret_is_logged_answered_or_stored_in_clear() {
    let (shell, server, mut secrets) = served();
    let platform = platform();
    let launch = launch_request(&platform).to_string();
    let mut answers = Vec::new();
    for image in [IMAGE, b"an image that nobody has reviewed, of 48 bytes.."] {
        let answer = server.post(&format!("/vm/{WORKLOAD}/launch"), launch.as_bytes());
        let mut vm = Vm::start(&platform, &reply(answer).ok());
        let stored: Value = serde_json::from_slice(&vm.guest.to_bytes().unwrap()).unwrap();
        let keys = STANDARD.decode(stored["keys"].as_str().unwrap()).unwrap();
        assert_eq!(keys.len(), 32);
        secrets.add("a TEK or TIK", &keys[..16]);
        secrets.add("a TIK or TEK", &keys[16..]);

        let mut request = vm.measure(image);
        let answer = server.post(&vm.path(), request.to_string().as_bytes());
        if image == IMAGE {
            let entries = vm.unwrap(&reply(answer).ok());
            assert_eq!(entries[0].1, SECRET.as_bytes());
        } else {
            reply(answer).expect(422, "measurement-mismatch");
            request["launch-digest"] = json!(digest(image));
        }
        answers.push(server.post(&vm.path(), request.to_string().as_bytes()).1);
    }
    for answer in &answers {
        secrets.assert_absent("an answer to a host", answer.as_bytes());
    }
    for verb in [&["decision", "list", "-o", "json"][..], &["decision", "list"]] {
        secrets.assert_absent("the decisions", shell.run(verb).done().as_bytes());
    }
    let (code, log) = server.stop();
    assert_eq!(code, 0);
    assert!(
        log.contains(" TRACE ") && log.contains(" INFO "),
        "nothing was logged: {log}"
    );
    secrets.assert_absent("the log", log.as_bytes());
    for name in shell
        .list("data")
        .iter()
        .filter(|name| name.starts_with("keyward.db"))
    {
        let bytes = std::fs::read(shell.path(&format!("data/{name}"))).unwrap();
        secrets.assert_absent(name, &bytes);
    }
}

/// Owners' bodies with the secret where it does not belong, as a slip of the hand would put it there.
fn misplaced() -> Vec<(String, String)> {
    let encoded = STANDARD.encode(SECRET);
    let secret = |members: Value| {
        let mut object =
            json!({"kind": "Secret", "name": "other", "type": "luks-passphrase", "value": {"generate": 8}});
        for (name, value) in members.as_object().unwrap() {
            object[name] = value.clone();
        }
        json!({"objects": [object]}).to_string()
    };
    let mailing = |members: Value| {
        let mut inline = json!({"type": "luks-passphrase"});
        for (name, value) in members.as_object().unwrap() {
            inline[name] = value.clone();
        }
        json!({"scheme": "amd-sev", "policy": 3, "secrets": [inline]}).to_string()
    };
    let mut bodies = Vec::new();
    for body in [
        secret(json!({"value": SECRET})),
        secret(json!({"value": encoded})),
        secret(json!({"value": [SECRET]})),
        secret(json!({"value": {"base64": SECRET}})),
        secret(json!({"value": {"base64": [encoded]}})),
        secret(json!({"value": {"base64": {"is": encoded}}})),
        secret(json!({"value": {"generate": SECRET}})),
        secret(json!({"value": {SECRET: 1}})),
        secret(json!({"value": {"base64": encoded, "generate": 3}})),
        secret(json!({"value": {"base64": STANDARD.encode(format!("{SECRET}\0"))}})),
        secret(json!({"type": SECRET})),
        secret(json!({"guid": SECRET})),
        secret(json!({"name": SECRET})),
        secret(json!({"policies": SECRET})),
        secret(json!({"kind": SECRET})),
        secret(json!({"type": "opaque", "value": {"base64": encoded}})),
        json!({"objects": SECRET}).to_string(),
        json!(SECRET).to_string(),
        SECRET.to_owned(),
        secret(json!({"value": {"base64": encoded}})).replace("}]}", "}]"),
    ] {
        bodies.push(("/v1/apply".to_owned(), body));
    }
    let fresh = "/vm/22222222-2222-4333-8444-555555555555".to_owned();
    for body in [
        mailing(json!({"passphrase": [SECRET]})),
        mailing(json!({"passphrase": SECRET, "value": encoded})),
        mailing(json!({"passphrase": format!("{SECRET}\0")})),
        mailing(json!({"value": SECRET})),
        mailing(json!({"type": "opaque", "passphrase": SECRET})),
        mailing(json!({"type": SECRET})),
        json!({"scheme": SECRET, "policy": 3, "secrets": []}).to_string(),
        json!({"scheme": "amd-sev", "policy": SECRET, "secrets": []}).to_string(),
        json!({"scheme": "amd-sev", "policy": 3, "cloud-cert": encoded, "secrets": [{"type": "luks-passphrase", "value": encoded}]}).to_string(),
        json!({"scheme": "amd-sev", "policy": 3, "secrets": SECRET}).to_string(),
    ] {
        bodies.push((fresh.clone(), body));
    }
    bodies
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let (shell, server, secrets) = served();
    let token = shell.read("token").trim().to_owned();
    let bearer = format!("Bearer {token}");
    let owner = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let mut asked = Vec::new();
    for (path, body) in misplaced() {
        asked.push((
            format!("POST {path} {body}"),
            server.send("POST", &path, &owner, body.as_bytes()),
        ));
    }
    let body = json!({"name": "disk", "type": "luks-passphrase", "value": SECRET}).to_string();
    asked.push((
        "PUT".to_owned(),
        server.send("PUT", "/v1/secrets/disk", &owner, body.as_bytes()),
    ));
    // The token where it does not count, or not quite itself.
    for header in [
        token.clone(),
        format!("Basic {token}"),
        format!("Bearer {token}x"),
        format!("Bearer  {token} {token}"),
    ] {
        let headers = [("authorization", header.as_str())];
        asked.push((header.clone(), server.send("POST", "/v1/apply", &headers, b"{}")));
    }
    let query = format!("/v1/apply?access_token={token}");
    asked.push((query.clone(), server.send("POST", &query, &[], token.as_bytes())));
    // What hosts send comes back to hosts; it may still be an owner's who mistook the path.
    for (path, body) in [
        ("launch", json!({"pdh": SECRET, "cert-chain": token})),
        ("launch", json!(token)),
        ("validate", json!({"api-major": token, "measurement": SECRET})),
        (
            "validate",
            json!({"api-major": 1, "api-minor": 55, "build-id": 8, "policy": 3, "measurement": token}),
        ),
        (
            "validate",
            json!({"api-major": 1, "api-minor": 55, "build-id": 8, "policy": 3, "secrets": [SECRET]}),
        ),
    ] {
        let path = format!("/vm/{WORKLOAD}/{path}");
        asked.push((
            format!("{path} {body}"),
            server.post(&path, body.to_string().as_bytes()),
        ));
    }
    for (request, (status, answer)) in &asked {
        assert!((400..500).contains(status), "{request}: {status} {answer}");
        secrets.assert_absent(&format!("the answer to {request}"), answer.as_bytes());
    }
    let (_, log) = server.stop();
    secrets.assert_absent("the log", log.as_bytes());
}

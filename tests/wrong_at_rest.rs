//! «What public implementations get wrong», number ten: what lies in the data folder.

use std::path::Path;

use keyward::domain::Base64Bytes;
use serde_json::{Value, json};

use crate::support::host::{IMAGE, standard};
use crate::support::{App, platform};

/// The forms in which bytes may lie in a file: raw, base64 at each of its three alignments, hexadecimal, UTF-16.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let text = |encoded: String| encoded.into_bytes();
    let mut forms = vec![
        value.to_vec(),
        text(hex::encode(value)),
        text(hex::encode_upper(value)),
    ];
    for shift in 0..3 {
        let encoded = Base64Bytes([&vec![0; shift], value].concat()).to_string();
        // Without the characters that neighbours have a part in.
        let inner = encoded.trim_end_matches('=');
        let inner = &inner[(shift * 4).div_ceil(3)..inner.len() - 1];
        forms.push(inner.as_bytes().to_vec());
        forms.push(inner.replace('+', "-").replace('/', "_").into_bytes());
    }
    for order in [0, 1] {
        let wide = value
            .iter()
            .flat_map(|byte| if order == 0 { [*byte, 0] } else { [0, *byte] });
        forms.push(wide.collect());
    }
    forms
}

fn found(folder: &Path, value: &[u8]) -> Vec<String> {
    let forms = forms(value);
    let mut places = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for (number, form) in forms.iter().enumerate() {
            if bytes.windows(form.len()).any(|window| window == form) {
                places.push(format!("{}, form {number}", path.display()));
            }
        }
    }
    places
}

#[test]
fn wrong_10_no_secret_and_no_token_lies_in_clear_in_the_data_folder() {
    let (app, platform) = (App::new(), platform());
    let guid = |n: u8| format!("e6f5a162-d67f-4750-a67c-5d065f2a99{n:02}");
    let passphrase = b"correct horse battery staple";
    let binary: Vec<u8> = (0..32_u8).map(|n| n.wrapping_mul(73) ^ 0xa5).collect();
    let mut objects = standard(json!({"secrets": ["disk", "key", "drawn"]}));
    objects[1]["value"] = json!({"base64": Base64Bytes(passphrase.to_vec())});
    for (n, name, value) in [
        (1, "key", json!({"base64": Base64Bytes(binary.clone())})),
        (2, "drawn", json!({"generate": 32})),
    ] {
        objects.as_array_mut().unwrap().push(json!({
            "kind": "Secret", "name": name, "type": "opaque", "guid": guid(n), "value": value,
            "policies": ["release.any"],
        }));
    }
    app.apply(objects);
    let mailed = json!({
        "scheme": "amd-sev", "policy": 3, "launch-digests": ["00".repeat(32)],
        "secrets": [{"type": "luks-passphrase", "passphrase": "an inline passphrase"}],
    });
    let path = "/vm/99999999-2222-4333-8444-555555555555";
    assert_eq!(app.owner("POST", path, &mailed).status, 201);

    // One launch waits, one is answered, and its answer is kept.
    let _waiting = app.start(&platform);
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE).to_string();
    let reply = app
        .request(
            "POST",
            &vm.path(),
            &[("idempotency-key", "k")],
            request.as_bytes(),
        )
        .ok();
    let released = vm.unwrap(&reply);
    assert_eq!(released.len(), 3);
    let mut secrets: Vec<Vec<u8>> = released.into_iter().map(|(_, value)| value).collect();
    assert_eq!(
        (secrets[0].as_slice(), secrets[1].as_slice()),
        (&passphrase[..], &binary[..])
    );
    secrets.push(b"an inline passphrase".to_vec());
    secrets.push(app.token.clone().into_bytes());
    secrets.push(app.token.rsplit('_').next().unwrap().as_bytes().to_vec());
    for secret in &secrets {
        assert_eq!(found(app.folder.path(), secret), Vec::<String>::new());
    }
    // The search finds what does lie there, and the owner's API gives no value back either.
    assert!(!found(app.folder.path(), b"keyward.workload").is_empty());
    for path in [
        "/v1/secrets",
        "/v1/secrets/disk",
        "/v1/workloads",
        "/v1/decisions",
        "/v1/bundles/active",
    ] {
        let shown = app.owner("GET", path, &Value::Null).ok().body.to_string();
        for secret in &secrets {
            for form in forms(secret) {
                assert!(!shown.as_bytes().windows(form.len()).any(|w| w == form), "{path}");
            }
        }
    }
}

//! What lies in the data folder: the key file is the owner's alone, and without it everything else says nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use keyward::sev::{Random as _, SystemRandom};
use serde_json::{Value, json};

use crate::support::App;
use crate::support::command::{Ended, keyward};
use crate::support::host::{IMAGE, WORKLOAD, standard};
use crate::support::platform;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn init(folder: &Path, more: &[&str]) -> Ended {
    keyward([&["init", "--owner", "acme", "--data-dir", text(folder)], more].concat())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every file below, with its content.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn init_makes_a_folder_and_files_that_others_can_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (data, token) = (folder.path().join("data"), folder.path().join("token"));
    init(&data, &["--token-file", text(&token)]).ok();
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("keyward.key")), 0o600);
    assert_eq!(mode(&token), 0o600);

    let key = folder.path().join("elsewhere.key");
    let other = folder.path().join("other");
    init(&other, &["--key-file", text(&key)]).ok();
    assert_eq!(mode(&key), 0o600);
    assert!(!other.join("keyward.key").exists());
    let keys = [&key, &data.join("keyward.key")].map(|path| std::fs::read(path).unwrap());
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn init_overwrites_nothing() {
    type Leave = fn(&Path);
    let there: [(&str, Leave, &[&str]); 4] = [
        (
            "a data folder that is in use",
            |data| drop(init(data, &[]).ok()),
            &[],
        ),
        (
            "the same, with another key file",
            |data| drop(init(data, &[]).ok()),
            &["--key-file", "KEY"],
        ),
        (
            "a key file",
            |data| {
                std::fs::create_dir(data).unwrap();
                std::fs::write(data.join("keyward.key"), "precious").unwrap();
            },
            &[],
        ),
        (
            "a token file",
            |data| std::fs::write(data.with_file_name("token"), "precious").unwrap(),
            &["--token-file", "TOKEN"],
        ),
    ];
    for (name, leave, more) in there {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        leave(&data);
        let before = files(folder.path());
        let (key, token) = (folder.path().join("new.key"), folder.path().join("token"));
        let more: Vec<&str> = more
            .iter()
            .map(|word| match *word {
                "KEY" => text(&key),
                "TOKEN" => text(&token),
                other => other,
            })
            .collect();
        let failed = init(&data, &more).expect(1);
        assert_eq!(failed.stdout, "", "{name}");
        assert_eq!(
            failed.stderr.trim_end().lines().count(),
            1,
            "{name}: {}",
            failed.stderr
        );
        assert!(files(folder.path()) == before, "{name}: {:?}", failed.stderr);
    }
}

#[test]
fn a_key_file_that_is_missing_open_another_s_or_no_key_is_not_served_with() {
    type Spoil = fn(&Path);
    let table: [(&str, Spoil, &str); 4] = [
        ("missing", |key| std::fs::remove_file(key).unwrap(), "is missing"),
        (
            "readable by others",
            |key| std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o640)).unwrap(),
            "chmod 600",
        ),
        (
            "another's",
            |key| {
                let other = key.with_file_name("other");
                init(&other, &[]).ok();
                std::fs::rename(other.join("keyward.key"), key).unwrap();
            },
            "is not the key that this data folder was made with",
        ),
        (
            "no key",
            |key| std::fs::write(key, "keyward-key-v1 c2hvcnQ=\n").unwrap(),
            "is not a Keyward key file",
        ),
    ];
    for (name, spoil, says) in table {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        init(&data, &[]).ok();
        spoil(&data.join("keyward.key"));
        let failed = keyward(["serve", "--listen", "127.0.0.1:0", "--data-dir", text(&data)]).expect(1);
        assert!(failed.stderr.contains(says), "{name}: {}", failed.stderr);
        assert_eq!(failed.stdout, "", "{name}");
    }
}

/// The ways in which these bytes could lie in a file.
pub(crate) fn spellings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut texts = vec![hex::encode(bytes), hex::encode_upper(bytes)];
    // In base64 of something longer they look different by where they begin; the edges mix with what is beside.
    for offset in 0..3 {
        for engine in [&STANDARD, &URL_SAFE] {
            let encoded = engine.encode([&[0; 2][..offset], bytes].concat());
            let (from, to) = ([0, 2, 3][offset], encoded.trim_end_matches('=').len() - 1);
            texts.push(encoded[from..to].to_owned());
        }
    }
    if let Ok(plain) = str::from_utf8(bytes) {
        texts.push(plain.to_owned());
    }
    let mut spelled = vec![bytes.to_vec(), bytes.iter().rev().copied().collect()];
    for text in texts {
        spelled.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        spelled.push(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
        spelled.push(text.into_bytes());
    }
    spelled
}

pub(crate) fn lies_in(files: &[(PathBuf, Vec<u8>)], bytes: &[u8]) -> bool {
    let spelled = spellings(bytes);
    let holds = |content: &[u8]| {
        let found = |part: &Vec<u8>| {
            content
                .windows(part.len())
                .any(|window| window == part.as_slice())
        };
        spelled.iter().any(found)
    };
    files.iter().any(|(_, content)| holds(content))
}

#[test]
fn a_stolen_data_folder_without_its_key_file_holds_no_secret_token_or_launch_key() {
    let (app, platform) = (App::new(), platform());
    let mut random = [0; 24];
    SystemRandom.fill(&mut random).unwrap();
    let passphrase = b"correct horse battery staple, 7 times".as_slice();
    let mut objects = standard(json!({"secrets": ["disk", "token"]}));
    let opaque = json!({
        "kind": "Secret", "name": "token", "type": "opaque", "guid": WORKLOAD,
        "value": {"base64": STANDARD.encode(random)}, "policies": ["release.any"],
    });
    objects.as_array_mut().unwrap().insert(2, opaque);
    // An earlier version, which is kept.
    let earlier = b"what it was before, 3 times longer".as_slice();
    objects[1]["value"] = json!({"base64": STANDARD.encode(earlier)});
    app.apply(objects.clone());
    objects[1]["value"] = json!({"base64": STANDARD.encode(passphrase)});
    app.apply(objects);
    let versions = app.owner("GET", "/v1/secret-versions/disk", &Value::Null).ok();
    assert_eq!(versions.body["items"].as_array().unwrap().len(), 2);

    // One launch that was released and is kept for a retry, and one that waits.
    let mut released = app.start(&platform);
    let request = released.measure(IMAGE);
    let reply = app.post_once("key", &released.path(), &request).ok();
    assert_eq!(released.unwrap(&reply).len(), 2);
    let mut waiting = app.start(&platform);
    waiting.measure(IMAGE);

    let stolen = files(app.folder.path());
    let keys = |vm: &crate::support::Vm| {
        let guest: Value = serde_json::from_slice(&vm.guest.to_bytes().unwrap()).unwrap();
        let keys = STANDARD.decode(guest["keys"].as_str().unwrap()).unwrap();
        let (tek, tik) = keys.split_at(16);
        [tek.to_vec(), tik.to_vec()]
    };
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(&app.token[3..])
        .unwrap();
    let mut secrets = vec![
        ("the passphrase", passphrase.to_vec()),
        ("the passphrase of before", earlier.to_vec()),
        ("the opaque secret", random.to_vec()),
        ("the token", app.token.clone().into_bytes()),
        ("the token's bytes", token),
        (
            "the packet that was answered",
            STANDARD
                .decode(reply.body["secret-payload"].as_str().unwrap())
                .unwrap(),
        ),
    ];
    for vm in [&released, &waiting] {
        secrets.extend(keys(vm).map(|key| ("a launch key", key)));
    }
    for (name, secret) in secrets {
        assert!(secret.len() >= 16, "{name}");
        assert!(!lies_in(&stolen, &secret), "{name} lies in the data folder");
    }

    // What is no secret is found: the search works, in each of its spellings.
    assert!(lies_in(&stolen, WORKLOAD.as_bytes()));
    assert!(lies_in(&stolen, waiting.id.as_bytes()));
    let secret = b"a secret of some length";
    for spelled in spellings(secret) {
        let file = [b"before ".as_slice(), &spelled, b" behind"].concat();
        assert!(lies_in(&[(PathBuf::new(), file)], secret));
    }
}

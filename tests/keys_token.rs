//! Keys in a PKCS#11 token: they never leave it, and what becomes of it is told apart from damage.

use serde_json::{Value, json};

use crate::support::cli::Server;
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, launch_request};
use crate::support::softhsm::{PIN, module, token};
use crate::support::{Reply, Shell, Vm, ca, platform};

/// A folder with a token; none where SoftHSM is not installed.
fn shell() -> Option<(Shell, String)> {
    let module = module()?;
    let mut shell = Shell::new();
    let provider = token(&mut shell, module);
    Some((shell, provider))
}

fn init(shell: &Shell, more: &[&str]) -> Value {
    let all = [
        "init",
        "--data-dir",
        "data",
        "--owner",
        "acme",
        "--token-file",
        "token",
        "-o",
        "json",
    ];
    let made = shell.run(&[&all[..], more].concat()).json();
    shell.write("data/test.ark", ca().ark().as_bytes());
    shell.write(
        "data/keyward.yaml",
        "log: trace\nlisten: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: test, file: test.ark}]\n",
    );
    made
}

/// Registers the usual workload.
fn registered(shell: &mut Shell) -> Server {
    let server = shell.served();
    shell.write("policy/release/any.rego", ALLOW);
    shell.write(
        "m.yaml",
        format!(
            "kind: PolicyBundle\npath: policy\n---\n\
             kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{base64: aHVudGVyMg==}}\npolicies: [release.any]\n---\n\
             kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\nlaunch_digests: [{}]\nsecrets: [disk]\n",
            digest(IMAGE)
        ),
    );
    shell.run(&["apply", "-f", "m.yaml", "-o", "json"]).done();
    server
}

fn reply((status, text): (u16, String)) -> Reply {
    Reply {
        status,
        headers: Default::default(),
        body: serde_json::from_str(&text).unwrap(),
    }
}

fn launch(server: &Server) -> Reply {
    let request = launch_request(&platform()).to_string();
    reply(server.post(&format!("/vm/{WORKLOAD}/launch"), request.as_bytes()))
}

/// A guest that was measured, and its request.
fn waiting(server: &Server) -> (Vm, Vec<u8>) {
    let platform = platform();
    let request = launch_request(&platform).to_string();
    let answer = reply(server.post(&format!("/vm/{WORKLOAD}/launch"), request.as_bytes())).ok();
    let mut vm = Vm::start(&platform, &answer);
    let request = vm.measure(IMAGE).to_string().into_bytes();
    (vm, request)
}

#[track_caller]
fn released(server: &Server) {
    let (vm, request) = waiting(server);
    let answer = reply(server.post(&vm.path(), &request)).ok();
    assert_eq!(vm.unwrap(&answer)[0].1, b"hunter2");
}

fn check(shell: &Shell) -> Value {
    shell
        .run(&["keys", "check", "--data-dir", "data", "-o", "json"])
        .json()
}

#[test]
fn a_data_folder_is_made_served_and_rotated_with_a_key_in_a_token() {
    let Some((mut shell, provider)) = shell() else {
        return;
    };
    let made = init(&shell, &["--key-provider", &provider]);
    assert!(made.get("key_file").is_none());
    assert_eq!(made["key_provider"]["pkcs11"]["label"], "secrets");
    assert_eq!(shell.list("data"), ["keyward.db", "keyward.yaml", "test.ark"]);
    let server = registered(&mut shell);
    released(&server);
    let (vm, request) = waiting(&server);

    let rotated = shell
        .run(&["keys", "rotate", "--data-dir", "data", "-o", "json"])
        .json();
    assert_eq!(rotated["location"], "token keyward (key secrets)");
    assert_eq!(rotated["retired"].as_array().unwrap().len(), 1);
    let answer = reply(server.post(&vm.path(), &request)).ok();
    assert_eq!(vm.unwrap(&answer)[0].1, b"hunter2");
    released(&server);
    let checked = check(&shell);
    assert_eq!(checked["damaged"], json!([]));
    assert_eq!(checked["keys"].as_array().unwrap().len(), 2);
    let (code, log) = server.stop();
    assert_eq!(code, 0);
    assert!(!log.contains(PIN), "the PIN is in the log");
    released(&shell.served());
}

#[test]
fn a_key_moves_from_a_file_to_a_token_and_back_under_a_running_server() {
    let Some((mut shell, provider)) = shell() else {
        return;
    };
    init(&shell, &[]);
    let server = registered(&mut shell);
    let (vm, request) = waiting(&server);
    let rotate = ["keys", "rotate", "--data-dir", "data", "-o", "json", "--to"];
    let there = shell.run(&[&rotate[..], &[&provider]].concat()).json();
    assert_eq!(there["location"], "token keyward (key secrets)");
    assert!(!shell.path("data/keyward.key").exists());
    let answer = reply(server.post(&vm.path(), &request)).ok();
    assert_eq!(vm.unwrap(&answer)[0].1, b"hunter2");
    released(&server);

    let back = shell.run(&[&rotate[..], &["{file: back.key}"]].concat()).json();
    assert_eq!(back["retired"].as_array().unwrap().len(), 1);
    // Without the token, everything opens.
    std::fs::remove_dir_all(shell.path("tokens")).unwrap();
    released(&server);
    drop(server);
    released(&shell.served());
    assert_eq!(check(&shell)["damaged"], json!([]));
}

#[test]
fn a_token_that_goes_away_is_no_damage_and_nothing_is_released_until_it_is_back() {
    let Some((mut shell, provider)) = shell() else {
        return;
    };
    init(&shell, &["--key-provider", &provider]);
    let server = registered(&mut shell);
    let (vm, request) = waiting(&server);
    let tokens = shell.path("tokens");
    let away = shell.path("away");
    std::fs::rename(&tokens, &away).unwrap();
    for _ in 0..3 {
        let refused = reply(server.post(&vm.path(), &request)).expect(503, "unavailable");
        assert!(refused.body.get("secret-payload").is_none());
        launch(&server).expect(503, "unavailable");
        // By the workload's UUID nothing is learned of a launch either, and nothing is charged for it.
        let search = format!("/vm/{WORKLOAD}/validate");
        reply(server.post(&search, &request)).expect(503, "unavailable");
    }
    std::fs::rename(&away, &tokens).unwrap();
    let answer = reply(server.post(&vm.path(), &request)).ok();
    assert_eq!(vm.unwrap(&answer)[0].1, b"hunter2");
    released(&server);
}

#[test]
fn a_changed_value_under_a_token_s_key_is_damage() {
    let Some((mut shell, provider)) = shell() else {
        return;
    };
    init(&shell, &["--key-provider", &provider]);
    drop(registered(&mut shell));
    let database = rusqlite::Connection::open(shell.path("data/keyward.db")).unwrap();
    // In the wrapped data key: the nonce, the ciphertext, the tag.
    for at in [12, 30, 70] {
        let sealed: Vec<u8> = database
            .query_row("SELECT sealed FROM secrets", [], |row| row.get(0))
            .unwrap();
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        database
            .execute("UPDATE secrets SET sealed = ?1", [changed])
            .unwrap();
        let checked = shell.run(&["keys", "check", "--data-dir", "data"]);
        assert_eq!(checked.code, 1, "byte {at}: {}{}", checked.out, checked.err);
        let told =
            "Damaged: secret disk version 1 of acme: the sealed value was changed or belongs elsewhere";
        assert!(checked.out.contains(told), "byte {at}: {}", checked.out);
        database
            .execute("UPDATE secrets SET sealed = ?1", [sealed])
            .unwrap();
    }
    assert_eq!(check(&shell)["damaged"], json!([]));
    // What belongs to another place.
    database.execute("UPDATE secrets SET version = 2", []).unwrap();
    assert_eq!(shell.run(&["keys", "check", "--data-dir", "data"]).code, 1);
}

#[test]
fn likely_mistakes_say_what_to_do() {
    let Some((shell, provider)) = shell() else { return };
    init(&shell, &["--key-provider", &provider]);
    shell.write("wrong-pin", "0000\n");
    shell.write("open-pin", PIN);
    let mode = |name: &str, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(shell.path(name), mode).unwrap();
    };
    mode("wrong-pin", 0o600);
    mode("open-pin", 0o644);
    for (from, to, expected) in [
        ("pin_file: pin", "pin_file: wrong-pin", "refuses the PIN in"),
        (
            "pin_file: pin",
            "pin_file: open-pin",
            "is open to others (mode 0644): run `chmod 600",
        ),
        (
            "pin_file: pin",
            "pin_file: no-pin",
            "is missing: `pin_file` names it",
        ),
        ("token: keyward", "token: other", "shows no token labelled other"),
        (
            "label: secrets",
            "label: others",
            "is not the key that this data folder was made with",
        ),
        (
            "libsofthsm2.so",
            "libsofthsm3.so",
            "name the token's own as `module`",
        ),
    ] {
        let changed = provider.replace(from, to);
        let config =
            format!("listen: 127.0.0.1:0\nkey_provider: {changed}\n").replace("pin_file: ", "pin_file: ../");
        shell.write("data/keyward.yaml", config);
        let said = shell.run(&["serve", "--data-dir", "data"]).failed();
        assert!(said.contains(expected), "{to}: {said}");
        assert!(!said.contains(PIN), "{said}");
    }
}

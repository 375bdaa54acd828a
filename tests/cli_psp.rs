//! `psp`: the software PSP in files. The whole walk is the example's; here is what it refuses.

use std::os::unix::fs::PermissionsExt as _;

use keyward::policy::Input;
use serde_json::{Value, json};

use crate::support::cli::transcript;
use crate::support::{Shell, platform};

#[test]
fn its_files_hold_keys_are_private_and_are_never_overwritten() {
    let shell = Shell::new();
    shell.run(&["psp", "new", "one", "--bits", "2048"]).done();
    let before = shell.read("one");
    for name in ["one", "one.ca"] {
        let mode = std::fs::metadata(shell.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let said = shell.run(&["psp", "new", "one", "--bits", "2048"]).failed();
    assert_eq!(said, "error: one exists already; name another or remove it\n");
    assert_eq!(shell.read("one"), before);

    shell
        .run(&[
            "psp",
            "new",
            "two",
            "--ca-of",
            "one",
            "--api",
            "1.16",
            "--build-id",
            "3",
        ])
        .done();
    for name in ["one", "two"] {
        shell
            .run(&["psp", "chain", name, "--out", &format!("{name}.d")])
            .done();
    }
    assert_eq!(
        shell.list("one.d"),
        [
            "ark.cert",
            "ask-ark.cert",
            "cek.cert",
            "chain.cert",
            "cpu-id.txt",
            "pdh.cert"
        ]
    );
    let read = |name: &str| std::fs::read(shell.path(name)).unwrap();
    assert_eq!(
        read("one.d/ark.cert"),
        read("two.d/ark.cert"),
        "one authority for both"
    );
    assert_ne!(read("one.d/cek.cert"), read("two.d/cek.cert"));
    let text = shell
        .run(&[
            "sev",
            "chain",
            "two.d/chain.cert",
            "--danger-extra-root",
            "one.d/ark.cert",
        ])
        .done();
    assert!(text.contains("API        1.16 "), "{text}");
}

#[test]
fn each_form_of_a_chain_is_as_long_as_it_should_be() {
    let shell = Shell::new();
    shell.write("p", &*platform().to_bytes().unwrap());
    for (form, bytes) in [
        ("unsigned", 3 * 2084),
        ("signed", 3 * 2084),
        ("full", 4 * 2084 + 2 * 832),
    ] {
        let request = shell.run(&["psp", "chain", "p", "--form", form]).json();
        let members: Vec<_> = request.as_object().unwrap().keys().collect();
        assert_eq!(members, ["cert-chain", "cpu-id", "pdh"]);
        let text = request["cert-chain"].as_str().unwrap();
        assert_eq!(text.trim_end_matches('=').len() * 3 / 4, bytes, "{form}");
    }
}

#[test]
fn a_refusal_in_place_of_an_answer_is_told_as_what_it_is() {
    let shell = Shell::new();
    shell.write("p", &*platform().to_bytes().unwrap());
    shell.write(
        "problem.json",
        r#"{"type":"/problems/denied","title":"The request was denied","status":403,"detail":"a policy forbids it"}"#,
    );
    shell.write("empty.json", "");
    shell.write("other.json", "{}");
    for (reply, expected) in [
        (
            "problem.json",
            "problem.json: the server refused: The request was denied: a policy forbids it\n",
        ),
        (
            "empty.json",
            "empty.json: not the server's answer: EOF while parsing",
        ),
        (
            "other.json",
            "other.json: not the server's answer: missing field `id`",
        ),
        ("nowhere", "nowhere: No such file or directory (os error 2)\n"),
    ] {
        let said = shell
            .run(&["psp", "launch-start", "p", "guest", "--reply", reply])
            .failed();
        assert!(said.starts_with(&format!("error: {expected}")), "{said}");
    }
    assert!(!shell.path("guest").exists());
    let said = shell
        .run(&["psp", "secret", "p", "--reply", "problem.json"])
        .failed();
    assert!(said.starts_with("error: p: "), "a platform is no guest: {said}");
}

/// What `psp input` with these options prints, which must be an input in full.
fn input(shell: &Shell, options: &str) -> Value {
    let arguments: Vec<_> = ["psp", "input"]
        .into_iter()
        .chain(options.split_whitespace())
        .collect();
    let printed = shell.run(&arguments).json();
    let read: Input = serde_json::from_value(printed.clone()).expect("an input, every member present");
    assert_eq!(serde_json::to_value(read).unwrap(), printed);
    printed
}

#[test]
fn it_makes_the_input_that_a_policy_would_read() {
    let shell = Shell::new();
    let made = input(
        &shell,
        "--vcpus 4 --image web --owner acme --workload api --secret a --secret b --about b",
    );
    assert_eq!(made["workload"]["name"], "api");
    assert_eq!(
        (&made["secrets"], &made["secret"]),
        (&json!(["a", "b"]), &json!("b"))
    );
    assert_eq!(made["attested"]["digest_source"], "image");
    assert_eq!(made["attested"]["image"]["vcpus"], 4);
    assert_eq!(
        (&made["workload"]["policy"], &made["attested"]["policy"]),
        (&json!(7), &json!(7))
    );

    let made = input(
        &shell,
        "--scheme amd-sev --policy 0x13 --hint --product rome --releases 12,1,3",
    );
    assert_eq!(made["platform"]["root"], "amd");
    assert_eq!(made["platform"]["product"], "rome");
    assert_eq!(made["attested"]["digest_source"], "hint");
    assert_eq!(made["attested"]["policy_bits"]["es"], false);
    assert_eq!(made["attested"]["policy_bits"]["domain"], true);
    assert_eq!(
        made["releases"],
        json!({"total": 12, "last_hour": 1, "last_day": 3})
    );

    let digest = "ab".repeat(32);
    let made = input(
        &shell,
        &format!("--launch-digest {digest} --claim kernel-hash={digest} --claim cpu-count=3"),
    );
    assert_eq!(made["attested"]["launch_digest"], digest);
    assert_eq!(made["claimed"]["kernel_hash"], digest);
    assert_eq!(made["claimed"]["cpu_count"], 3);

    let made = input(&shell, "--phase launch");
    let leaves = |value: &Value| value.as_object().unwrap().values().cloned().collect::<Vec<_>>();
    let attested = &made["attested"];
    let open = leaves(attested).into_iter().filter(|leaf| !leaf.is_object());
    let nested = leaves(&attested["policy_bits"])
        .into_iter()
        .chain(leaves(&attested["image"]));
    assert!(open.chain(nested).all(|leaf| leaf.is_null()), "{attested}");
}

#[test]
fn an_input_has_the_fingerprints_and_versions_of_its_platform_and_is_evaluated() {
    let shell = Shell::new();
    let made = platform();
    shell.write("platform", made.to_bytes().unwrap().as_slice());
    shell.run(&["psp", "chain", "platform", "--out", "d"]).done();
    let chain = "sev chain d/chain.cert --danger-extra-root d/ark.cert -o json";
    let verified = shell.run(&chain.split_whitespace().collect::<Vec<_>>()).json();
    let input = input(&shell, "platform");
    assert_eq!(input["platform"]["fingerprints"], verified["fingerprints"]);
    assert_eq!(input["platform"]["product"], Value::Null);
    assert_eq!(input["attested"]["build_id"], made.build().build_id);

    let text = format!(
        "package p\n\nallow if {{\n\tinput.platform.fingerprints.oca == \"{}\"\n\tinput.attested.build_id == 9\n}}\n",
        verified["fingerprints"]["oca"].as_str().unwrap()
    );
    shell.write("policy/p.rego", text);
    for (build, code) in [("9", 0), ("8", 2)] {
        let piped =
            "\"$0\" psp input platform --build-id \"$1\" | \"$0\" policy eval policy --policy p --input -";
        let mut bash = shell.command("bash");
        let keyward = env!("CARGO_BIN_EXE_keyward");
        let ran = crate::support::cli::ran(bash.args(["-c", piped, keyward, build]));
        assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
    }
}

#[test]
fn an_input_that_no_server_would_make_is_refused() {
    let shell = Shell::new();
    shell.write("junk", "{}");
    let mut all = String::new();
    for arguments in [
        "psp input --policy 3",
        "psp input --scheme amd-sev --policy 7",
        "psp input --phase launch --build-id 9",
        "psp input --about other",
        "psp input --claim speed=9",
        "psp input --claim kernel-hash=c2c0",
        "psp input --claim cpu-id=00",
        "psp input --time yesterday",
        "psp input --launch-digest c2c0",
        "psp input --product zen",
        "psp input --api 155",
        "psp input --releases 1,2,0",
        "psp input --claim cpu-count",
        "psp input nowhere",
        "psp input junk",
    ] {
        let ran = shell.run(&arguments.split_whitespace().collect::<Vec<_>>());
        let expected = if arguments.ends_with("where") || arguments.ends_with("junk") {
            1
        } else {
            64
        };
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (expected, ""),
            "{arguments}: {}",
            ran.err
        );
        all.push_str(&format!("$ keyward {arguments}\n{}\n", ran.err));
    }
    transcript("psp-input.txt", &all);
}

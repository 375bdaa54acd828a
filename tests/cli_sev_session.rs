//! `sev session`, `sev validate` and `sev secret`: a whole launch offline, against the software PSP.

use std::os::unix::fs::PermissionsExt as _;

use keyward::psp::Platform;
use openssl::base64::{decode_block, encode_block};
use serde_json::{Value, json};

use crate::sev_launch_digest::es_firmware;
use crate::support::cli::{Ran, transcript};
use crate::support::{Shell, platform};

fn run(shell: &Shell, line: &str) -> Ran {
    shell.run(&line.split_whitespace().collect::<Vec<_>>())
}

/// A folder with a platform's files and what a guest is started from.
fn shell() -> Shell {
    shell_of(&platform())
}

fn shell_of(platform: &Platform) -> Shell {
    let shell = Shell::new();
    shell.write("platform", &*platform.to_bytes().unwrap());
    shell.write("ark", platform.ark());
    shell.write("chain", platform.full_chain());
    shell.write("fw", es_firmware());
    shell.write("kernel", "kernel");
    shell.write("disk.key", "open sesame");
    shell
}

const TRUST: &str = "--danger-extra-root ark";
const IMAGE: &str = "--firmware fw --kernel kernel --scheme amd-sev-es --vcpus 2 --vcpu-type EPYC-Milan";

/// Starts and measures a guest with the session's files; what a validation is told of it.
fn launched(shell: &Shell, guest: &str, name: &str) -> String {
    run(
        shell,
        &format!(
            "psp launch-start platform {guest} --session-file {name}_session.b64 --dh-cert-file {name}_godh.b64 --policy 0x7"
        ),
    )
    .done();
    let facts = run(shell, &format!("psp measure {guest} {IMAGE}")).json();
    format!(
        "--measurement {} --api-major {} --api-minor {} --build-id {} --policy {}",
        facts["measurement"].as_str().unwrap(),
        facts["api-major"],
        facts["api-minor"],
        facts["build-id"],
        facts["policy"]
    )
}

#[test]
fn a_whole_launch_without_a_server_ends_with_the_secret_in_the_guest() {
    let shell = shell();
    let made = run(
        &shell,
        &format!("sev session chain {TRUST} --policy 7 --name web -o json"),
    )
    .json();
    let expected = json!({
        "verified": true, "root": "extra", "product": null, "policy": 7,
        "dh_cert_file": "web_godh.b64", "session_file": "web_session.b64",
        "tik": "web_tik.bin", "tek": "web_tek.bin", "tk": "web_tk.bin",
    });
    assert_eq!(made, expected);
    for (name, mode) in [
        ("godh.b64", 0o644),
        ("tik.bin", 0o600),
        ("tek.bin", 0o600),
        ("tk.bin", 0o600),
    ] {
        let found = std::fs::metadata(shell.path(&format!("web_{name}"))).unwrap();
        // The umask may take more away.
        assert_eq!(found.permissions().mode() & 0o777 & !mode, 0, "{name}");
    }
    let read = |name: &str| std::fs::read(shell.path(name)).unwrap();
    assert_eq!(
        [read("web_tek.bin"), read("web_tik.bin")].concat(),
        read("web_tk.bin")
    );
    assert_eq!(decode_block(&shell.read("web_session.b64")).unwrap().len(), 128);
    assert_eq!(decode_block(&shell.read("web_godh.b64")).unwrap().len(), 2084);

    let facts = launched(&shell, "guest", "web");
    let secrets = "--secret luks-passphrase:disk.key --secret-header header --secret-payload payload";
    let told = run(
        &shell,
        &format!("sev validate {facts} --tik web_tik.bin --tek web_tek.bin {IMAGE} {secrets}"),
    )
    .done();
    assert!(
        told.ends_with("wrapped    1 secret: header header, payload payload\n"),
        "{told}"
    );
    let received = run(
        &shell,
        "psp secret guest --secret-header header --secret-payload payload --show",
    )
    .done();
    assert_eq!(
        received,
        format!(
            "736869e5-84f0-4973-92ec-06879ce3da0b  11 bytes  {}\n",
            encode_block(b"open sesame")
        )
    );

    // `secret wrap` is the same, for several secrets, and its packet opens no other guest.
    let secrets =
        "--secret luks-key:disk.key --secret coco-connection:kernel --secret-header h2 --secret-payload p2";
    let wrapped = run(
        &shell,
        &format!("sev secret wrap {facts} --tk web_tk.bin {IMAGE} {secrets} -o json"),
    )
    .json();
    assert_eq!(wrapped["secret-header"], shell.read("h2"));
    assert_eq!(wrapped["secret-payload"], shell.read("p2"));
    run(&shell, "psp secret guest --secret-header h2 --secret-payload p2").done();
    launched(&shell, "twin", "web");
    let refused = run(&shell, "psp secret twin --secret-header h2 --secret-payload p2").failed();
    assert!(refused.starts_with("error: LAUNCH_SECRET: "), "{refused}");
}

#[test]
fn a_guest_that_is_not_what_was_meant_gets_nothing() {
    let shell = shell();
    run(&shell, &format!("sev session chain {TRUST} --policy 7")).done();
    let facts = launched(&shell, "guest", "vm");
    let image = IMAGE.replace("--vcpus 2", "--vcpus 3");
    let secrets = "--secret luks-passphrase:disk.key --secret-header header --secret-payload payload";
    for verb in ["validate", "secret wrap"] {
        let ran = run(
            &shell,
            &format!("sev {verb} {facts} --tk vm_tk.bin {image} {secrets}"),
        );
        assert_eq!((ran.code, ran.err.as_str()), (2, ""));
        assert_eq!(
            ran.out,
            "mismatch   the measurement does not hold for what was given\n\
             hint       it would match with --vcpus 2\n"
        );
    }
    assert!(!shell.path("header").exists() && !shell.path("payload").exists());
}

#[test]
fn a_chain_comes_in_every_form_that_tools_leave_it_in() {
    let platform = platform();
    let shell = shell_of(&platform);
    let (pdh, full) = (platform.pdh(), platform.full_chain());
    let signed = platform.cert_chain_signed();
    let part = |at: usize| signed[at * 2084..(at + 1) * 2084].to_vec();
    shell.write("chain.b64", encode_block(&full));
    shell.write("short", &signed);
    shell.write("short.b64", encode_block(&signed));
    shell.write("pdh", &pdh);
    shell.write("pdh.b64", encode_block(&pdh));
    shell.write("export", [pdh.clone(), signed.clone()].concat());
    let answer = json!({"pdh": encode_block(&pdh), "cert-chain": encode_block(&signed),
        "cpu0-id": encode_block(platform.chip_id()), "cbitpos": 51, "reduced-phys-bits": 1});
    shell.write("qemu.json", answer.to_string());
    shell.write("qmp.json", json!({"return": answer, "id": "1"}).to_string());
    for (name, bytes) in [
        ("pdh.cert", pdh),
        ("pek.cert", part(0)),
        ("oca.cert", part(1)),
        ("cek.cert", part(2)),
        ("ask.cert", platform.ask()),
        ("ark.cert", platform.ark()),
    ] {
        shell.write(&format!("split/{name}"), bytes);
    }
    let expected = run(&shell, &format!("sev chain chain {TRUST}")).done();
    shell.write("ask-ark", [platform.ask(), platform.ark()].concat());
    let with_authority = [
        "chain.b64",
        "split",
        "split/ark.cert split/ask.cert split/cek.cert split/oca.cert split/pek.cert split/pdh.cert",
        "split/pdh.cert split/pek.cert split/oca.cert split/cek.cert ask-ark",
    ];
    for form in with_authority {
        assert_eq!(
            run(&shell, &format!("sev chain {form} {TRUST}")).done(),
            expected,
            "{form}"
        );
    }
    // Without ASK and ARK no root of one's own can vouch; that the form was read shows in what is said of it.
    for form in [
        "short --pdh pdh",
        "short.b64 --pdh pdh.b64",
        "export",
        "qemu.json",
        "qmp.json",
    ] {
        let ran = run(&shell, &format!("sev chain {form} {TRUST}"));
        assert_eq!(
            ran.out, "refused    CEK: signed by no ASK of a trusted root\n",
            "{form}: {}",
            ran.err
        );
    }
}

#[test]
fn no_session_is_made_for_a_platform_that_is_not_proved() {
    let platform = platform();
    let shell = shell_of(&platform);
    let mut tampered = platform.full_chain();
    tampered[100] ^= 1;
    shell.write("tampered", tampered);
    let unsigned = platform.cert_chain().unwrap();
    let answer = json!({"pdh": encode_block(&platform.pdh()), "cert-chain": encode_block(&unsigned),
        "cpu0-id": encode_block(platform.chip_id())});
    shell.write("qemu.json", answer.to_string());
    shell.write("no-members.json", "{}");
    shell.write("not-base64.json", r#"{"pdh": "%", "cert-chain": "%"}"#);
    shell.write("folder/else", "");
    run(
        &shell,
        &format!("sev session chain {TRUST} --policy 7 --name taken"),
    )
    .done();
    let mut told = String::new();
    for line in [
        "chain --policy 7",
        "tampered --policy 7 --danger-extra-root ark",
        "qemu.json --policy 7",
        "no-members.json --policy 7",
        "not-base64.json --policy 7",
        "folder --policy 7",
        "chain chain --policy 7",
        "ark ark --policy 7",
        "ark fw --policy 7",
        "chain --policy 5 --danger-extra-root ark",
        "chain --policy 0 --danger-extra-root ark",
        "chain --policy 71 --danger-extra-root ark",
        "chain --policy seven",
        "chain --policy 7 --danger-extra-root ark --name a/b",
        "chain --policy 7 --danger-extra-root ark --name taken",
        "chain --policy 7 --danger-extra-root ark --out nowhere",
    ] {
        let ran = run(&shell, &format!("sev session {line}"));
        assert_ne!(ran.code, 0, "{line}");
        let chip = hex::encode(platform.chip_id());
        let said = format!("{}{}", ran.out, ran.err).replace(&chip, "<chip>");
        told.push_str(&format!("$ keyward sev session {line}\n{said}[{}]\n", ran.code));
    }
    let print = |digest: &str| digest.len() == 64 && hex::decode(digest).is_ok();
    let masked: Vec<&str> = told
        .split(' ')
        .map(|word| if print(word) { "<digest>" } else { word })
        .collect();
    transcript("sev-session-mistakes.txt", &masked.join(" "));
    let left: Vec<String> = shell
        .list(".")
        .into_iter()
        .filter(|name| name.starts_with("vm_"))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "nothing is written");
}

#[test]
fn files_are_made_all_or_none_and_none_is_overwritten() {
    let shell = shell();
    shell.write("vm_tek.bin", "another's");
    let said = run(&shell, &format!("sev session chain {TRUST} --policy 7")).failed();
    assert_eq!(
        said,
        "error: vm_tek.bin exists already; name another or remove it\n"
    );
    assert_eq!(shell.read("vm_tek.bin"), "another's");
    let made: Vec<String> = shell
        .list(".")
        .into_iter()
        .filter(|name| name.starts_with("vm_"))
        .collect();
    assert_eq!(made, ["vm_tek.bin"]);
}

#[test]
fn a_table_is_built_and_shown_without_its_secrets() {
    let shell = shell();
    run(&shell, "sev secret table --secret luks-passphrase:disk.key --secret 6f6f6f6f-0000-4000-8000-000000000001:kernel --out table").done();
    let mut told = run(&shell, "sev secret show table").done();
    told.push_str(&run(&shell, "sev secret show table --values").done());
    told.push_str(&run(&shell, "sev secret guids").done());
    let facts: Value = run(&shell, "sev secret show table -o json").json();
    assert_eq!(facts[0]["alias"], "luks-passphrase");
    assert_eq!(facts[0].get("value"), None);
    shell.write("nul.key", "open\0sesame");
    shell.write("line.key", "open sesame\n");
    shell.write("long.key", [b'x'; 4000]);
    shell.write("empty.key", "");
    for line in [
        "--secret luks-passphrase:nul.key --out t1",
        "--secret luks-passphrase:line.key --out t2",
        "--secret luks-passphrase:long.key --out t3",
        "--secret luks-passphrase:long.key --out t4 --secret-area 16384",
        "--secret luks-passphrase:empty.key --out t5",
        "--secret luks-passphrase:disk.key --secret luks-key:disk.key --out t6",
        "--secret luks-passphrase:nowhere --out t7",
        "--secret 00000000-0000-0000-0000-000000000000:disk.key --out t8",
        "--secret disk.key --out t9",
        "--secret luks-passphrase:disk.key --out table",
    ] {
        let ran = run(&shell, &format!("sev secret table {line}"));
        told.push_str(&format!(
            "$ keyward sev secret table {line}\n{}{}[{}]\n",
            ran.out, ran.err, ran.code
        ));
    }
    let ran = run(&shell, "sev secret show kernel");
    told.push_str(&format!("$ keyward sev secret show kernel\n{}", ran.err));
    transcript("sev-secret.txt", &told);
}

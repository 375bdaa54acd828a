//! The toolbox where something is odd: nothing half is written, and no option is passed over in silence.

use keyward::sev::{Build, LaunchKeys, Measurement, SevPolicy, SystemRandom, measurement, packet};
use openssl::base64::{decode_block, encode_block};

use crate::sev_launch_digest::es_firmware;
use crate::support::cli::Ran;
use crate::support::{Shell, platform};

fn run(shell: &Shell, line: &str) -> Ran {
    shell.run(&line.split_whitespace().collect::<Vec<_>>())
}

/// A guest of `sev session` under plain SEV, and what a validation is told of it.
fn measured() -> (Shell, String) {
    let (shell, platform) = (Shell::new(), platform());
    shell.write("platform", &*platform.to_bytes().unwrap());
    shell.write("ark", platform.ark());
    shell.write("chain", platform.full_chain());
    shell.write("fw", es_firmware());
    shell.write("disk.key", "open sesame");
    run(&shell, "sev session chain --danger-extra-root ark --policy 3").done();
    run(
        &shell,
        "psp launch-start platform guest --session-file vm_session.b64 --dh-cert-file vm_godh.b64 --policy 3",
    )
    .done();
    let facts = run(&shell, "psp measure guest --firmware fw --scheme amd-sev").json();
    let facts = format!(
        "--measurement {} --api-major {} --api-minor {} --build-id {} --policy 3 --tk vm_tk.bin",
        facts["measurement"].as_str().unwrap(),
        facts["api-major"],
        facts["api-minor"],
        facts["build-id"],
    );
    (shell, facts)
}

#[test]
fn a_packet_s_two_files_are_written_both_or_not_at_all() {
    let (shell, facts) = measured();
    let wrap = |header: &str, payload: &str| {
        run(
            &shell,
            &format!(
                "sev validate {facts} --firmware fw --secret luks-key:disk.key --secret-header {header} --secret-payload {payload}"
            ),
        )
    };
    shell.write("header", "an earlier one");
    let failed = wrap("header", "nowhere/payload").failed();
    assert!(failed.contains("nowhere/payload"), "{failed}");
    assert_eq!(shell.read("header"), "an earlier one");
    let one = wrap("both", "both");
    assert_eq!(one.code, 64, "{}", one.err);
    assert!(
        one.err.contains("name one file, and the packet is two"),
        "{}",
        one.err
    );
    let left: Vec<_> = shell
        .list("")
        .into_iter()
        .filter(|name| !name.starts_with("vm_"))
        .collect();
    assert_eq!(
        left,
        ["ark", "chain", "disk.key", "fw", "guest", "header", "platform"]
    );
    // An earlier packet gives way to this one.
    wrap("header", "payload").done();
    run(
        &shell,
        "psp secret guest --secret-header header --secret-payload payload",
    )
    .done();
}

#[test]
fn what_the_psp_unwraps_is_kept_only_where_it_is_a_table_of_secrets() {
    let (shell, facts) = measured();
    let keys: [u8; 32] = std::fs::read(shell.path("vm_tk.bin"))
        .unwrap()
        .try_into()
        .unwrap();
    let keys = LaunchKeys::from_bytes(&keys);
    let word = |name: &str| {
        let mut words = facts.split(' ').skip_while(|word| *word != name);
        words.nth(1).unwrap()
    };
    let number = |name: &str| word(name).parse().unwrap();
    let build = Build {
        api_major: number("--api-major"),
        api_minor: number("--api-minor"),
        build_id: number("--build-id"),
    };
    let of_guest = Measurement::parse(&decode_block(word("--measurement")).unwrap()).unwrap();
    let digest = openssl::sha::sha256(&es_firmware());
    let (attested, ()) = measurement::verify(&keys, &of_guest, build, SevPolicy(3), [(digest, ())]).unwrap();
    let deliver = |table: &[u8]| {
        let packet = packet::seal(&keys, &attested, table, &SystemRandom).unwrap();
        shell.write("header", encode_block(&packet.header));
        shell.write("payload", encode_block(&packet.payload));
        run(
            &shell,
            "psp secret guest --secret-header header --secret-payload payload --out table",
        )
    };
    let error = deliver(&[7; 48]).failed();
    assert!(
        error.starts_with("error: what the PSP unwrapped: the bytes are not a secret table"),
        "{error}"
    );
    assert!(!shell.path("table").exists());

    // As libvirt's tool pads one that is aligned.
    run(
        &shell,
        "sev secret table --secret 00000000-0000-0000-0000-000000000001:fw --out other --secret-area 16384",
    )
    .done();
    shell.write("eight", "12345678");
    run(&shell, "sev secret table --secret luks-key:eight --out aligned").done();
    let aligned = std::fs::read(shell.path("aligned")).unwrap();
    assert_eq!(aligned.len(), 48);
    let padded = [aligned, vec![0; 16]].concat();
    let told = deliver(&padded).done();
    assert_eq!(told, "736869e5-84f0-4973-92ec-06879ce3da0b  8 bytes\n");
    assert_eq!(std::fs::read(shell.path("table")).unwrap(), padded);
    let shown = run(&shell, "sev secret show table").done();
    assert!(shown.contains("luks-passphrase  8 bytes"), "{shown}");
}

#[test]
fn options_that_would_not_count_are_refused() {
    let (shell, facts) = measured();
    let digest = hex::encode([1; 32]);
    for (line, expected) in [
        (
            format!("sev validate {facts} --launch-digest {digest} --vmsa legacy"),
            "--vmsa",
        ),
        (
            format!("sev validate {facts} --firmware fw --vmsa legacy --vmsa-file v"),
            "--vmsa",
        ),
    ] {
        let ran = run(&shell, &line);
        assert_eq!(ran.code, 64, "{line}: {}", ran.err);
        assert!(
            ran.err.contains(expected) && ran.err.contains("cannot be used with"),
            "{}",
            ran.err
        );
    }
    let none = run(&shell, "sev measure --firmware fw --scheme amd-sev --vcpus 0").failed();
    assert_eq!(none, "error: a guest has 1 to 512 vCPUs, not 0\n");
}

#[test]
fn a_chain_is_taken_as_a_whole() {
    let (shell, platform) = (Shell::new(), platform());
    let chain = platform.full_chain();
    // PDH, PEK, OCA and CEK, and the rest is ASK and ARK.
    for (index, name) in ["pdh", "pek", "oca", "cek"].iter().enumerate() {
        shell.write(
            &format!("certs/{name}.cert"),
            &chain[index * 2084..(index + 1) * 2084],
        );
    }
    let ark = platform.ark();
    shell.write("ark", &ark);
    shell.write("certs/ark.cert", &ark);
    let half = run(&shell, "sev chain certs --danger-extra-root ark").failed();
    assert!(half.contains("an ARK without its ASK"), "{half}");
    let rest = &chain[4 * 2084..];
    shell.write("certs/ask.cert", &rest[..rest.len() - ark.len()]);
    run(&shell, "sev chain certs --danger-extra-root ark").done();
    shell.write("other.pdh", crate::support::platform().pdh());
    let other = run(&shell, "sev chain certs --danger-extra-root ark --pdh other.pdh").failed();
    assert!(other.contains("is another PDH than the chain's"), "{other}");

    // QEMU's answer, as an editor saved it.
    let text = serde_json::json!({"return": {
        "pdh": encode_block(&platform.pdh()), "cert-chain": encode_block(&chain[2084..]),
    }});
    shell.write("answer", format!("\n  {text}\n"));
    run(&shell, "sev chain answer --danger-extra-root ark").done();
}

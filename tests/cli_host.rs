//! `host launch` and `host validate`: the halves that other orchestrators use, in files and over QMP.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use keyward::domain::Base64Bytes;
use keyward::psp::Platform;
use serde_json::{Value, json};

use crate::cli_host_run::House;
use crate::support::cli::{Ran, masked, transcript};
use crate::support::host::{IMAGE, WORKLOAD};
use crate::support::qemu::{Fault, Machine, Script};
use crate::support::{Shell, platform};

/// A served workload, and a platform in files as tools write them.
fn house() -> (House, Platform) {
    let house = House::new(Script::default());
    let platform = Platform::clone(house.machine.platform());
    let shell = &house.shell;
    shell.write("chain", platform.full_chain());
    shell.write("pdh", platform.pdh());
    let parts = BASE64_STANDARD.encode(&platform.full_chain()[2084..]);
    shell.write("parts.b64", format!("{}\n{}\n", &parts[..100], &parts[100..]));
    let said = json!({
        "pdh": Base64Bytes(platform.pdh()),
        "cert-chain": Base64Bytes(platform.full_chain()),
        "cpu0-id": Base64Bytes(platform.chip_id().to_vec()),
        "cbitpos": 51,
        "reduced-phys-bits": 1,
        "max-guests": 509,
    });
    shell.write("libvirt.json", said.to_string());
    shell.write("qmp.json", json!({"return": said, "id": 1}).to_string());
    (house, platform)
}

fn launch(house: &House, options: &[&str]) -> Ran {
    let mut words = vec!["host", "launch", "--workload", WORKLOAD];
    words.extend(options);
    house.shell.run(&words)
}

/// A guest that is measured; what libvirt says of it, as options.
fn measured(platform: &Platform, launched: &Value, image: &[u8]) -> (keyward::psp::Guest, Vec<String>) {
    let bytes = |name: &str| BASE64_STANDARD.decode(launched[name].as_str().unwrap()).unwrap();
    let policy = u32::try_from(launched["policy"].as_u64().unwrap()).unwrap();
    let mut guest = platform
        .launch_start(policy, &bytes("dh-cert"), &bytes("session"))
        .unwrap();
    guest.launch_update_data(image).unwrap();
    let measurement = BASE64_STANDARD.encode(guest.launch_measure().unwrap());
    let build = guest.build();
    let options = [
        ("--measurement", measurement),
        ("--api-major", build.api_major.to_string()),
        ("--api-minor", build.api_minor.to_string()),
        ("--build-id", build.build_id.to_string()),
        ("--policy", "0x3".to_owned()),
    ];
    let words = options
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value]);
    (guest, words.collect())
}

fn validate(house: &House, id: &Value, options: &[String], more: &[&str]) -> Ran {
    let mut words = vec!["host", "validate", id.as_str().unwrap()];
    words.extend(options.iter().map(String::as_str));
    words.extend(more);
    house.shell.run(&words)
}

#[test]
fn every_form_in_which_a_platform_says_what_it_is_gets_a_launch() {
    let (house, _) = house();
    for source in [
        &["--cert-chain", "chain"][..],
        &["--cert-chain", "parts.b64", "--pdh", "pdh"],
        &["--capabilities", "libvirt.json"],
        &["--capabilities", "qmp.json"],
        &["--probe", house.shell.path("qemu").to_str().unwrap()],
    ] {
        let made = launch(&house, &[source, &["-o", "json"]].concat()).json();
        assert_eq!(made["policy"], 3, "{source:?}");
        assert_eq!(made.get("dh-cert-file"), None);
        assert_eq!(made["cbitpos"] == 51, !source[0].starts_with("--cert"), "{made}");
    }
}

#[test]
fn the_two_files_are_private_whole_and_what_qemu_reads() {
    let (house, platform) = house();
    let made = launch(&house, &["--cert-chain", "chain", "--out", "run", "-o", "json"]).json();
    assert_eq!(house.shell.list("run"), ["dh-cert.b64", "session.b64"]);
    for (file, member, bytes) in [("dh-cert.b64", "dh-cert", 2084), ("session.b64", "session", 128)] {
        let path = house.shell.path(&format!("run/{file}"));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = house.shell.read(&format!("run/{file}"));
        assert_eq!(made[member], text);
        assert_eq!(BASE64_STANDARD.decode(&text).unwrap().len(), bytes);
        assert_eq!(made[format!("{member}-file")], path.to_str().unwrap());
    }
    // Another launch's take their place, and yaml says the same as json.
    let yaml = launch(&house, &["--cert-chain", "chain", "--out", "run", "-o", "yaml"]).done();
    let again: Value = serde_yaml::from_str(&yaml).unwrap();
    assert_ne!(again["id"], made["id"]);
    assert_eq!(again["session"], house.shell.read("run/session.b64"));
    let (guest, options) = measured(&platform, &again, IMAGE);
    let released = validate(&house, &again["id"], &options, &["-o", "json"]).json();
    let bytes = |name: &str| BASE64_STANDARD.decode(released[name].as_str().unwrap()).unwrap();
    let payload = bytes("secret-payload");
    let table = guest
        .launch_secret(&bytes("secret-header"), &payload, payload.len())
        .unwrap();
    assert_eq!(
        &*keyward::sev::secret_table::parse(&table).unwrap()[0].data,
        b"hunter2"
    );
}

#[test]
fn asked_the_same_again_validate_gives_the_same_packet_and_counts_it_once() {
    let (house, platform) = house();
    let made = launch(&house, &["--cert-chain", "chain", "-o", "json"]).json();
    let (_, options) = measured(&platform, &made, IMAGE);
    let first = validate(&house, &made["id"], &options, &["-o", "json"]).json();
    let files = ["--secret-header", "run/header", "--secret-payload", "run/payload"];
    let said = validate(&house, &made["id"], &options, &files).done();
    assert_eq!(
        said,
        format!("decision {}: released\n", first["decision"].as_str().unwrap())
    );
    assert_eq!(first["secret-header"], house.shell.read("run/header"));
    assert_eq!(first["secret-payload"], house.shell.read("run/payload"));
    assert_eq!(house.released(), 1);
    let said = validate(&house, &made["id"], &options, &["-o", "json", "--cpu-count", "2"]).failed();
    assert!(
        said.contains("launch"),
        "another request is another release, and this launch had its one: {said}"
    );
    for file in ["header", "payload"] {
        let mode = std::fs::metadata(house.shell.path(&format!("run/{file}")))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn validate_injects_and_resumes_over_qmp_each_only_when_it_is_told_to() {
    for (more, injects, resumes) in [
        (&["-o", "json"][..], false, false),
        (&["--inject"], true, false),
        (&["--inject", "--resume"], true, true),
    ] {
        let (house, _) = house();
        let made = launch(&house, &["--cert-chain", "chain", "--out", "run", "-o", "json"]).json();
        let socket = house.shell.path("qmp");
        let files = ["dh-cert.b64", "session.b64"].map(|name| house.shell.path(&format!("run/{name}")));
        let (machine, listens): (Machine, PathBuf) = (house.machine.clone(), socket.clone());
        std::thread::spawn(move || machine.guest(&listens, &files, 3));
        let mut words = vec![
            "host",
            "validate",
            made["id"].as_str().unwrap(),
            "--qmp",
            socket.to_str().unwrap(),
        ];
        words.extend(more);
        let ran = house.shell.run(&words);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(house.injected().is_some(), injects);
        assert_eq!(house.running(), resumes);
    }
}

#[test]
fn another_image_is_refused_and_no_file_is_written() {
    let (house, platform) = house();
    let made = launch(&house, &["--cert-chain", "chain", "-o", "json"]).json();
    let (_, options) = measured(&platform, &made, b"sixteen bytes !!");
    let ran = validate(
        &house,
        &made["id"],
        &options,
        &["--secret-header", "run/h", "--secret-payload", "run/p"],
    );
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
    assert!(
        ran.err.starts_with("error: The measurement does not match"),
        "{}",
        ran.err
    );
    house.nothing_left();
}

#[test]
fn where_one_file_can_t_be_written_neither_is_left() {
    let (house, platform) = house();
    // A folder where the second file would go.
    house.shell.write("run/session.b64/x", "");
    let said = launch(&house, &["--cert-chain", "chain", "--out", "run"]).failed();
    assert_eq!(said, "error: run/session.b64: Is a directory (os error 21)\n");
    assert_eq!(house.shell.list("run"), ["session.b64"]);
    let said = launch(&house, &["--cert-chain", "chain", "--out", "nowhere"]).failed();
    assert_eq!(
        said,
        "error: nowhere/dh-cert.b64: No such file or directory (os error 2)\n"
    );

    let made = launch(&house, &["--cert-chain", "chain", "-o", "json"]).json();
    let (_, options) = measured(&platform, &made, IMAGE);
    let files = [
        "--secret-header",
        "run/header",
        "--secret-payload",
        "run/session.b64",
    ];
    let said = validate(&house, &made["id"], &options, &files).failed();
    assert!(said.starts_with("error: run/session.b64: "), "{said}");
    assert_eq!(house.shell.list("run"), ["session.b64"]);
}

#[test]
fn qemu_that_can_t_say_what_platform_it_is_on_is_quoted() {
    let fault = Fault::Error("GenericError", "SEV: Failed to open /dev/sev: Permission denied");
    let house = House::new(Script::with("probe query-sev-capabilities", fault));
    let qemu = house.shell.path("qemu");
    let said = launch(&house, &["--probe", qemu.to_str().unwrap(), "-o", "json"]).failed();
    assert_eq!(
        said,
        format!(
            "error: {}: query-sev-capabilities: QEMU answered GenericError: SEV: Failed to open /dev/sev: Permission denied\n",
            qemu.display()
        )
    );
}

#[test]
fn wrong_usage_is_told_before_anybody_is_asked() {
    let shell = Shell::new();
    shell.write("chain", platform().full_chain());
    shell.write("parts", platform().cert_chain_signed());
    shell.write("empty.json", "{}");
    let mut all = String::new();
    let id = "00000000-0000-4000-8000-000000000000";
    let run = format!("host run --workload {id}");
    for (code, arguments) in [
        (64, format!("host launch --workload {id} --cert-chain chain")),
        (64, format!("host launch --workload {id} --out .")),
        (
            64,
            "host launch --workload web --cert-chain chain --out .".to_owned(),
        ),
        (
            64,
            format!("host launch --workload {id} --cert-chain chain --probe qemu --out ."),
        ),
        (
            64,
            format!("host launch --workload {id} --capabilities x --cpu-id 00 --out ."),
        ),
        (
            64,
            format!("host launch --workload {id} --cert-chain chain --out . --timeout soon"),
        ),
        (
            1,
            format!("host launch --workload {id} --cert-chain nowhere --out ."),
        ),
        (
            1,
            format!("host launch --workload {id} --cert-chain parts --out ."),
        ),
        (
            1,
            format!("host launch --workload {id} --cert-chain empty.json --out ."),
        ),
        (
            1,
            format!("host launch --workload {id} --capabilities empty.json --out ."),
        ),
        (64, format!("host validate {id}")),
        (
            64,
            format!(
                "host validate {id} --measurement AAAA --api-major 1 --api-minor 55 --build-id 8 --policy 3"
            ),
        ),
        (64, format!("host validate {id} --qmp qmp")),
        (64, format!("host validate {id} --qmp qmp --policy 3 --inject")),
        (64, format!("host validate {id} --qmp qmp --resume")),
        (
            64,
            format!("host validate {id} --qmp qmp --inject --claim speed=9"),
        ),
        (
            1,
            format!("host validate {id} --qmp qmp --inject --qemu-timeout 0s"),
        ),
        (64, run.clone()),
        (64, format!("{run} --out . --qmp qmp")),
        (64, format!("{run} --out . --qmp qmp -- qemu")),
        (64, format!("{run} -- qemu -S -qmp unix:{{qmp}}")),
        (64, format!("{run} -- qemu -S -object {{sev-guest}}")),
        (
            64,
            format!("{run} -- qemu -object {{sev-guest}} -qmp unix:{{qmp}}"),
        ),
        (
            64,
            format!("{run} --group-readable -- qemu -S -object {{sev-guest}} -qmp unix:{{qmp}}"),
        ),
    ] {
        let ran = shell.run(&arguments.split_whitespace().collect::<Vec<_>>());
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (code, ""),
            "{arguments}: {}",
            ran.err
        );
        all.push_str(&masked(&format!("$ keyward {arguments}\n{}\n", ran.err)));
    }
    transcript("host-mistakes.txt", &all);
}

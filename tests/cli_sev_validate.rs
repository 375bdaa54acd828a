//! `sev validate`: what holds, what does not, and which input would have matched.

use keyward::sev::launch_digest::{
    CpuModel, Firmware, KernelHashes, Measurer, SEV_FEATURES_DEBUG_SWAP, SaveArea, VmsaVariant,
};
use keyward::sev::measurement::compute;
use keyward::sev::{Build, Digest, LaunchKeys, SevPolicy};
use openssl::base64::encode_block;
use serde_json::{Value, json};

use crate::sev_launch_digest::es_firmware;
use crate::support::Shell;
use crate::support::cli::{Ran, transcript};

const NONCE: [u8; 16] = [9; 16];

/// TEK ‖ TIK.
const KEYS: [u8; 32] = {
    let mut keys = [0x44; 32];
    keys[16] = 0x55;
    keys
};

/// What was measured, as a test has it; what is said about it is [`SAID`].
#[derive(Clone)]
struct Measured {
    build: Build,
    policy: u32,
    keys: [u8; 32],
    digest: Digest,
}

const SAID: &str = "--api-major 1 --api-minor 55 --build-id 15 --policy 7 --tk tk.bin";
const IMAGE: &str = "--firmware fw --kernel kernel --initrd initrd --cmdline console=ttyS0 --vcpus 2 \
                     --vcpu-type EPYC-Milan --vmsa init2";

fn shell() -> Shell {
    let shell = Shell::new();
    shell.write("fw", es_firmware());
    shell.write("kernel", "kernel");
    shell.write("initrd", "initrd");
    shell.write("tk.bin", KEYS);
    shell
}

fn kernel(initrd: Option<&[u8]>, cmdline: Option<&str>) -> KernelHashes {
    KernelHashes::from_files(b"kernel", initrd, cmdline)
}

fn digest(kernel: Option<KernelHashes>, vcpus: u32, cpu: CpuModel, variant: VmsaVariant) -> Digest {
    let firmware = Firmware::parse(es_firmware()).unwrap();
    let measurer = Measurer::new(&firmware, kernel.as_ref()).unwrap();
    measurer.sev_es(vcpus, cpu.signature(), variant).unwrap()
}

/// Exactly what is said.
fn measured() -> Measured {
    Measured {
        build: Build {
            api_major: 1,
            api_minor: 55,
            build_id: 15,
        },
        policy: 7,
        keys: KEYS,
        digest: digest(
            Some(kernel(Some(b"initrd"), Some("console=ttyS0"))),
            2,
            CpuModel::Milan,
            VmsaVariant::Init2,
        ),
    }
}

impl Measured {
    fn bytes(&self) -> Vec<u8> {
        let keys = LaunchKeys::from_bytes(&self.keys);
        let measure = compute(&keys, self.build, SevPolicy(self.policy), &self.digest, &NONCE);
        [&measure[..], &NONCE].concat()
    }

    fn text(&self) -> String {
        encode_block(&self.bytes())
    }
}

fn validate(shell: &Shell, measurement: &str, arguments: &str) -> Ran {
    let mut line = vec!["sev", "validate", "--measurement", measurement];
    line.extend(arguments.split_whitespace());
    shell.run(&line)
}

fn hints(shell: &Shell, measured: &Measured, image: &str) -> Value {
    let ran = validate(shell, &measured.text(), &format!("{SAID} {image} -o json"));
    assert_eq!((ran.code, ran.err.as_str()), (2, ""), "{}", ran.out);
    let answer: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(answer["matches"], false);
    answer["hints"].clone()
}

#[test]
fn a_measurement_that_holds_ends_with_0_and_says_what_it_proves() {
    let shell = shell();
    let measurement = measured().text();
    let told = validate(&shell, &measurement, &format!("{SAID} {IMAGE}")).done();
    let digest = hex::encode(measured().digest);
    assert_eq!(
        told,
        format!(
            "matches    launch digest {digest}, VMSA init2\n\
             attested   API 1.55 build 15, SEV policy 0x7, amd-sev-es\n"
        )
    );
    let both = IMAGE.replace("--vmsa init2", "");
    let facts = validate(&shell, &measurement, &format!("{SAID} {both} -o json")).json();
    let expected = json!({
        "matches": true, "launch_digest": digest, "vmsa": "init2",
        "api_major": 1, "api_minor": 55, "build_id": 15, "policy": 7,
    });
    assert_eq!(facts, expected);
}

#[test]
fn keys_digest_and_measurement_come_in_every_form_that_tools_write() {
    let shell = shell();
    let measured = measured();
    shell.write("tek.bin", &KEYS[..16]);
    shell.write("tik.bin", &KEYS[16..]);
    shell.write("tek.b64", encode_block(&KEYS[..16]));
    shell.write("tik.b64", format!("{}\n", encode_block(&KEYS[16..])));
    shell.write("measure.bin", measured.bytes());
    shell.write("measure.b64", format!("{}\n", measured.text()));
    let numbers = "--api-major 0x1 --api-minor 0x37 --build-id 0xf --policy 0x7";
    let text = measured.text();
    for measurement in ["measure.bin", "measure.b64", &text] {
        for keys in [
            "--tk tk.bin",
            "--tik tik.bin --tek tek.bin",
            "--tik tik.b64 --tek tek.b64",
        ] {
            for digest in [hex::encode(measured.digest), encode_block(&measured.digest)] {
                let line = format!("{numbers} {keys} --launch-digest {digest}");
                let told = validate(&shell, measurement, &line).done();
                assert!(told.starts_with("matches    launch digest "), "{line}: {told}");
            }
        }
    }
}

#[test]
fn every_single_wrong_input_is_named() {
    use CpuModel::{Milan, Rome};
    use VmsaVariant::{Init2, Legacy};
    let shell = shell();
    let right = measured();
    let line = "console=ttyS0";
    let full = |line: &str| Some(kernel(Some(b"initrd"), Some(line)));
    let other = |digest: Digest| Measured {
        digest,
        ..right.clone()
    };
    let built = |api_major, api_minor, build_id| Measured {
        build: Build {
            api_major,
            api_minor,
            build_id,
        },
        ..right.clone()
    };
    let under = |policy| Measured {
        policy,
        ..right.clone()
    };
    let swapped = [&KEYS[16..], &KEYS[..16]].concat().try_into().unwrap();
    let files_swapped = KernelHashes::from_files(b"initrd", Some(b"kernel"), Some(line));
    for (what, expected) in [
        (other(digest(full(line), 1, Milan, Init2)), "--vcpus 1"),
        (other(digest(full(line), 512, Milan, Init2)), "--vcpus 512"),
        (other(digest(full(line), 2, Rome, Init2)), "--vcpu-type EPYC-Rome"),
        (other(digest(full(line), 2, Milan, Legacy)), "--vmsa legacy"),
        (
            other(digest(None, 2, Milan, Init2)),
            "no --kernel: it was not measured (kernel-hashes=off), so that any kernel may run there",
        ),
        (
            other(digest(Some(kernel(None, Some(line))), 2, Milan, Init2)),
            "no --initrd",
        ),
        (
            other(digest(Some(kernel(Some(b"initrd"), None)), 2, Milan, Init2)),
            "no --cmdline",
        ),
        (
            other(digest(Some(files_swapped), 2, Milan, Init2)),
            "--kernel and --initrd in each other's place",
        ),
        (
            other(digest(full("console=ttyS0 "), 2, Milan, Init2)),
            "--cmdline \"console=ttyS0 \" (only what is behind it differs)",
        ),
        (
            other(digest(full("console=ttyS0\n"), 2, Milan, Init2)),
            "--cmdline \"console=ttyS0\\n\" (only what is behind it differs)",
        ),
        (
            other(digest(full("console=ttyS0\0"), 2, Milan, Init2)),
            "--cmdline \"console=ttyS0\\0\" (only what is behind it differs)",
        ),
        (built(1, 55, 21), "--build-id 21 (15 was hexadecimal: 0x15)"),
        (built(1, 55, 8), "--build-id 8"),
        (
            built(55, 1, 15),
            "--api-major 55 --api-minor 1 (major and minor in each other's place)",
        ),
        (built(1, 51, 15), "--api-major 1 --api-minor 51"),
        (under(3), "--policy 0x3"),
        (under(0xf), "--policy 0xf"),
        (
            Measured {
                keys: swapped,
                ..right.clone()
            },
            "TIK and TEK in each other's place",
        ),
    ] {
        // Under plain SEV vCPUs are not measured.
        let what = if what.policy == 3 {
            let firmware = Firmware::parse(es_firmware()).unwrap();
            let digest = Measurer::new(&firmware, full(line).as_ref()).unwrap().sev();
            Measured { digest, ..what }
        } else {
            what
        };
        let found = hints(&shell, &what, IMAGE);
        let expected = match expected {
            "--policy 0x3" => "--policy 0x3 (without ES)",
            other => other,
        };
        assert_eq!(found, json!([expected]), "{expected}");
    }
}

#[test]
fn parts_of_the_measurement_in_the_other_order_are_noticed() {
    let shell = shell();
    let bytes = measured().bytes();
    let turned = encode_block(&[&bytes[32..], &bytes[..32]].concat());
    let ran = validate(&shell, &turned, &format!("{SAID} {IMAGE}"));
    assert_eq!(ran.code, 2);
    assert!(
        ran.out.contains("the measurement's two parts in the other order"),
        "{}",
        ran.out
    );
}

#[test]
fn a_kernel_that_sets_debug_swap_is_noticed() {
    let shell = shell();
    let firmware = Firmware::parse(es_firmware()).unwrap();
    let hashes = kernel(Some(b"initrd"), Some("console=ttyS0"));
    let cpu = CpuModel::Milan.signature();
    let areas = [
        SaveArea::boot(cpu, VmsaVariant::Init2),
        SaveArea::further(&firmware, cpu, VmsaVariant::Init2).unwrap(),
    ];
    let areas = areas.map(|area| area.with_sev_features(SEV_FEATURES_DEBUG_SWAP));
    let what = Measured {
        digest: Measurer::new(&firmware, Some(&hashes))
            .unwrap()
            .with_areas(&areas),
        ..measured()
    };
    let found = hints(&shell, &what, IMAGE);
    assert!(
        found[0]
            .as_str()
            .unwrap()
            .starts_with("DebugSwap in the vCPUs' SEV_FEATURES"),
        "{found}"
    );

    // And what the hint says to do is enough.
    for cpu in ["0", "1"] {
        let line = format!(
            "sev vmsa build vmsa{cpu} --cpu {cpu} --firmware fw --vcpu-type EPYC-Milan --vmsa init2 --sev-features 0x20"
        );
        shell.run(&line.split_whitespace().collect::<Vec<_>>()).done();
    }
    let image =
        "--firmware fw --kernel kernel --initrd initrd --cmdline console=ttyS0 --vmsa-file vmsa0 vmsa1";
    validate(&shell, &what.text(), &format!("{SAID} {image}")).done();
}

#[test]
fn two_wrong_inputs_are_named_together() {
    let shell = shell();
    let full = |line: &str| Some(kernel(Some(b"initrd"), Some(line)));
    let right = measured();
    let build = |api_minor, build_id| Build {
        api_major: 1,
        api_minor,
        build_id,
    };
    for (what, expected) in [
        (
            Measured {
                digest: digest(full("console=ttyS0"), 8, CpuModel::Genoa, VmsaVariant::Init2),
                ..right.clone()
            },
            json!(["--vcpu-type EPYC-Genoa", "--vcpus 8"]),
        ),
        (
            Measured {
                digest: digest(full("console=ttyS0 "), 2, CpuModel::Milan, VmsaVariant::Legacy),
                ..right.clone()
            },
            json!([
                "--cmdline \"console=ttyS0 \" (only what is behind it differs)",
                "--vmsa legacy"
            ]),
        ),
        (
            Measured {
                digest: digest(full("console=ttyS0"), 4, CpuModel::Milan, VmsaVariant::Init2),
                build: build(55, 21),
                ..right.clone()
            },
            json!(["--vcpus 4", "--build-id 21 (15 was hexadecimal: 0x15)"]),
        ),
        (
            Measured {
                build: build(57, 40),
                ..right.clone()
            },
            json!(["--build-id 40", "--api-major 1 --api-minor 57"]),
        ),
    ] {
        assert_eq!(hints(&shell, &what, IMAGE), expected);
    }
}

#[test]
fn what_is_far_from_all_that_was_said_has_no_hint_but_what_is_left() {
    let shell = shell();
    let what = Measured {
        digest: [7; 32],
        ..measured()
    };
    let mut told = String::new();
    for image in [
        IMAGE.to_owned(),
        format!("--launch-digest {}", hex::encode([8; 32])),
    ] {
        let ran = validate(&shell, &what.text(), &format!("{SAID} {image}"));
        assert_eq!((ran.code, ran.err.as_str()), (2, ""));
        told.push_str(&ran.out);
    }
    transcript("sev-no-hint.txt", &told);
}

#[test]
fn with_the_digest_alone_what_else_the_mac_covers_is_still_searched() {
    let shell = shell();
    let what = Measured {
        build: Build {
            build_id: 21,
            ..measured().build
        },
        ..measured()
    };
    let image = format!("--launch-digest {}", hex::encode(what.digest));
    assert_eq!(
        hints(&shell, &what, &image),
        json!(["--build-id 21 (15 was hexadecimal: 0x15)"])
    );
}

#[test]
fn dumped_vmsas_are_taken_one_for_each_vcpu_or_the_last_for_all_others() {
    let shell = shell();
    let firmware = Firmware::parse(es_firmware()).unwrap();
    let cpu = CpuModel::Rome.signature();
    shell.write("boot", SaveArea::boot(cpu, VmsaVariant::Legacy).bytes());
    let further = SaveArea::further(&firmware, cpu, VmsaVariant::Legacy).unwrap();
    shell.write("further", further.bytes());
    let of = |vcpus| Measured {
        digest: digest(None, vcpus, CpuModel::Rome, VmsaVariant::Legacy),
        ..measured()
    };
    for (vcpus, files) in [
        (1, "--vmsa-file boot"),
        (2, "--vmsa-file boot further"),
        (2, "--vmsa-file boot --vmsa-file further"),
        (4, "--vmsa-file boot further --vcpus 4"),
        (3, "--vmsa-file boot further further"),
    ] {
        validate(
            &shell,
            &of(vcpus).text(),
            &format!("{SAID} --firmware fw {files}"),
        )
        .done();
    }
    let found = hints(&shell, &of(6), "--firmware fw --vmsa-file boot further");
    assert_eq!(found, json!(["--vcpus 6"]));
    let found = hints(&shell, &of(2), "--firmware fw --vmsa-file further boot");
    assert_eq!(found, json!(["the VMSA files in the opposite order"]));
}

#[test]
fn what_is_given_wrongly_is_named_with_what_was_expected() {
    let shell = shell();
    shell.write("short", [0; 5]);
    shell.write("vmsa", [0; 4095]);
    let measurement = measured().text();
    let mut told = String::new();
    for (measurement, arguments) in [
        ("nowhere", format!("{SAID} {IMAGE}")),
        ("short", format!("{SAID} {IMAGE}")),
        ("AAAA", format!("{SAID} {IMAGE}")),
        (&measurement, format!("{SAID} {IMAGE}").replace("tk.bin", "short")),
        (
            &measurement,
            format!("{SAID} {IMAGE}").replace("--build-id 15", "--build-id 256"),
        ),
        (&measurement, format!("{SAID} {IMAGE} --scheme amd-sev")),
        (&measurement, format!("{SAID} --firmware fw")),
        (&measurement, format!("{SAID} --firmware fw --vcpus 2")),
        (&measurement, format!("{SAID} --firmware fw --vmsa-file vmsa")),
        (&measurement, format!("{SAID} --firmware fw --vmsa-file nowhere")),
        (&measurement, format!("{SAID} --launch-digest abcd")),
        (&measurement, SAID.to_owned()),
        (
            &measurement,
            format!("{SAID} --launch-digest {} --vcpus 2", hex::encode([0; 32])),
        ),
        (
            &measurement,
            format!("{SAID} {IMAGE} --secret luks-passphrase:kernel"),
        ),
        (
            &measurement,
            format!("{SAID} {IMAGE} --secret disk:kernel --secret-header h --secret-payload p"),
        ),
        (
            &measurement,
            format!("{SAID} {IMAGE} --secret luks-key:kernel --secret-header h --secret-payload p")
                .replace("--policy 7", "--policy 5"),
        ),
    ] {
        let ran = validate(&shell, measurement, &arguments);
        assert!(ran.code == 1 || ran.code == 64, "{arguments}: {}", ran.out);
        told.push_str(&format!("$ keyward sev validate … {arguments}\n{}", ran.err));
        assert_eq!(ran.out, "", "{arguments}");
    }
    transcript("sev-validate-mistakes.txt", &told);
}

//! The mailing-list form beside what else is registered: images whose bytes are known, and secrets that
//! were bound in another way.

use keyward::domain::Base64Bytes;
use keyward::sev::launch_digest::{CpuModel, Firmware, KernelHashes, VmsaVariant, save_areas};
use serde_json::{Value, json};

use crate::support::app::bundle;
use crate::support::host::{ALLOW, digest, launch_request};
use crate::support::{App, Reply, Vm, platform};

const UUID: &str = "99999999-2222-4333-8444-555555555555";
const KERNEL: &[u8] = b"kernel";
const INITRD: &[u8] = b"initrd";
const CMDLINE: &str = "console=ttyS0";

/// A firmware whose footer has a hash table, a secret area and an AP reset vector.
fn firmware() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/first-release/guest/firmware.fd"
    );
    std::fs::read(path).unwrap()
}

fn send(app: &App, method: &str, form: &Value) -> Reply {
    app.owner(method, &format!("/vm/{UUID}"), form)
}

/// A form that names the firmware, kernel, initrd and command line by their hashes.
fn form(scheme: &str, policy: u32) -> Value {
    json!({
        "scheme": scheme, "policy": policy, "cpu-count": 2,
        "firmware-hashes": [digest(&firmware())],
        "kernel-hash": digest(KERNEL), "initrd-hash": digest(INITRD),
        "cmdline-hash": digest(format!("{CMDLINE}\0").as_bytes()),
        "secrets": [{"type": "luks-passphrase", "passphrase": "sesame"}],
    })
}

/// Launches a guest of the workload with this command line and save areas, and asks for its secrets.
fn run(app: &App, cmdline: &str, areas: Option<(u32, VmsaVariant)>, claimed: Value) -> (Vm, Reply) {
    let platform = platform();
    let reply = app
        .post(&format!("/vm/{UUID}/launch"), &launch_request(&platform))
        .ok();
    let mut vm = Vm::start(&platform, &reply);
    let firmware = Firmware::parse(firmware()).unwrap();
    let table = KernelHashes::from_files(KERNEL, Some(INITRD), Some(cmdline)).to_table();
    let mut parts = vec![firmware.bytes().to_vec(), table.to_vec()];
    if let Some((vcpus, variant)) = areas {
        let areas = save_areas(&firmware, vcpus, CpuModel::Milan.signature(), variant).unwrap();
        parts.extend(areas.into_iter().map(|area| area.to_vec()));
    }
    for part in parts {
        vm.guest.launch_update_data(&part).unwrap();
    }
    let mut request = vm.request();
    for (name, value) in claimed.as_object().unwrap() {
        request[name] = value.clone();
    }
    let reply = app.post(&vm.path(), &request);
    (vm, reply)
}

fn with_firmware() -> App {
    let app = App::new();
    app.apply(json!([{"kind": "Firmware", "name": "ovmf", "content": Base64Bytes(firmware())}]));
    app
}

#[test]
fn under_sev_es_hashes_and_the_number_of_vcpus_are_what_must_be_measured() {
    let app = with_firmware();
    assert_eq!(send(&app, "POST", &form("amd-sev-es", 7)).status, 201);
    for variant in [VmsaVariant::Legacy, VmsaVariant::Init2] {
        let (vm, reply) = run(&app, CMDLINE, Some((2, variant)), json!({}));
        assert_eq!(vm.unwrap(&reply.ok())[0].1, b"sesame", "{variant:?}");
        let attested = &app.decisions()[0]["input"]["attested"];
        assert_eq!(attested["digest_source"], "image");
        let proved = json!({
            "name": "ovmf", "vcpus": 2, "vcpu_type": "EPYC-Milan", "vmsa": variant.as_str(),
        });
        assert_eq!(attested["image"], proved);
    }
    for (cmdline, vcpus) in [("init=/bin/sh", 2), (CMDLINE, 1), (CMDLINE, 3)] {
        let areas = Some((vcpus, VmsaVariant::Legacy));
        let (_, reply) = run(&app, cmdline, areas, json!({"cpu-count": 2}));
        reply.expect(422, "measurement-mismatch");
    }
}

#[test]
fn under_plain_sev_the_hashes_are_measured_and_the_number_of_vcpus_is_claimed() {
    let app = with_firmware();
    assert_eq!(send(&app, "POST", &form("amd-sev", 3)).status, 201);
    let (vm, reply) = run(&app, CMDLINE, None, json!({"cpu-count": 2}));
    assert_eq!(vm.unwrap(&reply.ok())[0].1, b"sesame");
    let attested = &app.decisions()[0]["input"]["attested"];
    let proved = json!({"name": "ovmf", "vcpus": null, "vcpu_type": null, "vmsa": null});
    assert_eq!(attested["image"], proved);

    run(&app, "init=/bin/sh", None, json!({"cpu-count": 2}))
        .1
        .expect(422, "measurement-mismatch");
    for claimed in [json!({}), json!({"cpu-count": 3})] {
        let reply = run(&app, CMDLINE, None, claimed).1.expect(403, "denied");
        assert!(app.reason(&reply).contains("claimed, not proved"));
    }
}

/// A secret of the form's name, bound to an owner's policy.
fn bound_otherwise(app: &App, policies: Value) {
    let secret = json!({
        "kind": "Secret", "name": format!("{UUID}/luks-passphrase"), "type": "luks-passphrase",
        "value": {"base64": "aHVudGVyMg=="}, "policies": policies,
    });
    app.apply(json!([bundle(&[("release/any.rego", ALLOW)]), secret]));
}

fn plain(passphrase: &str) -> Value {
    json!({
        "scheme": "amd-sev", "policy": 3, "launch-digests": [digest(b"image")],
        "secrets": [{"type": "luks-passphrase", "passphrase": passphrase}],
    })
}

fn stored(app: &App) -> Value {
    app.owner(
        "GET",
        &format!("/v1/secrets/{UUID}/luks-passphrase"),
        &Value::Null,
    )
    .ok()
    .body
}

#[test]
fn a_secret_that_was_bound_to_other_policies_does_not_lose_them() {
    for policies in [
        json!(["release.any"]),
        json!([]),
        json!(["keyward.workload", "release.any"]),
    ] {
        // Whether the workload is there or not, and even if the value is the same.
        for known in [false, true] {
            let app = App::new();
            if known {
                assert_eq!(send(&app, "POST", &plain("hunter2")).status, 201);
            }
            if known && policies == json!([]) {
                continue; // Then no policy would reach it, which is refused in itself.
            }
            bound_otherwise(&app, policies.clone());
            let before = stored(&app);
            for passphrase in ["hunter2", "sesame"] {
                let refused = send(&app, "POST", &plain(passphrase)).expect(409, "conflict");
                assert!(refused.detail().contains("is registered and bound to"));
                let refused = send(&app, "PUT", &plain(passphrase)).expect(422, "invalid");
                assert!(
                    refused.detail().contains("`keyward apply`"),
                    "{}",
                    refused.detail()
                );
            }
            assert_eq!(stored(&app), before, "{policies}");
        }
    }
}

#[test]
fn post_replaces_no_secret_that_is_there_already() {
    let app = App::new();
    bound_otherwise(&app, json!(["keyward.workload"]));
    let before = stored(&app);
    let refused = send(&app, "POST", &plain("sesame")).expect(409, "conflict");
    assert_eq!(
        refused.detail(),
        format!("Secret {UUID}/luks-passphrase exists and differs; PUT replaces it")
    );
    assert_eq!(stored(&app), before);
    // The same value is no difference, and PUT says that it may be one.
    assert_eq!(send(&app, "POST", &plain("hunter2")).status, 201);
    assert_eq!(send(&app, "PUT", &plain("sesame")).body["action"], "updated");
}

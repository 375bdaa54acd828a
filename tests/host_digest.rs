//! A host that says what runs: the launch digest is found, and what nothing proves is only claimed.

use keyward::domain::Base64Bytes;
use keyward::psp::Platform;
use keyward::sev::launch_digest::{CpuModel, Firmware, VmsaVariant, save_areas};
use serde_json::{Value, json};

use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, launch_request, standard};
use crate::support::{App, Vm, platform};

const OTHER: &[u8] = b"an image that nobody has reviewed, it's 48 bytes";

/// Objects whose one secret is bound to a policy with this body, and whose workload names no digest.
fn unnamed(rules: &str) -> Value {
    let mut objects = standard(json!({"launch_digests": null}));
    objects[0] = crate::support::app::bundle(&[("release/any.rego", rules)]);
    objects
}

#[test]
fn a_hinted_digest_proves_what_runs_and_not_that_it_may() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let mut request = vm.measure(OTHER);
    app.post(&vm.path(), &request).expect(422, "measurement-mismatch");

    request["launch-digest"] = json!(digest(OTHER));
    let reason = app.denied(&vm, &request);
    assert!(
        reason.contains(&digest(OTHER)) && reason.contains("not one that the workload names"),
        "{reason}"
    );
    let decision = &app.decisions()[0];
    assert_eq!(decision["outcome"], "denied");
    assert_eq!(decision["input"]["attested"]["digest_source"], "hint");
    assert_eq!(decision["input"]["attested"]["launch_digest"], digest(OTHER));

    let denied = app.post(&format!("/vm/{WORKLOAD}/validate"), &request);
    denied.expect(403, "denied");
    assert!(app.decisions().iter().all(|d| d["outcome"] != "released"));
}

#[test]
fn a_hint_that_is_not_what_was_measured_helps_nothing() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let mut request = vm.measure(OTHER);
    for hint in [digest(IMAGE), digest(b""), "00".repeat(32)] {
        request["launch-digest"] = json!(hint);
        app.post(&vm.path(), &request).expect(422, "measurement-mismatch");
    }
}

#[test]
fn a_workload_without_digests_needs_a_policy_that_looks_at_the_digest() {
    let app = App::new();
    for (rules, looks) in [
        ("package release.any\n\nallow := true\n", false),
        (
            "package release.any\n\nallow if input.attested.build_id == 8\n",
            false,
        ),
        (
            "package release.any\n\nallow if input.workload.name == \"launch_digest\"\n",
            false,
        ),
        (ALLOW, true),
        (
            "package release.any\n\nallow if count(deny) == 0\n\ndeny contains \"x\" if input.attested.launch_digest == \"x\"\n",
            true,
        ),
    ] {
        let reply = app.try_apply(unnamed(rules));
        if looks {
            reply.ok();
        } else {
            let refused = reply.expect(422, "invalid");
            assert!(
                refused.detail().contains("input.attested.launch_digest"),
                "{}",
                refused.detail()
            );
        }
    }
    // Nor can one be slipped in later: by a new bundle, by another binding, by taking the digests away.
    app.standard();
    let blind = json!([crate::support::app::bundle(&[(
        "release/any.rego",
        "package release.any\n\nallow := true\n"
    )])]);
    app.apply(blind.clone());
    app.try_apply(json!([standard(json!({"launch_digests": null}))[2]]))
        .expect(422, "invalid");
    app.apply(unnamed(ALLOW));
    app.try_apply(blind).expect(422, "invalid");
}

#[test]
fn there_the_hint_is_attested_and_the_policy_decides() {
    let (app, platform) = (App::new(), platform());
    let reviewed = format!(
        "package release.any\n\ndefault allow := false\n\nallow if input.attested.launch_digest == \"{}\"\n",
        digest(IMAGE)
    );
    app.apply(unnamed(&reviewed));
    for (image, released) in [(OTHER, false), (IMAGE, true)] {
        let mut vm = app.start(&platform);
        let mut request = vm.measure(image);
        app.post(&vm.path(), &request).expect(422, "measurement-mismatch");
        request["launch-digest"] = json!(digest(image));
        if released {
            app.post(&vm.path(), &request).ok();
        } else {
            assert!(app.denied(&vm, &request).contains("allow is false"));
        }
        assert_eq!(app.decisions()[0]["input"]["attested"]["digest_source"], "hint");
    }
}

#[test]
fn under_plain_sev_the_vcpu_count_is_claimed_and_silence_denies() {
    let (app, platform) = (App::new(), platform());
    app.apply(standard(json!({"vcpus": 2})));
    let mut vm = app.start(&platform);
    let mut request = vm.measure(IMAGE);
    let says = |request: &Value| {
        let reason = app.denied(&vm, request);
        assert!(
            reason.contains("claimed, not proved") && reason.contains("registered 2"),
            "{reason}"
        );
    };
    says(&request);
    for count in [json!(null), json!(0), json!(1), json!(3), json!(u32::MAX)] {
        request["cpu-count"] = count;
        says(&request);
    }
    request["cpu-count"] = json!(2);
    app.post(&vm.path(), &request).ok();
    let decision = &app.decisions()[0]["input"];
    assert_eq!(decision["claimed"]["cpu_count"], 2);
    assert_eq!(decision["attested"]["image"]["vcpus"], Value::Null);
}

const ES_WORKLOAD: &str = "11111111-2222-4333-8444-0000000000e5";
const VCPUS: &str = "package release.es\n\nimport data.keyward.vcpus\n\ndefault allow := false\n\n\
    allow if {\n\tis_string(input.attested.launch_digest)\n\tvcpus.vcpus_proved_at_most(2)\n}\n";

/// Registers a SEV-ES workload with an image of the example's firmware.
fn es(app: &App, changes: &[(&str, Value)]) {
    let mut workload = json!({
        "kind": "Workload", "name": "es", "uuid": ES_WORKLOAD, "scheme": "amd-sev-es", "policy": 7,
        "images": [{"name": "v1", "firmware": "ovmf", "vcpus": [1, 2], "vcpu_type": "EPYC-Milan"}],
        "secrets": ["disk"], "policies": ["release.es"],
    });
    for (name, value) in changes {
        workload[*name] = value.clone();
    }
    let firmware = Base64Bytes(firmware());
    app.apply(json!([
        crate::support::app::bundle(&[("es.rego", VCPUS)]),
        {"kind": "Firmware", "name": "ovmf", "content": firmware},
        {"kind": "Secret", "name": "disk", "type": "luks-passphrase", "value": {"base64": "aHVudGVyMg=="}},
        workload,
    ]));
}

fn firmware() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/first-release/guest/firmware.fd"
    );
    std::fs::read(path).unwrap()
}

/// A SEV-ES guest with that firmware and this many vCPUs of a model; the request for its secrets.
fn es_guest(app: &App, platform: &Platform, vcpus: u32, model: CpuModel, vmsa: VmsaVariant) -> (Vm, Value) {
    let reply = app
        .post(&format!("/vm/{ES_WORKLOAD}/launch"), &launch_request(platform))
        .ok();
    let mut vm = Vm::start(platform, &reply);
    vm.guest.launch_update_data(&firmware()).unwrap();
    let areas = save_areas(
        &Firmware::parse(firmware()).unwrap(),
        vcpus,
        model.signature(),
        vmsa,
    )
    .unwrap();
    for area in &areas {
        vm.guest.launch_update_vmsa(area).unwrap();
    }
    let request = vm.request();
    (vm, request)
}

#[test]
fn under_sev_es_the_vcpu_count_is_proved_by_the_digest_and_not_by_what_is_said() {
    let (app, platform) = (App::new(), platform());
    es(&app, &[]);
    for vcpus in [1, 2] {
        for vmsa in VmsaVariant::ALL {
            let (vm, mut request) = es_guest(&app, &platform, vcpus, CpuModel::Milan, vmsa);
            request["cpu-count"] = json!(64);
            app.post(&vm.path(), &request).ok();
            let image = app.decisions()[0]["input"]["attested"]["image"].clone();
            let expected = json!({
                "name": "v1", "vcpus": vcpus, "vcpu_type": "EPYC-Milan", "vmsa": vmsa.as_str(),
            });
            assert_eq!(image, expected);
        }
    }
    for (vcpus, model) in [(3, CpuModel::Milan), (2, CpuModel::Rome)] {
        let (vm, mut request) = es_guest(&app, &platform, vcpus, model, VmsaVariant::Legacy);
        request["cpu-count"] = json!(2);
        app.post(&vm.path(), &request).expect(422, "measurement-mismatch");
    }
}

#[test]
fn a_proved_count_is_held_against_the_registered_one() {
    let (app, platform) = (App::new(), platform());
    es(&app, &[("vcpus", json!(2))]);
    let (vm, mut request) = es_guest(&app, &platform, 1, CpuModel::Milan, VmsaVariant::Init2);
    request["cpu-count"] = json!(2);
    let reason = app.denied(&vm, &request);
    assert!(
        reason.contains("1 vCPUs are proved, expected the registered 2"),
        "{reason}"
    );
    let (vm, request) = es_guest(&app, &platform, 2, CpuModel::Milan, VmsaVariant::Init2);
    app.post(&vm.path(), &request).ok();
}

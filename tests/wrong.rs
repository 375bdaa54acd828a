//! «What public implementations get wrong»: for each of the twelve, by its number, a host that tries it on the whole
//! server. Numbers 3 and 4 are in `wrong_policies`, 10 is in `wrong_at_rest`; `sev_wrong` has those of them that
//! concern single functions.

use std::path::Path;
use std::time::Duration;

use keyward::domain::{Base64, Base64Bytes};
use keyward::psp::{Ca, Platform, PlatformOptions};
use serde_json::{Value, json};

use crate::support::app::{Options, bundle};
use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::{App, Vm, platform};

#[test]
fn wrong_01_a_platform_under_a_root_of_the_host_s_own_gets_no_session() {
    let app = App::new();
    app.standard();
    let own = Ca::generate(2048).unwrap();
    let platform = Platform::generate_with_ca(&own, &PlatformOptions::default()).unwrap();
    let refused = app
        .ask_launch(&launch_request(&platform))
        .expect(422, "chain-invalid");
    assert!(refused.body.get("session").is_none());
}

#[test]
fn wrong_02_a_policy_is_the_same_in_both_requests_and_in_what_the_guest_runs_under() {
    // The secret is limited to guests under policy 5; the host launches under another and says 5.
    let (app, platform) = (App::new(), platform());
    let rules = "package release.any\n\ndefault allow := false\n\nallow if input.attested.policy == 5\n";
    let mut objects = standard(json!({"policy": null, "danger_weak_policy": true}));
    objects[0] = bundle(&[("release/any.rego", rules)]);
    app.apply(objects);
    for launched in [0_u32, 1, 3] {
        let mut request = launch_request(&platform);
        request["policy"] = json!(launched);
        let mut vm = Vm::start(&platform, &app.ask_launch(&request).ok());
        let mut request = vm.measure(IMAGE);
        assert!(app.denied(&vm, &request).contains("allow is false"));
        request["policy"] = json!(5);
        for path in [vm.path(), format!("/vm/{WORKLOAD}/validate")] {
            app.post(&path, &request).expect(422, "measurement-mismatch");
        }
    }
    let released = app
        .decisions()
        .iter()
        .filter(|d| d["outcome"] == "released")
        .count();
    assert_eq!(released, 0);
}

#[test]
fn wrong_05_no_chain_and_no_measurement_panics_a_handler() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let full = platform.full_chain();
    let (pdh, rest) = full.split_at(2084);
    let mut chains: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for length in [
        0,
        1,
        1043,
        2083,
        2085,
        4168,
        6251,
        6252,
        6253,
        7000,
        rest.len() - 1,
    ] {
        chains.push((pdh.to_vec(), rest.iter().copied().cycle().take(length).collect()));
    }
    for byte in [0, 1, 0xff] {
        chains.push((vec![byte; 2084], rest.to_vec()));
        chains.push((pdh.to_vec(), vec![byte; rest.len()]));
        // Sizes, curves, usages and algorithms of every certificate.
        for start in (0..4 * 2084).step_by(2084) {
            for field in [0, 4, 8, 12, 16, 20, 92, 1044, 1048, 1052] {
                let mut forged = full.clone();
                forged[start + field..start + field + 4].fill(byte);
                chains.push((forged[..2084].to_vec(), forged[2084..].to_vec()));
            }
        }
        for field in [0, 36, 56, 60, 64, 319, 320, 575] {
            let mut forged = rest.to_vec();
            forged[3 * 2084 + field..][..4].fill(byte);
            chains.push((pdh.to_vec(), forged));
        }
    }
    for (pdh, chain) in chains {
        if [&pdh[..], &chain].concat() == full {
            continue;
        }
        let request = json!({"pdh": Base64Bytes(pdh), "cert-chain": Base64Bytes(chain)});
        let reply = app.ask_launch(&request);
        let refused = matches!(
            (reply.status, reply.problem()),
            (422, "chain-invalid") | (400, "malformed")
        );
        assert!(refused, "{}", reply.body);
    }
    let mut vm = app.start(&platform);
    let good = vm.measure(IMAGE);
    let mut request = good.clone();
    for bytes in [vec![], vec![0; 47], vec![0; 49], vec![0; 1000]] {
        request["measurement"] = json!(Base64Bytes(bytes));
        app.post(&vm.path(), &request).expect(400, "malformed");
    }
    for byte in [0, 1, 0xff] {
        request["measurement"] = json!(Base64([byte; 48]));
        app.post(&vm.path(), &request).expect(422, "measurement-mismatch");
    }
    app.post(&vm.path(), &good).ok();
}

#[test]
fn wrong_06_sessions_are_capped_expire_outlive_the_server_and_a_failed_measurement() {
    let mut options = Options::default();
    options.settings.bounds.per_address = 4;
    let (mut app, platform) = (App::with(options), platform());
    app.standard();
    let mut guests: Vec<Vm> = (0..4).map(|_| app.start(&platform)).collect();
    let requests: Vec<Value> = guests.iter_mut().map(|vm| vm.measure(IMAGE)).collect();
    app.ask_launch(&launch_request(&platform))
        .expect(429, "too-many-requests");

    let mut bad = requests[0].clone();
    bad["build-id"] = json!(9);
    app.post(&guests[0].path(), &bad)
        .expect(422, "measurement-mismatch");
    app.restart();
    app.ask_launch(&launch_request(&platform))
        .expect(429, "too-many-requests");
    let reply = app.post(&guests[0].path(), &requests[0]).ok();
    assert_eq!(guests[0].unwrap(&reply)[0].1, b"hunter2");
    let reply = app.post(&format!("/vm/{WORKLOAD}/validate"), &requests[1]).ok();
    assert_eq!(guests[1].unwrap(&reply)[0].1, b"hunter2");

    app.clock.advance(Duration::from_secs(599));
    app.post(&guests[2].path(), &requests[2]).ok();
    app.clock.advance(Duration::from_secs(1));
    app.post(&guests[3].path(), &requests[3])
        .expect(410, "launch-expired");
    app.restart();
    app.post(&guests[3].path(), &requests[3])
        .expect(410, "launch-expired");
    app.post(&guests[0].path(), &requests[0])
        .expect(409, "launch-used");
}

#[test]
fn wrong_07_a_number_that_does_not_fit_is_refused_and_never_cut() {
    let (app, platform) = (App::new(), platform());
    app.apply(standard(json!({"vcpus": 2})));
    let mut vm = app.start(&platform);
    let mut good = vm.measure(IMAGE);
    good["cpu-count"] = json!(2);
    for (member, bits) in [
        ("api-major", 8),
        ("api-minor", 8),
        ("build-id", 8),
        ("policy", 32),
        ("cpu-count", 32),
    ] {
        let right = good[member].as_u64().unwrap();
        let wrong = [
            json!(right + (1_u64 << bits)),
            json!(right as f64),
            json!(right as f64 + 0.5),
            json!(-1),
            json!(u64::MAX),
            json!(1e300),
            json!(right.to_string()),
        ];
        for number in wrong {
            let mut request = good.clone();
            request[member] = number.clone();
            let refused = app.post(&vm.path(), &request).expect(400, "malformed");
            assert!(
                refused.detail().contains(&format!("`{member}`")),
                "{number}: {}",
                refused.detail()
            );
        }
    }
    app.post(&vm.path(), &good).ok();

    let mut request = launch_request(&platform);
    request["policy"] = json!((1_u64 << 32) + 3);
    let refused = app.ask_launch(&request).expect(400, "malformed");
    assert!(refused.detail().contains("`policy`"));
    for (member, number) in [
        ("policy", (1_u64 << 32) + 3),
        ("vcpus", (1 << 32) + 2),
        ("vcpus", 513),
    ] {
        let refused = app.try_apply(standard(json!({member: number})));
        assert!(matches!(refused.status, 400 | 422), "{}", refused.body);
    }
}

#[test]
fn wrong_08_which_secrets_exist_is_not_learned_before_anything_is_attested() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let mut request = vm.measure(IMAGE);
    request["measurement"] = json!(Base64([7; 48]));
    let mut answers = ["disk", "nowhere"].map(|name| {
        request["secrets"] = json!([name]);
        let mut reply = app.post(&vm.path(), &request).expect(422, "measurement-mismatch");
        reply.body["request_id"] = Value::Null;
        reply.body
    });
    assert_eq!(answers[0].take(), answers[1].take());
    // Nor from the launch, which knows no secrets at all.
    let mut request = launch_request(&platform);
    request["secrets"] = json!(["disk"]);
    app.ask_launch(&request).expect(400, "malformed");
}

/// It can't be seen from outside, so the source is read: no line of it compares a MAC with an operator.
#[test]
fn wrong_09_no_mac_is_compared_with_an_operator() {
    fn visit(folder: &Path, seen: &mut usize) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, seen);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
                let words = || line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let mac = words().any(|word| {
                    matches!(
                        word,
                        "mac" | "hmac" | "measure" | "wrap_mac" | "policy_mac" | "tag" | "tik"
                    )
                });
                let compares = ["==", "!=", ".eq(", ".ne("]
                    .iter()
                    .any(|operator| line.contains(operator));
                *seen += usize::from(line.contains("memcmp::eq("));
                let comment = line.trim_start().starts_with("//");
                let place = format!("{}:{}", path.display(), number + 1);
                assert!(
                    comment || !(mac && compares) || line.contains("memcmp::eq("),
                    "{place}: {line}"
                );
            }
        }
    }
    let mut seen = 0;
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut seen);
    assert!(
        seen >= 4,
        "measurement, session (two), and the software PSP: {seen}"
    );
}

#[test]
fn wrong_11_an_aligned_table_gets_no_padding() {
    let (app, platform) = (App::new(), platform());
    // Header and entry header are 20 bytes each.
    for (length, expected) in [(8, 48), (9, 64), (24, 64), (25, 80)] {
        let mut objects = standard(json!({}));
        objects[1]["value"] = json!({"base64": Base64Bytes(vec![b'x'; length])});
        app.apply(objects);
        let (vm, reply) = app.run(&platform);
        let payload: Base64Bytes = serde_json::from_value(reply.body["secret-payload"].clone()).unwrap();
        assert_eq!(payload.0.len(), expected, "{length}");
        assert_eq!(vm.unwrap(&reply)[0].1.len(), length);
    }
}

#[test]
fn wrong_12_no_vcpus_are_no_guest() {
    let app = App::new();
    app.standard();
    let image = json!([{"name": "i", "firmware": "f", "vcpus": [0]}]);
    for changes in [
        json!({"vcpus": 0}),
        json!({"images": image, "scheme": "amd-sev-es", "policy": 7}),
    ] {
        let refused = app.try_apply(standard(changes)).expect(422, "invalid");
        assert!(
            refused.detail().contains("1 to 512 vCPUs, not 0"),
            "{}",
            refused.detail()
        );
    }
    let mailed = json!({
        "scheme": "amd-sev", "policy": 3, "cpu-count": 0, "launch-digests": ["00".repeat(32)],
        "secrets": [{"type": "luks-passphrase", "passphrase": "hunter2"}],
    });
    let path = "/vm/99999999-2222-4333-8444-555555555555";
    app.owner("POST", path, &mailed).expect(422, "invalid");
}

//! A host that chooses the SEV policy, the firmware or the product: what is always denied.

use keyward::psp::{Platform, PlatformOptions};
use keyward::sev::Build;
use serde_json::{Value, json};

use crate::support::host::{IMAGE, POLICY, WORKLOAD, launch_request, standard};
use crate::support::{App, Reply, Vm, ca, platform, vectors};

/// The workload with these changes, registered; the warnings it was answered with.
fn registered(app: &App, changes: Value) -> Vec<String> {
    let warnings = app.apply(standard(changes)).body["warnings"].take();
    let warnings: Vec<String> = serde_json::from_value(warnings).unwrap();
    // What is said of the bundle is no matter of the workload's.
    let of_workload = |warning: &String| !warning.starts_with("PolicyBundle: ");
    warnings.into_iter().filter(of_workload).collect()
}

fn ask(app: &App, platform: &Platform, policy: u32) -> Reply {
    let mut request = launch_request(platform);
    request["policy"] = json!(policy);
    app.ask_launch(&request)
}

/// SEV policies that prove nothing for the scheme, and a word of why.
const WEAK: [(&str, u32, &str); 10] = [
    ("amd-sev", 0, "NODBG"),
    ("amd-sev", 1, "NOKS"),
    ("amd-sev", 2, "NODBG"),
    ("amd-sev", 0xffff_0000, "NODBG"),
    ("amd-sev", 7, "asks for SEV-ES"),
    ("amd-sev", 3 | 1 << 6, "reserved bits"),
    ("amd-sev", 3 | 1 << 15, "reserved bits"),
    ("amd-sev-es", 3, "does not ask for SEV-ES"),
    ("amd-sev-es", 4, "NODBG"),
    ("amd-sev-es", 7 | 1 << 9, "reserved bits"),
];

#[test]
fn a_registered_policy_that_proves_nothing_is_warned_of_and_denied_at_launch() {
    let (app, platform) = (App::new(), platform());
    for (scheme, policy, why) in WEAK {
        let warnings = registered(&app, json!({"scheme": scheme, "policy": policy}));
        assert!(
            warnings.iter().any(|text| text.contains(why)),
            "{policy:#x}: {warnings:?}"
        );
        app.clock.advance(std::time::Duration::from_secs(60));
        let denied = app.ask_launch(&launch_request(&platform)).expect(403, "denied");
        assert!(
            app.reason(&denied).contains(why),
            "{policy:#x}: {}",
            app.reason(&denied)
        );
        assert!(denied.body.get("session").is_none());
    }
}

#[test]
fn where_the_workload_leaves_the_policy_to_the_host_the_floor_holds_still() {
    let (app, platform) = (App::new(), platform());
    for (scheme, policy, why) in WEAK {
        let warnings = registered(&app, json!({"scheme": scheme, "policy": null}));
        assert_eq!(warnings, Vec::<String>::new());
        app.clock.advance(std::time::Duration::from_secs(60));
        let denied = ask(&app, &platform, policy).expect(403, "denied");
        assert!(
            app.reason(&denied).contains(why),
            "{policy:#x}: {}",
            app.reason(&denied)
        );
    }
    let missing = app
        .ask_launch(&launch_request(&platform))
        .expect(400, "malformed");
    assert!(missing.detail().contains("`policy`"), "{}", missing.detail());
    assert_eq!(ask(&app, &platform, 7).ok().body["policy"], 7);
}

#[test]
fn a_weak_policy_that_the_owner_permits_is_seen_in_the_decision() {
    let (app, platform) = (App::new(), platform());
    registered(&app, json!({"policy": 0, "danger_weak_policy": true}));
    let (vm, reply) = app.run(&platform);
    assert_eq!(vm.unwrap(&reply.expect(200, "ok")).len(), 1);
    let decision = &app.decisions()[0];
    assert_eq!(decision["danger_weak_policy"], true);
    assert_eq!(decision["outcome"], "released");

    // It permits the two bits and nothing else.
    registered(&app, json!({"policy": 4, "danger_weak_policy": true}));
    let denied = app.ask_launch(&launch_request(&platform)).expect(403, "denied");
    assert!(app.reason(&denied).contains("asks for SEV-ES"));

    // Taken back between launch and release, it counts as it is then.
    registered(&app, json!({"policy": 0, "danger_weak_policy": true}));
    let mut vm = app.start(&platform);
    registered(&app, json!({"policy": 0}));
    let request = vm.measure(IMAGE);
    assert!(app.denied(&vm, &request).contains("NODBG"));
    assert_eq!(app.decisions()[0]["danger_weak_policy"], false);
}

#[test]
fn the_policy_is_the_workload_s_at_launch_whatever_the_host_asks_for() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    for policy in [0, 1, 7, 5 << 16 | 3, u32::MAX] {
        app.clock.advance(std::time::Duration::from_secs(60));
        let denied = ask(&app, &platform, policy).expect(403, "denied");
        let reason = app.reason(&denied);
        assert!(
            reason.contains(&format!("{policy:#06x}")) && reason.contains("0x0003"),
            "{reason}"
        );
    }
    ask(&app, &platform, POLICY).ok();
    let mut request = launch_request(&platform);
    request["scheme"] = json!("amd-sev-es");
    app.clock.advance(std::time::Duration::from_secs(60));
    let denied = app.ask_launch(&request).expect(403, "denied");
    assert!(app.reason(&denied).contains("asked for amd-sev-es"));
}

#[test]
fn a_session_starts_no_guest_of_another_policy() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut reply = app.ask_launch(&launch_request(&platform)).ok();
    reply.body["policy"] = json!(0);
    let session: keyward::domain::Base64<128> =
        serde_json::from_value(reply.body["session"].clone()).unwrap();
    let owner: keyward::domain::Base64<2084> =
        serde_json::from_value(reply.body["owner-cert"].clone()).unwrap();
    let refused = platform.launch_start(0, &owner.0, &session.0).err();
    assert_eq!(refused, Some(keyward::psp::Status::Measurement));
}

#[test]
fn firmware_whose_packets_are_bound_to_no_guest_gets_none() {
    let app = App::new();
    app.standard();
    for (api_major, api_minor, released) in [(0, 16, false), (0, 0, false), (0, 17, true), (1, 0, true)] {
        let build = Build {
            api_major,
            api_minor,
            build_id: 8,
        };
        let options = PlatformOptions {
            build,
            ..PlatformOptions::default()
        };
        let platform = Platform::generate_with_ca(ca(), &options).unwrap();
        let mut vm = app.start(&platform);
        let request = vm.measure(IMAGE);
        if released {
            app.post(&vm.path(), &request).ok();
            continue;
        }
        assert!(app.denied(&vm, &request).contains("below 0.17"));
        // What the host says of its firmware is what the MAC is tried with.
        let mut lie = request.clone();
        (lie["api-major"], lie["api-minor"]) = (json!(1), json!(55));
        app.post(&vm.path(), &lie).expect(422, "measurement-mismatch");
    }
}

#[test]
fn a_naples_launches_and_gets_nothing_unless_the_workload_names_it() {
    let app = App::new();
    app.standard();
    if let Some(chain) = vectors::read("naples-chain.bin") {
        use keyward::domain::Base64Bytes;
        let (pdh, rest) = chain.split_at(2084);
        let request = json!({"pdh": Base64Bytes(pdh.to_vec()), "cert-chain": Base64Bytes(rest.to_vec())});
        app.ask_launch(&request).ok();
    }

    // No test has a Naples's keys, so a launch of a test platform is made one behind the server's back.
    for (products, released) in [
        (json!([]), false),
        (json!(["naples"]), true),
        (json!(["rome"]), false),
    ] {
        app.apply(standard(json!({"products": products})));
        let mut vm = naples(&app);
        let request = vm.measure(IMAGE);
        if released {
            app.post(&vm.path(), &request).ok();
        } else {
            let reason = app.denied(&vm, &request);
            assert!(
                reason.contains("Naples") && reason.contains("products: [naples]"),
                "{reason}"
            );
        }
        assert_eq!(app.decisions()[0]["input"]["platform"]["product"], "naples");
    }
}

fn naples(app: &App) -> Vm {
    let platform = platform();
    let reply = app.ask_launch(&launch_request(&platform));
    let reply = if reply.status == 200 {
        reply
    } else {
        panic!("{}", reply.body)
    };
    let vm = Vm::start(&platform, &reply);
    let changed = app.sql(&format!(
        "UPDATE launches SET facts = json_set(facts, '$.platform.product', 'naples') WHERE id = x'{}'",
        vm.id.simple()
    ));
    assert_eq!(changed, 1);
    vm
}

#[test]
fn what_a_host_claims_of_the_policy_must_be_the_launch_s() {
    let (app, platform) = (App::new(), platform());
    registered(&app, json!({"policy": null}));
    let reply = ask(&app, &platform, 3).ok();
    let mut vm = Vm::start(&platform, &reply);
    let request = vm.measure(IMAGE);
    for policy in [0, 1, 7, 3 | 8] {
        let mut lie = request.clone();
        lie["policy"] = json!(policy);
        for path in [vm.path(), format!("/vm/{WORKLOAD}/validate")] {
            app.post(&path, &lie).expect(422, "measurement-mismatch");
        }
    }
    app.post(&vm.path(), &request).ok();
}

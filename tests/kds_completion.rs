//! A chain as QEMU gives it, with its CEK unsigned, is completed by the key distribution service.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use keyward::domain::Base64Bytes;
use keyward::psp::{Faults, Platform, PlatformOptions};
use serde_json::{Value, json};

use crate::store_faults::each_call_fails;
use crate::support::app::Options;
use crate::support::hooked::{Fate, Hook};
use crate::support::host::{IMAGE, WORKLOAD, launch_request};
use crate::support::kds::{Answer, Kds};
use crate::support::{App, Reply, Vm, ca, platform};

/// The chain with an unsigned CEK, as a host sends it with its cpu-id. The test's root has no ASK at hand, so the
/// authority's two certificates come along.
pub(crate) fn unsigned(platform: &Platform) -> Value {
    let chain = [platform.cert_chain().unwrap(), platform.ask(), platform.ark()].concat();
    json!({
        "pdh": Base64Bytes(platform.pdh()),
        "cert-chain": Base64Bytes(chain),
        "cpu-id": hex::encode(platform.chip_id()),
    })
}

/// A server that asks this service, with time enough for each request.
pub(crate) fn asking(kds: &Kds) -> Options {
    Options {
        ceks: kds.queue(Duration::from_secs(5), 16, 16),
        ..Options::default()
    }
}

pub(crate) fn launch(app: &App, request: &Value) -> Reply {
    app.post(&format!("/vm/{WORKLOAD}/launch"), request)
}

/// A service that knows these platforms, each by its chip's id.
fn knows(platforms: &[&Platform]) -> Kds {
    let known: Vec<_> = platforms
        .iter()
        .map(|platform| (path(platform), platform.signed_cek()))
        .collect();
    Kds::start(move |asked| match known.iter().find(|(path, _)| path == asked) {
        Some((_, cek)) => Answer::certificate(cek),
        None => Answer::new(404, &[], b""),
    })
}

fn path(platform: &Platform) -> String {
    format!("/cek/id/{}", hex::encode(platform.chip_id()))
}

#[test]
fn it_is_asked_once_for_a_chip_and_its_answer_is_kept_for_ever() {
    let platform = platform();
    let kds = knows(&[&platform]);
    let app = App::with(asking(&kds));
    app.standard();

    let reply = launch(&app, &unsigned(&platform)).ok();
    let mut vm = Vm::start(&platform, &reply);
    let released = app.post(&vm.path(), &vm.measure(IMAGE)).ok();
    let input = &app.decision(&released.body["decision"])["input"];
    assert_eq!(input["platform"]["chip_id"], hex::encode(platform.chip_id()));
    assert_eq!(input["claimed"]["cpu_id"], hex::encode(platform.chip_id()));

    app.clock.advance(Duration::from_secs(10 * 365 * 86_400));
    launch(&app, &unsigned(&platform)).ok();
    let restarted = app.again(asking(&kds));
    launch(&restarted, &unsigned(&platform)).ok();
    let offline = app.again(Options::default());
    launch(&offline, &unsigned(&platform)).ok();
    assert_eq!(kds.asked(), [path(&platform)]);
}

#[test]
fn a_chip_s_id_counts_only_where_the_service_vouched_for_it() {
    let (known, unknown) = (platform(), platform());
    let kds = knows(&[&known]);
    let app = App::with(asking(&kds));
    app.standard();
    launch(&app, &unsigned(&known)).ok();

    // What a host says of its signed chain, and what is known of the chip.
    let claim = |platform: &Platform, id: Option<&Platform>| {
        let mut request = launch_request(platform);
        if let Some(of) = id {
            request["cpu-id"] = json!(hex::encode(of.chip_id()));
        }
        let reply = launch(&app, &request).ok();
        let mut vm = Vm::start(platform, &reply);
        let released = app.post(&vm.path(), &vm.measure(IMAGE)).ok();
        app.decision(&released.body["decision"])["input"].clone()
    };
    let input = claim(&unknown, Some(&unknown));
    assert_eq!(input["platform"]["chip_id"], Value::Null);
    assert_eq!(input["claimed"]["cpu_id"], hex::encode(unknown.chip_id()));
    let input = claim(&known, None);
    assert_eq!(input["platform"]["chip_id"], hex::encode(known.chip_id()));
    assert_eq!(input["claimed"]["cpu_id"], Value::Null);

    for (signed, foreign) in [(&known, &unknown), (&unknown, &known)] {
        let mut request = launch_request(signed);
        request["cpu-id"] = json!(hex::encode(foreign.chip_id()));
        let refused = launch(&app, &request).expect(422, "chain-invalid");
        assert!(refused.detail().contains("another key"), "{}", refused.detail());
    }
    assert_eq!(kds.asked().len(), 1, "a signed chain asks nobody");
}

#[test]
fn a_foreign_cpu_id_is_refused_and_its_own_platform_still_launches() {
    let (liar, honest) = (platform(), platform());
    let kds = knows(&[&liar, &honest]);
    let app = App::with(asking(&kds));
    app.standard();
    let mut request = unsigned(&liar);
    request["cpu-id"] = json!(hex::encode(honest.chip_id()));
    for _ in 0..2 {
        let refused = launch(&app, &request).expect(422, "chain-invalid");
        assert!(refused.detail().contains("another key"), "{}", refused.detail());
    }
    launch(&app, &unsigned(&honest)).ok();
    launch(&app, &request).expect(422, "chain-invalid");
    launch(&app, &unsigned(&liar)).ok();
}

#[test]
fn nobody_is_asked_for_a_workload_that_is_not_there_or_a_chain_that_does_not_hold() {
    let platform = platform();
    let kds = knows(&[&platform]);
    let app = App::with(asking(&kds));
    app.standard();
    let elsewhere = "/vm/99999999-2222-4333-8444-555555555555/launch";
    app.post(elsewhere, &unsigned(&platform)).expect(404, "not-found");

    let chain = [platform.cert_chain().unwrap(), platform.ask(), platform.ark()].concat();
    // A byte of each certificate's signed body, and of each signature there is but AMD's.
    let (signature, second) = (1052, 1572);
    for (name, at) in [
        ("PEK's API", 4),
        ("PEK's signature by the OCA", signature),
        ("PEK's signature by the CEK", second),
        ("OCA's API", 2084 + 4),
        ("OCA's signature", 2084 + signature),
    ] {
        let mut request = unsigned(&platform);
        let mut tampered = chain.clone();
        tampered[at] ^= 1;
        request["cert-chain"] = json!(Base64Bytes(tampered));
        let refused = launch(&app, &request);
        assert_eq!(refused.status, 422, "{name}: {}", refused.body);
    }
    let mut pdh = platform.pdh();
    pdh[signature] ^= 1;
    let mut request = unsigned(&platform);
    request["pdh"] = json!(Base64Bytes(pdh));
    launch(&app, &request).expect(422, "chain-invalid");

    let faults = Faults {
        foreign_cek: true,
        ..Faults::default()
    };
    let options = PlatformOptions {
        faults,
        ..PlatformOptions::default()
    };
    let foreign = Platform::generate_with_ca(ca(), &options).unwrap();
    launch(&app, &unsigned(&foreign)).expect(422, "chain-invalid");

    for id in [
        json!(""),
        json!("00"),
        json!("00".repeat(63)),
        json!("00".repeat(65)),
        json!(7),
    ] {
        let mut request = unsigned(&platform);
        request["cpu-id"] = id;
        launch(&app, &request).expect(400, "malformed");
    }
    let mut request = unsigned(&platform);
    request.as_object_mut().unwrap().remove("cpu-id");
    let refused = launch(&app, &request).expect(422, "chain-invalid");
    assert!(refused.detail().contains("`cpu-id`"), "{}", refused.detail());
    assert_eq!(kds.asked(), Vec::<String>::new());
}

#[test]
fn many_hosts_with_one_chip_make_one_request() {
    let platform = platform();
    let cek = platform.signed_cek();
    let gate = Arc::new(Barrier::new(2));
    let opened = gate.clone();
    let kds = Kds::start(move |_| {
        opened.wait();
        Answer::certificate(&cek)
    });
    let app = App::with(asking(&kds));
    app.standard();
    std::thread::scope(|scope| {
        for host in 1..=6 {
            let (app, request) = (&app, unsigned(&platform));
            scope.spawn(move || {
                let path = format!("/vm/{WORKLOAD}/launch");
                app.post_from(&format!("203.0.113.{host}"), &path, &request).ok();
            });
        }
        gate.wait();
    });
    assert_eq!(kds.asked().len(), 1);
}

#[test]
fn a_chip_that_another_launch_had_fetched_between_two_looks_is_no_foreign_one() {
    let platform = platform();
    let kds = knows(&[&platform]);
    let hook = Hook::default();
    let app = App::with(Options {
        ceks: asking(&kds).ceks,
        ..hook.options()
    });
    app.standard();
    let other = app.again(asking(&kds));
    let request = unsigned(&platform);
    let same = request.clone();
    hook.before("cek_of_key", move || drop(launch(&other, &same).ok()));
    launch(&app, &request).ok();
    assert_eq!(kds.asked().len(), 1);
}

#[test]
fn whichever_call_to_the_store_fails_there_is_no_session_and_the_next_launch_gets_one() {
    for fate in [Fate::FailsUndone, Fate::FailsDone] {
        let platforms: Vec<Platform> = (0..16).map(|_| platform()).collect();
        let kds = knows(&platforms.iter().collect::<Vec<_>>());
        let hook = Hook::default();
        let app = App::with(Options {
            ceks: asking(&kds).ceks,
            ..hook.options()
        });
        app.standard();
        let mut next = platforms.iter();
        let mut tried = Vec::new();
        let prepare = || {
            let platform = next.next().unwrap();
            tried.push(unsigned(platform));
            unsigned(platform)
        };
        let needed = each_call_fails(&hook, fate, prepare, |request| launch(&app, request), "ok");
        // Besides a signed chain's: what is known of the chip and of the key, and remembering it.
        assert!(needed >= 7, "{needed}");
        for request in tried {
            launch(&app, &request).ok();
        }
    }
}

#[test]
fn a_server_without_a_service_says_what_is_missing() {
    let app = App::new();
    app.standard();
    let refused = launch(&app, &unsigned(&platform())).expect(422, "chain-invalid");
    assert!(refused.detail().contains("kds import"), "{}", refused.detail());
}

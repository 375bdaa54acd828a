//! A host that asks for more than its share: the others must still launch and get their secrets.

use std::time::Duration;

use keyward::psp::Platform;
use serde_json::{Value, json};

use crate::support::app::Options;
use crate::support::host::{IMAGE, WORKLOAD, digest, launch_request, standard};
use crate::support::{App, Reply, Vm, platform};

const FLOODER: &str = "198.51.100.66";
const OTHER: &str = "192.0.2.7";

fn bounded(change: impl FnOnce(&mut keyward::release::Settings)) -> App {
    let mut options = Options::default();
    change(&mut options.settings);
    let app = App::with(options);
    app.standard();
    app
}

fn launch(app: &App, address: &str, platform: &Platform) -> Reply {
    app.post_from(
        address,
        &format!("/vm/{WORKLOAD}/launch"),
        &launch_request(platform),
    )
}

fn search(app: &App, address: &str, request: &Value) -> Reply {
    app.post_from(address, &format!("/vm/{WORKLOAD}/validate"), request)
}

fn started(app: &App, address: &str, platform: &Platform) -> Vm {
    Vm::start(platform, &launch(app, address, platform).ok())
}

#[track_caller]
fn told_to_wait(reply: Reply) {
    let reply = reply.expect(429, "too-many-requests");
    let seconds: u64 = reply.headers["retry-after"].parse().unwrap();
    assert!((1..=600).contains(&seconds), "{seconds}");
}

#[test]
fn a_full_platform_key_evicts_its_own_oldest_and_nobody_else_s() {
    let app = bounded(|s| s.bounds.per_pdh = 4);
    let (victim, flooding) = (platform(), platform());
    let mut guest = started(&app, OTHER, &victim);
    let request = guest.measure(IMAGE);
    let mut all: Vec<Vm> = (0..9).map(|_| started(&app, FLOODER, &flooding)).collect();
    for (number, vm) in all.iter_mut().enumerate() {
        let request = vm.measure(IMAGE);
        let reply = app.post_from(FLOODER, &vm.path(), &request);
        if number < 5 {
            reply.expect(410, "launch-expired");
        } else {
            reply.ok();
        }
    }
    app.post_from(OTHER, &guest.path(), &request).ok();
}

#[test]
fn an_address_with_too_many_waiting_launches_is_told_to_wait_and_others_are_not() {
    let app = bounded(|s| s.bounds.per_address = 3);
    let platforms = [platform(), platform()];
    for number in 0..3 {
        launch(&app, FLOODER, &platforms[number % 2]).ok();
    }
    for platform in &platforms {
        told_to_wait(launch(&app, FLOODER, platform));
    }
    // Not told apart by what it writes in front of its own address, nor as an IPv4-mapped one.
    for disguise in ["1.2.3.4, 198.51.100.66", "::ffff:198.51.100.66"] {
        told_to_wait(launch(&app, disguise, &platforms[0]));
    }
    let mut guest = started(&app, OTHER, &platforms[0]);
    let request = guest.measure(IMAGE);
    search(&app, OTHER, &request).ok();
    app.clock.advance(Duration::from_secs(600));
    launch(&app, FLOODER, &platforms[0]).ok();
}

#[test]
fn an_ipv6_network_is_one_host() {
    let app = bounded(|s| s.bounds.per_address = 2);
    let platform = platform();
    launch(&app, "2001:db8:1:2::1", &platform).ok();
    launch(&app, "2001:db8:1:2:ffff::9", &platform).ok();
    told_to_wait(launch(&app, "2001:db8:1:2::3", &platform));
    launch(&app, "2001:db8:1:3::1", &platform).ok();
}

#[test]
fn a_flooded_workload_still_launches_for_its_other_hosts() {
    let app = bounded(|s| s.bounds.per_workload = 8);
    let (flooding, other) = (platform(), platform());
    let mut early = started(&app, OTHER, &other);
    let early_request = early.measure(IMAGE);
    let flood: Vec<Vm> = (0..7).map(|_| started(&app, FLOODER, &flooding)).collect();

    // The flooder has what there is: it gets no more, and gives way to those who have less.
    told_to_wait(launch(&app, FLOODER, &flooding));
    let mut late = started(&app, OTHER, &platform());
    let late_request = late.measure(IMAGE);
    let mut third = started(&app, "203.0.113.9", &platform());
    let third_request = third.measure(IMAGE);

    search(&app, OTHER, &early_request).ok();
    search(&app, OTHER, &late_request).ok();
    app.post_from("203.0.113.9", &third.path(), &third_request).ok();
    let mut of_flood = flood.into_iter();
    let mut oldest = of_flood.next().unwrap();
    let request = oldest.measure(IMAGE);
    app.post_from(FLOODER, &oldest.path(), &request)
        .expect(410, "launch-expired");
    let mut newest = of_flood.next_back().unwrap();
    let request = newest.measure(IMAGE);
    app.post_from(FLOODER, &newest.path(), &request).ok();
}

#[test]
fn a_workload_flooded_from_many_addresses_still_launches_for_its_other_hosts() {
    let flood_of_a_chip: fn(usize) -> String = |n| format!("198.51.{n}.7");
    let flood_of_a_network: fn(usize) -> String = |n| format!("2001:db8:66:{n:x}::1");
    for (chips, address) in [(1, flood_of_a_chip), (8, flood_of_a_network)] {
        let app = bounded(|s| s.bounds.per_workload = 10);
        // Two at one address: of all addresses it is the one that holds most.
        let other = platform();
        let mut early: Vec<Vm> = (0..2).map(|_| started(&app, OTHER, &other)).collect();
        let flooding: Vec<Platform> = (0..chips).map(|_| platform()).collect();
        let mut flood: Vec<Vm> = (0..8)
            .map(|n| started(&app, &address(n), &flooding[n % chips]))
            .collect();
        if chips > 1 {
            // The network that has what there is gets no more.
            told_to_wait(launch(&app, &address(8), &platform()));
        }
        let mut late: Vec<(String, Vm)> = [OTHER, "203.0.113.9", "2001:db8:67:1::1"]
            .into_iter()
            .map(|address| (address.to_owned(), started(&app, address, &platform())))
            .collect();
        for (address, vm) in &mut late {
            let request = vm.measure(IMAGE);
            search(&app, address, &request).ok();
        }
        for vm in &mut early {
            let request = vm.measure(IMAGE);
            app.post_from(OTHER, &vm.path(), &request).ok();
        }
        let request = flood[0].measure(IMAGE);
        app.post_from(&address(0), &flood[0].path(), &request)
            .expect(410, "launch-expired");
    }
}

#[test]
fn a_host_that_searches_by_the_workload_finds_its_own_launch_first() {
    let app = bounded(|_| {});
    let mut digests: Vec<String> = (0..1023_u32).map(|n| digest(&n.to_le_bytes())).collect();
    digests.push(digest(IMAGE));
    app.apply(standard(json!({"launch_digests": digests})));
    let (own, flooding) = (platform(), platform());
    let mut guest = started(&app, OTHER, &own);
    let request = guest.measure(IMAGE);
    // Each costs a search 1024 MACs, so a fifth is beyond its bound of 4096.
    for _ in 0..5 {
        launch(&app, FLOODER, &flooding).ok();
    }
    told_to_wait(search(&app, "203.0.113.9", &request));
    search(&app, OTHER, &request).ok();
}

#[test]
fn failed_searches_cost_their_address_its_budget_and_no_launch_a_try() {
    let app = bounded(|s| {
        s.failed_searches_per_minute = 3;
        s.launch_tries = 1;
    });
    let platform = platform();
    let mut guest = started(&app, OTHER, &platform);
    let good = guest.measure(IMAGE);
    let mut bad = good.clone();
    bad["build-id"] = json!(9);
    for _ in 0..3 {
        search(&app, FLOODER, &bad).expect(422, "measurement-mismatch");
    }
    told_to_wait(search(&app, FLOODER, &bad));
    told_to_wait(search(&app, FLOODER, &good));

    // Others are served, the launch has its only try still, and by its id the flooder's own are served.
    search(&app, OTHER, &bad).expect(422, "measurement-mismatch");
    let mut own = started(&app, FLOODER, &platform);
    let request = own.measure(IMAGE);
    app.post_from(FLOODER, &own.path(), &request).ok();
    search(&app, OTHER, &good).ok();

    app.clock.advance(Duration::from_secs(60));
    search(&app, FLOODER, &bad).expect(422, "measurement-mismatch");
}

#[test]
fn failed_requests_are_one_record_a_minute_however_many_they_are() {
    let app = bounded(|_| {});
    let platform = platform();
    let mut guest = started(&app, OTHER, &platform);
    let mut bad = guest.measure(IMAGE);
    bad["build-id"] = json!(9);
    bad["description"] = json!("x".repeat(1024));
    for _ in 0..20 {
        search(&app, FLOODER, &bad).expect(422, "measurement-mismatch");
        let mut request = launch_request(&platform);
        request["policy"] = json!(0);
        let path = format!("/vm/{WORKLOAD}/launch");
        app.post_from(FLOODER, &path, &request).expect(403, "denied");
    }
    app.service.tidy().unwrap();
    let records: Vec<_> = app
        .decisions()
        .into_iter()
        .map(|d| {
            (
                d["outcome"].clone(),
                d["phase"].clone(),
                d["count"].clone(),
                d["address"].clone(),
            )
        })
        .collect();
    let expected = |phase: &str| (json!("refused"), json!(phase), json!(20), json!(FLOODER));
    assert_eq!(records, [expected("launch"), expected("release")]);
}

#[test]
fn a_host_is_led_to_the_record_of_its_own_reason_and_many_reasons_share_one() {
    let app = bounded(|_| {});
    let platform = platform();
    let asked = |policy: u32| {
        let mut request = launch_request(&platform);
        request["policy"] = json!(policy);
        app.ask_launch(&request).expect(403, "denied")
    };
    let said = |policy: u32| format!("the host asked for SEV policy {policy:#06x}, the workload's is 0x0003");
    let first = asked(0x100);
    for policy in 0x100..0x110 {
        assert_eq!(app.reason(&asked(policy)), said(policy));
    }
    let others = asked(0x110);
    assert_eq!(app.reason(&others), "other reasons");
    for policy in 0x111..0x120 {
        assert_eq!(asked(policy).body["decision"], others.body["decision"]);
    }
    assert_eq!(asked(0x100).body["decision"], first.body["decision"]);
    app.service.tidy().unwrap();
    let count = |reply: &Reply| app.decision(&reply.body["decision"])["count"].clone();
    assert_eq!((count(&first), count(&others)), (json!(3), json!(16)));
    assert_eq!(app.decisions().len(), 17);
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(app.reason(&asked(0x110)), said(0x110));
}

#[test]
fn each_waiting_launch_has_a_bounded_number_of_tries() {
    let app = bounded(|s| s.launch_tries = 3);
    let platform = platform();
    let (mut one, mut two) = (started(&app, OTHER, &platform), started(&app, OTHER, &platform));
    let (good, other) = (one.measure(IMAGE), two.measure(IMAGE));
    let mut denied = good.clone();
    denied["secrets"] = json!(["other"]);
    let mut weak = good.clone();
    weak["policy"] = json!(0);
    app.post(&one.path(), &other).expect(422, "measurement-mismatch");
    app.post(&one.path(), &denied).expect(403, "denied");
    app.post(&one.path(), &weak).expect(422, "measurement-mismatch");
    app.post(&one.path(), &good).expect(409, "launch-used");
    app.post(&two.path(), &other).ok();
}

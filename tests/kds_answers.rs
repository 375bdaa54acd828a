//! Whatever the key distribution service answers: a launch is served, refused or told when to come back.

use std::time::Duration;

use keyward::config::Config;
use keyward::kds::{Bounds, CekError, CekSource as _, FetchError, HttpService, Queue};
use serde_json::json;

use crate::kds_completion::{asking, launch, unsigned};
use crate::support::app::Options;
use crate::support::host::WORKLOAD;
use crate::support::kds::{Answer, Kds, bounds};
use crate::support::{App, platform};

#[test]
fn a_chip_it_does_not_know_is_not_asked_for_again_for_a_while() {
    let platform = platform();
    let kds = Kds::start(|_| Answer::new(404, &[], b"no such chip"));
    let app = App::with(asking(&kds));
    app.standard();
    let refused = launch(&app, &unsigned(&platform)).expect(422, "chain-invalid");
    assert!(refused.detail().contains("knows no chip"), "{}", refused.detail());
    launch(&app, &unsigned(&platform)).expect(422, "chain-invalid");

    app.clock.advance(Duration::from_secs(3599));
    let restarted = app.again(asking(&kds));
    launch(&restarted, &unsigned(&platform)).expect(422, "chain-invalid");
    assert_eq!(kds.asked().len(), 1);

    app.clock.advance(Duration::from_secs(1));
    launch(&restarted, &unsigned(&platform)).expect(422, "chain-invalid");
    assert_eq!(kds.asked().len(), 2);
}

#[test]
fn a_chip_it_comes_to_know_launches_once_the_miss_is_over() {
    let platform = platform();
    let app = App::with(asking(&Kds::start(|_| Answer::new(404, &[], b""))));
    app.standard();
    launch(&app, &unsigned(&platform)).expect(422, "chain-invalid");

    app.clock.advance(Duration::from_secs(3600));
    let cek = platform.signed_cek();
    let learnt = app.again(asking(&Kds::start(move |_| Answer::certificate(&cek))));
    launch(&learnt, &unsigned(&platform)).ok();
    launch(&app, &unsigned(&platform)).ok();
}

#[test]
fn when_it_asks_to_wait_hosts_are_told_and_it_is_left_alone() {
    // What it says, and the seconds that hosts hear.
    let table = [
        (429, Some("77"), 70..=77),
        (503, Some("30"), 25..=30),
        (429, None, 5..=10),
        (429, Some("Wed, 21 Oct 2026 07:28:00 GMT"), 5..=10),
        (429, Some("999999999"), 3590..=3600),
        (429, Some("18446744073709551615"), 3590..=3600),
    ];
    for (status, says, heard) in table {
        let kds = Kds::start(move |_| {
            let headers: Vec<_> = says.into_iter().map(|value| ("retry-after", value)).collect();
            Answer::new(status, &headers, b"")
        });
        let app = App::with(asking(&kds));
        app.standard();
        for _ in 0..2 {
            let reply = launch(&app, &unsigned(&platform())).expect(503, "unavailable");
            let seconds: u64 = reply.headers["retry-after"].parse().unwrap();
            assert!(heard.contains(&seconds), "{status} {says:?}: {seconds}");
        }
        assert_eq!(kds.asked().len(), 1, "{status} {says:?}");
    }
}

#[test]
fn an_answer_that_is_no_certificate_is_not_taken_for_one() {
    let platform = platform();
    let cek = platform.signed_cek();
    let mut other_version = cek.clone();
    other_version[0] = 2;
    let table = [
        ("empty", Answer::certificate(b"")),
        ("a byte short", Answer::certificate(&cek[..2083])),
        (
            "a byte long",
            Answer::certificate(&[cek.as_slice(), &[0]].concat()),
        ),
        ("a megabyte", Answer::certificate(&vec![0; 1 << 20])),
        ("zeros", Answer::certificate(&[0; 2084])),
        ("another version", Answer::certificate(&other_version)),
        (
            "broken off",
            Answer::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2084\r\n\r\nshort".to_vec()),
        ),
        ("not HTTP", Answer::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())),
        ("created", Answer::new(201, &[], &cek)),
        ("an error with the certificate", Answer::new(500, &[], &cek)),
    ];
    let app = App::new();
    app.standard();
    for (name, answer) in table {
        let answer = std::sync::Mutex::new(Some(answer));
        let kds = Kds::start(move |_| answer.lock().unwrap().take().unwrap_or(Answer::Silence));
        let server = app.again(asking(&kds));
        let reply = launch(&server, &unsigned(&platform));
        assert_eq!(
            (reply.status, reply.problem()),
            (503, "unavailable"),
            "{name}: {}",
            reply.body
        );
        assert!(reply.headers.contains_key("retry-after"), "{name}");
        // A service that is out of order is not asked again at once.
        assert_eq!(launch(&server, &unsigned(&platform)).status, 503, "{name}");
        assert_eq!(kds.asked().len(), 1, "{name}");
    }
    let cek = platform.signed_cek();
    let good = app.again(asking(&Kds::start(move |_| Answer::certificate(&cek))));
    launch(&good, &unsigned(&platform)).ok();
}

#[test]
fn a_certificate_that_is_not_the_chip_s_completes_nothing() {
    let (platform, other) = (platform(), platform());
    let chain = platform.cert_chain().unwrap();
    let mut forged = platform.signed_cek();
    forged[1052] ^= 1;
    for (name, certificate) in [
        ("the PEK", chain[..2084].to_vec()),
        ("the unsigned CEK itself", chain[2 * 2084..].to_vec()),
        ("another chip's", other.signed_cek()),
        ("a CEK with a forged signature", forged),
    ] {
        let app = App::with(asking(&Kds::start(move |_| Answer::certificate(&certificate))));
        app.standard();
        let reply = launch(&app, &unsigned(&platform));
        assert_eq!(
            (reply.status, reply.problem()),
            (422, "chain-invalid"),
            "{name}: {}",
            reply.body
        );

        let cek = platform.signed_cek();
        let right = app.again(asking(&Kds::start(move |_| Answer::certificate(&cek))));
        let reply = launch(&right, &unsigned(&platform));
        assert_eq!(reply.status, 200, "{name} was remembered: {}", reply.body);
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let platform = platform();
    for status in [301, 302, 303, 307, 308] {
        let cek = platform.signed_cek();
        let elsewhere = Kds::start(move |_| Answer::certificate(&cek));
        let target = format!("{}/cek", elsewhere.base);
        let kds = Kds::start(move |_| Answer::new(status, &[("location", &target)], b""));
        let app = App::with(asking(&kds));
        app.standard();
        launch(&app, &unsigned(&platform)).expect(503, "unavailable");
        assert_eq!((kds.asked().len(), elsewhere.asked().len()), (1, 0), "{status}");
    }
}

#[test]
fn a_service_that_is_silent_or_gone_costs_a_launch_its_wait_and_no_more() {
    let silent = Kds::start(|_| Answer::Silence);
    let options = Options {
        ceks: silent.queue(Duration::from_millis(50), 16, 16),
        ..Options::default()
    };
    let app = App::with(options);
    app.standard();
    let began = std::time::Instant::now();
    let reply = launch(&app, &unsigned(&platform())).expect(503, "unavailable");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(reply.headers.contains_key("retry-after"));

    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let service = HttpService::new(&format!("http://{nobody}"), Duration::from_secs(5));
    let queue = Queue::start(Box::new(service), bounds(Duration::from_secs(5), 4, 4)).unwrap();
    let gone = app.again(Options {
        ceks: std::sync::Arc::new(queue),
        ..Options::default()
    });
    let reply = launch(&gone, &unsigned(&platform())).expect(503, "unavailable");
    assert!(reply.headers.contains_key("retry-after"));
}

#[test]
fn an_address_that_asks_for_many_chips_does_not_keep_others_from_asking() {
    let silent = Kds::start(|_| Answer::Silence);
    let options = Options {
        // Each request is given up after twice the wait, which is longer than the test takes.
        ceks: silent.queue(Duration::from_secs(2), 3, 2),
        ..Options::default()
    };
    let app = App::with(options);
    app.standard();
    let ask = |host: &str| {
        let path = format!("/vm/{WORKLOAD}/launch");
        let reply = app
            .post_from(host, &path, &unsigned(&platform()))
            .expect(503, "unavailable");
        reply.detail().to_owned()
    };
    std::thread::scope(|scope| {
        let first = [
            scope.spawn(|| ask("203.0.113.1")),
            scope.spawn(|| ask("203.0.113.1")),
        ];
        while silent.asked().len() < 2 {
            std::thread::yield_now();
        }
        assert!(ask("203.0.113.1").contains("this address"));
        let other = scope.spawn(|| ask("203.0.113.2"));
        while silent.asked().len() < 3 {
            std::thread::yield_now();
        }
        assert!(ask("203.0.113.3").contains("too many chips"));
        for waiting in first.into_iter().chain([other]) {
            assert!(waiting.join().unwrap().contains("not answered yet"));
        }
    });
    assert_eq!(silent.asked().len(), 3);
}

/// Knows one chip, of ones.
struct Ones;

impl keyward::kds::Service for Ones {
    fn fetch(&self, chip: &[u8; 64]) -> Result<Vec<u8>, FetchError> {
        if *chip == [1; 64] {
            Ok(vec![1])
        } else {
            Err(FetchError::UnknownChip)
        }
    }
}

fn chip(number: u16) -> [u8; 64] {
    let mut chip = [0; 64];
    chip[..2].copy_from_slice(&number.to_le_bytes());
    chip
}

#[test]
fn an_address_that_asked_for_many_chips_does_not_keep_others_from_asking_either() {
    let queue = Queue::start(Box::new(Ones), bounds(Duration::from_secs(5), 2, 1)).unwrap();
    for number in 0..1000 {
        let unknown = queue.cek(&chip(number), "203.0.113.1");
        assert_eq!(unknown, Err(CekError::UnknownChip), "{number}");
    }
    assert_eq!(queue.cek(&[1; 64], "203.0.113.2"), Ok(vec![1]));
}

#[test]
fn an_address_that_makes_chips_up_has_its_allowance_and_no_more() {
    let allowed = Bounds {
        chips_per_address: 3,
        ..bounds(Duration::from_secs(5), 2, 1)
    };
    let queue = Queue::start(Box::new(Ones), allowed).unwrap();
    for number in 0..3 {
        let unknown = queue.cek(&chip(number), "203.0.113.1");
        assert_eq!(unknown, Err(CekError::UnknownChip), "{number}");
    }
    let Err(CekError::Unavailable { retry_after, why }) = queue.cek(&chip(3), "203.0.113.1") else {
        panic!("a fourth chip was asked for");
    };
    assert!(retry_after > Duration::from_secs(500) && retry_after <= Duration::from_secs(600));
    assert_eq!(why, "this address asked for too many chips");
    // What it asked for before it may ask for again, and others are not in its way.
    assert_eq!(queue.cek(&chip(0), "203.0.113.1"), Err(CekError::UnknownChip));
    assert_eq!(queue.cek(&[1; 64], "203.0.113.2"), Ok(vec![1]));
}

#[test]
fn plain_http_is_configured_for_loopback_only_and_a_launch_waits_five_seconds_at_most() {
    let load = |key: &str, value: &str| {
        let variables = [(key.to_owned(), value.to_owned())];
        Config::load(None, variables.into_iter()).map(|config| json!(config.kds))
    };
    for (url, accepted) in [
        ("http://127.0.0.1:8080", true),
        ("https://kds.example", true),
        ("''", true),
        ("http://10.1.2.3", false),
        ("http://kds.example", false),
        ("https://user@kds.example", false),
    ] {
        let loaded = load("KEYWARD_KDS__URL", url);
        assert_eq!(loaded.is_ok(), accepted, "{url}: {loaded:?}");
    }
    assert!(load("KEYWARD_KDS__WAIT_SECONDS", "5").is_ok());
    let refused = load("KEYWARD_KDS__WAIT_SECONDS", "6").unwrap_err().to_string();
    assert!(refused.contains("kds.wait_seconds"), "{refused}");
}

//! What succeeds against simple-kbs, or ends it, is refused here, reads the same, and the server lives.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::grpc::messages::{BundleRequest, BundleResponse, SecretRequest};
use keyward::psp::{Ca, Faults, Platform, PlatformOptions};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::app::{Options, bundle};
use crate::support::host::{ALLOW, IMAGE, POLICY};
use crate::support::kbs::{Kbs, asked, decision, denied, guid, objects, refused, report_key};
use crate::support::{App, ca, platform};

fn key() -> Vec<keyward::grpc::messages::RequestDetails> {
    vec![asked(&guid(1), "binary", "key", "k1")]
}

#[track_caller]
fn alive(kbs: &Kbs, platform: &Platform) {
    let (vm, answer) = kbs.run(platform, &key());
    assert_eq!(vm.unwrap(&answer.unwrap())[0].1, b"first key");
}

#[test]
fn a_policy_that_is_said_at_release_is_not_that_of_the_launch() {
    let (app, platform) = (App::new(), platform());
    let (report, _) = report_key();
    let mut all = objects(&report, ALLOW);
    // The owner lets any SEV policy be launched, and releases to one.
    all[6]["policy"] = Value::Null;
    all[6]["danger_weak_policy"] = json!(true);
    all[0] = bundle(&[(
        "release/any.rego",
        "package release.any\n\ndefault allow := false\n\nallow if {\n\tinput.attested.policy == 3\n\tis_string(input.attested.launch_digest)\n}\n",
    )]);
    app.apply(all);
    let kbs = Kbs::of(&app);
    let mut vm = kbs.start_with(&platform, 0);
    let honest = vm.measure(IMAGE, &key());
    let lie = SecretRequest {
        policy: POLICY,
        ..honest.clone()
    };
    assert_eq!(refused(kbs.secret(&lie)), denied());
    let recorded = app.decision(&decision(kbs.secret(&honest)));
    assert_eq!(recorded["input"]["attested"]["policy"], 0);
    alive(&kbs, &platform);
}

#[test]
fn a_policy_that_is_gone_or_dangles_denies() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    alive(&kbs, &platform);
    let mut vm = kbs.start(&platform);
    let request = vm.measure(IMAGE, &key());
    // Through the API it can't be: what is bound must be there.
    app.try_apply(json!([bundle(&[(
        "release/other.rego",
        "package release.other\n\nallow := true\n"
    )])]))
    .expect(422, "invalid");
    // Whoever writes to an owner's objects says so.
    let behind = |statement: &str| {
        let touched = app.sql(statement);
        app.sql("UPDATE owners SET generation = generation + 1");
        touched
    };
    // In the database: the binding names what is not there, then there is no bundle at all.
    let document =
        "UPDATE secrets SET document = replace(document, 'release.any', 'release.gone') WHERE name = 'k1'";
    assert_eq!(behind(document), 1);
    let recorded = app.decision(&decision(kbs.secret(&request)));
    assert!(
        recorded["reason"].as_str().unwrap().contains("release.gone"),
        "{recorded}"
    );
    assert_eq!(behind("UPDATE owners SET bundle = NULL"), 1);
    decision(kbs.secret(&request));
    assert_eq!(
        behind("UPDATE secrets SET document = replace(document, '\"release.gone\"', '') WHERE name = 'k1'"),
        1
    );
    let recorded = app.decision(&decision(kbs.secret(&request)));
    assert_eq!(recorded["reason"], "no policy reaches the secret k1");
    // The row is damaged: an error, and no «no policy».
    assert_eq!(behind("UPDATE secrets SET document = 'x' WHERE name = 'k1'"), 1);
    assert_eq!(refused(kbs.secret(&request)).0, Code::Unavailable);
    assert_eq!(
        app.decisions()
            .iter()
            .filter(|one| one["outcome"] == "released")
            .count(),
        1
    );
}

#[test]
fn a_chain_with_any_bit_flipped_is_denied() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let chain = platform.full_chain();
    let mut accepted = 0;
    for at in (0..chain.len()).step_by(101) {
        let mut flipped = chain.clone();
        flipped[at] ^= 1;
        let answer = kbs.bundle(&flipped, POLICY);
        if covered(at) {
            assert_eq!(refused(answer), denied(), "byte {at}");
        } else {
            accepted += usize::from(answer.is_ok());
        }
    }
    assert!(accepted > 0, "no byte outside of what is covered was tried");
    for chain in [
        &[][..],
        &chain[..2083],
        &chain[..2084],
        &chain[..8335],
        &[0; 20_000],
        &[0; 11_536],
    ] {
        assert_eq!(refused(kbs.bundle(chain, POLICY)), denied());
    }
    for text in ["", "*", "AAA", "QQ==\n"] {
        let message = BundleRequest {
            certificate_chain: text.to_owned(),
            policy: POLICY,
        };
        assert_eq!(
            refused(kbs.call::<_, BundleResponse>("GetBundle", message)),
            denied()
        );
    }
    alive(&kbs, &platform);
}

/// Whether a signature, or the form itself, covers a byte of a chain. Outside are only the second signatures of PDH, OCA and
/// CEK, which are marked empty and not looked at.
fn covered(at: usize) -> bool {
    let (certificate, within) = (at / 2084, at % 2084);
    !([0, 2, 3].contains(&certificate) && within >= 1564)
}

#[test]
fn a_self_made_root_is_no_platform() {
    let app = App::with(Options {
        extra_root: None,
        ..Options::default()
    });
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    assert_eq!(refused(kbs.bundle(&platform().full_chain(), POLICY)), denied());
    let trusting = App::new();
    trusting.standard_kbs();
    let kbs = Kbs::of(&trusting);
    let mine = Ca::generate(2048).unwrap();
    let forged = Platform::generate_with_ca(&mine, &PlatformOptions::default()).unwrap();
    assert_eq!(refused(kbs.bundle(&forged.full_chain(), POLICY)), denied());
    for faults in [
        Faults {
            foreign_cek: true,
            ..Faults::default()
        },
        Faults {
            another_root: true,
            ..Faults::default()
        },
    ] {
        let forged = Platform::generate_with_ca(ca(), &PlatformOptions::default())
            .unwrap()
            .with_faults(faults, ca())
            .unwrap();
        assert_eq!(refused(kbs.bundle(&forged.full_chain(), POLICY)), denied());
    }
    alive(&kbs, &platform());
}

#[test]
fn before_a_guest_is_measured_every_refusal_reads_the_same() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let mut vm = kbs.start(&platform);
    let good = vm.measure(IMAGE, &key());
    let with = |change: &dyn Fn(&mut SecretRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let other = STANDARD.encode([7; 48]);
    let wrong: Vec<(&str, SecretRequest)> = vec![
        ("no launch", with(&|r| r.launch_id = String::new())),
        ("unknown launch", with(&|r| r.launch_id = guid(77))),
        (
            "a workload's UUID",
            with(&|r| r.launch_id = crate::support::host::WORKLOAD.to_owned()),
        ),
        (
            "a false measurement",
            with(&|r| r.launch_measurement = other.clone()),
        ),
        (
            "a short measurement",
            with(&|r| r.launch_measurement = "AAAA".to_owned()),
        ),
        ("no base64", with(&|r| r.launch_measurement = "?".to_owned())),
        ("another policy", with(&|r| r.policy = 5)),
        ("a number too large", with(&|r| r.build_id += 256)),
        ("another build", with(&|r| r.build_id += 1)),
        (
            "a false hint that is none",
            with(&|r| r.fw_digest = "AAAA".to_owned()),
        ),
        (
            "a known and a false measurement",
            with(&|r| {
                r.launch_measurement.clone_from(&other);
                r.secret_requests[0].id = "nobody-s".to_owned();
            }),
        ),
        (
            "an unknown type",
            with(&|r| r.secret_requests[0].secret_type = "all".to_owned()),
        ),
        (
            "an unknown format",
            with(&|r| r.secret_requests[0].format = "xml".to_owned()),
        ),
        (
            "a GUID that is none",
            with(&|r| r.secret_requests[0].guid = "x".to_owned()),
        ),
        (
            "too long a description",
            with(&|r| r.launch_description = "x".repeat(1025)),
        ),
        (
            "too many entries",
            with(&|r| {
                r.secret_requests = (0..65).map(|n| asked(&guid(n), "binary", "key", "k1")).collect();
            }),
        ),
        (
            "too long an id",
            with(&|r| r.secret_requests[0].id = "x".repeat(1025)),
        ),
    ];
    for (what, request) in wrong {
        assert_eq!(refused(kbs.secret(&request)), denied(), "{what}");
    }
    // A failed measurement consumes nothing, and no secret was counted.
    assert_eq!(vm.unwrap(&kbs.secret(&good).unwrap())[0].1, b"first key");
    assert_eq!(app.counted("k1"), (1, 0));
    // Used, it reads the same again.
    let late = with(&|r| r.launch_description = "another".to_owned());
    assert_eq!(refused(kbs.secret(&late)), denied());
}

#[test]
fn a_false_digest_is_a_hint_and_a_true_one_no_permission() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let mut vm = kbs.start(&platform);
    let mut request = vm.measure(IMAGE, &key());
    request.fw_digest = STANDARD.encode([1; 32]);
    kbs.secret(&request).unwrap();
    let evil = b"what nobody reviewed: 48 bytes, all of them evil";
    let mut vm = kbs.start(&platform);
    let request = vm.measure(evil, &key());
    let recorded = app.decision(&decision(kbs.secret(&request)));
    assert_eq!(recorded["input"]["attested"]["digest_source"], "hint");
}

#[test]
fn whoever_names_what_is_not_there_must_wait() {
    let mut options = Options::default();
    options.settings.failed_searches_per_minute = 3;
    let app = App::with(options);
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let platform = platform();
    let mut vm = kbs.start(&platform);
    let good = vm.measure(IMAGE, &key());
    let unknown = SecretRequest {
        launch_id: guid(77),
        ..good.clone()
    };
    for _ in 0..2 {
        assert_eq!(refused(kbs.secret(&unknown)), denied());
    }
    assert_eq!(refused(kbs.online_raw(&guid(77), &key())), denied());
    assert_eq!(refused(kbs.secret(&unknown)).0, Code::ResourceExhausted);
    app.clock.advance(std::time::Duration::from_secs(60));
    kbs.secret(&good).unwrap();
}

#[test]
fn what_is_no_call_of_the_service_is_turned_away() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let message = BundleRequest::default();
    let (code, _) = refused(kbs.call::<_, BundleResponse>("GetEverything", message));
    assert_eq!(code, Code::Unimplemented);
    let long = BundleRequest {
        certificate_chain: "A".repeat(70_000),
        policy: POLICY,
    };
    let (code, _) = refused(kbs.call::<_, BundleResponse>("GetBundle", long));
    assert_eq!(code, Code::OutOfRange);
    alive(&kbs, &platform);
}

#[test]
fn one_address_has_a_bounded_number_of_connections_and_gets_them_back() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    alive(&kbs, &platform);
    // With the client's own it is one too many.
    let mut open: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(&kbs.address).unwrap())
        .collect();
    let closed = open.iter_mut().position(|stream| greeted(stream).is_none());
    assert_eq!(closed, Some(63));
    // Whoever is in goes on.
    alive(&kbs, &platform);
    drop(open);
    // Those that were closed are noticed as such one by one.
    let again = (0..10_000).find_map(|_| greeted(&mut TcpStream::connect(&kbs.address).unwrap()));
    assert_eq!(again, Some(4), "no place was given back");
}

/// The type of the first frame that the server sends; none: it closed the connection.
fn greeted(stream: &mut TcpStream) -> Option<u8> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut head = [0; 9];
    stream.write_all(preface).ok()?;
    stream.read_exact(&mut head).ok()?;
    Some(head[3])
}

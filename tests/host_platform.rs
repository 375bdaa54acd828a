//! A host that lies about its platform: chains, measurements and sessions that are not its own.

use keyward::domain::{Base64, Base64Bytes};
use keyward::psp::{Ca, Faults, Platform, PlatformOptions, Status};
use serde_json::{Value, json};

use crate::support::app::Options;
use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::{App, Vm, ca, platform, vectors};

fn faulty(faults: Faults) -> Platform {
    let options = PlatformOptions {
        faults,
        ..PlatformOptions::default()
    };
    Platform::generate_with_ca(ca(), &options).unwrap()
}

fn chain(pdh: &[u8], rest: &[u8]) -> Value {
    json!({"pdh": Base64Bytes(pdh.to_vec()), "cert-chain": Base64Bytes(rest.to_vec())})
}

#[test]
fn real_chains_launch_in_each_of_their_forms_and_a_flipped_byte_none() {
    let app = App::new();
    app.standard();
    for name in ["naples-chain.bin", "rome-chain.bin"] {
        let Some(full) = vectors::read(name) else { return };
        let (pdh, rest) = full.split_at(2084);
        for form in [&full, rest, &rest[..3 * 2084], &full[..4 * 2084]] {
            let reply = app.ask_launch(&chain(pdh, form)).ok();
            assert_eq!(reply.body["policy"], 3, "{name}, {} bytes", form.len());
        }
        // PEK, OCA, CEK and the rest: a byte in each part's signed body and in its signature.
        for at in [
            20,
            1060,
            2104,
            3160,
            4200,
            5230,
            rest.len() - 1000,
            rest.len() - 300,
        ] {
            let mut forged = rest.to_vec();
            forged[at] ^= 1;
            let refused = app.ask_launch(&chain(pdh, &forged)).expect(422, "chain-invalid");
            assert!(refused.body.get("session").is_none(), "{name}, byte {at}");
        }
        let mut forged = pdh.to_vec();
        forged[100] ^= 1;
        app.ask_launch(&chain(&forged, rest)).expect(422, "chain-invalid");
    }
}

#[test]
fn a_chain_under_a_root_that_a_host_made_is_refused_in_either_size() {
    let app = App::new();
    app.standard();
    for bits in [2048, 4096] {
        let own = Ca::generate(bits).unwrap();
        let platform = Platform::generate_with_ca(&own, &PlatformOptions::default()).unwrap();
        let refused = app
            .ask_launch(&launch_request(&platform))
            .expect(422, "chain-invalid");
        assert!(refused.detail().starts_with("ARK"), "{}", refused.detail());
    }
    // Nor is the tests' own root anything to a server that was not told of it.
    let strict = App::with(Options {
        extra_root: None,
        ..Options::default()
    });
    strict.standard();
    strict
        .ask_launch(&launch_request(&platform()))
        .expect(422, "chain-invalid");
    assert_eq!(strict.decisions()[0]["outcome"], "refused");
}

#[test]
fn certificates_of_somebody_else_s_are_named_and_refused() {
    let app = App::new();
    app.standard();
    let (foreign, another) = (
        Faults {
            foreign_cek: true,
            ..Faults::default()
        },
        Faults {
            another_root: true,
            ..Faults::default()
        },
    );
    for (faults, certificate) in [(foreign, "PEK"), (another, "ARK")] {
        let refused = app
            .ask_launch(&launch_request(&faulty(faults)))
            .expect(422, "chain-invalid");
        assert!(refused.detail().contains(certificate), "{}", refused.detail());
    }
    let (one, two) = (platform(), platform());
    for request in [
        chain(&one.pdh(), &two.full_chain()),
        chain(&one.pdh(), &two.cert_chain_signed()),
    ] {
        app.ask_launch(&request).expect(422, "chain-invalid");
    }
}

#[test]
fn a_chip_s_id_is_believed_only_with_the_key_that_it_is_known_by() {
    let app = App::new();
    app.standard();
    let (known, other) = (platform(), platform());
    let cek = keyward::sev::Certificate::parse(&known.signed_cek()).unwrap();
    app.service
        .store()
        .remember_cek(Some(known.chip_id()), &cek.fingerprint(), cek.as_bytes())
        .unwrap();
    let with_id = |platform: &Platform, id: &[u8; 64]| {
        let mut request = launch_request(platform);
        request["cpu-id"] = json!(Base64(*id));
        app.ask_launch(&request)
    };
    for (platform, id) in [(&other, known.chip_id()), (&known, other.chip_id())] {
        let refused = with_id(platform, id).expect(422, "chain-invalid");
        assert!(refused.detail().contains("`cpu-id`"), "{}", refused.detail());
    }
    for (platform, vouched) in [(&known, true), (&other, false)] {
        let mut vm = Vm::start(platform, &with_id(platform, platform.chip_id()).ok());
        let request = vm.measure(IMAGE);
        app.post(&vm.path(), &request).ok();
        let input = &app.decisions()[0]["input"];
        let id = hex::encode(platform.chip_id());
        assert_eq!(input["claimed"]["cpu_id"], id);
        assert_eq!(
            input["platform"]["chip_id"],
            if vouched { json!(id) } else { Value::Null }
        );
    }
}

#[test]
fn what_is_known_of_chips_shows_only_in_answers_to_chains_that_hold() {
    let app = App::new();
    app.standard();
    let (known, other) = (platform(), platform());
    let cek = keyward::sev::Certificate::parse(&known.signed_cek()).unwrap();
    app.service
        .store()
        .remember_cek(Some(known.chip_id()), &cek.fingerprint(), cek.as_bytes())
        .unwrap();
    let mut forged_pek = other.full_chain();
    forged_pek[2084 + 1060] ^= 1;
    let elsewhere = faulty(Faults {
        another_root: true,
        ..Faults::default()
    });
    let unsigned_elsewhere = [elsewhere.cert_chain().unwrap(), elsewhere.ask(), elsewhere.ark()].concat();
    for (pdh, rest) in [
        (other.pdh(), forged_pek),
        (elsewhere.pdh(), elsewhere.full_chain()),
        (elsewhere.pdh(), unsigned_elsewhere),
    ] {
        let asked = |id: Option<&[u8; 64]>| {
            let mut request = chain(&pdh, &rest);
            if let Some(id) = id {
                request["cpu-id"] = json!(Base64(*id));
            }
            let refused = app.ask_launch(&request).expect(422, "chain-invalid");
            refused.detail().to_owned()
        };
        let unasked = asked(None);
        assert_eq!(asked(Some(known.chip_id())), unasked);
        assert_eq!(asked(Some(other.chip_id())), unasked);
    }
}

#[test]
fn a_stale_pdh_gets_a_session_that_its_psp_can_t_open() {
    let app = App::new();
    app.standard();
    let stale = faulty(Faults {
        stale_pdh: true,
        ..Faults::default()
    });
    let reply = app.ask_launch(&launch_request(&stale)).ok();
    let session: Base64<128> = serde_json::from_value(reply.body["session"].clone()).unwrap();
    let owner: Base64<2084> = serde_json::from_value(reply.body["owner-cert"].clone()).unwrap();
    assert_eq!(
        stale.launch_start(3, &owner.0, &session.0).err(),
        Some(Status::Measurement)
    );
}

#[test]
fn a_measurement_of_another_launch_or_made_wrong_matches_none() {
    let app = App::new();
    app.standard();
    let mut first = app.start(&platform());
    let genuine = first.measure(IMAGE);
    let measured: Base64<48> = serde_json::from_value(genuine["measurement"].clone()).unwrap();
    let fault = |set: fn(&mut Faults)| {
        let mut faults = Faults::default();
        set(&mut faults);
        faults
    };
    let replayed = Faults {
        replayed_measurement: Some(measured.0),
        ..Faults::default()
    };
    for faults in [
        replayed,
        fault(|f| f.wrong_build = true),
        fault(|f| f.wrong_policy = true),
        fault(|f| f.wrong_digest = true),
    ] {
        let mut vm = app.start(&faulty(faults.clone()));
        let request = vm.measure(IMAGE);
        let refused = app.post(&vm.path(), &request);
        assert_eq!(
            (refused.status, refused.problem()),
            (422, "measurement-mismatch"),
            "{faults:?}"
        );
    }
    app.post(&first.path(), &genuine).ok();
    app.post(&first.path(), &genuine).expect(409, "launch-used");
    app.post(&format!("/vm/{WORKLOAD}/validate"), &genuine)
        .expect(422, "measurement-mismatch");
}

#[test]
fn of_two_guests_on_one_session_one_gets_the_secret_and_the_other_can_t_open_it() {
    let (app, platform) = (App::new(), platform());
    app.standard();
    for by_workload in [false, true] {
        let reply = app.ask_launch(&launch_request(&platform)).ok();
        let (mut one, mut two) = (Vm::start(&platform, &reply), Vm::start(&platform, &reply));
        let (first, second) = (one.measure(IMAGE), two.measure(IMAGE));
        let path = if by_workload {
            format!("/vm/{WORKLOAD}/validate")
        } else {
            one.path()
        };
        let packet = app.post(&path, &first).ok();
        assert_eq!(one.unwrap(&packet)[0].1, b"hunter2");

        let header: Base64Bytes = serde_json::from_value(packet.body["secret-header"].clone()).unwrap();
        let payload: Base64Bytes = serde_json::from_value(packet.body["secret-payload"].clone()).unwrap();
        let injected = two.guest.launch_secret(&header.0, &payload.0, payload.0.len());
        assert_eq!(injected.err(), Some(Status::Measurement));

        app.post(&two.path(), &second).expect(409, "launch-used");
        app.post(&format!("/vm/{WORKLOAD}/validate"), &second)
            .expect(422, "measurement-mismatch");
    }
}

#[test]
fn an_extra_root_counts_only_for_the_owners_it_was_given_to() {
    let platform = platform();
    for (owners, trusted) in [
        (vec!["acme"], true),
        (vec!["other", "acme"], true),
        (vec!["other"], false),
        (vec!["acm", "acme2", "ACME"], false),
        (vec![], false),
    ] {
        let mut options = Options::default();
        let owners = owners.into_iter().map(str::to_owned).collect();
        options.settings.root_owners = vec![("elsewhere".to_owned(), vec![]), ("test".to_owned(), owners)];
        let app = App::with(options);
        app.apply(standard(json!({})));
        let reply = app.ask_launch(&launch_request(&platform));
        if trusted {
            reply.ok();
        } else {
            reply.expect(422, "chain-invalid");
            if let Some(real) = vectors::read("rome-chain.bin") {
                app.ask_launch(&chain(&real[..2084], &real)).ok();
            }
        }
    }
}

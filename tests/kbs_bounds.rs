//! What clients of simple-kbs may take is bounded: requests, holds and calls.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;

use crate::support::hooked::{Fate, Hook};
use crate::support::host::{IMAGE, POLICY};
use crate::support::kbs::{
    Kbs, LIFETIME, REQUESTS, asked, decision, denied, guid, objects, refused, report_key,
};
use crate::support::{App, platform};

#[test]
fn a_request_that_can_not_be_asked_like_this_is_taken_too() {
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    let good = asked(&guid(1), "binary", "key", "k1");
    for _ in 0..REQUESTS {
        let twice = [good.clone(), good.clone()];
        assert_eq!(refused(kbs.online_raw(&client.id, &twice)), denied());
    }
    assert_eq!(refused(kbs.online_raw(&client.id, &[good])), denied());
}

#[test]
fn four_holds_wait_of_one_connection_and_what_waits_may_be_asked_again() {
    let (app, platform) = (App::new(), platform());
    let (key, _) = report_key();
    app.apply(objects(
        &key,
        "package release.any\n\nallow := true\n\nrelease_limit := 0\n",
    ));
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    let ask = |ids: &[&str]| {
        let wanted = ids.iter().zip(1..);
        let wanted: Vec<_> = wanted
            .map(|(id, number)| asked(&guid(number), "binary", "key", id))
            .collect();
        kbs.online_raw(&client.id, &wanted)
    };
    for ids in [&["k1"][..], &["k2"], &["motd"], &["k1", "k2"]] {
        assert_eq!(refused(ask(ids)).0, Code::FailedPrecondition, "{ids:?}");
    }
    let recorded = app.decision(&decision(ask(&["k1", "motd"])));
    let reason = recorded["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("4 holds of this connection wait already, and a count is used up: "),
        "{reason}"
    );
    assert_eq!(recorded["connection"], client.connection());
    assert_eq!(refused(ask(&["k1"])).0, Code::FailedPrecondition);
    let holds = app.owner("GET", "/v1/holds", &json!(null)).ok().body;
    assert_eq!(holds["items"].as_array().unwrap().len(), 4);
}

#[test]
fn one_address_has_a_share_of_the_calls_that_are_worked_on() {
    const SHARE: usize = 16;
    let hook = Hook::default();
    let (app, platform) = (App::with(hook.options()), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let chain = platform.full_chain();
    // Every call waits in the store until the gate is opened.
    let (gate, shut) = mpsc::channel::<()>();
    let shut = Arc::new(Mutex::new(shut));
    hook.set(move |_| {
        let _ = shut.lock().unwrap().recv();
        Fate::Done
    });
    let (tell, told) = mpsc::channel();
    let codes: Vec<Code> = std::thread::scope(|scope| {
        // Eight calls at once are what one connection takes.
        for _ in 0..3 {
            let client = Arc::new(Kbs::at(&kbs.address));
            for _ in 0..8 {
                let (client, tell, chain) = (client.clone(), tell.clone(), &chain);
                scope.spawn(move || {
                    let code = client
                        .bundle(chain, POLICY)
                        .map_or_else(|e| e.code(), |_| Code::Ok);
                    tell.send(code).unwrap();
                });
            }
        }
        let mut codes = Vec::new();
        // Those beyond the share do not wait.
        while codes.len() < 3 * 8 - SHARE {
            match told.recv_timeout(Duration::from_secs(20)) {
                Ok(code) => codes.push(code),
                Err(_) => break,
            }
        }
        drop(gate);
        codes
    });
    assert_eq!(codes, [Code::Unavailable; 3 * 8 - SHARE]);
    drop(tell);
    assert_eq!(told.iter().filter(|code| *code == Code::Ok).count(), SHARE);
}

#[test]
fn what_expired_is_forgotten_in_bounded_steps() {
    let hook = Hook::default();
    let (app, platform) = (App::with(hook.options()), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let client = kbs.connected(&platform);
    kbs.online(&client, &[asked(&guid(1), "binary", "key", "k1")])
        .unwrap();
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
                INSERT INTO connection_answers SELECT connection, guid, 'id' || i, document FROM connection_answers, n";
    assert_eq!(app.sql(many), 2500);
    app.clock.advance(LIFETIME);
    let sweeps = Arc::new(Mutex::new(0));
    let counted = sweeps.clone();
    hook.set(move |method| {
        *counted.lock().unwrap() += usize::from(method == "sweep");
        Fate::Done
    });
    app.service.tidy().unwrap();
    hook.clear();
    assert_eq!(*sweeps.lock().unwrap(), 3);
    assert_eq!(app.sql("DELETE FROM connection_answers"), 0);
    assert_eq!(app.sql("DELETE FROM connections"), 0);
}

#[test]
fn a_report_key_counts_in_a_table_as_the_report_that_it_signs() {
    let app = App::new();
    let (key, _) = report_key();
    let mut all = objects(&key, "package release.any\n\nallow := true\n");
    let value = |length: usize| {
        use base64::Engine as _;
        json!({"base64": base64::engine::general_purpose::STANDARD.encode(vec![7; length])})
    };
    all[3]["value"] = value(500);
    let too_long = |objects: Value| {
        let warnings = app.apply(objects).body["warnings"].to_string();
        warnings.contains("all its secrets together make a table of")
    };
    assert!(!too_long(all.clone()));
    all[3]["value"] = value(1000);
    assert!(too_long(all));
    // The estimate is not too low for a report with the longest description.
    let (app, platform) = (App::new(), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let mut vm = kbs.start(&platform);
    let wanted = [asked(&guid(1), "json", "report", "reports")];
    let mut request = vm.measure(IMAGE, &wanted);
    request.launch_description = "x".repeat(1024);
    let report = vm.unwrap(&kbs.secret(&request).unwrap()).remove(0).1;
    assert!((1024..2048).contains(&report.len()), "{}", report.len());
}

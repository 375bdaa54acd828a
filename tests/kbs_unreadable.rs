//! What clients of simple-kbs send that can't be read costs their address, and what takes too long costs no secret.

use std::sync::mpsc;
use std::time::Duration;

use keyward::grpc::messages::{BundleRequest, BundleResponse, OnlineSecretRequest, SecretResponse};
use tonic::Code;

use crate::support::app::Options;
use crate::support::hooked::{Fate, Hook};
use crate::support::host::{IMAGE, POLICY};
use crate::support::kbs::{Answer, Kbs, asked, denied, guid, refused};
use crate::support::{App, platform};

fn patient(failures: u32) -> (App, Kbs) {
    let mut options = Options::default();
    options.settings.failed_searches_per_minute = failures;
    let app = App::with(options);
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    (app, kbs)
}

/// A message of another call: its second field is a number where this call has text.
fn unreadable(kbs: &Kbs) -> Code {
    let other = BundleRequest {
        certificate_chain: "AAAA".to_owned(),
        policy: POLICY,
    };
    let answer: Answer<SecretResponse> = kbs.call("GetSecret", other);
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[test]
fn messages_that_can_not_be_read_are_counted_to_their_address() {
    let (app, kbs) = patient(3);
    for _ in 0..3 {
        assert_eq!(unreadable(&kbs), Code::Internal);
    }
    assert_eq!(unreadable(&kbs), Code::ResourceExhausted);
    // Those that can be read, and say nothing that can be asked, are of the same budget.
    let malformed: Answer<BundleResponse> = kbs.call(
        "GetBundle",
        BundleRequest {
            certificate_chain: "?".to_owned(),
            policy: POLICY,
        },
    );
    assert_eq!(malformed.unwrap_err().code(), Code::ResourceExhausted);
    // Whoever asks as one should is served, and a minute later so is everybody.
    kbs.bundle(&platform().full_chain(), POLICY).unwrap();
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(unreadable(&kbs), Code::Internal);
}

#[test]
fn malformed_and_too_long_messages_are_counted_too() {
    let (_app, kbs) = patient(4);
    for client_id in ["no uuid".to_owned(), String::new()] {
        let online = OnlineSecretRequest {
            client_id,
            secret_requests: Vec::new(),
        };
        let answer = kbs.call::<_, keyward::grpc::messages::OnlineSecretResponse>("GetOnlineSecret", online);
        assert_eq!(refused(answer), denied());
    }
    let long = || kbs.bundle(&vec![7; 64 << 10], POLICY).unwrap_err().code();
    assert_eq!(
        [long(), long(), long()],
        [Code::OutOfRange, Code::OutOfRange, Code::ResourceExhausted]
    );
}

#[test]
fn a_release_whose_call_ran_out_of_time_is_counted_once_and_answered_when_asked_again() {
    let hook = Hook::default();
    let (app, platform) = (App::with(hook.options()), platform());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    let mut vm = kbs.start(&platform);
    let request = vm.measure(IMAGE, &[asked(&guid(1), "binary", "key", "k1")]);
    let (gate, shut) = mpsc::channel::<()>();
    let (tell, committing) = mpsc::channel();
    hook.set(move |method| {
        if method == "commit_release" {
            tell.send(()).unwrap();
            let _ = shut.recv();
        }
        Fate::Done
    });
    let timed_out =
        kbs.call_within::<_, SecretResponse>("GetSecret", request.clone(), Duration::from_millis(300));
    let code = timed_out.unwrap_err().code();
    assert!(
        matches!(code, Code::Cancelled | Code::DeadlineExceeded),
        "{code:?}"
    );
    committing.recv().unwrap();
    // The commit is under way, and nobody waits for it.
    drop(gate);
    hook.clear();
    let answer = kbs.secret(&request).unwrap();
    assert_eq!(vm.unwrap(&answer).len(), 1);
    assert_eq!(kbs.secret(&request).unwrap(), answer);
    let released: Vec<_> = app.decisions();
    assert_eq!(released.len(), 1);
    assert_eq!(released[0]["outcome"], "released");
}

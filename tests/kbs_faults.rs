//! A store that fails at each step of what clients of simple-kbs ask: they are told to come back, and then get what they
//! would have got, counted once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyward::psp::Platform;
use tonic::Code;

use crate::support::hooked::{Fate, Hook};
use crate::support::host::IMAGE;
use crate::support::kbs::{Answer, Kbs, asked, guid};
use crate::support::{App, platform};

/// Fails the first call of a request, then the second of the next, and so on until one needs fewer: how many those were.
/// Each request is asked again once nothing fails.
fn each_call_fails<P, T>(
    hook: &Hook,
    fate: Fate,
    mut prepare: impl FnMut() -> P,
    ask: impl Fn(&P) -> Answer<T>,
) -> usize {
    for failing in 0..100 {
        let prepared = prepare();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        hook.set(move |_| match counted.fetch_add(1, Ordering::SeqCst) == failing {
            true => fate,
            false => Fate::Done,
        });
        let answer = ask(&prepared);
        hook.clear();
        let passed = calls.load(Ordering::SeqCst) <= failing;
        match answer {
            Ok(_) => assert!(passed, "call {failing} failed, and it was answered"),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "call {failing}: {status}");
                assert_eq!(status.message(), "not now: come back later");
            }
        }
        assert!(
            ask(&prepared).is_ok(),
            "call {failing} failed, and was not made good"
        );
        if passed {
            return failing;
        }
    }
    panic!("a request that never passes");
}

fn server() -> (Hook, App, Kbs, Platform) {
    let hook = Hook::default();
    let app = App::with(hook.options());
    app.standard_kbs();
    let kbs = Kbs::of(&app);
    (hook, app, kbs, platform())
}

fn released(app: &App) -> usize {
    let decisions = app.decisions();
    decisions
        .iter()
        .filter(|decision| decision["outcome"] == "released")
        .count()
}

#[test]
fn whichever_call_fails_on_the_way_to_a_packet_it_is_given_once_when_asked_again() {
    for fate in [Fate::FailsUndone, Fate::FailsDone] {
        let (hook, app, kbs, platform) = server();
        let prepare = || {
            let mut vm = kbs.start(&platform);
            vm.measure(IMAGE, &[asked(&guid(1), "binary", "key", "k1")])
        };
        let needed = each_call_fails(&hook, fate, prepare, |request| kbs.secret(request));
        assert!(needed >= 7, "{needed}");
        assert_eq!(released(&app), needed + 1, "{fate:?}");
    }
}

#[test]
fn whichever_call_fails_on_the_way_to_an_online_answer_it_is_given_once_when_asked_again() {
    for fate in [Fate::FailsUndone, Fate::FailsDone] {
        let (hook, app, kbs, platform) = server();
        let prepare = || kbs.connected(&platform);
        let wanted = [asked(&guid(1), "binary", "key", "k1")];
        let needed = each_call_fails(&hook, fate, prepare, |client| kbs.online(client, &wanted));
        assert!(needed >= 6, "{needed}");
        // One for the connection, one over it.
        assert_eq!(released(&app), 2 * (needed + 1), "{fate:?}");
    }
}

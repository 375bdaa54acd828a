//! A store that is slow, at each step of a release: what needs no store is answered meanwhile, and what was asked for is
//! done once.

use std::sync::mpsc;

use keyward::store::ReleaseScope;

use crate::support::hooked::{Fate, Hook};
use crate::support::host::{IMAGE, WORKLOAD};
use crate::support::{App, platform};

fn released(app: &App) -> u64 {
    let now = keyward::domain::Clock::now(app.clock.as_ref());
    let scope = ReleaseScope::Workload(WORKLOAD.parse().unwrap());
    let counts = app
        .service
        .store()
        .release_counts(&"acme".parse().unwrap(), &scope, now);
    counts.unwrap().total
}

#[test]
fn whichever_call_is_slow_on_the_way_to_a_release_it_is_made_once_and_the_server_lives() {
    let hook = Hook::default();
    let (app, platform) = (App::with(hook.options()), platform());
    app.standard();
    let mut done = 0;
    for slow in 0..40 {
        let mut vm = app.start(&platform);
        let request = vm.measure(IMAGE);
        let (gate, shut) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let mut calls = 0;
        hook.set(move |method| {
            calls += 1;
            if calls == slow + 1 {
                tell.send(method.to_owned()).unwrap();
                let _ = shut.recv();
            }
            Fate::Done
        });
        let reached = std::thread::scope(|scope| {
            let asked = scope.spawn(|| app.post_once(&format!("key-{slow}"), &vm.path(), &request));
            // Without a call that is slow the hook goes with its sender as soon as the answer is there.
            let method = loop {
                match told.try_recv() {
                    Ok(method) => break Some(method),
                    Err(_) if asked.is_finished() => break told.try_recv().ok(),
                    Err(_) => std::thread::yield_now(),
                }
            };
            if method.is_some() {
                app.request("GET", "/livez", &[], b"").ok();
                drop(gate);
            }
            let reply = asked.join().unwrap().ok();
            assert_eq!(vm.unwrap(&reply)[0].1, b"hunter2", "{method:?}");
            method
        });
        hook.clear();
        done += 1;
        assert_eq!(released(&app), done, "{reached:?}");
        if reached.is_none() {
            assert!(
                slow >= 7,
                "an earlier answer, the launch, the workload, both counts, the secret, the commit"
            );
            return;
        }
    }
    panic!("a request that never passes");
}

#[test]
fn a_host_that_gave_up_during_a_slow_commit_gets_its_answer_when_it_asks_again() {
    use std::io::Write as _;

    let hook = Hook::default();
    let (app, platform) = (App::with(hook.options()), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let request = vm.measure(IMAGE);
    let (gate, shut) = mpsc::channel::<()>();
    let (tell, committing) = mpsc::channel();
    hook.set(move |method| {
        if method == "commit_release" {
            tell.send(()).unwrap();
            let _ = shut.recv();
        }
        Fate::Done
    });
    let body = request.to_string();
    let mut socket = std::net::TcpStream::connect(app.base.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: keyward\r\nidempotency-key: key\r\ncontent-length: {}\r\n\r\n",
        vm.path(),
        body.len()
    );
    socket.write_all(format!("{head}{body}").as_bytes()).unwrap();
    committing.recv().unwrap();
    drop(socket);
    drop(gate);
    hook.clear();
    // The commit that nobody waits for may still be under way: then the same request waits for it, or is told to.
    let reply = loop {
        let reply = app.post_once("key", &vm.path(), &request);
        if reply.status != 503 {
            break reply.ok();
        }
    };
    assert_eq!(vm.unwrap(&reply)[0].1, b"hunter2");
    assert_eq!((released(&app), app.decisions().len()), (1, 1));
}

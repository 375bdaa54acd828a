//! A server that is killed while a guest asks over its connection: no count and no number of requests is passed, and
//! what was answered is answered again.

use std::collections::BTreeMap;
use std::sync::mpsc;

use serde_json::Value;

use crate::support::host::{IMAGE, digest};
use crate::support::kbs::{Client, Kbs, asked, guid};
use crate::support::{Shell, platform};

const LIMIT: usize = 6;
const CONNECTION: u32 = 14;

fn served(shell: &mut Shell) -> (crate::support::cli::Server, Kbs) {
    let server = shell.served();
    let told = server.before.trim_end();
    let address = told.strip_prefix("simple-kbs clients of acme are served on http://");
    let kbs = Kbs::at(address.unwrap());
    (server, kbs)
}

fn ask(kbs: &Kbs, client: &Client, number: u128) -> Option<Vec<u8>> {
    let wanted = [asked(&guid(number), "binary", "key", "k1")];
    Some(kbs.online(client, &wanted).ok()?.remove(0).1)
}

#[test]
fn a_killed_server_gives_no_more_than_the_limits_say() {
    let mut shell = Shell::initialised();
    let platform = platform();
    shell.write("data/ark.cert", platform.ark());
    shell.write(
        "data/keyward.yaml",
        format!(
            "listen: 127.0.0.1:0\nkds: {{url: ''}}\ndanger_extra_roots: [{{name: test, file: ark.cert}}]\n\
             simple_kbs: {{listen: '127.0.0.1:0', owner: acme, workloads: [web], connection_requests: {CONNECTION}}}\n"
        ),
    );
    shell.write(
        "policy/release/any.rego",
        format!("package release.any\n\nallow := true\n\nrelease_limit := {LIMIT}\n"),
    );
    shell.write("value", "first key");
    shell.write(
        "m.yaml",
        format!(
            "kind: PolicyBundle\npath: policy\n---\n\
             kind: Secret\nname: k1\ntype: opaque\nguid: {}\nvalue: {{file: value}}\npolicies: [release.any]\n---\n\
             kind: Workload\nname: web\nscheme: amd-sev\npolicy: 3\nlaunch_digests: [{}]\nsecrets: [k1]\n",
            guid(1001),
            digest(IMAGE)
        ),
    );
    let (server, kbs) = served(&mut shell);
    shell.run(&["apply", "-f", "m.yaml"]).done();
    let client = kbs.connected(&platform);
    drop((server, kbs));

    let mut answered = BTreeMap::new();
    for round in 0..3_u128 {
        let (server, kbs) = served(&mut shell);
        let (sender, receiver) = mpsc::channel();
        let some = std::thread::scope(|scope| {
            let (kbs, client) = (&kbs, &client);
            let asking = scope.spawn(move || {
                let numbers = round * 3..round * 3 + 4;
                let asked = numbers.filter_map(|number| {
                    let value = ask(kbs, client, number)?;
                    let _ = sender.send(());
                    Some((number, value))
                });
                asked.collect::<Vec<_>>()
            });
            // In the midst of what comes after the first answer, where there is one.
            let _ = receiver.recv();
            drop(server);
            asking.join().unwrap()
        });
        answered.extend(some);
    }
    assert!(!answered.is_empty() && answered.len() <= LIMIT, "{answered:?}");
    assert!(answered.values().all(|value| value == b"first key"));

    let (_server, kbs) = served(&mut shell);
    let released = |shell: &Shell| -> u64 {
        let counts = shell.run(&["limits", "list", "-o", "json"]).json();
        let all = counts.as_array().or_else(|| counts["items"].as_array()).unwrap();
        let own = |count: &&Value| count["binding"]["kind"] == "secret";
        all.iter().find(own).unwrap()["released"].as_u64().unwrap()
    };
    let before = released(&shell);
    assert!(
        before >= answered.len() as u64 && before <= LIMIT as u64,
        "{before}"
    );
    // What was answered is so again, as long as there are requests, and no count rises for it.
    let mut left = 0;
    for number in answered.keys().cycle().take(CONNECTION as usize + 1) {
        match ask(&kbs, &client, *number) {
            Some(value) => assert_eq!(value, b"first key"),
            None => break,
        }
        left += 1;
    }
    assert!(left + answered.len() <= CONNECTION as usize, "{left}");
    assert_eq!(released(&shell), before);
}

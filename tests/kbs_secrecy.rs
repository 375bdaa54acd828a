//! A server's process with simple-kbs's clients: nothing secret is logged or stored in clear, and connections outlive
//! rotations of keys and the process.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::sealing::{files, lies_in};
use crate::support::host::{ALLOW, IMAGE, digest};
use crate::support::kbs::{Kbs, asked, guid, report_key};
use crate::support::{Shell, platform};

const SECRET: &str = "Tr0ub4dor and 3 more words";

fn address(server: &crate::support::cli::Server) -> String {
    let told = server.before.trim_end();
    let told = told.strip_prefix("simple-kbs clients of acme are served on http://");
    told.unwrap().to_owned()
}

#[test]
fn nothing_secret_leaves_but_to_the_guest_and_connections_last() {
    let mut shell = Shell::initialised();
    shell.set("KEYWARD_LOG", "trace");
    shell.set("RUST_LOG", "trace");
    shell.write("data/ark.cert", platform().ark());
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: test, file: ark.cert}]\n\
         simple_kbs: {listen: '127.0.0.1:0', owner: acme, workloads: [web]}\n",
    );
    let (key, _) = report_key();
    shell.write("policy/release/any.rego", ALLOW);
    shell.write("report.pem", &key);
    shell.write("value", SECRET);
    shell.write(
        "m.yaml",
        format!(
            "kind: PolicyBundle\npath: policy\npolicies: [release.any]\n---\n\
             kind: Secret\nname: k1\ntype: opaque\nguid: {}\nvalue: {{file: value}}\n---\n\
             kind: Secret\nname: reports\ntype: report-key\nguid: {}\nvalue: {{file: report.pem}}\n---\n\
             kind: Workload\nname: web\nscheme: amd-sev\npolicy: 3\nlaunch_digests: [{}]\nsecrets: [k1, reports]\n",
            guid(1001),
            guid(1002),
            digest(IMAGE)
        ),
    );
    let server = shell.served();
    shell.run(&["apply", "-f", "m.yaml"]).done();

    let kbs = Kbs::at(&address(&server));
    let client = kbs.connected(&platform());
    let wanted = [
        asked(&guid(1), "binary", "key", "k1"),
        asked(&guid(2), "json", "report", "reports"),
    ];
    let first = kbs.online(&client, &wanted).unwrap();
    assert_eq!(first[0].1, SECRET.as_bytes());
    let checked = |shell: &Shell| -> Value {
        let arguments = ["keys", "check", "--data-dir", "data", "-o", "json"];
        shell.run(&arguments).json()
    };
    assert_eq!(checked(&shell)["keys"][0]["connection_keys"], 1);
    shell
        .run(&["keys", "rotate", "--data-dir", "data", "--old-key-out", "old.key"])
        .done();
    assert_eq!(checked(&shell)["keys"][0]["connection_keys"], 0);
    assert_eq!(checked(&shell)["keys"][1]["connection_keys"], 1);
    assert_eq!(kbs.online(&client, &wanted).unwrap()[0], first[0]);
    let (code, log) = server.stop();
    assert_eq!(code, 0);
    assert!(log.contains(" TRACE "), "nothing was logged: {log}");

    let server = shell.served();
    let kbs = Kbs::at(&address(&server));
    assert_eq!(kbs.online(&client, &wanted).unwrap()[0], first[0]);
    let decisions = shell.run(&["decision", "list", "-o", "json"]).done();
    let stored = files(&shell.path("data"));
    let log = format!("{log}{}", server.stop().1);
    let scalar = openssl::pkey::PKey::private_key_from_pem(key.as_bytes()).unwrap();
    let scalar = scalar.ec_key().unwrap().private_key().to_vec();
    for (what, bytes) in [
        ("the secret", SECRET.as_bytes()),
        ("the connection's key", client.key.as_slice()),
        ("the report key", scalar.as_slice()),
    ] {
        for (place, text) in [("log", log.as_bytes()), ("decisions", decisions.as_bytes())] {
            assert!(
                !lies_in(&[(place.into(), text.to_vec())], bytes),
                "{what} is in the {place}"
            );
        }
        assert!(!lies_in(&stored, bytes), "{what} is in the data folder");
    }
    assert!(!log.contains(&STANDARD.encode(SECRET)));
}

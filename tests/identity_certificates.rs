//! Client certificates: whom they let in as what, and which never make a connection.

use std::path::Path;
use std::time::Duration;

use keyward::config::{ClientRule, Tls};
use keyward::domain::Role;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::app::Options;
use crate::support::certificates::{Pair, Says, TlsClient};
use crate::support::cli::ran;
use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::{App, Reply, Shell, Vm, platform};

/// A server with HTTPS that asks for certificates of one authority.
struct House {
    app: App,
    authority: Pair,
    roots: Pair,
    _folder: TempDir,
}

fn rules() -> Vec<ClientRule> {
    let mut rules: Vec<Value> = Role::ALL
        .into_iter()
        .filter(|role| *role != Role::Admin)
        .map(|role| json!({"common_name": format!("an-{role}"), "role": role, "owner": "acme"}))
        .collect();
    rules.push(json!({"common_name": "an-admin", "role": "admin"}));
    rules.push(json!({"uri": "spiffe://example.com/auditor", "role": "auditor", "owner": "acme"}));
    rules.push(json!({"uri": "spiffe://example.com/node/*", "role": "host"}));
    rules.push(json!({"dns": "*.nodes.example.com", "role": "host"}));
    rules.push(json!({"common_name": "lost", "role": "owner", "owner": "nobody"}));
    serde_json::from_value(json!(rules)).unwrap()
}

impl House {
    fn new() -> Self {
        Self::with(rules(), |_, _| None)
    }

    /// With these rules, and the revocation list that is made here.
    fn with(clients: Vec<ClientRule>, crl: impl Fn(&Path, &Pair) -> Option<std::path::PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, roots) = (Pair::authority("clients"), Pair::authority("servers"));
        let server = roots.issue(&Says {
            ip: Some("127.0.0.1"),
            server: true,
            ..Says::client("keyward")
        });
        let (certificate, key) = server.write(folder.path(), "server");
        let (client_ca, _) = authority.write(folder.path(), "clients");
        let app = App::with(Options {
            tls: Some(Tls {
                certificate,
                key,
                client_ca: Some(client_ca),
                client_crl: crl(folder.path(), &authority),
                clients,
            }),
            ..Options::default()
        });
        Self {
            app,
            authority,
            roots,
            _folder: folder,
        }
    }

    fn client(&self, shown: Option<&Pair>) -> TlsClient {
        TlsClient::new(&self.app.base, &self.roots, shown)
    }

    /// What a client with a certificate that says this gets, and what it asked for.
    fn get(&self, says: &Says<'_>, path: &str) -> Option<u16> {
        self.client(Some(&self.authority.issue(says))).get(path)
    }
}

fn reply((status, body): (u16, Value)) -> Reply {
    Reply {
        status,
        headers: Default::default(),
        body,
    }
}

#[test]
fn each_role_by_certificate_may_what_a_token_of_that_role_may() {
    let house = House::new();
    let admin = house.app.mint(Role::Admin, None, None).text;
    let tokens = house.client(None);
    for role in Role::ALL {
        let owner = (role != Role::Admin).then_some("acme");
        let token = house.app.mint(role, owner, None).text;
        let name = format!("an-{role}");
        let client = house.client(Some(&house.authority.issue(&Says::client(&name))));
        for (method, path) in [
            ("GET", "/v1/secrets"),
            ("GET", "/v1/secrets/theirs"),
            ("GET", "/v1/keysets"),
            ("GET", "/v1/bundles"),
            ("GET", "/v1/signing-keys"),
            ("GET", "/v1/decisions"),
            ("GET", "/v1/holds"),
            ("GET", "/v1/tokens?owner=umbra"),
            ("GET", "/v1/owners"),
            ("DELETE", "/v1/firmware/theirs"),
            ("GET", "/livez"),
        ] {
            let by_token = tokens.send(method, path, Some(&token), &Value::Null).unwrap().0;
            let by_certificate = client.send(method, path, None, &Value::Null).unwrap().0;
            assert_eq!(by_certificate, by_token, "{role} {method} {path}");
        }
        // A header is what counts where there is one, and is not passed over for the certificate.
        let status = client
            .send("GET", "/v1/owners", Some(&admin), &Value::Null)
            .unwrap()
            .0;
        assert_eq!(status, 200, "{role}");
        let status = client
            .send("GET", "/v1/secrets", Some("kw_x"), &Value::Null)
            .unwrap()
            .0;
        assert_eq!(status, 401, "{role}");
    }
}

#[test]
fn a_certificate_that_is_not_good_makes_no_connection_and_one_that_nobody_knows_has_no_role() {
    let house = House::new();
    let auditor = Says::client("an-auditor");
    assert_eq!(house.get(&auditor, "/v1/secrets"), Some(200));
    assert_eq!(house.get(&Says::client("somebody"), "/v1/secrets"), Some(401));
    assert_eq!(
        house.get(&Says::client("lost"), "/v1/secrets"),
        Some(401),
        "its owner does not exist"
    );
    assert_eq!(
        house.get(&Says { days: -1, ..auditor }, "/livez"),
        None,
        "expired"
    );
    assert_eq!(
        house.get(
            &Says {
                server: true,
                ..auditor
            },
            "/livez"
        ),
        None,
        "for servers only"
    );
    for other in [
        &Pair::authority("clients"),
        &Pair::authority("others"),
        &house.roots,
    ] {
        let shown = other.issue(&auditor);
        assert_eq!(house.client(Some(&shown)).get("/livez"), None);
        assert_eq!(house.client(Some(other)).get("/livez"), None);
    }
    // Without one, what is open stays open, and tokens count.
    let plain = house.client(None);
    assert_eq!(
        (plain.get("/livez"), plain.get("/v1/secrets")),
        (Some(200), Some(401))
    );
    let token = house.app.token.clone();
    assert_eq!(
        plain
            .send("GET", "/v1/secrets", Some(&token), &Value::Null)
            .unwrap()
            .0,
        200
    );
}

#[test]
fn a_certificate_that_ends_while_its_connection_lasts_counts_no_more() {
    let house = House::new();
    let client = house.client(Some(&house.authority.issue(&Says::client("an-auditor"))));
    assert_eq!(client.get("/v1/secrets"), Some(200));
    // The server's clock stands somewhere else than the certificate's: it ends before this many years have gone.
    house.app.clock.advance(Duration::from_secs(50 * 365 * 86_400));
    assert_eq!(client.get("/v1/secrets"), Some(401));
}

#[test]
fn names_are_matched_whole_and_a_star_stands_for_one_part() {
    let fingerprinted = Pair::authority("self");
    let mut all = rules();
    all.push(
        serde_json::from_value(json!({"sha256": fingerprinted.fingerprint(), "role": "admin"})).unwrap(),
    );
    let house = House::with(all, |_, _| None);
    let uri = |uri| Says {
        uri: Some(uri),
        ..Says::client("x")
    };
    let dns = |dns| Says {
        dns: Some(dns),
        ..Says::client("x")
    };
    for (says, status) in [
        (uri("spiffe://example.com/auditor"), 200),
        (uri("spiffe://example.com/auditor/"), 401),
        (uri("spiffe://example.com/auditors"), 401),
        (uri("SPIFFE://example.com/auditor"), 401),
        (
            Says {
                uri: Some("spiffe://example.com/x"),
                ..Says::client("an-auditor")
            },
            200,
        ),
        // Known, and of role host, which may call nothing of an owner's.
        (uri("spiffe://example.com/node/7"), 403),
        (uri("spiffe://example.com/node/"), 401),
        (dns("a.nodes.example.com"), 403),
        (dns("A.Nodes.Example.Com"), 403),
        (dns("a.b.nodes.example.com"), 401),
        (dns("nodes.example.com"), 401),
        (dns("a.nodes.example.com.evil.example"), 401),
        (dns("*.nodes.example.com"), 401),
        (dns("an-auditor"), 401),
    ] {
        let found = house.get(&says, "/v1/secrets");
        assert_eq!(found, Some(status), "{:?} {:?}", says.dns, says.uri);
    }
}

#[test]
fn a_host_is_known_by_its_certificate_where_the_workload_requires_it() {
    let house = House::new();
    let owner = house.client(None);
    let objects = standard(json!({"hosts": ["certificate/spiffe://example.com/node/7"]}));
    let token = house.app.token.clone();
    let apply = |objects: &Value| owner.send("POST", "/v1/apply", Some(&token), &json!({"objects": objects}));
    assert_eq!(apply(&objects).unwrap().0, 200);
    let node = |n: u32| {
        let uri = format!("spiffe://example.com/node/{n}");
        let says = Says {
            uri: Some(&uri),
            ..Says::client("node")
        };
        house.client(Some(&house.authority.issue(&says)))
    };
    let (seven, eight) = (node(7), node(8));
    let auditor = house.client(Some(&house.authority.issue(&Says::client("an-auditor"))));
    let stranger = house.client(Some(&house.authority.issue(&Says::client("somebody"))));
    let platform = platform();
    let path = format!("/vm/{WORKLOAD}/launch");
    let asked = launch_request(&platform);
    let launch = |client: &TlsClient| reply(client.send("POST", &path, None, &asked).unwrap());
    launch(&owner).expect(403, "denied");
    launch(&auditor).expect(403, "denied");
    launch(&eight).expect(403, "denied");
    launch(&stranger).expect(401, "unauthorized");
    let mut vm = Vm::start(&platform, &launch(&seven).ok());
    let request = vm.measure(IMAGE);
    let validate = |client: &TlsClient| reply(client.send("POST", &vm.path(), None, &request).unwrap());
    validate(&owner).expect(403, "denied");
    validate(&eight).expect(403, "denied");
    let answer = validate(&seven).ok();
    assert_eq!(vm.unwrap(&answer)[0].1, b"hunter2");
    let decision = answer.body["decision"].as_str().unwrap();
    let path = format!("/v1/decisions/{decision}");
    let decision = owner.send("GET", &path, Some(&token), &Value::Null).unwrap().1;
    assert_eq!(
        decision["host_identity"],
        "certificate/spiffe://example.com/node/7"
    );
    assert_eq!(
        decision["input"]["host"]["identity"],
        "certificate/spiffe://example.com/node/7"
    );
}

/// An authority's revocation list with this certificate on it, made by the command that authorities use.
pub(crate) fn crl(folder: &Path, authority: &Pair, revoked: &Pair) -> std::path::PathBuf {
    let shell = Shell::new();
    authority.write(&shell.path(""), "ca");
    revoked.write(&shell.path(""), "revoked");
    shell.write("index.txt", "");
    shell.write(
        "ca.cnf",
        "[ca]\ndefault_ca = one\n[one]\ndatabase = index.txt\ndefault_md = sha256\ndefault_crl_days = 1\n",
    );
    let signer = ["ca", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key"];
    for action in [&["-revoke", "revoked.pem"][..], &["-gencrl", "-out", "crl.pem"]] {
        let made = ran(shell.command("openssl").args(signer).args(action));
        assert_eq!(made.code, 0, "{}", made.err);
    }
    let path = folder.join("crl.pem");
    std::fs::copy(shell.path("crl.pem"), &path).unwrap();
    path
}

#[test]
fn a_revoked_certificate_makes_no_connection() {
    let revoked = std::sync::OnceLock::new();
    let house = House::with(rules(), |folder, authority| {
        let pair = revoked.get_or_init(|| authority.issue(&Says::client("an-auditor")));
        Some(crl(folder, authority, pair))
    });
    assert_eq!(house.get(&Says::client("an-auditor"), "/v1/secrets"), Some(200));
    assert_eq!(house.client(revoked.get()).get("/livez"), None);
    assert_eq!(house.client(None).get("/livez"), Some(200));
}

#[test]
fn files_of_authorities_and_lists_that_are_wrong_are_named() {
    let shell = Shell::initialised();
    let server = Pair::authority("server");
    server.write(&shell.path("data"), "server");
    shell.write("data/junk", "hunter2");
    shell.write(
        "data/broken.pem",
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    );
    for (ca, list, expected) in [
        (
            "no.pem",
            None,
            "TLS client CA data/no.pem: No such file or directory (os error 2)",
        ),
        (
            "junk",
            None,
            "TLS client CA data/junk: holds no client CA in PEM form",
        ),
        (
            "server.key",
            None,
            "TLS client CA data/server.key: holds no client CA in PEM form",
        ),
        (
            "server.pem",
            Some("no.pem"),
            "TLS client CRL data/no.pem: No such file or directory (os error 2)",
        ),
        (
            "server.pem",
            Some("junk"),
            "TLS client CRL data/junk: holds no client CRL in PEM form",
        ),
        (
            "server.pem",
            Some("server.pem"),
            "TLS client CRL data/server.pem: holds no client CRL in PEM form",
        ),
        (
            "server.pem",
            Some("broken.pem"),
            "TLS client CRL data/broken.pem: holds no client CRL in PEM form",
        ),
    ] {
        let config = json!({"listen": "127.0.0.1:0", "kds": {"url": ""}, "tls": {
            "certificate": "server.pem", "key": "server.key", "client_ca": ca, "client_crl": list,
            "clients": [{"common_name": "a", "role": "admin"}],
        }});
        shell.write("data/keyward.yaml", config.to_string());
        let said = shell.run(&["serve", "--data-dir", "data"]).failed();
        assert_eq!(said, format!("error: {expected}\n"));
    }
}

#[test]
fn commands_show_a_certificate_in_place_of_a_token() {
    let house = House::new();
    let shell = Shell::new();
    shell.write("roots.pem", house.roots.certificate.to_pem().unwrap());
    let pair = house.authority.issue(&Says::client("an-auditor"));
    let (certificate, key) = (
        pair.certificate.to_pem().unwrap(),
        pair.key.private_key_to_pem_pkcs8().unwrap(),
    );
    shell.write("certificate.pem", &certificate);
    shell.write("key.pem", &key);
    let sec1 = pair.key.ec_key().unwrap().private_key_to_pem().unwrap();
    for (name, key) in [("pkcs8.pem", &key), ("sec1.pem", &sec1)] {
        shell.write(name, [certificate.as_slice(), key].concat());
    }
    let list = |server: &str, file: &str| {
        let arguments = ["decision", "list", "-o", "json", "--ca-file", "roots.pem"];
        shell.run(&[&arguments[..], &["--server", server, "--cert-file", file]].concat())
    };
    let base = &house.app.base;
    for file in ["pkcs8.pem", "sec1.pem"] {
        assert_eq!(list(base, file).json(), json!([]));
    }
    let stranger = house.authority.issue(&Says::client("somebody"));
    let key = stranger.key.private_key_to_pem_pkcs8().unwrap();
    shell.write(
        "stranger.pem",
        [stranger.certificate.to_pem().unwrap(), key].concat(),
    );
    let refused = list(base, "stranger.pem").failed();
    assert_eq!(
        refused,
        format!(
            "error: {base} gives no role to this certificate: name another with --cert-file, or a token's file with --token-file\n"
        )
    );
    for (file, expected) in [
        (
            "none.pem",
            "error: client certificate none.pem: No such file or directory (os error 2)\n",
        ),
        (
            "key.pem",
            "error: client certificate key.pem holds no certificate in PEM form\n",
        ),
        (
            "certificate.pem",
            "error: client certificate certificate.pem holds no private key in PEM form without a passphrase: append it to the certificate\n",
        ),
    ] {
        assert_eq!(list(base, file).failed(), expected);
    }
    assert_eq!(
        list("http://127.0.0.1:1", "pkcs8.pem").failed(),
        "error: http://127.0.0.1:1: a client certificate is shown over https:// only\n"
    );
}

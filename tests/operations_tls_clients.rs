//! Client certificates after a reload: the new authorities count, the old ones count no more, and neither does what was
//! let in by them.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::identity_certificates::crl;
use crate::support::Shell;
use crate::support::certificates::{Pair, Says, TlsClient};
use crate::support::cli::{Server, ran};
use crate::support::manager::Manager;
use crate::support::tls::Held;

/// A server that asks for certificates by an authority, which a file names.
struct House {
    shell: Shell,
    manager: Manager,
    server: Server,
    roots: Pair,
    authority: PathBuf,
}

impl House {
    fn new(first: &Pair) -> Self {
        Self::with(first, json!({}))
    }

    /// With these keys of `tls`, besides.
    fn with(first: &Pair, more: Value) -> Self {
        let mut shell = Shell::initialised();
        let manager = Manager::of(&mut shell);
        let roots = Pair::authority("servers");
        let own = roots.issue(&Says {
            ip: Some("127.0.0.1"),
            server: true,
            days: 90,
            ..Says::client("keyward")
        });
        own.write(&shell.path("data"), "server");
        let authority = shell.path("data/clients.pem");
        std::fs::write(&authority, first.certificate.to_pem().unwrap()).unwrap();
        let mut config = json!({
            "listen": "127.0.0.1:0",
            "kds": {"url": ""},
            "tls": {
                "certificate": "server.pem", "key": "server.key", "client_ca": "clients.pem",
                "clients": [{"common_name": "auditor", "role": "auditor", "owner": "acme"}],
            },
        });
        let tls = config["tls"].as_object_mut().unwrap();
        tls.extend(more.as_object().unwrap().clone());
        shell.write("data/keyward.yaml", serde_yaml::to_string(&config).unwrap());
        let server = shell.serve(&[]);
        manager.until("READY=1");
        Self {
            shell,
            manager,
            server,
            roots,
            authority,
        }
    }

    /// These authorities from now on; what the service manager is told.
    fn trust(&self, authorities: &[&Pair]) -> String {
        let pem: Vec<u8> = authorities
            .iter()
            .flat_map(|pair| pair.certificate.to_pem().unwrap())
            .collect();
        std::fs::write(&self.authority, pem).unwrap();
        self.reload()
    }

    fn reload(&self) -> String {
        self.server.signal("HUP");
        self.manager.until("RELOADING=1");
        self.manager.next()
    }

    /// What a new connection with this certificate gets; none: there is no connection.
    fn get(&self, shown: &Pair) -> Option<u16> {
        TlsClient::new(&self.server.url, &self.roots, Some(shown)).get("/v1/secrets")
    }

    /// The authorities that the server tells clients of.
    fn asked(&self, version: &str) -> String {
        let arguments = ["s_client", version, "-connect", self.server.address()];
        let said = ran(self.shell.command("openssl").args(arguments));
        let from = said.out.split("Acceptable client certificate CA names\n").nth(1);
        let names = from.unwrap_or_else(|| panic!("{}", said.out)).lines();
        names
            .take_while(|line| line.contains("CN"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

#[test]
fn the_new_authority_is_asked_for_and_accepted_and_the_old_one_is_refused() {
    let (old, new) = (Pair::authority("old"), Pair::authority("new"));
    let [by_old, by_new] = [&old, &new].map(|authority| authority.issue(&Says::client("auditor")));
    let house = House::new(&old);
    assert_eq!((house.get(&by_old), house.get(&by_new)), (Some(200), None));
    for version in ["-tls1_2", "-tls1_3"] {
        let asked = house.asked(version);
        assert!(asked.contains("old") && !asked.contains("new"), "{asked}");
    }

    assert!(house.trust(&[&old, &new]).ends_with("; reloaded"));
    assert_eq!((house.get(&by_old), house.get(&by_new)), (Some(200), Some(200)));

    assert!(house.trust(&[&new]).ends_with("; reloaded"));
    assert_eq!((house.get(&by_old), house.get(&by_new)), (None, Some(200)));
    for version in ["-tls1_2", "-tls1_3"] {
        let asked = house.asked(version);
        assert!(asked.contains("new") && !asked.contains("old"), "{asked}");
    }
    // Without a certificate clients come in as before.
    let nobody = TlsClient::new(&house.server.url, &house.roots, None);
    assert_eq!(nobody.get("/livez"), Some(200));
    assert_eq!(nobody.get("/v1/secrets"), Some(401));
}

#[test]
fn an_open_connection_counts_as_long_as_its_authority_does_and_is_closed_after_it_is_told() {
    let (old, new) = (Pair::authority("old"), Pair::authority("new"));
    let own = old.issue(&Says::client("auditor"));
    let house = House::new(&old);
    let token = house.shell.read("token").trim().to_owned();
    let address = house.server.address().to_owned();
    let open = || {
        let mut held = Held::new(&address, Some(&own));
        assert_eq!(held.get("/v1/secrets", None), Some((200, true)));
        held
    };
    let (mut held, mut by_token, mut unused) = (open(), open(), Held::new(&address, Some(&own)));

    // Read again and still trusted.
    assert!(house.trust(&[&new, &old]).ends_with("; reloaded"));
    assert_eq!(held.get("/v1/secrets", None), Some((200, true)));

    assert!(house.trust(&[&new]).ends_with("; reloaded"));
    assert_eq!(held.get("/v1/secrets", None), Some((401, false)));
    assert_eq!(
        held.get("/livez", None),
        None,
        "it is closed, so that another certificate can be shown"
    );
    assert_eq!(
        unused.get("/v1/secrets", None),
        Some((401, false)),
        "one that asked nothing before"
    );
    // A header is what counts where there is one, as ever.
    assert_eq!(by_token.get("/v1/secrets", Some(&token)), Some((200, true)));
    assert_eq!(by_token.get("/v1/secrets", None), Some((401, false)));

    let (_, text) = house.server.stop();
    let line = text
        .lines()
        .find(|line| line.contains("trusted no more"))
        .unwrap();
    assert!(line.contains(" request_id="), "{line}");
}

#[test]
fn authorities_that_can_not_be_used_leave_the_old_ones_in_place() {
    let old = Pair::authority("old");
    let own = old.issue(&Says::client("auditor"));
    let house = House::new(&old);
    let mut held = Held::new(house.server.address(), Some(&own));
    let status = house.trust(&[]);
    let expected =
        "not reloaded: tls as before: TLS client CA data/clients.pem: holds no client CA in PEM form";
    assert!(status.contains(expected), "{status}");
    assert_eq!(house.get(&own), Some(200));
    assert_eq!(held.get("/v1/secrets", None), Some((200, true)));
    // Its end is no answer to who is nobody's.
    assert_eq!(
        house.get(&Pair::authority("x").issue(&Says::client("auditor"))),
        None
    );
}

#[test]
fn a_list_that_revokes_a_certificate_ends_what_it_let_in() {
    let authority = Pair::authority("nodes");
    let [own, other, left] = [(); 3].map(|()| authority.issue(&Says::client("auditor")));
    let lists = tempfile::tempdir().unwrap();
    let list = crl(lists.path(), &authority, &left);
    let newer = tempfile::tempdir().unwrap();
    let newer = (crl(newer.path(), &authority, &own), newer);
    let house = House::with(&authority, json!({"client_crl": list}));
    assert_eq!(house.get(&left), None);
    let address = house.server.address();
    let (mut held, mut stays) = (Held::new(address, Some(&own)), Held::new(address, Some(&other)));
    assert_eq!(held.get("/v1/secrets", None), Some((200, true)));

    std::fs::copy(&newer.0, &list).unwrap();
    assert!(house.reload().ends_with("; reloaded"));
    assert_eq!((house.get(&own), house.get(&other)), (None, Some(200)));
    assert_eq!(held.get("/v1/secrets", None), Some((401, false)));
    assert_eq!(stays.get("/v1/secrets", None), Some((200, true)));

    std::fs::write(&list, "junk").unwrap();
    let status = house.reload();
    assert!(
        status.contains("TLS client CRL ") && status.contains("holds no client CRL"),
        "{status}"
    );
    assert_eq!((house.get(&own), house.get(&other)), (None, Some(200)));
}

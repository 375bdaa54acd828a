//! `keyward doctor` on certificates: pairs, names, validity, and the authorities of clients.

use crate::doctor::doctor;
use crate::support::Shell;
use crate::support::certificates::{Pair, Says};

fn says() -> Says<'static> {
    Says {
        dns: Some("keyward.example.com"),
        server: true,
        days: 90,
        ..Says::client("keyward")
    }
}

/// A shell whose server has this certificate.
fn shell(says: &Says<'_>, rest: &str) -> Shell {
    let shell = Shell::initialised();
    Pair::authority("servers")
        .issue(says)
        .write(&shell.path("data"), "server");
    shell.write(
        "data/keyward.yaml",
        format!(
            "listen: 127.0.0.1:0\nkds: {{url: ''}}\ntls: {{certificate: server.pem, key: server.key{rest}}}\n"
        ),
    );
    shell
}

#[test]
fn a_certificate_is_told_with_its_names_and_its_end() {
    let found = doctor(&shell(&says(), ""), &[]);
    found.expect("certificate", "ok", &["for keyward.example.com, until 20"]);
    let address = Says {
        dns: None,
        ip: Some("2001:db8::7"),
        ..says()
    };
    doctor(&shell(&address, ""), &[]).expect("certificate", "ok", &["for 2001:db8::7,"]);
    let soon = Says { days: 20, ..says() };
    let found = doctor(&shell(&soon, ""), &[]);
    assert_eq!(found.code, 0);
    found.expect(
        "certificate",
        "warning",
        &["ends soon", "the server reads it by itself"],
    );
    let past = Says { days: -1, ..says() };
    doctor(&shell(&past, ""), &[]).expect("certificate", "failed", &["expired"]);
    let nobody = Says { dns: None, ..says() };
    doctor(&shell(&nobody, ""), &[]).expect("certificate", "failed", &["names nobody", "subjectAltName"]);
}

#[test]
fn files_that_do_not_fit_are_named() {
    let shell = shell(&says(), "");
    let other = Pair::authority("x").issue(&says());
    std::fs::write(
        shell.path("data/server.key"),
        other.key.private_key_to_pem_pkcs8().unwrap(),
    )
    .unwrap();
    let found = doctor(&shell, &[]);
    found.expect(
        "certificate",
        "failed",
        &["data/server.key do not belong together"],
    );
    std::fs::remove_file(shell.path("data/server.pem")).unwrap();
    doctor(&shell, &[]).expect("certificate", "failed", &["data/server.pem: No such file"]);
}

#[test]
fn authorities_of_clients_are_listed_and_their_ends_told() {
    let shell = shell(
        &says(),
        ", client_ca: ca.pem, clients: [{common_name: a, role: host}]",
    );
    let put = |pairs: &[&Pair]| {
        let pem: Vec<u8> = pairs
            .iter()
            .flat_map(|pair| pair.certificate.to_pem().unwrap())
            .collect();
        std::fs::write(shell.path("data/ca.pem"), pem).unwrap();
    };
    let (good, ended) = (
        Pair::authority("nodes"),
        Pair::authority("x").issue(&Says {
            days: -1,
            ..Says::client("gone")
        }),
    );
    put(&[&good]);
    doctor(&shell, &[]).expect("client authorities", "ok", &["Example, nodes"]);
    put(&[&good, &ended]);
    doctor(&shell, &[]).expect(
        "client authorities",
        "warning",
        &["gone expired at", "take it out"],
    );
    put(&[&ended]);
    doctor(&shell, &[]).expect("client authorities", "failed", &["all have expired"]);
    put(&[]);
    doctor(&shell, &[]).expect("certificate", "failed", &["data/ca.pem: holds no client CA"]);
}

#[test]
fn the_other_listener_s_certificate_and_owner_are_looked_at() {
    let shell = shell(&says(), "");
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\nsimple_kbs: {listen: '127.0.0.1:0', owner: stranger, workloads: [web], tls: {certificate: server.pem, key: server.key}}\n",
    );
    let found = doctor(&shell, &[]);
    found.expect("certificate (kbs)", "ok", &["keyward.example.com"]);
    found.expect(
        "simple-kbs",
        "failed",
        &["no owner stranger", "keyward owner list"],
    );
}

#[test]
fn a_server_with_tls_is_asked_whether_it_is_ready_whatever_its_certificate_is() {
    let shell = shell(&says(), "");
    let server = shell.serve(&[]);
    let config = shell
        .read("data/keyward.yaml")
        .replace("127.0.0.1:0", server.address());
    shell.write("data/keyward.yaml", config);
    doctor(&shell, &[]).expect("port", "ok", &["https://127.0.0.1", "/readyz: ready"]);
}

//! Certificates are replaced while the server serves: new connections see the new ones, others stay, mistakes change
//! nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use keyward::domain::Time;
use keyward::http::{LiveTls, TlsError, TlsFiles};
use openssl::ssl::{SslOptions, SslVersion};

use crate::support::Shell;
use crate::support::certificates::{Pair, Says};
use crate::support::cli::{Server, ran};
use crate::support::manager::Manager;
use crate::support::tls::{Held, connect, connector, only, shown};

const VERSIONS: [SslVersion; 2] = [SslVersion::TLS1_2, SslVersion::TLS1_3];

/// A server's certificate for so many days.
fn pair(days: i64) -> Pair {
    Pair::authority("servers").issue(&Says {
        ip: Some("127.0.0.1"),
        server: true,
        days,
        ..Says::client("keyward")
    })
}

/// Puts a pair in place of what is there, file by file, as `mv` does.
fn put(folder: &Path, pair: &Pair) {
    let (certificate, key) = pair.write(folder, "next");
    std::fs::rename(certificate, folder.join("server.pem")).unwrap();
    std::fs::rename(key, folder.join("server.key")).unwrap();
}

/// A shell with a certificate, whose server says when it was reloaded.
fn shell(rest: &str) -> (Shell, Manager, Pair) {
    let mut shell = Shell::initialised();
    let manager = Manager::of(&mut shell);
    let first = pair(90);
    put(&shell.path("data"), &first);
    shell.write(
        "data/keyward.yaml",
        format!(
            "listen: 127.0.0.1:0\nkds: {{url: ''}}\ntls: {{certificate: server.pem, key: server.key}}\n{rest}"
        ),
    );
    (shell, manager, first)
}

#[track_caller]
fn reload(server: &Server, manager: &Manager) -> String {
    server.signal("HUP");
    manager.until("RELOADING=1");
    manager.next()
}

#[test]
fn a_signal_has_the_new_certificate_shown_and_connections_stay() {
    let (shell, manager, first) = shell("");
    let server = shell.serve(&[]);
    manager.until("READY=1");
    let address = server.address();
    let mut held = Held::new(address, None);
    assert_eq!(held.get("/livez", None), Some((200, true)));
    assert_eq!(held.server(), first.fingerprint());

    for _ in 0..2 {
        let next = pair(90);
        put(&shell.path("data"), &next);
        assert!(reload(&server, &manager).ends_with("; reloaded"));
        for version in VERSIONS {
            assert_eq!(shown(address, version), next.fingerprint());
        }
        assert_eq!(Held::new(address, None).get("/readyz", None), Some((200, true)));
        assert_eq!(held.get("/livez", None), Some((200, true)), "it was made before");
    }
    assert_eq!(server.stop().0, 0);
}

#[test]
fn files_that_have_changed_are_read_without_a_signal() {
    let (shell, manager, first) = shell("");
    let server = shell.serve(&[]);
    manager.until("READY=1");
    let next = pair(90);
    put(&shell.path("data"), &next);
    manager.until("; reloaded");
    assert_eq!(shown(server.address(), SslVersion::TLS1_3), next.fingerprint());
    // A link to a folder that is exchanged as a whole is how Kubernetes does it; to what was there before, here.
    let folder = shell.path("data");
    std::fs::create_dir(folder.join("old")).unwrap();
    put(&folder.join("old"), &first);
    std::fs::remove_file(folder.join("server.key")).unwrap();
    std::os::unix::fs::symlink("old/server.key", folder.join("server.key")).unwrap();
    std::os::unix::fs::symlink("old/server.pem", folder.join("link")).unwrap();
    std::fs::rename(folder.join("link"), folder.join("server.pem")).unwrap();
    manager.until("; reloaded");
    assert_eq!(shown(server.address(), SslVersion::TLS1_3), first.fingerprint());
    assert_eq!(server.stop().0, 0);
}

#[test]
fn a_replacement_that_can_not_be_used_changes_nothing_and_is_named() {
    let (shell, manager, first) = shell("");
    let server = shell.serve(&[]);
    manager.until("READY=1");
    let folder = shell.path("data");
    let (expired, other) = (pair(-1), pair(90));
    let pem = |pair: &Pair| pair.certificate.to_pem().unwrap();
    let key = |pair: &Pair| pair.key.private_key_to_pem_pkcs8().unwrap();
    let locked = first
        .key
        .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"hunter2")
        .unwrap();
    for (certificate, key, expected) in [
        (
            None,
            Some(key(&first)),
            "TLS certificate data/server.pem: No such file",
        ),
        (Some(pem(&first)), None, "TLS key data/server.key: No such file"),
        (
            Some(pem(&other)),
            Some(key(&first)),
            "TLS certificate data/server.pem and key data/server.key do not belong together",
        ),
        (
            Some(b"junk".to_vec()),
            Some(key(&first)),
            "TLS certificate data/server.pem: holds no certificate in PEM form",
        ),
        (
            Some(pem(&first)),
            Some(b"junk".to_vec()),
            "TLS key data/server.key: holds no key in PEM form",
        ),
        (
            Some(pem(&first)),
            Some(locked),
            "TLS key data/server.key: holds no key in PEM form",
        ),
        (
            Some(pem(&expired)),
            Some(key(&expired)),
            "TLS certificate data/server.pem: expired at ",
        ),
    ] {
        for (name, content) in [("server.pem", certificate), ("server.key", key)] {
            let _ = std::fs::remove_file(folder.join(name));
            if let Some(content) = content {
                std::fs::write(folder.join(name), content).unwrap();
            }
        }
        let status = reload(&server, &manager);
        assert!(
            status.contains(&format!("not reloaded: tls as before: {expected}")),
            "{status}"
        );
        let logged = server.log();
        let last = logged.lines().rfind(|line| line.contains("ERROR")).unwrap();
        assert!(last.contains(expected), "{last}");
        assert!(!logged.contains("hunter2"));
        for version in VERSIONS {
            assert_eq!(
                shown(server.address(), version),
                first.fingerprint(),
                "{expected}"
            );
        }
    }
    put(&folder, &other);
    assert!(reload(&server, &manager).ends_with("; reloaded"));
    assert_eq!(shown(server.address(), SslVersion::TLS1_2), other.fingerprint());
    assert_eq!(server.stop().0, 0);
}

#[test]
fn a_certificate_that_ends_soon_or_has_ended_is_served_and_warned_of() {
    for (days, expected) in [(3, "expires at "), (-1, "expired at ")] {
        let (shell, manager, _) = shell("");
        let pair = pair(days);
        put(&shell.path("data"), &pair);
        let server = shell.serve(&[]);
        manager.until("READY=1");
        assert_eq!(shown(server.address(), SslVersion::TLS1_3), pair.fingerprint());
        let (_, text) = server.stop();
        let warned = text.lines().find(|line| line.contains("WARN")).unwrap();
        assert!(
            warned.contains("tls: the certificate data/server.pem ") && warned.contains(expected),
            "{warned}"
        );
    }
}

#[test]
fn the_listener_of_simple_kbs_is_reloaded_with_it() {
    let rest = "simple_kbs: {listen: '127.0.0.1:0', owner: acme, workloads: [web], tls: {certificate: kbs.pem, key: kbs.key}}\n";
    let (shell, manager, first) = shell(rest);
    let own = pair(90);
    own.write(&shell.path("data"), "kbs");
    let server = shell.serve(&[]);
    manager.until("READY=1");
    let address = server.before.trim_end().rsplit('/').next().unwrap().to_owned();
    let http2 = || {
        let mut connector = connector();
        connector.set_alpn_protos(b"\x02h2").unwrap();
        connector
    };
    // Settings, and a ping with its answer, on a connection that is there before and after.
    let mut held = connect(&address, http2()).unwrap();
    held.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    assert_eq!(shown(&address, SslVersion::TLS1_2), own.fingerprint());

    let next = pair(90);
    next.write(&shell.path("data"), "kbs");
    assert!(reload(&server, &manager).ends_with("; reloaded"));
    for version in VERSIONS {
        assert_eq!(shown(&address, version), next.fingerprint());
        assert_eq!(
            shown(server.address(), version),
            first.fingerprint(),
            "each has its own"
        );
    }
    let after = connect(&address, http2()).unwrap();
    assert_eq!(after.ssl().selected_alpn_protocol(), Some(&b"h2"[..]));
    held.write_all(b"\0\0\x08\x06\0\0\0\0\0pingpong").unwrap();
    let mut seen = Vec::new();
    while !seen.windows(8).any(|window| window == b"pingpong") {
        let mut byte = [0; 1];
        held.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }

    std::fs::write(shell.path("data/kbs.key"), "junk").unwrap();
    let status = reload(&server, &manager);
    assert!(
        status.contains("simple_kbs.tls as before: TLS key data/kbs.key: holds no key"),
        "{status}"
    );
    assert_eq!(shown(&address, SslVersion::TLS1_3), next.fingerprint());
    assert_eq!(server.stop().0, 0);
}

#[test]
fn files_are_read_once_they_are_others_and_stay_the_same_between_two_looks() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    put(folder.path(), &pair(90));
    let config = keyward::config::Tls {
        certificate: at("server.pem"),
        key: at("server.key"),
        client_ca: None,
        client_crl: None,
        clients: Vec::new(),
    };
    let live = LiveTls::read(TlsFiles::from(&config)).unwrap();
    assert!(!live.changed() && !live.changed());
    let next = pair(40);
    next.write(folder.path(), "next");
    std::fs::rename(at("next.pem"), at("server.pem")).unwrap();
    assert!(!live.changed(), "its key may be on the way");
    std::fs::rename(at("next.key"), at("server.key")).unwrap();
    assert!(!live.changed(), "it was");
    assert!(live.changed());
    let now = Time::from_millis(0);
    let before = live.validity().1;
    live.reload(now).unwrap();
    assert!(live.validity().1 < before);
    assert!(!live.changed());
    // What can't be used is said once, and not at each look.
    std::fs::write(at("server.key"), "junk").unwrap();
    assert!(!live.changed());
    assert!(live.changed());
    assert!(matches!(
        live.reload(now),
        Err(TlsError::Malformed { what: "key", .. })
    ));
    assert!(!live.changed() && !live.changed());
}

#[test]
fn only_modern_suites_are_spoken_sessions_do_not_come_back_and_nothing_is_negotiated_anew() {
    let (shell, manager, _) = shell("");
    let server = shell.serve(&[]);
    manager.until("READY=1");
    let address = server.address();
    let with = |suites: &str| {
        let mut connector = only(SslVersion::TLS1_2);
        connector
            .set_cipher_list(&format!("{suites}:@SECLEVEL=0"))
            .unwrap();
        connect(address, connector).map(|stream| stream.ssl().current_cipher().unwrap().name())
    };
    assert_eq!(
        with("ECDHE-ECDSA-AES256-GCM-SHA384"),
        Some("ECDHE-ECDSA-AES256-GCM-SHA384")
    );
    for old in [
        "ECDHE-ECDSA-AES128-SHA256",
        "ECDHE-ECDSA-AES128-SHA",
        "aRSA",
        "kDHE",
        "aNULL",
        "kRSA",
    ] {
        assert_eq!(with(old), None, "{old}");
    }
    let mut old = connector();
    old.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    old.clear_options(SslOptions::NO_TLSV1 | SslOptions::NO_TLSV1_1);
    old.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
    old.set_max_proto_version(Some(SslVersion::TLS1_1)).unwrap();
    assert!(connect(address, old).is_none());

    // Five times with the session of the first.
    let again =
        ran(shell
            .command("openssl")
            .args(["s_client", "-tls1_2", "-reconnect", "-connect", address]));
    assert!(again.out.matches("New, TLSv1.2").count() > 1, "{}", again.out);
    assert!(!again.out.contains("Reused"), "{}", again.out);

    // What `openssl s_client` is told to do by an R on its input.
    let mut client = shell.command("openssl");
    client.args(["s_client", "-tls1_2", "-connect", address]);
    let mut client = client
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(b"R\n").unwrap();
    let ended = client.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation"), "{said}");
    assert_eq!(server.stop().0, 0);
}

#[test]
fn a_handshake_that_does_not_end_is_ended() {
    let (shell, manager, _) = shell("");
    let server = shell.serve(&[]);
    manager.until("READY=1");
    let mut silent = TcpStream::connect(server.address()).unwrap();
    let mut begun = TcpStream::connect(server.address()).unwrap();
    // The head of a record of which nothing follows.
    begun
        .write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        .unwrap();
    for stream in [&mut silent, &mut begun] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(server.stop().0, 0);
}

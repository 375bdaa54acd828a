//! Listeners of their own for hosts and owners: each API is served on one, and what can't be is told at the start.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::support::host::{IMAGE, WORKLOAD, launch_request, standard};
use crate::support::watched::{agent, told};
use crate::support::{Reply, Shell, Vm, platform};

/// A server with these lines, on any free port.
fn shell(lines: &str) -> Shell {
    let shell = Shell::initialised();
    shell.write("data/ark.cert", platform().ark());
    let configuration = format!(
        "listen: 127.0.0.1:0\nkds: {{url: ''}}\ndanger_extra_roots: [{{name: test, file: ark.cert}}]\n{lines}"
    );
    shell.write("data/keyward.yaml", configuration);
    shell
}

fn ask(base: &str, method: &str, path: &str, token: Option<&str>, body: &Value) -> Reply {
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{base}{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut answer = match body {
        Value::Null => agent().run(request.body(()).unwrap()),
        body => agent().run(request.body(body.to_string()).unwrap()),
    }
    .unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    Reply {
        status: answer.status().as_u16(),
        headers: Default::default(),
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

/// Of each API some calls, and whether they are served here: whatever they are answered, it is not that there is no
/// such path.
#[track_caller]
fn serves(base: &str, hosts: bool, owners: bool) {
    let id = uuid::Uuid::new_v4();
    let nothing = "there is nothing at this path";
    for (method, path, served) in [
        ("POST", format!("/vm/{id}/launch"), hosts),
        ("POST", format!("/vm/{id}/validate"), hosts),
        // A path of an API is not there whatever the method.
        ("GET", format!("/vm/{id}/launch"), hosts),
        ("POST", "/%76m/x/launch".to_owned(), hosts),
        ("POST", format!("/vm/{id}"), owners),
        ("PUT", format!("/vm/{id}"), owners),
        ("GET", "/v1/secrets".to_owned(), owners),
        ("GET", "/v1/secrets/a/b".to_owned(), owners),
        ("DELETE", "/v1/secrets/a".to_owned(), owners),
        ("POST", "/v1/apply".to_owned(), owners),
        ("GET", "/%761/secrets".to_owned(), owners),
        ("PATCH", "/v1/apply".to_owned(), owners),
        ("GET", "/livez".to_owned(), true),
        ("GET", "/readyz".to_owned(), true),
        ("GET", "/problems/denied".to_owned(), true),
        ("GET", "/v1/nothing".to_owned(), false),
        ("GET", "/metrics".to_owned(), false),
    ] {
        let body = if method == "GET" { Value::Null } else { json!({}) };
        let reply = ask(base, method, &path, None, &body);
        let absent = (reply.status, reply.detail()) == (404, nothing);
        assert_eq!(
            !absent, served,
            "{base} {method} {path}: {} {}",
            reply.status, reply.body
        );
    }
}

#[test]
fn with_one_listener_both_are_there() {
    let server = shell("").serve(&[]);
    serves(&server.url, true, true);
}

#[test]
fn an_api_with_a_listener_of_its_own_is_served_there_alone() {
    let server = shell("hosts: {listen: '127.0.0.1:0'}\n").serve(&[]);
    let hosts = told(&server, "hosts are served on ");
    serves(&server.url, false, true);
    serves(&hosts, true, false);
    drop(server);

    let server = shell("owners: {listen: '127.0.0.1:0'}\n").serve(&[]);
    let owners = told(&server, "owners are served on ");
    serves(&server.url, true, false);
    serves(&owners, false, true);
    drop(server);

    let server = shell("hosts: {listen: '127.0.0.1:0'}\nowners: {listen: '127.0.0.1:0'}\n").serve(&[]);
    let (hosts, owners) = (
        told(&server, "hosts are served on "),
        told(&server, "owners are served on "),
    );
    serves(&server.url, false, false);
    serves(&hosts, true, false);
    serves(&owners, false, true);
}

#[test]
fn a_secret_is_registered_on_one_and_released_on_the_other_and_all_end_with_the_server() {
    let shell = shell("hosts: {listen: '127.0.0.1:0'}\nowners: {listen: '127.0.0.1:0'}\n");
    let server = shell.serve(&[]);
    let (hosts, owners) = (
        told(&server, "hosts are served on "),
        told(&server, "owners are served on "),
    );
    let token = shell.read("token").trim().to_owned();
    let objects = json!({"objects": standard(json!({}))});
    ask(&owners, "POST", "/v1/apply", Some(&token), &objects).ok();
    let platform = platform();
    let path = format!("/vm/{WORKLOAD}/launch");
    let launched = ask(&hosts, "POST", &path, None, &launch_request(&platform)).ok();
    let mut vm = Vm::start(&platform, &launched);
    let request = vm.measure(IMAGE);
    let released = ask(&hosts, "POST", &vm.path(), None, &request).ok();
    assert_eq!(vm.unwrap(&released)[0].1, b"hunter2");
    let (code, text) = server.stop();
    assert_eq!(code, 0, "{text}");
    for base in [hosts, owners] {
        assert!(
            agent().get(format!("{base}/livez")).call().is_err(),
            "{base} still answers"
        );
    }
}

#[test]
fn tls_is_that_of_the_main_listener() {
    let shell = shell("hosts: {listen: '127.0.0.1:0'}\ntls: {certificate: one.pem, key: one.key}\n");
    let authority = crate::support::certificates::Pair::authority("the test's authority");
    let pair = authority.issue(&crate::support::certificates::Says {
        ip: Some("127.0.0.1"),
        server: true,
        ..crate::support::certificates::Says::client("keyward")
    });
    pair.write(&shell.path("data"), "one");
    let server = shell.serve(&[]);
    let hosts = told(&server, "hosts are served on ");
    assert!(hosts.starts_with("https://"), "{hosts}");
    for base in [&hosts, &server.url] {
        let client = crate::support::certificates::TlsClient::new(base, &authority, None);
        assert_eq!(client.get("/livez"), Some(200));
    }
    let plain = hosts.replace("https://", "http://");
    assert!(agent().get(format!("{plain}/livez")).call().is_err());
}

/// What `serve` says of these lines, given that it does not begin.
#[track_caller]
fn refused(lines: &str, arguments: &[&str]) -> String {
    let shell = shell(lines);
    let said = shell
        .run(&[&["serve", "--data-dir", "data"], arguments].concat())
        .failed();
    let error = said.lines().find_map(|line| line.strip_prefix("error: "));
    error.expect(&said).to_owned()
}

#[test]
fn listeners_that_can_not_be_are_told_at_the_start() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = taken.local_addr().unwrap();
    for (lines, arguments, expected) in [
        (
            "hosts: {listen: '127.0.0.1:18443'}\nowners: {listen: '127.0.0.1:18443'}\n".to_owned(),
            &[][..],
            "configuration key `owners.listen`: 127.0.0.1:18443 is taken by `hosts.listen` (127.0.0.1:18443): give each a port of its own".to_owned(),
        ),
        (
            "metrics: {listen: '127.0.0.1:18443'}\n".to_owned(),
            &["--listen", "127.0.0.1:18443"],
            "configuration key `metrics.listen`: 127.0.0.1:18443 is taken by `listen` (127.0.0.1:18443): give each a port of its own".to_owned(),
        ),
        (
            "danger_plaintext_http: true\nhosts: {listen: '0.0.0.0:18443'}\nsimple_kbs: {listen: '127.0.0.1:18443', owner: acme, workloads: [web]}\n".to_owned(),
            &[],
            "configuration key `simple_kbs.listen`: 127.0.0.1:18443 is taken by `hosts.listen` (0.0.0.0:18443): give each a port of its own".to_owned(),
        ),
        (
            format!("owners: {{listen: '{taken}'}}\n"),
            &[],
            format!("owners.listen: {taken} is taken: stop the server that runs there, or choose another in `owners.listen`"),
        ),
        (
            format!("metrics: {{listen: '{taken}'}}\n"),
            &[],
            format!("metrics.listen: {taken} is taken: stop the server that runs there, or choose another in `metrics.listen`"),
        ),
        (
            "hosts: {listen: '0.0.0.0:0'}\n".to_owned(),
            &[],
            "hosts.listen: 0.0.0.0:0 is not a loopback address and there is no TLS: configure `tls`, or say `danger_plaintext_http: true` if a proxy in front provides it".to_owned(),
        ),
        (
            "owners: {listen: '[::]:0'}\n".to_owned(),
            &[],
            "owners.listen: [::]:0 is not a loopback address and there is no TLS: configure `tls`, or say `danger_plaintext_http: true` if a proxy in front provides it".to_owned(),
        ),
        (
            // What is said for the APIs is not said for metrics.
            "danger_plaintext_http: true\nmetrics: {listen: '0.0.0.0:0'}\n".to_owned(),
            &[],
            "metrics.listen: 0.0.0.0:0 is not a loopback address, and metrics are served without TLS and to whoever asks: say `danger_plaintext_http: true` under `metrics` if only those reach it who may read them".to_owned(),
        ),
        (
            "hosts: {listen: here}\n".to_owned(),
            &[],
            "configuration data/keyward.yaml:4:17: hosts.listen: expected an IP address and a port, such as 127.0.0.1:8443".to_owned(),
        ),
        (
            "hosts: {port: 1}\n".to_owned(),
            &[],
            "configuration data/keyward.yaml:4:9: hosts: unknown key `port`, expected `listen`".to_owned(),
        ),
    ] {
        assert_eq!(refused(&lines, arguments), expected, "{lines}");
    }
}

#[test]
fn metrics_are_served_beyond_loopback_where_that_is_said_and_by_the_environment_too() {
    let server = shell("metrics: {listen: '0.0.0.0:0', danger_plaintext_http: true}\n").serve(&[]);
    assert!(told(&server, "metrics are served on http://0.0.0.0:").ends_with("/metrics"));
    drop(server);
    let mut shell = shell("");
    shell.set("KEYWARD_METRICS__LISTEN", "127.0.0.1:0");
    shell.set("KEYWARD_HOSTS__LISTEN", "127.0.0.1:0");
    let server = shell.serve(&[]);
    told(&server, "hosts are served on ");
    let metrics = told(&server, "metrics are served on ");
    assert_eq!(agent().get(metrics).call().unwrap().status().as_u16(), 200);
}

//! A server of its own process that is watched: its metrics, and traffic that moves every one of them.

use std::time::Duration;

use keyward::psp::Platform;
use serde_json::{Value, json};
use ureq::Agent;

use super::certificates::{Pair, Says, TlsClient};
use super::cli::Server;
use super::exposition::Exposition;
use super::host::{IMAGE, WORKLOAD, launch_request, standard};
use super::kbs::Kbs;
use super::kds::{Answer, Kds};
use super::{Reply, Shell, Vm, platform};
use crate::kds_completion::unsigned;

/// A server with metrics, over TLS.
pub(crate) struct Watched {
    pub(crate) shell: Shell,
    pub(crate) server: Server,
    pub(crate) metrics: String,
    client: TlsClient,
    token: String,
}

/// A policy of the owner that has this rule `allow` and these lines.
pub(crate) fn policy(body: &str) -> String {
    format!("package release.any\n\ndefault allow := false\n\n{body}\n")
}

/// What allows every guest that was measured.
pub(crate) const ANY: &str = "allow if is_string(input.attested.launch_digest)";

impl Watched {
    /// With these lines in the configuration, besides those that a test needs.
    pub(crate) fn with(lines: &str) -> Self {
        let shell = Shell::initialised();
        let authority = Pair::authority("the test's authority");
        let pair = authority.issue(&Says {
            ip: Some("127.0.0.1"),
            server: true,
            ..Says::client("keyward")
        });
        pair.write(&shell.path("data"), "server");
        authority.write(&shell.path("data"), "ca");
        shell.write("data/ark.cert", platform().ark());
        let kds = if lines.contains("kds:") {
            ""
        } else {
            "kds: {url: ''}\n"
        };
        let configuration = format!(
            "listen: 127.0.0.1:0\ntls: {{certificate: server.pem, key: server.key, client_ca: ca.pem, clients: [{{common_name: a, role: admin}}]}}\n\
             metrics: {{listen: '127.0.0.1:0'}}\n{kds}danger_extra_roots: [{{name: test, file: ark.cert}}]\n{lines}"
        );
        shell.write("data/keyward.yaml", configuration);
        let server = shell.serve(&[]);
        let metrics = told(&server, "metrics are served on ");
        let token = shell.read("token").trim().to_owned();
        Self {
            client: TlsClient::new(&server.url, &authority, None),
            shell,
            server,
            metrics,
            token,
        }
    }

    /// What it says now.
    #[track_caller]
    pub(crate) fn scrape(&self) -> Exposition {
        let mut response = agent().get(&self.metrics).call().unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        Exposition::parse(&response.body_mut().read_to_string().unwrap())
    }

    /// What it says once the figures that it keeps for some seconds are new ones.
    #[track_caller]
    pub(crate) fn scrape_until(&self, holds: impl Fn(&Exposition) -> bool) -> Exposition {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let scraped = self.scrape();
            if holds(&scraped) {
                return scraped;
            }
            assert!(std::time::Instant::now() < end, "{}", scraped.text);
            std::thread::yield_now();
        }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, None, body)
    }

    pub(crate) fn owner(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.send(method, path, Some(&self.token), body)
    }

    pub(crate) fn send(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> Reply {
        let (status, body) = self.client.send(method, path, token, body).unwrap();
        Reply {
            status,
            headers: Default::default(),
            body,
        }
    }

    /// Registers the usual workload, with this policy.
    #[track_caller]
    pub(crate) fn registers(&self, text: &str) {
        let mut objects = standard(json!({}));
        objects[0] = super::app::bundle(&[("release/any.rego", text)]);
        self.owner("POST", "/v1/apply", &json!({"objects": objects})).ok();
    }

    #[track_caller]
    pub(crate) fn start(&self, platform: &Platform) -> Vm {
        let path = format!("/vm/{WORKLOAD}/launch");
        Vm::start(platform, &self.post(&path, &launch_request(platform)).ok())
    }

    /// A whole launch of an image.
    pub(crate) fn run(&self, platform: &Platform, image: &[u8]) -> Reply {
        let mut vm = self.start(platform);
        let request = vm.measure(image);
        self.post(&vm.path(), &request)
    }
}

pub(crate) fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).proxy(None);
    config.build().new_agent()
}

/// What stands behind these words in what a server said before that it serves.
#[track_caller]
pub(crate) fn told(server: &Server, words: &str) -> String {
    let found = server.before.lines().find_map(|line| line.strip_prefix(words));
    found
        .unwrap_or_else(|| panic!("{words}: {:?}", server.before))
        .to_owned()
}

/// A server on which all that is measured has happened once.
pub(crate) fn busy() -> Watched {
    let strangers = [platform(), platform()];
    let known = format!("/cek/id/{}", hex::encode(strangers[0].chip_id()));
    // One chip is not known, and about others the service fails.
    let kds = Kds::start(move |path| Answer::new(if path == known { 404 } else { 500 }, &[], b""));
    let lines = format!(
        "kds: {{url: '{}'}}\nlaunch: {{failed_searches_per_minute: 1}}\nsimple_kbs: {{listen: '127.0.0.1:0', owner: acme, workloads: [web]}}\n",
        kds.base
    );
    let watched = Watched::with(&lines);
    let platform = platform();
    watched.registers(&policy(&format!("{ANY}\n\nrelease_limit := 1")));
    assert_eq!(watched.run(&platform, IMAGE).status, 200);
    assert_eq!(watched.run(&platform, IMAGE).problem(), "confirmation-required");
    let other = b"an image that nobody has reviewed, of 48 bytes..";
    assert_eq!(watched.run(&platform, other).problem(), "measurement-mismatch");
    watched.registers(&policy(&format!("{ANY}\n\ndeny contains \"never\"")));
    assert_eq!(watched.run(&platform, IMAGE).problem(), "denied");
    let path = format!("/vm/{WORKLOAD}/launch");
    for (stranger, status) in strangers.iter().zip([422, 503]) {
        assert_eq!(watched.post(&path, &unsigned(stranger)).status, status);
    }
    // Two that name nothing: the second is one too many.
    let mut vm = watched.start(&platform);
    let path = format!("/vm/{WORKLOAD}/validate");
    let request = vm.measure(other);
    assert_eq!(watched.post(&path, &request).status, 422);
    assert_eq!(watched.post(&path, &request).status, 429);
    let address = told(
        &watched.server,
        "simple-kbs clients of acme are served on http://",
    );
    assert!(Kbs::at(&address).bundle(&platform.full_chain(), 3).is_ok());
    watched
}

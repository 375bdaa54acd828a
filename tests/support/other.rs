//! A second owner of a test's server.

use keyward::audit::actor::Act;
use keyward::domain::Clock as _;
use keyward::domain::token::Token;
use keyward::sealing::new_key;
use keyward::sev::SystemRandom;
use keyward::store::OwnerCreated;
use serde_json::Value;

use super::app::Options;
use super::host::{IMAGE, launch_request};
use super::{App, Reply, Vm, platform};

/// The other owner's workload.
pub(crate) const OTHERS_WORKLOAD: &str = "77777777-2222-4333-8444-555555555555";

/// A second owner, `umbra`, of a server.
pub(crate) struct Other<'a> {
    app: &'a App,
    bearer: String,
}

impl<'a> Other<'a> {
    pub(crate) fn of(app: &'a App) -> Self {
        let token = Token::from_random(&new_key(&SystemRandom).unwrap());
        let name = "umbra".parse().unwrap();
        let created = app
            .service
            .store()
            .create_owner(&name, token.hash(), &Act::of_server(app.clock.now()));
        assert_eq!(created.unwrap(), OwnerCreated::Created);
        let bearer = format!("Bearer {}", token.expose());
        Self { app, bearer }
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let headers = [
            ("authorization", self.bearer.as_str()),
            ("content-type", "application/json"),
        ];
        self.app.request(method, path, &headers, &body)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &Value::Null)
    }

    #[track_caller]
    pub(crate) fn items(&self, path: &str) -> Vec<Value> {
        self.get(path).ok().body["items"].as_array().unwrap().clone()
    }
}

/// Options of a server whose extra root counts for both.
pub(crate) fn shared() -> Options {
    let mut options = Options::default();
    let owners = ["acme", "umbra"].map(str::to_owned).to_vec();
    options.settings.root_owners = vec![("test".to_owned(), owners)];
    options
}

/// A whole launch of a workload on a new platform: started, loaded with the reviewed image, measured, validated.
pub(crate) fn run(app: &App, uuid: &str) -> (Vm, Reply) {
    let platform = platform();
    let reply = app
        .post(&format!("/vm/{uuid}/launch"), &launch_request(&platform))
        .ok();
    let mut vm = Vm::start(&platform, &reply);
    let request = vm.measure(IMAGE);
    let reply = app.post(&vm.path(), &request);
    (vm, reply)
}

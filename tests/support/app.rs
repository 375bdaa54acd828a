//! A server with everything real but the hardware, AMD's service and the clock.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use keyward::audit::actor::Act;
use keyward::audit::key::SignerKey;
use keyward::config::{IdentityProvider, Tls};
use keyward::domain::launch::LaunchBounds;
use keyward::domain::token::Token;
use keyward::domain::{Clock, Name, Time};
use keyward::http;
use keyward::identity::Identities;
use keyward::isolation::{Launcher, Workers};
use keyward::kds::{CekSource, NoService};
use keyward::policy::Limits;
use keyward::release::{Parts, Service, Settings};
use keyward::sealing::{Sealer, new_key};
use keyward::sev::{CaCertificate, SystemRandom, TrustedRoots};
use keyward::store::SqlStore;
use keyward::store::{Store, Tokens as _};

use super::store::Place;
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;
use zeroize::Zeroizing;

/// A clock that stands still until it is moved.
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0
            .fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl TestClock {
    /// As when somebody sets it, or a machine's battery is empty.
    pub(crate) fn set_back(&self, by: Duration) {
        self.0
            .fetch_sub(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        Time::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Puts something around a store.
type Wrap = Box<dyn Fn(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync>;

/// How a test's server differs from the usual one.
pub(crate) struct Options {
    pub(crate) settings: Settings,
    /// What the evaluation of policies may take, in this many workers.
    pub(crate) policy: Limits,
    pub(crate) workers: usize,
    pub(crate) ceks: Arc<dyn CekSource>,
    /// Wraps the store, such as by one that fails.
    pub(crate) store: Wrap,
    /// Who vouches for callers, and what clients are asked over TLS.
    pub(crate) providers: Vec<IdentityProvider>,
    pub(crate) tls: Option<Tls>,
    /// ARK that is trusted under the name `test`; none: AMD's roots alone.
    pub(crate) extra_root: Option<Vec<u8>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: Settings {
                launch_lifetime: Duration::from_secs(600),
                launch_tries: 8,
                bounds: LaunchBounds {
                    per_address: 1024,
                    per_pdh: 64,
                    per_workload: 4096,
                },
                failed_searches_per_minute: 60,
                hold_retry: Duration::from_secs(30),
                cek_miss: Duration::from_secs(3600),
                kept_versions: 4,
                cached_bundles: 8,
                cached_chains: 8,
                root_owners: Vec::new(),
            },
            policy: Limits {
                // A machine that is busy with other tests keeps it too.
                time: Duration::from_secs(2),
                ..Limits::default()
            },
            workers: 3,
            ceks: Arc::new(NoService),
            store: Box::new(|store| store),
            providers: Vec::new(),
            tls: None,
            extra_root: Some(super::ca().ark().as_bytes().to_vec()),
        }
    }
}

/// A server and its owner.
pub(crate) struct App {
    pub(crate) service: Arc<Service>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) folder: Arc<TempDir>,
    pub(crate) database: Arc<Place>,
    pub(crate) base: String,
    pub(crate) token: String,
    agent: Agent,
    options: Options,
    key: Zeroizing<[u8; 32]>,
    handle: actix_web::dev::ServerHandle,
    thread: Option<JoinHandle<()>>,
}

/// What a request was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Reply {
    /// The problem's name (`denied`), or `ok`.
    pub(crate) fn problem(&self) -> &str {
        self.body["type"]
            .as_str()
            .and_then(|text| text.strip_prefix("/problems/"))
            .unwrap_or("ok")
    }

    pub(crate) fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16, problem: &str) -> Self {
        assert_eq!((self.status, self.problem()), (status, problem), "{}", self.body);
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.expect(200, "ok")
    }
}

impl App {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::on(options, Place::new())
    }

    /// On a new database.
    pub(crate) fn on(options: Options, database: Place) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let database = Arc::new(database);
        let store = database.open(folder.path(), true);
        let token = Token::from_random(&new_key(&SystemRandom).unwrap());
        // 2026-01-02T03:04:05Z
        let clock = Arc::new(TestClock(AtomicI64::new(1_767_323_045_000)));
        let owner: Name = "acme".parse().unwrap();
        store
            .create_owner(&owner, token.hash(), &Act::of_server(clock.now()))
            .unwrap();
        let key = new_key(&SystemRandom).unwrap();
        let place = (folder, database);
        Self::beside(options, place, store, key, token.expose().to_owned(), clock)
    }

    /// Another server on the same data folder, as after a restart or beside this one.
    pub(crate) fn again(&self, options: Options) -> Self {
        let store = self.database.open(self.folder.path(), false);
        let (place, clock) = ((self.folder.clone(), self.database.clone()), self.clock.clone());
        Self::beside(options, place, store, self.key.clone(), self.token.clone(), clock)
    }

    fn beside(
        options: Options,
        (folder, database): (Arc<TempDir>, Arc<Place>),
        store: SqlStore,
        key: Zeroizing<[u8; 32]>,
        token: String,
        clock: Arc<TestClock>,
    ) -> Self {
        let service = service(&options, store, &key, &clock);
        let (handle, thread, base) = serve(service.clone(), options.tls.clone());
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        Self {
            service,
            clock,
            folder,
            database,
            base,
            token,
            agent,
            options,
            key,
            handle,
            thread: Some(thread),
        }
    }

    /// The server ends and another one begins on the same folder, with the same key file.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let store = self.database.open(self.folder.path(), false);
        self.service = service(&self.options, store, &self.key, &self.clock);
        let (handle, thread, base) = serve(self.service.clone(), self.options.tls.clone());
        (self.handle, self.thread, self.base) = (handle, Some(thread), base);
    }

    fn stop(&mut self) {
        let stop = self.handle.stop(false);
        actix_web::rt::System::new().block_on(stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Changes the database behind the server's back; how many rows were touched.
    pub(crate) fn sql(&self, statement: &str) -> usize {
        self.database.sql(self.folder.path(), statement)
    }

    /// A request with any method, headers and body.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = if body.is_empty() && matches!(method, "GET" | "DELETE") {
            self.agent.run(request.body(()).unwrap())
        } else {
            self.agent.run(request.body(body).unwrap())
        };
        let mut response = response.unwrap();
        let headers = response.headers().iter();
        let headers = headers
            .map(|(k, v)| (k.to_string(), v.to_str().unwrap_or_default().to_owned()))
            .collect();
        let bytes = response.body_mut().read_to_vec().unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Reply {
            status: response.status().as_u16(),
            headers,
            body,
        }
    }

    /// A host's POST.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.request(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    /// A host's POST from this address.
    pub(crate) fn post_from(&self, address: &str, path: &str, body: &Value) -> Reply {
        self.request(
            "POST",
            path,
            &[("x-forwarded-for", address)],
            body.to_string().as_bytes(),
        )
    }

    /// A host's POST with an idempotency key.
    pub(crate) fn post_once(&self, key: &str, path: &str, body: &Value) -> Reply {
        self.request(
            "POST",
            path,
            &[("idempotency-key", key)],
            body.to_string().as_bytes(),
        )
    }

    /// An owner's request.
    pub(crate) fn owner(&self, method: &str, path: &str, body: &Value) -> Reply {
        let bearer = format!("Bearer {}", self.token);
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        self.request(
            method,
            path,
            &[("authorization", &bearer), ("content-type", "application/json")],
            &body,
        )
    }

    /// Registers objects as JSON, and expects that to succeed.
    #[track_caller]
    pub(crate) fn apply(&self, objects: Value) -> Reply {
        self.try_apply(objects).ok()
    }

    pub(crate) fn try_apply(&self, objects: Value) -> Reply {
        self.owner("POST", "/v1/apply", &json!({"objects": objects}))
    }

    /// Registers a policy bundle of modules, path to text.
    #[track_caller]
    pub(crate) fn bundle(&self, modules: &[(&str, &str)]) -> Reply {
        self.apply(json!([bundle(modules)]))
    }

    /// The recorded decision by this id.
    pub(crate) fn decision(&self, id: &Value) -> Value {
        self.owner(
            "GET",
            &format!("/v1/decisions/{}", id.as_str().unwrap()),
            &Value::Null,
        )
        .ok()
        .body
    }

    /// All recorded decisions, newest first.
    pub(crate) fn decisions(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut path = "/v1/decisions?limit=1000".to_owned();
        loop {
            let page = self.owner("GET", &path, &Value::Null).ok().body;
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => path = format!("/v1/decisions?limit=1000&cursor={next}"),
                None => return all,
            }
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop();
    }
}

fn service(
    options: &Options,
    store: SqlStore,
    key: &Zeroizing<[u8; 32]>,
    clock: &Arc<TestClock>,
) -> Arc<Service> {
    let mut roots = TrustedRoots::amd();
    if let Some(ark) = &options.extra_root {
        roots = roots
            .with_extra("test", CaCertificate::parse(ark).unwrap())
            .unwrap();
    }
    let launcher = Launcher {
        program: env!("CARGO_BIN_EXE_keyward").into(),
        memory_mib: 512,
    };
    let parts = Parts {
        evaluator: Arc::new(Workers::new(launcher, options.workers, options.policy.clone())),
        store: (options.store)(Arc::new(store)),
        sealer: Sealer::new(key.clone()),
        roots,
        ceks: options.ceks.clone(),
        identities: Identities::start(
            &options.providers,
            options.tls.as_ref().map_or(&[][..], |tls| &tls.clients),
            clock.now(),
        )
        .unwrap(),
        clock: clock.clone(),
        random: Arc::new(SystemRandom),
    };
    Arc::new(
        Service::new(parts, options.settings.clone())
            .unwrap()
            .signing_log(log_key()),
    )
}

/// The key that signs the audit log of tests' servers.
pub(crate) fn log_key() -> SignerKey {
    SignerKey::from_seed("example.com/keyward".parse().unwrap(), Zeroizing::new([1; 32])).unwrap()
}

/// A policy bundle object.
pub(crate) fn bundle(modules: &[(&str, &str)]) -> Value {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let files: BTreeMap<_, _> = modules.iter().map(|(path, text)| (*path, encode(text))).collect();
    json!({"kind": "PolicyBundle", "files": files})
}

fn serve(service: Arc<Service>, tls: Option<Tls>) -> (actix_web::dev::ServerHandle, JoinHandle<()>, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let base = format!("{scheme}://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async {
            let loopback = std::net::IpAddr::from([127, 0, 0, 1]);
            // The tests' own proxy: `X-Forwarded-For` lets one test be many hosts.
            let state = http::State {
                trusted_proxies: vec![loopback],
                ..http::State::new(service)
            };
            let tls = tls.map(|tls| http::LiveTls::read(http::TlsFiles::from(&tls)).unwrap());
            let drain = Duration::from_secs(10);
            let server = http::serve(listener, tls.as_ref(), drain, state).unwrap();
            sender.send(server.handle()).unwrap();
            server.await.unwrap();
        });
    });
    (receiver.recv().unwrap(), thread, base)
}

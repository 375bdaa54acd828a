//! A server without its listener, on a database in a temporary folder: whole launches and validations.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use keyward::audit::actor::Act;
use keyward::domain::launch::LaunchBounds;
use keyward::domain::token::{Caller, Proof, Token};
use keyward::domain::{Clock as _, Name, Role, SystemClock};
use keyward::identity::Identities;
use keyward::isolation::{Launcher, Workers};
use keyward::kds::NoService;
use keyward::policy::Limits;
use keyward::psp::{Ca, Guest, Platform};
use keyward::release::host::{Asked, Claimed};
use keyward::release::{Host, LaunchRequest, Parts, Service, Settings, ValidateRequest};
use keyward::sealing::{Sealer, new_key};
use keyward::sev::{Measurement, SystemRandom, TrustedRoots};
use keyward::store::SqlStore;
use keyward::store::{Store, Tokens as _};
use serde_json::json;
use uuid::Uuid;

use super::{BUILD, POLICY, Piece, piece};

const WORKLOAD: Uuid = Uuid::from_u128(0x11111111_2222_4333_8444_555555555555);
const IMAGE: &[u8] = b"sixteen bytes...";

pub(crate) struct Server {
    _folder: tempfile::TempDir,
    pub(crate) store: Arc<dyn Store>,
    service: Service,
    platform: Platform,
    pub(crate) owner: Name,
}

impl Server {
    /// A server with one workload that has one secret, and no policy of its owner's but the built-in one.
    pub(crate) fn new(ca: &Ca, platform: Platform) -> Self {
        // Beside the build, not in /tmp, which may be memory.
        let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target")).unwrap();
        let store = SqlStore::open(folder.path(), true).unwrap();
        let owner: Name = "acme".parse().unwrap();
        let token = Token::from_random(&new_key(&SystemRandom).unwrap());
        store
            .create_owner(&owner, token.hash(), &Act::of_server(SystemClock.now()))
            .unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let launcher = Launcher {
            program: env!("CARGO_BIN_EXE_keyward").into(),
            memory_mib: 512,
        };
        let parts = Parts {
            store: store.clone(),
            sealer: Sealer::new(new_key(&SystemRandom).unwrap()),
            roots: TrustedRoots::amd().with_extra("bench", ca.ark().clone()).unwrap(),
            evaluator: Arc::new(Workers::new(launcher, 2, Limits::default())),
            ceks: Arc::new(NoService),
            identities: Identities::start(&[], &[], SystemClock.now()).unwrap(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        };
        let settings = Settings {
            launch_lifetime: Duration::from_secs(600),
            launch_tries: 8,
            bounds: LaunchBounds {
                per_address: 64,
                per_pdh: 32,
                per_workload: 64,
            },
            failed_searches_per_minute: 60,
            hold_retry: Duration::from_secs(30),
            cek_miss: Duration::from_secs(3600),
            kept_versions: 4,
            cached_bundles: 8,
            cached_chains: 8,
            root_owners: Vec::new(),
        };
        let server = Self {
            _folder: folder,
            store,
            service: Service::new(parts, settings).unwrap(),
            platform,
            owner,
        };
        server.register();
        server
    }

    fn register(&self) {
        let objects = json!([
            {"kind": "Secret", "name": "disk", "type": "opaque", "value": {"generate": 32},
             "guid": "3c9a1d3e-7b1f-4d55-9d5e-0f3c5a6b7c8d"},
            {"kind": "Workload", "name": "bench", "uuid": WORKLOAD, "scheme": "amd-sev", "policy": POLICY.bits(),
             "launch_digests": [hex::encode(openssl::sha::sha256(IMAGE))], "secrets": ["disk"],
             "policies": ["keyward.workload"]},
        ]);
        let caller = Caller {
            owner: self.owner.clone(),
            token: Uuid::nil(),
            name: "bench".to_owned(),
            role: Role::Owner,
            once: None,
            proof: Proof::Token,
        };
        let objects = serde_json::from_value(objects).unwrap();
        self.service.apply(&caller, objects).unwrap();
    }

    fn host() -> Host {
        Host {
            address: IpAddr::from([127, 0, 0, 1]),
            identity: None,
        }
    }

    /// A whole launch, and the guest that the platform starts with it.
    pub(crate) fn launch(&self) -> (Uuid, keyward::release::LaunchAnswer) {
        let request = LaunchRequest {
            pdh: self.platform.pdh(),
            cert_chain: self.platform.full_chain(),
            cpu_id: None,
            scheme: None,
            policy: None,
        };
        let answer = self.service.launch(WORKLOAD, &Self::host(), &request);
        let answer = answer.unwrap_or_else(|refusal| panic!("{refusal}"));
        (answer.id, answer)
    }

    /// The validate request of a guest that was launched now.
    pub(crate) fn measured(&self) -> (Uuid, ValidateRequest) {
        let (id, answer) = self.launch();
        let owner = answer.owner_cert.as_bytes();
        let mut guest: Guest = self
            .platform
            .launch_start(POLICY.bits(), owner, &answer.session)
            .unwrap();
        guest.launch_update_data(IMAGE).unwrap();
        let measurement = Measurement::parse(&guest.launch_measure().unwrap()).unwrap();
        let request = ValidateRequest {
            build: BUILD,
            policy: POLICY,
            measurement,
            claimed: Claimed::default(),
            launch_digest: None,
            secrets: Asked::All,
            idempotency: None,
        };
        (id, request)
    }

    /// Its secrets, and the decision.
    pub(crate) fn validate(&self, id: Uuid, request: &ValidateRequest) -> Uuid {
        let answer = self.service.validate(id, &Self::host(), request);
        answer.unwrap_or_else(|refusal| panic!("{refusal}")).decision
    }
}

pub(crate) fn pieces(server: &Arc<Server>) -> Vec<Piece> {
    let (one, two) = (server.clone(), server.clone());
    vec![
        piece("whole launch, in process", move || {
            black_box(one.launch());
        }),
        piece("whole launch, guest and validation, in process", move || {
            let (id, request) = two.measured();
            black_box(two.validate(id, &request));
        }),
    ]
}

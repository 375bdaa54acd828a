//! The simple-kbs service beside a test's server, and a client of it that waits for its answers.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::domain::connection::ConnectionBounds;
use keyward::grpc::messages::{
    BundleRequest, BundleResponse, OnlineSecretRequest, OnlineSecretResponse, RequestDetails, SecretRequest,
    SecretResponse,
};
use keyward::grpc::{NoObserver, Server};
use keyward::psp::{Guest, Platform};
use keyward::release::simple_kbs::Face;
use openssl::symm::{Cipher, decrypt_aead};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use super::App;
use super::host::{ALLOW, IMAGE, POLICY, WORKLOAD, digest};

/// How many requests a test's connection takes.
pub(crate) const REQUESTS: u32 = 6;
/// How long it lasts.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);

/// GUIDs that the tests ask at.
pub(crate) fn guid(number: u128) -> String {
    Uuid::from_u128(0x0a00_0000_0000_4000_8000_0000_0000_0000 + number).to_string()
}

/// The service and a client.
pub(crate) struct Kbs {
    runtime: Runtime,
    channel: Channel,
    pub(crate) address: String,
    _server: Option<Server>,
}

/// What came of a call.
pub(crate) type Answer<T> = Result<T, Status>;

impl Kbs {
    /// Serves the workloads `web` and `es` of `acme`.
    pub(crate) fn of(app: &App) -> Self {
        Self::serving(app, &["web", "es"])
    }

    pub(crate) fn serving(app: &App, workloads: &[&str]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let face = Face {
            owner: "acme".parse().unwrap(),
            workloads: workloads.iter().map(|name| name.parse().unwrap()).collect(),
            connections: ConnectionBounds {
                lifetime: LIFETIME,
                requests: REQUESTS,
            },
        };
        let observer = Arc::new(NoObserver);
        let server = Server::start(listener, None, app.service.clone(), face, observer).unwrap();
        Self {
            _server: Some(server),
            ..Self::at(&address.to_string())
        }
    }

    /// A client of the service at this address.
    pub(crate) fn at(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        Self {
            runtime,
            channel,
            address: address.to_owned(),
            _server: None,
        }
    }

    pub(crate) fn call<M, R>(&self, name: &str, message: M) -> Answer<R>
    where
        M: prost::Message + Send + Sync + 'static,
        R: prost::Message + Default + Send + Sync + 'static,
    {
        let path = format!("/keybroker.KeyBrokerService/{name}").parse().unwrap();
        self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
            grpc.ready().await.map_err(unreachable)?;
            let codec: ProstCodec<M, R> = ProstCodec::default();
            let answer = grpc.unary(Request::new(message), path, codec).await?;
            Ok(answer.into_inner())
        })
    }

    /// A call that may take this long, at both ends.
    pub(crate) fn call_within<M, R>(&self, name: &str, message: M, within: Duration) -> Answer<R>
    where
        M: prost::Message + Send + Sync + 'static,
        R: prost::Message + Default + Send + Sync + 'static,
    {
        let path = format!("/keybroker.KeyBrokerService/{name}").parse().unwrap();
        let mut request = Request::new(message);
        request.set_timeout(within);
        self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            let codec: ProstCodec<M, R> = ProstCodec::default();
            Ok(grpc.unary(request, path, codec).await?.into_inner())
        })
    }

    pub(crate) fn bundle(&self, chain: &[u8], policy: u32) -> Answer<BundleResponse> {
        let certificate_chain = STANDARD.encode(chain);
        self.call(
            "GetBundle",
            BundleRequest {
                certificate_chain,
                policy,
            },
        )
    }

    pub(crate) fn secret(&self, request: &SecretRequest) -> Answer<SecretResponse> {
        self.call("GetSecret", request.clone())
    }

    /// Starts a guest with the usual policy.
    #[track_caller]
    pub(crate) fn start(&self, platform: &Platform) -> KbsVm {
        self.start_with(platform, POLICY)
    }

    #[track_caller]
    pub(crate) fn start_with(&self, platform: &Platform, policy: u32) -> KbsVm {
        let bundle = self.bundle(&platform.full_chain(), policy).unwrap();
        let decode = |text: &str| STANDARD.decode(text).unwrap();
        let (godh, blob) = (
            decode(&bundle.guest_owner_public_key),
            decode(&bundle.launch_blob),
        );
        assert_eq!((godh.len(), blob.len()), (2084, 128));
        let guest = platform.launch_start(policy, &godh, &blob).unwrap();
        KbsVm {
            id: bundle.launch_id,
            guest,
        }
    }

    /// A guest of the reviewed image, and what was answered when it asked for these.
    #[track_caller]
    pub(crate) fn run(
        &self,
        platform: &Platform,
        asked: &[RequestDetails],
    ) -> (KbsVm, Answer<SecretResponse>) {
        let mut vm = self.start(platform);
        let answer = self.secret(&vm.measure(IMAGE, asked));
        (vm, answer)
    }

    /// A guest that was given a connection.
    #[track_caller]
    pub(crate) fn connected(&self, platform: &Platform) -> Client {
        let at = "1ee27366-0c87-43a6-af48-28543eaf7cb0";
        // As Kata's runtime asks: in capitals, and without an id.
        let (vm, answer) = self.run(platform, &[asked(at, "JSON", "connection", "")]);
        let entries = vm.unwrap(&answer.unwrap());
        Client::read(&entries[0].1)
    }

    pub(crate) fn online(&self, client: &Client, asked: &[RequestDetails]) -> Answer<Vec<(String, Vec<u8>)>> {
        self.online_raw(&client.id, asked)
            .map(|answer| client.open(&answer))
    }

    pub(crate) fn online_raw(&self, client: &str, asked: &[RequestDetails]) -> Answer<OnlineSecretResponse> {
        self.call(
            "GetOnlineSecret",
            OnlineSecretRequest {
                client_id: client.to_owned(),
                secret_requests: asked.to_vec(),
            },
        )
    }
}

pub(crate) fn asked(guid: &str, format: &str, secret_type: &str, id: &str) -> RequestDetails {
    RequestDetails {
        guid: guid.to_owned(),
        format: format.to_owned(),
        secret_type: secret_type.to_owned(),
        id: id.to_owned(),
    }
}

/// A guest that was started over gRPC.
pub(crate) struct KbsVm {
    pub(crate) id: String,
    pub(crate) guest: Guest,
}

impl KbsVm {
    /// Loads and measures; what the host then asks.
    pub(crate) fn measure(&mut self, image: &[u8], asked: &[RequestDetails]) -> SecretRequest {
        self.guest.launch_update_data(image).unwrap();
        let measurement = self.guest.launch_measure().unwrap();
        let build = self.guest.build();
        SecretRequest {
            launch_measurement: STANDARD.encode(measurement),
            launch_id: self.id.clone(),
            policy: self.guest.policy().bits(),
            api_major: build.api_major.into(),
            api_minor: build.api_minor.into(),
            build_id: build.build_id.into(),
            fw_digest: STANDARD.encode(openssl::sha::sha256(image)),
            launch_description: "a test".to_owned(),
            secret_requests: asked.to_vec(),
        }
    }

    /// The entries that the guest finds in the packet.
    pub(crate) fn unwrap(&self, answer: &SecretResponse) -> Vec<(String, Vec<u8>)> {
        let header = STANDARD.decode(&answer.launch_secret_header).unwrap();
        let payload = STANDARD.decode(&answer.launch_secret_data).unwrap();
        let table = self
            .guest
            .launch_secret(&header, &payload, payload.len())
            .unwrap();
        let entries = keyward::sev::secret_table::parse(&table).unwrap();
        entries
            .iter()
            .map(|entry| (entry.guid.to_string(), entry.data.to_vec()))
            .collect()
    }
}

/// What a guest knows of its connection.
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) key: Vec<u8>,
}

impl Client {
    pub(crate) fn read(entry: &[u8]) -> Self {
        let entry: Value = serde_json::from_slice(entry).unwrap();
        let text = |name: &str| entry[name].as_str().unwrap().to_owned();
        let key = STANDARD.decode(text("key")).unwrap();
        assert_eq!((key.len(), entry.as_object().unwrap().len()), (32, 2));
        Self {
            id: text("client_id"),
            key,
        }
    }

    /// What records call its connection: not what it calls itself.
    pub(crate) fn connection(&self) -> Value {
        let id = keyward::domain::connection::id_of(self.id.parse().unwrap()).to_string();
        assert_ne!(id, self.id);
        json!(id)
    }

    /// What the guest reads: names and values.
    pub(crate) fn open(&self, answer: &OnlineSecretResponse) -> Vec<(String, Vec<u8>)> {
        let (iv, payload) = (
            STANDARD.decode(&answer.iv).unwrap(),
            STANDARD.decode(&answer.payload).unwrap(),
        );
        assert_eq!(iv.len(), 12);
        let (ciphertext, tag) = payload.split_at(payload.len() - 16);
        let plain = decrypt_aead(Cipher::aes_256_gcm(), &self.key, Some(&iv), &[], ciphertext, tag).unwrap();
        let mut rest = plain.as_slice();
        let number = |rest: &mut &[u8]| {
            let (head, tail) = rest.split_at(8);
            *rest = tail;
            usize::try_from(u64::from_le_bytes(head.try_into().unwrap())).unwrap()
        };
        let part = |rest: &mut &[u8]| {
            let length = number(rest);
            let (bytes, tail) = rest.split_at(length);
            *rest = tail;
            bytes.to_vec()
        };
        let count = number(&mut rest);
        let mut entries = Vec::new();
        for _ in 0..count {
            let name = String::from_utf8(part(&mut rest)).unwrap();
            entries.push((name, part(&mut rest)));
        }
        assert!(rest.is_empty());
        entries
    }
}

/// A P-256 key in PEM, and its public half.
pub(crate) fn report_key() -> (String, openssl::pkey::PKey<openssl::pkey::Public>) {
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let pem = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let public = PKey::public_key_from_pem(&key.public_key_to_pem().unwrap()).unwrap();
    (pem, public)
}

/// Objects of a workload `web` with a secret of each kind: keys `k1` and `k2`, both in the key set `set`, a file
/// `motd` and a report key `reports`.
pub(crate) fn objects(report_key: &str, policy: &str) -> Value {
    let secret = |number: u128, name: &str, kind: &str, value: &[u8]| {
        json!({
            "kind": "Secret", "name": name, "type": kind, "guid": guid(1000 + number),
            "value": {"base64": STANDARD.encode(value)}, "policies": ["release.any"],
        })
    };
    json!([
        super::app::bundle(&[("release/any.rego", policy)]),
        secret(1, "k1", "opaque", b"first key"),
        secret(2, "k2", "opaque", &[0, 255, 7]),
        secret(3, "motd", "opaque", b"a file\n"),
        secret(4, "reports", "report-key", report_key.as_bytes()),
        {"kind": "KeySet", "name": "set", "secrets": ["k1", "k2"]},
        {
            "kind": "Workload", "name": "web", "uuid": WORKLOAD, "scheme": "amd-sev", "policy": POLICY,
            "launch_digests": [digest(IMAGE)], "secrets": ["k1", "k2", "motd", "reports"],
        },
    ])
}

impl App {
    /// Registers the workload of [`objects`]; the public half of its report key.
    #[track_caller]
    pub(crate) fn standard_kbs(&self) -> openssl::pkey::PKey<openssl::pkey::Public> {
        let (key, public) = report_key();
        self.apply(objects(&key, ALLOW));
        public
    }
}

/// What a refusal reads like.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(answer: Answer<T>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

/// As it reads before a guest is measured.
pub(crate) fn denied() -> (Code, String) {
    (Code::PermissionDenied, "denied".to_owned())
}

/// The id of the decision that a refusal of a measured guest tells.
#[track_caller]
pub(crate) fn decision<T: std::fmt::Debug>(answer: Answer<T>) -> Value {
    let (code, text) = refused(answer);
    let id = text
        .strip_prefix("denied (decision ")
        .and_then(|rest| rest.strip_suffix(')'));
    assert_eq!(code, Code::PermissionDenied);
    Value::from(id.expect(&text))
}

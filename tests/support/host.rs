//! The host's side: platforms under one test authority, and virtual machines on them.

use std::sync::OnceLock;

use keyward::domain::{Base64, Base64Bytes};
use keyward::psp::{Ca, Guest, Platform, PlatformOptions};
use openssl::sha::sha256;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{App, Reply};

/// NODBG and NOKS.
pub(crate) const POLICY: u32 = 3;

/// The workload that [`App::standard`] registers.
pub(crate) const WORKLOAD: &str = "11111111-2222-4333-8444-555555555555";

/// What a guest of that workload is loaded with.
pub(crate) const IMAGE: &[u8] = b"the image which the owner reviewed: 48 bytes all";

/// A policy that allows what has the reviewed digest.
pub(crate) const ALLOW: &str =
    "package release.any\n\ndefault allow := false\n\nallow if is_string(input.attested.launch_digest)\n";

/// One authority for all tests: making one takes a while.
pub(crate) fn ca() -> &'static Ca {
    static CA: OnceLock<Ca> = OnceLock::new();
    CA.get_or_init(|| Ca::generate(2048).unwrap())
}

/// A new platform under it.
pub(crate) fn platform() -> Platform {
    Platform::generate_with_ca(ca(), &PlatformOptions::default()).unwrap()
}

/// The launch digest of a plain SEV guest loaded with this.
pub(crate) fn digest(image: &[u8]) -> String {
    hex::encode(sha256(image))
}

/// A launch request for the platform's full chain.
pub(crate) fn launch_request(platform: &Platform) -> Value {
    json!({"pdh": Base64Bytes(platform.pdh()), "cert-chain": Base64Bytes(platform.full_chain())})
}

/// A started guest and the launch it belongs to.
pub(crate) struct Vm {
    pub(crate) id: Uuid,
    pub(crate) guest: Guest,
}

impl Vm {
    /// Starts a guest with the answer to a launch request.
    pub(crate) fn start(platform: &Platform, reply: &Reply) -> Self {
        let body = &reply.body;
        let session: Base64<128> = serde_json::from_value(body["session"].clone()).unwrap();
        let godh: Base64<2084> = serde_json::from_value(body["owner-cert"].clone()).unwrap();
        let policy = u32::try_from(body["policy"].as_u64().unwrap()).unwrap();
        let guest = platform.launch_start(policy, &godh.0, &session.0).unwrap();
        Self {
            id: body["id"].as_str().unwrap().parse().unwrap(),
            guest,
        }
    }

    /// Loads and measures; what the host then sends to `validate`.
    pub(crate) fn measure(&mut self, image: &[u8]) -> Value {
        self.guest.launch_update_data(image).unwrap();
        self.request()
    }

    /// Measures what was loaded; what the host then sends to `validate`.
    pub(crate) fn request(&mut self) -> Value {
        let measurement = self.guest.launch_measure().unwrap();
        let build = self.guest.build();
        json!({
            "api-major": build.api_major,
            "api-minor": build.api_minor,
            "build-id": build.build_id,
            "policy": self.guest.policy().bits(),
            "measurement": Base64(measurement),
        })
    }

    /// The entries that the guest finds in the packet of this answer: GUID and bytes.
    pub(crate) fn unwrap(&self, reply: &Reply) -> Vec<(Uuid, Vec<u8>)> {
        let header: Base64Bytes = serde_json::from_value(reply.body["secret-header"].clone()).unwrap();
        let payload: Base64Bytes = serde_json::from_value(reply.body["secret-payload"].clone()).unwrap();
        let table = self
            .guest
            .launch_secret(&header.0, &payload.0, payload.0.len())
            .unwrap();
        let entries = keyward::sev::secret_table::parse(&table).unwrap();
        entries
            .iter()
            .map(|entry| (entry.guid, entry.data.to_vec()))
            .collect()
    }

    pub(crate) fn path(&self) -> String {
        format!("/vm/{}/validate", self.id)
    }
}

impl App {
    /// Registers the usual workload: plain SEV, one digest, one passphrase `hunter2`, one policy.
    #[track_caller]
    pub(crate) fn standard(&self) {
        self.apply(standard(json!({})));
    }

    /// Starts a guest of the usual workload on a platform.
    #[track_caller]
    pub(crate) fn start(&self, platform: &Platform) -> Vm {
        let reply = self
            .post(&format!("/vm/{WORKLOAD}/launch"), &launch_request(platform))
            .ok();
        Vm::start(platform, &reply)
    }

    /// What a launch request of the usual workload is answered.
    pub(crate) fn ask_launch(&self, request: &Value) -> Reply {
        self.post(&format!("/vm/{WORKLOAD}/launch"), request)
    }

    /// The reason that is recorded for the owner of a decision that a host got the id of.
    #[track_caller]
    pub(crate) fn reason(&self, reply: &Reply) -> String {
        self.decision(&reply.body["decision"])["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Asks for the secrets of a guest with this request and expects a denial; its recorded reason.
    #[track_caller]
    pub(crate) fn denied(&self, vm: &Vm, request: &Value) -> String {
        let reply = self.post(&vm.path(), request).expect(403, "denied");
        assert_eq!(reply.detail(), "denied", "a host learns that, not why");
        assert!(reply.body.get("secret-payload").is_none());
        self.reason(&reply)
    }

    /// A whole launch: started, loaded with the reviewed image, measured, validated by its id.
    #[track_caller]
    pub(crate) fn run(&self, platform: &Platform) -> (Vm, Reply) {
        let mut vm = self.start(platform);
        let request = vm.measure(IMAGE);
        let reply = self.post(&vm.path(), &request);
        (vm, reply)
    }
}

/// The objects of the usual workload, with members of the workload changed; null removes one.
pub(crate) fn standard(changes: Value) -> Value {
    let mut workload = json!({
        "kind": "Workload",
        "name": "web",
        "uuid": WORKLOAD,
        "scheme": "amd-sev",
        "policy": POLICY,
        "launch_digests": [digest(IMAGE)],
        "secrets": ["disk"],
        "policies": [],
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            workload.as_object_mut().unwrap().remove(name);
        } else {
            workload[name] = value.clone();
        }
    }
    json!([
        super::app::bundle(&[("release/any.rego", ALLOW)]),
        {
            "kind": "Secret", "name": "disk", "type": "luks-passphrase",
            "value": {"base64": "aHVudGVyMg=="}, "policies": ["release.any"],
        },
        workload,
    ])
}

//! A complete example of the input.

use super::decision::Phase;
use super::input::{
    Attested, Claimed, DigestSource, Fingerprints, Host, INPUT_VERSION, Image, Input, Platform, PolicyBits,
    Releases, Scheme, Workload,
};

impl Input {
    /// A complete, plausible document: for the trial evaluation of a bundle, for documentation and for tests.
    pub fn example(phase: Phase) -> Input {
        let attested = match phase {
            Phase::Launch => Attested::default(),
            Phase::Release => example_attested(),
        };
        Input {
            version: INPUT_VERSION,
            phase,
            time: "2026-01-02T03:04:05Z".to_owned(),
            scheme: Scheme::AmdSevEs,
            owner: "example".to_owned(),
            workload: Workload {
                uuid: "6e16ff6e-3d2c-4b4b-8f3f-7a35c1d1f8a4".to_owned(),
                name: "database".to_owned(),
                policy: Some(7),
                vcpus: Some(2),
            },
            secrets: vec!["database/disk".to_owned()],
            secret: None,
            platform: Platform {
                product: Some("milan".to_owned()),
                root: "amd".to_owned(),
                chip_id: Some("11".repeat(64)),
                api_major: 1,
                api_minor: 55,
                fingerprints: Fingerprints {
                    ark: "a1".repeat(32),
                    ask: "a2".repeat(32),
                    cek: "a3".repeat(32),
                    oca: "a4".repeat(32),
                    pek: "a5".repeat(32),
                    pdh: "a6".repeat(32),
                },
            },
            attested,
            claimed: Claimed {
                cpu_count: Some(2),
                ..Claimed::default()
            },
            host: Host {
                address: "192.0.2.10".to_owned(),
                identity: None,
            },
            releases: Releases::default(),
            registration: None,
        }
    }
}

impl Input {
    /// The example with null in every member that may be null in this phase.
    pub fn barest(phase: Phase) -> Input {
        let example = Input::example(phase);
        let attested = Attested {
            image: Image::default(),
            ..example.attested
        };
        Input {
            workload: Workload {
                policy: None,
                vcpus: None,
                ..example.workload
            },
            platform: Platform {
                product: None,
                chip_id: None,
                ..example.platform
            },
            attested,
            claimed: Claimed::default(),
            ..example
        }
    }
}

fn example_attested() -> Attested {
    Attested {
        digest_source: Some(DigestSource::Image),
        policy: Some(7),
        policy_bits: PolicyBits {
            no_debug: Some(true),
            no_key_sharing: Some(true),
            es: Some(true),
            no_send: Some(false),
            domain: Some(false),
            sev: Some(false),
            min_api_major: Some(0),
            min_api_minor: Some(0),
        },
        api_major: Some(1),
        api_minor: Some(55),
        build_id: Some(21),
        launch_digest: Some("c2c0ef40265a7de7176b00dd5e325ad070264a28db825cbeca204c7655092d1d".to_owned()),
        image: Image {
            name: Some("database-2026-01".to_owned()),
            vcpus: Some(2),
            vcpu_type: Some("EPYC-Milan".to_owned()),
            vmsa: Some("init2".to_owned()),
        },
    }
}

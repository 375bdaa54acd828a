//! The fuzz targets on stable: over the committed corpus, and over mutations of it that are the same each time.
//!
//! `cargo fuzz run TARGET` in `fuzz/` goes on from the same corpus. `KEYWARD_UPDATE=1` writes the seeds anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keyward::audit::checkpoint::Checkpoint;
use keyward::audit::export;
use keyward::grpc::messages::{BundleRequest, OnlineSecretRequest, RequestDetails, SecretRequest};
use keyward::policy::Bundle;
use keyward::policy::opa::pack;
use keyward::sev::launch_digest::{CpuModel, SaveArea, VmsaVariant};
use keyward::sev::secret_table;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost::Message as _;
use serde_json::json;

use crate::sev_launch_digest::es_firmware;
use crate::support::host::{IMAGE, launch_request};
use crate::support::{App, Shell, platform};

#[allow(
    unreachable_pub,
    reason = "a crate of its own, whose functions cargo-fuzz's targets call"
)]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use targets::{TARGETS, Target};

/// Mutations of each target's seeds.
const CASES: u32 = 400;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The seeds of a target, by file name.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = fuzz().join("corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (
            entry.file_name().into_string().unwrap(),
            std::fs::read(entry.path()).unwrap(),
        )
    };
    entries.map(read).collect()
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Number(Index, u32),
    Cut(Index, Index),
    Repeat(Index, Index),
    Insert(Index, Vec<u8>),
    Splice(Index, Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let numbers = prop_oneof![
        Just(0),
        Just(1),
        Just(u32::MAX),
        Just(0x7fff_ffff),
        Just(0x8000_0000),
        any::<u32>(),
    ];
    prop_oneof![
        3 => (at(), 1..=255_u8).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        2 => (at(), numbers).prop_map(|(at, number)| Mutation::Number(at, number)),
        1 => (at(), at()).prop_map(|(from, to)| Mutation::Cut(from, to)),
        1 => (at(), at()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..24)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (at(), at(), at()).prop_map(|(seed, from, to)| Mutation::Splice(seed, from, to)),
    ]
}

fn mutated(seeds: &[Vec<u8>], seed: Index, mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = seeds[seed.index(seeds.len())].clone();
    for mutation in mutations {
        let places = bytes.len() + 1;
        let place = |index: &Index| index.index(places);
        match mutation {
            Mutation::Flip(at, bits) => {
                if let Some(byte) = bytes.get_mut(place(at)) {
                    *byte ^= bits;
                }
            }
            Mutation::Number(at, number) => {
                let at = place(at);
                let end = bytes.len().min(at + 4);
                bytes.splice(at..end, number.to_le_bytes());
            }
            Mutation::Cut(from, to) => {
                let (from, to) = (place(from), place(to));
                bytes.drain(from.min(to)..from.max(to));
            }
            Mutation::Repeat(from, to) => {
                let (from, to) = (place(from), place(to));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(from.min(to)..from.min(to), part);
            }
            Mutation::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Mutation::Splice(other, from, to) => {
                let other = &seeds[other.index(seeds.len())];
                let (here, there) = (place(from), to.index(other.len() + 1));
                bytes.truncate(here);
                bytes.extend_from_slice(&other[there..]);
            }
        }
    }
    bytes
}

/// Runs a target over its seeds and their mutations: how many of those it took, and refused.
fn run((name, target): Target) -> (u32, u32) {
    let seeds: Vec<_> = corpus(name).into_values().collect();
    assert!(
        seeds.iter().any(|seed| target(seed)),
        "{name}: takes none of its seeds"
    );
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let counts = std::cell::Cell::new((0, 0));
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let input = (any::<Index>(), prop::collection::vec(mutation(), 1..4));
    let outcome = TestRunner::new_with_rng(config, rng).run(&input, |(seed, mutations)| {
        let taken = target(&mutated(&seeds, seed, &mutations));
        let (some, others) = counts.get();
        counts.set(if taken {
            (some + 1, others)
        } else {
            (some, others + 1)
        });
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    counts.get()
}

macro_rules! targets {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() {
            let target = TARGETS.into_iter().find(|(name, _)| *name == $name).unwrap();
            let (taken, refused) = run(target);
            assert!(taken > 0 && refused > 0, "{taken} were taken and {refused} refused");
        })*

        #[test]
        fn every_target_has_its_program_and_its_test() {
            let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$($name),*]);
            let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
            for name in &names {
                assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
                let program = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
                assert!(program.contains(&format!("keyward_fuzz::{name}(data);")), "{name}");
            }
            assert_eq!(std::fs::read_dir(fuzz().join("fuzz_targets")).unwrap().count(), names.len());
            assert_eq!(std::fs::read_dir(fuzz().join("corpus")).unwrap().count(), names.len());
        }
    };
}

targets! {
    certificates_are_kept_byte_for_byte: "certificate";
    no_chain_verifies_that_no_root_has_signed: "chain";
    firmware_is_measured_as_it_is: "firmware";
    vmsas_are_kept_byte_for_byte: "save_area";
    secret_tables_are_read_as_they_are_built: "secret_table";
    whatever_qemu_says_is_an_answer_or_one_short_error: "qmp";
    manifests_are_read_or_refused_by_their_file: "manifest";
    bundles_stay_inside_of_their_folder_and_their_bounds: "bundle";
    policy_inputs_are_read_as_they_are_written: "policy_input";
    messages_of_simple_kbs_are_read_as_they_are_written: "grpc";
    only_signed_checkpoints_are_opened: "checkpoint";
    audit_records_are_read_as_they_are_written: "audit_record";
    bodies_are_parsed_or_refused: "json_body";
}

/// The seeds. Certificates are made by a platform of chance, so that each time they are others.
fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (app, platform) = (App::new(), platform());
    app.standard();
    let mut vm = app.start(&platform);
    let (validate, reply) = (vm.measure(IMAGE), app.post(&vm.path(), &json!({})));
    assert_eq!(reply.problem(), "malformed");
    let launched = app
        .post(
            &format!("/vm/{}/launch", crate::support::host::WORKLOAD),
            &launch_request(&platform),
        )
        .ok();
    let released = app.post(&vm.path(), &validate).ok();
    let pdh = platform.pdh();
    let chain = platform.cert_chain().unwrap();
    let decode = |value: &serde_json::Value| openssl::base64::decode_block(value.as_str().unwrap()).unwrap();

    let entry = |guid: u128, data: &[u8]| secret_table::Entry {
        guid: uuid::Uuid::from_u128(guid),
        data: zeroize::Zeroizing::new(data.to_vec()),
    };
    let one = secret_table::build(&[entry(1, b"hunter2.")]).unwrap().to_vec();
    let two = secret_table::build(&[entry(1, b"open sesame"), entry(2, &[7; 40])])
        .unwrap()
        .to_vec();
    let area = |variant| {
        SaveArea::boot(CpuModel::ALL[0].signature(), variant)
            .bytes()
            .to_vec()
    };

    let capabilities = json!({"return": {
        "pdh": launch_request(&platform)["pdh"], "cert-chain": "AAAA", "cbitpos": 51, "reduced-phys-bits": 1,
    }, "id": 2});
    let talk = [
        json!({"QMP": {"version": {"qemu": {"micro": 2, "minor": 2, "major": 8}, "package": ""}, "capabilities": ["oob"]}}),
        json!({"return": {}, "id": 1}),
        capabilities,
        json!({"event": "RTC_CHANGE", "timestamp": {"seconds": 1, "microseconds": 7}}),
        json!({"return": {
            "enabled": true, "api-major": 1, "api-minor": 55, "build-id": 8, "policy": 3, "state": "launch-secret", "handle": 1,
        }, "id": 3}),
        json!({"return": {"status": "prelaunch", "running": false}, "id": 4}),
        json!({"return": {"data": validate["measurement"]}, "id": 5}),
    ];
    let lines = |all: &[serde_json::Value]| -> Vec<u8> {
        all.iter()
            .flat_map(|line| format!("{line}\r\n").into_bytes())
            .collect()
    };
    let refused = json!({"error": {"class": "GenericError", "desc": "SEV: no"}, "id": 2});

    let manifest = "kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {base64: aHVudGVyMg==}\npolicies: [release.any]\n---\n\
                    kind: KeySet\nname: all\nsecrets: [disk]\n---\n\
                    kind: Workload\nname: web\nscheme: amd-sev\npolicy: 0x3\nsecrets: [disk]\nlaunch_digests:\n  - \
                    5b5d039d81d24c549cb8ad276d5a03888a2ccd7f76db5e7a5380391ed521cdb5\n";
    let files = BTreeMap::from([
        (
            "release/any.rego".to_owned(),
            b"package release.any\n\nallow := true\n".to_vec(),
        ),
        ("data.json".to_owned(), b"{\"approved\": [1]}".to_vec()),
    ]);
    let input = Shell::new().run(&["psp", "input"]).done();

    let details = RequestDetails {
        guid: uuid::Uuid::from_u128(1).to_string(),
        format: "binary".to_owned(),
        secret_type: "key".to_owned(),
        id: "k1".to_owned(),
    };
    let bundle = BundleRequest {
        certificate_chain: "AAAA".to_owned(),
        policy: 3,
    };
    let secret = SecretRequest {
        launch_id: uuid::Uuid::from_u128(2).to_string(),
        policy: 3,
        api_major: 1,
        secret_requests: vec![details.clone()],
        ..SecretRequest::default()
    };
    let online = OnlineSecretRequest {
        client_id: uuid::Uuid::from_u128(3).to_string(),
        secret_requests: vec![details],
    };
    let message = |kind: u8, bytes: Vec<u8>| [vec![kind], bytes].concat();

    let signer = targets::signer().unwrap();
    let checkpoint = Checkpoint::empty("example.com/fuzz".parse().unwrap());
    let note = checkpoint.sign(&signer).unwrap();
    let page = app
        .owner("GET", "/v1/audit/entries", &serde_json::Value::Null)
        .ok()
        .body;
    let record = serde_json::to_string(&page["items"][0]["record"]).unwrap();
    let body = |kind: char, body: &serde_json::Value| format!("{kind}{body}").into_bytes();

    vec![
        ("certificate", "pdh", pdh.clone()),
        ("certificate", "ark", platform.ark()),
        ("certificate", "measurement", decode(&validate["measurement"])),
        ("certificate", "session", decode(&launched.body["session"])),
        ("chain", "full", platform.full_chain()),
        ("chain", "pdh-first", [pdh.clone(), chain.clone()].concat()),
        ("chain", "signed", [pdh, platform.cert_chain_signed()].concat()),
        ("firmware", "es", es_firmware()),
        ("firmware", "no-table", vec![0; 64]),
        ("save_area", "legacy", area(VmsaVariant::Legacy)),
        ("save_area", "init2", area(VmsaVariant::Init2)),
        ("secret_table", "libvirt", [one.clone(), vec![0; 16]].concat()),
        ("secret_table", "one", one),
        ("secret_table", "two", two),
        ("qmp", "good", lines(&talk)),
        (
            "qmp",
            "refused",
            lines(&[talk[0].clone(), talk[1].clone(), refused]),
        ),
        ("manifest", "three.yaml", manifest.as_bytes().to_vec()),
        (
            "manifest",
            "bundle.yaml",
            b"kind: PolicyBundle\npath: policy\n".to_vec(),
        ),
        ("bundle", "opa.tar.gz", pack(&files).unwrap()),
        (
            "bundle",
            "stored",
            Bundle::from_files(files)
                .unwrap_or_else(|e| panic!("{e:?}"))
                .to_archive(),
        ),
        ("policy_input", "release.json", input.into_bytes()),
        ("grpc", "bundle", message(0, bundle.encode_to_vec())),
        ("grpc", "secret", message(1, secret.encode_to_vec())),
        ("grpc", "online", message(2, online.encode_to_vec())),
        ("checkpoint", "empty", note.to_string().into_bytes()),
        ("checkpoint", "key", signer.verifier().to_string().into_bytes()),
        (
            "audit_record",
            "header",
            export::header("example.com/fuzz").into_bytes(),
        ),
        (
            "audit_record",
            "checkpoint",
            export::checkpoint(&note).into_bytes(),
        ),
        (
            "audit_record",
            "line",
            format!(
                "{{\"index\":0,\"leaf\":\"{}\",\"record\":{record}}}",
                "0".repeat(64)
            )
            .into_bytes(),
        ),
        ("audit_record", "record", record.into_bytes()),
        ("json_body", "launch", body('l', &launch_request(&platform))),
        ("json_body", "validate", body('v', &validate)),
        ("json_body", "launched", body('L', &launched.body)),
        ("json_body", "released", body('V', &released.body)),
    ]
}

#[test]
fn seeds_are_of_today_s_forms() {
    let mut expected = BTreeMap::<_, Vec<_>>::new();
    let update = std::env::var_os("KEYWARD_UPDATE").is_some();
    for (target, name, bytes) in seeds() {
        let (_, run) = TARGETS.into_iter().find(|(known, _)| *known == target).unwrap();
        let taken = run(&bytes);
        let folder = fuzz().join("corpus").join(target);
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), &bytes).unwrap();
        }
        let committed = std::fs::read(folder.join(name)).unwrap_or_default();
        assert_eq!(
            run(&committed),
            taken,
            "{target}/{name}: KEYWARD_UPDATE=1 writes it anew"
        );
        expected.entry(target).or_default().push(name.to_owned());
    }
    for (target, mut names) in expected {
        names.sort();
        assert_eq!(corpus(target).into_keys().collect::<Vec<_>>(), names, "{target}");
    }
}

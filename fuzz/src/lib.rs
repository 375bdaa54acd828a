//! What every parser that meets the network or a file must keep, whatever bytes it is given.
//!
//! One function for each; it panics where something does not hold, and says whether the bytes were taken. `cargo fuzz` calls
//! them from `fuzz_targets/`, the tests over the corpus and mutations of it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use keyward::audit::checkpoint::Checkpoint;
use keyward::audit::export::Line;
use keyward::audit::key::{SignerKey, VerifierKey};
use keyward::audit::note::{MAX_NOTE, Note};
use keyward::audit::record::AuditRecord;
use keyward::grpc::messages::{BundleRequest, OnlineSecretRequest, SecretRequest};
use keyward::host::{Qemu, Qmp};
use keyward::http::{LaunchBody, LaunchReply, RegisterBody, ValidateBody, ValidateReply};
use keyward::policy::opa::{pack, unpack};
use keyward::policy::{Bundle, Input};
use keyward::sev::launch_digest::{Firmware, Measurer, SaveArea};
use keyward::sev::{
    CaCertificate, Certificate, Measurement, PresentedChain, SessionBlob, TrustedRoots, secret_table,
};
use openssl::sha::sha256;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// A target: its name, which is also its corpus's, and what it does. True: the bytes were taken for what they are.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All of them.
pub const TARGETS: [Target; 13] = [
    ("certificate", certificate),
    ("chain", chain),
    ("firmware", firmware),
    ("save_area", save_area),
    ("secret_table", secret_table),
    ("qmp", qmp),
    ("manifest", manifest),
    ("bundle", bundle),
    ("policy_input", policy_input),
    ("grpc", grpc),
    ("checkpoint", checkpoint),
    ("audit_record", audit_record),
    ("json_body", json_body),
];

/// Certificates of both forms, measurements and session blobs: what is read is what was given, byte for byte.
pub fn certificate(data: &[u8]) -> bool {
    let mut taken = false;
    if let Ok(certificate) = Certificate::parse(data) {
        assert_eq!(certificate.as_bytes().as_slice(), data);
        taken = true;
    }
    if let Ok(authority) = CaCertificate::parse(data) {
        assert_eq!(authority.as_bytes(), data);
        taken = true;
    }
    if let Ok(measurement) = Measurement::parse(data) {
        assert_eq!(measurement.to_bytes().as_slice(), data);
        taken = true;
    }
    if let Some(blob) = SessionBlob::parse(data) {
        assert_eq!(blob.to_bytes().as_slice(), data);
        taken = true;
    }
    taken
}

/// A chain, with its PDH in it and with what stands first taken for the PDH: only what a root has signed verifies.
pub fn chain(data: &[u8]) -> bool {
    let split = data.split_at_checked(Certificate::SIZE);
    let both = [
        PresentedChain::parse(None, data),
        PresentedChain::parse(split.map(|(pdh, _)| pdh), split.map_or(data, |(_, rest)| rest)),
    ];
    let mut taken = false;
    for presented in both.into_iter().flatten() {
        taken = true;
        let alone = presented.verify_without_authority();
        let roots = TrustedRoots::amd();
        if let Ok(platform) = presented.verify(&roots) {
            assert!(alone.is_ok() && presented.cek_is_signed());
            assert_eq!(platform.root(), "amd");
            assert!(platform.product().is_some());
        }
    }
    taken
}

/// Firmware: its bytes are kept, and are what is measured, whatever its footer says.
pub fn firmware(data: &[u8]) -> bool {
    let Ok(firmware) = Firmware::parse(data) else {
        return false;
    };
    assert_eq!(firmware.bytes(), data);
    assert_eq!(firmware.hash(), sha256(data));
    let _ = (
        firmware.ap_reset_eip(),
        firmware.secret_area(),
        firmware.has_hash_table(),
    );
    if let Ok(measurer) = Measurer::new(&firmware, None) {
        assert_eq!(measurer.sev(), sha256(data));
    }
    true
}

/// A VMSA: its bytes are kept.
pub fn save_area(data: &[u8]) -> bool {
    let Ok(area) = SaveArea::parse(data) else {
        return false;
    };
    assert_eq!(area.bytes().as_slice(), data);
    let _ = (
        area.cpu().parts(),
        area.variant(),
        area.others_set(),
        area.start(),
    );
    assert_eq!(
        area.registers().count(),
        SaveArea::parse(data).map_or(0, |area| area.registers().count())
    );
    true
}

/// A table of secrets: entries make the same table again, but for the padding.
pub fn secret_table(data: &[u8]) -> bool {
    let Ok(entries) = secret_table::parse(data) else {
        return false;
    };
    let built = secret_table::build(&entries).unwrap_or_default();
    let shorter = built.len().min(data.len());
    assert_eq!(built.get(..shorter), data.get(..shorter));
    assert!(data.len() <= secret_table::MAX && built.len() - shorter < 16 && data.len() - shorter <= 16);
    let again = secret_table::parse(&built).unwrap_or_default();
    let plain = |entries: &[secret_table::Entry]| -> Vec<_> {
        entries
            .iter()
            .map(|entry| (entry.guid, entry.data.clone()))
            .collect()
    };
    assert_eq!(plain(&again), plain(&entries));
    true
}

/// QEMU's side of a conversation, and then its end: an error is one short line.
pub fn qmp(data: &[u8]) -> bool {
    // What a socket's buffer takes, so that one thread can be both sides.
    let data = data.get(..data.len().min(64 << 10)).unwrap_or_default();
    let Ok((mut theirs, ours)) = UnixStream::pair() else {
        return false;
    };
    if theirs
        .write_all(data)
        .and_then(|()| theirs.shutdown(std::net::Shutdown::Write))
        .is_err()
    {
        return false;
    }
    let within = Duration::from_secs(10);
    let talked = Qmp::over(ours, within).map(|qmp| Qemu::new(qmp, within));
    let short = |error: String| assert!(error.len() < 1024 && !error.contains('\n'), "{error}");
    match talked {
        Err(error) => {
            short(error.to_string());
            false
        }
        Ok(mut qemu) => {
            let asked = [
                qemu.capabilities().map(|_| ()),
                qemu.measured(None).map(|_| ()),
                qemu.measurement().map(|_| ()),
            ];
            asked
                .into_iter()
                .filter_map(Result::err)
                .for_each(|error| short(error.to_string()));
            true
        }
    }
}

/// Manifests: what names its objects is read; an error has the file's name.
pub fn manifest(data: &[u8]) -> bool {
    // A manifest may name any file, and some of those never end.
    if ["/dev", "/proc", "/sys"]
        .iter()
        .any(|folder| data.windows(folder.len()).any(|at| at == folder.as_bytes()))
    {
        return false;
    }
    let path = std::env::temp_dir().join(format!("keyward-fuzz-{}.yaml", std::process::id()));
    if std::fs::write(&path, data).is_err() {
        return false;
    }
    let taken = manifest_file(&path);
    let _ = std::fs::remove_file(&path);
    taken
}

fn manifest_file(path: &Path) -> bool {
    let name = path.display().to_string();
    let whole = keyward::manifest::read(path);
    if let Err(error) = &whole {
        assert!(error.to_string().contains(&name), "{error}");
    }
    if let Err(error) = keyward::manifest::named(path) {
        assert!(whole.is_err(), "read, and not named: {error}");
    }
    whole.is_ok()
}

/// Bundles as `bundle.tar.gz` and as the store has them: bounded, inside of their folder, and the same when written again.
pub fn bundle(data: &[u8]) -> bool {
    let mut taken = false;
    if let Ok(files) = unpack(data) {
        inside(&files);
        let packed = pack(&files).unwrap_or_default();
        assert_eq!(unpack(&packed).ok(), Some(files));
        taken = true;
    }
    if let Ok(bundle) = Bundle::from_archive(data) {
        assert_eq!(bundle.to_archive(), data);
        assert_eq!(bundle.digest(), sha256(data));
        taken = true;
    }
    taken
}

fn inside(files: &BTreeMap<String, Vec<u8>>) {
    let bytes: usize = files.values().map(Vec::len).sum();
    assert!(bytes <= keyward::policy::opa::MAX_PACKED_BYTES);
    for path in files.keys() {
        assert!(
            !path.starts_with('/') && path.split('/').all(|part| !part.is_empty() && part != ".."),
            "{path}"
        );
    }
}

/// The document that policies read.
pub fn policy_input(data: &[u8]) -> bool {
    let Ok(input) = serde_json::from_slice::<Input>(data) else {
        return false;
    };
    let text = serde_json::to_string(&input).unwrap_or_default();
    assert_eq!(serde_json::from_str::<Input>(&text).ok(), Some(input));
    true
}

/// Messages of simple-kbs's service; the first byte says which.
pub fn grpc(data: &[u8]) -> bool {
    match data.split_first() {
        Some((0, message)) => decoded::<BundleRequest>(message),
        Some((1, message)) => decoded::<SecretRequest>(message),
        Some((2, message)) => decoded::<OnlineSecretRequest>(message),
        _ => false,
    }
}

fn decoded<M: Message + Default + PartialEq>(bytes: &[u8]) -> bool {
    let Ok(message) = M::decode(bytes) else {
        return false;
    };
    let again = M::decode(message.encode_to_vec().as_slice());
    assert!(again.is_ok_and(|again| again == message));
    true
}

/// The key that the corpus's checkpoints are signed with.
pub fn signer() -> Option<SignerKey> {
    SignerKey::from_seed("example.com/fuzz".parse().ok()?, Zeroizing::new([7; 32])).ok()
}

/// Checkpoints as signed notes, and verifiers' keys: what verifies was signed, byte for byte.
pub fn checkpoint(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse().ok(), Some(key));
    }
    let Ok(note) = Note::parse(text) else {
        return false;
    };
    assert!(text.len() <= MAX_NOTE);
    assert_eq!(Note::parse(&note.to_string()).ok(), Some(note.clone()));
    if let Some(signer) = signer()
        && let Ok(opened) = Checkpoint::open(text, signer.verifier())
    {
        // Ed25519 has one signature for a text.
        let signed = opened.sign(&signer).map(|note| note.to_string());
        assert!(
            signed.is_ok_and(|signed| signed.starts_with(&opened.text()) && text.starts_with(&opened.text()))
        );
    }
    true
}

/// Lines of an audit log's export, and the records in them.
pub fn audit_record(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let line = Line::parse(text);
    let leaf = match &line {
        Ok(Line::Record {
            record: Some(record), ..
        }) => record,
        _ => text,
    };
    let record = AuditRecord::from_leaf(leaf);
    if let Ok(record) = &record {
        // What is written again is read again, and written the same.
        let written = record.to_leaf().map(|leaf| leaf.as_str().to_owned());
        if let Ok(written) = written {
            let again = AuditRecord::from_leaf(&written).and_then(|record| record.to_leaf());
            assert!(again.is_ok_and(|leaf| leaf.as_str() == written));
        }
    }
    line.is_ok() || record.is_ok()
}

/// Bodies of the host's calls and the answers that hosts read; the first byte says which.
pub fn json_body(data: &[u8]) -> bool {
    match data.split_first() {
        Some((b'l', body)) => serde_json::from_slice::<LaunchBody>(body).is_ok(),
        Some((b'v', body)) => serde_json::from_slice::<ValidateBody>(body).is_ok(),
        Some((b'r', body)) => serde_json::from_slice::<RegisterBody>(body).is_ok(),
        Some((b'L', body)) => round::<LaunchReply>(body),
        Some((b'V', body)) => round::<ValidateReply>(body),
        _ => false,
    }
}

fn round<T: Serialize + DeserializeOwned>(body: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<T>(body) else {
        return false;
    };
    let written = serde_json::to_value(&read).unwrap_or_default();
    let again = serde_json::from_value::<T>(written.clone()).and_then(serde_json::to_value);
    assert_eq!(again.ok(), Some(written));
    true
}

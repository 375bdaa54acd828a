//! `kds import`: chains with an unsigned CEK, on a host without a route to AMD's service.

use std::path::PathBuf;

use keyward::domain::Base64Bytes;
use serde_json::{Value, json};

use crate::kds_completion::launch;
use crate::support::command::{Ended, keyward};
use crate::support::{App, Reply, platform, vectors};

const SIZE: usize = 2084;

/// A real platform: its full chain as exported, PDH first.
struct Rome(Vec<u8>);

impl Rome {
    fn read() -> Option<Self> {
        vectors::read("rome-chain.bin").map(Self)
    }

    fn part(&self, number: usize) -> &[u8] {
        &self.0[number * SIZE..(number + 1) * SIZE]
    }

    fn cek(&self) -> &[u8] {
        self.part(3)
    }

    /// The CEK as QEMU gives it: both slots of signatures marked invalid and zero.
    fn unsigned_cek(&self) -> Vec<u8> {
        let mut cek = self.cek().to_vec();
        cek[1044..].fill(0);
        for slot in [1044, 1564] {
            cek[slot..slot + 4].copy_from_slice(&0x1000_u32.to_le_bytes());
        }
        cek
    }

    /// What a host sends of `query-sev-capabilities`.
    fn request(&self) -> Value {
        let chain = [self.part(1), self.part(2), &self.unsigned_cek()].concat();
        json!({"pdh": Base64Bytes(self.part(0).to_vec()), "cert-chain": Base64Bytes(chain)})
    }
}

/// Refuses every launch, so that what was known of the platform is in a decision.
fn refusing(app: &App) {
    app.standard();
    let policy = "package release.any\n\nallow := true\n\nallow_launch := false\n";
    app.bundle(&[("release/any.rego", policy)]);
}

fn chip_id(app: &App, reply: Reply) -> Value {
    let reply = reply.expect(403, "denied");
    let input = app.decision(&reply.body["decision"])["input"].clone();
    assert_eq!(input["platform"]["root"], "amd");
    assert_eq!(input["platform"]["product"], "rome");
    input["platform"]["chip_id"].clone()
}

fn file(app: &App, name: &str, bytes: &[u8]) -> PathBuf {
    let path = app.folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn import(app: &App, arguments: &[&str], files: &[PathBuf]) -> Ended {
    let folder = app.folder.path().to_str().unwrap();
    let mut all = vec!["kds", "import", "--data-dir", folder];
    all.extend(arguments);
    all.extend(files.iter().map(|file| file.to_str().unwrap()));
    keyward(all)
}

#[test]
fn an_imported_cek_completes_a_real_chain() {
    let Some(rome) = Rome::read() else { return };
    let app = App::new();
    app.standard();
    let refused = launch(&app, &rome.request()).expect(422, "chain-invalid");
    assert!(
        refused.detail().contains("CEK: not signed"),
        "{}",
        refused.detail()
    );

    let imported = import(&app, &[], &[file(&app, "rome.cek", rome.cek())]).ok();
    assert!(
        imported.stdout.contains("CEK of a rome, known by its key alone"),
        "{}",
        imported.stdout
    );
    launch(&app, &rome.request()).ok();
    // Known by its key alone: whatever id the host claims, the chip stays unproved.
    let mut claiming = rome.request();
    claiming["cpu-id"] = json!("ab".repeat(64));
    launch(&app, &claiming).ok();
    refusing(&app);
    assert_eq!(chip_id(&app, launch(&app, &claiming)), Value::Null);
}

#[test]
fn an_id_given_at_the_import_or_as_the_file_s_name_is_the_chip_s() {
    let Some(rome) = Rome::read() else { return };
    let id = "5c".repeat(64);
    for (name, arguments) in [
        ("rome.cek", vec!["--cpu-id", &id]),
        (&format!("{id}.bin"), vec![]),
    ] {
        let app = App::new();
        refusing(&app);
        let imported = import(&app, &arguments, &[file(&app, name, rome.cek())]).ok();
        assert!(imported.stdout.contains(&id), "{}", imported.stdout);

        let mut request = rome.request();
        assert_eq!(chip_id(&app, launch(&app, &request)), id);
        request["cpu-id"] = json!(id);
        assert_eq!(chip_id(&app, launch(&app, &request)), id);
        request["cpu-id"] = json!("00".repeat(64));
        let another = launch(&app, &request);
        assert_eq!(another.status, 422, "{}", another.body);
    }
}

#[test]
fn only_what_amd_signed_is_imported_and_all_files_or_none() {
    let Some(rome) = Rome::read() else { return };
    let app = App::new();
    app.standard();
    let mut forged = rome.cek().to_vec();
    forged[1052] ^= 1;
    let good = file(&app, "good.cek", rome.cek());
    for (name, bytes) in [
        ("a-pek", rome.part(1).to_vec()),
        ("an-oca", rome.part(2).to_vec()),
        ("an-unsigned-cek", rome.unsigned_cek()),
        ("a-forged-cek", forged),
        ("a-cek-of-another-root", platform().signed_cek()),
        ("a-whole-chain", rome.0.clone()),
        ("a-short-one", rome.cek()[1..].to_vec()),
        ("an-empty-one", Vec::new()),
    ] {
        let failed = import(&app, &[], &[good.clone(), file(&app, name, &bytes)]).expect(1);
        assert!(failed.stderr.contains(name), "{name}: {}", failed.stderr);
        assert_eq!(failed.stdout, "", "{name}");
    }
    import(&app, &[], &[good.clone(), app.folder.path().join("absent")]).expect(1);
    import(
        &app,
        &["--cpu-id", &"5c".repeat(64)],
        &[good.clone(), good.clone()],
    )
    .expect(64);
    import(&app, &["--cpu-id", "5c"], std::slice::from_ref(&good)).expect(64);
    launch(&app, &rome.request()).expect(422, "chain-invalid");

    import(&app, &[], &[good]).ok();
    launch(&app, &rome.request()).ok();
}

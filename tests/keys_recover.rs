//! What was lost is put back where the server looks for it: while a rotation was under way, and whoever runs it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::path::PathBuf;

use keyward::domain::sealed::{KeyLocation, KeyState};
use keyward::store::keys::Keys as _;
use serde_json::Value;

use crate::keys_escrow::{UNSEAL, escrow, mode, recover, with_offline_key};
use crate::keys_rotation::{self, SECRETS, killed_rotation, store};
use crate::support::Shell;
use crate::support::cli::Ran;
use crate::support::softhsm::{module, token};

fn states(shell: &Shell) -> Vec<KeyState> {
    let keys = store(shell).sealing_keys().unwrap();
    keys.into_iter().map(|key| key.state).collect()
}

/// A data folder in which a rotation to this provider was killed midway, in escrow.
fn midway(shell: &Shell, to: impl Fn(usize) -> String) {
    with_offline_key(shell);
    // One that came to its end before it was killed is begun anew.
    let killed = (0..20).any(|round| {
        killed_rotation(shell, SECRETS, &["--to", &to(round)]);
        states(shell).contains(&KeyState::Retiring)
    });
    assert!(killed);
}

/// The files of the keys that something is sealed under.
fn files(shell: &Shell) -> Vec<PathBuf> {
    let keys = store(shell).sealing_keys().unwrap().into_iter();
    let keys = keys.filter(|key| key.state != KeyState::Retired);
    let places = keys.map(|key| key.location.below(&shell.path("data")));
    let files = places.filter_map(|place| match place {
        KeyLocation::File(path) => Some(path),
        KeyLocation::Pkcs11(_) => None,
    });
    files.collect()
}

/// Every sealed value opens, by what the server would use.
fn opens(shell: &Shell, more: &[&str]) {
    let checked = shell.run(&[&["keys", "check", "--data-dir", "data", "-o", "json"], more].concat());
    let checked: Value = checked.json();
    assert_eq!(checked["damaged"].as_array().unwrap().len(), 0);
}

#[test]
fn both_key_files_of_a_rotation_that_was_killed_come_back_and_the_server_opens_everything() {
    let mut shell = keys_rotation::prepared();
    midway(&shell, |round| format!("{{file: key-{round}}}"));
    escrow(&shell, &["--to", "recovery.pub", "--out", "sealed"]).done();
    let files = files(&shell);
    assert_eq!(files.len(), 2);
    let texts: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    // Each by itself, and both.
    for lost in [&[0][..], &[1], &[0, 1]] {
        for at in lost {
            std::fs::remove_file(&files[*at]).unwrap();
        }
        let told = recover(&shell, &UNSEAL).done();
        assert_eq!(told.matches("Key file  ").count(), lost.len(), "{told}");
        for (file, text) in files.iter().zip(&texts) {
            assert!(std::fs::read(file).unwrap() == *text, "{}", file.display());
        }
        opens(&shell, &[]);
        drop(shell.served());
    }
    // One that is there, but is another: nothing is written beside it.
    std::fs::remove_file(&files[0]).unwrap();
    std::fs::copy(&files[1], &files[0]).unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    let refused = recover(&shell, &UNSEAL).failed();
    assert!(
        refused.contains("exists already and is not overwritten"),
        "{refused}"
    );
    assert!(!files[1].exists());
    std::fs::remove_file(&files[0]).unwrap();

    let elsewhere = ["--key-file", "all.key"];
    let told = recover(&shell, &[&UNSEAL[..], &elsewhere].concat()).done();
    for verb in ["rotate", "serve"] {
        let next = format!("{verb} --data-dir data --key-file all.key");
        assert!(told.contains(&next), "{told}");
    }
    assert!(files.iter().all(|file| !file.exists()));
    assert_eq!(shell.read("all.key").lines().count(), 2);
    opens(&shell, &elsewhere);
    let rotate = ["keys", "rotate", "--data-dir", "data"];
    shell.run(&[&rotate[..], &elsewhere].concat()).done();
    assert!(!states(&shell).contains(&KeyState::Retiring));
    opens(&shell, &elsewhere);
}

#[test]
fn the_file_of_a_rotation_to_a_token_is_put_in_escrow_and_comes_back() {
    let Some(module) = module() else { return };
    let mut shell = keys_rotation::prepared();
    let provider = token(&mut shell, module);
    midway(&shell, |_| provider.clone());
    let noted = |run: Ran| {
        let note = run.err.starts_with("note: the key ") && run.err.contains(" is in the token keyward ");
        assert!(run.code == 0 && note, "{}{}", run.out, run.err);
        run.out
    };
    noted(escrow(&shell, &["--to", "recovery.pub", "--out", "sealed"]));
    noted(escrow(&shell, &["--check", "sealed"]));
    let key = shell.read("data/keyward.key");
    std::fs::remove_file(shell.path("data/keyward.key")).unwrap();
    let told = noted(recover(&shell, &[&UNSEAL[..], &["-o", "json"]].concat()));
    let recovered: Value = serde_json::from_str(&told).unwrap();
    for count in ["opened", "in_token"] {
        assert!(recovered[count].as_u64().unwrap() > 0, "{recovered}");
    }
    assert_eq!(recovered["damaged"].as_array().unwrap().len(), 0);
    assert_eq!(shell.read("data/keyward.key"), key);
    opens(&shell, &[]);
}

/// A data folder without its key file, and its escrow.
fn lost() -> Shell {
    let shell = Shell::initialised();
    with_offline_key(&shell);
    escrow(&shell, &["--to", "recovery.pub", "--out", "sealed"]).done();
    std::fs::rename(shell.path("data/keyward.key"), shell.path("opened.key")).unwrap();
    shell
}

#[test]
fn what_root_recovers_is_the_servers() {
    let shell = lost();
    if chown(shell.path("data/keyward.db"), Some(12345), Some(12346)).is_err() {
        eprintln!("NOT TESTED: what root recovers, as this is not root");
        return;
    }
    recover(&shell, &UNSEAL).done();
    let found = std::fs::metadata(shell.path("data/keyward.key")).unwrap();
    assert_eq!((found.uid(), found.gid()), (12345, 12346));
    assert_eq!(mode(&shell, "data/keyward.key"), 0o600);
}

#[test]
fn nothing_is_recovered_while_keys_are_rotated() {
    let shell = lost();
    let folder = std::fs::File::open(shell.path("data")).unwrap();
    folder.lock().unwrap();
    let refused = recover(&shell, &UNSEAL).failed();
    assert!(refused.contains("is at work on data"), "{refused}");
    assert!(!shell.path("data/keyward.key").exists());
    drop(folder);
    recover(&shell, &UNSEAL).done();
}

#[test]
fn that_a_key_in_clear_or_a_private_key_is_open_to_others_is_said() {
    let shell = lost();
    for (name, files) in [("opened.key", &["opened.key"][..]), ("recovery.key", &UNSEAL)] {
        for (mode, told) in [(0o644, true), (0o600, false)] {
            let path = shell.path(name);
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            let run = recover(&shell, files);
            let note = format!("note: {name} can be read by others (mode 0644)");
            assert_eq!(run.err.contains(&note), told, "{}", run.err);
            assert_eq!(run.code, 0);
            std::fs::remove_file(shell.path("data/keyward.key")).unwrap();
        }
    }
}

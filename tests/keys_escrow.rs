//! The key file in other hands, sealed or split, and back again: only the right key, only where none is.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::domain::Clock as _;
use keyward::sealing::escrow::share::Share;
use keyward::sealing::escrow::{Parts, join, split};
use keyward::sealing::key_file::FileKeyBytes;
use keyward::sealing::new_key;
use keyward::sev::SystemRandom;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use serde_json::Value;

use crate::sealing::spellings;
use crate::support::Shell;
use crate::support::cli::Ran;
use crate::support::softhsm::{module, token};

/// Private and public key in PEM: made once, as RSA keys take their time.
fn offline(which: usize) -> &'static (Vec<u8>, Vec<u8>) {
    static KEYS: OnceLock<[(Vec<u8>, Vec<u8>); 2]> = OnceLock::new();
    let make = |_| {
        let key = PKey::from_rsa(Rsa::generate(3072).unwrap()).unwrap();
        (
            key.private_key_to_pem_pkcs8().unwrap(),
            key.public_key_to_pem().unwrap(),
        )
    };
    &KEYS.get_or_init(|| [0, 1].map(make))[which]
}

/// The offline key beside a data folder.
pub(crate) fn with_offline_key(shell: &Shell) {
    private(shell, "recovery.key", &offline(0).0);
    shell.write("recovery.pub", &offline(0).1);
}

/// A file that nobody else may read.
fn private(shell: &Shell, name: &str, content: &[u8]) {
    shell.write(name, content);
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(shell.path(name), mode).unwrap();
}

/// A data folder, an offline key beside it, and shares of 3 of 5.
fn prepared() -> Shell {
    let shell = Shell::initialised();
    with_offline_key(&shell);
    escrow(&shell, &["--to", "recovery.pub", "--out", "sealed"]).done();
    escrow(&shell, &["--split", "3-of-5", "--out-dir", "shares"]).done();
    shell
}

pub(crate) fn escrow(shell: &Shell, more: &[&str]) -> Ran {
    shell.run(&[&["keys", "escrow", "--data-dir", "data"], more].concat())
}

pub(crate) fn recover(shell: &Shell, more: &[&str]) -> Ran {
    shell.run(&[&["keys", "recover", "--data-dir", "data"], more].concat())
}

fn share(number: usize) -> String {
    format!("shares/share-{number}-of-5.txt")
}

/// Recovers from these shares.
fn shares(shell: &Shell, numbers: &[usize]) -> Ran {
    let files: Vec<_> = numbers.iter().map(|number| share(*number)).collect();
    recover(shell, &files.iter().map(String::as_str).collect::<Vec<_>>())
}

fn lose(shell: &Shell) -> String {
    let key = shell.read("data/keyward.key");
    std::fs::remove_file(shell.path("data/keyward.key")).unwrap();
    key
}

pub(crate) fn mode(shell: &Shell, name: &str) -> u32 {
    let found = std::fs::metadata(shell.path(name)).unwrap();
    found.permissions().mode() & 0o7777
}

pub(crate) const UNSEAL: [&str; 3] = ["sealed", "--private-key", "recovery.key"];

#[test]
fn the_private_key_opens_what_was_sealed_and_the_key_file_is_as_it_was() {
    let shell = prepared();
    let key = lose(&shell);
    let refused = shell.run(&["serve", "--data-dir", "data"]).failed();
    assert!(refused.contains("`keyward keys recover`"), "{refused}");
    let told = recover(&shell, &UNSEAL).done();
    assert!(told.contains("Key file  data/keyward.key\n"), "{told}");
    assert_eq!(shell.read("data/keyward.key"), key);
    assert_eq!(mode(&shell, "data/keyward.key"), 0o600);
    shell.run(&["keys", "check", "--data-dir", "data"]).done();
    for name in ["sealed", "shares/share-1-of-5.txt"] {
        assert_eq!(mode(&shell, name), 0o600, "{name}");
    }
    assert_eq!(mode(&shell, "shares"), 0o700);
}

#[test]
fn every_three_of_five_shares_recover_and_no_two_do() {
    let shell = prepared();
    let key = lose(&shell);
    for first in 1..=5 {
        for second in (1..=5).filter(|second| *second != first) {
            let refused = shares(&shell, &[first, second]).failed();
            assert_eq!(
                refused,
                "error: 2 of the 3 shares that are needed: bring 1 more\n"
            );
            for third in second + 1..=5 {
                if first < second {
                    // In any order.
                    shares(&shell, &[third, first, second]).done();
                    assert_eq!(lose(&shell), key);
                }
            }
        }
    }
    shares(&shell, &[1, 2, 3, 4, 5]).done();
    assert_eq!(shell.read("data/keyward.key"), key);
}

#[test]
fn every_subset_that_is_large_enough_joins_to_the_same_keys_and_smaller_ones_never() {
    let keys: Vec<FileKeyBytes> = (0..2).map(|_| new_key(&SystemRandom).unwrap()).collect();
    let now = keyward::domain::SystemClock.now();
    for (needed, of) in [(2, 2), (2, 3), (3, 5), (5, 6)] {
        let parts = Parts::new(needed, of).unwrap();
        let made = split(&keys, parts, now, &SystemRandom).unwrap();
        let texts: Vec<_> = made.iter().map(Share::to_text).collect();
        for chosen in 1_u32..1 << of {
            let some = (0..usize::from(of)).filter(|at| chosen & (1 << at) != 0);
            let some: Vec<_> = some.map(|at| Share::parse(&texts[at]).unwrap()).collect();
            match join(&some) {
                Ok(joined) => {
                    assert!(some.len() >= usize::from(needed));
                    assert!(joined.keys == keys && joined.made_up.is_empty());
                }
                Err(error) => assert!(some.len() < usize::from(needed), "{error}"),
            }
        }
    }
    for wrong in ["1-of-3", "4-of-3", "2-of-17", "0-of-0", "3", "x-of-y"] {
        assert!(wrong.parse::<Parts>().is_err(), "{wrong}");
    }
}

#[test]
fn one_share_less_than_needed_fits_every_key_as_well_as_the_right_one() {
    // Two keys, split 2 of 2 very often: each byte of a first share takes every value, whatever the key.
    let now = keyward::domain::SystemClock.now();
    for key in [[0_u8; 32], [0xff; 32]] {
        let mut seen = [[false; 256]; 32];
        for _ in 0..6000 {
            let keys = [FileKeyBytes::new(key)];
            let made = split(&keys, Parts::new(2, 2).unwrap(), now, &SystemRandom).unwrap();
            for (at, byte) in bytes_of(&made[0].to_text()).into_iter().enumerate() {
                seen[at][usize::from(byte)] = true;
            }
        }
        assert!(seen.iter().flatten().all(|seen| *seen));
    }
}

/// The bytes of a share, from its text.
fn bytes_of(text: &str) -> Vec<u8> {
    let lines = text.split("\n\n").nth(1).unwrap().lines();
    let digits = lines.map(|line| line.split_whitespace().skip(1).take(4).collect::<String>());
    hex::decode(digits.collect::<String>()).unwrap()
}

#[test]
fn a_share_may_be_typed_in_in_capitals_and_without_its_groups() {
    let shell = prepared();
    let key = lose(&shell);
    let text = shell.read(&share(1));
    let (head, body) = text.split_once("\n\n").unwrap();
    let typed = body.lines().map(|line| {
        let mut words = line.split_whitespace();
        let number = words.next().unwrap();
        format!("\r\n  {number} {}\r\n", words.collect::<String>().to_uppercase())
    });
    shell.write(&share(1), format!("{head}\n{}", typed.collect::<String>()));
    shares(&shell, &[1, 2, 3]).done();
    assert_eq!(shell.read("data/keyward.key"), key);
}

#[test]
fn a_slip_in_a_share_is_refused_with_the_file_and_the_line() {
    let shell = prepared();
    lose(&shell);
    let text = shell.read(&share(2));
    let flip = |line: &str| {
        // The last digit but the check digits of a line, or of the head's set.
        let at = line.rfind("  ").map_or(line.len() - 1, |at| at - 1);
        let mut line = line.as_bytes().to_vec();
        line[at] = if line[at] == b'0' { b'1' } else { b'0' };
        String::from_utf8(line).unwrap()
    };
    let lines: Vec<_> = text.lines().collect();
    let (mut head, mut body) = (0, 0);
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let mut changed: Vec<_> = lines.iter().map(ToString::to_string).collect();
        changed[at] = match line.split_whitespace().next().unwrap() {
            "set" | "check" => {
                let end = if line.ends_with('0') { "1" } else { "0" };
                format!("{}{end}", &line[..line.len() - 1])
            }
            "share" => line.replace("any 3", "any 2"),
            "made" => line.replace("20", "21"),
            "keys" => format!("{}0123456789abcdef", &line[..line.len() - 16]),
            "keyward-share-v1" => continue,
            _ => flip(line),
        };
        shell.write(&share(2), changed.join("\n"));
        let refused = shares(&shell, &[1, 2, 3]).failed();
        assert!(
            refused.starts_with("error: shares/share-2-of-5.txt: "),
            "{refused}"
        );
        let number = line.split_whitespace().next().unwrap();
        if number.parse::<u32>().is_ok() {
            body += 1;
            let line = format!("the line numbered {number} does not fit its check digits");
            assert!(refused.contains(&line), "{refused}");
        } else {
            head += 1;
            assert!(
                refused.contains("the lines above `check` do not fit"),
                "{refused}"
            );
        }
        // A line that is missing, and two lines in the wrong order.
        changed.remove(at);
        shell.write(&share(2), changed.join("\n"));
        let refused = shares(&shell, &[1, 2, 3]).failed();
        assert!(refused.contains("share-2-of-5.txt: line "), "{refused}");
    }
    assert_eq!((head, body), (5, 4));
    // A line of another share, with its own check digits.
    let other = shell.read(&share(3));
    let (mine, theirs) = (lines[lines.len() - 1], other.lines().last().unwrap());
    shell.write(&share(2), text.replace(mine, theirs));
    let refused = shares(&shell, &[1, 2, 3]).failed();
    assert!(
        refused.contains("share-2-of-5.txt: the line numbered 4"),
        "{refused}"
    );
    assert!(!shell.path("data/keyward.key").exists());
}

#[test]
fn shares_of_another_set_the_same_twice_and_made_up_ones_are_named() {
    let shell = prepared();
    let key = lose(&shell);
    shell.write("data/keyward.key", &key);
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(shell.path("data/keyward.key"), private).unwrap();
    escrow(&shell, &["--split", "3-of-5", "--out-dir", "later"]).done();
    lose(&shell);
    let [one, two, three] = [1, 2, 3].map(share);
    let refused = recover(&shell, &[&one, "later/share-4-of-5.txt", &two]).failed();
    assert!(
        refused.starts_with("error: later/share-4-of-5.txt is of another set ("),
        "{refused}"
    );
    let refused = recover(&shell, &[&one, &two, &one]).failed();
    assert!(
        refused.contains(&format!("{one} and {one} are the same share")),
        "{refused}"
    );
    let refused = recover(&shell, &[&one, "sealed"]);
    assert_eq!(refused.code, 64, "{}", refused.err);

    // Somebody makes a share up: of the same set, with good check digits.
    let genuine = Share::parse(&shell.read(&three)).unwrap();
    let random = new_key(&SystemRandom).unwrap();
    let forged = split(&[random], genuine.parts, genuine.carried.made, &SystemRandom).unwrap();
    let mut forged = forged.into_iter().nth(2).unwrap();
    (forged.set, forged.carried) = (genuine.set, genuine.carried.clone());
    shell.write(&three, &*forged.to_text());
    let refused = shares(&shell, &[1, 2, 3]).failed();
    assert!(refused.contains("at least one was made up"), "{refused}");
    let told = shares(&shell, &[1, 2, 3, 4]).done();
    assert!(told.contains("Made up   shares/share-3-of-5.txt: "), "{told}");
    assert_eq!(told.matches("Made up").count(), 1, "{told}");
    assert_eq!(shell.read("data/keyward.key"), key);
}

#[test]
fn another_private_key_a_wrong_passphrase_and_a_changed_escrow_are_refused() {
    let shell = prepared();
    lose(&shell);
    shell.write("other.key", &offline(1).0);
    let refused = recover(&shell, &["sealed", "--private-key", "other.key"]).failed();
    assert!(
        refused.contains("it is another key than the one that the escrow is sealed to"),
        "{refused}"
    );
    let key = PKey::private_key_from_pem(&offline(0).0).unwrap();
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    let locked = key
        .private_key_to_pem_pkcs8_passphrase(cipher, b"open sesame")
        .unwrap();
    private(&shell, "locked.key", &locked);
    private(&shell, "passphrase", b"open sesame\n");
    shell.write("wrong", "open barley\n");
    let with = ["sealed", "--private-key", "locked.key"];
    let refused = recover(&shell, &with).failed();
    assert!(
        refused.contains("it is encrypted: give its passphrase"),
        "{refused}"
    );
    let refused = recover(&shell, &[&with[..], &["--passphrase-file", "wrong"]].concat()).failed();
    assert!(
        refused.contains("its passphrase is not the one in --passphrase-file"),
        "{refused}"
    );
    assert_eq!(recover(&shell, &["sealed"]).code, 64);

    let text = shell.read("sealed");
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut ciphertext = STANDARD.decode(body.replace('\n', "")).unwrap();
    ciphertext[40] ^= 1;
    let changed = format!("{head}\n\n{}\n", STANDARD.encode(&ciphertext));
    shell.write("changed", claimed(&changed));
    // Another id on top of the same keys.
    let id = head.split_whitespace().nth(2).unwrap();
    shell.write("renamed", claimed(&text.replace(id, "0123456789abcdef")));
    for changed in ["changed", "renamed"] {
        let refused = recover(&shell, &[changed, "--private-key", "recovery.key"]).failed();
        assert!(
            refused.contains("is not what the escrow says it carries"),
            "{refused}"
        );
    }
    shell.write("cut", head);
    let refused = recover(&shell, &["cut", "--private-key", "recovery.key"]).failed();
    assert!(
        refused.contains("cut: line 6: expected the sealed keys in base64"),
        "{refused}"
    );
    shell.write("letter", "Dear keeper of the key,\n");
    let refused = recover(&shell, &["letter"]).failed();
    assert!(
        refused.contains("letter is no escrow: expected a file that begins with"),
        "{refused}"
    );
    assert!(!shell.path("data/keyward.key").exists());
    let opened = recover(
        &shell,
        &[&with[..], &["--passphrase-file", "passphrase"]].concat(),
    );
    opened.done();
}

/// The text of a sealed escrow with the `check` of what it says now, as anybody can make it.
fn claimed(text: &str) -> String {
    let (head, body) = text.split_once("\n\n").unwrap();
    let (above, _) = head.split_once("check ").unwrap();
    let ciphertext = STANDARD.decode(body.replace('\n', "")).unwrap();
    let digest = openssl::sha::sha256(&[above.as_bytes(), &ciphertext].concat());
    format!("{above}check      {}\n\n{body}", hex::encode(digest))
}

#[test]
fn a_sealed_escrow_that_is_cut_or_damaged_is_not_called_current() {
    let shell = prepared();
    let text = shell.read("sealed");
    assert_eq!(claimed(&text), text);
    let mut wrong = Vec::new();
    let lines: Vec<_> = text.lines().collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let with = |new: Option<String>| {
            let mut lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
            lines.splice(at..=at, new);
            lines.join("\n")
        };
        wrong.push(with(None));
        wrong.push(with(Some(format!("{line} more"))));
        wrong.push(with(Some(format!("{}\n{line}", lines[0]))));
        // One digit or letter is another.
        let end = line.trim_end_matches('=').len() - 1;
        let other = if line[end..].starts_with('1') { "2" } else { "1" };
        wrong.push(with(Some(format!("{}{other}{}", &line[..end], &line[end + 1..]))));
    }
    wrong.push(format!("{text}AAAA\n"));
    for wrong in wrong {
        shell.write("damaged", &wrong);
        let refused = escrow(&shell, &["--check", "damaged"]).failed();
        assert!(refused.starts_with("error: damaged"), "{refused}\n{wrong}");
    }
    escrow(&shell, &["--check", "sealed"]).done();
}

#[test]
fn the_escrow_of_another_data_folder_is_refused_and_nothing_is_written() {
    let shell = prepared();
    lose(&shell);
    shell.run(&["init", "--data-dir", "other", "--owner", "b"]).done();
    let other = ["keys", "escrow", "--data-dir", "other"];
    shell
        .run(&[&other[..], &["--split", "2-of-2", "--out-dir", "others"]].concat())
        .done();
    shell
        .run(&[&other[..], &["--to", "recovery.pub", "--out", "other.sealed"]].concat())
        .done();
    for files in [
        &["others/share-1-of-2.txt", "others/share-2-of-2.txt"][..],
        &["other.sealed", "--private-key", "recovery.key"],
        &["other/keyward.key"],
    ] {
        let refused = recover(&shell, files).failed();
        assert!(
            refused.contains("the escrow is another data folder's: it carries the key "),
            "{refused}"
        );
    }
    assert!(!shell.path("data/keyward.key").exists());
    assert_eq!(shell.list("data"), ["keyward.db", "keyward.yaml"]);
}

#[test]
fn a_key_of_the_right_name_that_opens_nothing_is_refused() {
    let shell = prepared();
    lose(&shell);
    shell.run(&["init", "--data-dir", "other", "--owner", "b"]).done();
    // The folder is told that the other's key is its own.
    let id = |folder: &str| {
        let database = rusqlite::Connection::open(shell.path(&format!("{folder}/keyward.db"))).unwrap();
        let id = database.query_row("SELECT id FROM sealing_keys", [], |row| row.get::<_, Vec<u8>>(0));
        (database, id.unwrap())
    };
    let (database, _) = id("data");
    let changed = database.execute("UPDATE sealing_keys SET id = ?1", [id("other").1]);
    assert_eq!(changed.unwrap(), 1);
    drop(database);
    let refused = recover(&shell, &["other/keyward.key"]).failed();
    assert!(
        refused.contains("open nothing in this data folder; nothing was written"),
        "{refused}"
    );
    assert!(!shell.path("data/keyward.key").exists());
}

#[test]
fn a_rotation_makes_escrows_stale_and_they_are_told_and_refused() {
    let shell = prepared();
    let check = |files: &[&str]| escrow(&shell, &[&["-o", "json", "--check"], files].concat());
    let held: Value = check(&["sealed", &share(1), "data/keyward.key"]).json();
    for one in held.as_array().unwrap() {
        assert_eq!(one["current"], true, "{one}");
    }
    let old = shell.read("data/keyward.key");
    shell.run(&["keys", "rotate", "--data-dir", "data"]).done();
    escrow(&shell, &["--to", "recovery.pub", "--out", "newer"]).done();
    let told = check(&["sealed", &share(1), "newer"]);
    assert_eq!(told.code, 1);
    let held: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(
        [0, 1, 2].map(|at| held[at]["current"].as_bool().unwrap()),
        [false, false, true]
    );
    let why = held[0]["why"].as_str().unwrap();
    assert!(why.contains(", retired at 2"), "{why}");
    let key = lose(&shell);
    assert_ne!(key, old);
    for files in [&UNSEAL[..], &[&share(1), &share(2), &share(3)]] {
        let refused = recover(&shell, files).failed();
        assert!(
            refused.contains(why) && refused.contains("Bring the escrow that was made last"),
            "{refused}"
        );
    }
    assert!(!shell.path("data/keyward.key").exists());
    recover(&shell, &["newer", "--private-key", "recovery.key"]).done();
    assert_eq!(shell.read("data/keyward.key"), key);
}

#[test]
fn nothing_is_overwritten_neither_a_key_file_nor_an_escrow() {
    let shell = prepared();
    let key = shell.read("data/keyward.key");
    let refused = recover(&shell, &UNSEAL).failed();
    assert!(
        refused.contains("it was not lost") && refused.contains("exists already and is not overwritten"),
        "{refused}"
    );
    // Not what a link names either, nor a link that leads nowhere.
    lose(&shell);
    std::os::unix::fs::symlink(shell.path("nowhere"), shell.path("data/keyward.key")).unwrap();
    recover(&shell, &UNSEAL).failed();
    assert!(!shell.path("nowhere").exists());
    std::fs::remove_file(shell.path("data/keyward.key")).unwrap();
    recover(&shell, &[&UNSEAL[..], &["--key-file", "elsewhere.key"]].concat()).done();
    assert_eq!(shell.read("elsewhere.key"), key);
    std::fs::copy(shell.path("elsewhere.key"), shell.path("data/keyward.key")).unwrap();
    let (sealed, share) = (shell.read("sealed"), shell.read(&share(1)));
    for more in [
        &["--to", "recovery.pub", "--out", "sealed"][..],
        &["--split", "2-of-5", "--out-dir", "shares"],
    ] {
        let refused = escrow(&shell, more).failed();
        assert!(
            refused.contains("exists already and is not overwritten"),
            "{refused}"
        );
    }
    assert_eq!(
        (shell.read("sealed"), shell.read("shares/share-1-of-5.txt")),
        (sealed, share)
    );
    assert_eq!(shell.list("shares").len(), 5);
}

#[test]
fn only_a_public_rsa_key_that_is_long_enough_is_sealed_to() {
    let shell = prepared();
    let short = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    shell.write("short.pub", short.public_key_to_pem().unwrap());
    let curve = PKey::generate_ed25519().unwrap();
    shell.write("curve.pub", curve.public_key_to_pem().unwrap());
    let locked = "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00000000000000000000000000000000\n\n\
                  AAAA\n-----END CERTIFICATE-----\n";
    shell.write("locked.pub", locked);
    // As much as no machine has room for.
    let large = std::fs::File::create(shell.path("large.pub")).unwrap();
    large.set_len(1 << 43).unwrap();
    for (file, why) in [
        ("recovery.key", "it is a private key, which belongs offline"),
        ("short.pub", "expected an RSA key of at least 3072 bits"),
        ("curve.pub", "expected an RSA key of at least 3072 bits"),
        ("locked.pub", "it is encrypted"),
        ("large.pub", "expected a public key or a certificate in PEM"),
        ("token", "expected a public key or a certificate in PEM"),
        ("missing.pub", "No such file"),
    ] {
        let refused = escrow(&shell, &["--to", file, "--out", "new"]).failed();
        assert!(refused.contains(file) && refused.contains(why), "{refused}");
    }
    assert!(!shell.path("new").exists());
}

#[test]
fn neither_escrow_has_the_key_in_clear_and_the_data_folder_has_neither() {
    let mut shell = prepared();
    shell.set("KEYWARD_LOG", "trace");
    shell.set("RUST_LOG", "trace");
    let key = STANDARD
        .decode(shell.read("data/keyward.key").trim().rsplit(' ').next().unwrap())
        .unwrap();
    let texts: Vec<_> = (1..=5).map(|number| shell.read(&share(number))).collect();
    let mut all = vec![shell.read("sealed")];
    all.extend(texts.clone());
    lose(&shell);
    let recovered = shares(&shell, &[1, 3, 5]);
    all.extend([recovered.out, recovered.err]);
    std::fs::remove_file(shell.path("data/keyward.key")).unwrap();
    let unsealed = recover(&shell, &[&UNSEAL[..], &["-o", "json"]].concat());
    all.extend([unsealed.out, unsealed.err]);
    let check = escrow(&shell, &["--check", "sealed", &share(1)]);
    all.extend([check.out, check.err]);
    let absent = |what: &[u8], text: &[u8], place: &str| {
        for form in spellings(what)
            .into_iter()
            .chain([what.to_vec(), hex::encode(what).into_bytes()])
        {
            assert!(!text.windows(form.len()).any(|bytes| bytes == form), "{place}");
        }
    };
    // The shares of a text have groups in between.
    for text in &all {
        absent(&key, text.as_bytes(), text);
        absent(&key, text.replace([' ', '\n'], "").as_bytes(), text);
        let line: String = hex::encode(&key[..8]).chars().collect();
        assert!(!text.replace(' ', "").contains(&line), "{text}");
    }
    let database = std::fs::read(shell.path("data/keyward.db")).unwrap();
    for text in &texts {
        absent(&bytes_of(text), &database, "the database");
        for printed in &all[6..] {
            absent(&bytes_of(text), printed.as_bytes(), printed);
        }
    }
}

#[test]
fn a_key_in_a_token_is_not_put_in_escrow_and_what_to_do_is_said() {
    let Some(module) = module() else { return };
    let mut shell = Shell::new();
    let provider = token(&mut shell, module);
    let init = [
        "init",
        "--data-dir",
        "data",
        "--owner",
        "acme",
        "--key-provider",
        &provider,
    ];
    shell.run(&init).done();
    shell.write("recovery.pub", &offline(0).1);
    for told in [
        escrow(&shell, &["--to", "recovery.pub", "--out", "sealed"]).failed(),
        escrow(&shell, &["--split", "2-of-3", "--out-dir", "shares"]).failed(),
        recover(&shell, &["recovery.pub"]).failed(),
    ] {
        assert!(
            told.contains("is in the token keyward (key secrets), which it never leaves")
                && told.contains("keyward keys rotate --to"),
            "{told}"
        );
    }
    assert!(!shell.path("sealed").exists() && !shell.path("shares").exists());
}

//! Signed notes and checkpoints: published examples, and every way in which they may be malformed.

use keyward::audit::checkpoint::{Checkpoint, CheckpointError};
use keyward::audit::key::{KeyError, KeyName, SignerKey, VerifierKey};
use keyward::audit::note::{MAX_NOTE, MAX_SIGNATURES, Note, NoteError};
use keyward::audit::proof::{Head, ProofError};
use keyward::audit::tree::{Frontier, empty_root, leaf_hash};
use zeroize::Zeroizing;

// The example of Go's golang.org/x/mod/sumdb/note, package documentation and tests.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETERS_OWN: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const SIGNED: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const ENOCHS: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

const ORIGIN: &str = "example.com/keyward";

fn peter() -> VerifierKey {
    PETER.parse().unwrap()
}

fn signer(name: &str, seed: u8) -> SignerKey {
    SignerKey::from_seed(name.parse().unwrap(), Zeroizing::new([seed; 32])).unwrap()
}

fn origin() -> KeyName {
    ORIGIN.parse().unwrap()
}

/// The note that this key signs over any text.
fn signed(text: &str) -> String {
    Note::sign(text.to_owned(), &signer(ORIGIN, 1))
        .unwrap()
        .to_string()
}

fn open(note: &str) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(note, signer(ORIGIN, 1).verifier())
}

#[test]
fn the_note_in_go_s_documentation_verifies_and_is_signed_alike() {
    let note = Note::parse(SIGNED).unwrap();
    assert_eq!(note.verify(&peter()).unwrap(), TEXT);
    assert_eq!(note.to_string(), SIGNED);
    let key = SignerKey::parse(PETERS_OWN).unwrap();
    assert_eq!(Note::sign(TEXT.to_owned(), &key).unwrap().to_string(), SIGNED);
    assert_eq!(key.verifier(), &peter());
    assert_eq!(
        (key.to_text().as_str(), peter().to_string().as_str()),
        (PETERS_OWN, PETER)
    );
}

#[test]
fn signatures_of_unknown_keys_are_kept_and_ignored() {
    let both = format!("{SIGNED}{ENOCHS}");
    let note = Note::parse(&both).unwrap();
    assert_eq!(note.verify(&peter()).unwrap(), TEXT);
    assert_eq!(note.to_string(), both);
    let first = Note::parse(&format!("{TEXT}\n{ENOCHS}")).unwrap();
    assert!(matches!(first.verify(&peter()), Err(NoteError::NotSigned { .. })));
    let mut note = Note::parse(SIGNED).unwrap();
    let another = signer("witness.example.com", 9);
    note.add_signature(&another).unwrap();
    assert_eq!(note.verify(another.verifier()).unwrap(), TEXT);
    assert_eq!(note.verify(&peter()).unwrap(), TEXT);
}

#[test]
fn a_known_key_s_signature_that_does_not_verify_refuses_the_note_whatever_else_stands_in_it() {
    let false_line = SIGNED.lines().last().unwrap().replace("x08go/ZJ", "x08go/ZK");
    for note in [
        SIGNED.replace("answer", "Answer"),
        format!("{SIGNED}{false_line}\n"),
        SIGNED.replace("x08go/ZJ", "x08go/ZK"),
        format!("{TEXT}\n— PeterNeumann x08goxk=\n"),
    ] {
        let error = Note::parse(&note).unwrap().verify(&peter()).unwrap_err();
        assert!(matches!(error, NoteError::Forged(_)), "{note}: {error}");
    }
}

#[test]
fn no_changed_character_of_a_signed_note_passes() {
    let characters: Vec<char> = SIGNED.chars().collect();
    for at in 0..characters.len() {
        for other in ['A', 'b', ' ', '\n', '—', '\u{0}'] {
            let mut changed = characters.clone();
            if changed[at] == other {
                continue;
            }
            changed[at] = other;
            let changed: String = changed.into_iter().collect();
            let passes = Note::parse(&changed).is_ok_and(|note| note.verify(&peter()).is_ok());
            assert!(!passes, "character {at} as {other:?}");
        }
    }
}

#[test]
fn what_is_no_signed_note_is_refused_with_its_reason() {
    let many = format!("{TEXT}\n{}", ENOCHS.repeat(MAX_SIGNATURES + 1));
    let long = format!("{}\n{SIGNED}", "x".repeat(MAX_NOTE));
    for (note, expected) in [
        ("", "blank line"),
        (TEXT, "blank line"),
        (SIGNED.trim_end(), "each ending with a newline"),
        (&format!("{TEXT}\n"), "blank line"),
        (&SIGNED.replace("your", "your\t"), "control"),
        (&SIGNED.replace('\n', "\r\n"), "control"),
        (&SIGNED.replace("— ", "- "), "line 1"),
        (&SIGNED.replace("nAM=", "nAN="), "line 1"),
        (&SIGNED.replace("nAM=", "nAM"), "line 1"),
        (&SIGNED.replace("— PeterNeumann ", "— "), "line 1"),
        (&SIGNED.replace("PeterNeumann", "Peter+Neumann"), "line 1"),
        (&format!("{SIGNED}— EnochRoot rwz+eA==\n"), "line 2"),
        (&format!("{SIGNED}{ENOCHS}more\n"), "line 3"),
        (&many, "at most 64 signatures"),
        (&long, "at most 131072 bytes"),
    ] {
        let error = Note::parse(note).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} for {:?}", note.get(..200));
    }
    Note::parse(&format!("{TEXT}\n{}", ENOCHS.repeat(16))).unwrap();
}

#[test]
fn a_mistyped_key_is_no_key() {
    for at in 0..PETER.len() {
        assert!(PETER[..at].parse::<VerifierKey>().is_err(), "{at} characters");
        let mut changed = PETER.as_bytes().to_vec();
        changed[at] += 1;
        let changed = String::from_utf8(changed).unwrap();
        assert!(changed.parse::<VerifierKey>().is_err(), "{changed}");
    }
    for (text, expected) in [
        // Both have the hash that fits them; they are from the tests of Go's package.
        (
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            "not a verifier key",
        ),
        (
            "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "type 101",
        ),
        (&PETER.replace("c74f", "C74F"), "not a verifier key"),
        (
            &PETER.replace("c74f", "c74e"),
            "the key's hash is c74f20a3, the text says c74e20a3",
        ),
        (&PETER.replace("PeterNeumann", ""), "1 to 255 bytes"),
        (&PETER.replace("Peter", "Peter "), "1 to 255 bytes"),
    ] {
        let error = text.parse::<VerifierKey>().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_error_about_a_signer_key_does_not_quote_it() {
    let secret = &PETERS_OWN[PETERS_OWN.len() - 40..];
    for (text, expected) in [
        (PETER.to_owned(), "not a signer key"),
        (PETERS_OWN.replace("AYEK", "AyEK"), "type 3"),
        (PETERS_OWN.replace("c74f", "0000"), "the text says 000020a3"),
        (PETERS_OWN.replace("AYEK", "AYEL"), "the key's hash is"),
        (PETERS_OWN[..PETERS_OWN.len() - 1].to_owned(), "not a signer key"),
    ] {
        let error = SignerKey::parse(&text).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
        for form in [format!("{error}"), format!("{error:?}")] {
            assert!(
                !form.contains(&secret[..8]) && !form.contains(&secret[32..]),
                "{form}"
            );
        }
    }
    assert!(matches!("a b".parse::<KeyName>(), Err(KeyError::Name)));
}

#[test]
fn a_checkpoint_is_written_as_the_specification_has_it() {
    let mut tree = Frontier::default();
    tree.push(leaf_hash(b"")).unwrap();
    let head = Head {
        size: tree.size(),
        root: tree.root(),
    };
    let checkpoint = Checkpoint::empty(origin()).followed_by(head, &[]).unwrap();
    assert_eq!(
        checkpoint.text(),
        "example.com/keyward\n1\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n"
    );
    let note = checkpoint.sign(&signer(ORIGIN, 1)).unwrap().to_string();
    let opened = open(&note).unwrap();
    assert_eq!((opened.origin(), opened.head()), (ORIGIN, head));
    assert_eq!(opened, checkpoint);
    let error = checkpoint.sign(&signer("example.com/another", 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the checkpoint is of the log `example.com/keyward`, the key is of `example.com/another`"
    );
}

#[test]
fn only_what_continues_the_tree_becomes_the_next_checkpoint() {
    let (one, two) = (leaf_hash(b"one"), leaf_hash(b"two"));
    let mut tree = Frontier::default();
    tree.push(one).unwrap();
    let first = Checkpoint::empty(origin())
        .followed_by(Head { size: 1, root: one }, &[])
        .unwrap();
    tree.push(two).unwrap();
    let head = Head {
        size: 2,
        root: tree.root(),
    };
    let second = first.followed_by(head, &[two]).unwrap();
    assert_eq!(second.followed_by(head, &[]).unwrap(), second);
    assert_eq!(
        second.followed_by(first.head(), &[]),
        Err(ProofError::Shrunk { old: 2, new: 1 })
    );
    let rewritten = Head { size: 2, root: one };
    assert!(second.followed_by(rewritten, &[]).is_err());
    assert!(first.followed_by(rewritten, &[two]).is_err());
    assert!(first.followed_by(head, &[one]).is_err());
}

#[test]
fn what_is_signed_but_no_checkpoint_is_refused_with_its_reason() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    let good = format!("{ORIGIN}\n7\n{root}\n");
    open(&signed(&good)).unwrap();
    let extended = open(&signed(&format!("{good}more\n"))).unwrap();
    assert_eq!(extended.extensions(), ["more"]);
    assert_eq!(extended.text(), format!("{good}more\n"));
    for (text, expected) in [
        (format!("{ORIGIN}\n7\n"), "an origin, a size and a root"),
        (format!("{good}\nmore\n"), "no empty line"),
        (format!("{good}{}", "more\n".repeat(17)), "at most 16 lines"),
        (format!("{ORIGIN}\n07\n{root}\n"), "got `07`"),
        (format!("{ORIGIN}\n+7\n{root}\n"), "got `+7`"),
        (format!("{ORIGIN}\n-1\n{root}\n"), "got `-1`"),
        (format!("{ORIGIN}\n \n{root}\n"), "got ` `"),
        (format!("{ORIGIN}\n18446744073709551616\n{root}\n"), "below 2^64"),
        (good.replace("q2I=", "q2J="), "base64 of 32 bytes"),
        (good.replace("q2I=", "q2I"), "base64 of 32 bytes"),
        (good.replace("CsUY", "CsU"), "base64 of 32 bytes"),
        (good.replace('7', "0"), "without records"),
        (
            good.replace(ORIGIN, "example.com/another"),
            "of the log `example.com/another`",
        ),
        (format!("\n7\n{root}\n"), "1 to 255 bytes"),
    ] {
        let error = open(&signed(&text)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} for {text}");
    }
    let empty = open(&signed(&Checkpoint::empty(origin()).text())).unwrap();
    assert_eq!(
        empty.head(),
        Head {
            size: 0,
            root: empty_root()
        }
    );
}

#[test]
fn a_checkpoint_of_another_key_is_none_of_this_log() {
    let text = Checkpoint::empty(origin()).text();
    let note = Note::sign(text, &signer(ORIGIN, 2)).unwrap().to_string();
    let error = open(&note).unwrap_err();
    let CheckpointError::Note(NoteError::NotSigned { wanted, signers }) = &error else {
        panic!("{error}");
    };
    assert!(wanted.starts_with("example.com/keyward+") && signers.starts_with("example.com/keyward+"));
    assert_ne!(wanted, signers);
}

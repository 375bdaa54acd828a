//! An export that proves itself, and every way in which it may have been tampered with.

use keyward::audit::checkpoint::Checkpoint;
use keyward::audit::export;
use keyward::audit::key::{SignerKey, VerifierKey};
use keyward::audit::note::Note;
use keyward::audit::proof::Head;
use keyward::audit::record::{AuditRecord, Event, Leaf};
use keyward::audit::tree::{Frontier, leaf_hash};
use keyward::audit::verify::{Fault, Verified, Verifier, VerifyError};
use zeroize::Zeroizing;

use crate::audit_record::{record, secret};

const ORIGIN: &str = "example.com/keyward";
const RECORDS: u64 = 100;
/// Where the log made checkpoints.
const CHECKPOINTS: [u64; 4] = [10, 40, 70, 100];

fn signer(seed: u8) -> SignerKey {
    SignerKey::from_seed(ORIGIN.parse().unwrap(), Zeroizing::new([seed; 32])).unwrap()
}

fn key() -> VerifierKey {
    signer(1).verifier().clone()
}

/// A log: its records, and where checkpoints are made.
#[derive(Clone)]
struct Log(Vec<Leaf>);

impl Log {
    fn of(count: u64) -> Self {
        Self::continued(&[], 0, count)
    }

    /// The first records of a log, then others.
    fn continued(first: &[Leaf], kept: u64, count: u64) -> Self {
        let mut records = first[..kept as usize].to_vec();
        for index in kept..count {
            let version = if first.is_empty() { 1 } else { 2 };
            records.push(record(u128::from(index), secret(version)).to_leaf().unwrap());
        }
        Self(records)
    }

    fn checkpoint(&self, size: u64) -> Note {
        let mut tree = Frontier::default();
        for leaf in &self.0[..size as usize] {
            tree.push(leaf.hash()).unwrap();
        }
        signed(size, tree.root())
    }

    fn export(&self, checkpoints: &[u64]) -> Vec<String> {
        let mut lines = vec![export::header(ORIGIN)];
        for (index, leaf) in self.0.iter().enumerate() {
            lines.push(export::record(index as u64, leaf));
            let size = index as u64 + 1;
            if checkpoints.contains(&size) {
                lines.push(export::checkpoint(&self.checkpoint(size)));
            }
        }
        lines
    }
}

fn signed(size: u64, root: keyward::domain::HexDigest) -> Note {
    let text = format!("{ORIGIN}\n{size}\n{}\n", keyward::domain::Base64(root.0));
    Note::sign(text, &signer(1)).unwrap()
}

fn log() -> Log {
    Log::of(RECORDS)
}

fn verify_with<S: AsRef<str>>(lines: &[String], seen: &[S]) -> Result<Verified, VerifyError> {
    let mut verifier = Verifier::new(key(), seen)?;
    for line in lines {
        verifier.line(line)?;
    }
    verifier.finish()
}

fn verify(lines: &[String]) -> Result<Verified, VerifyError> {
    verify_with::<&str>(lines, &[])
}

/// Where the line of a record stands in an export with the usual checkpoints.
fn line_of(index: u64) -> usize {
    1 + index as usize + CHECKPOINTS.iter().filter(|&&size| size <= index).count()
}

/// The line of a record with this content in place of its own.
fn forged(index: u64, leaf: &Leaf) -> String {
    export::stored_record(index, &leaf.hash(), leaf.as_str())
}

fn other_record(index: u64) -> Leaf {
    record(u128::from(index), secret(99)).to_leaf().unwrap()
}

#[test]
fn an_export_that_nobody_touched_is_what_the_log_signed() {
    let log = log();
    let verified = verify(&log.export(&CHECKPOINTS)).unwrap();
    assert_eq!(verified.checkpoint.head().size, RECORDS);
    assert_eq!((verified.checkpoints, verified.bare, verified.seen), (4, 0, 0));
    let seen: Vec<_> = [100, 7, 40, 7]
        .map(|size| log.checkpoint(size).to_string())
        .into();
    assert_eq!(verify_with(&log.export(&[RECORDS]), &seen).unwrap().seen, 4);
}

#[test]
fn a_log_without_records_verifies_too() {
    let empty = Checkpoint::empty(ORIGIN.parse().unwrap())
        .sign(&signer(1))
        .unwrap();
    let lines = [export::header(ORIGIN), export::checkpoint(&empty)];
    let verified = verify_with(&lines, &[empty.to_string()]).unwrap();
    assert_eq!(verified.checkpoint.head().size, 0);
}

/// What somebody did to an export: a name, the lines, and the range that has to be named.
type Tampering = (&'static str, fn(&mut Vec<String>, u64) -> (u64, u64));

/// From the last checkpoint before a record to the one behind it.
fn between_checkpoints(index: u64) -> (u64, u64) {
    let before = CHECKPOINTS.iter().rev().find(|&&size| size <= index);
    let behind = CHECKPOINTS.iter().find(|&&size| size > index);
    (before.copied().unwrap_or(0), behind.unwrap() - 1)
}

/// Rewrites the indices of all record lines, as somebody would who hides that there is one more or less.
fn renumber(lines: &mut [String]) {
    let mut index = 0;
    for line in lines {
        if let Some(rest) = line.strip_prefix("{\"index\":") {
            let (_, rest) = rest.split_once(',').unwrap();
            *line = format!("{{\"index\":{index},{rest}");
            index += 1;
        }
    }
}

const TAMPERINGS: [Tampering; 13] = [
    ("changed a record", |lines, at| {
        let line = &mut lines[line_of(at)];
        *line = line.replace("\"version\":1}}}", "\"version\":2}}}");
        (at, at)
    }),
    ("changed a record by a space", |lines, at| {
        let line = &mut lines[line_of(at)];
        *line = line.replace("{\"version\":1,", "{ \"version\":1,");
        (at, at)
    }),
    ("changed a leaf hash", |lines, at| {
        let line = &mut lines[line_of(at)];
        let leaf = leaf_hash(b"made up").to_string();
        let place = line.find("\"leaf\":\"").unwrap() + 8;
        line.replace_range(place..place + 64, &leaf);
        (at, at)
    }),
    ("changed a record and its hash", |lines, at| {
        lines[line_of(at)] = forged(at, &other_record(at));
        between_checkpoints(at)
    }),
    ("left only a made up hash of a record", |lines, at| {
        lines[line_of(at)] = export::bare_leaf(at, &leaf_hash(b"made up"));
        between_checkpoints(at)
    }),
    ("dropped a record", |lines, at| {
        lines.remove(line_of(at));
        (at, at)
    }),
    ("swapped a record with its neighbour", |lines, at| {
        let other = if at == RECORDS - 1 { at - 1 } else { at + 1 };
        lines.swap(line_of(at), line_of(other));
        (at.min(other), at.min(other))
    }),
    ("swapped a record's content with its neighbour's", |lines, at| {
        let other = if at == RECORDS - 1 { at - 1 } else { at + 1 };
        let all = log().0;
        lines[line_of(at)] = forged(at, &all[other as usize]);
        lines[line_of(other)] = forged(other, &all[at as usize]);
        between_checkpoints(at)
    }),
    ("doubled a record", |lines, at| {
        lines.insert(line_of(at), lines[line_of(at)].clone());
        (at, at)
    }),
    ("inserted a record", |lines, at| {
        lines.insert(line_of(at), forged(at, &other_record(at)));
        (at, at)
    }),
    ("inserted a record and numbered all anew", |lines, at| {
        lines.insert(line_of(at), forged(at, &other_record(at)));
        renumber(lines);
        let (_, last) = between_checkpoints(at);
        (last + 1, last + 1)
    }),
    ("dropped a record and numbered all anew", |lines, at| {
        lines.remove(line_of(at));
        renumber(lines);
        let (_, last) = between_checkpoints(at);
        (last, last)
    }),
    (
        "moved a record to the end of its range and numbered all anew",
        |lines, at| {
            let (first, last) = between_checkpoints(at);
            let target = if at == last { first } else { last };
            let line = lines.remove(line_of(at));
            lines.insert(line_of(target).min(lines.len() - 1), line);
            renumber(lines);
            (first, last)
        },
    ),
];

#[test]
fn whatever_is_done_to_a_record_is_found_and_the_record_named() {
    for (what, tamper) in TAMPERINGS {
        for at in [0, 9, 10, 55, 98, 99] {
            let mut lines = log().export(&CHECKPOINTS);
            let untouched = lines.clone();
            let (first, last) = tamper(&mut lines, at);
            assert_ne!(lines, untouched, "{what}: {at}");
            let error = verify(&lines).expect_err(what);
            assert_eq!(error.first(), Some(first), "{what}: {at}: {error}");
            assert_eq!(error.fault(), Fault::Export, "{what}: {at}: {error}");
            if let VerifyError::Rewritten { last: named, .. } = error {
                assert_eq!(named, last, "{what}: {at}");
            } else {
                assert_eq!(first, last, "{what}: {at}: {error}");
            }
        }
    }
}

#[test]
fn the_errors_say_what_was_expected_and_what_came() {
    let whole = log().export(&CHECKPOINTS);
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = whole.clone();
        change(&mut lines);
        verify(&lines).unwrap_err().to_string()
    };
    assert_eq!(
        with(&|lines| drop(lines.remove(line_of(55)))),
        "line 59: record 55 is missing or out of place, record 56 stands there"
    );
    assert_eq!(
        with(&|lines| lines.insert(line_of(55), whole[line_of(55)].clone())),
        "line 60: record 55 stands a second time, or was inserted; record 56 comes next"
    );
    let error = with(&|lines| lines[line_of(55)] = forged(55, &other_record(55)));
    assert!(
        error.starts_with("the records 40 to 69 are not those that were signed"),
        "{error}"
    );
    let error = with(&|lines| lines[5] = "{\"index\":4}".to_owned());
    assert!(
        error.starts_with("line 6, where record 4 or a checkpoint is expected: "),
        "{error}"
    );
}

#[test]
fn an_export_that_ends_before_its_newest_checkpoint_proves_nothing_of_its_end() {
    let whole = log().export(&CHECKPOINTS);
    for (kept, first) in [(0, 0), (1, 0), (5, 0), (11, 0), (50, 40), (whole.len() - 1, 70)] {
        let error = verify(&whole[..kept]).unwrap_err();
        assert!(
            matches!(error, VerifyError::Unproved { .. }),
            "{kept} lines: {error}"
        );
        assert_eq!(error.first(), Some(first), "{kept} lines");
    }
}

#[test]
fn an_export_cut_at_an_older_checkpoint_is_found_by_one_that_was_seen() {
    let log = log();
    let whole = log.export(&CHECKPOINTS);
    let cut = &whole[..=line_of(69) + 1];
    assert_eq!(verify(cut).unwrap().checkpoint.head().size, 70);
    let error = verify_with(cut, &[log.checkpoint(100).to_string()]).unwrap_err();
    assert!(
        matches!(error, VerifyError::RolledBack { seen: 100, found: 70 }),
        "{error}"
    );
    assert_eq!((error.first(), error.fault()), (Some(70), Fault::Export));
}

#[test]
fn a_database_rolled_back_to_yesterday_s_copy_that_went_on_is_the_log_s_fault() {
    let yesterday = log();
    let seen = [10, 40, 90].map(|size| yesterday.checkpoint(size).to_string());
    for (kept, checkpoints) in [(60, vec![120]), (60, vec![40, 60, 80, 120]), (89, vec![90, 120])] {
        let today = Log::continued(&yesterday.0, kept, 120);
        let lines = today.export(&checkpoints);
        verify(&lines).unwrap();
        let error = verify_with(&lines, &seen).unwrap_err();
        assert!(
            matches!(
                error,
                VerifyError::Forked {
                    first: 40,
                    last: 89,
                    size: 90
                }
            ),
            "{kept} kept: {error}"
        );
        assert_eq!(error.fault(), Fault::Log);
    }
    let today = Log::continued(&yesterday.0, 5, 120).export(&[120]);
    let error = verify_with(&today, &seen).unwrap_err();
    assert!(
        matches!(
            error,
            VerifyError::Forked {
                first: 0,
                last: 9,
                size: 10
            }
        ),
        "{error}"
    );
}

#[test]
fn a_file_that_was_tampered_with_is_not_held_against_the_log() {
    let log = log();
    let seen = [log.checkpoint(50).to_string()];
    let mut lines = log.export(&[RECORDS]);
    lines[1 + 20] = forged(20, &other_record(20));
    let error = verify_with(&lines, &seen).unwrap_err();
    assert!(
        matches!(
            error,
            VerifyError::Rewritten {
                first: 0,
                last: 49,
                ..
            }
        ),
        "{error}"
    );
    let mut lines = log.export(&[RECORDS]);
    lines[1 + 70] = forged(70, &other_record(70));
    let error = verify_with(&lines, &seen).unwrap_err();
    assert!(
        matches!(
            error,
            VerifyError::Rewritten {
                first: 50,
                last: 99,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn two_checkpoints_that_contradict_each_other_prove_the_log_s_fault_alone() {
    let log = log();
    let other = Log::continued(&log.0, 20, 30);
    let seen = [log.checkpoint(30).to_string(), other.checkpoint(30).to_string()];
    let error = verify_with(&log.export(&[RECORDS]), &seen).unwrap_err();
    assert!(
        matches!(error, VerifyError::SeenTwice { size: 30, .. }),
        "{error}"
    );
    assert_eq!(error.fault(), Fault::Log);
}

#[test]
fn checkpoints_of_another_key_count_for_nothing() {
    let log = log();
    let head = Head {
        size: 100,
        root: leaf_hash(b""),
    };
    let text = format!(
        "{ORIGIN}\n{}\n{}\n",
        head.size,
        keyward::domain::Base64(head.root.0)
    );
    let foreign = Note::sign(text, &signer(2)).unwrap();
    let mut lines = log.export(&CHECKPOINTS);
    *lines.last_mut().unwrap() = export::checkpoint(&foreign);
    let error = verify(&lines).unwrap_err();
    assert!(
        matches!(error, VerifyError::Checkpoint { line: 105, .. }),
        "{error}"
    );
    let error = verify_with(
        &log.export(&CHECKPOINTS),
        &[log.checkpoint(7).to_string(), foreign.to_string()],
    );
    let error = error.unwrap_err();
    assert!(matches!(error, VerifyError::Seen { at: 2, .. }), "{error}");
    assert_eq!(error.fault(), Fault::Given);
}

#[test]
fn forgotten_records_are_bare_hashes_and_whoever_wants_all_is_told_which_is_missing() {
    let log = log();
    let mut lines = log.export(&CHECKPOINTS);
    for index in 0..30 {
        lines[line_of(index)] = export::bare_leaf(index, &log.0[index as usize].hash());
    }
    assert_eq!(verify(&lines).unwrap().bare, 30);
    for (from, missing) in [(0, Some(0)), (29, Some(29)), (30, None)] {
        let mut verifier = Verifier::new::<&str>(key(), &[]).unwrap().contents_from(from);
        let result = lines.iter().try_for_each(|line| verifier.line(line));
        assert_eq!(
            result.err().and_then(|error| error.first()),
            missing,
            "from {from}"
        );
    }
}

#[test]
fn an_export_of_another_log_or_with_other_lines_is_refused() {
    let good = log().export(&CHECKPOINTS);
    let first = |line: &str| {
        let mut lines = good.clone();
        lines[0] = line.to_owned();
        verify(&lines).unwrap_err().to_string()
    };
    let second = |line: &str| {
        let mut lines = good.clone();
        lines[1] = line.to_owned();
        verify(&lines).unwrap_err().to_string()
    };
    let leaf = leaf_hash(b"1");
    for (error, expected) in [
        (
            first(&export::header("example.com/another")),
            "of the log `example.com/another`",
        ),
        (first(&good[1]), "begins with one header"),
        (
            first("{\"export\":2,\"origin\":\"x\",\"more\":1}"),
            "unknown field `more`",
        ),
        (first("{\"export\":2,\"origin\":\"x\"}"), "format 2"),
        (first("{\"export\":1}"), "expected the members"),
        (second(&good[0]), "begins with one header"),
        (second(""), "line 2, where record 0"),
        (second("{}"), "expected the members"),
        (
            second(&format!("{} ", "x".repeat(export::MAX_LINE))),
            "a line has at most",
        ),
        (
            second(&format!("{{\"index\":-1,\"leaf\":\"{leaf}\"}}")),
            "invalid value",
        ),
        (
            second(&format!(
                "{{\"index\":0,\"leaf\":\"{leaf}\",\"record\":1,\"record\":1}}"
            )),
            "duplicate field",
        ),
        (
            second(&format!(
                "{{\"index\":0,\"leaf\":\"{leaf}\",\"checkpoint\":\"\"}}"
            )),
            "expected the members",
        ),
        (
            second(&format!("{{\"index\":0,\"leaf\":\"{leaf}\"}} {{}}")),
            "trailing",
        ),
        (
            second("{\"checkpoint\":\"\"}"),
            "the checkpoint on line 2 can't be used",
        ),
    ] {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_longest_record_and_whatever_a_record_says_survive_an_export() {
    let event = Event::KeyRotated {
        purpose: keyward::audit::record::KeyPurpose::AuditLog,
        from: "\u{0}\n\"\\\u{2028}é".repeat(2000),
        to: "},\"record\":{".to_owned(),
    };
    let leaf = record(1, event).to_leaf().unwrap();
    let log = Log(vec![leaf.clone()]);
    let lines = log.export(&[1]);
    assert!(lines.iter().all(|line| !line.contains('\n')));
    verify(&lines).unwrap();
    let export::Line::Record {
        record: Some(bytes), ..
    } = export::Line::parse(&lines[1]).unwrap()
    else {
        panic!("{}", lines[1]);
    };
    assert_eq!(bytes, leaf.as_str());
    AuditRecord::from_leaf(bytes).unwrap();
}

#[test]
fn a_hundred_thousand_records_verify_and_a_change_among_them_is_named() {
    let log = Log::of(100_000);
    let mut lines = log.export(&[50_000, 100_000]);
    assert_eq!(verify(&lines).unwrap().checkpoint.head().size, 100_000);
    lines[1 + 49_999] = forged(49_999, &other_record(7));
    let error = verify(&lines).unwrap_err();
    assert!(
        matches!(
            error,
            VerifyError::Rewritten {
                first: 0,
                last: 49_999,
                ..
            }
        ),
        "{error}"
    );
}

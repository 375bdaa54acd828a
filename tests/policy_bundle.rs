//! Bundles: what belongs to one, its digest and its archive.

use keyward::policy::{ArchiveError, Bundle};
use proptest::prelude::*;

use super::policy_support::{bundle, files, listed, load};

const POLICY: &str = "package p\nallow := true\n";

#[test]
fn the_digest_is_stable_and_depends_on_the_content_alone() {
    let one = bundle([
        ("p.rego", POLICY),
        ("a/data.json", "{}"),
        ("p_test.rego", "package p_test\n"),
    ]);
    let two = bundle([
        ("p_test.rego", "package p_test\n"),
        ("a/data.json", "{}"),
        ("p.rego", POLICY),
    ]);
    let readme = bundle([
        ("README.md", "x"),
        ("p_test.rego", "package p_test\n"),
        ("a/data.json", "{}"),
        ("p.rego", POLICY),
    ]);
    assert_eq!(one.digest(), two.digest());
    assert_eq!(
        one.digest(),
        readme.digest(),
        "a README is no part of the content"
    );
    assert_eq!(
        bundle([("p.rego", POLICY)]).digest_hex(),
        "94ee6f62b7fcfa9356227cf490e4c8aa48f0bc88e3c70080fd3a87104678c201",
        "the encoding is a stored format: a change needs another version prefix"
    );
    for other in [
        bundle([("p.rego", POLICY), ("a/data.json", "{}")]),
        bundle([
            ("p.rego", POLICY),
            ("b/data.json", "{}"),
            ("p_test.rego", "package p_test\n"),
        ]),
        bundle([
            ("p.rego", POLICY),
            ("a/data.json", "{ }"),
            ("p_test.rego", "package p_test\n"),
        ]),
    ] {
        assert_ne!(one.digest(), other.digest());
    }
}

#[test]
fn an_archive_gives_back_the_bundle() {
    let original = bundle([
        ("p.rego", POLICY),
        ("x/y/data.yaml", "a: 1\n"),
        (".manifest", "{\"revision\": \"r1\"}"),
    ]);
    let restored = Bundle::from_archive(&original.to_archive()).expect("its own archive");
    assert_eq!(restored.digest(), original.digest());
    assert_eq!(restored.manifest().revision, "r1");
    assert_eq!(
        restored.files().collect::<Vec<_>>(),
        original.files().collect::<Vec<_>>()
    );
}

#[test]
fn hostile_archives_are_refused() {
    let good = bundle([("a.rego", POLICY), ("b.rego", POLICY)]).to_archive();
    for end in 0..good.len() {
        assert!(Bundle::from_archive(&good[..end]).is_err(), "cut at {end}");
    }
    let mut trailing = good.clone();
    trailing.push(0);
    assert!(matches!(
        Bundle::from_archive(&trailing),
        Err(ArchiveError::Trailing { extra: 1 })
    ));

    let archive = |entries: &[(&str, &[u8])]| {
        let mut out = b"keyward policy bundle 1\n".to_vec();
        out.extend((entries.len() as u32).to_le_bytes());
        for (path, content) in entries {
            out.extend((path.len() as u32).to_le_bytes());
            out.extend(path.as_bytes());
            out.extend((content.len() as u32).to_le_bytes());
            out.extend(*content);
        }
        out
    };
    let policy = POLICY.as_bytes();
    assert!(Bundle::from_archive(&archive(&[("a.rego", policy), ("b.rego", policy)])).is_ok());
    assert!(matches!(
        Bundle::from_archive(&archive(&[("b.rego", policy), ("a.rego", policy)])),
        Err(ArchiveError::Order { .. })
    ));
    assert!(matches!(
        Bundle::from_archive(&archive(&[("a.rego", policy), ("a.rego", policy)])),
        Err(ArchiveError::Order { .. })
    ));
    assert!(matches!(
        Bundle::from_archive(&archive(&[("a.rego", policy), ("notes.txt", b"x")])),
        Err(ArchiveError::ForeignFile { .. })
    ));
    for path in [
        "../a.rego",
        "/a.rego",
        "a/../b.rego",
        "a\\b.rego",
        "a//b.rego",
        "./a.rego",
        "a\0.rego",
        "c:a.rego",
    ] {
        assert!(
            matches!(
                Bundle::from_archive(&archive(&[(path, policy)])),
                Err(ArchiveError::Content(_))
            ),
            "{path:?}"
        );
    }
    // A length that promises more than there is, and a count that does.
    let mut long = b"keyward policy bundle 1\n".to_vec();
    long.extend(1u32.to_le_bytes());
    long.extend(u32::MAX.to_le_bytes());
    assert!(matches!(
        Bundle::from_archive(&long),
        Err(ArchiveError::Truncated { .. })
    ));
    let mut many = b"keyward policy bundle 1\n".to_vec();
    many.extend(u32::MAX.to_le_bytes());
    assert!(matches!(Bundle::from_archive(&many), Err(ArchiveError::TooLarge)));
    assert!(matches!(
        Bundle::from_archive(b"keyward policy bundle 2\n"),
        Err(ArchiveError::Prefix)
    ));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_only_canonical_ones_are_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..120) {
        let mut archive = bundle([("a.rego", POLICY), ("data.json", "{\"x\": 1}")]).to_archive();
        let at = at.min(archive.len());
        archive.splice(at.., bytes);
        if let Ok(bundle) = Bundle::from_archive(&archive) {
            prop_assert_eq!(bundle.to_archive(), archive);
        }
    }
}

#[test]
fn what_is_wrong_with_files_is_said_with_its_place() {
    let table: &[(&str, &str, &str)] = &[
        ("../p.rego", POLICY, "`..`"),
        ("/p.rego", POLICY, "absolute"),
        ("a\\p.rego", POLICY, "backslash"),
        ("a/data.json", "[1, 2", "a/data.json:1:"),
        ("data.json", "[1]", "must be an object"),
        ("data.json", "{\"a\": 1, \"a\": 2}", "the key \"a\" appears twice"),
        (
            "data.json",
            "{\"a\": 18446744073709551616}",
            "can't be kept exactly",
        ),
        ("data.json", "{\"a\":\n  tru}", "data.json:2:"),
        ("data.yaml", "a: [1\n", "data.yaml:"),
        ("data.yaml", "a: 1\na: 2\n", "twice"),
        ("data.yaml", "a: .inf\n", "not finite"),
        ("keyward/data.json", "{}", "reserved"),
        ("data.json", "{\"keyward\": {}}", "reserved"),
        (
            ".manifest",
            "{\"rego_version\": 0}",
            "rego_version is 0; only 1 is accepted",
        ),
        (
            ".manifest",
            "{\"roots\": [\"q\"]}",
            "package p is outside the manifest's roots",
        ),
        (".manifest", "{\"roots\": []}", "roots is empty"),
        (".manifest", "{", ".manifest:1:"),
    ];
    for (path, content, expected) in table {
        let found = listed(&load([("p.rego", POLICY), (path, content)]).expect_err(path));
        assert!(
            found.contains(expected),
            "{path}: {content}\n{found}\nexpected: {expected}"
        );
    }
    let nothing = Bundle::from_files(files([("README.md", "x")])).expect_err("no policy");
    assert!(listed(&nothing).contains("holds no policy"));
    let conflict = Bundle::from_files(files([
        ("p.rego", POLICY),
        ("data.json", "{\"a\": {\"b\": 1}}"),
        ("a/data.json", "{\"b\": 2}"),
    ]));
    assert!(listed(&conflict.expect_err("two values")).contains("data.a.b is already defined"));
    let mut binary = files([("p.rego", POLICY)]);
    binary.insert("q.rego".to_owned(), vec![b'\n', 0xff]);
    assert!(listed(&Bundle::from_files(binary).expect_err("no text")).contains("q.rego:2:1"));
}

#[test]
fn aliases_that_stand_for_billions_of_values_are_refused() {
    let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let previous = vec![format!("*a{}", level - 1); 10].join(", ");
        yaml.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
    }
    let start = std::time::Instant::now();
    let found =
        Bundle::from_files(files([("p.rego", POLICY), ("data.yaml", &yaml)])).expect_err("too many values");
    assert!(
        listed(&found).contains("can't be read as data"),
        "{}",
        listed(&found)
    );
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(60), "]".repeat(60));
    let found = Bundle::from_files(files([("p.rego", POLICY), ("data.json", &deep)])).expect_err("too deep");
    assert!(listed(&found).contains("nested deeper"), "{}", listed(&found));
}

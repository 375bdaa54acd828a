//! The rooms of the house and which door leads where, read from the source itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which rooms a room may name besides itself. Whoever is not listed may be named by nobody but `lib.rs`.
const DOORS: [(&str, &[&str]); 21] = [
    ("audit", &["domain"]),
    ("sev", &[]),
    ("policy", &[]),
    ("domain", &["policy", "sev"]),
    ("sealing", &["domain", "sev"]),
    ("kds", &["outward", "sev"]),
    ("outward", &[]),
    ("psp", &["sev"]),
    ("host", &["domain", "sev"]),
    ("isolation", &["policy"]),
    ("store", &["audit", "domain"]),
    ("identity", &["config", "domain", "outward"]),
    (
        "release",
        &[
            "audit", "domain", "identity", "kds", "policy", "sealing", "sev", "store",
        ],
    ),
    ("webhook", &["domain", "outward", "sev", "store"]),
    ("manifest", &["domain", "policy", "sev"]),
    ("config", &["domain", "outward"]),
    (
        "http",
        &[
            "audit", "config", "domain", "identity", "policy", "release", "sev", "store",
        ],
    ),
    ("grpc", &["domain", "http", "release", "sev"]),
    (
        "cli",
        &[
            "audit",
            "config",
            "domain",
            "grpc",
            "host",
            "http",
            "identity",
            "isolation",
            "kds",
            "manifest",
            "metrics",
            "outward",
            "policy",
            "psp",
            "release",
            "sealing",
            "sev",
            "store",
            "webhook",
        ],
    ),
    (
        "metrics",
        &[
            "audit",
            "domain",
            "grpc",
            "http",
            "isolation",
            "kds",
            "policy",
            "release",
            "store",
        ],
    ),
    ("main", &["cli"]),
];

/// Rooms that get clock, randomness and bytes passed in.
const PURE: [&str; 5] = ["sev", "policy", "release", "domain", "audit"];

/// What they may not name. `IpAddr` and `SocketAddr` are words, not sockets; the evaluator's execution timer
/// (`Instant`) is no clock that a decision could read.
const OUTSIDE: [&str; 17] = [
    "actix_web",
    "actix_rt",
    "tokio",
    "rusqlite",
    "ureq",
    "anyhow",
    "clap",
    "std::fs",
    "std::env",
    "std::process",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::os",
    "SystemTime::now",
    "Timestamp::now",
];

/// The file that gives the engine built-ins of our own, in the engine's terms.
const EXTENSIONS: &str = "policy/guards.rs";

/// Files that are longer than 400 lines, each with its reason.
const LONG: [(&str, &str); 0] = [];

struct Source {
    /// Path below `src`.
    file: String,
    room: String,
    /// Everything that is named in it, as `crate::…` or from another crate, outside of unit tests.
    names: BTreeSet<String>,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let sources: Vec<_> = files.iter().map(|path| source(&root, path)).collect();
    assert!(sources.len() > 80, "only {} files were found", sources.len());
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

fn source(root: &Path, path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap();
    let file = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let mut modules: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let room = modules[0].to_owned();
    if modules.last() == Some(&"mod") || room == "lib" {
        modules.pop();
    }
    let code = code(&text);
    let names = names(&code)
        .into_iter()
        .map(|name| absolute(&name, &modules))
        .collect();
    Source {
        file,
        room,
        names,
        text,
    }
}

/// The text without comments and without its unit tests, which stand at its end.
fn code(text: &str) -> String {
    let production = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = production
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path that is named: those of `use`, spelt out, and those that stand in the code.
fn names(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for statement in code.split(';') {
        let statement = statement.trim();
        let used = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "]
            .iter()
            .find_map(|word| statement.strip_prefix(word));
        if let Some(tree) = used {
            spell_out(
                "",
                &tree.split_whitespace().collect::<Vec<_>>().join(" "),
                &mut found,
            );
        }
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
        for word in statement.split(|c| !inside(c)).filter(|word| word.contains("::")) {
            found.insert(word.trim_matches(':').to_owned());
        }
    }
    found
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d` and `a::c::e`.
fn spell_out(before: &str, tree: &str, found: &mut BTreeSet<String>) {
    let Some((head, inner)) = tree.split_once('{') else {
        found.insert(format!("{before}{}", tree.split(" as ").next().unwrap().trim()));
        return;
    };
    let before = format!("{before}{}", head.trim());
    let (mut depth, mut part) = (0, String::new());
    for c in inner.trim_end().trim_end_matches('}').chars().chain([',']) {
        match c {
            ',' if depth == 0 => {
                if !part.trim().is_empty() {
                    spell_out(&before, part.trim(), found);
                }
                part.clear();
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        part.push(c);
    }
    if !part.trim_matches([',', ' ']).is_empty() {
        spell_out(&before, part.trim_matches([',', ' ']), found);
    }
}

/// A path as seen from the crate's root, where it begins with `self` or `super`.
fn absolute(name: &str, modules: &[&str]) -> String {
    let mut at = modules.to_vec();
    let mut rest = name;
    let mut relative = false;
    while let Some(after) = rest
        .strip_prefix("super::")
        .or_else(|| rest.strip_prefix("self::"))
    {
        if rest.starts_with("super") {
            at.pop();
        }
        relative = true;
        rest = after;
    }
    if relative {
        let mut all = vec!["crate"];
        all.extend(at);
        all.push(rest);
        return all.join("::");
    }
    rest.to_owned()
}

/// The rooms that a file names.
fn rooms(source: &Source) -> BTreeSet<&str> {
    let inside = source
        .names
        .iter()
        .filter_map(|name| name.strip_prefix("crate::").or(name.strip_prefix("keyward::")));
    inside.map(|name| name.split("::").next().unwrap()).collect()
}

#[test]
fn a_room_names_only_those_that_its_doors_lead_to() {
    let doors: BTreeMap<_, _> = DOORS.into_iter().collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.room != "lib") {
        let open = doors
            .get(source.room.as_str())
            .unwrap_or_else(|| panic!("the room {} has no doors: add it to DOORS", source.room));
        for named in rooms(source) {
            if named != source.room && !open.contains(&named) {
                wrong.push(format!("{} names {named}", source.file));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_door_stands_open_that_nobody_goes_through() {
    let sources = sources();
    for (room, open) in DOORS {
        let used: BTreeSet<_> = sources
            .iter()
            .filter(|s| s.room == room)
            .flat_map(rooms)
            .collect();
        for other in open {
            assert!(
                used.contains(other),
                "{room} names {other} no more: close the door in DOORS"
            );
        }
    }
}

#[test]
fn what_decides_has_no_clock_no_files_and_no_network() {
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| PURE.contains(&source.room.as_str()))
    {
        for name in &source.names {
            let outside = OUTSIDE.iter().any(|banned| {
                let at = name
                    .find(banned)
                    .is_some_and(|at| at == 0 || name[..at].ends_with("::"));
                at && name[name.find(banned).unwrap() + banned.len()..]
                    .chars()
                    .next()
                    .is_none_or(|c| c == ':')
            });
            // The one clock there is; it is passed in as a trait.
            let clock = source.file == "domain/time.rs" && name == "Timestamp::now";
            // The engine's interface for built-ins is made of this crate's errors.
            let engine = source.file == EXTENSIONS && name.split("::").next() == Some("anyhow");
            if outside && !clock && !engine {
                wrong.push(format!("{} names {name}", source.file));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_engines_stay_in_their_rooms() {
    for source in &sources() {
        let names = |what: &str| {
            source
                .names
                .iter()
                .any(|name| name.split("::").any(|part| part == what))
        };
        let in_sqlite = source.file.starts_with("store/sqlite/");
        let in_postgres = source.file.starts_with("store/postgres/");
        let in_engine = source.file.starts_with("store/engine/");
        // Databases of others, which are only read.
        let foreign = |name: &str| source.file == format!("cli/import/{name}.rs");
        for (engine, at_home) in [
            ("rusqlite", in_sqlite || in_engine || foreign("sqlite")),
            ("tokio_postgres", in_postgres || in_engine || foreign("postgres")),
            ("deadpool_postgres", in_postgres),
            (
                "sqlite",
                in_sqlite || ["store", "cli"].contains(&source.room.as_str()),
            ),
            ("actix_web", ["http", "cli"].contains(&source.room.as_str())),
            ("tonic", source.room == "grpc"),
            ("prost", source.room == "grpc"),
            (
                "tokio",
                source.room == "grpc" || in_postgres || foreign("postgres"),
            ),
            ("prometheus_client", source.room == "metrics"),
            ("regorus", source.room == "policy"),
            (
                "ureq",
                ["outward", "kds", "identity", "webhook", "cli"].contains(&source.room.as_str()),
            ),
            ("anyhow", source.room == "cli" || source.file == EXTENSIONS),
            ("clap", source.room == "cli"),
        ] {
            assert!(at_home || !names(engine), "{} names {engine}", source.file);
        }
    }
}

#[test]
fn a_file_is_one_idea_of_at_most_400_lines() {
    let long: BTreeMap<_, _> = LONG.into_iter().collect();
    for source in &sources() {
        let lines = source.text.lines().count();
        match long.get(source.file.as_str()) {
            None => assert!(
                lines <= 400,
                "{} has {lines} lines: which second idea lives in it?",
                source.file
            ),
            Some(reason) => assert!(
                lines > 400,
                "{} is short again, though «{reason}»: take it off LONG",
                source.file
            ),
        }
    }
}

#[test]
fn unsafe_code_and_what_panics_are_forbidden_for_the_whole_crate() {
    let manifest = include_str!("../Cargo.toml");
    let lints = manifest.split("[lints.rust]").nth(1).unwrap();
    let (rust, clippy) = lints.split_once("[lints.clippy]").unwrap();
    let clippy = clippy.split("\n[").next().unwrap();
    assert!(rust.contains("unsafe_code = \"forbid\""));
    for lint in [
        "unwrap_used",
        "expect_used",
        "panic",
        "indexing_slicing",
        "todo",
        "unimplemented",
    ] {
        assert!(clippy.contains(&format!("{lint} = \"deny\"")), "{lint}");
    }
    for source in &sources() {
        for (number, line) in source.text.lines().enumerate() {
            let allow = line.trim_start().starts_with("#[allow") || line.trim_start().starts_with("#![allow");
            let reason = source
                .text
                .lines()
                .skip(number)
                .take(6)
                .any(|line| line.contains("reason = "));
            assert!(
                !allow || reason,
                "{}:{}: an allow without a reason",
                source.file,
                number + 1
            );
        }
    }
}

#[test]
fn this_reader_understands_what_it_reads() {
    let code = code(
        "use std::{fs, net::{IpAddr, TcpStream as T}}; // use a::b;\nfn f() { super::super::http::x(crate::sev::Y) }\n\n#[cfg(test)]\nmod tests { use std::env; }",
    );
    let found: Vec<_> = names(&code)
        .iter()
        .map(|name| absolute(name, &["release", "launch"]))
        .collect();
    for expected in [
        "std::fs",
        "std::net::IpAddr",
        "std::net::TcpStream",
        "crate::http::x",
        "crate::sev::Y",
    ] {
        assert!(
            found.iter().any(|name| name == expected),
            "{expected} is not in {found:?}"
        );
    }
    assert!(
        !found.iter().any(|name| name.contains("env") || name == "a::b"),
        "{found:?}"
    );
}

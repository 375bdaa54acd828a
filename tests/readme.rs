//! The front page: its steps work as they are written, and its excerpt of the demo is what the demo prints.

use std::path::Path;

use crate::support::Shell;
use crate::support::cli::{KEYWARD, masked, ran};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn page() -> String {
    std::fs::read_to_string(format!("{ROOT}/README.md")).unwrap()
}

/// The commands below a heading: what is indented deeper than the steps' text.
fn commands(page: &str, heading: &str) -> Vec<String> {
    let section = page.split(heading).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut blocks = vec![String::new()];
    for line in section.lines() {
        match line.strip_prefix("       ") {
            Some(command) => blocks.last_mut().unwrap().push_str(&format!("{command}\n")),
            None if blocks.last().unwrap().is_empty() || line.is_empty() => {}
            None => blocks.push(String::new()),
        }
    }
    blocks
}

#[test]
fn the_first_steps_work_as_they_are_written() {
    let mut shell = Shell::new();
    let folder = Path::new(KEYWARD).parent().unwrap().display();
    shell.set("PATH", &format!("{folder}:{}", std::env::var("PATH").unwrap()));
    shell.set("REPOSITORY", ROOT);
    let run = |shell: &Shell, script: &str| {
        let script = format!("set -eu\nexec 2>&1\n{script}");
        let ran = ran(shell.command("bash").args(["-c", &script]));
        assert_eq!(ran.code, 0, "{script}\n{}", ran.out);
        ran.out
    };
    run(&shell, "cp -r \"$REPOSITORY/examples\" .");

    let page = page();
    let steps = commands(&page, "## Your first policy, in ten minutes\n");
    let serve = "keyward serve --data-dir data --listen 127.0.0.1:8443\n";
    let at = steps.iter().position(|step| step.ends_with(serve)).unwrap();
    let (before, after) = (&steps[..=at], &steps[at + 1..]);
    run(&shell, before.concat().strip_suffix(serve).unwrap());
    let server = shell.serve(&["--listen", "127.0.0.1:0"]);
    let first = "$(keyward decision list -o json | grep -m1 '^    \"id\"' | cut -d'\"' -f4)";
    let rest = after
        .concat()
        .replace("http://127.0.0.1:8443", &server.url)
        .replace("decision show ID", &format!("decision show \"{first}\""));
    let told = run(&shell, &rest);

    for line in [
        "736869e5-84f0-4973-92ec-06879ce3da0b  43 bytes",
        "RELEASED  every policy allows",
        "\"/problems/denied\"",
        "DENIED  by release.database",
        "- firmware build 8 is older than 9, the oldest that we trust\n",
    ] {
        assert!(told.contains(line), "{line} is missing:\n{told}");
    }
    // The page says so too.
    assert!(
        page.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains("«firmware build 8 is older than 9, the oldest that we trust»")
    );
}

#[test]
fn the_demo_s_excerpt_is_what_the_demo_prints() {
    let out = masked(&Shell::new().run(&["demo"]).done());
    let mut printed = out.lines();
    let page = page();
    let excerpt = page.split("What it prints, shortened:\n").nth(1).unwrap();
    let excerpt = excerpt.lines().skip(1).take_while(|line| !line.starts_with('#'));
    // The first line of the output is empty.
    let (mut skips, mut compared) = (true, 0);
    for line in excerpt.map(|line| line.strip_prefix("    ").unwrap_or(line)) {
        if line == "…" {
            skips = true;
            continue;
        }
        let line = masked(line);
        if skips && line.is_empty() {
            continue;
        }
        let found = if skips {
            printed.find(|printed| *printed == line)
        } else {
            printed.next()
        };
        assert_eq!(
            found,
            Some(line.as_str()),
            "the page says, the demo prints:\n{out}"
        );
        (skips, compared) = (false, compared + 1);
    }
    assert!(compared > 30, "only {compared} lines were compared");
    assert!(
        out.lines().all(|line| line == line.trim_end()),
        "blanks at the end of a line:\n{out}"
    );
}

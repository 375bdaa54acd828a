//! `examples/first-release` does what its page says, command by command; its policy's own tests pass; and
//! the demo, which tells the same story, runs. `KEYWARD_UPDATE=1` writes what commands print into the page.

use std::path::Path;

use keyward::policy::library_modules;
use regorus::{Engine, Value};

use crate::support::Shell;
use crate::support::cli::{KEYWARD, masked, ran};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/first-release");

/// The page's blocks in order: language and text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let mut parts = page.split("\n```");
    parts.next();
    parts
        .step_by(2)
        .map(|block| block.split_once('\n').unwrap_or((block, "")))
        .collect()
}

#[test]
fn the_page_s_commands_print_what_it_says() {
    let page = std::fs::read_to_string(format!("{EXAMPLE}/README.md")).unwrap();
    let mut updated = page.clone();
    let mut shell = Shell::new();
    let path = std::env::var("PATH").unwrap();
    let folder = Path::new(KEYWARD).parent().unwrap().display();
    shell.set("PATH", &format!("{folder}:{path}"));
    shell.set("EXAMPLE", EXAMPLE);
    let (mut server, mut printed, mut compared) = (None, String::new(), 0);
    for (language, text) in blocks(&page) {
        match language {
            "sh" if text.contains("keyward serve ") => {
                assert_eq!(text, "keyward serve --data-dir data");
                shell.set("KEYWARD_LISTEN", "127.0.0.1:0");
                let started = shell.serve(&[]);
                shell.set("KEYWARD_SERVER", &started.url);
                printed = format!("keyward is serving on {}\n", started.url);
                server = Some(started);
            }
            "sh" => {
                let mut script = "set -eu\n".to_owned();
                for line in text.replace("http://127.0.0.1:8443", &url(&server)).lines() {
                    match line.strip_suffix("# fails") {
                        Some(command) => script.push_str(&format!("if {command}; then exit 99; fi\n")),
                        None => script.push_str(&format!("{line}\n")),
                    }
                }
                // Both streams as a terminal mixes them.
                let ran = ran(shell
                    .command("bash")
                    .args(["-c", &format!("exec 2>&1\n{script}")]));
                assert_eq!(ran.code, 0, "{script}\n{}", ran.out);
                printed = ran.out;
                for export in text.lines().filter_map(|line| line.strip_prefix("export ")) {
                    let (name, value) = export.split_once('=').unwrap();
                    shell.set(name, value);
                }
            }
            "text" => {
                let trimmed = |text: &str| {
                    let text = masked(&text.replace("http://127.0.0.1:8443", &url(&server)));
                    text.trim_end()
                        .lines()
                        .map(|line| format!("{}\n", line.trim_end()))
                        .collect::<String>()
                };
                if std::env::var_os("KEYWARD_UPDATE").is_some() && trimmed(text) != trimmed(&printed) {
                    let says = format!("```text\n{text}{}```", if text.is_empty() { "" } else { "\n" });
                    let prints = printed.replace(&url(&server), "http://127.0.0.1:8443");
                    updated = updated.replacen(&says, &format!("```TEXT\n{prints}```"), 1);
                } else {
                    assert_eq!(
                        trimmed(text),
                        trimmed(&printed),
                        "the page says, the commands print"
                    );
                }
                compared += 1;
            }
            other => assert!(["yaml", "rego"].contains(&other), "a block of {other}"),
        }
    }
    assert!(compared >= 5, "only {compared} outputs were compared");
    if updated != page {
        std::fs::write(
            format!("{EXAMPLE}/README.md"),
            updated.replace("```TEXT", "```text"),
        )
        .unwrap();
    }
}

fn url(server: &Option<crate::support::cli::Server>) -> String {
    match server {
        Some(server) => server.url.clone(),
        None => "http://127.0.0.1:8443".to_owned(),
    }
}

#[test]
fn the_policy_s_own_tests_pass_with_the_library_loaded() {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    for (path, text) in library_modules() {
        engine.add_policy(path.to_owned(), text.to_owned()).unwrap();
    }
    let read = |name: &str| std::fs::read_to_string(format!("{EXAMPLE}/policy/{name}")).unwrap();
    let reference: serde_json::Value = serde_yaml::from_str(&read("reference/data.yaml")).unwrap();
    let data = serde_json::json!({"reference": reference}).to_string();
    engine.add_data(Value::from_json_str(&data).unwrap()).unwrap();
    for name in ["release/database.rego", "release/database_test.rego"] {
        engine.add_policy(name.to_owned(), read(name)).unwrap();
    }
    let tests: Vec<_> = read("release/database_test.rego")
        .lines()
        .filter(|line| line.starts_with("test_"))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect();
    assert!(tests.len() >= 7, "only {tests:?}");
    for test in tests {
        let value = engine
            .eval_rule(format!("data.release.database_test.{test}"))
            .unwrap();
        assert_eq!(value, Value::Bool(true), "{test}");
    }
}

#[test]
fn the_demo_tells_its_story_and_ends_well() {
    let shell = Shell::new();
    let out = shell.run(&["demo"]).done();
    let headings: Vec<_> = out
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    assert_eq!(
        headings,
        [
            "1. An owner, a policy, a secret, a workload",
            "2. A guest is launched, proved, and gets its secret",
            "3. A guest whose kernel command line was tampered with is denied",
            "4. The count is used up: the next release waits for the owner",
            "5. The owner confirms, and the waiting guest gets its secret",
            "6. What the owner and the auditor see",
            "7. The audit log is verified, without the server",
        ]
    );
    for outcome in ["RELEASED", "DENIED", "HELD"] {
        assert!(
            out.contains(&format!("      {outcome}  ")),
            "{outcome} is missing:\n{out}"
        );
    }
    assert!(
        out.lines().all(|line| line.chars().count() <= 130),
        "a line is too long for a terminal:\n{out}"
    );
    assert_eq!(shell.list(""), [""; 0]);
}

//! What is made from the command line's definition: completions that complete, and manual pages that read well.

use std::collections::BTreeSet;
use std::process::Stdio;

use crate::cli_usage::VERBS;
use crate::support::Shell;
use crate::support::cli::ran;

/// The long options of a verb, by its help.
fn options(shell: &Shell, verb: &str) -> Vec<String> {
    let mut arguments: Vec<_> = verb.split_whitespace().collect();
    arguments.push("--help");
    let help = shell.run(&arguments).done();
    let options = help.split("Options:\n").nth(1).unwrap_or_default();
    let options = options.lines().take_while(|line| !line.is_empty());
    let options = options.filter_map(|line| {
        let start = line.trim_start();
        let long = start
            .strip_prefix("--")
            .or_else(|| start.split(", --").nth(1).filter(|_| start.starts_with('-')))?;
        long.split([' ', '=', '<']).next().map(str::to_owned)
    });
    options.collect()
}

#[test]
fn bash_completes_every_verb_and_every_option() {
    let shell = Shell::new();
    shell.write("completions", shell.run(&["completions", "bash"]).done());
    for verb in VERBS {
        let words: Vec<_> = verb.split_whitespace().collect();
        let complete = |begun: &str| {
            // As bash calls it: the words, and the number of the one that is being written.
            let script = format!(
                "source ./completions\nCOMP_WORDS=(keyward {verb} '{begun}')\nCOMP_CWORD={}\n\
                 _keyward keyward '{begun}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
                words.len() + 1,
                words.last().unwrap_or(&"keyward")
            );
            let run = ran(shell.command("bash").args(["--norc", "-c", &script]));
            assert_eq!((run.code, run.err.as_str()), (0, ""), "{verb}");
            run.out.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let offered = complete("-");
        for option in options(&shell, verb) {
            assert!(
                offered.contains(&format!("--{option}")),
                "{verb} --{option}: {offered:?}"
            );
        }
        let offered = complete("");
        assert!(!offered.contains(&"worker".to_owned()), "{offered:?}");
        let below = VERBS.iter().filter_map(|other| other.strip_prefix(verb));
        let below = below.filter(|rest| verb.is_empty() || rest.starts_with(' '));
        for below in below
            .map(str::trim)
            .filter(|rest| !rest.is_empty() && !rest.contains(' '))
        {
            assert!(
                offered.iter().any(|word| word == below),
                "{verb} {below}: {offered:?}"
            );
        }
    }
}

#[test]
fn the_other_shells_are_told_every_verb_and_every_option() {
    let shell = Shell::new();
    for name in ["zsh", "fish", "powershell", "elvish"] {
        let script = shell.run(&["completions", name]).done();
        let words: BTreeSet<_> = script
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .map(|word| word.trim_start_matches('-'))
            .collect();
        assert!(!words.contains("worker"), "{name}");
        // fish's script goes two verbs deep: the crate knows no more for it.
        let depth = if name == "fish" { 2 } else { usize::MAX };
        for verb in VERBS.iter().filter(|verb| verb.split(' ').count() <= depth) {
            for word in verb.split(' ') {
                assert!(words.contains(word), "{name}: {verb}");
            }
            for option in options(&shell, verb) {
                assert!(words.contains(option.as_str()), "{name}: {verb} --{option}");
            }
        }
    }
}

#[test]
fn every_verb_has_a_manual_page_that_formats_without_a_warning() {
    let shell = Shell::new();
    let told = shell.run(&["man", "--out", "pages/man1"]).done();
    assert_eq!(told, format!("{} pages in pages/man1\n", VERBS.len()));
    let name = |verb: &str| format!("keyward {verb}").trim_end().replace(' ', "-") + ".1";
    let mut names: Vec<_> = VERBS.iter().map(|verb| name(verb)).collect();
    names.sort();
    assert_eq!(shell.list("pages/man1"), names);
    for verb in VERBS {
        let page = shell.read(&format!("pages/man1/{}", name(verb)));
        let page = page.replace('\\', "");
        for option in options(&shell, verb) {
            assert!(page.contains(&format!("--{option}")), "{verb} --{option}\n{page}");
        }
    }
    // Again: the same pages take the place of those that are there.
    shell.run(&["man", "--out", "pages/man1"]).done();

    if shell
        .command("man")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        eprintln!("NOT TESTED: how the manual pages format, as there is no `man`");
        return;
    }
    for name in names {
        let mut man = shell.command("man");
        man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        let run = ran(man
            .args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(format!("pages/man1/{name}")));
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{name}");
        assert!(run.out.len() > 500, "{name}");
    }
}

#[test]
fn health_tells_a_server_that_lives_from_one_that_does_not() {
    let shell = Shell::initialised();
    let server = shell.serve(&[]);
    let address = server.url.trim_start_matches("http://").to_owned();
    let ask = || shell.run(&["health", "--data-dir", "data", "--listen", &address]);
    assert_eq!(ask().done(), "alive\n");
    // As a server is asked that listens everywhere, by its configuration alone.
    let port = address.rsplit(':').next().unwrap();
    shell.write("everywhere.yaml", format!("listen: 0.0.0.0:{port}\n"));
    let configured = ["health", "--data-dir", "data", "--config", "everywhere.yaml"];
    assert_eq!(shell.run(&configured).done(), "alive\n");
    drop(server);
    let refused = ask().failed();
    assert!(
        refused.starts_with(&format!("error: http://{address}/livez: ")),
        "{refused}"
    );
}

#[test]
fn init_for_programs_makes_a_folder_once_and_shows_no_token() {
    let shell = Shell::new();
    let init = [
        "init",
        "--if-missing",
        "--data-dir",
        "data",
        "--owner",
        "acme",
        "--token-file",
        "token",
    ];
    let told = shell.run(&init).done();
    assert!(told.contains("Owner        acme\n"), "{told}");
    assert!(!told.contains(shell.read("token").trim()), "{told}");
    let key = shell.read("data/keyward.key");
    assert_eq!(shell.run(&init).done(), "data is initialised already\n");
    assert_eq!(shell.read("data/keyward.key"), key);
    let made = [
        "token",
        "create",
        "--data-dir",
        "data",
        "--owner",
        "acme",
        "--name",
        "me",
        "--role",
        "owner",
    ];
    shell.run(&made).done();
}

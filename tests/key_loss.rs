//! The drill of `docs/key-loss.md`: its commands work as they are written, and a guest is given its secret at the end.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::cli::{KEYWARD, Server, ran};
use crate::support::host::{ALLOW, IMAGE, WORKLOAD, digest, launch_request};
use crate::support::{Reply, Shell, Vm, ca, platform};

/// The page's commands, in order.
fn commands() -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/key-loss.md")).unwrap();
    let drill = page.split("\n## The drill\n").nth(1).unwrap();
    let drill = drill.split("\n## ").next().unwrap();
    let mut commands: Vec<String> = Vec::new();
    for line in drill.lines().filter_map(|line| line.strip_prefix("    ")) {
        match commands.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push_str(line.trim_start());
            }
            _ => commands.push(line.to_owned()),
        }
    }
    commands
}

fn released(server: &Server) {
    let reply = |(status, text): (u16, String)| Reply {
        status,
        headers: Default::default(),
        body: serde_json::from_str(&text).unwrap(),
    };
    let platform = platform();
    let request = launch_request(&platform).to_string();
    let begun = server.post(&format!("/vm/{WORKLOAD}/launch"), request.as_bytes());
    let mut vm = Vm::start(&platform, &reply(begun).ok());
    let request = vm.measure(IMAGE).to_string();
    let given = reply(server.post(&vm.path(), request.as_bytes())).ok();
    assert_eq!(vm.unwrap(&given)[0].1, b"hunter2");
}

#[test]
fn the_drill_for_a_lost_key_file_works_as_it_is_written() {
    let mut shell = Shell::initialised();
    let folder = Path::new(KEYWARD).parent().unwrap().display();
    shell.set("PATH", &format!("{folder}:{}", std::env::var("PATH").unwrap()));
    shell.write("test.ark", ca().ark().as_bytes());
    shell.write(
        "data/keyward.yaml",
        "listen: 127.0.0.1:0\nkds: {url: ''}\ndanger_extra_roots: [{name: test, file: ../test.ark}]\n",
    );
    shell.write("policy/release/any.rego", ALLOW);
    shell.write(
        "m.yaml",
        format!(
            "kind: PolicyBundle\npath: policy\n---\n\
             kind: Secret\nname: disk\ntype: luks-passphrase\nvalue: {{base64: aHVudGVyMg==}}\npolicies: [release.any]\n---\n\
             kind: Workload\nname: web\nuuid: {WORKLOAD}\nscheme: amd-sev\npolicy: 3\nlaunch_digests: [{}]\nsecrets: [disk]\n",
            digest(IMAGE)
        ),
    );
    let server = shell.served();
    shell.run(&["apply", "-f", "m.yaml"]).done();
    released(&server);
    drop(server);

    let before: Vec<_> = shell.list(".");
    let (mut served, mut failing, mut umask) = (0, 0, String::new());
    for command in commands() {
        // It stays with the reader's shell, and each command here has one of its own.
        if command.starts_with("umask ") {
            umask = command;
            continue;
        }
        if command == "keyward serve --data-dir data" {
            released(&shell.served());
            served += 1;
            continue;
        }
        let run = ran(shell
            .command("bash")
            .args(["-c", &format!("exec 2>&1\n{umask}\n{command}")]));
        assert_eq!(run.code, 0, "{command}\n{}", run.out);
        for name in shell.list(".").iter().filter(|name| !before.contains(name)) {
            let mode = std::fs::metadata(shell.path(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{command}: {name} is open to others");
        }
        if command.starts_with("! ") {
            failing += 1;
            let told = ["`keyward keys recover`", "stale"][failing - 1];
            assert!(run.out.contains(told), "{command}\n{}", run.out);
        }
    }
    assert_eq!((served, failing), (1, 2));
    assert_eq!(shell.list("."), before, "what opens secrets is gone");
    released(&shell.served());
}

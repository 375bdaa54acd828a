//! How the command line explains itself, and what wrong usage ends with.

use crate::support::Shell;
use crate::support::cli::transcript;

pub(crate) const VERBS: &[&str] = &[
    "",
    "demo",
    "init",
    "store",
    "store migrate",
    "owner",
    "owner create",
    "owner list",
    "owner set",
    "token",
    "token create",
    "token list",
    "token revoke",
    "keys",
    "keys rotate",
    "keys check",
    "keys escrow",
    "keys recover",
    "serve",
    "backup",
    "restore",
    "apply",
    "diff",
    "get",
    "delete",
    "secret",
    "secret versions",
    "secret purge",
    "secret rollback",
    "audit",
    "audit export",
    "audit verify",
    "audit proof",
    "audit checkpoint",
    "audit key",
    "audit init",
    "decision",
    "decision list",
    "decision show",
    "webhook",
    "webhook test",
    "hold",
    "hold list",
    "hold show",
    "hold confirm",
    "hold reject",
    "hold withdraw",
    "limits",
    "limits list",
    "limits reset",
    "freeze",
    "freeze workload",
    "freeze secret",
    "freeze platform",
    "freeze product",
    "freeze owner",
    "freeze server",
    "freeze list",
    "freeze show",
    "unfreeze",
    "impact",
    "platform",
    "platform list",
    "platform show",
    "platform enrol",
    "platform refuse",
    "platform accept",
    "policy",
    "policy check",
    "policy diff",
    "policy eval",
    "policy explain",
    "policy new",
    "policy replay",
    "policy bundle",
    "policy push",
    "policy log",
    "policy rollback",
    "policy fetch",
    "policy key",
    "policy key add",
    "policy key list",
    "policy key remove",
    "policy test",
    "sev",
    "sev measure",
    "sev chain",
    "sev session",
    "sev validate",
    "sev secret",
    "sev secret wrap",
    "sev secret table",
    "sev secret show",
    "sev secret guids",
    "sev vmsa",
    "sev vmsa build",
    "sev vmsa show",
    "host",
    "host launch",
    "host validate",
    "host run",
    "psp",
    "psp new",
    "psp chain",
    "psp launch-start",
    "psp measure",
    "psp secret",
    "psp input",
    "psp load",
    "kds",
    "kds import",
    "import",
    "import simple-kbs",
    "health",
    "doctor",
    "completions",
    "man",
];

#[test]
fn every_command_explains_itself() {
    let shell = Shell::new();
    let mut all = String::new();
    for verb in VERBS {
        let mut arguments: Vec<_> = verb.split_whitespace().collect();
        arguments.push("--help");
        let help = shell.run(&arguments).done();
        all.push_str(&format!("$ keyward {}\n{help}\n", arguments.join(" ")));
    }
    transcript("help.txt", &all);
}

#[test]
fn the_list_above_is_whole() {
    let shell = Shell::new();
    for verb in VERBS {
        let mut arguments: Vec<_> = verb.split_whitespace().collect();
        arguments.push("--help");
        let help = shell.run(&arguments).done();
        let commands = help.split("Commands:\n").nth(1).unwrap_or_default();
        for line in commands.lines().take_while(|line| !line.is_empty()) {
            let name = line.split_whitespace().next().unwrap();
            let name = format!("{verb} {name}");
            assert!(
                name.ends_with("help") || VERBS.contains(&name.trim()),
                "{name} is not looked at"
            );
        }
    }
}

#[test]
fn wrong_usage_ends_with_64_and_says_where_help_is() {
    let mut shell = Shell::initialised();
    shell.set("KEYWARD_TOKEN_FILE", "token");
    for arguments in [
        "",
        "frobnicate",
        "serve",
        "serve --data-dir data --listen nowhere",
        "serve --data-dir data --verbose",
        "init --data-dir data",
        "owner create --data-dir data",
        "owner create b",
        "owner list",
        "apply",
        "apply manifests.yaml",
        "apply -f x -o xml",
        "decision",
        "decision show",
        "decision show not-a-uuid",
        "decision list --outcome maybe",
        "policy push",
        "policy push d --revision 1",
        "policy push --revision x",
        "policy bundle d --signing-key k",
        "policy bundle d --signing-key k --key-id a --signing-alg HS256",
        "policy key add",
        "policy fetch 1",
        "sev measure --scheme amd-sev",
        "sev measure --firmware f --scheme snp",
        "sev measure --firmware f --scheme amd-sev --initrd i",
        "sev measure --firmware f --scheme amd-sev --vcpu-signature 25,1",
        "sev measure --firmware f --scheme amd-sev --vcpu-type EPYC --vcpu-signature 25,1,1",
        "sev chain",
        "host launch",
        "host run",
        "host validate",
        "sev session",
        "sev validate",
        "sev secret",
        "sev secret wrap",
        "sev secret table",
        "sev secret show",
        "sev vmsa",
        "sev vmsa build",
        "sev vmsa show",
        "psp new",
        "psp new p --bits 1024",
        "psp new p --api 155",
        "psp input --launch-digest c2c0",
        "psp input --scheme snp",
        "psp input --releases 1,2,0",
        "psp input --hint --image web",
        "token create --name ci",
        "token create --name ci --role root",
        "token revoke ci",
        "kds import --data-dir data",
        "import simple-kbs --db kbs.db --out taken",
        "completions",
        "completions tcsh",
        "man",
        "health",
        "keys rotate",
        "keys rotate --data-dir data --to keyward.key",
        "keys rotate --data-dir data --to {file:a,pkcs11:b}",
        "keys escrow --data-dir data",
        "keys escrow --data-dir data --to recovery.pub",
        "keys escrow --data-dir data --split 3-of-5",
        "keys escrow --data-dir data --split 1-of-5 --out-dir d",
        "keys escrow --data-dir data --split 2-of-3 --out-dir d --check f",
        "keys recover --data-dir data",
        "secret purge disk",
        "secret purge disk one",
        "freeze",
        "freeze workload web",
        "freeze product zen --reason x",
        "freeze platform 00 --reason x",
        "unfreeze web --reason x",
        "impact",
        "impact --secret a --workload b",
        "platform accept all --reason x",
    ] {
        let ran = shell.run(&arguments.split_whitespace().collect::<Vec<_>>());
        assert_eq!(ran.code, 64, "{arguments}: {}", ran.err);
        assert!(
            ran.out.is_empty() && ran.err.contains("--help"),
            "{arguments}: {}",
            ran.err
        );
    }
}

#[test]
fn what_only_the_values_show_to_be_wrong_usage_ends_with_64_too() {
    let shell = Shell::initialised();
    shell.write("firmware", [0; 4096]);
    let measure = [
        "sev",
        "measure",
        "--firmware",
        "firmware",
        "--scheme",
        "amd-sev-es",
    ];
    for (more, expected) in [
        (
            &[][..],
            "error: SEV-ES measures each vCPU: say how many with --vcpus\n",
        ),
        (
            &["--vcpus", "2"],
            "error: SEV-ES measures the CPU model: name it with --vcpu-type or --vcpu-signature\n",
        ),
    ] {
        let ran = shell.run(&[&measure, more].concat());
        assert_eq!((ran.code, ran.err.as_str()), (64, expected));
    }
    let id = "00".repeat(64);
    let ran = shell.run(&["kds", "import", "--data-dir", "data", "--cpu-id", &id, "a", "b"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (64, "error: --cpu-id names one chip, but 2 files are given\n")
    );
}

#[test]
fn the_version_is_the_crate_s() {
    let printed = Shell::new().run(&["--version"]).done();
    assert_eq!(printed, concat!("keyward ", env!("CARGO_PKG_VERSION"), "\n"));
}

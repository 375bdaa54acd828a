//! Manifests of signing keys, owners and tokens.

use std::os::unix::fs::PermissionsExt as _;

use openssl::nid::Nid;

use crate::cli_declare::{run, served};
use crate::policy_signing::{ec, public_pem};
use crate::support::Shell;
use crate::support::cli::{masked, transcript};

/// A folder with an administrator's token too, and a server.
fn administered() -> (Shell, crate::support::cli::Server) {
    let mut shell = Shell::initialised();
    run(
        &shell,
        "token create --data-dir data --name root --role admin --token-out admin",
    )
    .done();
    let server = shell.served();
    shell.set("KEYWARD_TOKEN_FILE", "admin");
    (shell, server)
}

const PEOPLE: &str = "kind: Owner
name: nova
approvals_required: 2
token_file: nova.token
---
kind: Token
name: audits
role: auditor
owner: nova
expires: 2031-01-01T00:00:00Z
token_file: audits.token
---
kind: Token
name: second
role: approver
owner: nova
token_file: second.token
";

#[test]
fn an_administrator_s_manifest_makes_owners_and_tokens_once() {
    let (mut shell, _server) = administered();
    shell.write("people/all.yaml", PEOPLE);
    let mut all = String::new();
    let documents: Vec<_> = PEOPLE.split("---\n").collect();
    let mut show = |shell: &Shell, line: &str, code: i32| {
        let ran = run(shell, line);
        assert_eq!(ran.code, code, "{line}: {}{}", ran.out, ran.err);
        assert!(
            !ran.out.contains("kw_") && !ran.err.contains("kw_"),
            "{}",
            ran.out
        );
        all.push_str(&format!("$ keyward {line}\n{}{}\n", ran.out, ran.err));
    };
    shell.write("alone.yaml", documents[0]);
    show(&shell, "apply -f alone.yaml", 1);
    show(&shell, "diff -f people", 2);
    show(&shell, "apply -f people", 0);
    show(&shell, "apply -f people", 0);
    for file in ["people/nova.token", "people/audits.token"] {
        let mode = std::fs::metadata(shell.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
        assert!(shell.read(file).starts_with("kw_"));
    }
    // The same name with another role or end is another token, which is said where it is written.
    for (from, to) in [("role: auditor", "role: approver"), ("2031", "2032")] {
        shell.write("people/all.yaml", PEOPLE.replace(from, to));
        show(&shell, "diff -f people", 1);
    }
    // A file that is there is not overwritten, and one is needed.
    shell.write("people/all.yaml", PEOPLE.replace("name: audits", "name: more"));
    show(&shell, "apply -f people", 1);
    shell.write("people/all.yaml", "kind: Owner\nname: vega\n");
    show(&shell, "apply -f people", 1);
    assert!(!run(&shell, "get owners").done().contains("vega"));
    shell.write("people/all.yaml", PEOPLE);
    show(&shell, "get owners -o yaml", 0);
    // What is an owner's is not an administrator's.
    shell.write("s.yaml", "kind: KeySet\nname: all\nsecrets: []\n");
    show(&shell, "apply -f people -f s.yaml", 1);
    shell.set("KEYWARD_TOKEN_FILE", "people/nova.token");
    show(&shell, "get owner -o yaml", 0);
    show(&shell, "apply -f s.yaml", 0);
    shell.write("own.yaml", "kind: Owner\nname: nova\napprovals_required: 2\n");
    show(&shell, "diff -f own.yaml", 0);
    shell.write("own.yaml", "kind: Owner\nname: nova\napprovals_required: 1\n");
    show(&shell, "diff -f own.yaml", 2);
    show(&shell, "apply -f own.yaml", 0);
    shell.write("own.yaml", "kind: Owner\nname: acme\napprovals_required: 1\n");
    show(&shell, "apply -f own.yaml", 1);
    shell.write(
        "own.yaml",
        "kind: Token\nname: ci\nrole: auditor\nowner: acme\ntoken_file: ci\n",
    );
    show(&shell, "apply -f own.yaml", 1);
    shell.write(
        "own.yaml",
        "kind: Token\nname: ci\nrole: auditor\ntoken_file: ci\n",
    );
    show(&shell, "apply -f own.yaml", 0);
    show(&shell, "delete -f own.yaml", 0);
    show(&shell, "delete token ci", 1);
    transcript("declare-people.txt", &masked(&all));
}

#[test]
fn a_signing_key_in_a_manifest_must_have_signed_the_bundle_beside_it() {
    let (shell, _server) = served();
    let key = ec(Nid::X9_62_PRIME256V1);
    shell.write("key.pem", public_pem(&key));
    shell.write("private.pem", key.private_key_to_pem_pkcs8().unwrap());
    let manifest = "kind: PolicyBundle\npath: policy\n---\nkind: SigningKey\nname: ours\npublic_key: {file: key.pem}\nlabels: {by: ci}\n";
    shell.write("k.yaml", manifest);
    let said = run(&shell, "apply -f k.yaml").failed();
    assert!(
        said.contains("the bundle is not signed, but the owner has signing keys"),
        "{said}"
    );
    assert_eq!(run(&shell, "get all -o json").json(), serde_json::json!([]));
    run(
        &shell,
        "policy bundle policy --signing-key private.pem --key-id ours -o bundle.tar.gz",
    )
    .done();
    shell.write("k.yaml", manifest.replace("path: policy", "path: bundle.tar.gz"));
    run(&shell, "apply -f k.yaml").done();
    assert_eq!(run(&shell, "diff -f k.yaml").code, 0);
    shell.write("back.yaml", run(&shell, "get all -o yaml").done());
    let diff = run(&shell, "diff -f back.yaml");
    assert_eq!(diff.code, 0, "{}{}", diff.out, diff.err);
    // The only key is not pruned: anything would become active then.
    shell.write("k.yaml", "kind: PolicyBundle\npath: bundle.tar.gz\n");
    let said = run(&shell, "apply -f k.yaml --prune -l by=ci").failed();
    assert!(
        said.contains("the bundle is not signed") || said.contains("it is the only signing key"),
        "{said}"
    );
    let said = run(&shell, "delete signing-key ours").failed();
    assert!(
        said.contains("SigningKey ours") && said.contains("it is the only signing key"),
        "{said}"
    );
    assert!(run(&shell, "get signingkeys").done().contains("ours"));
}

//! What a server refuses is shown in the manifest: file, line and column of the member, whatever the kind.

use crate::cli_declare::{GOOD, run, served};
use crate::policy_signing::{ec, public_pem};
use crate::support::cli::transcript;
use openssl::nid::Nid;

#[test]
fn every_kind_and_member_that_is_refused_is_shown_in_its_place() {
    let (shell, _server) = served();
    shell.write("key.pem", public_pem(&ec(Nid::X9_62_PRIME256V1)));
    shell.write("oca.cert", "no certificate");
    shell.write("short.fd", "no firmware");
    let keyed = format!("{GOOD}---\nkind: SigningKey\nname: ours\npublic_key: {{file: key.pem}}\n");
    let mut all = String::new();
    for (from, to, place) in [
        ("  vcpus: [1, 2]\n", "  vcpus:\n  - 1\n  - 4096\n", "42:5"),
        (
            "  vcpu_type: EPYC-Milan\n  vcpus",
            "  vcpu_type: EPYC-Roma\n  vcpus",
            "39:14",
        ),
        ("- name: two", "- name: one", "41:9"),
        ("  kernel: kernel\n", "", "41:3"),
        (
            "- name: two\n  firmware: ovmf",
            "- name: two\n  firmware: ovmg",
            "42:13",
        ),
        (
            "  initrd: initrd",
            "  initrd: initrd\n  firmware_hash: 8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c",
            "45:18",
        ),
        ("policy: 7\nvcpus: 2", "policy: 7\nvcpus: 0", "34:8"),
        (
            "secrets: [disk, api]\nlabels",
            "secrets: [disk, disk]\nlabels",
            "47:17",
        ),
        (
            "secrets: [disk, api]\npolicies",
            "secrets: [disk, apy]\npolicies",
            "21:17",
        ),
        (
            "guid: 5a9c3c4e-6f0e-4d5b-9a53-0d0f6d1c2b7e",
            "guid: 1e74f542-71dd-4d66-963e-ef4287ff173b",
            "14:7",
        ),
        ("{generate: 32}", "{generate: 0}", "15:19"),
        ("{generate: 32}", "{base64: ''}", "15:1"),
        ("file: firmware.fd", "file: short.fd", "27:7"),
        (
            "file: firmware.fd",
            "file: firmware.fd\nsha256: 8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c",
            "28:9",
        ),
        (
            "scheme: amd-sev-es",
            "cloud_cert: oca.cert\nscheme: amd-sev-es",
            "32:13",
        ),
        (
            "scheme: amd-sev-es",
            "max_releases: 9007199254740993\nscheme: amd-sev-es",
            "32:15",
        ),
        ("{file: key.pem}", "{pem: no key}", "52:1"),
        ("{file: key.pem}", "{file: key.pem}\nalgorithm: RS256", "52:1"),
        (
            "path: policy",
            "digest: 8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c",
            "2:9",
        ),
        (
            "policies: [release.disk]\nlabels: {app: web}\n---\nkind: Firmware",
            "policies: [release.disk, release.dusk]\n---\nkind: Firmware",
            "22:26",
        ),
    ] {
        let whole = if from.contains("key.pem") {
            keyed.as_str()
        } else {
            GOOD
        };
        let text = whole.replacen(from, to, 1);
        assert_ne!(text, whole, "{from}");
        shell.write("m.yaml", text);
        let said = run(&shell, "apply -f m.yaml").failed();
        assert!(
            said.contains(&format!("--> m.yaml:{place}\n")),
            "{place} {to}: {said}"
        );
        all.push_str(&format!("{said}{}\n", "-".repeat(72)));
    }
    transcript("declare-places.txt", &all);
}

#[test]
fn what_prune_would_take_from_under_another_object_is_shown_there() {
    let (shell, _server) = served();
    run(&shell, "apply -f m.yaml").done();
    let documents: Vec<_> = GOOD.split("---\n").collect();
    let without = |left_out: &[usize]| {
        let kept = documents
            .iter()
            .enumerate()
            .filter(|(n, _)| !left_out.contains(n));
        kept.map(|(_, text)| *text).collect::<Vec<_>>().join("---\n")
    };
    let mut all = String::new();
    for (left_out, expected) in [
        // The secret api, which the key set and the workload still name.
        (&[2][..], "--> m.yaml:13:17\n"),
        (&[2, 3], "--> m.yaml:33:17\n"),
        // The firmware, which is in an image.
        (&[4], "--> m.yaml:33:13\n"),
        // The workload without the label stays, and is in no manifest.
        (
            &[1, 5],
            "needs Secret disk, which would be removed\n --> Workload web\n",
        ),
    ] {
        if left_out == [1, 5] {
            shell.write(
                "m.yaml",
                GOOD.replace("secrets: [disk, api]\nlabels: {app: web}", "secrets: [disk, api]"),
            );
            run(&shell, "apply -f m.yaml").done();
            shell.write(
                "m.yaml",
                without(left_out).replace("secrets: [disk, api]", "secrets: [api]"),
            );
        } else {
            shell.write("m.yaml", without(left_out));
        }
        for verb in ["diff", "apply"] {
            let said = run(&shell, &format!("{verb} -f m.yaml --prune -l app=web")).failed();
            assert!(said.contains(expected), "{expected}: {said}");
            if verb == "apply" {
                all.push_str(&format!("{said}{}\n", "-".repeat(72)));
            }
        }
    }
    transcript("declare-prune-conflicts.txt", &all);
    assert_eq!(
        run(&shell, "get secret api disk -o json")
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn what_a_role_may_not_do_is_shown_in_its_place_and_nothing_is_done() {
    let (mut shell, _server) = served();
    run(&shell, "apply -f m.yaml").done();
    for role in ["secret-writer", "policy-author", "auditor"] {
        let line = format!("token create --name {role} --role {role} --token-out {role}");
        run(&shell, &line).done();
    }
    let mut all = String::new();
    let mut refused = |shell: &crate::support::Shell, line: &str, place: &str| {
        let said = run(shell, line).failed();
        assert!(said.contains(place), "{line}: {said}");
        all.push_str(&format!("$ keyward {line}\n{said}\n"));
    };
    shell.set("KEYWARD_TOKEN_FILE", "secret-writer");
    refused(&shell, "apply -f m.yaml", "--> m.yaml:1:1\n");
    let secret = "kind: Secret\nname: disk\ntype: luks-passphrase\npolicies: []\nlabels: {app: web}\n";
    shell.write("s.yaml", secret);
    refused(&shell, "apply -f s.yaml", "--> s.yaml:4:1\n");
    shell.write("s.yaml", secret.replace("[]", "[release.disk]"));
    refused(
        &shell,
        "apply -f s.yaml --prune -l app=web",
        "a token of role secret-writer does not remove it\n --> Workload web\n",
    );
    refused(
        &shell,
        "delete workload web",
        "a token of role secret-writer does not remove it",
    );
    assert_eq!(run(&shell, "diff -f s.yaml").code, 2);
    let seen = run(&shell, "get all").done();
    assert!(
        seen.contains("Not for this token's role: SigningKey, KeySet, Firmware, Workload, PolicyBundle"),
        "{seen}"
    );
    refused(
        &shell,
        "get workloads",
        "the token's role does not see objects of kind Workload",
    );
    shell.set("KEYWARD_TOKEN_FILE", "policy-author");
    shell.write(
        "p.yaml",
        "kind: PolicyBundle\npath: policy\npolicies:\n- release.disk\n",
    );
    refused(&shell, "apply -f p.yaml", "--> p.yaml:3:1\n");
    shell.set("KEYWARD_TOKEN_FILE", "auditor");
    refused(
        &shell,
        "diff -f p.yaml",
        "this needs the role owner, secret-writer or policy-author",
    );
    assert!(run(&shell, "get all").done().contains("Workload"));
    transcript("declare-roles.txt", &all);
    shell.set("KEYWARD_TOKEN_FILE", "token");
    assert_eq!(run(&shell, "diff -f m.yaml").code, 0, "something was changed");
}

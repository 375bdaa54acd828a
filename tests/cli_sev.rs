//! `sev`: the guest owner's toolbox, against figures of other tools and real platforms' chains.

use serde_json::{Value, json};

use crate::support::{Shell, platform, vectors};

/// A folder with the firmware's end, and a kernel and initrd of just their names.
fn shell() -> Option<Shell> {
    let firmware = vectors::read("ovmf_AmdSev_suffix.bin")?;
    let shell = Shell::new();
    shell.write("ovmf.fd", firmware);
    shell.write("kernel", "kernel");
    shell.write("initrd", "initrd");
    Some(shell)
}

fn measure(shell: &Shell, arguments: &str) -> Value {
    let line = format!("sev measure --firmware ovmf.fd {arguments} -o json");
    shell.run(&line.split_whitespace().collect::<Vec<_>>()).json()
}

#[test]
fn launch_digests_are_those_of_the_other_tools() {
    let Some(shell) = shell() else { return };
    let boot = "--kernel kernel --initrd initrd --cmdline console=ttyS0";
    for (arguments, vmsa, vcpus, digest) in [
        (
            "--scheme amd-sev".to_owned(),
            None,
            None,
            "8f765dfabc127fc0a938a0744a3103ec15864d7d794eb4c398aa976b6d6ab16c",
        ),
        (
            format!("--scheme amd-sev {boot}"),
            None,
            None,
            "b3e548bbca5328892acc6c54f8b33a780064b1decbf37ee5ab15ed65301417b2",
        ),
        (
            "--scheme amd-sev --kernel kernel".to_owned(),
            None,
            None,
            "64d16bf330fc792a6544e2f65cea4d6d317da7466f329a197acd5d844ad4be45",
        ),
        (
            "--scheme amd-sev-es --vcpus 1 --vcpu-type EPYC-Milan --vmsa init2".to_owned(),
            Some("init2"),
            Some(1),
            "89e8cec273c50fc063ea10c9ba9dffb2fc059daa6ad2d566f251908e386decef",
        ),
        (
            "--scheme amd-sev-es --vcpus 4 --vcpu-signature 25,1,1 --vmsa init2".to_owned(),
            Some("init2"),
            Some(4),
            "0df0aeacc4ea7b30562e860a807bda27e777bf383de3abe78f0f8b710d37207c",
        ),
        (
            format!("--scheme amd-sev-es --vcpus 2 --vcpu-type EPYC --vmsa init2 {boot}"),
            Some("init2"),
            Some(2),
            "920fad8a218fd3e07dd11c96228b5043dcadfbd2a2eff7bf3a984fbb9da021c2",
        ),
        (
            "--scheme amd-sev-es --vcpus 4 --vcpu-type EPYC-Rome --vmsa legacy".to_owned(),
            Some("legacy"),
            Some(4),
            "df03162d2b70499dae81174dd8658c38402a4bc2aabd605dc0f70798f8ded1e6",
        ),
    ] {
        let expected = json!({"digests": [{"vmsa": vmsa, "vcpus": vcpus, "launch_digest": digest}]});
        assert_eq!(measure(&shell, &arguments), expected, "{arguments}");
    }
}

#[test]
fn both_forms_of_the_first_state_are_given_where_none_is_named() {
    let Some(shell) = shell() else { return };
    let line = "--scheme amd-sev-es --vcpus 2 --vcpu-type EPYC-Milan";
    let both = json!({"digests": [
        {"vmsa": "legacy", "vcpus": 2, "launch_digest": "60f6ec95e06c9be0f72066dbfedbc36ccee627d16eaa58f5393ce07d8d386f6d"},
        {"vmsa": "init2", "vcpus": 2, "launch_digest": "c2c0ef40265a7de7176b00dd5e325ad070264a28db825cbeca204c7655092d1d"},
    ]});
    assert_eq!(measure(&shell, line), both);
    assert_eq!(measure(&shell, &format!("{line} --vmsa both")), both);
    let line = format!("sev measure --firmware ovmf.fd {line}");
    assert_eq!(
        shell.run(&line.split_whitespace().collect::<Vec<_>>()).done(),
        "60f6ec95e06c9be0f72066dbfedbc36ccee627d16eaa58f5393ce07d8d386f6d  legacy\n\
         c2c0ef40265a7de7176b00dd5e325ad070264a28db825cbeca204c7655092d1d  init2\n"
    );
}

#[test]
fn what_can_t_be_measured_is_named() {
    let shell = Shell::new();
    shell.write("small", [0; 100]);
    shell.write("plain.fd", [0; 4096]);
    let es = ["--scheme", "amd-sev-es", "--vcpus", "2", "--vcpu-type", "EPYC"];
    for (firmware, arguments, expected) in [
        (
            "nowhere",
            &["--scheme", "amd-sev"][..],
            "error: nowhere: No such file or directory (os error 2)\n",
        ),
        ("plain.fd", &es, "it does not support SEV-ES\n"),
        (
            "plain.fd",
            &["--scheme", "amd-sev", "--kernel", "plain.fd"],
            "error: the firmware ",
        ),
        (
            "plain.fd",
            &["--scheme", "amd-sev", "--kernel", "none"],
            "error: none: No such file or directory (os error 2)\n",
        ),
    ] {
        let said = shell
            .run(&[&["sev", "measure", "--firmware", firmware], arguments].concat())
            .failed();
        assert!(said.starts_with("error: ") && said.contains(expected), "{said}");
    }
}

#[test]
fn real_chains_verify() {
    for (name, product, api) in [
        ("naples-chain.bin", "naples", [0, 16]),
        ("rome-chain.bin", "rome", [0, 22]),
    ] {
        let Some(bytes) = vectors::read(name) else { return };
        let shell = Shell::new();
        shell.write("chain", bytes);
        let facts = shell.run(&["sev", "chain", "chain", "-o", "json"]).json();
        assert_eq!(facts["verified"], true);
        assert_eq!(
            (&facts["root"], &facts["product"]),
            (&json!("amd"), &json!(product))
        );
        assert_eq!(
            (&facts["api_major"], &facts["api_minor"]),
            (&json!(api[0]), &json!(api[1]))
        );
        assert_eq!(facts["fingerprints"].as_object().unwrap().len(), 6);
        let text = shell.run(&["sev", "chain", "chain"]).done();
        assert!(
            text.starts_with(&format!("verified   root amd, product {product}\n")),
            "{text}"
        );
    }
}

#[test]
fn a_tampered_chain_is_refused_whatever_was_tampered_with() {
    let shell = Shell::new();
    let good = platform().full_chain();
    shell.write("ark", platform().ark());
    // A body, a curve's number, a signature; each in another certificate (2084 bytes each, then ASK, ARK).
    for at in [
        20,
        2084 + 16,
        3 * 2084 + 0x414 + 9,
        4 * 2084 + 100,
        good.len() - 5,
    ] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        shell.write("chain", &bytes);
        let ran = shell.run(&["sev", "chain", "chain"]);
        assert_eq!((ran.code, ran.err.as_str()), (2, ""), "byte {at}: {}", ran.out);
        assert!(ran.out.starts_with("refused    "), "byte {at}: {}", ran.out);
        let ran = shell.run(&["sev", "chain", "chain", "-o", "json"]);
        let facts: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((ran.code, &facts["verified"]), (2, &json!(false)), "byte {at}");
    }
}

#[test]
fn a_root_that_is_not_amd_s_counts_only_where_it_is_named() {
    let shell = Shell::new();
    let platform = platform();
    shell.write("chain", platform.full_chain());
    shell.write("ark", platform.ark());
    let ran = shell.run(&["sev", "chain", "chain"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.out
            .contains("is neither one of AMD's roots nor one that was configured"),
        "{}",
        ran.out
    );
    let text = shell
        .run(&["sev", "chain", "chain", "--danger-extra-root", "ark"])
        .done();
    assert!(
        text.starts_with("verified   root extra, product not known\n"),
        "{text}"
    );
}

#[test]
fn an_unsigned_cek_fails_with_where_to_get_it_signed() {
    let shell = Shell::new();
    let platform = platform();
    shell.write("chain", platform.cert_chain().unwrap());
    shell.write("pdh", platform.pdh());
    shell.write("ark", platform.ark());
    shell.write("cek", platform.signed_cek());
    assert_eq!(
        shell.run(&["sev", "chain", "chain", "--pdh", "pdh"]).failed(),
        "error: the chain holds together, but its CEK is not signed: get it from AMD's service by the cpu-id and give it with --cek\n"
    );
    let ran = shell.run(&["sev", "chain", "chain", "--pdh", "pdh", "--cek", "cek"]);
    assert_ne!(ran.code, 0, "no root vouches for this CEK");
}

#[test]
fn what_is_no_chain_fails() {
    let shell = Shell::new();
    shell.write("short", [0; 5000]);
    for (arguments, expected) in [
        (
            &["nowhere"][..],
            "error: nowhere: No such file or directory (os error 2)\n",
        ),
        (
            &["short"],
            "error: short: certificate chain: 5000 bytes fit no known form",
        ),
    ] {
        let said = shell.run(&[&["sev", "chain"], arguments].concat()).failed();
        assert!(said.starts_with(expected), "{said}");
    }
    shell.write("apart", platform().cert_chain_signed());
    let said = shell.run(&["sev", "chain", "apart"]).failed();
    assert_eq!(
        said,
        "error: apart: PDH: missing, it is neither given apart nor in the chain\n"
    );
}

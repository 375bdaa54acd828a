//! `sev vmsa`: the first state of vCPUs in files, as `sevctl vmsa` has it.

use serde_json::json;

use crate::sev_launch_digest::es_firmware;
use crate::support::Shell;
use crate::support::cli::{Ran, transcript};

fn run(shell: &Shell, line: &str) -> Ran {
    shell.run(&line.split_whitespace().collect::<Vec<_>>())
}

fn shell() -> Shell {
    let shell = Shell::new();
    shell.write("fw", es_firmware());
    shell
}

#[test]
fn a_vmsa_is_built_and_shown() {
    let shell = shell();
    let mut told = String::new();
    for line in [
        "sev vmsa build boot --cpu 0 --vcpu-type EPYC-Milan --vmsa legacy",
        "sev vmsa build further --cpu 3 --firmware fw --vcpu-signature 23,49,0 --vmsa init2 --sev-features 0x20",
        "sev vmsa show boot",
        "sev vmsa show further",
    ] {
        told.push_str(&format!("$ keyward {line}\n{}\n", run(&shell, line).done()));
    }
    transcript("sev-vmsa.txt", &told);
}

#[test]
fn its_json_has_the_names_and_numbers_of_sevctl() {
    let shell = shell();
    run(
        &shell,
        "sev vmsa build boot --cpu 0 --vcpu-signature 25,1,1 --vmsa legacy",
    )
    .done();
    let shown = run(&shell, "sev vmsa show boot -o json").json();
    // As `sevctl vmsa show` prints the file of its own tests, of an EPYC-Milan.
    let expected = json!({
        "es": {"selector": 0, "attrib": 147, "limit": 65535, "base": 0},
        "cs": {"selector": 61440, "attrib": 155, "limit": 65535, "base": 4294901760u32},
        "gdtr": {"selector": 0, "attrib": 0, "limit": 65535, "base": 0},
        "ldtr": {"selector": 0, "attrib": 130, "limit": 65535, "base": 0},
        "tr": {"selector": 0, "attrib": 139, "limit": 65535, "base": 0},
        "cpl": 0, "efer": 4096, "xss": 0, "cr4": 64, "cr3": 0, "cr0": 16, "dr7": 1024, "dr6": 4294905840u32,
        "rflags": 2, "rip": 65520, "rsp": 0, "g_pat": 1974748653749254u64, "rdx": 10489617, "xcr0": 1,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
}

#[test]
fn what_is_no_vmsa_or_no_vcpu_is_named() {
    let shell = shell();
    shell.write("short", [0; 4095]);
    shell.write("bare", [0xf4; 200]);
    shell.write("foreign", {
        let mut page = [0; 4096];
        page[0x2000 / 8] = 1;
        page[0xfff] = 1;
        page
    });
    let mut told = String::new();
    for line in [
        "show short",
        "show nowhere",
        "show foreign",
        "build out --cpu 1 --vcpu-type EPYC --vmsa init2",
        "build out --cpu 1 --vcpu-type EPYC --vmsa init2 --firmware bare",
        "build out --cpu 0 --vcpu-type EPYC --vmsa both",
        "build out --cpu 0 --vmsa init2",
        "build nowhere/out --cpu 0 --vcpu-type EPYC --vmsa init2",
    ] {
        let ran = run(&shell, &format!("sev vmsa {line}"));
        told.push_str(&format!(
            "$ keyward sev vmsa {line}\n{}{}[{}]\n",
            ran.out, ran.err, ran.code
        ));
    }
    transcript("sev-vmsa-mistakes.txt", &told);
}

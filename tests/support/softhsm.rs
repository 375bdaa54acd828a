//! A PKCS#11 token in software: SoftHSM, with a token of its own for each test.

use std::path::Path;

use super::Shell;

/// Where distributions put the module.
const MODULES: [&str; 5] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

pub(crate) const PIN: &str = "pin-of-7-tokens-4711";

/// The module; none, said aloud, where SoftHSM is not installed. `tests/run` installs it and sets
/// `KEYWARD_SOFTHSM=required`, under which its absence fails.
pub(crate) fn module() -> Option<&'static str> {
    let found = MODULES.into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        let required = std::env::var_os("KEYWARD_SOFTHSM").is_some();
        assert!(!required, "SoftHSM is not installed: apt-get install softhsm2");
        eprintln!(
            "NOT TESTED: keys in a PKCS#11 token, as SoftHSM (Debian's package softhsm2) is not installed"
        );
    }
    found
}

/// Makes a token labelled `keyward` that the shell's commands see, and its PIN file; the provider of a key in it, as
/// the command line has it.
pub(crate) fn token(shell: &mut Shell, module: &str) -> String {
    let tokens = shell.path("tokens");
    std::fs::create_dir(&tokens).unwrap();
    shell.write(
        "softhsm2.conf",
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        ),
    );
    let conf = shell.path("softhsm2.conf");
    shell.set("SOFTHSM2_CONF", conf.to_str().unwrap());
    let made = shell
        .command("softhsm2-util")
        .args([
            "--init-token",
            "--free",
            "--label",
            "keyward",
            "--so-pin",
            "12345678",
            "--pin",
            PIN,
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    shell.write("pin", format!("{PIN}\n"));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(shell.path("pin"), mode).unwrap();
    format!("{{pkcs11: {{module: {module}, token: keyward, label: secrets, pin_file: pin}}}}")
}

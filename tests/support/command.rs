//! The `keyward` command as its users start it.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command with an environment that holds nothing of the tester's.
pub(crate) fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(arguments).env_clear();
    command
}

/// Runs it to its end.
pub(crate) fn keyward<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    let Output {
        status,
        stdout,
        stderr,
    } = command(arguments).output().unwrap();
    Ended {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.expect(0)
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }
}

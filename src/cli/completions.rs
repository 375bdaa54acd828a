//! `completions`: what a shell completes, from the same definitions that arguments are read by.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use super::{Ended, command, output};

#[derive(Args)]
#[command(
    after_help = "For a user's bash: keyward completions bash > ~/.local/share/bash-completion/completions/keyward"
)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let mut script = Vec::new();
        generate(self.shell, &mut shown(), "keyward", &mut script);
        output::line(String::from_utf8(script)?.trim_end())?;
        Ok(Ended::Done)
    }
}

/// The command line without `policy worker`: scripts would offer verbs that are hidden.
fn shown() -> Command {
    command().mut_subcommand("policy", |policy| {
        let verbs = policy.get_subcommands().filter(|verb| !verb.is_hide_set());
        Command::new("policy")
            .about(policy.get_about().cloned().unwrap_or_default())
            .args(policy.get_arguments().cloned())
            .subcommands(verbs.cloned())
    })
}

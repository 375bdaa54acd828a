//! `completions`: what a shell completes, from the same definitions that arguments are read by.

use clap::Args;
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
        generate(self.shell, &mut command(), "keyward", &mut script);
        output::line(String::from_utf8(script)?.trim_end())?;
        Ok(Ended::Done)
    }
}

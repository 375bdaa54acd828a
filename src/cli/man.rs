//! `man`: a manual page for each verb, from the same definitions that arguments are read by.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Command};

use super::{Ended, command, output};

#[derive(Args)]
#[command(after_help = "Look at one with: man -l DIR/keyward-serve.1")]
pub(super) struct ManPages {
    /// Folder for the pages, such as /usr/local/share/man/man1; pages that are there are replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl ManPages {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let mut all = command().disable_help_subcommand(true);
        all.build();
        let count = write(&all, &self.out)?;
        output::line(&format!("{count} pages in {}", self.out.display()))?;
        Ok(Ended::Done)
    }
}

/// The page of a verb and those of the verbs below it; how many.
fn write(verb: &Command, folder: &Path) -> anyhow::Result<usize> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(verb.clone()).manual("Keyward");
    let path = folder.join(man.get_filename());
    man.render(&mut page)?;
    fs::write(&path, page).with_context(|| path.display().to_string())?;
    verb.get_subcommands()
        .filter(|below| !below.is_hide_set())
        .map(|below| write(below, folder))
        .try_fold(1, |sum, count| Ok(sum + count?))
}

//! `owner create` and `owner list`: the tenants of a data folder, by whoever can write it.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::init::Undo;
use super::output::{self, Format};
use super::{Ended, database};
use crate::audit::actor::Act;
use crate::domain::token::Token;
use crate::domain::{Clock as _, Name, SystemClock};
use crate::sealing::new_key;
use crate::sev::SystemRandom;
use crate::store::{OwnerCreated, Tokens as _};

#[derive(Subcommand)]
pub(super) enum OwnerVerb {
    /// Make another owner, who sees nothing of the others, and the owner's first token
    Create(Create),
    /// List the owners
    List(List),
    /// Say how many people must confirm what goes beyond a limit
    Set(super::approvals::Set),
}

#[derive(Args)]
#[command(
    after_help = "A trust root besides AMD's (danger_extra_roots) that names no `owners` counts for nobody \
                        once there are several: name them first"
)]
pub(super) struct Create {
    /// Name of the owner
    #[arg(value_name = "NAME")]
    name: String,
    /// Folder that `init` made; the server may be running
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Write the owner's token to this file too, readable by you only
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct List {
    /// Folder that `init` made; the server may be running
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Created<'a> {
    owner: &'a Name,
    token: &'a str,
}

#[derive(Serialize)]
struct Listed {
    owner: Name,
}

impl OwnerVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Create(verb) => verb.run(),
            Self::List(verb) => verb.run(),
            Self::Set(verb) => verb.run(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<Ended> {
        let owner: Name = self
            .name
            .parse()
            .with_context(|| format!("owner {:?}", self.name))?;
        let store = database::open(&self.data_dir)?;
        let token = Token::from_random(&new_key(&SystemRandom)?);
        // First, as a token that nobody could keep is of no use; it goes again if there is no owner.
        let mut made = Undo::default();
        if let Some(path) = &self.token_file {
            made.private_file(path, &format!("{}\n", token.expose()))
                .with_context(|| format!("token file {}", path.display()))?;
        }
        if store.create_owner(&owner, token.hash(), &Act::of_data_folder(SystemClock.now()))?
            == OwnerCreated::Exists
        {
            bail!("there is an owner {owner} already; nothing was changed");
        }
        made.keep();
        let created = Created {
            owner: &owner,
            token: token.expose(),
        };
        if !output::structured(self.output, &created)? {
            output::line(&format!(
                "Owner  {owner}\nToken  {}\n\nThe token is shown once.",
                token.expose()
            ))?;
        }
        Ok(Ended::Done)
    }
}

impl List {
    fn run(self) -> anyhow::Result<Ended> {
        let owners = database::open(&self.data_dir)?.owners()?;
        let owners: Vec<Listed> = owners.into_iter().map(|owner| Listed { owner }).collect();
        if !output::structured(self.output, &owners)? {
            let mut table = output::table(&["owner"]);
            for Listed { owner } in &owners {
                table.add_row([owner.as_str()]);
            }
            output::line(&table.to_string())?;
        }
        Ok(Ended::Done)
    }
}

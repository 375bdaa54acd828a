//! `token create|list|revoke`: who may call a server, and for what.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use jiff::{Span, SpanRelativeTo};
use serde::Serialize;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::client::{Connection, OptionalConnection};
use super::init::Undo;
use super::output::{self, Format, Misused};
use super::{Ended, database};
use crate::audit::actor::Act;
use crate::domain::token::{Token, TokenEntry};
use crate::domain::{Clock as _, Name, Role, SystemClock, Time};
use crate::http::{TokenBody, TokenReply};
use crate::release::tokens::{NewToken, TokenError};
use crate::sealing::new_key;
use crate::sev::SystemRandom;
use crate::store::{TokenCreated, Tokens as _};

#[derive(Subcommand)]
pub(super) enum TokenVerb {
    /// Make a token of a role. Its text is shown once
    Create(Create),
    /// List tokens: role, state, last use
    List(List),
    /// Revoke a token: it is refused from the next request on
    Revoke(Revoke),
}

#[derive(Args)]
#[command(after_help = "Roles:\n  \
        owner          everything of its owner\n  \
        secret-writer  registers and removes secrets, and sees what they are\n  \
        policy-author  makes policies the active ones, and reads what they decided\n  \
        approver       confirms and rejects holds, lowers counts, has a word where two people are asked for\n  \
        auditor        reads decisions, policies and lists, never values, and changes nothing\n  \
        host           a hypervisor, which says who it is when it launches a workload; nothing else\n  \
        admin          the server's: makes owners, and tokens of any owner; sees no owner's objects")]
pub(super) struct Create {
    /// What to call the token
    #[arg(long, value_name = "NAME")]
    name: Name,
    /// What it may do, see below
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// When it ends: 2026-01-31T12:00:00Z, or in so long, such as 90d or 12h. Left out: never
    #[arg(long, value_parser = end, value_name = "TIME")]
    expires: Option<Time>,
    /// Whose it is to be, where an administrator makes it
    #[arg(long, value_name = "NAME")]
    owner: Option<Name>,
    /// Write the token to this file, readable by you only, instead of showing it
    #[arg(long, value_name = "FILE")]
    token_out: Option<PathBuf>,
    /// Make it in this data folder instead of asking a server; the server may be running
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    connection: OptionalConnection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct List {
    /// Only this owner's, where an administrator asks
    #[arg(long, value_name = "NAME")]
    owner: Option<Name>,
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(super) struct Revoke {
    /// The token's id, as `token list` shows it
    #[arg(value_parser = id)]
    id: Uuid,
    #[command(flatten)]
    connection: Connection,
}

/// What `create` prints for programs: the token's text, or the file that it is in.
#[derive(Serialize)]
struct Made<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<&'a Path>,
    #[serde(flatten)]
    entry: &'a TokenEntry,
}

fn id(text: &str) -> Result<Uuid, &'static str> {
    text.parse()
        .map_err(|_| "expected a token's id, a UUID, as `keyward token list` shows it")
}

/// A point in time, or in how long it is.
fn end(text: &str) -> Result<Time, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let long = text.parse::<Span>().ok();
    let long = long.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    match long.and_then(|long| Duration::try_from(long).ok()) {
        Some(long) => Ok(SystemClock.now().after(long)),
        None => {
            Err("expected a time such as 2026-01-31T12:00:00Z, or a duration such as 90d or 12h".to_owned())
        }
    }
}

impl TokenVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Create(create) => create.run(),
            Self::List(list) => list.run(),
            Self::Revoke(revoke) => revoke.run(),
        }
    }
}

impl Create {
    fn run(self) -> anyhow::Result<Ended> {
        if self.data_dir.is_some() && self.connection.is_named() {
            bail!(Misused(
                "a token is made by a server or in a data folder: give --server or --data-dir".to_owned()
            ));
        }
        // First, as a token that nobody could keep is of no use; it goes again if there is no token.
        let mut made = Undo::default();
        if let Some(path) = &self.token_out {
            made.private_file(path, "")
                .with_context(|| format!("token file {}", path.display()))?;
        }
        let TokenReply { token, entry } = match &self.data_dir {
            Some(folder) => self.made_here(folder)?,
            None => self.asked_for()?,
        };
        if let Some(path) = &self.token_out {
            filled(path, &token).with_context(|| {
                format!(
                    "token file {}: the token {} was made and is lost, revoke it",
                    path.display(),
                    entry.id
                )
            })?;
        }
        made.keep();
        let shown = self.token_out.is_none().then_some(token.as_str());
        let printed = Made {
            token: shown,
            token_file: self.token_out.as_deref(),
            entry: &entry,
        };
        if !output::structured(self.output, &printed)? {
            let (token, last) = match &self.token_out {
                None => (token.as_str().to_owned(), "\n\nThe token is shown once."),
                Some(path) => (format!("in {}", path.display()), ""),
            };
            output::line(&format!(
                "Id       {}\nName     {}\nRole     {}\nOwner    {}\nExpires  {}\nToken    {token}{last}",
                entry.id,
                entry.name,
                entry.role,
                owner(&entry),
                time(entry.expires),
            ))?;
        }
        Ok(Ended::Done)
    }

    fn asked_for(&self) -> anyhow::Result<TokenReply> {
        let body = TokenBody {
            name: self.name.clone(),
            role: self.role,
            owner: self.owner.clone(),
            expires: self.expires,
        };
        self.connection.client()?.post("/v1/tokens", &body)
    }

    /// Whoever can write the data folder is its administrator.
    fn made_here(&self, folder: &Path) -> anyhow::Result<TokenReply> {
        let store = database::open(folder)?;
        let new = NewToken {
            name: self.name.clone(),
            role: self.role,
            owner: self.owner.clone(),
            expires: self.expires,
        };
        let act = Act::of_data_folder(SystemClock.now());
        let entry = new.entry(Role::Admin, None, act.time)?;
        let token = Token::from_random(&new_key(&SystemRandom)?);
        match store.create_token(&entry, token.hash(), &act)? {
            TokenCreated::Created => Ok(TokenReply {
                token: Zeroizing::new(token.expose().to_owned()),
                entry,
            }),
            TokenCreated::NoOwner => bail!("there is no such owner: `keyward owner list` shows them"),
            TokenCreated::Full(most) => bail!(TokenError::Full(most)),
        }
    }
}

/// Writes the token into the file that was made for it.
pub(super) fn filled(path: &Path, token: &Zeroizing<String>) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(token.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

impl List {
    fn run(self) -> anyhow::Result<Ended> {
        let mut path = "/v1/tokens".to_owned();
        if let Some(owner) = &self.owner {
            path.push_str(&format!("?owner={owner}"));
        }
        let items: Vec<TokenEntry> = self.connection.client()?.list(&path)?;
        if output::structured(self.output, &items)? {
            return Ok(Ended::Done);
        }
        let now = SystemClock.now();
        let mut table = output::table(&["name", "role", "owner", "state", "expires", "last used", "id"]);
        for entry in &items {
            table.add_row([
                entry.name.to_string(),
                entry.role.to_string(),
                owner(entry).to_owned(),
                state(entry, now).to_owned(),
                time(entry.expires),
                time(entry.last_used),
                entry.id.to_string(),
            ]);
        }
        output::line(&table.trim_fmt())?;
        Ok(Ended::Done)
    }
}

impl Revoke {
    fn run(self) -> anyhow::Result<Ended> {
        self.connection
            .client()?
            .delete(&format!("/v1/tokens/{}", self.id))?;
        output::line(&format!("Token {}: revoked", self.id))?;
        Ok(Ended::Done)
    }
}

fn owner(entry: &TokenEntry) -> &str {
    entry.owner.as_ref().map_or("-", Name::as_str)
}

fn time(time: Option<Time>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| time.to_string())
}

/// Whether a token opens anything.
pub(super) fn is_valid(entry: &TokenEntry, now: Time) -> bool {
    state(entry, now) == "valid"
}

fn state(entry: &TokenEntry, now: Time) -> &'static str {
    match (entry.revoked, entry.expires) {
        (Some(_), _) => "revoked",
        (None, Some(expires)) if expires <= now => "expired",
        (None, _) => "valid",
    }
}

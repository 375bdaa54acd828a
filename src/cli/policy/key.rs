//! `policy key`: whose signature a bundle needs.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::cli::Ended;
use crate::cli::client::Connection;
use crate::cli::decision_text::printable;
use crate::cli::output::{self, Format};
use crate::domain::object::Applied;
use crate::domain::{Labels, Name};
use crate::http::{SigningKeyBody, SigningKeyList};
use crate::policy::opa::SignatureAlgorithm;

#[derive(Subcommand)]
pub(in crate::cli) enum KeyVerb {
    /// Register a public key. From then on, only bundles that a registered key has signed become active
    Add(Add),
    /// List the registered keys
    List(List),
    /// Remove a key: what only it has signed is not gone back to
    Remove(Remove),
}

#[derive(Args)]
pub(in crate::cli) struct Add {
    /// Name of the key, which signatures call `kid`
    name: Name,
    /// File of the public key, PEM
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    /// The only algorithm it is used with; left out: that of its curve, or RS256
    #[arg(long, value_name = "ALG")]
    alg: Option<SignatureAlgorithm>,
    /// Scope that signatures must be made for
    #[arg(long, value_name = "TEXT")]
    scope: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    connection: Connection,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Args)]
pub(in crate::cli) struct Remove {
    /// Name of the key
    name: Name,
    /// Remove it even if it is the only one, after which bundles need no signature
    #[arg(long)]
    allow_unsigned: bool,
    #[command(flatten)]
    connection: Connection,
}

impl KeyVerb {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::Add(add) => add.run(),
            Self::List(list) => list.run(),
            Self::Remove(remove) => remove.run(),
        }
    }
}

impl Add {
    fn run(self) -> anyhow::Result<Ended> {
        let file = self.public_key.display();
        let public_key =
            std::fs::read_to_string(&self.public_key).with_context(|| format!("public key {file}"))?;
        // A private key must not leave this machine, not even to be refused.
        crate::policy::opa::VerificationKey::usual_algorithm(&public_key)
            .with_context(|| format!("public key {file}"))?;
        let body = SigningKeyBody {
            public_key,
            algorithm: self.alg,
            scope: self.scope,
            labels: Labels::default(),
        };
        let client = self.connection.client()?;
        let applied: Applied = client.put(&format!("/v1/signing-keys/{}", self.name), &body)?;
        let action = applied
            .changes
            .first()
            .map_or("registered", |change| change.action.as_str());
        output::line(&format!("Signing key {}: {action}", self.name))?;
        for warning in &applied.warnings {
            output::line(&format!("\nwarning: {warning}"))?;
        }
        Ok(Ended::Done)
    }
}

impl List {
    fn run(self) -> anyhow::Result<Ended> {
        let list = SigningKeyList {
            items: self.connection.client()?.list("/v1/signing-keys")?,
            next: None,
        };
        if output::structured(self.output, &list)? {
            return Ok(Ended::Done);
        }
        if list.items.is_empty() {
            output::line("No signing keys: bundles need no signature")?;
            return Ok(Ended::Done);
        }
        let mut table = output::table(&["name", "algorithm", "scope", "registered"]);
        for item in &list.items {
            table.add_row([
                item.name.to_string(),
                item.key.algorithm.to_string(),
                item.key
                    .scope
                    .as_deref()
                    .map_or_else(|| "-".to_owned(), printable),
                item.registered.to_string(),
            ]);
        }
        output::line(&table.trim_fmt())?;
        Ok(Ended::Done)
    }
}

impl Remove {
    fn run(self) -> anyhow::Result<Ended> {
        let query = if self.allow_unsigned {
            "?allow-unsigned=true"
        } else {
            ""
        };
        self.connection
            .client()?
            .delete(&format!("/v1/signing-keys/{}{query}", self.name))?;
        output::line(&format!("Signing key {}: removed", self.name))?;
        Ok(Ended::Done)
    }
}

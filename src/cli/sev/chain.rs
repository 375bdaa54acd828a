//! `sev chain`: who is this platform?

use clap::Args;
use serde::Serialize;

use super::platform::Presented;
use crate::cli::Ended;
use crate::cli::output::{self, Format};
use crate::sev::{ChainError, Fingerprints, VerifiedPlatform};

#[derive(Args)]
pub(in crate::cli) struct Chain {
    #[command(flatten)]
    presented: Presented,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Verified {
    verified: bool,
    root: String,
    product: Option<String>,
    api_major: u8,
    api_minor: u8,
    fingerprints: Fingerprints,
}

#[derive(Serialize)]
struct Refused {
    verified: bool,
    reason: String,
}

impl Chain {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self.presented.verify()? {
            Ok(platform) => self.verified(&platform),
            Err(error) => refused(self.output, &error),
        }
    }

    fn verified(&self, platform: &VerifiedPlatform) -> anyhow::Result<Ended> {
        let verified = Verified {
            verified: true,
            root: platform.root().to_owned(),
            product: platform.product().map(|product| product.to_string()),
            api_major: platform.api_major(),
            api_minor: platform.api_minor(),
            fingerprints: *platform.fingerprints(),
        };
        if output::structured(self.output, &verified)? {
            return Ok(Ended::Done);
        }
        let prints = &verified.fingerprints;
        output::line(&format!(
            "verified   root {}, product {}",
            verified.root,
            verified.product.as_deref().unwrap_or("not known")
        ))?;
        output::line(&format!(
            "API        {}.{} when the PDH was made",
            verified.api_major, verified.api_minor
        ))?;
        let all = [
            ("ARK", prints.ark),
            ("ASK", prints.ask),
            ("CEK", prints.cek),
            ("OCA", prints.oca),
            ("PEK", prints.pek),
            ("PDH", prints.pdh),
        ];
        for (name, print) in all {
            output::line(&format!("{name}        {}", hex::encode(print)))?;
        }
        Ok(Ended::Done)
    }
}

/// Says why a chain is refused.
pub(super) fn refused(format: Format, error: &ChainError) -> anyhow::Result<Ended> {
    let refused = Refused {
        verified: false,
        reason: error.to_string(),
    };
    if !output::structured(format, &refused)? {
        output::line(&format!("refused    {}", refused.reason))?;
    }
    Ok(Ended::Denied)
}

//! Bundles by what people call them: a folder, or a revision that a server has.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use serde::Deserialize;

use super::{bundle, refused};
use crate::cli::client::{Client, OptionalConnection, from};
use crate::domain::HexDigest;
use crate::domain::revision::Revision;
use crate::http::BundleList;
use crate::policy::Bundle;

/// As many digits of a digest name a bundle, if no other begins with them.
const FEWEST: usize = 8;

/// A bundle as a server shows it.
#[derive(Deserialize)]
struct Shown {
    digest: HexDigest,
    files: BTreeMap<String, String>,
}

/// The bundle of a folder, or of a revision of the server.
pub(super) fn find(word: &str, connection: &OptionalConnection) -> anyhow::Result<Bundle> {
    if Path::new(word).is_dir() || Path::new(word).is_file() {
        return bundle(Path::new(word))?.map_err(refused);
    }
    if !is_revision(word) {
        bail!(
            "{word} is neither a folder nor a revision: name a folder, or `active`, a revision's number, or at \
             least {FEWEST} digits of a bundle's digest"
        );
    }
    if !connection.is_named() && !connection.has_token() {
        bail!("{word} is no folder here; for a revision name the server with --server and --token-file");
    }
    let client = connection.client()?;
    let digest = if is_number(word) {
        let revision: Revision = client
            .get(&format!("/v1/revisions/{word}"))
            .with_context(|| format!("revision {word}"))?;
        revision.digest
    } else {
        resolve(word, &bundles(&client)?)?
    };
    fetch(&client, digest).with_context(|| format!("revision {word}"))
}

/// Every bundle, page by page.
fn bundles(client: &Client) -> anyhow::Result<BundleList> {
    let mut list: BundleList = client.get("/v1/bundles")?;
    while let Some(cursor) = list.next.take() {
        let page: BundleList = client.get(&from("/v1/bundles", Some(&cursor)))?;
        list.items.extend(page.items);
        list.next = page.next;
    }
    Ok(list)
}

/// Numbers are short, and digests are not.
fn is_number(word: &str) -> bool {
    !word.is_empty() && word.len() < FEWEST && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_revision(word: &str) -> bool {
    let digits = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    word == "active" || is_number(word) || (digits && (FEWEST..=64).contains(&word.len()))
}

/// Which bundle of the list is meant.
fn resolve(word: &str, list: &BundleList) -> anyhow::Result<HexDigest> {
    if word == "active" {
        return list.active.context("no bundle is active");
    }
    let prefix = word.to_ascii_lowercase();
    let mut found: Vec<HexDigest> = list.items.iter().map(|item| item.digest).collect();
    found.retain(|digest| digest.to_string().starts_with(&prefix));
    found.dedup();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(anyhow!(
            "no bundle of the server begins with {word}: it has {}",
            words(&list.items.iter().map(|item| item.digest).collect::<Vec<_>>())
        )),
        several => Err(anyhow!(
            "{word} may be any of {}: give more digits",
            words(several)
        )),
    }
}

fn words(digests: &[HexDigest]) -> String {
    if digests.is_empty() {
        return "none".to_owned();
    }
    let shown = digests.iter().take(8).map(|digest| {
        let text = digest.to_string();
        text.get(..16).unwrap_or(&text).to_owned()
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if digests.len() > 8 {
        text.push_str(", …");
    }
    text
}

fn fetch(client: &Client, digest: HexDigest) -> anyhow::Result<Bundle> {
    let shown: Shown = client.get(&format!("/v1/bundles/{digest}"))?;
    let files = shown
        .files
        .into_iter()
        .map(|(path, text)| (path, text.into_bytes()));
    let bundle = Bundle::from_files(files.collect()).map_err(refused)?;
    if shown.digest != digest || bundle.digest() != digest.0 {
        bail!("the server gave another bundle than {digest}");
    }
    Ok(bundle)
}

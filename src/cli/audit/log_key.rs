//! The key that signs the audit log: sealed in the database under the key file, its public half beside it.

use anyhow::{Context as _, bail};

use crate::audit::key::{KeyName, SignerKey, VerifierKey};
use crate::sealing::{Place, SealError, Sealer, new_key};
use crate::sev::{Random as _, SystemRandom};
use crate::store::SqlStore;

const PUBLIC: &str = "audit_log_public_key";

/// Makes the key of a data folder that has none.
pub(in crate::cli) fn make(
    store: &SqlStore,
    sealer: &Sealer,
    name: Option<KeyName>,
) -> anyhow::Result<VerifierKey> {
    if store.audit_log_key()?.is_some() {
        bail!("the audit log of this data folder has a key already; nothing was changed");
    }
    let name = match name {
        Some(name) => name,
        None => {
            let mut bytes = [0; 8];
            SystemRandom.fill(&mut bytes)?;
            format!("keyward/{}", hex::encode(bytes)).parse()?
        }
    };
    let key = SignerKey::from_seed(name, new_key(&SystemRandom)?)?;
    let sealed = sealer.seal(Place::AuditLogKey, key.to_text().as_bytes(), &SystemRandom)?;
    // The sealed one last: without it there is no key, and the next try makes another.
    store.set_meta(PUBLIC, &key.verifier().to_string())?;
    store.keep_audit_log_key(sealed)?;
    Ok(key.verifier().clone())
}

/// The key; none: the data folder is older than the audit log.
pub(in crate::cli) fn load(store: &SqlStore, sealer: &Sealer) -> anyhow::Result<Option<SignerKey>> {
    let Some(sealed) = store.audit_log_key()? else {
        return Ok(None);
    };
    let mut opened = sealer.open(Place::AuditLogKey, &sealed);
    // A rotation ended between the two: it is sealed anew by now.
    if matches!(opened, Err(SealError::Retired(_)))
        && let Some(sealed) = store.audit_log_key()?
    {
        opened = sealer.open(Place::AuditLogKey, &sealed);
    }
    let damaged = "the audit log's key is damaged in the database";
    let text = match opened {
        Err(error) if !error.is_of_the_value() => return Err(error.into()),
        opened => opened.context(damaged)?,
    };
    let text = std::str::from_utf8(&text).context(damaged)?;
    Ok(Some(SignerKey::parse(text).context(damaged)?))
}

/// The public half, for which no key file is needed.
pub(in crate::cli) fn public(store: &SqlStore) -> anyhow::Result<VerifierKey> {
    let text = store.meta(PUBLIC)?;
    let text =
        text.context("the audit log of this data folder has no key: run `keyward audit init` first")?;
    text.parse().context("the audit log's public key in the database")
}

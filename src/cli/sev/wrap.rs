//! Secrets from files into a table, and the table into a packet for one guest.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::check::Held;
use super::files;
use crate::cli::output::{self, Misused};
use crate::sev::secret_table::{self, ALIASES, DEFAULT_AREA, Entry, LUKS_PASSPHRASE};
use crate::sev::{Packet, SystemRandom, packet};

/// Which secrets, and where the packet goes.
#[derive(Args)]
pub(super) struct Wrapping {
    /// A secret for the guest: its GUID, or an alias of `sev secret guids`, and the file; several may be given
    #[arg(long = "secret", value_name = "GUID|ALIAS:FILE", value_parser = named, requires = "secret_header")]
    secrets: Vec<(Uuid, PathBuf)>,
    /// Where the packet's header is written, base64 as QEMU and libvirt take it
    #[arg(long, value_name = "FILE", requires_all = ["secret_payload", "secrets"])]
    secret_header: Option<PathBuf>,
    /// Where the packet's payload is written, base64 too
    #[arg(long, value_name = "FILE", requires = "secret_header")]
    secret_payload: Option<PathBuf>,
    /// Size of the firmware's area for secrets in bytes; what the firmware says, or 3072, if not given
    #[arg(long, value_name = "BYTES", requires = "secrets")]
    secret_area: Option<usize>,
}

impl Wrapping {
    pub(super) fn is_wanted(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Whether what was asked for can be written as asked.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.secret_header.is_some() && self.secret_header == self.secret_payload {
            let why = "--secret-header and --secret-payload name one file, and the packet is two";
            return Err(Misused(why.to_owned()).into());
        }
        Ok(())
    }

    /// The table of all secrets, for the firmware of the guest.
    pub(super) fn table(&self, of_firmware: Option<usize>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let area = self.secret_area.or(of_firmware).unwrap_or(DEFAULT_AREA);
        table(&self.secrets, area)
    }

    /// Wraps the table and writes both files.
    pub(super) fn write(&self, held: &Held, table: &[u8]) -> anyhow::Result<Packet> {
        let (Some(header), Some(payload)) = (&self.secret_header, &self.secret_payload) else {
            return Err(Misused("--secret needs --secret-header and --secret-payload".to_owned()).into());
        };
        let packet = packet::seal(&held.keys, &held.attested, table, &SystemRandom)?;
        let [of_header, of_payload] = [&packet.header[..], &packet.payload].map(files::encoded);
        files::replace_together(&[(header, of_header.as_bytes()), (payload, of_payload.as_bytes())])?;
        Ok(packet)
    }

    /// Says what went where.
    pub(super) fn tell(&self) -> anyhow::Result<()> {
        let name = |path: &Option<PathBuf>| path.as_deref().unwrap_or(Path::new("")).display().to_string();
        let secrets = self.secrets.len();
        let plural = if secrets == 1 { "" } else { "s" };
        output::line(&format!(
            "wrapped    {secrets} secret{plural}: header {}, payload {}",
            name(&self.secret_header),
            name(&self.secret_payload)
        ))
    }
}

/// Reads the secrets and builds their table.
pub(super) fn table(secrets: &[(Uuid, PathBuf)], area: usize) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let entries: anyhow::Result<Vec<Entry>> = secrets.iter().map(|(guid, path)| entry(*guid, path)).collect();
    Ok(secret_table::build_for_area(&entries?, area)?)
}

fn entry(guid: Uuid, path: &Path) -> anyhow::Result<Entry> {
    let data = files::small(path)?;
    if data.is_empty() {
        bail!("{}: is empty, and no secret", path.display());
    }
    if guid == LUKS_PASSPHRASE {
        if data.contains(&0) {
            bail!(
                "{}: a passphrase must not contain a NUL byte: the guest would read it only up to there",
                path.display()
            );
        }
        if data.last() == Some(&b'\n') {
            output::note(&format!(
                "{} ends with a newline, which the guest takes as part of the passphrase",
                path.display()
            ));
        }
    }
    Ok(Entry { guid, data })
}

/// `GUID:FILE` or `ALIAS:FILE`.
pub(super) fn named(text: &str) -> Result<(Uuid, PathBuf), String> {
    let (name, file) = text
        .split_once(':')
        .filter(|(_, file)| !file.is_empty())
        .ok_or("expected GUID:FILE or ALIAS:FILE, such as luks-passphrase:disk.key")?;
    let alias = ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map(|(_, guid)| *guid);
    let guid = alias.or_else(|| Uuid::parse_str(name).ok()).ok_or_else(|| {
        let known: Vec<&str> = ALIASES.iter().map(|(alias, _)| *alias).collect();
        format!("{name} is neither a GUID nor one of {}", known.join(", "))
    })?;
    secret_table::check_guid(guid).map_err(|e| e.to_string())?;
    Ok((guid, file.into()))
}

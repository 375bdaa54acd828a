//! `sev session`: what a launch on one platform starts with.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::chain::refused;
use super::files::{self, PRIVATE, PUBLIC};
use super::platform::Presented;
use super::policy::GuestPolicy;
use crate::cli::Ended;
use crate::cli::output::{self, Format, Misused};
use crate::sev::{Product, SystemRandom, session};

#[derive(Args)]
pub(in crate::cli) struct MakeSession {
    #[command(flatten)]
    presented: Presented,
    #[command(flatten)]
    policy: GuestPolicy,
    /// What the files' names begin with
    #[arg(short, long, value_name = "NAME", default_value = "vm")]
    name: String,
    /// The folder they are written to, if not here
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

#[derive(Serialize)]
struct Made {
    verified: bool,
    root: String,
    product: Option<String>,
    policy: u32,
    dh_cert_file: PathBuf,
    session_file: PathBuf,
    tik: PathBuf,
    tek: PathBuf,
    tk: PathBuf,
}

impl MakeSession {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        self.policy.check()?;
        if self.name.is_empty() || self.name.contains('/') {
            let why = format!(
                "--name {}: expected the beginning of a file's name; --out names the folder",
                self.name
            );
            return Err(Misused(why).into());
        }
        let platform = match self.presented.verify()? {
            Ok(platform) => platform,
            Err(error) => return refused(self.output, &error),
        };
        let session = session::start(platform.pdh(), self.policy.policy, &SystemRandom)?;
        let folder = self.out.clone().unwrap_or_default();
        let path = |ending: &str| folder.join(format!("{}_{ending}", self.name));
        let made = Made {
            verified: true,
            root: platform.root().to_owned(),
            product: platform.product().map(|product| product.to_string()),
            policy: self.policy.policy.bits(),
            dh_cert_file: path("godh.b64"),
            session_file: path("session.b64"),
            tik: path("tik.bin"),
            tek: path("tek.bin"),
            tk: path("tk.bin"),
        };
        let keys = session.keys.to_bytes();
        let (tek, tik) = keys.split_at(16);
        let certificate = files::encoded(session.owner_certificate.as_bytes());
        let blob = files::encoded(&session.blob);
        files::write_together(&[
            (&made.dh_cert_file, certificate.as_bytes(), PUBLIC),
            (&made.session_file, blob.as_bytes(), PUBLIC),
            (&made.tik, tik, PRIVATE),
            (&made.tek, tek, PRIVATE),
            (&made.tk, keys.as_slice(), PRIVATE),
        ])?;
        if platform.product() == Some(Product::Naples) {
            output::note(
                "the platform is a Naples, whose firmware can be rolled back and its keys extracted: the chain proves little",
            );
        }
        if !output::structured(self.output, &made)? {
            made.tell()?;
        }
        Ok(Ended::Done)
    }
}

impl Made {
    fn tell(&self) -> anyhow::Result<()> {
        let (certificate, session) = (self.dh_cert_file.display(), self.session_file.display());
        let product = self.product.as_deref().unwrap_or("not known");
        let policy = self.policy;
        output::line(&format!("verified   root {}, product {product}", self.root))?;
        output::line(&format!("to host    {certificate}, {session}"))?;
        output::line(&format!(
            "to keep    {}, {}, and both in {}",
            self.tik.display(),
            self.tek.display(),
            self.tk.display()
        ))?;
        output::line(&format!(
            "QEMU       -object sev-guest,id=sev0,policy={policy:#x},dh-cert-file={certificate},session-file={session},cbitpos=…,reduced-phys-bits=…"
        ))?;
        output::line(&format!(
            "libvirt    <policy>{policy:#06x}</policy>, <dhCert> and <session> with the text of the two files"
        ))
    }
}

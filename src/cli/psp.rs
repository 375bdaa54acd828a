//! `psp`: the software PSP on the command line, in files. Its JSON fits the host API as it is, so that
//! `curl` between two of these commands plays a whole launch.

mod input;
mod launch;
mod load;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Ended, output, sev};
use crate::domain::{Base64, Base64Bytes};
use crate::psp::{Ca, Faults, Guest, Platform, PlatformOptions};
use crate::sev::Build;
use crate::sev::launch_digest::{VmsaVariant, save_areas};
use crate::sev::policy::Scheme;

#[derive(Subcommand)]
pub(super) enum PspVerb {
    /// Make a platform with a root of its own, in a new file
    New(New),
    /// Print the platform's launch request, and write its certificates
    Chain(Chain),
    /// Start a guest with the server's answer to the launch request
    LaunchStart(launch::LaunchStart),
    /// Load an image into the guest, measure it, and print the validate request
    Measure(Measure),
    /// Give the guest the server's packet; prints what it finds in it
    Secret(launch::Secret),
    /// Print what a policy would read about a guest, for `policy eval --input -`
    Input(Box<input::MakeInput>),
    /// Drive a running server with many platforms, and print throughput and latencies
    Load(Box<load::Load>),
}

#[derive(Args)]
pub(super) struct New {
    /// The platform's file; holds private keys
    platform: PathBuf,
    /// API version of its firmware
    #[arg(long, default_value = "1.55", value_parser = api, value_name = "MAJOR.MINOR")]
    api: (u8, u8),
    /// Build of its firmware
    #[arg(long, default_value_t = 8, value_name = "N")]
    build_id: u8,
    /// Bits of the root's RSA keys: 4096, or 2048 as on Naples
    #[arg(long, default_value = "4096", value_parser = bits, value_name = "N", conflicts_with = "ca_of")]
    bits: u32,
    /// Take the certificate authority of this platform instead of making one
    #[arg(long, value_name = "PLATFORM")]
    ca_of: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Chain {
    /// The platform's file
    platform: PathBuf,
    /// Which chain: unsigned as QEMU gives it, with a signed CEK, or with ASK and ARK behind
    #[arg(long, value_enum, default_value = "full", value_name = "FORM")]
    form: Form,
    /// Also write ark.cert, ask-ark.cert, cek.cert, pdh.cert, chain.cert and cpu-id.txt to this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Unsigned,
    Signed,
    Full,
}

#[derive(Args)]
pub(super) struct Measure {
    /// The guest's file
    guest: PathBuf,
    #[command(flatten)]
    image: sev::Image,
    /// Form of the vCPUs' first state (SEV-ES)
    #[arg(long, default_value = "init2", value_parser = variant, value_name = "legacy|init2")]
    vmsa: VmsaVariant,
}

fn api(text: &str) -> Result<(u8, u8), String> {
    let parsed = text
        .split_once('.')
        .map(|(major, minor)| (major.parse(), minor.parse()));
    match parsed {
        Some((Ok(major), Ok(minor))) => Ok((major, minor)),
        _ => Err("expected MAJOR.MINOR, such as 1.55".to_owned()),
    }
}

fn bits(text: &str) -> Result<u32, String> {
    match text {
        "2048" => Ok(2048),
        "4096" => Ok(4096),
        _ => Err("expected 2048 or 4096".to_owned()),
    }
}

fn variant(text: &str) -> Result<VmsaVariant, String> {
    text.parse().map_err(|_| "expected legacy or init2".to_owned())
}

impl PspVerb {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        match self {
            Self::New(verb) => verb.run(),
            Self::Chain(verb) => verb.run(),
            Self::LaunchStart(verb) => verb.run(),
            Self::Measure(verb) => verb.run(),
            Self::Secret(verb) => verb.run(),
            Self::Input(verb) => verb.run(),
            Self::Load(verb) => verb.run(),
        }
    }
}

impl New {
    fn run(self) -> anyhow::Result<Ended> {
        let build = Build {
            api_major: self.api.0,
            api_minor: self.api.1,
            build_id: self.build_id,
        };
        let options = PlatformOptions {
            chip_id: None,
            build,
            faults: Faults::default(),
        };
        let ca = match &self.ca_of {
            Some(other) => {
                let path = ca_path(other);
                Ca::from_bytes(&private(&path)?).with_context(|| path.display().to_string())?
            }
            None => Ca::generate(self.bits)?,
        };
        let platform = Platform::generate_with_ca(&ca, &options)?;
        write_private(&self.platform, &platform.to_bytes()?, true)?;
        write_private(&ca_path(&self.platform), &ca.to_bytes()?, true)?;
        output::line(&format!(
            "{}: a software platform, chip {}…\nA server trusts it only with its ARK under `danger_extra_roots`; `keyward psp chain --out DIR` writes that.",
            self.platform.display(),
            hex::encode(platform.chip_id()).get(..16).unwrap_or_default()
        ))?;
        Ok(Ended::Done)
    }
}

/// The authority's keys lie beside the platform's, so that more platforms can be made under it.
fn ca_path(platform: &Path) -> PathBuf {
    let mut name = platform.as_os_str().to_owned();
    name.push(".ca");
    name.into()
}

impl Chain {
    fn run(self) -> anyhow::Result<Ended> {
        let platform = platform(&self.platform)?;
        let chain = chain(&platform, self.form)?;
        let pdh = platform.pdh();
        if let Some(folder) = &self.out {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            let id = hex::encode(platform.chip_id());
            let files: [(&str, &[u8]); 6] = [
                ("ark.cert", &platform.ark()),
                ("ask-ark.cert", &[platform.ask(), platform.ark()].concat()),
                ("cek.cert", &platform.signed_cek()),
                ("pdh.cert", &pdh),
                ("chain.cert", &chain),
                ("cpu-id.txt", id.as_bytes()),
            ];
            for (name, bytes) in files {
                let path = folder.join(name);
                fs::write(&path, bytes).with_context(|| path.display().to_string())?;
            }
        }
        let request = json!({
            "pdh": Base64Bytes(pdh),
            "cert-chain": Base64Bytes(chain),
            "cpu-id": Base64(*platform.chip_id()),
        });
        output::line(&serde_json::to_string_pretty(&request)?)?;
        Ok(Ended::Done)
    }
}

fn chain(platform: &Platform, form: Form) -> anyhow::Result<Vec<u8>> {
    Ok(match form {
        Form::Unsigned => platform.cert_chain()?,
        Form::Signed => platform.cert_chain_signed(),
        Form::Full => platform.full_chain(),
    })
}

impl Measure {
    fn run(self) -> anyhow::Result<Ended> {
        let mut guest = guest(&self.guest)?;
        let failed = |command: &'static str| move |status| anyhow::anyhow!("{command}: {status}");
        let (firmware, kernel) = (self.image.firmware()?, self.image.kernel()?);
        guest
            .launch_update_data(firmware.bytes())
            .map_err(failed("LAUNCH_UPDATE_DATA"))?;
        if let Some(kernel) = kernel {
            guest
                .launch_update_data(&kernel.to_table())
                .map_err(failed("LAUNCH_UPDATE_DATA"))?;
        }
        if self.image.scheme == Scheme::AmdSevEs {
            let (vcpus, cpu) = self.image.cpus()?;
            for area in save_areas(&firmware, vcpus, cpu, self.vmsa)? {
                guest
                    .launch_update_vmsa(&area)
                    .map_err(failed("LAUNCH_UPDATE_VMSA"))?;
            }
        }
        let measurement = guest.launch_measure().map_err(failed("LAUNCH_MEASURE"))?;
        write_private(&self.guest, &guest.to_bytes()?, false)?;
        let build = guest.build();
        let mut request = json!({
            "api-major": build.api_major,
            "api-minor": build.api_minor,
            "build-id": build.build_id,
            "policy": guest.policy().bits(),
            "measurement": Base64(measurement),
        });
        if let (Some(vcpus), Some(map)) = (self.image.vcpus(), request.as_object_mut()) {
            map.insert("cpu-count".to_owned(), vcpus.into());
        }
        output::line(&serde_json::to_string_pretty(&request)?)?;
        Ok(Ended::Done)
    }
}

fn platform(path: &Path) -> anyhow::Result<Platform> {
    Platform::from_bytes(&private(path)?).with_context(|| path.display().to_string())
}

fn guest(path: &Path) -> anyhow::Result<Guest> {
    Guest::from_bytes(&private(path)?).with_context(|| path.display().to_string())
}

fn private(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    Ok(Zeroizing::new(
        fs::read(path).with_context(|| path.display().to_string())?,
    ))
}

/// Writes what holds keys, for its owner's eyes only. One that must be new is never overwritten.
fn write_private(path: &Path, bytes: &[u8], new: bool) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).mode(0o600);
    if new {
        options.create_new(true)
    } else {
        options.truncate(true)
    };
    let mut file = options.open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{} exists already; name another or remove it", path.display())
        }
        _ => anyhow::Error::new(error).context(path.display().to_string()),
    })?;
    file.write_all(bytes).with_context(|| path.display().to_string())
}

/// The platform's launch request, for the demo.
pub(super) fn launch_request(platform: &Platform) -> serde_json::Value {
    json!({
        "pdh": Base64Bytes(platform.pdh()),
        "cert-chain": Base64Bytes(platform.full_chain()),
        "cpu-id": Base64(*platform.chip_id()),
    })
}

//! `psp input`: the document that a policy would read about a guest, for `policy eval`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use uuid::Uuid;

use crate::cli::Ended;
use crate::cli::output::{self, Misused};
use crate::domain::{Hex, HexDigest, Name, Time};
use crate::policy::{self, DigestSource, Input, Phase};
use crate::release::{fingerprints, policy_bits};
use crate::sev::chain::PresentedChain;
use crate::sev::policy::Scheme;
use crate::sev::{CaCertificate, Product, SevPolicy, TrustedRoots};

#[derive(Args)]
pub(in crate::cli) struct MakeInput {
    /// The platform's file, for its fingerprints and versions; made up without one
    platform: Option<PathBuf>,
    /// Which of the two questions it is for; at launch nothing is attested yet
    #[arg(long, value_enum, default_value = "release")]
    phase: When,
    /// The technology
    #[arg(long, value_parser = scheme, default_value = "amd-sev-es", value_name = "amd-sev|amd-sev-es")]
    scheme: Scheme,
    /// SEV policy, decimal or 0x…; NODBG and NOKS, and ES where the scheme is that, if not given
    #[arg(long, value_parser = number, value_name = "N")]
    policy: Option<u32>,
    /// Number of vCPUs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    vcpus: u32,
    /// The attested launch digest, 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    launch_digest: Option<HexDigest>,
    /// The digest is that of the workload's image of this name
    #[arg(long, value_name = "NAME")]
    image: Option<Name>,
    /// The digest was only proposed by the host
    #[arg(long, conflicts_with = "image")]
    hint: bool,
    /// Attested API version of the firmware; the platform's if not given
    #[arg(long, value_parser = super::api, value_name = "MAJOR.MINOR")]
    api: Option<(u8, u8)>,
    /// Attested build of the firmware; the platform's if not given
    #[arg(long, value_name = "N")]
    build_id: Option<u8>,
    /// Name of the trusted root; with a product `amd`
    #[arg(long, value_name = "NAME")]
    root: Option<Name>,
    /// The product, such as milan; none under a root of one's own
    #[arg(long, value_name = "PRODUCT")]
    product: Option<Product>,
    /// The chip, as if AMD's service vouched for it, 128 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    chip_id: Option<Hex<64>>,
    /// The owner
    #[arg(long, value_name = "NAME", default_value = "example")]
    owner: Name,
    /// The workload
    #[arg(long, value_name = "NAME", default_value = "database")]
    workload: Name,
    /// The workload's UUID
    #[arg(
        long,
        value_name = "UUID",
        default_value = "6e16ff6e-3d2c-4b4b-8f3f-7a35c1d1f8a4"
    )]
    uuid: Uuid,
    /// A secret that is asked for; several may be
    #[arg(long = "secret", value_name = "NAME", default_value = "database/disk")]
    secrets: Vec<Name>,
    /// The one secret that a policy of a secret or key set is asked about
    #[arg(long, value_name = "NAME")]
    about: Option<Name>,
    /// What the host claims: cpu-count, cpu-id, firmware-hash, kernel-hash, initrd-hash, cmdline-hash or description
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,
    /// Releases of the workload before: ever, within an hour, within a day
    #[arg(long, value_name = "TOTAL[,HOUR,DAY]", value_parser = releases, default_value = "0,0,0")]
    releases: Counts,
    /// The host's address
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.10")]
    host: IpAddr,
    /// The server's clock, RFC 3339; a time of 2026 if not given
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    /// May the guest be launched?
    Launch,
    /// May it have its secrets?
    Release,
}

#[derive(Clone, Copy)]
struct Counts(u64, u64, u64);

fn scheme(text: &str) -> Result<Scheme, String> {
    text.parse()
        .map_err(|_| "expected amd-sev or amd-sev-es".to_owned())
}

fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "expected a number of 32 bits, such as 7 or 0x7".to_owned())
}

fn claim(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected NAME=VALUE, such as cpu-count=4".to_owned())
}

fn releases(text: &str) -> Result<Counts, String> {
    let numbers: Result<Vec<u64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    let counts = match numbers.as_deref() {
        Ok([total]) => Counts(*total, 0, 0),
        Ok([total, hour, day]) => Counts(*total, *hour, *day),
        _ => return Err("expected TOTAL or TOTAL,HOUR,DAY, such as 12,1,3".to_owned()),
    };
    if counts.1 <= counts.2 && counts.2 <= counts.0 {
        Ok(counts)
    } else {
        Err("an hour has no more releases than its day, and a day no more than all".to_owned())
    }
}

impl MakeInput {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        output::line(&serde_json::to_string_pretty(&self.input()?)?)?;
        Ok(Ended::Done)
    }

    fn input(&self) -> anyhow::Result<Input> {
        let phase = match self.phase {
            When::Launch => Phase::Launch,
            When::Release => Phase::Release,
        };
        let example = Input::example(phase);
        let sev_policy = self.sev_policy()?;
        if let Some(about) = &self.about
            && !self.secrets.contains(about)
        {
            return misused(format!(
                "--about {about} is none of the secrets that are asked for"
            ));
        }
        let (mut platform, build) = self.platform(example.platform)?;
        platform.product = self
            .product
            .map(|product| product.to_string())
            .or(platform.product);
        if let Some(root) = &self.root {
            platform.root = root.to_string();
        } else if self.product.is_some() {
            "amd".clone_into(&mut platform.root);
        }
        platform.chip_id = self.chip_id.map(|chip| chip.to_string()).or(platform.chip_id);
        let attested = match phase {
            Phase::Launch => self.nothing_attested()?,
            Phase::Release => self.attested(sev_policy, (platform.api_major, platform.api_minor), build),
        };
        let Counts(total, last_hour, last_day) = self.releases;
        Ok(Input {
            time: match &self.time {
                Some(time) => moment(time)?,
                None => example.time,
            },
            scheme: match self.scheme {
                Scheme::AmdSev => policy::Scheme::AmdSev,
                Scheme::AmdSevEs => policy::Scheme::AmdSevEs,
            },
            owner: self.owner.to_string(),
            workload: policy::Workload {
                uuid: self.uuid.to_string(),
                name: self.workload.to_string(),
                policy: Some(sev_policy.bits()),
                vcpus: Some(self.vcpus),
            },
            secrets: self.secrets.iter().map(ToString::to_string).collect(),
            secret: self.about.as_ref().map(ToString::to_string),
            platform,
            attested,
            claimed: self.claimed()?,
            host: policy::Host {
                address: self.host.to_string(),
                identity: None,
            },
            releases: policy::Releases {
                total,
                last_hour,
                last_day,
            },
            ..example
        })
    }

    fn sev_policy(&self) -> anyhow::Result<SevPolicy> {
        let es = self.scheme == Scheme::AmdSevEs;
        let policy = SevPolicy(self.policy.unwrap_or(if es { 7 } else { 3 }));
        if policy.es() != es {
            let wanted = if es { "sets" } else { "does not set" };
            return misused(format!(
                "--policy {}: a policy under {} {wanted} bit 2 (ES)",
                policy.bits(),
                self.scheme
            ));
        }
        Ok(policy)
    }

    /// What is known of the platform, and its firmware's build.
    fn platform(&self, example: policy::Platform) -> anyhow::Result<(policy::Platform, u8)> {
        let Some(path) = &self.platform else {
            return Ok((example, 21));
        };
        let platform = super::platform(path)?;
        let name = "psp";
        let roots = TrustedRoots::amd().with_extra(name, CaCertificate::parse(&platform.ark())?)?;
        let chain = PresentedChain::parse(Some(&platform.pdh()), &platform.full_chain())?;
        let verified = chain.verify(&roots)?;
        let known = policy::Platform {
            product: None,
            root: verified.root().to_owned(),
            chip_id: None,
            api_major: verified.api_major(),
            api_minor: verified.api_minor(),
            fingerprints: fingerprints(verified.fingerprints()),
        };
        Ok((known, platform.build().build_id))
    }

    fn attested(&self, sev_policy: SevPolicy, api: (u8, u8), build: u8) -> policy::Attested {
        let (api_major, api_minor) = self.api.unwrap_or(api);
        let es = self.scheme == Scheme::AmdSevEs;
        let example = Input::example(Phase::Release).attested;
        policy::Attested {
            digest_source: Some(match (&self.image, self.hint) {
                (Some(_), _) => DigestSource::Image,
                (None, true) => DigestSource::Hint,
                (None, false) => DigestSource::Registered,
            }),
            policy: Some(sev_policy.bits()),
            policy_bits: policy_bits(sev_policy),
            api_major: Some(api_major),
            api_minor: Some(api_minor),
            build_id: Some(self.build_id.unwrap_or(build)),
            launch_digest: self
                .launch_digest
                .map(|digest| digest.to_string())
                .or(example.launch_digest),
            image: match &self.image {
                None => policy::Image::default(),
                Some(name) => policy::Image {
                    name: Some(name.to_string()),
                    vcpus: es.then_some(self.vcpus),
                    vcpu_type: example.image.vcpu_type.filter(|_| es),
                    vmsa: example.image.vmsa.filter(|_| es),
                },
            },
        }
    }

    /// At launch nothing is attested, so that options about it are a mistake.
    fn nothing_attested(&self) -> anyhow::Result<policy::Attested> {
        let given = [
            ("--launch-digest", self.launch_digest.is_some()),
            ("--image", self.image.is_some()),
            ("--hint", self.hint),
            ("--api", self.api.is_some()),
            ("--build-id", self.build_id.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => misused(format!(
                "{option} says what is attested, and at launch nothing is yet: leave it out, or give --phase release"
            )),
            None => Ok(policy::Attested::default()),
        }
    }

    fn claimed(&self) -> anyhow::Result<policy::Claimed> {
        let mut claimed = policy::Claimed {
            cpu_count: Some(self.vcpus),
            ..policy::Claimed::default()
        };
        for (name, value) in &self.claims {
            let wrong = |what: String| Misused(format!("--claim {name}={value}: {what}"));
            let digest = || {
                let parsed: Result<HexDigest, _> = value.parse();
                parsed
                    .map(|digest| Some(digest.to_string()))
                    .map_err(|e| wrong(e.to_string()))
            };
            match name.as_str() {
                "cpu-count" => {
                    let count = value.parse().map_err(|_| wrong("expected a number".to_owned()))?;
                    claimed.cpu_count = Some(count);
                }
                "cpu-id" => {
                    let id = value.parse::<Hex<64>>().map_err(|e| wrong(e.to_string()))?;
                    claimed.cpu_id = Some(id.to_string());
                }
                "firmware-hash" => claimed.firmware_hash = digest()?,
                "kernel-hash" => claimed.kernel_hash = digest()?,
                "initrd-hash" => claimed.initrd_hash = digest()?,
                "cmdline-hash" => claimed.cmdline_hash = digest()?,
                "description" => claimed.description = Some(value.clone()),
                _ => {
                    let known = "cpu-count, cpu-id, firmware-hash, kernel-hash, initrd-hash, cmdline-hash, description";
                    return Err(wrong(format!("a host claims one of {known}")).into());
                }
            }
        }
        Ok(claimed)
    }
}

/// A time as the server writes it.
fn moment(text: &str) -> anyhow::Result<String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Time::from_millis(time.as_millisecond()).to_string()),
        Err(_) => misused(format!(
            "--time {text}: expected RFC 3339, such as 2026-01-02T03:04:05Z"
        )),
    }
}

fn misused<T>(why: String) -> anyhow::Result<T> {
    Err(Misused(why).into())
}

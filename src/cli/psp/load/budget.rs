//! What this machine could do at most: the cryptography of a launch and nothing else, on all processors, and a durable
//! append. It is measured before and after a run, so that what else the machine does falls on both.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use super::record::rate;
use super::target::Mode;
use crate::sev::p384::EphemeralKey;
use crate::sev::session::{derive, wrap};
use crate::sev::{Certificate, LaunchKeys, SevPolicy, SystemRandom, measurement};

/// How long each of the two is measured.
const TIME: Duration = Duration::from_millis(800);
/// Bytes that are appended.
const RECORD: usize = 512;

/// What was measured so far.
pub(super) struct Measured {
    processors: usize,
    crypto: (u64, Duration),
    macs: (u64, Duration),
    appends: (u64, Duration),
}

/// The budget, and what was made of it.
#[derive(Serialize)]
pub(super) struct Budget {
    pub(super) processors: usize,
    /// Launches a second whose cryptography all processors can do: a P-384 key pair, an ECDH, five HMACs and an AES.
    pub(super) launch_crypto_per_second: f64,
    /// Validations a second whose cryptography all processors can do: two HMACs.
    pub(super) validate_crypto_per_second: f64,
    /// Appends of 512 bytes a second, each durable before the next.
    pub(super) appends_per_second: f64,
    /// Launches done a second, by launches that the cryptography alone allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) launches_of_possible: Option<f64>,
    /// Validations done a second, by appends a second. Above 1 where several share one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) validations_of_appends: Option<f64>,
}

impl Measured {
    pub(super) fn none() -> Self {
        let nothing = (0, Duration::ZERO);
        Self {
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            crypto: nothing,
            macs: nothing,
            appends: nothing,
        }
    }

    /// Measures once more. The file is made in `folder` and removed.
    pub(super) fn again(&mut self, pdh: &[u8], folder: &Path) -> anyhow::Result<()> {
        let pdh = Certificate::parse(pdh)?;
        let crypto = on_all(self.processors, || one_launch(&pdh))?;
        let keys = LaunchKeys::from_bytes(&[7; 32]);
        let macs = on_all(self.processors, || {
            one_validation(&keys);
            Ok(())
        })?;
        let appends = appends(folder)?;
        for (sum, more) in [
            (&mut self.crypto, crypto),
            (&mut self.macs, macs),
            (&mut self.appends, appends),
        ] {
            *sum = (sum.0 + more.0, sum.1 + more.1);
        }
        Ok(())
    }

    /// The budget beside what a run achieved a second.
    pub(super) fn beside(&self, mode: Mode, achieved: f64) -> Budget {
        let per_second = |(count, time): (u64, Duration)| rate(count, time);
        let (crypto, appends) = (per_second(self.crypto), per_second(self.appends));
        Budget {
            processors: self.processors,
            launch_crypto_per_second: crypto,
            validate_crypto_per_second: per_second(self.macs),
            appends_per_second: appends,
            launches_of_possible: (mode != Mode::Validate && crypto > 0.0).then_some(achieved / crypto),
            validations_of_appends: (mode != Mode::Launch && appends > 0.0).then_some(achieved / appends),
        }
    }
}

/// One launch's cryptography, with the libraries that a server uses.
fn one_launch(pdh: &Certificate) -> anyhow::Result<()> {
    let key = EphemeralKey::fresh(&SystemRandom)?;
    let wrapping = derive(&key.agree(pdh)?, &[1; 16]);
    let keys = LaunchKeys::from_bytes(&[2; 32]);
    let blob = wrap(&keys, &wrapping, &[1; 16], &[3; 16], SevPolicy(3))?;
    std::hint::black_box(blob);
    Ok(())
}

/// One validation's: the measurement, and the packet's MAC.
fn one_validation(keys: &LaunchKeys) {
    let build = crate::sev::Build {
        api_major: 1,
        api_minor: 55,
        build_id: 8,
    };
    for nonce in [[1; 16], [2; 16]] {
        let mac = measurement::compute(keys, build, SevPolicy(3), &[9; 32], &nonce);
        std::hint::black_box(mac);
    }
}

/// How often something is done on so many threads, and in what time.
fn on_all(threads: usize, work: impl Fn() -> anyhow::Result<()> + Sync) -> anyhow::Result<(u64, Duration)> {
    let begun = Instant::now();
    let one = || {
        let mut count = 0_u64;
        while begun.elapsed() < TIME {
            work()?;
            count += 1;
        }
        Ok::<_, anyhow::Error>(count)
    };
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.collect::<Vec<_>>()
    });
    let mut sum = 0;
    for count in counts {
        sum += count.map_err(|_| anyhow::anyhow!("a thread failed"))??;
    }
    Ok((sum, begun.elapsed()))
}

fn appends(folder: &Path) -> anyhow::Result<(u64, Duration)> {
    let path = folder.join(format!(".keyward-psp-load-{}", std::process::id()));
    let what = || format!("{}: a file to append to", path.display());
    let mut file = File::create_new(&path).with_context(what)?;
    let measured = (|| {
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed() < TIME {
            file.write_all(&[0; RECORD])?;
            file.sync_data()?;
            count += 1;
        }
        Ok((count, begun.elapsed()))
    })();
    let removed = std::fs::remove_file(&path);
    let measured = measured.map_err(|error: std::io::Error| anyhow::Error::new(error).context(what()))?;
    removed.with_context(what)?;
    Ok(measured)
}

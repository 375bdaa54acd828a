//! What a run needs before it: platforms under one authority, workloads, and for validations guests that wait.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use uuid::Uuid;

use super::target::{Machine, Prepared, Target};
use super::wire::{Server, Wire};
use super::{Form, ca_path, chain, platform, private};
use crate::cli::client::{Client, Problem};
use crate::domain::object::{Applied, Object};
use crate::domain::{Base64, Base64Bytes};
use crate::http::ApplyBody;
use crate::psp::{Ca, Platform, PlatformOptions};

/// What a guest is loaded with where no file is named: its digest is what makes it this one.
pub(super) const FIRMWARE: &[u8; 16] = b"keyward psp load";
/// Workloads in one registration.
const TOGETHER: usize = 1000;

/// So many platforms, those of the files first, the others made under the first one's authority.
pub(super) fn machines(
    files: &[impl AsRef<Path>],
    count: usize,
    form: Form,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Machine>> {
    let mut made = Vec::new();
    for file in files {
        made.push(machine(platform(file.as_ref())?, form)?);
    }
    if made.len() < count {
        let first = files.first().context("name a platform that `psp new` made")?;
        let path = ca_path(first.as_ref());
        let ca = Ca::from_bytes(&private(&path)?).with_context(|| path.display().to_string())?;
        let missing = count - made.len();
        bar.set_length(missing as u64);
        made.extend(together(missing, bar, |_| {
            machine(
                Platform::generate_with_ca(&ca, &PlatformOptions::default())?,
                form,
            )
        })?);
    }
    Ok(made)
}

fn machine(platform: Platform, form: Form) -> anyhow::Result<Machine> {
    let request = serde_json::json!({
        "pdh": Base64Bytes(platform.pdh()),
        "cert-chain": Base64Bytes(chain(&platform, form)?),
        "cpu-id": Base64(*platform.chip_id()),
    });
    let request = serde_json::to_vec(&request)?;
    Ok(Machine {
        platform,
        request,
        address: None,
    })
}

/// What workloads are registered as.
pub(super) struct Wanted<'a> {
    pub(super) workloads: usize,
    pub(super) secrets: usize,
    /// Launch digests of each; the guests' own is the last.
    pub(super) digests: usize,
    pub(super) firmware: &'a [u8],
    pub(super) policies: &'a [String],
}

/// Registers secrets and workloads, or finds them as they were registered before; the workloads' UUIDs.
pub(super) fn registered(
    client: &Client,
    wanted: &Wanted<'_>,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Uuid>> {
    let labels = serde_json::json!({ "made-by": "psp-load" });
    let of_number =
        |number: usize| hex::encode(openssl::sha::sha256(format!("psp load {number}").as_bytes()));
    let secrets: Vec<String> = (0..wanted.secrets).map(|n| format!("psp-load/{n}")).collect();
    let mut digests: Vec<String> = (1..wanted.digests).map(of_number).collect();
    digests.push(hex::encode(openssl::sha::sha256(wanted.firmware)));
    let mut objects = Vec::new();
    for (number, name) in secrets.iter().enumerate() {
        let guid = of_number(number).get(..32).unwrap_or_default().to_owned();
        objects.push(serde_json::json!({
            "kind": "Secret", "name": name, "type": "opaque", "guid": guid, "value": { "generate": 32 },
            "labels": labels,
        }));
    }
    // Each number of secrets and digests has its own workloads, so that one run does not change another's.
    let shape = format!("{}-{}", wanted.secrets, wanted.digests);
    for number in 0..wanted.workloads {
        objects.push(serde_json::json!({
            "kind": "Workload", "name": format!("psp-load/{shape}/{number}"), "scheme": "amd-sev", "policy": 3,
            "launch_digests": digests, "secrets": secrets, "policies": wanted.policies, "labels": labels,
        }));
    }
    bar.set_length(objects.len() as u64);
    let mut uuids = Vec::new();
    for some in objects.chunks(TOGETHER) {
        let parsed = some.iter().cloned().map(serde_json::from_value);
        let body = ApplyBody::new(parsed.collect::<Result<Vec<Object>, _>>()?);
        let applied: Applied = client.post("/v1/apply", &body)?;
        let of_workloads = applied.changes.iter().filter(|change| change.kind == "Workload");
        for change in of_workloads {
            let uuid = change.detail.as_deref().and_then(uuid_in);
            uuids.push(uuid.with_context(|| format!("{}: the server named no UUID", change.name))?);
        }
        bar.inc(some.len() as u64);
    }
    Ok(uuids)
}

/// The UUID that a text holds.
fn uuid_in(text: &str) -> Option<Uuid> {
    text.split_whitespace().find_map(|word| word.parse().ok())
}

/// So many guests, launched and measured, that wait to be validated.
pub(super) fn guests(
    server: &Server,
    target: &Target,
    count: usize,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Prepared>> {
    bar.set_length(count as u64);
    // As many connections as threads, kept from launch to launch.
    let wires: Mutex<Vec<Wire<'_>>> = Mutex::new(Vec::new());
    together(count, bar, |number| {
        let kept = wires.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut wire = kept.unwrap_or_else(|| Wire::new(server));
        let (machine, request) = target.launch(server, number)?;
        let answer = wire.ask(&request).map_err(|error| unreachable(server, &error))?;
        wires.lock().unwrap_or_else(PoisonError::into_inner).push(wire);
        if answer.status != 200 {
            bail!(
                "guest {} of {count}: {}",
                number + 1,
                refused(answer.status, &answer.body)
            );
        }
        target.measured(server, machine, &answer.body)
    })
}

pub(super) fn unreachable(server: &Server, error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!(
        "{} can't be reached: {error}; is the server running there? Name another with --server",
        server.url()
    )
}

fn refused(status: u16, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => format!(
            "the server refused the launch: {}: {}",
            problem.title, problem.detail
        ),
        Err(_) => format!("the server answered the launch with status {status}"),
    }
}

/// Makes so many on all processors; in no order. The first error ends it.
fn together<T: Send>(
    count: usize,
    bar: &ProgressBar,
    make: impl Fn(u64) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get) * 2;
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let one = || {
        let mut made = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count as u64 || failed.load(Ordering::Relaxed) {
                return Ok(made);
            }
            made.push(make(number).inspect_err(|_| failed.store(true, Ordering::Relaxed))?);
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let mut all = Vec::with_capacity(count);
        let mut first = None;
        for thread in threads {
            match thread.join().map_err(|_| anyhow::anyhow!("a thread failed"))? {
                Ok(made) => all.extend(made),
                Err(error) => first = first.or(Some(error)),
            }
        }
        match first {
            Some(error) => Err(error),
            None => Ok(all),
        }
    })
}

//! What enters the MAC besides the launch digest, and what it is often mistaken for.

use super::{Change, Mismatch};
use crate::sev::SevPolicy;
use crate::sev::measurement::Build;

/// One guess, and how it differs from what was said.
pub(super) struct MacInputs {
    pub(super) build: Build,
    pub(super) policy: SevPolicy,
    pub(super) keys_swapped: bool,
    pub(super) measurement_swapped: bool,
    pub(super) changes: Vec<Change>,
}

/// All guesses with at most two changes. Likely mistakes stand before numbers that were simply others.
pub(super) fn around(mismatch: &Mismatch<'_>) -> Vec<MacInputs> {
    let said = MacInputs {
        build: mismatch.build,
        policy: mismatch.policy,
        keys_swapped: false,
        measurement_swapped: false,
        changes: Vec::new(),
    };
    let builds = builds(mismatch.build);
    let apis = apis(mismatch.build);
    let others = others(mismatch);
    let kinds = [builds, apis, others];
    let mut all = vec![said];
    let single: Vec<Change> = kinds.iter().flatten().cloned().collect();
    all.extend(single.iter().map(|change| with(mismatch, &[change])));
    let [builds, apis, others] = &kinds;
    // A firmware update changes build and API together; the rest is paired with what was likely meant.
    let updated = builds
        .iter()
        .flat_map(|build| apis.iter().map(move |api| [build, api]));
    let likely: Vec<&Change> = builds
        .iter()
        .take(LIKELY)
        .chain(apis.iter().take(LIKELY))
        .collect();
    let mistaken = likely
        .into_iter()
        .flat_map(|one| others.iter().map(move |other| [one, other]));
    let twice = others.iter().enumerate().flat_map(|(at, one)| {
        let later = others.iter().skip(at + 1);
        later
            .filter(move |other| !(is_policy(one) && is_policy(other)))
            .map(move |other| [one, other])
    });
    all.extend(
        updated
            .chain(mistaken)
            .chain(twice)
            .map(|pair| with(mismatch, &pair)),
    );
    all
}

/// How many guesses at the head of a list are likely mistakes and not only other numbers.
const LIKELY: usize = 2;

fn with(mismatch: &Mismatch<'_>, changes: &[&Change]) -> MacInputs {
    let mut inputs = MacInputs {
        build: mismatch.build,
        policy: mismatch.policy,
        keys_swapped: false,
        measurement_swapped: false,
        changes: changes.iter().copied().cloned().collect(),
    };
    for change in changes {
        match change {
            Change::BuildId(build) => inputs.build.build_id = *build,
            Change::Api(major, minor) => {
                inputs.build.api_major = *major;
                inputs.build.api_minor = *minor;
            }
            Change::Policy(policy) => inputs.policy = *policy,
            Change::KeysSwapped => inputs.keys_swapped = true,
            Change::MeasurementSwapped => inputs.measurement_swapped = true,
            _ => {}
        }
    }
    inputs
}

fn is_policy(change: &Change) -> bool {
    matches!(change, Change::Policy(_))
}

/// The digits in the other base first, then every build there is.
fn builds(said: Build) -> Vec<Change> {
    let mut builds: Vec<u8> = readings(u32::from(said.build_id))
        .into_iter()
        .filter_map(|reading| u8::try_from(reading).ok())
        .collect();
    builds.extend(0..=u8::MAX);
    let mut builds = distinct(builds);
    builds.retain(|build| *build != said.build_id);
    builds.into_iter().map(Change::BuildId).collect()
}

/// Major and minor in each other's place first, then the versions that there are or may come.
fn apis(said: Build) -> Vec<Change> {
    let mut apis = vec![(said.api_minor, said.api_major)];
    for reading in readings(u32::from(said.api_minor)) {
        apis.extend(u8::try_from(reading).map(|minor| (said.api_major, minor)));
    }
    apis.extend(
        [0, 1]
            .into_iter()
            .flat_map(|major| (0..=u8::MAX).map(move |minor| (major, minor))),
    );
    let mut apis = distinct(apis);
    apis.retain(|api| *api != (said.api_major, said.api_minor));
    apis.into_iter()
        .map(|(major, minor)| Change::Api(major, minor))
        .collect()
}

fn others(mismatch: &Mismatch<'_>) -> Vec<Change> {
    const FLAGS: u32 = 0x3f;
    let said = mismatch.policy.bits();
    let mut policies = readings(said);
    policies.push(said & 0xffff);
    policies.extend((0..=FLAGS).map(|flags| said & !FLAGS | flags));
    policies.extend(0..=FLAGS);
    let mut policies = distinct(policies);
    policies.retain(|policy| *policy != said);
    let policies = policies
        .into_iter()
        .map(|policy| Change::Policy(SevPolicy(policy)));
    [Change::KeysSwapped, Change::MeasurementSwapped]
        .into_iter()
        .chain(policies)
        .collect()
}

/// The number whose digits, in the other base, are those of this one: of 15 they are 21 (0x15) and, as 15 is 0xf,
/// nothing more.
fn readings(number: u32) -> Vec<u32> {
    let as_hexadecimal = u32::from_str_radix(&number.to_string(), 16).ok();
    let as_decimal = format!("{number:x}").parse().ok();
    as_hexadecimal.into_iter().chain(as_decimal).collect()
}

/// In the same order, each once.
fn distinct<T: Clone + Eq + std::hash::Hash>(items: Vec<T>) -> Vec<T> {
    let mut seen = std::collections::HashSet::new();
    items
        .into_iter()
        .filter(|item| seen.insert(item.clone()))
        .collect()
}

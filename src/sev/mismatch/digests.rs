//! Launch digests around the one that was expected.

use openssl::sha::sha256;

use super::{Change, Cpus, Expected, Kernel, PAIRED_VCPUS};
use crate::sev::Digest;
use crate::sev::launch_digest::{
    CpuModel, CpuSignature, KernelHashes, Measurer, SEV_FEATURES_DEBUG_SWAP, SaveArea, VmsaVariant,
    cmdline_hash,
};

/// How many inputs may differ.
const MOST: usize = 2;

/// A digest, and how what it was computed from differs from what was said.
pub(super) struct Guess {
    pub(super) digest: Digest,
    pub(super) changes: Vec<Change>,
}

impl Guess {
    /// Whether it is for a number of vCPUs that is not tried with all else.
    pub(super) fn has_many_vcpus(&self) -> bool {
        let many = |change: &Change| matches!(change, Change::Vcpus(count) if *count > PAIRED_VCPUS);
        self.changes.iter().any(many)
    }
}

/// The guesses, by whether vCPUs are in them, and by how many changes.
pub(super) struct Digests {
    sev: [Vec<Guess>; MOST + 1],
    sev_es: [Vec<Guess>; MOST + 1],
}

impl Digests {
    pub(super) fn around(expected: &Expected<'_>) -> Self {
        let mut all = Self {
            sev: Default::default(),
            sev_es: Default::default(),
        };
        match expected {
            Expected::Digest(digest) => {
                for es in [false, true] {
                    all.put(es, *digest, Vec::new());
                }
            }
            Expected::Image {
                firmware,
                kernel,
                cpus,
            } => {
                // The firmware was measured with what was said before, so it can be measured without a kernel.
                if let Ok(bare) = Measurer::new(firmware, None) {
                    all.put_image(&bare, kernel.as_ref(), cpus.as_ref());
                }
            }
        }
        all
    }

    /// Those for guests with or without encrypted state that differ in so many inputs.
    pub(super) fn with(&self, es: bool, changes: usize) -> impl Iterator<Item = &Guess> {
        let kind = if es { &self.sev_es } else { &self.sev };
        kind.get(changes).into_iter().flatten()
    }

    fn put_image(&mut self, bare: &Measurer, kernel: Option<&Kernel>, cpus: Option<&Cpus>) {
        for (hashes, changes) in kernels(kernel) {
            let measurer = match hashes.map(|hashes| bare.with_kernel(&hashes)) {
                None => bare.clone(),
                Some(Ok(measurer)) => measurer,
                Some(Err(_)) => continue,
            };
            self.put(false, measurer.sev(), changes.clone());
            match cpus {
                None => {}
                Some(Cpus::Areas(areas)) => self.put_areas(&measurer, areas, &changes),
                Some(Cpus::Modelled { count, cpu, variants }) => {
                    self.put_modelled(&measurer, *count, *cpu, variants, &changes)
                }
            }
        }
    }

    fn put(&mut self, es: bool, digest: Digest, changes: Vec<Change>) {
        let kind = if es { &mut self.sev_es } else { &mut self.sev };
        if let Some(guesses) = kind.get_mut(changes.len()) {
            guesses.push(Guess { digest, changes });
        }
    }

    /// One digest for each number of vCPUs; the said number is no change.
    fn put_counts(&mut self, digests: Vec<Digest>, said: u32, changes: &[Change]) {
        for (count, digest) in (1..).zip(digests) {
            let mut changes = changes.to_vec();
            if said != count {
                changes.push(Change::Vcpus(count));
            }
            self.put(true, digest, changes);
        }
    }

    fn put_areas(&mut self, measurer: &Measurer, areas: &[SaveArea], changes: &[Change]) {
        self.put(true, measurer.with_areas(areas), changes.to_vec());
        if changes.len() == MOST {
            return;
        }
        let reversed: Vec<SaveArea> = areas.iter().rev().cloned().collect();
        let turned = [changes, &[Change::AreasReversed]].concat();
        self.put(true, measurer.with_areas(&reversed), turned);
        if let [boot, rest @ ..] = areas {
            // The said number is above; with one state for all others it may be another digest, and no change that is named.
            let counts = (1..).zip(measurer.counts(boot, rest.first()));
            let said = u32::try_from(areas.len()).unwrap_or_default();
            for (count, digest) in counts.filter(|(count, _)| *count != said) {
                self.put(true, digest, [changes, &[Change::Vcpus(count)]].concat());
            }
        }
    }

    fn put_modelled(
        &mut self,
        measurer: &Measurer,
        count: u32,
        said: CpuSignature,
        variants: &[VmsaVariant],
        changes: &[Change],
    ) {
        let others = CpuModel::ALL
            .into_iter()
            .filter(|model| model.signature() != said);
        let others = others.map(|model| (model.signature(), Some(Change::Cpu(model))));
        let cpus: Vec<_> = std::iter::once((said, None)).chain(others).collect();
        for (cpu, other_cpu) in &cpus {
            for (variant, features, other_form) in forms(variants) {
                let changes: Vec<Change> = changes
                    .iter()
                    .chain(other_cpu)
                    .chain(&other_form)
                    .cloned()
                    .collect();
                if changes.len() > MOST {
                    continue;
                }
                let boot = SaveArea::boot(*cpu, variant).with_sev_features(features);
                let further = measurer.further(*cpu, variant);
                let further = further.map(|area| area.with_sev_features(features));
                if changes.len() < MOST {
                    self.put_counts(measurer.counts(&boot, further.as_ref()), count, &changes);
                } else {
                    let areas = std::iter::once(boot).chain(further.into_iter().cycle());
                    let areas: Vec<_> = areas.take(usize::try_from(count).unwrap_or_default()).collect();
                    self.put(true, measurer.with_areas(&areas), changes);
                }
            }
        }
    }
}

/// The forms of the first state: those that were tried, the other, and each with DebugSwap.
fn forms(tried: &[VmsaVariant]) -> Vec<(VmsaVariant, u64, Vec<Change>)> {
    let mut forms = Vec::new();
    for variant in VmsaVariant::ALL {
        let other = (!tried.contains(&variant)).then_some(Change::Vmsa(variant));
        let plain: Vec<Change> = other.into_iter().collect();
        let swapping = [plain.as_slice(), &[Change::DebugSwap]].concat();
        forms.push((variant, 0, plain));
        forms.push((variant, SEV_FEATURES_DEBUG_SWAP, swapping));
    }
    forms
}

/// The hash tables around that of the kernel: none, and with another initrd or command line.
fn kernels(said: Option<&Kernel>) -> Vec<(Option<KernelHashes>, Vec<Change>)> {
    let Some(said) = said else {
        return vec![(None, Vec::new())];
    };
    let initrd = said.initrd.unwrap_or_else(|| sha256(&[]));
    let mut files = vec![((said.kernel, initrd), None)];
    if said.initrd.is_some() {
        files.push(((said.kernel, sha256(&[])), Some(Change::NoInitrd)));
        files.push(((initrd, said.kernel), Some(Change::KernelAndInitrdSwapped)));
    }
    let text = said.cmdline.as_deref().unwrap_or_default();
    let mut lines = vec![(cmdline_hash(text), None)];
    for other in cmdlines(text) {
        lines.push((cmdline_hash(&other), Some(Change::Cmdline(other))));
    }
    lines.push((sha256(text.as_bytes()), Some(Change::CmdlineWithoutNul)));

    let mut tables = Vec::new();
    for ((kernel, initrd), other_files) in files {
        for (cmdline, other_line) in &lines {
            let hashes = KernelHashes {
                kernel,
                initrd,
                cmdline: *cmdline,
            };
            let changes = other_files.iter().chain(other_line).cloned().collect();
            tables.push((Some(hashes), changes));
        }
    }
    tables.push((None, vec![Change::KernelUnmeasured]));
    tables
}

/// What a command line often becomes on its way.
fn cmdlines(said: &str) -> Vec<String> {
    let bare = said.trim();
    let unquoted = ['"', '\''].into_iter().find_map(|quote| {
        let inner = bare.strip_prefix(quote)?;
        inner.strip_suffix(quote)
    });
    let single_spaced = bare.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut all: Vec<String> = vec![
        said.trim_end().to_owned(),
        bare.to_owned(),
        format!("{said} "),
        format!("{bare} "),
        format!(" {said}"),
        format!("{said}\n"),
        format!("{bare}\n"),
        format!("{said}\r\n"),
        format!("{said}\0"),
        single_spaced,
        format!("\"{said}\""),
        format!("'{said}'"),
        said.replace('\\', ""),
        format!("{said} initrd=initrd"),
        String::new(),
    ];
    all.extend(unquoted.map(str::to_owned));
    let mut seen = std::collections::HashSet::from([said.to_owned()]);
    all.retain(|line| seen.insert(line.clone()));
    all
}

//! Reads OpenMetrics text as a scraper does, and refuses what one would.

use std::collections::{BTreeMap, BTreeSet};

/// A metric, with all that there is of it.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) unit: Option<String>,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// What was scraped, by names.
#[derive(Debug)]
pub(crate) struct Exposition {
    pub(crate) text: String,
    pub(crate) families: BTreeMap<String, Family>,
}

impl Exposition {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let mut families = BTreeMap::<String, Family>::new();
        let mut current = String::new();
        let body = text.strip_suffix("# EOF\n").expect("an end mark");
        for line in body.lines() {
            let Some(comment) = line.strip_prefix("# ") else {
                let sample = sample(line);
                let family = families.get_mut(&current).unwrap();
                let rest = sample.name.strip_prefix(&current);
                let rest = rest.unwrap_or_else(|| panic!("{line} stands below {current}"));
                let fits: &[&str] = match family.kind.as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "info" => &["_info"],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    other => panic!("{other} of {line}"),
                };
                assert!(fits.contains(&rest), "{line}");
                family.samples.push(sample);
                continue;
            };
            let mut words = comment.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            let rest = words.next().unwrap_or_default().to_owned();
            if what == "HELP" {
                assert!(!families.contains_key(name), "{name} twice");
            }
            name.clone_into(&mut current);
            let family = families.entry(current.clone()).or_default();
            match what {
                "HELP" => family.help = rest,
                "TYPE" => family.kind = rest,
                "UNIT" => family.unit = Some(rest),
                _ => panic!("{line}"),
            }
        }
        Self {
            text: text.to_owned(),
            families,
        }
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.families.values().flat_map(|family| &family.samples)
    }

    /// The sum of all series of this name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|own| own == value);
            sample.name == name && labels.iter().all(has)
        };
        self.samples().filter(fits).map(|sample| sample.value).sum()
    }

    /// The one series of this name.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> f64 {
        let found: Vec<_> = self.samples().filter(|sample| sample.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0].value
    }

    /// How many series there are whose name begins so.
    pub(crate) fn series(&self, beginning: &str) -> usize {
        let own = |sample: &&Sample| sample.name.starts_with(beginning);
        self.samples().filter(own).count()
    }

    /// Names of series, with the names of their labels.
    pub(crate) fn labels(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut all = BTreeMap::<_, BTreeSet<_>>::new();
        for sample in self.samples() {
            let labels = all.entry(sample.name.clone()).or_default();
            labels.extend(sample.labels.keys().cloned());
        }
        all
    }

    /// Each value of each label.
    pub(crate) fn label_values(&self) -> BTreeSet<String> {
        let values = self.samples().flat_map(|sample| sample.labels.values().cloned());
        values.collect()
    }
}

fn sample(line: &str) -> Sample {
    let (head, value) = line.rsplit_once(' ').unwrap();
    let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    let mut found = BTreeMap::new();
    let mut rest = labels.strip_suffix('}').unwrap_or(labels);
    while let Some((key, after)) = rest.split_once("=\"") {
        // No value that this server writes has a quote or a backslash in it.
        let (value, after) = after.split_once('"').unwrap();
        let before = found.insert(key.to_owned(), value.to_owned());
        assert_eq!(before, None, "{line}");
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    assert_eq!(rest, "", "{line}");
    Sample {
        name: name.to_owned(),
        labels: found,
        value,
    }
}

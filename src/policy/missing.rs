//! References that lead nowhere: undefined at every request, so that `not` of them is always true.

use super::check::Checked;
use super::diagnostic::nearest;
use super::names::static_prefix;
use super::syntax::Step;

impl Checked<'_> {
    /// A reference into a package that has no such rule: always undefined, so `not` of it always true.
    pub(super) fn missing_rule(&self, steps: &[Step]) -> Option<(String, Option<String>)> {
        let path = static_prefix(steps);
        if let Some(missing) = self.missing_data(&path) {
            return Some(missing);
        }
        let length = (1..path.len()).rev().find(|length| {
            path.get(..*length)
                .is_some_and(|prefix| self.names.packages.contains(prefix))
        })?;
        let (package, rest) = path.split_at_checked(length)?;
        let known = self.names.below(package).filter_map(|rule| rule.get(length));
        let known: Vec<&str> = known.map(String::as_str).collect();
        let wanted = rest.first()?;
        let deeper = path.get(..=length)?;
        let is_package = self
            .names
            .packages
            .iter()
            .any(|package| package.starts_with(deeper));
        if known.contains(&wanted.as_str()) || is_package || self.data_at(deeper).is_some() {
            return None;
        }
        let hint = nearest(wanted, known).map(|near| format!("did you mean `{near}`?"));
        Some((
            format!("package `{}` has no rule `{wanted}`", package.join(".")),
            hint,
        ))
    }

    /// A path that no rule, package or data file leads to: undefined, so that `not` of it is true.
    fn missing_data(&self, path: &[String]) -> Option<(String, Option<String>)> {
        let first = path.first()?;
        let leads = |path: &[String]| {
            self.data_at(path).is_some()
                || self.names.below(path).next().is_some()
                || self
                    .names
                    .packages
                    .iter()
                    .any(|package| package.starts_with(path))
                || (1..=path.len()).any(|length| {
                    path.get(..length)
                        .is_some_and(|prefix| self.names.rules.contains_key(prefix))
                })
        };
        if first == "keyward" || leads(path) {
            return None;
        }
        // The first part of it that is not there, beside what is.
        let length = (1..=path.len()).find(|length| path.get(..*length).is_some_and(|part| !leads(part)))?;
        let missing = path.get(..length)?;
        let (name, place) = missing.split_last()?;
        // Within a package it is a rule that is missed.
        if self.names.packages.contains(place) {
            return None;
        }
        let below = |path: &[String]| path.strip_prefix(place).and_then(|rest| rest.first().cloned());
        let files = self.data.iter().flat_map(|file| {
            let inside = place
                .strip_prefix(file.place.as_slice())
                .and_then(|rest| rest.iter().try_fold(&file.value, |value, name| value.get(name)));
            let members = inside.and_then(serde_json::Value::as_object).into_iter();
            members
                .flat_map(|members| members.keys().cloned())
                .chain(below(&file.place))
        });
        let packages = self.names.packages.iter().filter_map(|path| below(path));
        let beside: Vec<String> = files.chain(packages).collect();
        let dotted = |path: &[String]| {
            std::iter::once("data")
                .chain(path.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join(".")
        };
        let hint = nearest(name, beside.iter().map(String::as_str)).map_or_else(
            || "put it in a data.json or data.yaml of the bundle, or ask with `object.get`".to_owned(),
            |near| format!("did you mean `{}.{near}`?", dotted(place)),
        );
        Some((format!("the bundle has no `{}`", dotted(missing)), Some(hint)))
    }
}

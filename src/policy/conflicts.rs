//! Definitions that exclude each other, among rules and between rules and data.

use super::check::{Checked, RESERVED, at};
use super::diagnostic::Diagnostic;
use super::documents::DataFile;
use super::names::rule_path;
use super::syntax::Form;

impl Checked<'_> {
    /// The data file that defines a value at a path, if one does.
    pub(super) fn data_at(&self, path: &[String]) -> Option<&DataFile> {
        self.data.iter().find(|file| {
            if file.place.len() >= path.len() {
                return file.place.starts_with(path);
            }
            let Some(rest) = path.strip_prefix(file.place.as_slice()) else {
                return false;
            };
            rest.iter()
                .try_fold(&file.value, |value, name| value.get(name))
                .is_some()
        })
    }

    /// The data file that puts a value (no object) above a path, if one does.
    fn value_above(&self, path: &[String]) -> Option<&DataFile> {
        self.data.iter().find(|file| {
            let Some(rest) = path.strip_prefix(file.place.as_slice()) else {
                return false;
            };
            let mut value = &file.value;
            for name in rest {
                if !value.is_object() {
                    return true;
                }
                match value.get(name) {
                    Some(inner) => value = inner,
                    None => return false,
                }
            }
            false
        })
    }

    /// Definitions that exclude each other.
    pub(super) fn definitions(&self, found: &mut Vec<Diagnostic>) {
        for (path, definitions) in &self.names.rules {
            let mut first: Option<Form> = None;
            let mut defaults = 0;
            for (module, rule) in definitions.iter().filter_map(|at| self.names.definition(*at)) {
                let at = |message: String| at(module, rule.offset, message);
                let path = path.join(".");
                if matches!(rule.form, Form::Default | Form::DefaultFunction { .. }) && !rule.partial {
                    defaults += 1;
                    if defaults == 2 {
                        found.push(at(format!("`{path}` has two defaults")));
                    }
                }
                let kind = |form: Form| match form {
                    Form::Function { arity } | Form::DefaultFunction { arity } => (1, arity),
                    Form::Set => (2, 0),
                    Form::Value | Form::Default => (3, 0),
                };
                match first {
                    None => first = Some(rule.form),
                    Some(first) if kind(first) == kind(rule.form) => {}
                    Some(_) => found.push(at(format!(
                        "`{path}` is defined in two ways that exclude each other (value, set, or function of a number of arguments)"
                    ))),
                }
            }
        }
    }

    /// Data where a rule is: the engine would let the data win.
    pub(super) fn data(&self, found: &mut Vec<Diagnostic>) {
        for (module, rule) in self
            .names
            .modules
            .iter()
            .flat_map(|module| module.rules.iter().map(move |rule| (module, rule)))
        {
            let path = rule_path(module, rule);
            if let Some(file) = self.data_at(&path).or_else(|| self.value_above(&path)) {
                found.push(
                    at(
                        module,
                        rule.offset,
                        format!("`data.{}` is both a rule and data", path.join(".")),
                    )
                    .with_hint(format!("the data is in {}; rename one", file.path)),
                );
            }
        }
        for package in &self.names.packages {
            for name in RESERVED {
                let mut path = package.clone();
                path.push(name.to_owned());
                if !self.names.rules.contains_key(&path)
                    && let Some(file) = self.data_at(&path)
                {
                    found.push(Diagnostic::on_file(
                        &file.path,
                        format!(
                            "`data.{}` must be a rule of the package, not data",
                            path.join(".")
                        ),
                    ));
                }
            }
        }
    }
}

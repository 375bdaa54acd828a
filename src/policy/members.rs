//! The members of `input` that exist. A misspelt one is undefined in Rego, and `not` of it true.

use serde_json::Value;

use super::decision::Phase;
use super::diagnostic::{Diagnostic, nearest};
use super::input::{Input, Registration};
use super::syntax::Step;

/// The shape of `input`, taken from a complete example of it.
pub(super) struct Members {
    shape: Value,
}

/// A reference to nothing.
pub(super) struct NoMember {
    message: String,
    hint: Option<String>,
}

impl NoMember {
    /// The problem, at the place of a diagnostic.
    pub(super) fn at(self, place: Diagnostic) -> Diagnostic {
        Diagnostic {
            message: self.message,
            hint: self.hint,
            ..place
        }
    }
}

impl Members {
    /// What owners' policies see.
    pub(super) fn of_owners() -> Members {
        Members {
            shape: serde_json::to_value(Input::example(Phase::Release)).unwrap_or_default(),
        }
    }

    /// What the built-in policies see.
    pub(super) fn of_library() -> Members {
        let input = Input {
            registration: Some(Registration::default()),
            ..Input::example(Phase::Release)
        };
        Members {
            shape: serde_json::to_value(input).unwrap_or_default(),
        }
    }

    /// Checks a path under `input`, up to its first step that could be any.
    pub(super) fn check(&self, steps: &[Step]) -> Result<(), NoMember> {
        let mut value = &self.shape;
        let mut path = "input".to_owned();
        for step in steps {
            let Step::Name(name) = step else {
                return match value {
                    Value::Object(_) | Value::Array(_) => Ok(()),
                    _ => Err(NoMember {
                        message: format!("`{path}` has no members"),
                        hint: None,
                    }),
                };
            };
            value = match value {
                Value::Object(members) => members.get(name).ok_or_else(|| NoMember {
                    message: format!("`{path}` has no member `{name}`"),
                    hint: Some(match nearest(name, members.keys().map(String::as_str)) {
                        Some(near) => format!("did you mean `{path}.{near}`?"),
                        None => {
                            let known: Vec<&str> = members.keys().map(String::as_str).collect();
                            format!("its members are {}", known.join(", "))
                        }
                    }),
                })?,
                _ => {
                    return Err(NoMember {
                        message: format!("`{path}` has no member `{name}`"),
                        hint: None,
                    });
                }
            };
            path = format!("{path}.{name}");
        }
        Ok(())
    }
}

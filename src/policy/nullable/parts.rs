//! What an expression is a part of, or holds: the input, or an argument, whatever names it goes by.

use regorus::unstable::{Expr, Ref, Rule as Node, RuleHead};

use super::known::{Body, Local, Part, Scope, Subject, called, written};
use crate::policy::names::{Callee, Meaning, rule_path, static_prefix};
use crate::policy::selection::{Selected, flatten, static_path};
use crate::policy::syntax::{Call, Reference, Step};

impl Body<'_, '_> {
    /// The part of the input that an expression is, whatever names it goes by.
    pub(super) fn part(&self, expression: &Ref<Expr>, scope: &Scope) -> Option<Part> {
        if let Some((name, [object, key, _])) = called(expression)
            && name == "object.get"
        {
            let step = match key.as_ref() {
                Expr::String { .. } | Expr::RawString { .. } => Step::Name(literal(key)?),
                _ => Step::Any,
            };
            return Some(self.part(object, scope)?.then(&[step]));
        }
        let (root, selected) = flatten(expression);
        let Expr::Var { span, .. } = root else { return None };
        let name = span.text();
        let steps: Vec<Step> = selected
            .iter()
            .map(|step| match step {
                Selected::Name(name) => Step::Name(name.clone()),
                Selected::Index(_) => Step::Any,
            })
            .collect();
        if let Some(local) = scope.locals.get(name) {
            return match local {
                Local::Part(part) => Some(part.clone().then(&steps)),
                _ => None,
            };
        }
        let reference = Reference {
            root: name.to_owned(),
            steps,
            offset: 0,
        };
        match self.check.names.global(self.module, &reference) {
            Meaning::Input(steps) => Some(Part {
                argument: None,
                steps,
            }),
            Meaning::Data(steps) => match self.alias(&steps)? {
                (Local::Part(part), rest) => Some(part.clone().then(rest)),
                _ => None,
            },
            Meaning::Local | Meaning::Unknown => None,
        }
    }

    /// What the rule stands for that a path under `data` begins with, and the rest of the path.
    fn alias<'s>(&self, steps: &'s [Step]) -> Option<(&Local, &'s [Step])> {
        let names: Vec<String> = static_prefix(steps);
        (1..=names.len()).rev().find_map(|length| {
            let local = self.check.aliases.get(names.get(..length)?)?;
            Some((local, steps.get(length..)?))
        })
    }

    /// What an expression stands for, if that may be null.
    pub(super) fn subject(&self, expression: &Ref<Expr>, scope: &Scope) -> Option<Subject> {
        if let Some(part) = self.part(expression, scope) {
            return self.of_part(&part);
        }
        let (root, selected) = flatten(expression);
        let Expr::Var { span, .. } = root else {
            // An item of a list, an object or a result.
            return match expression.as_ref() {
                Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => self.suspect(refr, scope),
                _ => None,
            };
        };
        let held = |local: &Local| match local {
            Local::Holds(subject) => Some(subject.clone()),
            _ => None,
        };
        if let Some(local) = scope.locals.get(span.text()) {
            return held(local);
        }
        let names = selected.iter().map_while(|step| match step {
            Selected::Name(name) => Some(Step::Name(name.clone())),
            Selected::Index(_) => None,
        });
        let reference = Reference {
            root: span.text().to_owned(),
            steps: names.collect(),
            offset: 0,
        };
        match self.check.names.global(self.module, &reference) {
            Meaning::Data(steps) => held(self.alias(&steps)?.0),
            _ => None,
        }
    }

    /// A part of the input, if it may be null itself.
    pub(super) fn of_part(&self, part: &Part) -> Option<Subject> {
        match part.argument {
            None => self.member(&part.steps),
            Some(argument) => Some(Subject::Argument(argument, part.steps.clone())),
        }
    }

    /// What may be null in what an expression is made of: in a list, in an object that is a part of the input, in
    /// what a built-in takes through. None where its type is proved.
    pub(super) fn holds(&self, expression: &Ref<Expr>, scope: &Scope) -> Option<Subject> {
        let any = |parts: &[Ref<Expr>]| parts.iter().find_map(|part| self.holds(part, scope));
        match expression.as_ref() {
            Expr::Array { items, .. } | Expr::Set { items, .. } => any(items),
            Expr::Object { fields, .. } => fields.iter().find_map(|(_, _, value)| self.holds(value, scope)),
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                let inner = self.query(query, scope, &mut Vec::new());
                self.holds(term, &inner)
            }
            Expr::ObjectCompr { value, query, .. } => {
                let inner = self.query(query, scope, &mut Vec::new());
                self.holds(value, &inner)
            }
            Expr::BinExpr { lhs, rhs, .. } => self.holds(lhs, scope).or_else(|| self.holds(rhs, scope)),
            Expr::Call { fcn, params, .. } if self.part(expression, scope).is_none() => {
                let path = static_path(fcn)?;
                let call = Call {
                    path: path.clone(),
                    arguments: params.len(),
                    offset: 0,
                };
                match self.check.names.callee(self.module, &call) {
                    Callee::BuiltIn(name) if takes_through(&name) => any(params),
                    Callee::BuiltIn(_) => None,
                    Callee::Function(path) => params.iter().enumerate().find_map(|(at, parameter)| {
                        self.check
                            .returned
                            .contains(&(path.clone(), at))
                            .then(|| self.holds(parameter, scope))
                            .flatten()
                    }),
                }
            }
            _ => match self.part(expression, scope) {
                Some(Part {
                    argument: None,
                    steps,
                }) => self.inside(&steps, scope),
                _ => self.unproved(expression, scope),
            },
        }
    }

    /// What may be null at or below a part of the input, and is not proved.
    fn inside(&self, steps: &[Step], scope: &Scope) -> Option<Subject> {
        let rule = rule_path(self.module, self.rule);
        let below = self.check.nulls_below(&rule, steps);
        let subjects = below.iter().filter_map(|steps| self.member(steps));
        subjects
            .into_iter()
            .find(|subject| !scope.proved.contains(subject))
    }

    fn member(&self, steps: &[Step]) -> Option<Subject> {
        let rule = rule_path(self.module, self.rule);
        if self.check.null_at(&rule, steps).is_empty() {
            return None;
        }
        Some(Subject::Member(written(steps)))
    }

    /// The same, unless its type is proved here.
    pub(super) fn unproved(&self, expression: &Ref<Expr>, scope: &Scope) -> Option<Subject> {
        self.subject(expression, scope)
            .filter(|subject| !scope.proved.contains(subject))
    }

    /// What may be null in what is compared or negated.
    pub(super) fn suspect(&self, expression: &Ref<Expr>, scope: &Scope) -> Option<Subject> {
        match expression.as_ref() {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                self.unproved(expression, scope)
            }
            Expr::Call { .. } if self.part(expression, scope).is_some() => self.unproved(expression, scope),
            _ => self.holds(expression, scope),
        }
    }

    /// What an item of a collection stands for.
    pub(super) fn item_of(&self, collection: &Ref<Expr>, scope: &Scope) -> Local {
        if let Some(part) = self.part(collection, scope) {
            return Local::Part(part.then(&[Step::Any]));
        }
        if let Expr::Array { items, .. } | Expr::Set { items, .. } = collection.as_ref()
            && let [only] = items.as_slice()
            && let Some(part) = self.part(only, scope)
        {
            return Local::Part(part);
        }
        self.holds(collection, scope).map_or(Local::Open, Local::Holds)
    }

    /// What the values of a rule stand for, one for each of its bodies; those that are nothing to follow left out.
    pub(super) fn values(&self, node: &Node) -> Vec<Local> {
        let Node::Spec { head, bodies, .. } = node else {
            return Vec::new();
        };
        let (assign, arguments) = match head {
            RuleHead::Compr { assign, .. } => (assign.as_ref(), [].as_slice()),
            RuleHead::Func { args, assign, .. } => (assign.as_ref(), args.as_slice()),
            RuleHead::Set { .. } => return Vec::new(),
        };
        let outer = self.arguments(arguments);
        let own = assign.map(|assign| &assign.value);
        if bodies.is_empty() {
            return own
                .and_then(|value| self.followed(value, &outer))
                .into_iter()
                .collect();
        }
        let bodies = bodies.iter().filter_map(|body| {
            // An `else` says its own value, every other body the head's.
            let value = match &body.assign {
                Some(assign) => &assign.value,
                None if body.is_else => return None,
                None => own?,
            };
            self.followed(value, &self.query(&body.query, &outer, &mut Vec::new()))
        });
        bodies.collect()
    }

    /// What a value stands for, if that is something to follow.
    fn followed(&self, value: &Ref<Expr>, scope: &Scope) -> Option<Local> {
        let local = self.named(value, scope);
        let proved = match &local {
            // A member whose type is proved before it is named.
            Local::Part(part) => self
                .of_part(part)
                .is_some_and(|subject| scope.proved.contains(&subject)),
            Local::Holds(_) => false,
            Local::Value | Local::Open => true,
        };
        (!proved).then_some(local)
    }

    /// What may be null of what a name stands for.
    pub(super) fn doubt(&self, local: &Local) -> Option<Subject> {
        match local {
            Local::Holds(subject) => Some(subject.clone()),
            Local::Part(Part {
                argument: None,
                steps,
            }) => self.inside(steps, &Scope::default()),
            Local::Part(part) => self.of_part(part),
            Local::Value | Local::Open => None,
        }
    }

    /// What is known where a function begins.
    pub(super) fn arguments(&self, arguments: &[Ref<Expr>]) -> Scope {
        let mut scope = Scope::default();
        for (at, argument) in arguments.iter().enumerate() {
            let local = match argument.as_ref() {
                Expr::Var { .. } => Local::Part(Part {
                    argument: Some(at),
                    steps: Vec::new(),
                }),
                _ => Local::Holds(Subject::Argument(at, Vec::new())),
            };
            self.open(argument, &local, &mut scope);
        }
        scope
    }

    /// What a name stands for that is given to this.
    pub(super) fn named(&self, expression: &Ref<Expr>, scope: &Scope) -> Local {
        match self.part(expression, scope) {
            Some(part) => Local::Part(part),
            None => self.holds(expression, scope).map_or(Local::Value, Local::Holds),
        }
    }
}

/// Built-ins whose result may be, or be chosen by, what is null in what they are given; for two of them null is 0, or
/// a text. All others fail on null, or only say what kind of value it is.
fn takes_through(name: &str) -> bool {
    ["object.", "array.", "json."]
        .iter()
        .any(|family| name.starts_with(family))
        || [
            "max",
            "min",
            "sort",
            "union",
            "intersection",
            "sprintf",
            "to_number",
        ]
        .contains(&name)
}

/// A literal text.
fn literal(expression: &Ref<Expr>) -> Option<String> {
    match expression.as_ref() {
        Expr::String { value, .. } | Expr::RawString { value, .. } => {
            value.as_string().ok().map(|text| text.to_string())
        }
        _ => None,
    }
}

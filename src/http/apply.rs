//! The body of `/v1/apply`, read in two passes: which kind each object is, then each as what it is.
//!
//! A tagged enum in one pass would copy every member, secrets too, into memory that nobody wipes, and
//! lose the name of the member that is wrong.

use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeSeed;
use serde::de::value::StringDeserializer;
use serde::de::{Deserializer, Error as _, IgnoredAny, IntoDeserializer as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};

use super::body::Misread;
use super::problem::Problem;
use super::{auth, body, roles};
use crate::domain::Labels;
use crate::domain::applied::{ObjectName, Wish};
use crate::domain::object::Object;
use crate::domain::token::Caller;

/// `POST /v1/apply`.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyBody {
    /// The objects, in any order; all are registered or none.
    pub objects: Vec<Object>,
    /// Only says what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Objects to be removed in the same transaction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<ObjectName>,
    /// Removes every object that has these labels and is not among `objects`, in the same transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<Labels>,
    /// What `remove` names may be gone already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_missing: bool,
}

impl ApplyBody {
    /// Registers these objects.
    #[must_use]
    pub fn new(objects: Vec<Object>) -> Self {
        Self {
            objects,
            dry_run: false,
            remove: Vec::new(),
            prune: None,
            ignore_missing: false,
        }
    }
}

/// The members of a body.
const MEMBERS: [&str; 5] = ["objects", "dry_run", "remove", "prune", "ignore_missing"];

/// Parses a body; what is wrong is told with the member's path, such as `objects[0].value`.
pub(super) fn parse(bytes: &[u8]) -> Result<Wish, Problem> {
    let kinds: Kinds = body::parse_seed(bytes, std::marker::PhantomData).map_err(placed)?;
    let body = body::parse_seed(bytes, &kinds).map_err(placed)?;
    Ok(Wish {
        objects: body.objects,
        remove: body.remove,
        prune: body.prune,
        ignore_missing: body.ignore_missing,
        dry_run: body.dry_run,
    })
}

/// The same problem, with the object by its number in the list: `objects[0]`, and its member.
fn placed(misread: Misread) -> Problem {
    let inside = misread.path.split_once("].");
    let (object, member) = match inside {
        Some((object, member)) => (format!("{object}]"), Some(member.to_owned())),
        None => (misread.path.clone(), None),
    };
    let message = misread.message.clone();
    let problem = Problem::from(misread);
    if object.starts_with("objects[") {
        problem.at(object, member, message)
    } else {
        problem
    }
}

/// Refuses all of it if the caller's role does not allow one object, and names that.
pub(super) fn permitted(caller: &Caller, wish: &Wish) -> Result<(), Problem> {
    let refused = wish
        .objects
        .iter()
        .map(|object| (object, roles::who_applies(object)))
        .find(|(_, allowed)| !allowed.contains(&caller.role));
    match refused {
        None => Ok(()),
        Some((object, allowed)) => {
            let label = object.label();
            let problem = auth::forbidden(allowed, &caller.name, caller.role);
            let why = problem.detail().to_owned();
            let problem = problem.about(&format!("{label}: nothing was registered, as"));
            Err(problem.at(label, None, why))
        }
    }
}

/// The first pass.
#[derive(Deserialize)]
struct Kinds {
    objects: Vec<KindOnly>,
}

#[derive(Deserialize)]
struct KindOnly {
    kind: Kind,
}

#[derive(Clone, Copy, Deserialize)]
enum Kind {
    PolicyBundle,
    Secret,
    KeySet,
    Firmware,
    Workload,
    SigningKey,
    Trust,
}

impl<'de> DeserializeSeed<'de> for &Kinds {
    type Value = ApplyBody;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ApplyBody, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Kinds {
    type Value = ApplyBody;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `objects`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ApplyBody, A::Error> {
        let (mut objects, mut dry_run) = (None, None);
        let (mut remove, mut prune, mut ignore_missing) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "objects" if objects.is_some() => return Err(A::Error::duplicate_field("objects")),
                "objects" => objects = Some(map.next_value_seed(Objects(&self.objects))?),
                "dry_run" => once("dry_run", &mut dry_run, &mut map)?,
                "remove" => once("remove", &mut remove, &mut map)?,
                "prune" => once("prune", &mut prune, &mut map)?,
                "ignore_missing" => once("ignore_missing", &mut ignore_missing, &mut map)?,
                other => return Err(A::Error::unknown_field(other, &MEMBERS)),
            }
        }
        Ok(ApplyBody {
            objects: objects.ok_or_else(|| A::Error::missing_field("objects"))?,
            dry_run: dry_run.unwrap_or_default(),
            remove: remove.unwrap_or_default(),
            prune: prune.unwrap_or_default(),
            ignore_missing: ignore_missing.unwrap_or_default(),
        })
    }
}

/// Reads a member that is said once.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    name: &'static str,
    member: &mut Option<T>,
    map: &mut A,
) -> Result<(), A::Error> {
    if member.is_some() {
        return Err(A::Error::duplicate_field(name));
    }
    *member = Some(map.next_value()?);
    Ok(())
}

/// The objects, each with its kind.
struct Objects<'a>(&'a [KindOnly]);

impl<'de> DeserializeSeed<'de> for Objects<'_> {
    type Value = Vec<Object>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Object>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Objects<'_> {
    type Value = Vec<Object>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Object>, A::Error> {
        let mut objects = Vec::with_capacity(self.0.len());
        for KindOnly { kind } in self.0 {
            objects.extend(list.next_element_seed(*kind)?);
        }
        Ok(objects)
    }
}

impl<'de> DeserializeSeed<'de> for Kind {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Object, D::Error> {
        let members = WithoutKind(deserializer);
        Ok(match self {
            Self::PolicyBundle => Object::PolicyBundle(Deserialize::deserialize(members)?),
            Self::Secret => Object::Secret(Deserialize::deserialize(members)?),
            Self::KeySet => Object::KeySet(Deserialize::deserialize(members)?),
            Self::Firmware => Object::Firmware(Deserialize::deserialize(members)?),
            Self::Workload => Object::Workload(Deserialize::deserialize(members)?),
            Self::SigningKey => Object::SigningKey(Deserialize::deserialize(members)?),
            Self::Trust => Object::Trust(Deserialize::deserialize(members)?),
        })
    }
}

/// An object's members but `kind`, which was read before. It is the deserializer, the visitor and the
/// members in turn.
struct WithoutKind<T>(T);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for WithoutKind<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(WithoutKind(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for WithoutKind<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(WithoutKind(map))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutKind<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            let Some(key) = self.0.next_key::<String>()? else {
                return Ok(None);
            };
            if key != "kind" {
                let key: StringDeserializer<A::Error> = key.into_deserializer();
                return seed.deserialize(key).map(Some);
            }
            self.0.next_value::<IgnoredAny>()?;
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

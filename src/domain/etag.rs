//! Entity tags (RFC 9110): which state of an object a caller has seen, and what a caller demands of it before a
//! change.

use openssl::sha::sha256;
use serde::Serialize;

/// A strong entity tag: 16 bytes of the SHA-256 of the object's state as it is shown, in hexadecimal.
///
/// A secret's value is no part of that state; its version is, which is another with each new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// The tag of a state.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub fn of<T: Serialize + ?Sized>(state: &T) -> Result<Self, serde_json::Error> {
        let digest = sha256(&serde_json::to_vec(state)?);
        let (half, _) = digest.split_at(16);
        Ok(Self(hex::encode(half)))
    }

    /// As it stands in headers, in quotes.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// The tags of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// `*`: whatever there is.
    Any,
    /// These, without their quotes.
    These(Vec<Tag>),
}

/// One tag of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What stands between its quotes.
    pub text: String,
    /// Whether it was written with `W/`. No tag of this server's is.
    pub weak: bool,
}

/// What is wrong with a header of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `*`, or entity tags in double quotes with commas between them")]
pub struct TagsError;

impl std::str::FromStr for Tags {
    type Err = TagsError;

    fn from_str(text: &str) -> Result<Self, TagsError> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let mut tags = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let (weak, quoted) = match part.strip_prefix("W/") {
                Some(rest) => (true, rest),
                None => (false, part),
            };
            let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let inside = inside.filter(|inside| !inside.contains('"')).ok_or(TagsError)?;
            tags.push(Tag {
                text: inside.to_owned(),
                weak,
            });
        }
        Ok(Self::These(tags))
    }
}

/// What a caller demands of an object's state. It is compared where the change is committed, so that of two callers
/// who saw the same state one is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// It is there, in one of these states.
    pub if_match: Option<Tags>,
    /// It is in none of these states; with `*`, it is not there.
    pub if_none_match: Option<Tags>,
}

impl Precondition {
    /// Whether it holds for an object in this state, none: that is not there.
    #[must_use]
    pub fn holds(&self, current: Option<&ETag>) -> bool {
        let among = |tags: &Tags, weakly: bool| match (tags, current) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::These(tags), Some(current)) => {
                let same = |listed: &Tag| listed.text == current.0 && (weakly || !listed.weak);
                tags.iter().any(same)
            }
        };
        self.if_match.as_ref().is_none_or(|tags| among(tags, false))
            && self.if_none_match.as_ref().is_none_or(|tags| !among(tags, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(matches: Option<&str>, none: Option<&str>) -> Precondition {
        Precondition {
            if_match: matches.map(|text| text.parse().unwrap()),
            if_none_match: none.map(|text| text.parse().unwrap()),
        }
    }

    #[test]
    fn a_demand_holds_for_the_states_it_names_and_no_others() {
        let tag = ETag::of(&1).unwrap();
        let (own, weak, other) = (tag.quoted(), format!("W/{}", tag.quoted()), "\"x\", \"y\"");
        let both = format!("{other},{own}");
        for (matches, none, there, absent) in [
            (None, None, true, true),
            (Some("*"), None, true, false),
            (Some(own.as_str()), None, true, false),
            (Some(both.as_str()), None, true, false),
            (Some(other), None, false, false),
            (Some(weak.as_str()), None, false, false),
            (None, Some("*"), false, true),
            (None, Some(own.as_str()), false, true),
            (None, Some(weak.as_str()), false, true),
            (None, Some(other), true, true),
        ] {
            let demand = demand(matches, none);
            assert_eq!(demand.holds(Some(&tag)), there, "{demand:?}");
            assert_eq!(demand.holds(None), absent, "{demand:?}");
        }
        for wrong in ["", "x", "\"", "\"a\" \"b\"", "\"a\",", "w/\"a\"", "*, \"a\""] {
            assert_eq!(wrong.parse::<Tags>(), Err(TagsError), "{wrong}");
        }
    }
}

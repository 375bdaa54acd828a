//! Lists, page by page: `limit` says how long a page is at most, `cursor` where it begins.
//!
//! A cursor names the last item of the page before, not a number of items: what is registered or removed between two
//! pages makes no other item appear twice or be left out.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::problem::{Kind, Problem};

/// Items on a page at most.
pub(super) const MOST: u32 = 1000;
/// Items on a page where nothing else is asked for.
pub(super) const USUAL: u32 = 100;
/// The longest cursor: a name of 128 characters, twice, in base64.
const LONGEST: usize = 512;

/// One page of a list.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// `cursor` of the next page; null: there is none.
    pub next: Option<Cursor>,
}

/// Where a page begins. What is in it is the server's own affair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Cursor {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cursor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": "^[A-Za-z0-9_-]+$"})
    }
}

impl Cursor {
    /// After the item at this position of the list.
    pub(super) fn after(list: &str, position: impl fmt::Display) -> Self {
        Self(URL_SAFE_NO_PAD.encode(format!("{list}:{position}")))
    }

    /// The position.
    ///
    /// # Errors
    /// When it is no cursor of this list.
    pub(super) fn position(&self, list: &str) -> Result<String, Problem> {
        let text = (self.0.len() <= LONGEST).then(|| URL_SAFE_NO_PAD.decode(&self.0));
        let text = text
            .and_then(Result::ok)
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let position = text
            .as_deref()
            .and_then(|text| text.strip_prefix(list)?.strip_prefix(':'));
        position.map(str::to_owned).ok_or_else(|| {
            let why = "`cursor`: expected `next` of a page of this list";
            Problem::new(Kind::Malformed, why)
        })
    }

    /// The same, of a list whose positions are numbers.
    ///
    /// # Errors
    /// As [`Cursor::position`].
    pub(super) fn number<N: std::str::FromStr>(&self, list: &str) -> Result<N, Problem> {
        self.position(list)?.parse().map_err(|_| {
            let why = "`cursor`: expected `next` of a page of this list";
            Problem::new(Kind::Malformed, why)
        })
    }
}

/// What the query of a list may have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    /// `next` of the page before. Left out: the first page.
    pub(super) cursor: Option<Cursor>,
    /// Items on the page at most; 100 where it is left out.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) limit: Option<u32>,
}

/// How many items are on a page.
///
/// # Errors
/// When it is out of range.
pub(super) fn limit(asked: Option<u32>, usual: u32) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(usual);
    if (1..=MOST).contains(&limit) {
        return Ok(limit);
    }
    let why = format!("`limit`: expected 1 to {MOST}, not {limit}");
    Err(Problem::new(Kind::Malformed, why))
}

/// The query of a request.
///
/// # Errors
/// When it has what `may` does not list, or what does not read as what it should be.
pub(super) fn query<T: serde::de::DeserializeOwned>(text: &str, may: &str) -> Result<T, Problem> {
    actix_web::web::Query::<T>::from_query(text)
        .map(actix_web::web::Query::into_inner)
        .map_err(|_| Problem::new(Kind::Malformed, format!("the query may have {may}")))
}

impl ListParameters {
    /// The query of a list that is asked for nothing else.
    ///
    /// # Errors
    /// As [`query`].
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        query(text, "`cursor`, and `limit`, a number")
    }

    /// The page of a list that is at hand as a whole. Its items are in the order of their keys.
    ///
    /// # Errors
    /// When the cursor is no cursor of this list, or the limit is out of range.
    pub(super) fn page<T>(
        &self,
        list: &str,
        items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<Page<T>, Problem> {
        self.ordered(list, items, key, |new, old| new > old)
    }

    /// The same, of a list whose greatest key comes first.
    ///
    /// # Errors
    /// As [`ListParameters::page`].
    pub(super) fn newest_first<T>(
        &self,
        list: &str,
        mut items: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Result<Page<T>, Problem> {
        items.sort_by_key(|item| std::cmp::Reverse(key(item)));
        self.ordered(list, items, key, |new, old| new < old)
    }

    fn ordered<T>(
        &self,
        list: &str,
        mut items: Vec<T>,
        key: impl Fn(&T) -> String,
        follows: fn(&str, &str) -> bool,
    ) -> Result<Page<T>, Problem> {
        let limit = limit(self.limit, USUAL)? as usize;
        if let Some(cursor) = &self.cursor {
            let last = cursor.position(list)?;
            items.retain(|item| follows(&key(item), &last));
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        Ok(Page {
            next: last.map(|last| Cursor::after(list, key(last))),
            items,
        })
    }
}

//! Points in time, and who is asked for the present one.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// A point in time with millisecond resolution; RFC 3339 in UTC as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
pub struct Time(Timestamp);

impl Time {
    /// From milliseconds since 1970-01-01T00:00:00Z; what lies outside the calendar is its nearest end.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        let nearest = if millis < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        Self(Timestamp::from_millisecond(millis).unwrap_or(nearest))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// This much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self::from_millis(
            self.millis()
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// This much earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self::from_millis(
            self.millis()
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Whole seconds from `earlier` to this, rounded up; 0 if `earlier` is later.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> u64 {
        let millis = u64::try_from(self.millis().saturating_sub(earlier.millis())).unwrap_or(0);
        millis.div_ceil(1000)
    }

    /// Minutes since 1970-01-01T00:00:00Z, rounded down.
    #[must_use]
    pub fn minute(self) -> i64 {
        self.millis().div_euclid(60_000)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Time {
    type Err = String;

    /// Reads RFC 3339.
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<Timestamp>()
            .map(|time| Self::from_millis(time.as_millisecond()))
            .map_err(|error| error.to_string())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// Who knows what time it is. Passed in, so that rules about time can be tested without waiting.
pub trait Clock: Send + Sync {
    /// The present.
    fn now(&self) -> Time;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time::from_millis(Timestamp::now().as_millisecond())
    }
}

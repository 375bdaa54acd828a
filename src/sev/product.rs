//! AMD's server products.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A family of processors, by AMD's name. A platform's product is the one whose ASK signed its CEK.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// EPYC 7001; SEV only. Its firmware can be rolled back and its keys extracted.
    Naples,
    /// EPYC 7002.
    Rome,
    /// EPYC 7003.
    Milan,
    /// EPYC 9004 and 8004.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl Product {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] = [Self::Naples, Self::Rome, Self::Milan, Self::Genoa, Self::Turin];

    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Naples => "naples",
            Self::Rome => "rome",
            Self::Milan => "milan",
            Self::Genoa => "genoa",
            Self::Turin => "turin",
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Product {
    type Err = UnknownProduct;

    fn from_str(text: &str) -> Result<Self, UnknownProduct> {
        Self::ALL
            .into_iter()
            .find(|product| product.as_str() == text)
            .ok_or(UnknownProduct)
    }
}

/// A text that names no product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown product: expected naples, rome, milan, genoa or turin")]
pub struct UnknownProduct;

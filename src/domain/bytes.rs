//! Bytes as text: hexadecimal and base64 of a known length, refused when anything else.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `N` bytes, written as lower-case hexadecimal. Upper case is accepted when read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hex<const N: usize>(pub [u8; N]);

/// A SHA-256 digest or fingerprint, written as 64 hexadecimal digits.
pub type HexDigest = Hex<32>;

/// `N` bytes, written as standard base64 with padding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Base64<const N: usize>(pub [u8; N]);

/// Any number of bytes, written as standard base64 with padding.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Base64Bytes(pub Vec<u8>);

/// `N` bytes that a host or an owner may write either way: base64, as the host API does, or
/// hexadecimal, as `sha256sum` prints. The two lengths differ, so the form is never guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flex<const N: usize>(pub [u8; N]);

/// A SHA-256 digest in either form.
pub type FlexDigest = Flex<32>;

/// Why a text is not the bytes that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// The text has the wrong number of characters, or one that is not a hexadecimal digit.
    #[error("expected {expected} hexadecimal digits")]
    Hex {
        /// Digits expected.
        expected: usize,
    },
    /// The text is not standard base64, or decodes to another length.
    #[error("expected standard base64 of {expected} bytes")]
    Base64 {
        /// Bytes expected.
        expected: usize,
    },
    /// The text is not standard base64.
    #[error("expected standard base64")]
    Base64Any,
    /// Neither of the two forms.
    #[error("expected {bytes} bytes, as standard base64 or as hexadecimal")]
    Flex {
        /// Bytes expected.
        bytes: usize,
    },
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let mut out = [0; N];
        hex::decode_to_slice(text, &mut out).map_err(|_| BytesError::Hex { expected: 2 * N })?;
        Ok(Self(out))
    }
}

impl<const N: usize> FromStr for Base64<N> {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let error = BytesError::Base64 { expected: N };
        if text.len() > N.div_ceil(3) * 4 {
            return Err(error);
        }
        let bytes = STANDARD.decode(text).map_err(|_| error.clone())?;
        Ok(Self(bytes.try_into().map_err(|_| error)?))
    }
}

impl FromStr for Base64Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        Ok(Self(STANDARD.decode(text).map_err(|_| BytesError::Base64Any)?))
    }
}

impl<const N: usize> FromStr for Flex<N> {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let bytes = if text.len() == 2 * N {
            Hex::from_str(text).map(|h| h.0)
        } else {
            Base64::from_str(text).map(|b| b.0)
        };
        bytes.map(Self).map_err(|_| BytesError::Flex { bytes: N })
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Display for Base64<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Display for Base64Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.0))
    }
}

impl<const N: usize> fmt::Display for Flex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The serde, Debug and schema sides of one text form.
macro_rules! text_form {
    ([$($generics:tt)*] $type:ty, $schema:expr) => {
        impl<$($generics)*> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl<$($generics)*> Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de, $($generics)*> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl<$($generics)*> JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

text_form!([const N: usize] Hex<N>, json_schema!({"type": "string", "pattern": format!("^[0-9a-f]{{{}}}$", 2 * N)}));
text_form!([const N: usize] Base64<N>, json_schema!({"type": "string", "contentEncoding": "base64", "description": format!("{N} bytes")}));
text_form!([] Base64Bytes, json_schema!({"type": "string", "contentEncoding": "base64"}));
text_form!([const N: usize] Flex<N>, json_schema!({"type": "string", "description": format!("{N} bytes, as base64 or as hexadecimal")}));

impl<const N: usize> From<Flex<N>> for Hex<N> {
    fn from(value: Flex<N>) -> Self {
        Self(value.0)
    }
}

impl<const N: usize> From<[u8; N]> for Hex<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

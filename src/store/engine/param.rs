//! Parameters of statements.

use bytes::BytesMut;
use rusqlite::types::{ToSqlOutput, ValueRef};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A parameter's value.
#[derive(Clone, Copy)]
pub(in crate::store) enum Param<'p> {
    Null,
    Int(i64),
    Text(&'p str),
    Blob(&'p [u8]),
}

/// Its kind alone: what is sealed or hashed is no business of a log either.
impl std::fmt::Debug for Param<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

impl rusqlite::ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// As the type that PostgreSQL found for the parameter from where it stands.
impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        declared: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self, declared) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Int(number), &Type::INT8) => number.to_sql(declared, out),
            (Self::Int(number), &Type::INT4) => i32::try_from(*number)?.to_sql(declared, out),
            (Self::Int(number), &Type::BOOL) => (*number != 0).to_sql(declared, out),
            (Self::Text(text), &(Type::TEXT | Type::VARCHAR | Type::UNKNOWN)) => {
                text.to_sql(&Type::TEXT, out)
            }
            (Self::Blob(bytes), &Type::BYTEA) => bytes.to_sql(declared, out),
            (value, declared) => Err(format!("{} given where {declared} is wanted", value.kind()).into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl Param<'_> {
    /// What it is, for an error that must not show the value.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Int(_) => "a number",
            Self::Text(_) => "text",
            Self::Blob(_) => "bytes",
        }
    }
}

/// What can be given as a parameter.
pub(in crate::store) trait ToParam {
    fn param(&self) -> Param<'_>;
}

impl ToParam for str {
    fn param(&self) -> Param<'_> {
        Param::Text(self)
    }
}

impl ToParam for String {
    fn param(&self) -> Param<'_> {
        Param::Text(self)
    }
}

impl ToParam for [u8] {
    fn param(&self) -> Param<'_> {
        Param::Blob(self)
    }
}

impl<const N: usize> ToParam for [u8; N] {
    fn param(&self) -> Param<'_> {
        Param::Blob(self)
    }
}

impl ToParam for Vec<u8> {
    fn param(&self) -> Param<'_> {
        Param::Blob(self)
    }
}

impl<T: ToParam> ToParam for Option<T> {
    fn param(&self) -> Param<'_> {
        self.as_ref().map_or(Param::Null, ToParam::param)
    }
}

impl<T: ToParam + ?Sized> ToParam for &T {
    fn param(&self) -> Param<'_> {
        (**self).param()
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl ToParam for $number {
            fn param(&self) -> Param<'_> {
                Param::Int((*self).into())
            }
        }
    )*};
}
numbers!(i64, u32, u16, u8, bool);

/// The parameters of a statement.
pub(in crate::store) trait Params {
    fn list(&self) -> Vec<Param<'_>>;
}

impl<T: ToParam, const N: usize> Params for [T; N] {
    fn list(&self) -> Vec<Param<'_>> {
        self.iter().map(ToParam::param).collect()
    }
}

impl Params for &[Param<'_>] {
    fn list(&self) -> Vec<Param<'_>> {
        self.to_vec()
    }
}

/// Parameters of several types.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::store::engine::ToParam::param(&$value)),*] as &[$crate::store::engine::Param<'_>]
    };
}
pub(in crate::store) use params;

//! Bodies: bounded in length and time, parsed wholly or refused with the member that is wrong.
//!
//! An owner's body holds secrets in the clear, so what is collected here lies in memory that is wiped, also
//! where it had to grow. Not ours to wipe, and left to the allocator: the buffers in which TLS and
//! actix-web read from the socket, the pieces that they hand on, and the scratch space of the JSON parser
//! for a string with escapes in it (base64 has none).

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::pin;
use std::time::Duration;

use actix_web::body::{BodyStream, MessageBody as _};
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{HttpRequest, web};
use serde::de::{DeserializeOwned, DeserializeSeed};
use zeroize::Zeroizing;

use super::REQUEST_TIMEOUT;
use super::problem::{Kind, Problem};

/// The longest body of a host's request.
pub(super) const HOST_LIMIT: usize = 64 << 10;
/// The longest body of an owner's request: firmware files travel in base64.
pub(super) const OWNER_LIMIT: usize = 96 << 20;
/// The longest message that is handed on.
const MESSAGE: usize = 400;

/// How long a caller with a token may take over a body: firmware is big and lines are slow.
const OWNER_TIMEOUT: Duration = Duration::from_secs(300);

/// What is set aside for a body that does not say how long it is.
const FIRST: usize = 16 << 10;

/// Reads a body of at most `limit` bytes. One that says it is longer is refused before any of it is read.
pub(super) async fn read(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let too_large = || Problem::new(Kind::TooLarge, format!("the body is longer than {limit} bytes"));
    let time = if limit == OWNER_LIMIT {
        OWNER_TIMEOUT
    } else {
        REQUEST_TIMEOUT
    };
    let said = request.headers().get(CONTENT_LENGTH);
    let said = said.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let said = said.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if said.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let collect = async {
        let mut bytes = Zeroizing::new(Vec::with_capacity(said.unwrap_or(FIRST.min(limit))));
        // A payload is a stream; as a message body it can be polled without another crate.
        let mut stream = pin!(BodyStream::new(payload));
        while let Some(piece) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
            let piece = piece.map_err(|_| Problem::new(Kind::Malformed, "the body could not be read"))?;
            if piece.len() > limit - bytes.len() {
                return Err(too_large());
            }
            append(&mut bytes, &piece, limit);
        }
        Ok(bytes)
    };
    let read = actix_web::rt::time::timeout(time, collect).await;
    read.unwrap_or_else(|_| Err(Problem::new(Kind::Malformed, "the body did not arrive in time")))
}

/// Appends without leaving a copy behind: a `Vec` that grows by itself frees what it was in as it is.
fn append(bytes: &mut Zeroizing<Vec<u8>>, piece: &[u8], limit: usize) {
    let length = bytes.len() + piece.len();
    if length > bytes.capacity() {
        let mut grown = Zeroizing::new(Vec::with_capacity((length * 2).min(limit)));
        grown.extend_from_slice(bytes);
        *bytes = grown;
    }
    bytes.extend_from_slice(piece);
}

/// Parses a JSON body.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    Ok(parse_seed(bytes, PhantomData)?)
}

/// What is wrong with a JSON body, and where.
pub(super) struct Misread {
    /// The member's path, such as `objects[0].value`; empty: the whole.
    pub(super) path: String,
    pub(super) message: String,
}

impl From<Misread> for Problem {
    fn from(Misread { path, message }: Misread) -> Self {
        let detail = if path.is_empty() {
            message
        } else {
            format!("`{path}`: {message}")
        };
        Self::new(Kind::Malformed, detail)
    }
}

/// Parses a JSON body with what is known of it already.
pub(super) fn parse_seed<'de, S: DeserializeSeed<'de>>(
    bytes: &'de [u8],
    seed: S,
) -> Result<S::Value, Misread> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let value = seed
        .deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track))
        .map_err(|error| {
            let path = track.path().to_string();
            Misread {
                path: if path == "." { String::new() } else { path },
                message: without_values(&error.to_string()),
            }
        })?;
    json.end().map_err(|_| Misread {
        path: String::new(),
        message: "there is more than one JSON value".to_owned(),
    })?;
    Ok(value)
}

/// serde's message without the value that it quotes: it may be a secret, and it is the sender's own.
fn without_values(message: &str) -> String {
    let quotes = [
        "invalid type: ",
        "invalid value: ",
        "invalid length ",
        "unknown variant ",
    ]
    .iter()
    .any(|p| message.starts_with(p));
    let kept = match message.rfind(", expected ") {
        Some(at) if quotes => message.get(at + 2..).unwrap_or(message),
        _ => message,
    };
    let mut kept = kept.to_owned();
    if kept.len() > MESSAGE {
        kept.truncate(kept.floor_char_boundary(MESSAGE));
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "api-major")]
        _major: u8,
        #[serde(default, rename = "secrets")]
        _secrets: Vec<String>,
        #[serde(default, rename = "kind")]
        _kind: Option<SampleKind>,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum SampleKind {
        One,
        Two,
    }

    #[test]
    fn errors_name_the_member_and_quote_no_value() {
        use actix_web::test::TestRequest;
        for (body, expected) in [
            (r#"{"api-major": 300}"#, "`api-major`: expected u8"),
            (r#"{"api-major": "hunter2"}"#, "`api-major`: expected u8"),
            (
                r#"{"api-major": 1, "secrets": [7]}"#,
                "`secrets[0]`: expected a string",
            ),
            (
                r#"{"api-major": 1, "sekrets": []}"#,
                "`sekrets`: unknown field `sekrets`",
            ),
            (
                r#"{"api-major": 1, "kind": "hunter2"}"#,
                "`kind`: expected `one` or `two`",
            ),
            (r#"{}"#, "missing field `api-major`"),
            (r#"{"api-major": 1} {}"#, "there is more than one JSON value"),
        ] {
            let problem = parse::<Sample>(body.as_bytes()).err().unwrap();
            let response = problem.response(&TestRequest::default().to_http_request());
            let bytes = actix_web::body::MessageBody::try_into_bytes(response.into_body())
                .ok()
                .unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(text.contains(expected), "{body}: {text}");
            assert!(!text.contains("hunter2"));
        }
    }
}

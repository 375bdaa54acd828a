//! Bodies: bounded in length and time, parsed wholly or refused with the member that is wrong.

use std::time::Duration;

use actix_web::web;
use serde::de::DeserializeOwned;

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

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(payload: web::Payload, limit: usize) -> Result<web::Bytes, Problem> {
    let time = if limit == OWNER_LIMIT {
        OWNER_TIMEOUT
    } else {
        REQUEST_TIMEOUT
    };
    let read = actix_web::rt::time::timeout(time, payload.to_bytes_limited(limit)).await;
    match read {
        Err(_) => Err(Problem::new(Kind::Malformed, "the body did not arrive in time")),
        Ok(Err(_)) => Err(Problem::new(
            Kind::TooLarge,
            format!("the body is longer than {limit} bytes"),
        )),
        Ok(Ok(Err(_))) => Err(Problem::new(Kind::Malformed, "the body could not be read")),
        Ok(Ok(Ok(bytes))) => Ok(bytes),
    }
}

/// Parses a JSON body.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let message = without_values(&error.into_inner().to_string());
        let detail = if path == "." {
            message
        } else {
            format!("`{path}`: {message}")
        };
        Problem::new(Kind::Malformed, detail)
    })?;
    json.end()
        .map_err(|_| Problem::new(Kind::Malformed, "there is more than one JSON value"))?;
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

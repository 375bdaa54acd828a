//! From messages to requests: bounded, and parsed wholly or not at all.
//!
//! What is wrong is for the server's log; whoever sent it reads «denied», as for everything before a guest is measured.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::sha::sha256;
use uuid::Uuid;

use super::messages::{BundleRequest, OnlineSecretRequest, RequestDetails, SecretRequest};
use crate::domain::Hex;
use crate::domain::connection::{ConnectionBounds, Form, Wanted};
use crate::release::host::{Asked, Claimed};
use crate::release::simple_kbs::{Named, OnlineRequest};
use crate::release::{Host, LaunchRequest, ValidateRequest};
use crate::sev::policy::SevPolicy;
use crate::sev::{Build, Certificate, Measurement};

/// The longest chain in any of its forms is 11536 bytes.
const MAX_CHAIN: usize = 16 << 10;
/// The longest description, in bytes.
const MAX_DESCRIPTION: usize = 1024;
/// The most entries that a guest reads of a table.
const MAX_ENTRIES: usize = 64;
/// The longest id, in bytes: what simple-kbs's database held.
const MAX_ID: usize = 1024;

/// Which field is not as it should be.
#[derive(Debug)]
pub(super) struct Malformed(pub(super) &'static str);

pub(super) fn bundle(message: &BundleRequest) -> Result<LaunchRequest, Malformed> {
    let field = "CertificateChain";
    let chain = decode(&message.certificate_chain, field)?;
    if chain.len() > MAX_CHAIN {
        return Err(Malformed(field));
    }
    let (pdh, rest) = chain
        .split_at_checked(Certificate::SIZE)
        .ok_or(Malformed(field))?;
    Ok(LaunchRequest {
        pdh: pdh.to_vec(),
        cert_chain: rest.to_vec(),
        cpu_id: None,
        scheme: None,
        policy: Some(SevPolicy(message.policy)),
    })
}

/// The launch, and what is asked for it. The same message again is the same request, whose answer is given again.
pub(super) fn secret(
    message: &SecretRequest,
    host: &Host,
    connection: ConnectionBounds,
) -> Result<(Uuid, ValidateRequest), Malformed> {
    let launch = uuid(&message.launch_id, "LaunchId")?;
    let measurement = decode(&message.launch_measurement, "LaunchMeasurement")?;
    let measurement = Measurement::parse(&measurement).map_err(|_| Malformed("LaunchMeasurement"))?;
    // A number that is cut off would be another one than the measurement's.
    let byte = |number: u32, field| u8::try_from(number).map_err(|_| Malformed(field));
    let launch_digest = match message.fw_digest.as_str() {
        "" => None,
        text => Some(Hex(decode(text, "FwDigest")?
            .try_into()
            .map_err(|_| Malformed("FwDigest"))?)),
    };
    if message.launch_description.len() > MAX_DESCRIPTION {
        return Err(Malformed("LaunchDescription"));
    }
    let description = Some(message.launch_description.clone()).filter(|text| !text.is_empty());
    let wanted = entries(&message.secret_requests)?;
    let bytes = prost::Message::encode_to_vec(message);
    let key = sha256(&[b"simple-kbs".as_slice(), &bytes].concat());
    let request = ValidateRequest {
        build: Build {
            api_major: byte(message.api_major, "ApiMajor")?,
            api_minor: byte(message.api_minor, "ApiMinor")?,
            build_id: byte(message.build_id, "BuildId")?,
        },
        policy: SevPolicy(message.policy),
        measurement,
        claimed: Claimed {
            description,
            ..Claimed::default()
        },
        launch_digest,
        secrets: Asked::Entries {
            wanted,
            connection: Some(connection),
        },
        idempotency: Some((Hex(key), host.request_hash(&bytes))),
    };
    Ok((launch, request))
}

pub(super) fn online(message: &OnlineSecretRequest) -> Result<OnlineRequest, Malformed> {
    let wanted = entries(&message.secret_requests)?;
    let names = message.secret_requests.iter().map(|details| details.guid.clone());
    Ok(OnlineRequest {
        client: uuid(&message.client_id, "ClientId")?,
        asked: names
            .zip(wanted)
            .map(|(name, wanted)| Named { name, wanted })
            .collect(),
    })
}

fn entries(requests: &[RequestDetails]) -> Result<Vec<Wanted>, Malformed> {
    if requests.len() > MAX_ENTRIES {
        return Err(Malformed("SecretRequests"));
    }
    requests.iter().map(entry).collect()
}

fn entry(details: &RequestDetails) -> Result<Wanted, Malformed> {
    let guid = uuid(&details.guid, "Guid")?;
    // No name has a NUL, and not every database takes one.
    if details.id.len() > MAX_ID || details.id.contains('\0') {
        return Err(Malformed("Id"));
    }
    let id = details.id.clone();
    let json = match details.format.to_ascii_lowercase().as_str() {
        "json" => true,
        "binary" => false,
        _ => return Err(Malformed("Format")),
    };
    let form = match (details.secret_type.to_ascii_lowercase().as_str(), json) {
        ("key" | "resource", false) => Form::Bytes { id },
        ("key" | "resource", true) => Form::Json { id },
        // These have one form, and clients name either.
        ("bundle", _) => Form::Bundle { id },
        ("report", _) => Form::Report { id },
        ("connection", _) => Form::Connection,
        _ => return Err(Malformed("SecretType")),
    };
    Ok(Wanted { guid, form })
}

fn uuid(text: &str, field: &'static str) -> Result<Uuid, Malformed> {
    Uuid::try_parse(text).map_err(|_| Malformed(field))
}

fn decode(text: &str, field: &'static str) -> Result<Vec<u8>, Malformed> {
    STANDARD.decode(text).map_err(|_| Malformed(field))
}

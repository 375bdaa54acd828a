//! The host API: `/vm/{uuid}` and its two calls.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use openssl::sha::sha256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::{answer, method_not_allowed, on_thread, uuid};
use super::peer::peer;
use super::problem::{Kind, Problem};
use super::{State, auth, body};
use crate::domain::bytes::Flex;
use crate::domain::object::{Action, SecretBytes, SecretKind, SecretValue};
use crate::domain::{Base64, Base64Bytes, FlexDigest, Hex, Name, Time};
use crate::release::host::{Asked, Claimed};
use crate::release::register::{InlineSecret, MailingWorkload, OnConflict};
use crate::release::{Host, LaunchRequest, ValidateRequest};
use crate::sev::policy::{Scheme, SevPolicy};
use crate::sev::{Build, Measurement};

/// The longest chain in any of its forms is 11536 bytes.
const MAX_CHAIN: usize = 16 << 10;
/// The longest description, in bytes.
const MAX_DESCRIPTION: usize = 1024;
/// The most secrets that one request asks for: what a guest reads of a table.
const MAX_SECRETS: usize = 64;
/// The longest idempotency key.
const MAX_KEY: usize = 255;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource("/vm/{uuid}/launch")
                .route(web::post().to(launch))
                .default_service(web::to(method_not_allowed)),
        )
        .service(
            web::resource("/vm/{uuid}/validate")
                .route(web::post().to(validate))
                .default_service(web::to(method_not_allowed)),
        )
        .service(
            web::resource("/vm/{uuid}")
                .route(web::post().to(register))
                .route(web::put().to(replace))
                .default_service(web::to(method_not_allowed)),
        );
}

/// `POST /vm/{uuid}/launch`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LaunchBody {
    pdh: Base64<2084>,
    cert_chain: Base64Bytes,
    #[serde(default)]
    cpu_id: Option<Flex<64>>,
    #[serde(default)]
    scheme: Option<Scheme>,
    #[serde(default)]
    policy: Option<u32>,
}

/// The answer to a launch.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LaunchReply {
    /// The launch's own UUID.
    pub id: Uuid,
    /// The session blob, 128 bytes.
    pub session: Base64<128>,
    /// The guest owner's certificate, 2084 bytes.
    pub owner_cert: Base64<2084>,
    /// The SEV policy.
    pub policy: u32,
    /// Until when the launch may be validated.
    pub expires_at: Time,
}

/// `POST /vm/{uuid}/validate`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ValidateBody {
    api_major: u8,
    api_minor: u8,
    build_id: u8,
    policy: u32,
    measurement: Base64<48>,
    #[serde(default)]
    cpu_count: Option<u32>,
    #[serde(default)]
    launch_digest: Option<FlexDigest>,
    #[serde(default)]
    firmware_hash: Option<FlexDigest>,
    #[serde(default)]
    kernel_hash: Option<FlexDigest>,
    #[serde(default)]
    initrd_hash: Option<FlexDigest>,
    #[serde(default)]
    cmdline_hash: Option<FlexDigest>,
    #[serde(default)]
    secrets: Option<Vec<Name>>,
    #[serde(default)]
    description: Option<String>,
}

/// The answer to a validation: what `sev-inject-launch-secret` takes.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ValidateReply {
    /// The packet's header, 52 bytes.
    pub secret_header: Base64Bytes,
    /// The packet's ciphertext.
    pub secret_payload: Base64Bytes,
    /// The recorded decision.
    pub decision: Uuid,
}

/// `POST` or `PUT /vm/{uuid}`: a workload in the mailing-list form.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RegisterBody {
    scheme: Scheme,
    #[serde(default)]
    cloud_cert: Option<Base64Bytes>,
    policy: u32,
    #[serde(default)]
    cpu_count: Option<u32>,
    #[serde(default)]
    firmware_hashes: Vec<FlexDigest>,
    #[serde(default)]
    kernel_hash: Option<FlexDigest>,
    #[serde(default)]
    initrd_hash: Option<FlexDigest>,
    #[serde(default)]
    cmdline_hash: Option<FlexDigest>,
    #[serde(default)]
    launch_digests: Vec<FlexDigest>,
    #[serde(default)]
    max_releases: Option<u64>,
    secrets: Vec<InlineBody>,
}

/// A secret inside a workload: `value` in base64, or `passphrase` as text.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct InlineBody {
    #[serde(rename = "type")]
    kind: SecretKind,
    #[serde(default)]
    guid: Option<Uuid>,
    #[serde(default)]
    value: Option<SecretBytes>,
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    passphrase: Option<zeroize::Zeroizing<String>>,
    #[serde(default)]
    generate: Option<u16>,
}

/// What a registration answers.
#[derive(Serialize, JsonSchema)]
pub(super) struct RegisterReply {
    /// The workload's UUID.
    uuid: Uuid,
    /// What was done with it.
    action: Action,
    /// What will not work as registered, though it may be meant.
    warnings: Vec<String>,
}

/// Asks for a session for a platform: [`Service::launch`](crate::release::Service::launch).
async fn launch(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    answer(&request, do_launch(&path, &state, &request, payload).await)
}

async fn do_launch(
    path: &str,
    state: &web::Data<State>,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (uuid, host) = (uuid(path)?, host(request, state)?);
    let body: LaunchBody = body::parse(&body::read(request, payload, body::HOST_LIMIT).await?)?;
    if body.cert_chain.0.len() > MAX_CHAIN {
        return Err(member(
            "cert-chain",
            &format!("expected at most {MAX_CHAIN} bytes"),
        ));
    }
    let asked = LaunchRequest {
        pdh: body.pdh.0.to_vec(),
        cert_chain: body.cert_chain.0,
        cpu_id: body.cpu_id.map(Hex::from),
        scheme: body.scheme,
        policy: body.policy.map(SevPolicy),
    };
    let reply = on_thread(state, move |service| {
        service.launch(uuid, &host, &asked).map_err(Problem::from)
    })
    .await?;
    Ok(HttpResponse::Ok().json(LaunchReply {
        id: reply.id,
        session: Base64(reply.session),
        owner_cert: Base64(*reply.owner_cert.as_bytes()),
        policy: reply.policy.bits(),
        expires_at: reply.expires_at,
    }))
}

/// Asks for the secrets of a measured guest: [`Service::validate`](crate::release::Service::validate).
async fn validate(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    answer(&request, do_validate(&path, &state, &request, payload).await)
}

async fn do_validate(
    path: &str,
    state: &web::Data<State>,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (uuid, host) = (uuid(path)?, host(request, state)?);
    let key = idempotency_key(request)?;
    let bytes = body::read(request, payload, body::HOST_LIMIT).await?;
    let body: ValidateBody = body::parse(&bytes)?;
    if body
        .description
        .as_ref()
        .is_some_and(|text| text.len() > MAX_DESCRIPTION)
    {
        return Err(member(
            "description",
            &format!("expected at most {MAX_DESCRIPTION} bytes"),
        ));
    }
    if body
        .secrets
        .as_ref()
        .is_some_and(|names| names.len() > MAX_SECRETS)
    {
        return Err(member(
            "secrets",
            &format!("expected at most {MAX_SECRETS} names"),
        ));
    }
    let measurement = Measurement::parse(&body.measurement.0)
        .map_err(|_| member("measurement", "expected standard base64 of 48 bytes"))?;
    let asked = ValidateRequest {
        build: Build {
            api_major: body.api_major,
            api_minor: body.api_minor,
            build_id: body.build_id,
        },
        policy: SevPolicy(body.policy),
        measurement,
        claimed: Claimed {
            cpu_count: body.cpu_count,
            firmware_hash: body.firmware_hash.map(Hex::from),
            kernel_hash: body.kernel_hash.map(Hex::from),
            initrd_hash: body.initrd_hash.map(Hex::from),
            cmdline_hash: body.cmdline_hash.map(Hex::from),
            description: body.description,
        },
        launch_digest: body.launch_digest.map(Hex::from),
        secrets: body.secrets.map_or(Asked::All, Asked::Names),
        idempotency: key.map(|key| (key, host.request_hash(&bytes))),
    };
    let reply = on_thread(state, move |service| {
        service.validate(uuid, &host, &asked).map_err(Problem::from)
    })
    .await?;
    Ok(HttpResponse::Ok().json(ValidateReply {
        secret_header: Base64Bytes(reply.header),
        secret_payload: Base64Bytes(reply.payload),
        decision: reply.decision,
    }))
}

/// Registers a workload in the mailing-list form; one that is there and differs stays.
async fn register(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    answer(
        &request,
        do_register(&path, &state, &request, payload, OnConflict::Refuse).await,
    )
}

/// Registers or replaces a workload in the mailing-list form.
async fn replace(
    path: web::Path<String>,
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    answer(
        &request,
        do_register(&path, &state, &request, payload, OnConflict::Replace).await,
    )
}

async fn do_register(
    path: &str,
    state: &web::Data<State>,
    request: &HttpRequest,
    payload: web::Payload,
    on_conflict: OnConflict,
) -> Result<HttpResponse, Problem> {
    let caller = auth::caller(request)?;
    let uuid = uuid(path)?;
    let body: RegisterBody = body::parse(&body::read(request, payload, body::HOST_LIMIT).await?)?;
    let workload = mailing(body)?;
    let (action, applied) = on_thread(state, move |service| {
        service
            .register_workload(&caller, uuid, &workload, on_conflict)
            .map_err(Problem::from)
    })
    .await?;
    let status = if action == Action::Created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(HttpResponse::build(status).json(RegisterReply {
        uuid,
        action,
        warnings: applied.warnings,
    }))
}

fn mailing(body: RegisterBody) -> Result<MailingWorkload, Problem> {
    let digests = |list: Vec<FlexDigest>| list.into_iter().map(Hex::from).collect();
    let secrets = body.secrets.into_iter().map(inline).collect::<Result<_, _>>()?;
    Ok(MailingWorkload {
        scheme: body.scheme,
        cloud_cert: body.cloud_cert.map(|cert| cert.0),
        policy: body.policy,
        cpu_count: body.cpu_count,
        firmware_hashes: digests(body.firmware_hashes),
        kernel_hash: body.kernel_hash.map(Hex::from),
        initrd_hash: body.initrd_hash.map(Hex::from),
        cmdline_hash: body.cmdline_hash.map(Hex::from),
        launch_digests: digests(body.launch_digests),
        max_releases: body.max_releases,
        secrets,
    })
}

fn inline(secret: InlineBody) -> Result<InlineSecret, Problem> {
    let value = match (secret.value, secret.passphrase, secret.generate) {
        (Some(value), None, None) => SecretValue::Base64(value),
        (None, Some(text), None) if secret.kind == SecretKind::LuksPassphrase => {
            SecretValue::Base64(SecretBytes(text.as_bytes().to_vec()))
        }
        (None, None, Some(length)) => SecretValue::Generate(length),
        _ => {
            let why = "each needs one of `value` (base64), `passphrase` (text, for luks-passphrase) and `generate` (bytes)";
            return Err(member("secrets", why));
        }
    };
    Ok(InlineSecret {
        kind: secret.kind,
        guid: secret.guid,
        value,
    })
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<Hex<32>>, Problem> {
    let mut keys = request.headers().get_all("idempotency-key");
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() || key.is_empty() || key.len() > MAX_KEY {
        let why = format!("expected one header of 1 to {MAX_KEY} characters");
        return Err(member("Idempotency-Key", &why));
    }
    Ok(Some(Hex(sha256(key.as_bytes()))))
}

fn host(request: &HttpRequest, state: &web::Data<State>) -> Result<Host, Problem> {
    let identity = auth::host_identity(request);
    peer(request, &state.trusted_proxies).map(|address| Host { address, identity })
}

fn member(name: &str, why: &str) -> Problem {
    Problem::new(Kind::Malformed, format!("`{name}`: {why}"))
}

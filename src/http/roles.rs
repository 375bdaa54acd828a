//! Who may call what: the one table, by which every request is let in or turned away.
//!
//! What has no row can't be called, whatever the router knows.

use crate::domain::Role;
use crate::domain::object::Object;
use crate::domain::state::Kind;

/// One endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The method.
    pub method: &'static str,
    /// The path, with members in braces as the router has them.
    pub path: &'static str,
    /// Who may call it.
    pub who: Who,
}

/// Who may call an endpoint.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// Anybody, without a token: what hosts and monitors ask for.
    Anybody,
    /// Anybody, as what is asked decides who may; but who says who it is must prove it.
    Hosts,
    /// Tokens of these roles.
    Roles(&'static [Role]),
}

use Role::{Admin, Approver, Auditor, Owner, PolicyAuthor, SecretWriter};

const OWNER: Who = Who::Roles(&[Owner]);
const READS: Who = Who::Roles(&[Owner, Auditor]);
const READS_SECRETS: Who = Who::Roles(&[Owner, SecretWriter, Auditor]);
const WRITES_SECRETS: Who = Who::Roles(&[Owner, SecretWriter]);
const READS_POLICIES: Who = Who::Roles(&[Owner, PolicyAuthor, Auditor]);
const WRITES_POLICIES: Who = Who::Roles(&[Owner, PolicyAuthor]);
const READS_HOLDS: Who = Who::Roles(&[Owner, Approver, Auditor]);
// Who registers policies sees what waits for a second person.
const READS_PROPOSALS: Who = Who::Roles(&[Owner, PolicyAuthor, Approver, Auditor]);
const APPROVES: Who = Who::Roles(&[Owner, Approver]);
const READS_LOG: Who = Who::Roles(&[Admin, Owner, Auditor]);
const READS_TOKENS: Who = Who::Roles(&[Admin, Owner, Auditor]);
const WRITES_TOKENS: Who = Who::Roles(&[Admin, Owner]);
const READS_FREEZES: Who = Who::Roles(&[Admin, Owner, Approver, Auditor]);
// To stop is safe, to let go on is not.
const FREEZES: Who = Who::Roles(&[Admin, Owner, Approver]);
const UNFREEZES: Who = Who::Roles(&[Admin, Owner]);
const ADMIN: Who = Who::Roles(&[Admin]);

/// The table.
pub const ENDPOINTS: &[Endpoint] = &[
    row("GET", "/livez", Who::Anybody),
    row("HEAD", "/livez", Who::Anybody),
    row("GET", "/readyz", Who::Anybody),
    row("HEAD", "/readyz", Who::Anybody),
    row("GET", "/problems/{name}", Who::Anybody),
    row("HEAD", "/problems/{name}", Who::Anybody),
    row("GET", "/openapi.json", Who::Anybody),
    row("HEAD", "/openapi.json", Who::Anybody),
    row("POST", "/vm/{uuid}/launch", Who::Hosts),
    row("POST", "/vm/{uuid}/validate", Who::Hosts),
    row("POST", "/vm/{uuid}", OWNER),
    row("PUT", "/vm/{uuid}", OWNER),
    // Object by object: [`who_applies`].
    row(
        "POST",
        "/v1/apply",
        Who::Roles(&[Owner, SecretWriter, PolicyAuthor]),
    ),
    // Kind by kind: [`may_read`].
    row(
        "GET",
        "/v1/objects",
        Who::Roles(&[Owner, SecretWriter, PolicyAuthor, Auditor]),
    ),
    row("GET", "/v1/secrets", READS_SECRETS),
    row("GET", "/v1/secrets/{name:.+}", READS_SECRETS),
    row("PUT", "/v1/secrets/{name:.+}", WRITES_SECRETS),
    row("DELETE", "/v1/secrets/{name:.+}", WRITES_SECRETS),
    row("GET", "/v1/secret-versions/{name:.+}", READS_SECRETS),
    row("POST", "/v1/secret-versions/{name:.+}", WRITES_SECRETS),
    row("DELETE", "/v1/secret-versions/{name:.+}", WRITES_SECRETS),
    row("GET", "/v1/keysets", READS),
    row("GET", "/v1/keysets/{name:.+}", READS),
    row("PUT", "/v1/keysets/{name:.+}", OWNER),
    row("DELETE", "/v1/keysets/{name:.+}", OWNER),
    row("GET", "/v1/firmware", READS),
    row("GET", "/v1/firmware/{name:.+}", READS),
    row("PUT", "/v1/firmware/{name:.+}", OWNER),
    row("DELETE", "/v1/firmware/{name:.+}", OWNER),
    row("GET", "/v1/workloads", READS),
    row("GET", "/v1/workloads/{uuid}", READS),
    row("DELETE", "/v1/workloads/{uuid}", OWNER),
    row("GET", "/v1/bundles", READS_POLICIES),
    row("POST", "/v1/bundles", WRITES_POLICIES),
    row("GET", "/v1/bundles/active", READS_POLICIES),
    row("PUT", "/v1/bundles/active", WRITES_POLICIES),
    row("GET", "/v1/bundles/{digest}", READS_POLICIES),
    row("GET", "/v1/bundles/{digest}/archive", READS_POLICIES),
    row("GET", "/v1/revisions", READS_POLICIES),
    row("POST", "/v1/revisions", WRITES_POLICIES),
    row("GET", "/v1/revisions/{number}", READS_POLICIES),
    row("GET", "/v1/revisions/{number}/archive", READS_POLICIES),
    // Whoever registers keys decides whose policies count, so that a policy's author may not.
    row("GET", "/v1/signing-keys", OWNER),
    row("GET", "/v1/signing-keys/{name:.+}", OWNER),
    row("PUT", "/v1/signing-keys/{name:.+}", OWNER),
    row("DELETE", "/v1/signing-keys/{name:.+}", OWNER),
    // With them a policy's author replays what was decided under another policy.
    row("GET", "/v1/decisions", READS_POLICIES),
    row("GET", "/v1/decisions/{id}", READS_POLICIES),
    row("GET", "/v1/decisions/{id}/explanation", READS_POLICIES),
    row("POST", "/v1/policies/evaluate", READS_POLICIES),
    row("GET", "/v1/holds", READS_HOLDS),
    row("GET", "/v1/holds/{id}", READS_HOLDS),
    row("POST", "/v1/holds/{id}/confirm", APPROVES),
    row("POST", "/v1/holds/{id}/reject", APPROVES),
    row("POST", "/v1/holds/{id}/withdraw", APPROVES),
    row("GET", "/v1/limits", READS_PROPOSALS),
    row("POST", "/v1/limits/reset", APPROVES),
    row("GET", "/v1/approvals", READS_PROPOSALS),
    row("PUT", "/v1/approvals", APPROVES),
    row("GET", "/v1/freezes", READS_FREEZES),
    row("POST", "/v1/freezes", FREEZES),
    row("GET", "/v1/freezes/{id}", READS_FREEZES),
    row("POST", "/v1/freezes/{id}/lift", UNFREEZES),
    row("GET", "/v1/platforms", READS_HOLDS),
    row("PUT", "/v1/platforms/accepted", OWNER),
    row("GET", "/v1/platforms/{cek}", READS_HOLDS),
    row("POST", "/v1/platforms/{cek}/enrol", OWNER),
    row("POST", "/v1/platforms/{cek}/refuse", APPROVES),
    row("GET", "/v1/trust", READS_HOLDS),
    row("PUT", "/v1/trust", OWNER),
    row("GET", "/v1/impact", READS_POLICIES),
    row("GET", "/v1/audit/entries", READS_LOG),
    row("GET", "/v1/audit/checkpoint", READS_LOG),
    row("GET", "/v1/audit/checkpoints", READS_LOG),
    row("GET", "/v1/audit/consistency", READS_LOG),
    row("GET", "/v1/audit/proof/{id}", READS_LOG),
    row("GET", "/v1/tokens", READS_TOKENS),
    row("POST", "/v1/tokens", WRITES_TOKENS),
    row("DELETE", "/v1/tokens/{id}", WRITES_TOKENS),
    row("GET", "/v1/owners", ADMIN),
    row("POST", "/v1/owners", ADMIN),
];

const fn row(method: &'static str, path: &'static str, who: Who) -> Endpoint {
    Endpoint { method, path, who }
}

/// Who may call this method of this path, as the router matched it; none: nobody.
pub(super) fn who(method: &str, path: &str) -> Option<Who> {
    let found = ENDPOINTS
        .iter()
        .find(|row| row.method == method && row.path == path);
    found.map(|row| row.who)
}

/// The methods that this path has.
pub(super) fn methods(path: &str) -> Vec<&'static str> {
    let of_path = ENDPOINTS.iter().filter(|row| row.path == path);
    of_path.map(|row| row.method).collect()
}

/// Who may apply this object: who may register it by itself.
pub(super) fn who_applies(object: &Object) -> &'static [Role] {
    match object {
        Object::Secret(_) => &[Owner, SecretWriter],
        Object::PolicyBundle(_) => &[Owner, PolicyAuthor],
        Object::KeySet(_)
        | Object::Firmware(_)
        | Object::Workload(_)
        | Object::SigningKey(_)
        | Object::Trust(_) => &[Owner],
    }
}

/// Whether this role may remove objects of this kind: as it may by themselves.
pub(super) fn may_remove(kind: Kind, role: Role) -> bool {
    match kind {
        Kind::Secret => matches!(role, Owner | SecretWriter),
        Kind::KeySet | Kind::Firmware | Kind::Workload | Kind::SigningKey => role == Owner,
    }
}

/// Whether this role sees objects of this kind: as it may by themselves.
pub(super) fn may_read(kind: &str, role: Role) -> bool {
    match kind {
        "Secret" => matches!(role, Owner | SecretWriter | Auditor),
        "PolicyBundle" => matches!(role, Owner | PolicyAuthor | Auditor),
        "KeySet" | "Firmware" | "Workload" => matches!(role, Owner | Auditor),
        "Trust" => matches!(role, Owner | Approver | Auditor),
        _ => role == Owner,
    }
}

//! `GET /v1/objects`: everything that an owner registered, each as a manifest that registers it again.

use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::owner::{read, resource};
use super::{State, roles};
use crate::domain::state::Kind;
use crate::domain::{Name, Role};
use crate::release::register::Shown;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(resource("/objects").route(web::get().to(objects)));
}

/// What an owner registered, read in one moment.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ObjectList {
    /// The owner.
    pub owner: Name,
    /// The objects: what others refer to first.
    pub items: Vec<Shown>,
    /// Kinds that the caller's role does not see.
    pub unseen: Vec<String>,
}

async fn objects(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    read(state, request, |service, caller| {
        let mut items = Shown::all(&service.store().owner_state(&caller.owner)?);
        items.retain(|shown| roles::may_read(&shown.kind, caller.role));
        Ok(ObjectList {
            owner: caller.owner.clone(),
            items,
            unseen: unseen(caller.role),
        })
    })
    .await
}

fn unseen(role: Role) -> Vec<String> {
    let kinds = Kind::ALL.iter().map(|kind| kind.as_str());
    kinds
        .chain(["PolicyBundle", "Trust"])
        .filter(|kind| !roles::may_read(kind, role))
        .map(str::to_owned)
        .collect()
}

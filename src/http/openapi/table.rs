//! What each endpoint is for, what it takes and answers, and with which problems it may fail.
//!
//! Not said here, as it follows from the endpoint: 401, 403 and 503 where a token is needed, 404 where the path names
//! something, 400 and 413 where there is a body, 400 where there is a query.

use schemars::JsonSchema;
use serde_json::json;

use super::operation::Operation;
use super::types::Types;
use crate::domain::approval::Approvals;
use crate::domain::decision::Decision;
use crate::domain::freeze::Freeze;
use crate::domain::hold::Hold;
use crate::domain::object::{Applied, FirmwareObject, KeySetObject, PolicyBundleObject, SecretObject};
use crate::domain::platform::Platform;
use crate::domain::revision::{Revision, SigningKey};
use crate::domain::state::{FirmwareInfo, KeySet, RegisteredWorkload, SecretInfo};
use crate::domain::trust::Trust;
use crate::http::page::{ListParameters, Page};
use crate::http::problem::Kind;
use crate::http::roles::Endpoint;
use crate::http::{
    AcceptedBody, AcceptedReply, FreezeBody, FreezeList, FreezeReply, ImpactReply, LiftReply, PlatformReply,
    PlatformsReply, SecretRollback, SecretVersionList, freezes, impact, secret_versions,
};
use crate::http::{
    ApplyBody, ApprovalsBody, ApprovalsReply, BundleList, CheckpointList, ConfirmBody, ConsistencyReply,
    DecisionList, EntryList, HoldList, LaunchBody, LaunchReply, LimitList, ObjectList, OwnerBody, OwnerList,
    OwnerReply, ProofReply, PushBody, PushReply, ReasonBody, RegisterBody, ResetBody, ResetReply,
    RevisionList, RollbackBody, SignedCheckpoint, SigningKeyBody, SigningKeyList, TokenBody, TokenList,
    TokenReply, ValidateBody, ValidateReply, audit, bundles, holds, host, owner, signing_keys, tokens,
};
use crate::release::{DecisionExplanation, DryRun, Evaluation};

/// What is said of an endpoint; none: nothing yet, and a test fails.
pub(super) fn operation(t: &mut Types, endpoint: &Endpoint) -> Option<Operation> {
    let at = (endpoint.method, endpoint.path);
    of_hosts(t, at)
        .or_else(|| of_objects(t, at))
        .or_else(|| of_policies(t, at))
        .or_else(|| of_people(t, at))
        .or_else(|| of_incidents(t, at))
        .or_else(|| of_records(t, at))
}

impl Types {
    /// It shows something.
    fn get<T: JsonSchema>(&mut self, summary: &'static str) -> Operation {
        Operation::new(summary).answers(200, "Here it is", self.of::<T>())
    }

    /// It shows a list that is asked for nothing but a page.
    fn list<T: JsonSchema>(&mut self, summary: &'static str) -> Operation {
        self.get::<T>(summary).query(self.parameters::<ListParameters>())
    }

    /// It takes a body and says what came of it.
    fn send<B: JsonSchema, T: JsonSchema>(&mut self, summary: &'static str) -> Operation {
        let operation = Operation::new(summary).body(self.of::<B>());
        operation.answers(200, "It is done", self.of::<T>())
    }

    /// It registers or replaces one object.
    fn put<B: JsonSchema>(&mut self, summary: &'static str) -> Operation {
        let operation = self.send::<B, Applied>(summary);
        operation.conditional().fails(&[Kind::Invalid]).fails(&BY_TWO)
    }
}

/// How a registration fails that two people have to make.
const BY_TWO: [Kind; 2] = [Kind::ApprovalRequired, Kind::WrongState];

/// It removes one object.
fn remove(summary: &'static str) -> Operation {
    let operation = Operation::new(summary).answers_with(204, "It is gone", None);
    operation.conditional().fails(&[Kind::Invalid]).fails(&BY_TWO)
}

fn of_hosts(t: &mut Types, at: (&str, &str)) -> Option<Operation> {
    let reads = [Kind::Unavailable];
    Some(match at {
        ("GET", "/livez") => t.get::<super::super::Livez>("Says that the server runs"),
        ("HEAD", "/livez") => head("Says that the server runs"),
        ("GET", "/readyz") => t
            .get::<super::super::Readyz>("Says whether the server can do its work")
            .fails(&reads),
        ("HEAD", "/readyz") => head("Says whether the server can do its work").fails(&reads),
        ("GET", "/problems/{name}") => {
            let page = Some(("text/html", json!({"type": "string"})));
            Operation::new("Explains a type of problem").answers_with(200, "A page for people", page)
        }
        ("HEAD", "/problems/{name}") => head("Explains a type of problem"),
        ("GET", "/openapi.json") => {
            let document = json!({"type": "object"});
            Operation::new("Shows this document").answers(200, "Here it is", document)
        }
        ("HEAD", "/openapi.json") => head("Shows this document"),
        ("POST", "/vm/{uuid}/launch") => t
            .send::<LaunchBody, LaunchReply>("Asks for a session, to launch a guest on a platform")
            .fails(&[
                Kind::ChainInvalid,
                Kind::Denied,
                Kind::TooManyRequests,
                Kind::Unavailable,
            ]),
        ("POST", "/vm/{uuid}/validate") => t
            .send::<ValidateBody, ValidateReply>("Asks for the secrets of a guest that was measured")
            .with("HostIdempotencyKey")
            .fails(&[
                Kind::Denied,
                Kind::ConfirmationRequired,
                Kind::MeasurementMismatch,
            ])
            .fails(&[
                Kind::LaunchUsed,
                Kind::LaunchExpired,
                Kind::TooManyRequests,
                Kind::Unavailable,
            ]),
        ("POST", "/vm/{uuid}") => t
            .send::<RegisterBody, host::RegisterReply>("Registers a workload with its secrets")
            .answers(201, "It was not there before", t.of::<host::RegisterReply>())
            .fails(&[Kind::Invalid, Kind::Conflict])
            .fails(&BY_TWO),
        ("PUT", "/vm/{uuid}") => t
            .send::<RegisterBody, host::RegisterReply>("Registers or replaces a workload with its secrets")
            .answers(201, "It was not there before", t.of::<host::RegisterReply>())
            .fails(&[Kind::Invalid, Kind::Conflict])
            .fails(&BY_TWO),
        _ => return None,
    })
}

/// The head of what GET answers.
fn head(summary: &'static str) -> Operation {
    Operation::new(summary).answers_with(200, "As with GET, without the body", None)
}

fn of_objects(t: &mut Types, at: (&str, &str)) -> Option<Operation> {
    Some(match at {
        ("POST", "/v1/apply") => t
            .send::<ApplyBody, Applied>("Registers and removes objects, all or none")
            .fails(&[Kind::Invalid, Kind::Conflict, Kind::NotFound])
            .fails(&BY_TWO),
        ("GET", "/v1/objects") => {
            t.get::<ObjectList>("Shows every object as a manifest that registers it again")
        }
        ("GET", "/v1/secrets") => t.list::<Page<SecretInfo>>("Lists secrets, never their values"),
        ("GET", "/v1/secrets/{name:.+}") => t.get::<SecretInfo>("Shows a secret, never its value").tagged(),
        ("PUT", "/v1/secrets/{name:.+}") => t.put::<SecretObject>("Registers or replaces a secret"),
        ("DELETE", "/v1/secrets/{name:.+}") => remove("Removes a secret that nothing refers to"),
        ("GET", "/v1/secret-versions/{name:.+}") => {
            t.list::<SecretVersionList>("Lists the versions of a secret, newest first, never their values")
        }
        ("POST", "/v1/secret-versions/{name:.+}") => t
            .send::<SecretRollback, Applied>("Makes the value of an earlier version current again")
            .fails(&[Kind::Invalid, Kind::Conflict])
            .fails(&BY_TWO),
        ("DELETE", "/v1/secret-versions/{name:.+}") => {
            Operation::new("Destroys the value of an earlier version for good")
                .answers_with(204, "It is gone", None)
                .query(t.parameters::<secret_versions::PurgeParameters>())
                .fails(&[Kind::Invalid, Kind::Conflict])
                .fails(&BY_TWO)
        }
        ("GET", "/v1/keysets") => t.list::<Page<KeySet>>("Lists key sets"),
        ("GET", "/v1/keysets/{name:.+}") => t.get::<KeySet>("Shows a key set").tagged(),
        ("PUT", "/v1/keysets/{name:.+}") => t.put::<KeySetObject>("Registers or replaces a key set"),
        ("DELETE", "/v1/keysets/{name:.+}") => remove("Removes a key set"),
        ("GET", "/v1/firmware") => t.list::<Page<FirmwareInfo>>("Lists firmware"),
        ("GET", "/v1/firmware/{name:.+}") => t
            .get::<FirmwareInfo>("Shows what is known of a firmware")
            .tagged(),
        ("PUT", "/v1/firmware/{name:.+}") => t.put::<FirmwareObject>("Registers or replaces a firmware"),
        ("DELETE", "/v1/firmware/{name:.+}") => remove("Removes a firmware that no image names"),
        ("GET", "/v1/workloads") => t.list::<Page<RegisteredWorkload>>("Lists workloads"),
        ("GET", "/v1/workloads/{uuid}") => t
            .get::<RegisteredWorkload>("Shows a workload with the launch digests that it accepts")
            .tagged(),
        ("DELETE", "/v1/workloads/{uuid}") => remove("Removes a workload"),
        _ => return None,
    })
}

fn of_policies(t: &mut Types, at: (&str, &str)) -> Option<Operation> {
    let archive = Some(("application/gzip", json!({"type": "string", "format": "binary"})));
    Some(match at {
        ("GET", "/v1/bundles") => t.list::<BundleList>("Lists bundles that were ever active, newest first"),
        ("POST", "/v1/bundles") => t
            .send::<PushBody, PushReply>("Makes a bundle the active one")
            .answers(201, "A revision was made", t.of::<PushReply>())
            .fails(&[Kind::Invalid])
            .fails(&BY_TWO),
        ("GET", "/v1/bundles/active") => t
            .get::<bundles::BundleView>("Shows the active bundle")
            .tagged()
            .fails(&[Kind::NotFound]),
        ("PUT", "/v1/bundles/active") => t.put::<PolicyBundleObject>("Makes a bundle the active one"),
        ("GET", "/v1/bundles/{digest}") => t.get::<bundles::BundleView>("Shows a bundle").tagged(),
        ("GET", "/v1/bundles/{digest}/archive") => {
            Operation::new("The bundle as a file, as OPA has it").answers_with(200, "A .tar.gz", archive)
        }
        ("GET", "/v1/revisions") => {
            let parameters = t.parameters::<bundles::RevisionParameters>();
            t.get::<RevisionList>("Lists revisions of the policies, newest first")
                .query(parameters)
        }
        ("POST", "/v1/revisions") => t
            .send::<RollbackBody, PushReply>("Goes back to the bundle of an earlier revision")
            .answers(201, "A revision was made", t.of::<PushReply>())
            .fails(&[Kind::Invalid, Kind::NotFound])
            .fails(&BY_TWO),
        ("GET", "/v1/revisions/{number}") => t.get::<Revision>("Shows a revision").tagged(),
        ("GET", "/v1/revisions/{number}/archive") => {
            Operation::new("The revision's bundle as a file").answers_with(200, "A .tar.gz", archive)
        }
        ("POST", "/v1/policies/evaluate") => t
            .send::<Evaluation, DryRun>("Asks a policy about an input, and decides over nothing")
            .only_asks()
            .fails(&[Kind::NotFound]),
        ("GET", "/v1/signing-keys") => t.list::<SigningKeyList>("Lists the keys that sign bundles"),
        ("GET", "/v1/signing-keys/{name:.+}") => t.get::<SigningKey>("Shows a signing key").tagged(),
        ("PUT", "/v1/signing-keys/{name:.+}") => t
            .put::<SigningKeyBody>("Registers a key that signs bundles")
            .fails(&[Kind::Conflict]),
        ("DELETE", "/v1/signing-keys/{name:.+}") => remove("Removes a signing key")
            .query(t.parameters::<signing_keys::RemoveParameters>())
            .fails(&[Kind::Conflict]),
        _ => return None,
    })
}

fn of_people(t: &mut Types, at: (&str, &str)) -> Option<Operation> {
    let word = [Kind::WrongState];
    Some(match at {
        ("GET", "/v1/holds") => {
            let parameters = t.parameters::<holds::HoldParameters>();
            t.get::<HoldList>("Lists holds, newest first").query(parameters)
        }
        ("GET", "/v1/holds/{id}") => t.get::<Hold>("Shows a hold").tagged(),
        ("POST", "/v1/holds/{id}/confirm") => t
            .send::<ConfirmBody, Hold>("Lets releases be made beyond the limit")
            .fails(&word),
        ("POST", "/v1/holds/{id}/reject") => t
            .send::<ReasonBody, Hold>("Refuses a release beyond the limit")
            .fails(&word),
        ("POST", "/v1/holds/{id}/withdraw") => t
            .send::<ReasonBody, Hold>("Takes back what is left of a confirmation")
            .fails(&word),
        ("GET", "/v1/limits") => t.list::<LimitList>("Lists counts, with what was done about them"),
        ("POST", "/v1/limits/reset") => t
            .send::<ResetBody, ResetReply>("Lowers a count")
            .fails(&[Kind::WrongState, Kind::NotFound]),
        ("GET", "/v1/approvals") => t
            .get::<Approvals>("Shows how many people the owner asks for")
            .tagged(),
        ("PUT", "/v1/approvals") => t
            .send::<ApprovalsBody, ApprovalsReply>("Changes how many people the owner asks for")
            .conditional()
            .fails(&word),
        ("GET", "/v1/tokens") => {
            let parameters = t.parameters::<tokens::TokenParameters>();
            t.get::<TokenList>("Lists tokens, oldest first")
                .query(parameters)
                .fails(&[Kind::NotFound])
        }
        ("POST", "/v1/tokens") => Operation::new("Makes a token, whose text is shown this once")
            .body(t.of::<TokenBody>())
            .answers(201, "It is made", t.of::<TokenReply>())
            .fails(&[Kind::NotFound, Kind::Conflict]),
        ("DELETE", "/v1/tokens/{id}") => Operation::new("Revokes a token")
            .answers_with(204, "It is refused from now on", None)
            .fails(&[Kind::Conflict]),
        ("GET", "/v1/owners") => t.list::<OwnerList>("Lists owners"),
        ("POST", "/v1/owners") => Operation::new("Makes an owner, and its first token")
            .body(t.of::<OwnerBody>())
            .answers(201, "It is made", t.of::<OwnerReply>())
            .fails(&[Kind::Conflict]),
        _ => return None,
    })
}

fn of_incidents(t: &mut Types, at: (&str, &str)) -> Option<Operation> {
    Some(match at {
        ("GET", "/v1/freezes") => {
            let parameters = t.parameters::<freezes::FreezeParameters>();
            t.get::<FreezeList>("Lists freezes, newest first")
                .query(parameters)
        }
        ("POST", "/v1/freezes") => t
            .send::<FreezeBody, FreezeReply>("Stops releases at once")
            .answers(201, "It was not frozen before", t.of::<FreezeReply>())
            .fails(&[Kind::NotFound]),
        ("GET", "/v1/freezes/{id}") => t.get::<Freeze>("Shows a freeze").tagged(),
        ("POST", "/v1/freezes/{id}/lift") => t
            .send::<ReasonBody, LiftReply>("Lets releases go on that were frozen")
            .fails(&[Kind::WrongState]),
        ("GET", "/v1/platforms") => t.list::<PlatformsReply>("Lists platforms on which guests were measured"),
        ("PUT", "/v1/platforms/accepted") => t
            .send::<AcceptedBody, AcceptedReply>("Says which platforms get releases")
            .fails(&[Kind::WrongState]),
        ("GET", "/v1/platforms/{cek}") => t.get::<Platform>("Shows a platform").tagged(),
        ("POST", "/v1/platforms/{cek}/enrol") => {
            t.send::<ReasonBody, PlatformReply>("Lets a platform get releases where only enrolled ones do")
        }
        ("POST", "/v1/platforms/{cek}/refuse") => {
            t.send::<ReasonBody, PlatformReply>("Lets a platform get no releases and begin no launches")
        }
        ("GET", "/v1/trust") => t.get::<Trust>("Shows which platforms are trusted").tagged(),
        ("PUT", "/v1/trust") => t.put::<Trust>("Says which platforms are trusted"),
        ("GET", "/v1/impact") => {
            let parameters = t.parameters::<impact::ImpactParameters>();
            t.get::<ImpactReply>("Lists launches that something which went wrong has touched, newest first")
                .query(parameters)
                .fails(&[Kind::NotFound])
        }
        _ => return None,
    })
}

fn of_records(t: &mut Types, at: (&str, &str)) -> Option<Operation> {
    Some(match at {
        ("GET", "/v1/decisions") => {
            let parameters = t.parameters::<owner::DecisionParameters>();
            t.get::<DecisionList>("Lists decisions, newest first")
                .query(parameters)
        }
        ("GET", "/v1/decisions/{id}") => t.get::<Decision>("Shows a decision").tagged(),
        ("GET", "/v1/decisions/{id}/explanation") => {
            t.get::<DecisionExplanation>("Explains why a decision was taken")
        }
        ("GET", "/v1/audit/entries") => {
            let parameters = t.parameters::<audit::EntryParameters>();
            t.get::<EntryList>("Lists the records of the audit log, in its order")
                .query(parameters)
        }
        ("GET", "/v1/audit/checkpoint") => t
            .get::<SignedCheckpoint>("Shows the newest checkpoint of the audit log")
            .fails(&[Kind::NotFound]),
        ("GET", "/v1/audit/checkpoints") => {
            let parameters = t.parameters::<audit::CheckpointParameters>();
            t.get::<CheckpointList>("Lists checkpoints, smallest first")
                .query(parameters)
        }
        ("GET", "/v1/audit/consistency") => {
            let parameters = t.parameters::<audit::ConsistencyParameters>();
            t.get::<ConsistencyReply>("Proves that one tree is the beginning of another")
                .query(parameters)
        }
        ("GET", "/v1/audit/proof/{id}") => t.get::<ProofReply>("Proves that a record is in the audit log"),
        _ => return None,
    })
}

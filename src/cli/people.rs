//! Owners and tokens that manifests say: acts of their own beside the transaction of an owner's objects.
//!
//! An owner is made by an administrator, a token by one or by an owner, and each returns a text that is shown once.
//! So they are looked at first, when nothing is changed yet, and made last.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde_json::{Value, json};

use super::client::{Client, Connection};
use super::init::Undo;
use super::token;
use crate::domain::object::{Action, Change};
use crate::domain::token::TokenEntry;
use crate::domain::{Clock as _, Name, Role, SystemClock};
use crate::http::{
    ApprovalsBody, ApprovalsReply, ObjectList, OwnerBody, OwnerEntry, OwnerReply, TokenBody, TokenReply,
};
use crate::manifest::{Manifests, OwnerManifest, TokenManifest};
use crate::policy::{Diagnostic, Severity};

/// What is to be done about owners and tokens.
pub(super) struct Plan {
    acts: Vec<Act>,
    /// What is to be told besides.
    pub(super) warnings: Vec<String>,
}

struct Act {
    change: Change,
    what: What,
}

enum What {
    Nothing,
    MakeOwner(usize),
    Approvals(u8),
    MakeToken(usize),
}

/// Who calls.
enum Caller {
    /// An administrator; there are these owners.
    Admin(Vec<Name>),
    /// One of an owner.
    Of(Name),
}

impl Plan {
    /// Looks at what there is.
    pub(super) fn new(client: &Client, manifests: &Manifests) -> anyhow::Result<Self> {
        let mut plan = Self {
            acts: Vec::new(),
            warnings: Vec::new(),
        };
        if manifests.owners.is_empty() && manifests.tokens.is_empty() {
            return Ok(plan);
        }
        let caller = match client.list_allowed::<OwnerEntry>("/v1/owners")? {
            Some(list) => Caller::Admin(list.into_iter().map(|owner| owner.name).collect()),
            None => Caller::Of(client.get::<ObjectList>("/v1/objects")?.owner),
        };
        for (number, owner) in manifests.owners.iter().enumerate() {
            plan.owner(client, manifests, &caller, (number, owner))?;
        }
        if !manifests.tokens.is_empty() {
            let mut known = client.list::<TokenEntry>("/v1/tokens")?;
            let now = SystemClock.now();
            known.retain(|entry| token::is_valid(entry, now));
            for (number, token) in manifests.tokens.iter().enumerate() {
                plan.token(manifests, &caller, &known, (number, token))?;
            }
        }
        Ok(plan)
    }

    /// What would become of each.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.acts.iter().map(|act| &act.change)
    }

    fn owner(
        &mut self,
        client: &Client,
        manifests: &Manifests,
        caller: &Caller,
        (number, owner): (usize, &OwnerManifest),
    ) -> anyhow::Result<()> {
        let label = owner.label();
        let wrong = |member, message: &str| refused(manifests, &label, member, message);
        if owner
            .approvals_required
            .is_some_and(|people| !(1..=2).contains(&people))
        {
            return Err(wrong(
                Some("approvals_required"),
                "`approvals_required` is 1 or 2",
            ));
        }
        let mut change = change("Owner", &owner.name, Action::Unchanged);
        let what = match caller {
            Caller::Admin(known) if !known.contains(&owner.name) => {
                let second = |token: &TokenManifest| {
                    token.owner.as_ref() == Some(&owner.name)
                        && matches!(token.role, Role::Owner | Role::Approver)
                };
                if owner.approvals_required == Some(2) && !manifests.tokens.iter().any(second) {
                    let message = "asks for two people, and one token would be made: say a Token of role owner or \
                                   approver for this owner too";
                    return Err(wrong(Some("approvals_required"), message));
                }
                change.action = Action::Created;
                change.detail = Some(to_be_written(manifests, &label, owner.token_file.as_deref())?);
                change.after = Some(document(
                    "Owner",
                    &owner.name,
                    [("approvals_required", json!(owner.approvals_required))],
                ));
                What::MakeOwner(number)
            }
            Caller::Admin(_) => {
                if owner.approvals_required.is_some() {
                    self.warnings.push(format!(
                        "{label}: how many people it asks for is its own to say: apply `approvals_required` with its token"
                    ));
                }
                What::Nothing
            }
            Caller::Of(own) if *own != owner.name => {
                let message =
                    format!("the token is one of owner {own}; an administrator's makes other owners");
                return Err(wrong(Some("name"), &message));
            }
            Caller::Of(_) => match owner.approvals_required {
                None => What::Nothing,
                Some(people) => {
                    let now: crate::domain::approval::Approvals = client.get("/v1/approvals")?;
                    if now.approvals_required == people {
                        What::Nothing
                    } else {
                        let shown = |people: u8| {
                            document("Owner", &owner.name, [("approvals_required", json!(people))])
                        };
                        change.action = Action::Updated;
                        change.members = vec!["approvals_required".to_owned()];
                        change.before = Some(shown(now.approvals_required));
                        change.after = Some(shown(people));
                        What::Approvals(people)
                    }
                }
            },
        };
        self.acts.push(Act { change, what });
        Ok(())
    }

    fn token(
        &mut self,
        manifests: &Manifests,
        caller: &Caller,
        known: &[TokenEntry],
        (number, token): (usize, &TokenManifest),
    ) -> anyhow::Result<()> {
        let label = token.label();
        let owner = match (caller, &token.owner) {
            (Caller::Of(own), Some(named)) if own != named => {
                let message = format!("the token is one of owner {own}, and makes none of another");
                return Err(refused(manifests, &label, Some("owner"), &message));
            }
            (Caller::Of(own), _) => Some(own),
            (Caller::Admin(_), named) => named.as_ref(),
        };
        let mut called = known
            .iter()
            .filter(|entry| entry.name == token.name && entry.owner.as_ref() == owner);
        let same = called
            .clone()
            .find(|entry| entry.role == token.role && entry.expires == token.expires);
        let mut change = change("Token", &token.name, Action::Unchanged);
        let what = if let Some(same) = same {
            change.detail = Some(format!("id {}", same.id));
            What::Nothing
        } else if let Some(other) = called.next() {
            let (member, has) = if other.role == token.role {
                let expires = other.expires;
                (
                    "expires",
                    expires.map_or("no end".to_owned(), |time| format!("the end {time}")),
                )
            } else {
                ("role", format!("the role {}", other.role))
            };
            let message = format!(
                "there is a token of this name with {has}, which a token keeps: `keyward token revoke {}` first",
                other.id
            );
            return Err(refused(manifests, &label, Some(member), &message));
        } else {
            change.action = Action::Created;
            change.detail = Some(to_be_written(manifests, &label, token.token_file.as_deref())?);
            let (role, owner, expires) = (json!(token.role), json!(owner), json!(token.expires));
            let members = [("role", role), ("owner", owner), ("expires", expires)];
            change.after = Some(document("Token", &token.name, members));
            What::MakeToken(number)
        };
        self.acts.push(Act { change, what });
        Ok(())
    }

    /// Does it, one by one. What was done before something fails stays: applied again, it is found unchanged.
    pub(super) fn carry_out(
        self,
        connection: &Connection,
        client: &Client,
        manifests: &Manifests,
    ) -> anyhow::Result<(Vec<Change>, Vec<String>)> {
        let (mut changes, mut warnings) = (Vec::new(), self.warnings);
        let mut asking = Vec::new();
        for Act { mut change, what } in self.acts {
            let label = format!("{} {}", change.kind, change.name);
            let done: anyhow::Result<()> = match what {
                What::Nothing => Ok(()),
                What::MakeOwner(number) => match manifests.owners.get(number) {
                    Some(owner) => make_owner(client, owner).map(|reply| {
                        warnings.extend(reply.warnings);
                        let people = owner.approvals_required.filter(|people| *people > 1);
                        asking.extend(people.map(|people| (label.clone(), reply.token, people)));
                    }),
                    None => Ok(()),
                },
                What::Approvals(people) => ask_for(client, people).map(|proposed| {
                    if proposed {
                        change.action = Action::Unchanged;
                        change.detail = Some("proposed: another person must say so too".to_owned());
                    }
                }),
                What::MakeToken(number) => manifests
                    .tokens
                    .get(number)
                    .map_or(Ok(()), |token| make_token(client, token)),
            };
            done.with_context(|| format!("{label}, after what comes before it was done"))?;
            (change.before, change.after) = (None, None);
            change.members.clear();
            changes.push(change);
        }
        // Once the second person's token is there, and in the new owner's name.
        for (label, token, people) in asking {
            let done = connection
                .client_of(&token)
                .and_then(|client| ask_for(&client, people));
            let done = done.map(|_| ());
            done.with_context(|| format!("{label} was made, and its `approvals_required` is 1"))?;
        }
        Ok((changes, warnings))
    }
}

fn make_owner(client: &Client, owner: &OwnerManifest) -> anyhow::Result<OwnerReply> {
    let body = OwnerBody {
        name: owner.name.clone(),
    };
    written(owner.token_file.as_deref(), || {
        let reply: OwnerReply = client.post("/v1/owners", &body)?;
        Ok((reply.token.clone(), reply))
    })
}

fn make_token(client: &Client, token: &TokenManifest) -> anyhow::Result<()> {
    let body = TokenBody {
        name: token.name.clone(),
        role: token.role,
        owner: token.owner.clone(),
        expires: token.expires,
    };
    written(token.token_file.as_deref(), || {
        let reply: TokenReply = client.post("/v1/tokens", &body)?;
        Ok((reply.token, ()))
    })
}

/// Asks for so many people from now on; whether that was only proposed.
fn ask_for(client: &Client, people: u8) -> anyhow::Result<bool> {
    let body = ApprovalsBody {
        approvals_required: people,
        // One person never registers by two; who asks for two says besides whether they register so.
        policies: false,
        reason: "a manifest says so".to_owned(),
    };
    let reply: ApprovalsReply = client.put("/v1/approvals", &body)?;
    Ok(reply.proposal.is_some())
}

/// Makes the file first, as a token that nobody could keep is of no use; it goes again if there is no token.
fn written<T>(
    file: Option<&Path>,
    make: impl FnOnce() -> anyhow::Result<(zeroize::Zeroizing<String>, T)>,
) -> anyhow::Result<T> {
    let mut made = Undo::default();
    let path = file.context("it needs a `token_file`")?;
    let named = || format!("token file {}", path.display());
    made.private_file(path, "").with_context(named)?;
    let (text, reply) = make()?;
    token::filled(path, &text).with_context(|| format!("{}: the token is lost, revoke it", named()))?;
    made.keep();
    Ok(reply)
}

/// Says where the token will be, if it can be there.
fn to_be_written(manifests: &Manifests, label: &str, file: Option<&Path>) -> anyhow::Result<String> {
    let Some(path) = file else {
        let message = "needs a `token_file`, a new file for the token, which is shown once";
        return Err(refused(manifests, label, None, message));
    };
    if path.exists() {
        let message = format!(
            "{} is there already and is not overwritten; move it away, or name another",
            path.display()
        );
        return Err(refused(manifests, label, Some("token_file"), &message));
    }
    Ok(format!("token in {}", path.display()))
}

/// A manifest with these members, but those that are null.
pub(super) fn document<const N: usize>(kind: &str, name: &Name, members: [(&str, Value); N]) -> Value {
    let first = [("kind", json!(kind)), ("name", json!(name))];
    let said = members.into_iter().filter(|(_, value)| !value.is_null());
    let all = first.into_iter().chain(said);
    Value::Object(all.map(|(member, value)| (member.to_owned(), value)).collect())
}

fn change(kind: &str, name: &Name, action: Action) -> Change {
    Change {
        kind: kind.to_owned(),
        name: name.to_string(),
        action,
        detail: None,
        members: Vec::new(),
        before: None,
        after: None,
    }
}

fn refused(manifests: &Manifests, label: &str, member: Option<&str>, message: &str) -> anyhow::Error {
    let complaint = Diagnostic {
        severity: Severity::Error,
        file: String::new(),
        line: 0,
        column: 0,
        message: message.to_owned(),
        hint: None,
        source_line: None,
    };
    match manifests.shown(label, member, &complaint) {
        Some(shown) => anyhow!("{shown}"),
        None => anyhow!("{label}: {message}"),
    }
}

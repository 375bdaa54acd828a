//! What is asked for, as the workload has it: which secrets each entry is made of, and its bytes once these are opened.
//!
//! Names are looked up only for a guest that was measured. What is wrong with them is a sentence for the owner.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::host::Asked;
use super::report::{Facts, ReportError};
use super::table::Unpacked;
use crate::domain::Name;
use crate::domain::connection::{ConnectionBounds, Form, Wanted};
use crate::domain::object::SecretKind;
use crate::domain::state::{SecretInfo, WorkloadContext};

/// What a request asks for.
pub(super) struct Order<'a> {
    asked: &'a Asked,
    /// The secrets, each once.
    pub(super) names: Vec<Name>,
    /// Why it can't be met, if that is known already.
    wrong: Option<String>,
}

/// An entry and the secrets that it is made of.
pub(super) struct Piece {
    pub(super) wanted: Wanted,
    pub(super) secrets: Vec<Name>,
}

/// Values of secrets, opened.
pub(super) type Values = Vec<(Name, Zeroizing<Vec<u8>>)>;

/// A connection that is made for the guest, in clear.
pub(super) struct FreshConnection {
    /// What the client calls itself; it is not stored.
    pub(super) client: Uuid,
    pub(super) key: Zeroizing<[u8; 32]>,
}

impl<'a> Order<'a> {
    /// Looks up what is asked for.
    pub(super) fn of(context: &WorkloadContext, asked: &'a Asked) -> Self {
        let mut order = Self {
            asked,
            names: Vec::new(),
            wrong: None,
        };
        match asked {
            Asked::All => order.names.clone_from(&context.registered.workload.secrets),
            Asked::Names(names) => order.names.clone_from(names),
            Asked::Entries { wanted, connection } => {
                if let Err(why) = order.look_up(context, wanted, *connection) {
                    order.wrong = Some(why);
                }
            }
        }
        order
    }

    fn look_up(
        &mut self,
        context: &WorkloadContext,
        wanted: &[Wanted],
        connection: Option<ConnectionBounds>,
    ) -> Result<(), String> {
        for (number, one) in wanted.iter().enumerate() {
            let before = wanted.get(..number).unwrap_or_default();
            if before.iter().any(|other| other.guid == one.guid) {
                return Err(format!("two entries were asked for at the GUID {}", one.guid));
            }
            if one.form == Form::Connection {
                if connection.is_none() {
                    return Err("a connection was asked for over a connection".to_owned());
                }
                if before.iter().any(|other| other.form == Form::Connection) {
                    return Err("two connections were asked for".to_owned());
                }
            }
            for name in made_of(context, &one.form)? {
                if !self.names.contains(&name) {
                    self.names.push(name);
                }
            }
        }
        Ok(())
    }

    /// The secrets by these names. What the workload does not have reads the same as what nobody has.
    pub(super) fn secrets<'c>(&self, context: &'c WorkloadContext) -> Result<Vec<&'c SecretInfo>, String> {
        if let Some(why) = &self.wrong {
            return Err(why.clone());
        }
        if self.names.is_empty() && self.connection().is_none() {
            return Err("no secret was asked for".to_owned());
        }
        let mut secrets: Vec<&SecretInfo> = Vec::with_capacity(self.names.len());
        for name in &self.names {
            if secrets.iter().any(|secret| secret.name == *name) {
                return Err(format!("the secret {name} was asked for twice"));
            }
            let listed = context.registered.workload.secrets.contains(name);
            let secret = context.secrets.iter().find(|secret| secret.name == *name);
            match secret.filter(|_| listed) {
                Some(secret) => secrets.push(secret),
                None => return Err(format!("the workload has no secret {name}")),
            }
        }
        for piece in self.pieces(context, &secrets)? {
            for name in &piece.secrets {
                let kind = secrets.iter().find(|secret| secret.name == *name);
                let is_key = kind.is_some_and(|secret| secret.kind == SecretKind::ReportKey);
                let wants_report = matches!(piece.wanted.form, Form::Report { .. });
                if is_key && !wants_report {
                    return Err(format!("the report key {name} was asked for as a secret"));
                }
                if wants_report && !is_key {
                    return Err(format!(
                        "a report was asked for with the secret {name}, which is no report-key"
                    ));
                }
            }
        }
        Ok(secrets)
    }

    /// The entries, and what each is made of.
    pub(super) fn pieces(
        &self,
        context: &WorkloadContext,
        secrets: &[&SecretInfo],
    ) -> Result<Vec<Piece>, String> {
        let Asked::Entries { wanted, .. } = self.asked else {
            return Ok(secrets.iter().map(|secret| whole(secret)).collect());
        };
        let pieces = wanted.iter().map(|wanted| {
            Ok(Piece {
                secrets: made_of(context, &wanted.form)?,
                wanted: wanted.clone(),
            })
        });
        pieces.collect()
    }

    /// What a connection is bounded by, if one is asked for.
    pub(super) fn connection(&self) -> Option<ConnectionBounds> {
        let Asked::Entries { wanted, connection } = self.asked else {
            return None;
        };
        let asked = wanted.iter().any(|one| one.form == Form::Connection);
        connection.filter(|_| asked)
    }
}

/// A secret at its own GUID: its bytes, or the report that its key signs.
fn whole(secret: &SecretInfo) -> Piece {
    let id = secret.name.to_string();
    let form = match secret.kind {
        SecretKind::Opaque | SecretKind::LuksPassphrase => Form::Bytes { id },
        SecretKind::ReportKey => Form::Report { id },
    };
    Piece {
        wanted: Wanted {
            guid: secret.guid,
            form,
        },
        secrets: vec![secret.name.clone()],
    }
}

/// The secrets that an entry is made of.
fn made_of(context: &WorkloadContext, form: &Form) -> Result<Vec<Name>, String> {
    let named = |id: &str| id.parse::<Name>().ok();
    match form {
        Form::Connection => Ok(Vec::new()),
        Form::Bytes { id } | Form::Json { id } | Form::Report { id } => {
            let name = named(id).ok_or_else(|| format!("no secret can be named {:?}", shortened(id)))?;
            Ok(vec![name])
        }
        Form::Bundle { id } => {
            let mut sets = context.keysets.iter();
            let set = sets.find(|set| set.name.as_str() == id);
            let set = set.ok_or_else(|| {
                let id = shortened(id);
                format!("there is no key set {id:?} with a secret of the workload")
            })?;
            Ok(set.secrets.clone())
        }
    }
}

/// Of what a host sent, as much as a record is to hold.
fn shortened(id: &str) -> String {
    id.chars().take(Name::MAX).collect()
}

/// The bytes of an entry, from the values of the secrets that it is made of, in their order.
pub(super) fn fill(
    form: &Form,
    values: &[(Name, &[u8])],
    facts: &Facts,
    connection: Option<&FreshConnection>,
) -> Result<Zeroizing<Vec<u8>>, Unpacked> {
    let one = || {
        let lost = || Unpacked::NotNow("a secret that was opened is not there".to_owned());
        values.first().ok_or_else(lost)
    };
    match form {
        Form::Bytes { .. } => Ok(Zeroizing::new(one()?.1.to_vec())),
        Form::Json { .. } => {
            let (name, value) = one()?;
            Ok(object(&[
                ("id", Zeroizing::new(name.to_string())),
                ("payload", encoded(value)),
            ]))
        }
        Form::Bundle { .. } => {
            let members: Vec<_> = values
                .iter()
                .map(|(name, value)| (name.as_str(), encoded(value)))
                .collect();
            Ok(object(&members))
        }
        Form::Report { .. } => {
            let signed = facts.signed(one()?.1).map_err(|error| match error {
                ReportError::Key => Unpacked::Never(error.to_string()),
                ReportError::Library(_) | ReportError::Json(_) => Unpacked::NotNow(error.to_string()),
            })?;
            Ok(Zeroizing::new(signed))
        }
        Form::Connection => {
            let lost = || Unpacked::NotNow("no connection was made".to_owned());
            let connection = connection.ok_or_else(lost)?;
            Ok(object(&[
                ("client_id", Zeroizing::new(connection.client.to_string())),
                ("key", encoded(connection.key.as_slice())),
            ]))
        }
    }
}

fn encoded(value: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(value))
}

/// A JSON object of texts that need no escapes: names, UUIDs and base64. Written in one piece, as growing would leave
/// copies of secrets behind in freed memory.
fn object(members: &[(&str, Zeroizing<String>)]) -> Zeroizing<Vec<u8>> {
    let length: usize = members
        .iter()
        .map(|(name, value)| name.len() + value.len() + 6)
        .sum();
    let mut out = Zeroizing::new(Vec::with_capacity(length + 2));
    out.push(b'{');
    for (number, (name, value)) in members.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        for part in ["\"", name, "\":\"", value.as_str(), "\""] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.push(b'}');
    out
}

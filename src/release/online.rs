//! What a guest asks for later, over the connection that it was given: decided on the facts of its launch.
//!
//! A request is taken from the connection's number before it is looked at, and durably, so that no crash gives more. Each
//! GUID and id counts once; asked again it is answered from the versions that were released first, whatever the form.

use openssl::symm::{Cipher, encrypt_aead};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::decide::{Case, Filled, Made, Way};
use super::entries::{self, Values};
use super::facts::{Attested, Source};
use super::floor;
use super::host::{Asked, Claimed, Host};
use super::meter::Reason;
use super::refusals::Refused;
use super::report;
use super::table::Unpacked;
use super::validate::ordered;
use super::{Refusal, Service};
use crate::domain::Time;
use crate::domain::connection::{Connection, FirstAnswer, Form, Wanted};
use crate::domain::decision::SecretVersion;
use crate::domain::freeze::Subject;
use crate::domain::state::WorkloadContext;
use crate::policy::Phase;
use crate::sealing::{Place, SealError};
use crate::sev::measurement::{AttestedLaunch, Build};
use crate::store::Link;

/// How often a decision is taken again because what it was taken on has changed.
const ATTEMPTS: usize = 16;

/// An answer for the one guest that has the connection's key.
pub struct OnlineAnswer {
    /// The nonce, 12 bytes.
    pub iv: [u8; 12],
    /// AES-256-GCM ciphertext and its tag, without additional data.
    pub payload: Vec<u8>,
}

/// One entry, under the name that the client gave it.
pub struct Named {
    /// The client's name of it: the GUID as it was written.
    pub name: String,
    /// What is asked for.
    pub wanted: Wanted,
}

/// Values under the client's names.
type Entries = Vec<(Uuid, Zeroizing<Vec<u8>>)>;

struct Online<'a> {
    connection: &'a Connection,
    /// What was not answered before.
    fresh: &'a [Wanted],
}

impl Service {
    /// Answers over a connection from which a request was taken.
    pub(super) fn answer_online(
        &self,
        connection: &Connection,
        host: &Host,
        asked: &[Named],
    ) -> Result<OnlineAnswer, Refusal> {
        let key = self.connection_key(connection)?;
        let wanted: Vec<Wanted> = asked.iter().map(|named| named.wanted.clone()).collect();
        for _ in 0..ATTEMPTS {
            if let Some(entries) = self.online_entries(connection, host, &wanted)? {
                return self.encrypted(&key, asked, &entries);
            }
        }
        Err(Refusal::unavailable("the owner's objects change too quickly"))
    }

    /// The entries; none when what was decided on changed meanwhile.
    fn online_entries(
        &self,
        connection: &Connection,
        host: &Host,
        wanted: &[Wanted],
    ) -> Result<Option<Entries>, Refusal> {
        let context = self.store().workload(connection.workload)?;
        let context = context.filter(|context| context.owner == connection.owner);
        let context = context.ok_or(Refusal::NotFound)?;
        let attested = attested(&context, connection);
        let claimed = Claimed {
            description: connection.guest.description.clone(),
            ..Claimed::default()
        };
        let known = self.store().first_answers(connection.id, wanted)?;
        let fresh: Vec<Wanted> = wanted
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(wanted, _)| wanted.clone())
            .collect();
        let now = self.parts.clock.now();
        let known: Vec<FirstAnswer> = known.into_iter().flatten().collect();
        let mut entries = self.again(&context, connection, &attested, host, &known, now)?;
        // An empty request is one that asks for nothing, and is denied as such.
        if !fresh.is_empty() || wanted.is_empty() {
            let case = Case {
                launch: connection.launch,
                facts: &connection.guest.launch,
                context: &context,
                attested: &attested,
                claimed: &claimed,
                host,
                asked: &Asked::Entries {
                    wanted: fresh.clone(),
                    connection: None,
                },
                now,
            };
            let way = Online {
                connection,
                fresh: &fresh,
            };
            match self.decide(&case, &way) {
                Ok(Some(decided)) => entries.extend(decided),
                // The same request was quicker by a moment: its answer is given again.
                Ok(None) | Err(Refusal::LaunchUsed) => return Ok(None),
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Some(entries))
    }

    /// What was answered before, from the versions of then: not counted and not asked about again, but not sent where a
    /// release like it would be stopped now, or a value is gone.
    fn again(
        &self,
        context: &WorkloadContext,
        connection: &Connection,
        attested: &Attested<'_>,
        host: &Host,
        known: &[FirstAnswer],
        now: Time,
    ) -> Result<Entries, Refusal> {
        let guest = &connection.guest;
        let mut entries = Vec::with_capacity(known.len());
        let facts = report::Facts::new(
            connection.launch,
            connection.workload,
            &guest.launch,
            attested,
            guest.description.as_deref(),
        );
        let refuse = |why: String| -> Refusal {
            let noted = self.fresh_uuid().and_then(|id| {
                let refused = Refused {
                    id,
                    context,
                    host,
                    phase: Phase::Release,
                    class: Reason::Stopped,
                    reason: format!("an answer given before was not sent again: {why}"),
                    input: None,
                    policies: Vec::new(),
                };
                self.noted(refused, now)
            });
            noted.map_or_else(|refusal| refusal, |decision| Refusal::Denied { decision })
        };
        if !known.is_empty() {
            let platform = &guest.launch.platform;
            if !self.trusts(platform.root(), &context.owner)? {
                return Err(refuse("the platform's root is not trusted any more".to_owned()));
            }
            let workload = &context.registered.workload;
            let failed = floor::at_release(workload, &attested.launch, platform.product());
            if !failed.is_empty() {
                return Err(refuse(failed.join("; ")));
            }
        }
        for first in known {
            let names: Vec<_> = first.secrets.iter().map(|secret| secret.name.clone()).collect();
            let subject = Subject::of_guest(&context.owner, connection.workload, &guest.launch, &names);
            if let Some(stop) = self.store().stopped(&subject)? {
                return Err(refuse(stop.reason()));
            }
            let Some(values) = self.first_values(context, &first.secrets)? else {
                return Err(refuse("a value that it was made of was destroyed".to_owned()));
            };
            let of: Vec<_> = values
                .iter()
                .map(|(name, value)| (name.clone(), value.as_slice()))
                .collect();
            match entries::fill(&first.wanted.form, &of, &facts, None) {
                Ok(data) => entries.push((first.wanted.guid, data)),
                Err(Unpacked::Never(why)) => return Err(refuse(why)),
                Err(Unpacked::NotNow(why)) => {
                    log::error!("an entry could not be made: {why}");
                    return Err(Refusal::unavailable("an entry could not be made"));
                }
            }
        }
        Ok(entries)
    }

    /// Values of versions, read again where their key was retired between two reads.
    fn first_values(
        &self,
        context: &WorkloadContext,
        versions: &[SecretVersion],
    ) -> Result<Option<Values>, Refusal> {
        match self.values(&context.owner, versions)? {
            Some(values) => Ok(Some(values)),
            None => self.values(&context.owner, versions),
        }
    }

    fn connection_key(&self, connection: &Connection) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let open = |connection: &Connection| {
            let place = Place::ConnectionKey {
                owner: &connection.owner,
                connection: connection.id,
            };
            self.parts.sealer.open(place, &connection.sealed_key)
        };
        let opened = match open(connection) {
            // It was re-wrapped since it was read.
            Err(SealError::Retired(_)) => {
                let now = self.parts.clock.now();
                let again = self.store().connection(connection.id, now)?;
                open(&again.ok_or(Refusal::NotFound)?)
            }
            opened => opened,
        };
        Ok(opened?)
    }

    /// The entries as a map from the client's names to bytes, encrypted for whoever has the connection's key.
    fn encrypted(&self, key: &[u8], asked: &[Named], entries: &Entries) -> Result<OnlineAnswer, Refusal> {
        let failed = |why: &str| {
            log::error!("an answer over a connection could not be made: {why}");
            Refusal::unavailable("an answer could not be made")
        };
        let mut values = Vec::with_capacity(asked.len());
        for named in asked {
            let value = entries.iter().find(|(guid, _)| *guid == named.wanted.guid);
            let (_, value) = value.ok_or_else(|| failed("an entry is missing"))?;
            values.push((named.name.as_str(), value.as_slice()));
        }
        let plain = map(&values);
        let mut iv = [0; 12];
        self.parts.random.fill(&mut iv)?;
        let mut tag = [0; 16];
        let sealed = encrypt_aead(Cipher::aes_256_gcm(), key, Some(&iv), &[], &plain, &mut tag);
        let mut payload = sealed.map_err(|error| failed(&error.to_string()))?;
        payload.extend_from_slice(&tag);
        Ok(OnlineAnswer { iv, payload })
    }
}

/// A map of texts to bytes in bincode's first encoding: a count, then of each key and value its length and its bytes; all
/// numbers u64, little-endian.
fn map(entries: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    let length: usize = entries
        .iter()
        .map(|(key, value)| 16 + key.len() + value.len())
        .sum();
    let mut out = Zeroizing::new(Vec::with_capacity(8 + length));
    out.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        for part in [key.as_bytes(), value] {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    out
}

/// What was attested of the connection's guest, and what its digest means to the workload as it is now.
fn attested<'a>(context: &'a WorkloadContext, connection: &Connection) -> Attested<'a> {
    let guest = &connection.guest;
    let [api_major, api_minor, build_id] = guest.build;
    let build = Build {
        api_major,
        api_minor,
        build_id,
    };
    let best = ordered(context).find(|candidate| candidate.digest == guest.launch_digest);
    Attested {
        launch: AttestedLaunch::stored(
            build,
            guest.launch.sev_policy(),
            guest.launch_digest.0,
            guest.measure.0,
        ),
        source: best.map_or(Source::Hint, Source::Candidate),
    }
}

impl Way for Online<'_> {
    type Answer = Entries;

    fn over(&self) -> Option<Uuid> {
        Some(self.connection.id)
    }

    fn waits(&self, service: &Service) -> Result<Option<Time>, Refusal> {
        let now = service.parts.clock.now();
        Ok((now < self.connection.expires).then_some(now))
    }

    fn answered(&self, service: &Service, _: &Host) -> Result<bool, Refusal> {
        let known = service.store().first_answers(self.connection.id, self.fresh)?;
        Ok(known.iter().any(Option::is_some))
    }

    fn wrap(
        &self,
        _: &Service,
        _: &Case<'_>,
        filled: Filled,
        _: Uuid,
    ) -> Result<Result<Made<Entries>, Unpacked>, Refusal> {
        let Filled {
            pieces,
            entries,
            versions,
            ..
        } = filled;
        let answers = pieces.into_iter().map(|piece| {
            let of = piece.secrets.iter().filter_map(|name| {
                let version = versions.iter().find(|version| version.name == *name);
                version.cloned()
            });
            FirstAnswer {
                secrets: of.collect(),
                wanted: piece.wanted,
            }
        });
        Ok(Ok(Made {
            kept: None,
            link: Link::Over {
                connection: self.connection.id,
                answers: answers.collect(),
            },
            answer: entries
                .into_iter()
                .map(|entry| (entry.guid, entry.data))
                .collect(),
        }))
    }

    fn gone(&self, _: &Service) -> Refusal {
        Refusal::LaunchExpired
    }
}

/// Whether these can be asked for together over a connection: each GUID once, and no further connection.
#[must_use]
pub(super) fn is_askable(asked: &[Named]) -> bool {
    asked.iter().enumerate().all(|(number, named)| {
        let before = asked.get(..number).unwrap_or_default();
        named.wanted.form != Form::Connection
            && before.iter().all(|other| other.wanted.guid != named.wanted.guid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_written_as_bincode_wrote_it_first() {
        let expected = [
            &2_u64.to_le_bytes()[..],
            &1_u64.to_le_bytes(),
            b"a",
            &3_u64.to_le_bytes(),
            b"xyz",
            &2_u64.to_le_bytes(),
            b"bc",
            &0_u64.to_le_bytes(),
        ];
        assert_eq!(*map(&[("a", b"xyz"), ("bc", b"")]), expected.concat());
        assert_eq!(*map(&[]), 0_u64.to_le_bytes());
    }
}

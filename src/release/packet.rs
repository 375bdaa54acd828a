//! Secrets in a packet for the launch that was measured just now.

use uuid::Uuid;

use super::decide::{Case, Filled, Made, Way};
use super::entries::FreshConnection;
use super::host::{Host, ReleaseAnswer, ValidateRequest};
use super::meter::{Reason, Step};
use super::table::{Unpacked, table};
use super::validate::candidates;
use super::{Refusal, Service};
use crate::domain::connection::{Connection, ConnectionBounds, GuestFacts, id_of};
use crate::domain::launch::{Launch, LaunchState};
use crate::domain::state::WorkloadContext;
use crate::domain::{Hex, Time};
use crate::policy::Phase;
use crate::sealing::Place;
use crate::sev::{LaunchKeys, packet};
use crate::store::Link;

struct Packet<'a> {
    launch: &'a Launch,
    keys: &'a LaunchKeys,
    /// What the host named: the launch, or its workload.
    asked: Uuid,
    request: &'a ValidateRequest,
}

impl Service {
    /// One decision, from measuring to committing; none when what it was taken on changed meanwhile.
    pub(super) fn attempt(
        &self,
        launch: &Launch,
        context: &WorkloadContext,
        asked: Uuid,
        host: &Host,
        request: &ValidateRequest,
    ) -> Result<Option<ReleaseAnswer>, Refusal> {
        if context.owner != launch.owner {
            // The UUID is another owner's by now, who never admitted this platform.
            return Err(Refusal::NotFound);
        }
        let now = self.parts.clock.now();
        let Some((attested, keys)) = self.measured(launch, request, candidates(context, request))? else {
            self.store().charge_try(launch.id)?;
            let reason = "the measurement matches no launch digest of the workload".to_owned();
            self.note_refused(context, host, Phase::Release, Reason::Measurement, reason, now);
            return Err(Refusal::MeasurementMismatch);
        };
        let case = Case {
            launch: launch.id,
            facts: &launch.facts,
            context,
            attested: &attested,
            claimed: &request.claimed,
            host,
            asked: &request.secrets,
            now,
        };
        let way = Packet {
            launch,
            keys: &keys,
            asked,
            request,
        };
        self.decide(&case, &way)
    }

    /// An id and a key that nobody has.
    pub(super) fn fresh_connection(&self) -> Result<FreshConnection, Refusal> {
        let client = self.fresh_uuid()?;
        let mut key = zeroize::Zeroizing::new([0; 32]);
        self.parts.random.fill(key.as_mut_slice())?;
        Ok(FreshConnection { client, key })
    }

    /// A connection as it is stored, for this guest.
    fn connection_for(
        &self,
        case: &Case<'_>,
        fresh: &FreshConnection,
        bounds: ConnectionBounds,
        now: Time,
    ) -> Result<Connection, Refusal> {
        let owner = &case.context.owner;
        let id = id_of(fresh.client);
        let place = Place::ConnectionKey {
            owner,
            connection: id,
        };
        let proved = &case.attested.launch;
        let build = proved.build();
        Ok(Connection {
            id,
            owner: owner.clone(),
            workload: case.context.registered.workload.uuid,
            launch: case.launch,
            guest: GuestFacts {
                launch: case.facts.clone(),
                build: [build.api_major, build.api_minor, build.build_id],
                launch_digest: Hex(*proved.launch_digest()),
                measure: Hex(*proved.measure()),
                description: case.claimed.description.clone(),
            },
            sealed_key: self
                .parts
                .sealer
                .seal(place, fresh.key.as_slice(), self.parts.random.as_ref())?,
            created: now,
            expires: now.after(bounds.lifetime),
            requests_left: bounds.requests,
        })
    }
}

impl Way for Packet<'_> {
    type Answer = ReleaseAnswer;

    fn over(&self) -> Option<Uuid> {
        None
    }

    fn waits(&self, service: &Service) -> Result<Option<Time>, Refusal> {
        let state = service.store().launch(self.launch.id)?.map(|launch| launch.state);
        let now = service.parts.clock.now();
        Ok((state == Some(LaunchState::Pending) && now < self.launch.expires).then_some(now))
    }

    fn answered(&self, service: &Service, host: &Host) -> Result<bool, Refusal> {
        // The same request was quicker by a moment, and its answer is this one's too.
        let given = service.given_before(self.asked, host, self.request)?;
        Ok(given.is_some())
    }

    fn wrap(
        &self,
        service: &Service,
        case: &Case<'_>,
        filled: Filled,
        decision: Uuid,
    ) -> Result<Result<Made<ReleaseAnswer>, Unpacked>, Refusal> {
        let random = service.parts.random.as_ref();
        let sealed = table(&filled.entries, case.attested).and_then(|table| {
            let seal = || packet::seal(self.keys, &case.attested.launch, &table, random);
            service.timed(Step::Packet, seal).map_err(Unpacked::from)
        });
        let packet = match sealed {
            Ok(packet) => packet,
            Err(why) => return Ok(Err(why)),
        };
        let answer = ReleaseAnswer {
            header: packet.header.to_vec(),
            payload: packet.payload,
            decision,
        };
        let kept = self.request.idempotency;
        let kept = kept.map(|(key, hash)| service.keep(self.launch, key, hash, &answer));
        let link = match (&filled.connection, self.request.secrets.connection()) {
            (Some(fresh), Some(bounds)) => {
                let connection = service.connection_for(case, fresh, bounds, case.now)?;
                Link::Opens(Box::new(connection))
            }
            _ => Link::None,
        };
        Ok(Ok(Made {
            answer,
            kept: kept.transpose()?,
            link,
        }))
    }

    fn gone(&self, service: &Service) -> Refusal {
        service.gone(self.launch.id, self.asked)
    }
}

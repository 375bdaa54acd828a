//! Waiting launches that share a bound, and which of them gives way to a newcomer when they are too many.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::store::engine::{Connection, ToParam, params};

use super::{LaunchBegun, RowError};
use crate::domain::Time;
use crate::domain::launch::{Launch, network};

/// Groups whose ceilings are known, at most.
const KNOWN: usize = 50_000;

/// How many launches wait in groups, at most: what was counted last, and one for each that was begun since.
///
/// Counting is dear where many wait, and a launch that begins asks three times. Where one writer alone begins them, and
/// time goes forwards, a group is no larger than that; so it is counted again only where it may be full.
#[derive(Default)]
pub(in crate::store) struct Ceilings(Mutex<HashMap<Key, Ceiling>>);

type Key = (&'static str, Vec<u8>);

struct Ceiling {
    most: u32,
    /// When it was counted: what had expired then waits again where the clock is set back behind it.
    counted: i64,
}

impl Ceilings {
    /// Forgets all: somebody else wrote, or something was undone.
    pub(in crate::store) fn forget(&self) {
        self.lock().clear();
    }

    /// Whether the group has room for sure.
    fn has_room(&self, group: &Group<'_>, now: i64) -> bool {
        let known = self.lock();
        let ceiling = known.get(&group.key());
        ceiling.is_some_and(|ceiling| now >= ceiling.counted && ceiling.most < group.bound)
    }

    fn counted(&self, group: &Group<'_>, now: i64, most: u32) {
        let mut known = self.lock();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(group.key(), Ceiling { most, counted: now });
    }

    /// One more waits in these.
    pub(super) fn raise(&self, groups: &[&Group<'_>]) {
        let mut known = self.lock();
        for group in groups {
            if let Some(ceiling) = known.get_mut(&group.key()) {
                ceiling.most = ceiling.most.saturating_add(1);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Ceiling>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waiting launches that share a bound.
pub(super) struct Group<'a> {
    pub(super) condition: &'static str,
    pub(super) value: &'a dyn ToParam,
    /// The value as bytes.
    pub(super) bytes: &'a [u8],
    pub(super) bound: u32,
}

impl Group<'_> {
    fn key(&self) -> Key {
        (self.condition, self.bytes.to_vec())
    }

    pub(super) fn is_full(
        &self,
        c: &Connection,
        now: i64,
        ceilings: Option<&Ceilings>,
    ) -> Result<bool, RowError> {
        if ceilings.is_some_and(|ceilings| ceilings.has_room(self, now)) {
            return Ok(false);
        }
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM launches WHERE {} AND state = 'pending' AND expires > ?2
               LIMIT ?3) AS waiting",
            self.condition
        );
        let count: i64 = c
            .prepare_cached(&sql)?
            .query_row(params![self.value, now, self.bound], |row| row.get(0))?;
        if let Some(ceilings) = ceilings {
            ceilings.counted(self, now, u32::try_from(count).unwrap_or(u32::MAX));
        }
        Ok(count >= i64::from(self.bound))
    }

    /// All of them, oldest first.
    pub(super) fn waiting(&self, c: &Connection, now: i64) -> Result<Vec<Waiting>, RowError> {
        let sql = format!(
            "SELECT id, bucket, workload, pdh, cek, expires FROM launches
             WHERE {} AND state = 'pending' AND expires > ?2 ORDER BY expires, rowid",
            self.condition
        );
        let mut statement = c.prepare_cached(&sql)?;
        let mut found = statement.query(params![self.value, now])?;
        let mut waiting = Vec::new();
        while let Some(row) = found.next()? {
            let bucket: String = row.get(1)?;
            waiting.push(Waiting {
                id: row.get(0)?,
                network: network(&bucket),
                bucket,
                workload: row.get(2)?,
                pdh: row.get(3)?,
                cek: row.get(4)?,
                expires: row.get(5)?,
            });
        }
        Ok(waiting)
    }
}

/// A waiting launch, as far as it is weighed.
#[derive(Clone)]
pub(super) struct Waiting {
    pub(super) id: Vec<u8>,
    pub(super) bucket: String,
    pub(super) network: String,
    pub(super) workload: Vec<u8>,
    pub(super) pdh: Vec<u8>,
    pub(super) cek: Vec<u8>,
    pub(super) expires: i64,
}

/// The answer to a newcomer for whom nobody gives way.
pub(super) fn full(waiting: &[Waiting]) -> LaunchBegun {
    let until = waiting.first().map_or(0, |oldest| oldest.expires);
    LaunchBegun::Full {
        until: Time::from_millis(until),
    }
}

/// The launch that gives way to another of its platform key: whoever floods with a chain, as those are public,
/// loses its own first, and the platform still has room.
pub(super) fn of_platform(waiting: &[Waiting], newcomer: &Launch) -> Option<Waiting> {
    let near = network(&newcomer.bucket);
    let own = || waiting.iter().find(|launch| launch.bucket == newcomer.bucket);
    let neighbour = || waiting.iter().find(|launch| launch.network == near);
    heaviest(waiting, newcomer)
        .or_else(own)
        .or_else(neighbour)
        .or_else(|| waiting.first())
        .cloned()
}

/// The launch that gives way to another of its workload.
pub(super) fn of_workload(waiting: &[Waiting], newcomer: &Launch) -> Option<Waiting> {
    heaviest(waiting, newcomer).cloned()
}

/// What launches are weighed by.
type Respect = fn(&Waiting) -> &[u8];

/// The oldest launch of the address, or else the chip, or else the IPv6 /48, that stands out most: that holds at
/// least two more than the newcomer's own. One who floods, from one address or from many, can't keep the others
/// out, and among equals nobody displaces anybody.
///
/// All that the newcomer's network holds counts as the newcomer's own, or whoever floods from many addresses
/// of one would drive out those who launch twice.
fn heaviest<'w>(waiting: &'w [Waiting], newcomer: &Launch) -> Option<&'w Waiting> {
    let near = network(&newcomer.bucket);
    let cek = newcomer.facts.platform.fingerprints().cek;
    let by_network: Respect = |launch| launch.network.as_bytes();
    let respects: [(Respect, &[u8]); 3] = [
        (|launch| launch.bucket.as_bytes(), newcomer.bucket.as_bytes()),
        (|launch| &launch.cek, &cek),
        (by_network, near.as_bytes()),
    ];
    let of_network = held(&tally(waiting, by_network), near.as_bytes());
    let heaviest = respects.into_iter().filter_map(|(respect, newcomer)| {
        let all = tally(waiting, respect);
        let most = all.values().copied().max()?;
        let oldest = waiting
            .iter()
            .find(|launch| held(&all, respect(launch)) == most)?;
        let own = held(&all, newcomer).max(of_network);
        Some((most.saturating_sub(own), oldest))
    });
    // Of respects in which launches stand out alike the first counts, which says the most of who they are.
    let (excess, oldest) = heaviest.reduce(|first, next| if next.0 > first.0 { next } else { first })?;
    (excess >= 2).then_some(oldest)
}

/// How many launches have each value in this respect.
fn tally(waiting: &[Waiting], respect: Respect) -> HashMap<&[u8], usize> {
    let mut all = HashMap::new();
    for launch in waiting {
        *all.entry(respect(launch)).or_insert(0) += 1;
    }
    all
}

fn held(all: &HashMap<&[u8], usize>, value: &[u8]) -> usize {
    all.get(value).copied().unwrap_or(0)
}

//! What came of taking recorded decisions again: counts, and each that came out otherwise.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::cli::decision_text::printable;
use crate::domain::Time;
use crate::domain::decision::{Decision, WorkloadRef};
use crate::policy::Phase;
use crate::release::replay::{Answer, Effect};

/// Decisions that are shown one by one to people.
const SHOWN: usize = 50;
/// Characters of a reason that are shown to people.
const REASON: usize = 400;

/// What came of it.
#[derive(Serialize)]
pub(super) struct Report {
    /// Decisions that were looked at.
    decisions: u64,
    /// Of these, decisions that were taken again.
    evaluated: u64,
    /// Of these, decisions that came out the same.
    unchanged: u64,
    /// The others, by what became of them.
    #[serde(serialize_with = "flips")]
    flips: BTreeMap<(Effect, Effect), u64>,
    /// Decisions that could not be taken again, by why.
    not_replayed: BTreeMap<&'static str, u64>,
    /// Each that came out otherwise, in the order of time.
    #[serde(serialize_with = "values")]
    flipped: BTreeMap<(Time, Uuid), Flip>,
    #[serde(skip)]
    most: usize,
}

/// A decision that came out otherwise.
#[derive(Serialize)]
struct Flip {
    decision: Uuid,
    time: Time,
    workload: WorkloadRef,
    phase: Phase,
    from: Effect,
    to: Effect,
    reason_before: String,
    reason_after: String,
}

#[derive(Serialize)]
struct Counted {
    from: Effect,
    to: Effect,
    loosens: bool,
    count: u64,
}

fn flips<S: Serializer>(flips: &BTreeMap<(Effect, Effect), u64>, out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(flips.iter().map(|((from, to), count)| Counted {
        from: *from,
        to: *to,
        loosens: to > from,
        count: *count,
    }))
}

fn values<S: Serializer>(flipped: &BTreeMap<(Time, Uuid), Flip>, out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(flipped.values())
}

impl Report {
    /// An empty one; for people it keeps the latest few of what flipped.
    pub(super) fn new(for_people: bool) -> Self {
        Self {
            decisions: 0,
            evaluated: 0,
            unchanged: 0,
            flips: BTreeMap::new(),
            not_replayed: BTreeMap::new(),
            flipped: BTreeMap::new(),
            most: if for_people { SHOWN } else { usize::MAX },
        }
    }

    /// Whether there was no decision.
    pub(super) fn is_empty(&self) -> bool {
        self.decisions == 0
    }

    /// Whether every decision came out the same.
    pub(super) fn is_unchanged(&self) -> bool {
        self.flips.is_empty()
    }

    pub(super) fn not_replayed(&mut self, why: &'static str) {
        self.decisions += 1;
        *self.not_replayed.entry(why).or_default() += 1;
    }

    pub(super) fn replayed(&mut self, decision: &Decision, before: Answer, after: Answer) {
        self.decisions += 1;
        self.evaluated += 1;
        let (from, to) = (before.effect, after.effect);
        if from == to {
            self.unchanged += 1;
            return;
        }
        *self.flips.entry((from, to)).or_default() += 1;
        let flip = Flip {
            decision: decision.id,
            time: decision.time,
            workload: decision.workload.clone(),
            phase: decision.phase,
            from,
            to,
            reason_before: before.reason,
            reason_after: after.reason,
        };
        self.flipped.insert((decision.time, decision.id), flip);
        if self.flipped.len() > self.most {
            self.flipped.pop_first();
        }
    }

    /// For people, below a line that says what was compared; `sides` are the words for before and after.
    pub(super) fn text(&self, sides: [&str; 2]) -> String {
        let noun = if self.decisions == 1 {
            "decision"
        } else {
            "decisions"
        };
        let mut lines = vec![format!(
            "{} {noun}, {} taken again",
            self.decisions, self.evaluated
        )];
        let mut row = |count: u64, what: &str| lines.push(format!("{count:>8}  {what}"));
        row(self.unchanged, "come out the same");
        for ((from, to), count) in &self.flips {
            let which = if to > from { "looser" } else { "stricter" };
            row(*count, &format!("{} → {} ({which})", from.as_str(), to.as_str()));
        }
        for (why, count) in &self.not_replayed {
            row(*count, &format!("not taken again: {why}"));
        }
        let width = sides.iter().map(|side| side.chars().count()).max().unwrap_or(0);
        for flip in self.flipped.values() {
            lines.push(String::new());
            lines.push(format!(
                "{} → {}  {}  {}  {}",
                flip.from.as_str(),
                flip.to.as_str(),
                flip.time,
                flip.workload.name,
                flip.decision
            ));
            let [before, after] = sides;
            for (side, reason) in [(before, &flip.reason_before), (after, &flip.reason_after)] {
                lines.push(format!("    {side:width$}  {}", cut(reason)));
            }
        }
        let all: u64 = self.flips.values().sum();
        let shown = u64::try_from(self.flipped.len()).unwrap_or(u64::MAX);
        if shown < all {
            lines.push(format!(
                "\nThese are the latest {shown} of {all}; -o json has all of them"
            ));
        }
        lines.join("\n")
    }
}

fn cut(reason: &str) -> String {
    let reason = printable(reason);
    match reason.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}…", reason.get(..end).unwrap_or_default()),
        None => reason,
    }
}

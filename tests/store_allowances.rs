//! The arithmetic of counts: whatever is raised, confirmed, withdrawn and reset in whatever order, a release is
//! within the limit or uses up one that was confirmed.

use keyward::audit::actor::Act;
use keyward::domain::approval::{Change, Word};
use keyward::domain::decision::Decision;
use keyward::domain::hold::Confirm;
use keyward::domain::launch::{Binding, BindingKind, Launch, LaunchBounds};
use keyward::domain::revision::By;
use keyward::domain::{Clock as _, Name};
use keyward::store::{Committed, CountUp, ReleaseCommit, Taken, Verb};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use crate::support::hooked::{Fate, Hook};
use crate::support::host::{IMAGE, WORKLOAD, standard};
use crate::support::{App, platform};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A new launch asks, where the policy sets this limit on the secret's own count.
    Release {
        limit: u64,
        of_owner: u64,
    },
    Confirm(u64),
    Withdraw,
    Reset(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u64, 0..9_u64).prop_map(|(limit, of_owner)| Step::Release { limit, of_owner }),
        3 => (1..4_u64).prop_map(Step::Confirm),
        1 => Just(Step::Withdraw),
        1 => (0..3_u64).prop_map(Step::Reset),
    ]
}

/// What one count should be.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    released: u64,
    left: u64,
}

/// A store with one workload, and a release to be committed again and again.
struct Bench {
    app: App,
    owner: Name,
    decision: Decision,
    launch: Launch,
    generation: i64,
}

impl Bench {
    fn new() -> Self {
        let app = App::new();
        app.standard();
        let (vm, reply) = app.run(&platform());
        let owner: Name = "acme".parse().unwrap();
        let store = app.service.store();
        let id: Uuid = serde_json::from_value(reply.ok().body["decision"].clone()).unwrap();
        let decision = store.decision(&owner, id).unwrap().unwrap();
        let launch = store.launch(vm.id).unwrap().unwrap();
        let generation = store
            .workload(WORKLOAD.parse().unwrap())
            .unwrap()
            .unwrap()
            .generation;
        app.sql("DELETE FROM counts");
        Self {
            owner,
            decision,
            launch,
            generation,
            app,
        }
    }

    fn bindings() -> [Binding; 2] {
        let of = |kind, name: &str| Binding {
            kind,
            name: name.to_owned(),
        };
        [of(BindingKind::Secret, "disk"), of(BindingKind::Owner, "")]
    }

    fn release(&self, limits: [u64; 2]) -> Committed {
        let launch = Launch {
            id: Uuid::new_v4(),
            state: keyward::domain::LaunchState::Pending,
            ..self.launch.clone()
        };
        let bounds = LaunchBounds {
            per_address: 100_000,
            per_pdh: 100_000,
            per_workload: 100_000,
        };
        let store = self.app.service.store();
        store.begin_launch(&launch, bounds).unwrap();
        let counts = Self::bindings()
            .into_iter()
            .zip(limits)
            .map(|(binding, limit)| CountUp {
                binding,
                secret: "disk".parse().unwrap(),
                limit: Some(limit),
            });
        let release = ReleaseCommit {
            decision: Decision {
                id: Uuid::new_v4(),
                launch: Some(launch.id),
                ..self.decision.clone()
            },
            launch: launch.id,
            hold: Uuid::new_v4(),
            generation: self.generation,
            counts: counts.collect(),
            seen: Vec::new(),
            answer: None,
            link: keyward::store::Link::None,
        };
        store.commit_release(release).unwrap()
    }

    fn act(&self) -> Act {
        Act::of_server(self.word().time)
    }

    fn word(&self) -> Word {
        Word {
            by: By {
                token: Uuid::nil(),
                name: "a test".to_owned(),
            },
            time: self.app.clock.now(),
            reason: "a test".to_owned(),
        }
    }

    /// The two counts as the store has them.
    fn counts(&self) -> [Model; 2] {
        let counts = self
            .app
            .service
            .store()
            .limits(&self.owner, 1, self.app.clock.now());
        let counts = counts.unwrap().counts;
        Self::bindings().map(|binding| {
            let count = counts.iter().find(|count| count.binding == binding);
            count.map_or_else(Model::default, |count| Model {
                released: count.released,
                left: count.confirmed,
            })
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_release_is_within_the_limit_or_uses_up_one_that_was_confirmed(steps in prop::collection::vec(step(), 1..50)) {
        let bench = Bench::new();
        let store = bench.app.service.store();
        let mut model = [Model::default(); 2];
        // The hold that waits with the counts in its way, and the last that was confirmed with what it gave.
        let (mut waiting, mut given) = (None::<(Uuid, [bool; 2])>, Vec::<(Uuid, [u64; 2])>::new());
        for step in steps {
            match step {
                Step::Release { limit, of_owner } => {
                    let limits = [limit, of_owner];
                    let full = [0, 1].map(|n| model[n].released >= limits[n]);
                    let blocked = [0, 1].map(|n| full[n] && model[n].left == 0);
                    match bench.release(limits) {
                        Committed::Released => {
                            prop_assert_eq!(blocked, [false; 2]);
                            for n in 0..2 {
                                model[n].released += 1;
                                if full[n] {
                                    model[n].left -= 1;
                                    let oldest = given.iter_mut().find(|(_, left)| left[n] > 0).unwrap();
                                    oldest.1[n] -= 1;
                                }
                            }
                            if full == [false; 2] {
                                waiting = None;
                            }
                        }
                        Committed::Held { hold, .. } => {
                            prop_assert_ne!(blocked, [false; 2]);
                            let before = waiting.map_or([false; 2], |(_, counts)| counts);
                            prop_assert!(waiting.is_none_or(|(id, _)| id == hold));
                            waiting = Some((hold, [before[0] | blocked[0], before[1] | blocked[1]]));
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                Step::Confirm(additional) => {
                    let Some((hold, counts)) = waiting.take() else { continue };
                    let confirm = Confirm { additional, any: true, launch_digest: None, cek: None };
                    let taken = store.settle_hold(&bench.owner, hold, &Verb::Confirm(confirm), &bench.word(), &bench.act()).unwrap();
                    prop_assert!(matches!(taken, Taken::Done(_)), "{:?}", taken);
                    let gives = counts.map(|in_the_way| if in_the_way { additional } else { 0 });
                    for n in 0..2 {
                        model[n].left += gives[n];
                    }
                    given.push((hold, gives));
                }
                Step::Withdraw => {
                    let Some((hold, left)) = given.pop() else { continue };
                    let taken = store.settle_hold(&bench.owner, hold, &Verb::Withdraw, &bench.word(), &bench.act()).unwrap();
                    prop_assert_eq!(matches!(taken, Taken::Done(_)), left != [0, 0], "{:?}", taken);
                    for n in 0..2 {
                        model[n].left -= left[n];
                    }
                }
                Step::Reset(to) => {
                    let [binding, _] = Bench::bindings();
                    let change = Change::ResetLimit { binding, secret: "disk".parse().unwrap(), to };
                    let taken = store.reset_limit(&bench.owner, &change, &bench.word(), &bench.act()).unwrap();
                    prop_assert_eq!(matches!(taken, Taken::Done(_)), to < model[0].released, "{:?}", taken);
                    if let Taken::Done(reset) = taken {
                        prop_assert_eq!((reset.before, reset.after), (model[0].released, to));
                        model[0].released = to;
                        let still = waiting.and_then(|(id, _)| store.hold(&bench.owner, id).unwrap());
                        waiting = waiting.filter(|_| still.is_some_and(|hold| hold.closed.is_none()));
                    }
                }
            }
            prop_assert_eq!(bench.counts(), model);
        }
    }
}

#[test]
fn a_confirmation_whose_answer_was_lost_counts_once_and_one_that_failed_not_at_all() {
    let hook = Hook::default();
    let (app, platform) = (App::with(hook.options()), platform());
    let mut objects = standard(json!({"max_releases": 0}));
    objects[1]["policies"] = json!(["keyward.workload"]);
    app.apply(objects);
    let mut vms: Vec<_> = (0..3).map(|_| app.start(&platform)).collect();
    let requests: Vec<_> = vms.iter_mut().map(|vm| (vm.path(), vm.measure(IMAGE))).collect();
    let ask = || {
        let replies = requests.iter().map(|(path, request)| app.post(path, request));
        replies.filter(|reply| reply.status == 200).count()
    };
    assert_eq!(ask(), 0);
    let hold = app.post(&requests[0].0, &requests[0].1).body["hold"].clone();
    for _ in 0..3 {
        hook.once("settle_hold", Fate::FailsUndone);
        app.confirm(&hold, 2).expect(503, "unavailable");
        hook.clear();
    }
    assert_eq!((ask(), &app.hold(&hold)["state"]), (0, &json!("open")));

    hook.once("settle_hold", Fate::FailsDone);
    app.confirm(&hold, 2).expect(503, "unavailable");
    hook.clear();
    app.confirm(&hold, 2).expect(409, "wrong-state");
    assert_eq!(ask(), 2);
    assert_eq!(ask(), 0);
}

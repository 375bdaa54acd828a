//! What the two transactions of a host's calls cost on SQLite, alone and where many come at once.

use std::sync::Arc;

use keyward::domain::decision::Decision;
use keyward::domain::launch::{Launch, LaunchBounds};
use keyward::store::{Committed, LaunchBegun, Link, ReleaseCommit};
use uuid::Uuid;

use super::server::Server;
use super::{Piece, piece, pieces as several};

const THREADS: u32 = 16;
const EACH: u32 = 8;
/// So many wait; then the oldest gives way, so that a long run measures what a short one does.
const BOUNDS: LaunchBounds = LaunchBounds {
    per_address: u32::MAX,
    per_pdh: 64,
    per_workload: u32::MAX,
};

/// A launch and a decision as a real request made them, to make others of.
struct Template {
    server: Arc<Server>,
    launch: Launch,
    decision: Decision,
    generation: i64,
}

impl Template {
    fn of(server: &Arc<Server>) -> Self {
        let store = &server.store;
        let (id, request) = server.measured();
        let launch = store.launch(id).unwrap().expect("the launch");
        let decision = server.validate(id, &request);
        let decision = store
            .decision(&server.owner, decision)
            .unwrap()
            .expect("the decision");
        let context = store.workload(launch.workload).unwrap().expect("the workload");
        Self {
            server: server.clone(),
            launch,
            decision,
            generation: context.generation,
        }
    }

    fn begin(&self) -> Uuid {
        let launch = Launch {
            id: Uuid::new_v4(),
            ..self.launch.clone()
        };
        let begun = self.server.store.begin_launch(&launch, BOUNDS).unwrap();
        assert!(matches!(begun, LaunchBegun::Stored));
        launch.id
    }

    fn begin_and_commit(&self) {
        let launch = self.begin();
        let decision = Decision {
            id: Uuid::new_v4(),
            launch: Some(launch),
            ..self.decision.clone()
        };
        let committed = self.server.store.commit_release(ReleaseCommit {
            decision,
            launch,
            hold: Uuid::new_v4(),
            generation: self.generation,
            counts: Vec::new(),
            seen: Vec::new(),
            answer: None,
            link: Link::None,
        });
        assert!(matches!(committed.unwrap(), Committed::Released));
    }
}

fn at_once(template: &Template, work: impl Fn(&Template) + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..EACH).for_each(|_| work(template)));
        }
    });
}

pub(crate) fn pieces(server: &Arc<Server>) -> Vec<Piece> {
    let [one, two, three, four] = [(); 4].map(|()| Template::of(server));
    vec![
        piece("begin_launch, alone", move || {
            one.begin();
        }),
        several("begin_launch, 16 at once", THREADS * EACH, move || {
            at_once(&two, |template| {
                template.begin();
            });
        }),
        piece("begin_launch and commit_release, alone", move || {
            three.begin_and_commit()
        }),
        several(
            "begin_launch and commit_release, 16 at once",
            THREADS * EACH,
            move || {
                at_once(&four, Template::begin_and_commit);
            },
        ),
    ]
}

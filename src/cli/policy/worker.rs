//! `policy worker`: a process that policies are evaluated in, behind walls that it puts up itself.

use std::cell::Cell;
use std::io::{BufReader, stdin, stdout};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::cli::Ended;
use crate::policy::{STACK, worker};

#[derive(Args)]
pub(in crate::cli) struct Worker {
    /// Address space in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(192..=65_536))]
    memory_mib: u64,
}

impl Worker {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Ended> {
        let memory = self.memory_mib << 20;
        // Before the first byte of an owner's text is read. What is past a limit ends this process, and nothing else.
        limit(Resource::As, memory)?;
        limit(Resource::Core, 0)?;
        limit(Resource::Fsize, 0)?;
        limit(Resource::Nofile, 8)?;
        let (bundles, allowance) = (worker::room(memory), Allowance::default());
        let serving = std::thread::Builder::new()
            .name("worker".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                worker::serve(BufReader::new(stdin()), stdout(), bundles, |time| {
                    allowance.allow(time)
                })
            })
            .context("the worker's thread")?;
        serving
            .join()
            .map_err(|_| anyhow!("the worker failed inside"))?
            .context("the pipe")?;
        Ok(Ended::Done)
    }
}

fn limit(resource: Resource, most: u64) -> anyhow::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(resource, limit).with_context(|| format!("{resource:?}"))
}

/// Processor time that is allowed, beyond what a piece of work may take: seconds.
const SLACK: u64 = 3;
/// How long an allowance stands. One thread works, so that it is not used up by then.
const STANDS: Duration = Duration::from_secs(1);

/// The processor time that this worker may take.
#[derive(Default)]
struct Allowance(Cell<Option<(Instant, Duration)>>);

impl Allowance {
    /// Allows this much more processor time and a little. Whoever asked ends a worker that hangs; if it is gone by
    /// then, the system does. What was allowed a moment ago still is, so that a busy worker need not ask the system
    /// at each request.
    fn allow(&self, time: Duration) {
        let stands = |(since, allowed): (Instant, Duration)| allowed == time && since.elapsed() < STANDS;
        if !self.0.get().is_some_and(stands) {
            self.0.set(Some((Instant::now(), time)));
            allow(time);
        }
    }
}

fn allow(time: Duration) {
    let used = u64::try_from(clock_gettime(ClockId::ProcessCPUTime).tv_sec).unwrap_or(0);
    let current = used.saturating_add(time.as_secs()).saturating_add(SLACK);
    let maximum = getrlimit(Resource::Cpu).maximum;
    // A limit that can't be raised ends this worker early, which denies.
    let _ = setrlimit(
        Resource::Cpu,
        Rlimit {
            current: Some(current),
            maximum,
        },
    );
}

//! `demo`: the whole story in a temporary folder, without hardware, with the parts that serve for real.
//!
//! The owner's side is `examples/first-release`, registered through the owner API as `apply` does it;
//! the host's side goes over HTTP to a server on loopback; the software PSP plays the hardware.

mod auditor;
mod story;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use uuid::Uuid;

use super::{Ended, hold, output};
use crate::domain::decision::Decision;
use crate::domain::hold::Hold;
use crate::http;
use story::{Answer, Story, WORKLOAD};

#[derive(Args)]
pub(super) struct Demo {}

impl Demo {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        let began = Instant::now();
        let folder = Temporary::make()?;
        heading("1. An owner, a policy, a secret, a workload")?;
        let story = Story::begin(folder.path())?;

        heading("2. A guest is launched, proved, and gets its secret")?;
        let guest = story.start()?;
        say(&format!("host       asked to launch workload {WORKLOAD}"))?;
        say("keyward    verified the platform's certificates and made a session only its PSP can unwrap")?;
        let answer = story.validate(guest, b"console=ttyS0", None)?;
        let Answer::Released { decision, entries } = answer else {
            bail!("the first guest was refused: {answer:?}")
        };
        for (guid, length) in entries {
            say(&format!(
                "guest      found {length} bytes at {guid}, unwrapped by its own PSP"
            ))?;
        }
        story.show(decision)?;

        heading("3. A guest whose kernel command line was tampered with is denied")?;
        let tampered = b"console=ttyS0 init=/bin/sh";
        let guest = story.start()?;
        match story.validate(guest, tampered, None)? {
            Answer::Refused {
                status: 422, title, ..
            } => {
                say(&format!(
                    "keyward    422 {title}: the MAC holds with no launch digest of the workload"
                ))?;
            }
            other => bail!("a tampered guest was not refused: {other:?}"),
        }
        say("host       tries again, and owns up to the digest of what really runs there")?;
        let guest = story.start()?;
        let digest = story.digest(tampered)?;
        let Answer::Refused {
            status: 403,
            decision: Some(denied),
            hold: None,
            ..
        } = story.validate(guest, tampered, Some(digest))?
        else {
            bail!("a tampered guest was not denied");
        };
        story.show(denied)?;

        heading("4. The count is used up: the next release waits for the owner")?;
        let guest = story.start()?;
        let Answer::Released { .. } = story.validate(guest, b"console=ttyS0", None)? else {
            bail!("the second guest was refused");
        };
        say("keyward    released to a second guest; the policy permits two")?;
        let guest = story.start()?;
        let mut waiting = story.measure(guest, b"console=ttyS0", None)?;
        let Answer::Refused {
            status: 403,
            decision: Some(held),
            hold: Some(held_as),
            ..
        } = story.ask(&mut waiting)?
        else {
            bail!("the third guest was not held");
        };
        say(&format!(
            "keyward    confirmation-required: the third is held ({held_as})"
        ))?;
        story.show(held)?;

        heading("5. The owner confirms, and the waiting guest gets its secret")?;
        let path = format!("/v1/holds/{held_as}");
        let shown: Hold = story.client.get(&path)?;
        for line in hold::text(&shown) {
            output::line(format!("      {line}").trim_end())?;
        }
        output::line("")?;
        let word = http::ConfirmBody {
            additional: 1,
            any: false,
            launch_digest: None,
            cek: None,
            reason: "the database is moved to another host, ticket 4711".to_owned(),
        };
        let confirmed: Hold = story.client.post(&format!("{path}/confirm"), &word)?;
        say(&format!(
            "owner      {} it for one more release: «{}»",
            confirmed.state.as_str(),
            word.reason
        ))?;
        let Answer::Released { decision, .. } = story.ask(&mut waiting)? else {
            bail!("the third guest was not given its secret after the confirmation");
        };
        say("host       asks again; the policies ran again, and the waiting guest has its secret")?;
        let recorded: Decision = story.client.get(&format!("/v1/decisions/{decision}"))?;
        say(&format!(
            "keyward    {}: {}",
            recorded.outcome.as_str(),
            recorded.reason
        ))?;

        heading("6. What the owner and the auditor see")?;
        let list: http::DecisionList = story.client.get("/v1/decisions")?;
        for item in list.items.iter().rev() {
            say(&format!(
                "{:<9}  {}",
                item.outcome.as_str(),
                clipped(&item.reason, 96)
            ))?;
        }
        story.stop()?;

        heading("7. The audit log is verified, without the server")?;
        auditor::visit(folder.path())?;
        output::line(&format!(
            "\nDone in {:.1} s. Nothing is left behind; the same files are in examples/first-release.",
            began.elapsed().as_secs_f32()
        ))?;
        Ok(Ended::Done)
    }
}

fn heading(text: &str) -> anyhow::Result<()> {
    output::line(&format!("\n{text}\n"))
}

fn say(text: &str) -> anyhow::Result<()> {
    output::line(&format!("   {text}"))
}

fn clipped(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        text.to_owned()
    } else {
        text.chars().take(length - 1).chain(['…']).collect()
    }
}

/// A folder that is removed when the demo ends, however it ends.
struct Temporary(std::path::PathBuf);

impl Temporary {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("keyward-demo-{}", Uuid::new_v4()));
        std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

//! Who is this platform? The chain as it arrived, completed where its CEK is not signed, and verified.

use std::sync::Arc;
use std::time::Duration;

use super::host::{Host, LaunchRequest};
use super::meter::Step;
use super::{Refusal, Service};
use crate::domain::{Hex, Name};
use crate::kds::CekError;
use crate::sev::chain::{PresentedChain, verify_cek};
use crate::sev::verified::Known;
use crate::sev::{Certificate, StoredPlatform, VerifiedPlatform};
use crate::store::{CekOfKey, KnownCek};

/// A verified platform, and the chip where AMD's service, or an import, vouched for it.
pub(super) struct Platform {
    pub(super) stored: StoredPlatform,
    pub(super) pdh: Certificate,
    pub(super) chip_id: Option<Hex<64>>,
}

impl Platform {
    fn of(verified: &VerifiedPlatform, chip_id: Option<Hex<64>>) -> Self {
        Self {
            stored: verified.to_stored(),
            pdh: verified.pdh().clone(),
            chip_id,
        }
    }
}

/// What a chain is worth before anybody else is asked.
pub(super) enum Presented {
    /// It verifies as it came.
    Whole(Box<Platform>),
    /// It verifies but for its CEK, which came unsigned.
    ButForCek(Arc<PresentedChain>),
}

impl Service {
    /// Verifies the chain of a launch for a workload of `owner`, as far as that goes without asking anybody.
    pub(super) fn presented(&self, owner: &Name, request: &LaunchRequest) -> Result<Presented, Refusal> {
        let roots = &self.parts.roots;
        let known = self.timed(Step::Chain, || {
            self.chains.read(Some(&request.pdh), &request.cert_chain, roots)
        });
        // What is known of chips shows in what a refusal says, so a chain that is nobody's learns nothing of it.
        match known.map_err(invalid)? {
            Known::Verified(verified) => {
                self.counts_for(&verified, owner)?;
                let chip_id = self.chip_of(&verified, request.cpu_id)?;
                Ok(Presented::Whole(Box::new(Platform::of(&verified, chip_id))))
            }
            Known::ButForCek(chain) => Ok(Presented::ButForCek(chain)),
        }
    }

    /// The same chain, with its CEK as the service signed it.
    pub(super) fn completed(
        &self,
        owner: &Name,
        host: &Host,
        cpu_id: Option<Hex<64>>,
        chain: &PresentedChain,
    ) -> Result<Platform, Refusal> {
        let (chain, chip_id) = self.complete(chain, host, cpu_id)?;
        let verified = self.timed(Step::Chain, || self.chains.verify(&chain, &self.parts.roots));
        let verified = verified.map_err(invalid)?;
        self.counts_for(&verified, owner)?;
        Ok(Platform::of(&verified, chip_id))
    }

    /// Whether platforms under the root of this one count for `owner`; asked each time, whatever is remembered.
    fn counts_for(&self, verified: &VerifiedPlatform, owner: &Name) -> Result<(), Refusal> {
        if !self.trusts(verified.root(), owner)? {
            let why = "ARK: the root is not trusted for this workload";
            return Err(Refusal::ChainInvalid(why.to_owned()));
        }
        Ok(())
    }

    /// The chip of a chain that came with its CEK signed: only what is known already, nobody is asked.
    fn chip_of(
        &self,
        verified: &VerifiedPlatform,
        cpu_id: Option<Hex<64>>,
    ) -> Result<Option<Hex<64>>, Refusal> {
        if let Some(chip) = cpu_id
            && let Some(KnownCek::Certificate(known)) = self.store().cek_of_chip(&chip.0)?
        {
            return if same_key(verified.cek(), &known) {
                Ok(Some(chip))
            } else {
                Err(foreign())
            };
        }
        let known = self.store().cek_of_key(&verified.fingerprints().cek)?;
        let chip = known.and_then(|known| known.chip).map(Hex);
        match (chip, cpu_id) {
            (Some(known), Some(claimed)) if known != claimed => Err(foreign()),
            (chip, _) => Ok(chip),
        }
    }

    /// A chain whose CEK came unsigned, with the CEK as the service signed it. Nobody is asked on behalf of a chain that
    /// does not hold together by itself, and nothing looked up: the rest of it was verified.
    fn complete(
        &self,
        chain: &PresentedChain,
        host: &Host,
        cpu_id: Option<Hex<64>>,
    ) -> Result<(PresentedChain, Option<Hex<64>>), Refusal> {
        let Some(chip) = cpu_id else {
            let Some(known) = self.store().cek_of_key(&chain.cek().fingerprint())? else {
                let why = "CEK: not signed, and no `cpu-id` was given by which its signature could be had";
                return Err(Refusal::ChainInvalid(why.to_owned()));
            };
            return Ok((with_cek(chain, &known.certificate)?, known.chip.map(Hex)));
        };
        let now = self.parts.clock.now();
        let of_chip = self.store().cek_of_chip(&chip.0)?;
        if let Some(KnownCek::Certificate(known)) = of_chip {
            return Ok((with_cek(chain, &known)?, Some(chip)));
        }
        match self.store().cek_of_key(&chain.cek().fingerprint())? {
            // Imported by its key alone: it completes the chain, and the chip stays unproved.
            Some(CekOfKey {
                chip: None,
                certificate,
            }) => return Ok((with_cek(chain, &certificate)?, None)),
            // Another launch of this chip had it fetched between the two looks.
            Some(CekOfKey {
                chip: Some(known),
                certificate,
            }) if known == chip.0 => return Ok((with_cek(chain, &certificate)?, Some(chip))),
            Some(CekOfKey { chip: Some(_), .. }) => return Err(foreign()),
            None => {}
        }
        if matches!(of_chip, Some(KnownCek::Unknown { until }) if until > now) {
            return Err(unknown_chip());
        }
        let fetched = match self.parts.ceks.cek(&chip.0, &host.bucket()) {
            Ok(fetched) => fetched,
            Err(CekError::UnknownChip) => {
                self.store()
                    .remember_no_cek(&chip.0, now.after(self.settings.cek_miss))?;
                return Err(unknown_chip());
            }
            Err(CekError::Unavailable { retry_after, why }) => {
                let why = format!("the chip's certificate can't be had: {why}");
                return Err(Refusal::Unavailable {
                    why,
                    retry_after: retry_after.max(Duration::from_secs(1)),
                });
            }
            Err(error @ CekError::NotConfigured) => {
                return Err(Refusal::ChainInvalid(format!("CEK: not signed, and {error}")));
            }
        };
        let certificate = Certificate::parse(&fetched).map_err(|e| Refusal::Unavailable {
            why: format!("the key distribution service: {e}"),
            retry_after: Duration::from_secs(10),
        })?;
        // What AMD signed is worth remembering whoever asked; what another root signed, only once the
        // chain that asked for it holds with it.
        let by_amd = verify_cek(&certificate, &self.parts.roots).is_ok();
        let completed = chain.with_signed_cek(&certificate);
        let holds = completed
            .as_ref()
            .is_ok_and(|chain| chain.verify(&self.parts.roots).is_ok());
        if by_amd || holds {
            self.store()
                .remember_cek(Some(&chip.0), &certificate.fingerprint(), certificate.as_bytes())?;
        }
        Ok((completed.map_err(|_| foreign())?, Some(chip)))
    }
}

fn with_cek(chain: &PresentedChain, known: &[u8]) -> Result<PresentedChain, Refusal> {
    let certificate = Certificate::parse(known).map_err(|e| {
        log::error!("a remembered CEK is damaged: {e}");
        Refusal::unavailable("a remembered certificate is damaged")
    })?;
    chain.with_signed_cek(&certificate).map_err(|_| foreign())
}

fn same_key(cek: &Certificate, known: &[u8]) -> bool {
    Certificate::parse(known).is_ok_and(|known| known.same_public_key(cek))
}

fn invalid(error: crate::sev::ChainError) -> Refusal {
    Refusal::ChainInvalid(error.to_string())
}

fn foreign() -> Refusal {
    Refusal::ChainInvalid("CEK: `cpu-id` names a chip with another key".to_owned())
}

fn unknown_chip() -> Refusal {
    Refusal::ChainInvalid(
        "CEK: not signed, and the key distribution service knows no chip with this `cpu-id`".to_owned(),
    )
}

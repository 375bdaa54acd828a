//! Values that are of the right type and make no sense.

use super::Config;
use super::load::ConfigError;

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Self {
            launch,
            kds,
            policy,
            audit,
            ..
        } = self;
        if self.key_file.is_some() && self.key_provider.is_some() {
            return Err(ConfigError::Value {
                key: "key_provider",
                message: "says where the keys are, and so does `key_file`: leave one of them".to_owned(),
            });
        }
        let within = [
            ("launch.lifetime_seconds", launch.lifetime_seconds, 1, 86_400),
            ("launch.max_tries", launch.max_tries, 1, u32::MAX),
            ("launch.pending_per_pdh", launch.pending_per_pdh, 1, u32::MAX),
            (
                "launch.pending_per_address",
                launch.pending_per_address,
                1,
                u32::MAX,
            ),
            (
                "launch.pending_per_workload",
                launch.pending_per_workload,
                1,
                u32::MAX,
            ),
            (
                "launch.failed_searches_per_minute",
                launch.failed_searches_per_minute,
                1,
                u32::MAX,
            ),
            ("launch.cached_chains", launch.cached_chains, 0, 65_536),
            ("kds.wait_seconds", kds.wait_seconds, 0, 5),
            ("kds.timeout_seconds", kds.timeout_seconds, 1, u32::MAX),
            ("kds.queue", kds.queue, 1, 4096),
            ("kds.queue_per_address", kds.queue_per_address, 1, 4096),
            ("kds.chips_per_address", kds.chips_per_address, 1, u32::MAX),
            ("policy.time_limit_ms", policy.time_limit_ms, 1, 10_000),
            ("policy.cached_bundles", policy.cached_bundles, 1, u32::MAX),
            ("secrets.kept_versions", self.secrets.kept_versions, 1, 1000),
            ("policy.workers", policy.workers, 0, 1024),
            ("audit.checkpoint_seconds", audit.checkpoint_seconds, 1, 3600),
            ("audit.retention_days", audit.retention_days, 0, 36_500),
            (
                "decisions.retention_days",
                self.decisions.retention_days,
                0,
                36_500,
            ),
            ("policy.worker_memory_mib", policy.worker_memory_mib, 192, 65_536),
            ("shutdown_seconds", self.shutdown_seconds, 0, 600),
        ];
        for (key, value, least, most) in within {
            if !(least..=most).contains(&value) {
                let message = match most {
                    u32::MAX => format!("must be at least {least}"),
                    most => format!("must be {least} to {most}"),
                };
                return Err(ConfigError::Value { key, message });
            }
        }
        if !(kds.url.is_empty() || crate::outward::is_acceptable_url(&kds.url)) {
            return Err(ConfigError::Value {
                key: "kds.url",
                message: "must be https://…; http:// is for a loopback address only".to_owned(),
            });
        }
        super::store::check(&self.store)?;
        super::webhooks::check(&self.webhooks)?;
        super::simple_kbs::check(self.simple_kbs.as_ref())?;
        self.check_identities()?;
        self.check_log()
    }

    /// The logger passes over what it does not understand, and then logs nothing.
    fn check_log(&self) -> Result<(), ConfigError> {
        let directives = self.log.split('/').next().unwrap_or_default().split(',');
        for directive in directives
            .map(str::trim)
            .filter(|directive| !directive.is_empty())
        {
            // A word alone is a level; a module has a path, or a level after it.
            let level = match directive.split_once('=') {
                Some((_, level)) => level.trim(),
                None if directive.contains("::") || directive == "keyward" => continue,
                None => directive,
            };
            if level.parse::<log::LevelFilter>().is_err() {
                return Err(ConfigError::Value {
                    key: "log",
                    message: format!(
                        "{level:?} is no level: expected off, error, warn, info, debug or trace"
                    ),
                });
            }
        }
        Ok(())
    }
}

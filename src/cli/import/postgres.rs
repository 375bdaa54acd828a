//! A simple-kbs database in PostgreSQL, read in one transaction that may not write.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::store::X509StoreBuilder;
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, IsolationLevel, Row, Transaction};
use zeroize::Zeroizing;

use super::database::{KeySetRow, PolicyRow, ResourceRow, SecretRow, SimpleKbs};

/// How long a connection may take, unless the URL says.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the database is, and how it is reached.
pub(super) struct Place<'a> {
    /// `postgres://…`, without a password.
    pub(super) url: &'a str,
    /// The file that the password is in.
    pub(super) password: Option<&'a Path>,
    /// Who signed the server's certificate, if nobody whom this machine trusts.
    pub(super) ca: Option<&'a Path>,
}

/// Whether it is a URL of a PostgreSQL database.
pub(super) fn is_url(db: &str) -> bool {
    ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| db.starts_with(scheme))
}

/// How the connection is protected. The certificate is verified in all of them that have one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Protection {
    mode: SslMode,
    host_name: bool,
}

impl Place<'_> {
    /// Reads all of it, in one moment.
    ///
    /// # Errors
    /// When it can't be reached, or has other tables. Those that later versions added may be missing.
    pub(super) fn read(&self) -> anyhow::Result<SimpleKbs> {
        let (config, protection) = self.config()?;
        let mut tls = SslConnector::builder(SslMethod::tls_client())?;
        if let Some(ca) = self.ca {
            // In place of those that this machine trusts.
            tls.set_cert_store(X509StoreBuilder::new()?.build());
            tls.set_ca_file(ca).with_context(|| ca.display().to_string())?;
        }
        let mut tls = MakeTlsConnector::new(tls.build());
        tls.set_callback(move |connection, _| {
            connection.set_verify_hostname(protection.host_name);
            Ok(())
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let (mut client, connection) = config
                .connect(tls)
                .await
                .context("the database can't be reached")?;
            // Its error is the next query's, too.
            let connection = tokio::spawn(connection);
            let read = all(&mut client)
                .await
                .context("is no simple-kbs database that can be read");
            drop(client);
            let _ = connection.await;
            read
        })
    }

    fn config(&self) -> anyhow::Result<(Config, Protection)> {
        let (url, said) = sslmode(self.url);
        // The parser's error quotes no values.
        let mut config: Config = url.parse().context(
            "--db: expected postgres://USER@HOST:PORT/DATABASE?sslmode=…, or postgres://USER@%2Ffolder%2Fof%2Fsocket/DATABASE",
        )?;
        if config.get_password().is_some() {
            bail!(
                "--db: the URL has a password, which anybody on this machine reads in the list of processes: put it into a file and name that with --db-password-file"
            );
        }
        if let Some(path) = self.password {
            let text = std::fs::read(path).with_context(|| path.display().to_string())?;
            let text = Zeroizing::new(text);
            let word = text.strip_suffix(b"\n").unwrap_or(&text);
            config.password(word.strip_suffix(b"\r").unwrap_or(word));
        }
        let near = config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
            Host::Unix(_) => true,
        });
        // These are what is connected to, whatever the names say.
        let near = near && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
        let protection = protection(said.as_deref(), near)?;
        if !protection.host_name && self.ca.is_none() {
            bail!(
                "--db: sslmode=verify-ca takes any name, so that it needs --db-ca: an authority that signs for your database alone"
            );
        }
        config.ssl_mode(protection.mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(PATIENCE);
        }
        Ok((config, protection))
    }
}

/// The URL without `sslmode`, and what that said: this driver knows fewer of its words than others do.
fn sslmode(url: &str) -> (String, Option<String>) {
    let Some((place, query)) = url.split_once('?') else {
        return (url.to_owned(), None);
    };
    let (modes, others): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|part| part.starts_with("sslmode="));
    let mode = modes.last().and_then(|mode| mode.split_once('='));
    let url = match others.as_slice() {
        [] => place.to_owned(),
        others => format!("{place}?{}", others.join("&")),
    };
    (url, mode.map(|(_, mode)| mode.to_owned()))
}

/// Secrets cross the network: what leaves this machine is encrypted to a server that is known, unless it is said
/// otherwise.
fn protection(said: Option<&str>, near: bool) -> anyhow::Result<Protection> {
    let (mode, host_name) = match said {
        None if near => (SslMode::Disable, true),
        None | Some("require" | "verify-full") => (SslMode::Require, true),
        Some("verify-ca") => (SslMode::Require, false),
        Some("prefer") => (SslMode::Prefer, true),
        Some("disable") => (SslMode::Disable, true),
        Some(_) => bail!("--db: sslmode: expected disable, prefer, require, verify-ca or verify-full"),
    };
    Ok(Protection { mode, host_name })
}

async fn all(client: &mut Client) -> Result<SimpleKbs, tokio_postgres::Error> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let t = &transaction;
    let sql = "SELECT id::bigint, allowed_digests::text, allowed_policies::text, min_fw_api_major::bigint,
                      min_fw_api_minor::bigint, allowed_build_ids::text, valid::int
               FROM policy ORDER BY id";
    let policies = rows(t, sql, |row| {
        Ok(PolicyRow {
            id: row.try_get(0)?,
            allowed_digests: row.try_get(1)?,
            allowed_policies: row.try_get(2)?,
            min_fw_api_major: row.try_get(3)?,
            min_fw_api_minor: row.try_get(4)?,
            allowed_build_ids: row.try_get(5)?,
            valid: row.try_get::<_, Option<i32>>(6)? == Some(1),
        })
    });
    let sql = "SELECT keysetid::text, kskeys::text, polid::bigint FROM keysets ORDER BY id";
    let keysets = rows(t, sql, |row| {
        Ok(KeySetRow {
            id: row.try_get(0)?,
            keys: row.try_get(1)?,
            policy: row.try_get(2)?,
        })
    });
    let sql = "SELECT secret_id::text, secret::text, polid::bigint FROM secrets ORDER BY id";
    let secrets = rows(t, sql, secret);
    let mut kbs = SimpleKbs {
        policies: policies.await?,
        secrets: secrets.await?,
        keysets: keysets.await?,
        ..SimpleKbs::default()
    };
    if there(t, "report_keypair").await? {
        let sql = "SELECT key_id::text, keypair::text, polid::bigint FROM report_keypair ORDER BY id";
        kbs.report_keys = rows(t, sql, secret).await?;
    }
    if there(t, "resources").await? {
        let sql = "SELECT resource_id::text, resource_path::text, polid::bigint FROM resources ORDER BY id";
        kbs.resources = rows(t, sql, |row| {
            Ok(ResourceRow {
                id: row.try_get(0)?,
                path: row.try_get(1)?,
                policy: row.try_get(2)?,
            })
        })
        .await?;
    }
    if there(t, "conn_bundle").await? {
        let counted = t.query_one("SELECT count(*) FROM conn_bundle", &[]).await?;
        kbs.connections = counted.try_get::<_, i64>(0)?.unsigned_abs();
    }
    Ok(kbs)
}

fn secret(row: &Row) -> Result<SecretRow, tokio_postgres::Error> {
    Ok(SecretRow {
        id: row.try_get(0)?,
        value: row.try_get::<_, Option<String>>(1)?.map(Zeroizing::new),
        policy: row.try_get(2)?,
    })
}

async fn there(transaction: &Transaction<'_>, table: &str) -> Result<bool, tokio_postgres::Error> {
    let sql = "SELECT to_regclass($1::text) IS NOT NULL";
    transaction.query_one(sql, &[&table]).await?.try_get(0)
}

async fn rows<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    read: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>, tokio_postgres::Error> {
    let found = transaction.query(sql, &[]).await?;
    found.iter().map(read).collect()
}

//! The database under test: SQLite in the test's folder, or PostgreSQL where `STORE_UNDER_TEST=postgres` asks for that.
//! `tests/run` runs what is about the store's contract twice.

use std::path::Path;
use std::time::Duration;

use keyward::store::postgres::Options;
use keyward::store::{SqlStore, sqlite::FILE};

use super::postgres::Database;

/// Where a test's server stores everything.
pub(crate) enum Place {
    Folder,
    Postgres(Database<'static>),
}

impl Place {
    /// A new one, empty.
    pub(crate) fn new() -> Self {
        match std::env::var("STORE_UNDER_TEST").as_deref() {
            Ok("postgres") => Self::Postgres(
                Database::new()
                    .expect("STORE_UNDER_TEST=postgres needs PostgreSQL: apt-get install postgresql"),
            ),
            Ok(other) => panic!("STORE_UNDER_TEST={other}: expected postgres"),
            Err(_) => Self::Folder,
        }
    }

    pub(crate) fn open(&self, folder: &Path, create: bool) -> SqlStore {
        match self {
            Self::Folder => SqlStore::open(folder, create).unwrap(),
            Self::Postgres(database) => connect(&database.url(), create),
        }
    }

    /// Changes it behind the server's back; how many rows were touched.
    pub(crate) fn sql(&self, folder: &Path, statement: &str) -> usize {
        match self {
            Self::Folder => {
                let connection = rusqlite::Connection::open(folder.join(FILE)).unwrap();
                connection.busy_timeout(Duration::from_secs(10)).unwrap();
                connection.pragma_update(None, "foreign_keys", false).unwrap();
                connection.execute(statement, []).unwrap()
            }
            Self::Postgres(database) => {
                let statement = statement.replace("x'", "'\\x").replace("datetime(", "(");
                // What it touched is what it returns.
                let counted = format!(
                    "SET session_replication_role = replica; WITH touched AS ({statement} RETURNING 1) SELECT count(*) FROM touched"
                );
                let said = database.sql(&counted);
                said.trim().parse().unwrap()
            }
        }
    }
}

/// A store on a PostgreSQL database.
pub(crate) fn connect(url: &str, create: bool) -> SqlStore {
    let options = Options {
        url: url.to_owned(),
        password: None,
        tls: None,
        plaintext: false,
        connections: 6,
        wait: Duration::from_secs(30),
    };
    SqlStore::connect(&options, create).unwrap()
}

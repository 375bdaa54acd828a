//! A throw-away PostgreSQL, from Debian's package: one cluster for all tests of a machine, a database for each test, and
//! clusters of their own for tests that stop theirs.
//!
//! A cluster listens on a UNIX socket in its folder. Whoever uses it holds a lock, which goes with the process however
//! that ends; a watcher stops the cluster and removes its folder once nobody has held the lock for a while. So tests that
//! run side by side or one after another share one, and a test that is killed leaves none behind.

use std::fs::{self, File};
use std::io::{Error, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Who owns all databases.
pub(crate) const USER: &str = "keyward";

/// Stops the cluster in `$1` once nobody has used it for `$2` looks, one each second.
const WATCHER: &str = r#"
cd / && exec 8>"$1/lock" 9>"$1/users" || exit
idle=0
while sleep 1; do
    [ -f "$1/cluster/data/PG_VERSION" ] || exit
    flock -n 8 || continue
    if flock -n 9; then idle=$((idle + 1)); else idle=0; fi
    if [ "$idle" -ge "$2" ]; then
        server=$(head -n 1 "$1/cluster/data/postmaster.pid" 2>/dev/null)
        [ -z "$server" ] || kill -QUIT "$server"
        while [ -n "$server" ] && kill -0 "$server" 2>/dev/null; do sleep 0.1; done
        rm -rf "$1/cluster"
        [ "$2" -gt 1 ] || rm -rf "$1"
        exit
    fi
    flock -u 9
    flock -u 8
done
"#;

/// Looks after which the cluster that all share is given up.
const PATIENCE: u32 = 30;

/// Where the programs are; none, said aloud, where PostgreSQL is not installed. `tests/run` installs it and sets
/// `KEYWARD_POSTGRES=required`, under which its absence fails.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<_> = versions
        .filter_map(|version| {
            let path = version.unwrap().path();
            let number: u32 = path.file_name()?.to_str()?.parse().ok()?;
            Some((number, path.join("bin")))
        })
        .filter(|(_, path)| path.join("initdb").exists() && path.join("psql").exists())
        .collect();
    found.sort();
    let newest = found.pop().map(|(_, path)| path);
    if newest.is_none() {
        let required = std::env::var_os("KEYWARD_POSTGRES").is_some();
        assert!(
            !required,
            "PostgreSQL is not installed: apt-get install postgresql"
        );
        eprintln!("NOT TESTED: PostgreSQL, as it (Debian's package postgresql) is not installed");
    }
    newest
}

/// The account that PostgreSQL runs under where these tests are root, which it refuses to be.
fn account() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let mut parts = accounts
            .lines()
            .find(|line| line.split(':').next() == Some(name))?
            .split(':')
            .skip(2);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let found = of("postgres").or_else(|| of("nobody"));
    Some(found.expect("no account `postgres` or `nobody` to run PostgreSQL under"))
}

/// A running PostgreSQL.
pub(crate) struct Cluster {
    programs: PathBuf,
    account: Option<(u32, u32)>,
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    shared: bool,
    /// Held as long as this process uses the cluster.
    _users: File,
}

impl Cluster {
    /// The one that all tests share; none where PostgreSQL is not installed. It loses what was not written when the
    /// machine goes down, for speed.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            let programs = programs()?;
            let user = rustix::process::getuid().as_raw();
            let name = Path::new(env!("CARGO_MANIFEST_DIR"))
                .as_os_str()
                .as_encoded_bytes();
            let of_checkout = &hex::encode(openssl::sha::sha256(name))[..8];
            let folder = std::env::temp_dir().join(format!("keyward-postgres-{user}-{of_checkout}"));
            let settings = ["max_connections=300", "listen_addresses=''"];
            Some(Self::used(programs, folder, 5432, &settings, true, |_| {}))
        });
        shared.as_ref()
    }

    /// One that is this test's alone, which may stop it; `settings` as in `listen_addresses=''`. It ends with the value.
    pub(crate) fn alone(settings: &[&str]) -> Option<Self> {
        let settings = [&["listen_addresses=''"], settings].concat();
        Some(Self::used(programs()?, fresh(), 5432, &settings, false, |_| {}))
    }

    /// One that is this test's alone and is reached on a loopback port, too, over TLS only. [`USER`] needs no password
    /// there, and anybody else does.
    pub(crate) fn with_tls(certificate: &[u8], key: &[u8]) -> Option<Self> {
        let programs = programs()?;
        // Another may take the port before PostgreSQL does; then it does not start, and says so.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let settings = [
            "listen_addresses=127.0.0.1",
            "ssl=on",
            "ssl_cert_file=server.crt",
            "ssl_key_file=server.key",
        ];
        let cluster = Self::used(programs, fresh(), port, &settings, false, |cluster| {
            for (name, bytes) in [("server.crt", certificate), ("server.key", key)] {
                let path = cluster.data().join(name);
                let mut options = File::options();
                let mut file = options
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)
                    .unwrap();
                file.write_all(bytes).unwrap();
                cluster.own(&path);
            }
            let rules = format!(
                "local all {USER} trust\nhostssl all {USER} 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
            );
            // Written over, so that it stays its owner's.
            fs::write(cluster.data().join("pg_hba.conf"), rules).unwrap();
        });
        Some(cluster)
    }

    /// The cluster of a folder, which is made and started where it is not there or does not run.
    fn used(
        programs: PathBuf,
        folder: PathBuf,
        port: u16,
        settings: &[&str],
        shared: bool,
        prepare: impl FnOnce(&Self),
    ) -> Self {
        match fs::DirBuilder::new().mode(0o711).create(&folder) {
            Ok(()) => {}
            Err(error) => assert_eq!(
                error.kind(),
                std::io::ErrorKind::AlreadyExists,
                "{}",
                folder.display()
            ),
        }
        let folder_is = fs::symlink_metadata(&folder).unwrap();
        assert!(folder_is.is_dir() && folder_is.uid() == rustix::process::getuid().as_raw());
        let lock = opened(&folder.join("lock"));
        lock.lock().unwrap();
        let users = opened(&folder.join("users"));
        users.lock_shared().unwrap();
        let cluster = Self {
            programs,
            account: account(),
            folder,
            port,
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            shared,
            _users: users,
        };
        if UnixStream::connect(cluster.socket().join(format!(".s.PGSQL.{port}"))).is_err() {
            cluster.make();
            prepare(&cluster);
            cluster.start();
            cluster.watch();
        }
        lock.unlock().unwrap();
        cluster
    }

    /// Makes the cluster anew. Left behind may be one that a machine went down under.
    fn make(&self) {
        match fs::remove_dir_all(self.socket()) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
        fs::DirBuilder::new().mode(0o700).create(self.socket()).unwrap();
        self.own(&self.socket());
        let mut initdb = self.program("initdb");
        initdb.arg("-D").arg(self.data()).args([
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        self.done(&mut initdb);
    }

    fn watch(&self) {
        let patience = if self.shared { PATIENCE } else { 1 };
        let mut starter = Command::new("sh");
        starter
            .args(["-c", "sh -c \"$0\" watcher \"$@\" &", WATCHER])
            .arg(&self.folder)
            .arg(patience.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // It outlives this process, and whoever ends the process's group.
        assert!(starter.process_group(0).status().unwrap().success());
    }

    /// Starts it, again after [`kill`](Self::kill), and waits until it answers.
    pub(crate) fn start(&self) {
        let mut options = format!("-k {} -p {}", self.socket().display(), self.port);
        let quick = ["fsync=off", "full_page_writes=off", "shared_buffers=32MB"];
        for setting in quick.into_iter().chain(self.settings.iter().map(String::as_str)) {
            options.push_str(&format!(" -c {setting}"));
        }
        let mut start = self.program("pg_ctl");
        start
            .arg("-D")
            .arg(self.data())
            .args(["-w", "-s", "-o", &options, "-l"]);
        self.done(start.arg(self.socket().join("log")).arg("start"));
    }

    /// Ends all of its processes at once, as if its machine had lost power: what was committed is kept.
    pub(crate) fn kill(&self) {
        assert!(!self.shared, "other tests use it, too");
        let mut stop = self.program("pg_ctl");
        self.done(
            stop.arg("-D")
                .arg(self.data())
                .args(["-w", "-s", "-m", "immediate", "stop"]),
        );
    }

    /// A new database, empty.
    pub(crate) fn database(&self) -> Database<'_> {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        Database { cluster: self, name }
    }

    /// Runs SQL as `psql` does; what it printed, unaligned and without headers.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let ran = self.psql(database, sql).output().unwrap();
        assert!(
            ran.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8(ran.stdout).unwrap()
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.arg("-h")
            .arg(self.socket())
            .args(["-p", &self.port.to_string(), "-U", USER]);
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
            "-c",
            sql,
        ]);
        psql.stdin(Stdio::null());
        psql
    }

    /// The folder of its socket, as in `host=…`.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("cluster")
    }

    fn data(&self) -> PathBuf {
        self.socket().join("data")
    }

    fn own(&self, path: &Path) {
        if let Some((user, group)) = self.account {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir("/").stdin(Stdio::null());
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }

    /// Runs it. What it says goes to a file, as a server that it starts would keep a pipe open.
    fn done(&self, command: &mut Command) {
        let said = self.folder.join("said");
        let file = File::create(&said).unwrap();
        let status = command.stdout(file.try_clone().unwrap()).stderr(file).status();
        let log = || fs::read_to_string(self.socket().join("log")).unwrap_or_default();
        let all = || format!("{command:?}: {}{}", fs::read_to_string(&said).unwrap(), log());
        assert!(status.unwrap().success(), "{}", all());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The one that is shared is a static, which is never dropped.
        let mut stop = self.program("pg_ctl");
        stop.arg("-D")
            .arg(self.data())
            .args(["-w", "-s", "-m", "immediate", "stop"]);
        // It may have been killed.
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A database of one test, which goes with the value.
pub(crate) struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Database<'_> {
    /// One in the cluster that all share; none where PostgreSQL is not installed.
    pub(crate) fn new() -> Option<Database<'static>> {
        Cluster::shared().map(Cluster::database)
    }

    /// Its URL, over the socket.
    pub(crate) fn url(&self) -> String {
        let socket = self.cluster.socket();
        let host = socket.to_str().unwrap().replace('/', "%2F");
        format!("postgres://{USER}@{host}:{}/{}", self.cluster.port, self.name)
    }

    /// Its URL over TCP, for a user and with what the query says, as in `sslmode=require`.
    pub(crate) fn tcp_url(&self, user: &str, query: &str) -> String {
        format!(
            "postgres://{user}@127.0.0.1:{}/{}?{query}",
            self.cluster.port, self.name
        )
    }

    /// Runs SQL in it; what was printed, unaligned and without headers.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.name, sql)
    }
}

impl Database<'_> {
    /// Why SQL is refused in it.
    pub(crate) fn fails(&self, sql: &str) -> String {
        let ran = self.cluster.psql(&self.name, sql).output().unwrap();
        assert!(!ran.status.success(), "{sql} was done");
        String::from_utf8_lossy(&ran.stderr).into_owned()
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // Its cluster may have been killed, and a second panic would hide the first.
        let _ = self.cluster.psql("postgres", &sql).output();
    }
}

/// A folder that is nobody else's.
fn fresh() -> PathBuf {
    let folder = tempfile::Builder::new()
        .prefix("keyward-pg-")
        .tempdir()
        .unwrap()
        .keep();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

fn opened(path: &Path) -> File {
    let mut options = File::options();
    let opened: Result<File, Error> = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

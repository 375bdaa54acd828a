//! `examples/libvirt`: its script, against a stand-in for libvirt's module that keeps to libvirt's own names, with a
//! real server and a software PSP behind it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use keyward::domain::Base64Bytes;
use keyward::psp::{Guest, Platform};
use serde_json::{Value, json};

use crate::cli_host_run::House;
use crate::support::cli::{Ran, ran};
use crate::support::host::{IMAGE, WORKLOAD};
use crate::support::qemu::Script;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/libvirt");

/// The module: each call is a line on a socket to the test, which plays libvirtd.
const MODULE: &str = r#"
import json, os, signal, socket

VIR_DOMAIN_START_PAUSED = 1
VIR_DOMAIN_AFFECT_LIVE = 1

class libvirtError(Exception):
    pass

_daemon = socket.socket(socket.AF_UNIX)
_daemon.connect(os.environ["LIBVIRTD"])
_lines = _daemon.makefile("rw")

def _call(name, **arguments):
    _lines.write(json.dumps({"call": name, **arguments}) + "\n")
    _lines.flush()
    answer = json.loads(_lines.readline())
    if "signal" in answer:
        os.kill(os.getpid(), signal.SIGTERM)
    if "error" in answer:
        raise libvirtError(answer["error"])
    return answer["value"]

class virDomain:
    def UUIDString(self): return "6f4d2f3c-7a7c-4dd5-8e33-f6bd3c7a3a11"
    def name(self): return "guest"
    def launchSecurityInfo(self, flags=0): return _call("launchSecurityInfo", flags=flags)
    def setLaunchSecurityState(self, params, flags=0): _call("setLaunchSecurityState", params=params, flags=flags)
    def resume(self): _call("resume")
    def destroy(self): _call("destroy")

class virConnect:
    def getSEVInfo(self, flags=0): return _call("getSEVInfo", flags=flags)
    def createXML(self, xml, flags=0):
        _call("createXML", xml=xml, flags=flags)
        return virDomain()
    def close(self): pass

def open(uri=None):
    return virConnect()
"#;

/// What libvirtd did.
#[derive(Default)]
struct Done {
    calls: Vec<String>,
    injected: Option<Vec<u8>>,
}

/// Plays libvirtd for one client.
struct Libvirtd {
    platform: Platform,
    image: &'static [u8],
    fails: Option<&'static str>,
    done: Arc<Mutex<Done>>,
}

impl Libvirtd {
    fn serve(&self, stream: &UnixStream) {
        let mut guest: Option<(Guest, [u8; 48])> = None;
        let mut writer = stream.try_clone().unwrap();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let request: Value = serde_json::from_str(&line).unwrap();
            let call = request["call"].as_str().unwrap();
            self.done.lock().unwrap().calls.push(call.to_owned());
            let answer = if self.fails == Some("SIGTERM") && call == "launchSecurityInfo" {
                json!({"signal": 15, "value": {}})
            } else if self.fails == Some("no measurement") && call == "launchSecurityInfo" {
                json!({"value": {"sev-policy": 3}})
            } else if self.fails == Some(call) {
                json!({"error": format!("internal error: {call}")})
            } else {
                json!({"value": self.answer(call, &request, &mut guest)})
            };
            let _ = writeln!(writer, "{answer}");
        }
    }

    fn answer(&self, call: &str, request: &Value, guest: &mut Option<(Guest, [u8; 48])>) -> Value {
        match call {
            "getSEVInfo" => json!({
                "pdh": Base64Bytes(self.platform.pdh()),
                "cert-chain": Base64Bytes(self.platform.full_chain()),
                "cpu0-id": Base64Bytes(self.platform.chip_id().to_vec()),
                "cbitpos": 51, "reduced-phys-bits": 1, "max-guests": 509, "max-es-guests": 0,
            }),
            "createXML" => {
                assert_eq!(request["flags"], 1, "the guest is created paused");
                let xml = request["xml"].as_str().unwrap();
                let element = |name: &str| {
                    let (_, rest) = xml
                        .split_once(&format!("<{name}>"))
                        .unwrap_or_else(|| panic!("{name}: {xml}"));
                    rest.split("</").next().unwrap().trim().to_owned()
                };
                let bytes = |name: &str| BASE64_STANDARD.decode(element(name)).unwrap();
                let policy = u32::from_str_radix(element("policy").trim_start_matches("0x"), 16).unwrap();
                let mut started = self
                    .platform
                    .launch_start(policy, &bytes("dhCert"), &bytes("session"))
                    .unwrap();
                assert_eq!(
                    (element("cbitpos"), element("reducedPhysBits")),
                    ("51".to_owned(), "1".to_owned())
                );
                started.launch_update_data(self.image).unwrap();
                let measurement = started.launch_measure().unwrap();
                *guest = Some((started, measurement));
                Value::Null
            }
            "launchSecurityInfo" => {
                let (guest, measurement) = guest.as_ref().unwrap();
                let build = guest.build();
                json!({
                    "sev-measurement": Base64Bytes(measurement.to_vec()),
                    "sev-api-major": build.api_major, "sev-api-minor": build.api_minor,
                    "sev-build-id": build.build_id, "sev-policy": guest.policy().bits(),
                })
            }
            "setLaunchSecurityState" => {
                let (guest, _) = guest.as_ref().unwrap();
                let bytes = |name: &str| {
                    BASE64_STANDARD
                        .decode(request["params"][name].as_str().unwrap())
                        .unwrap()
                };
                let (header, secret) = (bytes("sev-secret-header"), bytes("sev-secret"));
                let table = guest.launch_secret(&header, &secret, secret.len()).unwrap();
                self.done.lock().unwrap().injected = Some(table.to_vec());
                Value::Null
            }
            "resume" | "destroy" => Value::Null,
            other => panic!("libvirt has no {other}"),
        }
    }
}

/// Runs the script on this image, with a call that fails.
fn run(house: &House, image: &'static [u8], fails: Option<&'static str>) -> (Ran, Arc<Mutex<Done>>) {
    run_with(house, image, fails, env!("CARGO_BIN_EXE_keyward"))
}

fn run_with(
    house: &House,
    image: &'static [u8],
    fails: Option<&'static str>,
    keyward: &str,
) -> (Ran, Arc<Mutex<Done>>) {
    let shell = &house.shell;
    shell.write("stub/libvirt.py", MODULE);
    let socket = shell.path("libvirtd");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let done = Arc::<Mutex<Done>>::default();
    let libvirtd = Libvirtd {
        platform: Platform::clone(house.machine.platform()),
        image,
        fails,
        done: done.clone(),
    };
    std::thread::spawn(move || libvirtd.serve(&listener.accept().unwrap().0));
    let mut python = shell.command("python3");
    python
        .env("PYTHONPATH", shell.path("stub"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", std::env::var_os("HOME").unwrap_or_default())
        .env("LIBVIRTD", &socket)
        .arg(format!("{EXAMPLE}/start-guest.py"))
        .args(["--keyward", keyward, "--workload", WORKLOAD, "--timeout", "0s"])
        .arg(format!("{EXAMPLE}/guest.xml"));
    (ran(&mut python), done)
}

#[test]
fn the_script_starts_a_guest_through_libvirt_with_its_secrets() {
    let house = House::new(Script::default());
    let (ran, done) = run(&house, IMAGE, None);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let done = done.lock().unwrap();
    assert_eq!(
        done.calls,
        [
            "getSEVInfo",
            "createXML",
            "launchSecurityInfo",
            "setLaunchSecurityState",
            "resume"
        ]
    );
    let table = keyward::sev::secret_table::parse(done.injected.as_ref().unwrap()).unwrap();
    assert_eq!(&*table[0].data, b"hunter2");
    assert!(
        ran.out.contains("guest runs, with the secrets of decision "),
        "{}",
        ran.out
    );
}

#[test]
fn whatever_fails_the_guest_is_destroyed_and_never_resumed() {
    let house = House::new(Script::default());
    let refused = (
        b"an image that nobody has reviewed, 48 bytes long" as &[u8],
        None,
        2,
    );
    for (image, fails, code) in [
        refused,
        (IMAGE, Some("launchSecurityInfo"), 1),
        (IMAGE, Some("setLaunchSecurityState"), 1),
        (IMAGE, Some("resume"), 1),
        (IMAGE, Some("no measurement"), 1),
        (IMAGE, Some("SIGTERM"), 143),
    ] {
        let (ran, done) = run(&house, image, fails);
        assert_eq!(ran.code, code, "{fails:?}: {}{}", ran.out, ran.err);
        let calls = &done.lock().unwrap().calls;
        assert_eq!(calls.last().unwrap(), "destroy", "{calls:?}");
        assert_eq!(
            calls.iter().any(|call| call == "resume"),
            fails == Some("resume"),
            "{calls:?}"
        );
        assert!(!ran.err.contains("Traceback"), "{}", ran.err);
    }
    // What never was there can't be destroyed.
    for fails in ["getSEVInfo", "createXML"] {
        let (ran, done) = run(&house, IMAGE, Some(fails));
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert_eq!(done.lock().unwrap().calls.last().unwrap(), fails);
    }
    // Nor is one started on what is no answer.
    for (program, expected) in [
        ("echo", "printed no JSON: "),
        ("true", "printed no JSON: "),
        ("./empty", "lacks 'policy'"),
    ] {
        house.shell.write("empty", "#!/bin/sh\necho {}\n");
        std::fs::set_permissions(house.shell.path("empty"), PermissionsExt::from_mode(0o755)).unwrap();
        let (ran, done) = run_with(&house, IMAGE, None, program);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(
            ran.err.contains(expected) && !ran.err.contains("Traceback"),
            "{program}: {}",
            ran.err
        );
        assert_eq!(done.lock().unwrap().calls.last().unwrap(), "getSEVInfo");
    }
}

#[test]
fn the_domain_is_well_formed_and_has_a_place_for_each_part_of_a_launch() {
    let house = House::new(Script::default());
    let check = "import sys, xml.etree.ElementTree as E; r = E.parse(sys.argv[1]).getroot(); s = r.find('launchSecurity'); \
                 print(s.get('type'), s.get('kernelHashes'), sorted(e.tag for e in s)); \
                 print([r.find(p) is not None for p in ('features/acpi', 'memoryBacking/locked', 'devices/memballoon[@model=\"none\"]')], \
                 all(d.find('driver').get('iommu') == 'on' for d in r.iter() if d.find('target[@bus=\"virtio\"]') is not None))";
    let mut python = house.shell.command("python3");
    let home = std::env::var_os("HOME").unwrap_or_default();
    let ran = ran(python
        .env("HOME", home)
        .args(["-c", check])
        .arg(format!("{EXAMPLE}/guest.xml")));
    assert_eq!(ran.done(), "sev yes ['policy']\n[True, True, True] True\n");
}

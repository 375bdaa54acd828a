//! `deploy/`: the unit, the image, the Compose file and the chart say what this program understands, and stay locked
//! down.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::deploy_chart::{chart, rendered, values};
use crate::support::Shell;
use crate::support::cli::{KEYWARD, ran};

pub(crate) fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

pub(crate) fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Sections of a unit; an option that is given twice has both values.
fn unit(text: &str) -> BTreeMap<(String, String), Vec<String>> {
    let (mut section, mut options) = (String::new(), BTreeMap::<_, Vec<_>>::new());
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
            continue;
        }
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        options
            .entry((section.clone(), name.to_owned()))
            .or_default()
            .push(value.to_owned());
    }
    options
}

/// Every long option of a command line is one that its verb knows.
#[track_caller]
fn understood(arguments: &[String]) {
    let shell = Shell::new();
    let verbs: Vec<_> = arguments
        .iter()
        .take_while(|word| !word.starts_with('-'))
        .map(String::as_str)
        .collect();
    let help = shell.run(&[&verbs[..], &["--help"]].concat()).done();
    let mut options = 0;
    for option in arguments.iter().filter(|word| word.starts_with("--")) {
        let name = option.split('=').next().unwrap();
        let known = help.split_whitespace().any(|word| word == name);
        assert!(known, "{name} is no option of {verbs:?}");
        options += 1;
    }
    assert!(options > 0, "{arguments:?}");
}

#[test]
fn the_unit_starts_what_the_program_understands_and_is_locked_down() {
    let options = unit(&file("systemd/keyward.service"));
    let get = |section: &str, name: &str| options.get(&(section.to_owned(), name.to_owned())).cloned();
    let service = |name: &str| get("Service", name).unwrap_or_else(|| panic!("{name} is not set"));
    let start = service("ExecStart");
    let words: Vec<_> = start[0].split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[0], "/usr/bin/keyward");
    understood(&words[1..]);
    assert_eq!(service("User"), ["keyward"]);
    // It says itself when it serves, that it is alive, and when a reload is done.
    assert_eq!(service("Type"), ["notify"]);
    assert_eq!(service("ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    assert!(service("WatchdogSec")[0].parse::<u32>().unwrap() >= 30);
    let state = format!("/var/lib/{}", service("StateDirectory")[0]);
    assert!(words.contains(&state));
    assert_eq!(
        get("Unit", "AssertPathExists").unwrap(),
        std::slice::from_ref(&state)
    );
    assert!(file("systemd/keyward.sysusers").contains(&format!("u keyward - \"Keyward server\" {state}\n")));
    for (name, value) in [
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("PrivateUsers", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectControlGroups", "yes"),
        ("ProtectClock", "yes"),
        ("ProtectHostname", "yes"),
        ("ProtectProc", "invisible"),
        ("RestrictNamespaces", "yes"),
        ("RestrictRealtime", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("LockPersonality", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("SystemCallArchitectures", "native"),
        ("UMask", "0077"),
        ("StateDirectoryMode", "0700"),
        // Keys are in memory.
        ("LimitCORE", "0"),
        ("MemorySwapMax", "0"),
    ] {
        assert_eq!(service(name), [value], "{name}");
    }
    assert_eq!(service("SystemCallFilter"), ["@system-service", "~@privileged"]);
    assert_eq!(service("RestrictAddressFamilies"), ["AF_INET AF_INET6 AF_UNIX"]);
}

#[test]
fn the_host_s_unit_comes_and_goes_with_the_guest_s_and_a_guest_may_lock_its_memory() {
    let options = unit(&file("systemd/keyward-host@.service"));
    let get = |section: &str, name: &str| options.get(&(section.to_owned(), name.to_owned())).cloned();
    assert_eq!(get("Unit", "StopWhenUnneeded").unwrap(), ["yes"]);
    assert_eq!(get("Unit", "Before").unwrap(), ["guest@%i.service"]);
    assert!(options.keys().all(|(section, _)| section != "Install"));
    assert_eq!(get("Service", "SuccessExitStatus").unwrap(), ["143"]);
    // Whoever it runs as reads no file of the machine's but by systemd's hand.
    let start = get("Service", "ExecStart").unwrap();
    for credential in get("Service", "LoadCredential").unwrap() {
        let (name, path) = credential.split_once(':').unwrap();
        assert!(start[0].contains(&format!(" %d/{name}")), "{name}");
        assert!(!start[0].contains(path), "{path}");
    }
    let docs = include_str!("../docs/host.md");
    let from = docs.find("    [Unit]").unwrap();
    let lines = docs[from..].lines().take_while(|line| line.starts_with("    "));
    let guest = unit(&lines.collect::<Vec<_>>().join("\n"));
    let get = |section: &str, name: &str| guest[&(section.to_owned(), name.to_owned())][0].as_str();
    assert_eq!(get("Unit", "BindsTo"), "keyward-host@%i.service");
    assert_eq!(get("Unit", "After"), "keyward-host@%i.service");
    assert_eq!(get("Service", "LimitMEMLOCK"), "infinity");
    assert_eq!(get("Install", "WantedBy"), "multi-user.target");
}

#[test]
fn systemd_takes_the_unit_and_finds_little_that_it_exposes() {
    let shell = Shell::new();
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("NOT TESTED: what systemd says of the unit, as there is no `systemd-analyze`");
        return;
    }
    // It looks for the program, which is not installed where tests run.
    let text = file("systemd/keyward.service").replace("/usr/bin/keyward", KEYWARD);
    shell.write("keyward.service", text);
    let analyze = |arguments: &[&str]| {
        ran(shell
            .command("systemd-analyze")
            .args(arguments)
            .arg("keyward.service"))
    };
    let verified = analyze(&["verify", "--man=no"]);
    let about: Vec<_> = verified
        .err
        .lines()
        .filter(|line| line.contains("keyward"))
        .collect();
    assert_eq!((verified.code, about), (0, vec![]));
    // In tenths: 1.4 when this was written, of 10.0.
    let judged = analyze(&["security", "--offline=true", "--threshold=15"]);
    assert_eq!(judged.code, 0, "{}{}", judged.out, judged.err);
}

/// The last stage's instructions, and those before it.
fn stages(text: &str) -> Vec<Vec<(String, String)>> {
    let text = text.replace("\\\n", " ");
    let mut stages = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
    {
        let (instruction, rest) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            stages.push(Vec::new());
        }
        let stage: &mut Vec<_> = stages.last_mut().expect("an instruction before FROM");
        stage.push((instruction.to_owned(), rest.to_owned()));
    }
    stages
}

#[test]
fn the_image_has_the_program_no_shell_no_root_and_nothing_of_its_build() {
    let stages = stages(&file("Containerfile"));
    let [build, last] = &stages[..] else {
        panic!("{} stages", stages.len())
    };
    let all = |stage: &[(String, String)], name: &str| -> Vec<String> {
        let found = stage.iter().filter(|(instruction, _)| instruction == name);
        found.map(|(_, rest)| rest.clone()).collect()
    };
    assert!(all(last, "FROM")[0].contains("distroless") && all(last, "FROM")[0].ends_with(":nonroot"));
    assert!(all(build, "FROM")[0].starts_with("docker.io/library/rust:"));
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(
        all(build, "FROM")[0].contains(&format!("rust:{version}-bookworm ")),
        "both are of Debian 12"
    );
    assert!(all(build, "RUN")[0].contains("--release --locked"));
    assert_eq!(all(last, "USER"), ["65532:65532"]);
    assert!(all(last, "RUN").is_empty() && all(last, "ADD").is_empty());
    let copied = all(last, "COPY");
    assert!(
        copied.iter().all(|copy| copy.starts_with("--from=build ")),
        "{copied:?}"
    );
    let program: Vec<_> = copied.iter().filter(|copy| !copy.contains("/empty ")).collect();
    assert_eq!(program.len(), 1);
    // The program belongs to root: who runs it can't replace it.
    assert!(program[0].contains("--chown=0:0 ") && program[0].ends_with(" /usr/bin/keyward"));
    assert_eq!(all(last, "ENTRYPOINT"), ["[\"/usr/bin/keyward\"]"]);
    let command: Vec<String> = serde_json::from_str(&all(last, "CMD")[0]).unwrap();
    understood(&command);
    let volumes: Vec<String> = serde_json::from_str(&all(last, "VOLUME")[0]).unwrap();
    assert_eq!(volumes, ["/var/lib/keyward", "/var/lib/keyward-key"]);

    // Nothing reaches the build that is not named, and all that is named is there.
    let ignored = file("Containerfile.dockerignore");
    let mut lines = ignored.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"));
    for line in lines {
        let name = line.strip_prefix('!').unwrap();
        assert!(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(name)
                .exists(),
            "{name}"
        );
    }
}

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn compose_runs_it_read_only_without_capabilities_and_asks_whether_it_lives() {
    let compose = yaml(&file("compose.yaml"));
    let merged = |name: &str| {
        let mut service = compose["x-locked"].as_object().unwrap().clone();
        service.extend(compose["services"][name].as_object().unwrap().clone());
        Value::Object(service)
    };
    for name in ["keyward", "init"] {
        let service = merged(name);
        assert!(compose["services"][name].get("<<").is_some(), "{name}");
        assert_eq!(service["read_only"], true);
        assert_eq!(service["cap_drop"], json!(["ALL"]));
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
        assert_eq!(service["user"], "65532:65532");
        assert_eq!(service["ulimits"]["core"], 0);
        assert!(service.get("privileged").is_none() && service.get("cap_add").is_none());
        understood(&strings(&service["command"]));
        let files = strings(&service["volumes"]);
        assert!(
            files
                .iter()
                .all(|file| file.starts_with("data:") || file.starts_with("key:") || file.ends_with(":ro"))
        );
    }
    let build = &compose["x-locked"]["build"];
    assert_eq!(build["dockerfile"], "deploy/Containerfile");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(compose["x-locked"]["image"], format!("keyward:{version}"));
    let test = strings(&compose["services"]["keyward"]["healthcheck"]["test"]);
    assert_eq!(test[..2], ["CMD", "/usr/bin/keyward"]);
    understood(&test[2..]);
    assert_eq!(test[2], "health");
    assert!(strings(&merged("init")["command"]).contains(&"--if-missing".to_owned()));
    configured(&file("keyward.yaml"));
}

/// The server takes it: all that it misses is the certificate.
#[track_caller]
fn configured(text: &str) {
    let shell = Shell::initialised();
    shell.write("keyward.yaml", text);
    let serve = [
        "serve",
        "--data-dir",
        "data",
        "--config",
        "keyward.yaml",
        "--listen",
        "127.0.0.1:0",
    ];
    let refused = shell.run(&serve).failed();
    assert!(refused.contains("/etc/keyward/tls/"), "{refused}");
}

#[test]
fn the_chart_runs_one_locked_down_server_on_two_volumes() {
    let objects = rendered(&values());
    let mut kinds: Vec<_> = objects
        .iter()
        .map(|object| object["kind"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["ConfigMap", "Service", "StatefulSet"]);
    let find = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let set = &find("StatefulSet")["spec"];
    assert_eq!(set["replicas"], 1);
    let pod = &set["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(
        pod["enableServiceLinks"], false,
        "or KEYWARD_PORT would be read as configuration"
    );
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["securityContext"]["fsGroupChangePolicy"], "OnRootMismatch");
    let containers = [&pod["containers"][0], &pod["initContainers"][0]];
    for container in containers {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(container["image"], concat!("keyward:", env!("CARGO_PKG_VERSION")));
        understood(&strings(&container["args"]));
    }
    let server = containers[0];
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let get = &server[probe]["httpGet"];
        assert_eq!((&get["path"], &get["scheme"]), (&json!(path), &json!("HTTPS")));
        assert_eq!(get["port"], server["ports"][0]["name"]);
    }
    // What is mounted is there, and the key file is not where the data is.
    let claims = set["volumeClaimTemplates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|claim| &claim["metadata"]["name"]);
    let claims: Vec<_> = claims.collect();
    assert_eq!(claims, ["data", "key"]);
    let volumes: Vec<_> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| &volume["name"])
        .collect();
    for container in containers {
        for mount in container["volumeMounts"].as_array().unwrap() {
            let name = &mount["name"];
            assert!(claims.contains(&name) || volumes.contains(&name), "{name}");
            assert!(
                claims.contains(&name) || mount["readOnly"] == true || name == "tmp",
                "{name}"
            );
        }
    }
    let labels = &set["template"]["metadata"]["labels"];
    for selector in [
        &set["selector"]["matchLabels"],
        &find("Service")["spec"]["selector"],
    ] {
        for (name, value) in selector.as_object().unwrap() {
            assert_eq!(&labels[name], value, "{name}");
        }
    }
    assert_eq!(
        find("Service")["spec"]["ports"][0]["targetPort"],
        server["ports"][0]["name"]
    );
    configured(find("ConfigMap")["data"]["keyward.yaml"].as_str().unwrap());
    let version = yaml(&chart("Chart.yaml"));
    assert_eq!(version["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_chart_s_values_reach_what_they_are_for() {
    let mut values = values();
    let digest = format!("sha256:{}", "ab".repeat(32));
    values["image"]["tag"] = json!(digest);
    values["owner"] = json!("acme");
    values["data"] = json!({"size": "20Gi", "storageClassName": "fast"});
    values["nodeSelector"] = json!({"disk": "ssd"});
    values["tolerations"] = json!([{"key": "infra", "operator": "Exists"}]);
    values["config"] =
        json!({"listen": "0.0.0.0:8443", "danger_plaintext_http": true, "trusted_proxies": ["10.0.0.1"]});
    let objects = rendered(&values);
    let set = objects
        .iter()
        .find(|object| object["kind"] == "StatefulSet")
        .unwrap();
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], format!("keyward@{digest}"));
    assert!(strings(&pod["initContainers"][0]["args"]).contains(&"--owner=acme".to_owned()));
    assert_eq!(pod["nodeSelector"], json!({"disk": "ssd"}));
    assert_eq!(pod["tolerations"][0]["key"], "infra");
    assert_eq!(pod["containers"][0]["livenessProbe"]["httpGet"]["scheme"], "HTTP");
    let claims = &set["spec"]["volumeClaimTemplates"];
    assert_eq!(claims[0]["spec"]["storageClassName"], "fast");
    assert_eq!(claims[0]["spec"]["resources"]["requests"]["storage"], "20Gi");
    assert!(claims[1]["spec"].get("storageClassName").is_none());
    let config = objects
        .iter()
        .find(|object| object["kind"] == "ConfigMap")
        .unwrap();
    let config = yaml(config["data"]["keyward.yaml"].as_str().unwrap());
    assert_eq!(config, values["config"]);
}

#[test]
fn the_chart_s_values_are_described_and_wrong_ones_refused() {
    let schema: Value = serde_json::from_str(&chart("values.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good = values();
    assert!(validator.is_valid(&good));
    for name in good.as_object().unwrap().keys() {
        assert!(
            schema["properties"].get(name).is_some(),
            "{name} is not described"
        );
        let mut without = good.clone();
        without.as_object_mut().unwrap().remove(name);
        assert!(!validator.is_valid(&without), "{name} may be missing");
    }
    for (pointer, value) in [
        ("/image/pullPolicy", json!("Sometimes")),
        ("/image/tag", json!("")),
        ("/owner", json!("Two Words")),
        ("/config/listen", json!("0.0.0.0:9000")),
        ("/tls/secretName", json!("")),
        ("/data/size", json!("lots")),
        ("/service/port", json!(0)),
        ("/service/type", json!("Public")),
        ("/tolerations", json!({})),
    ] {
        let mut wrong = good.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&wrong), "{pointer}");
    }
    let mut unknown = good;
    unknown["replicas"] = json!(2);
    assert!(!validator.is_valid(&unknown));
}

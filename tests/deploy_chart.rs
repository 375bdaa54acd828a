//! Renders the chart as `helm template` does, as far as the chart goes: Go's templates by a crate, and the few functions
//! of Helm's that it calls. Where helm is installed, it lints the chart and renders the same.

use std::collections::HashMap;

use gtmpl::{Context, FuncError, Template, Value as Word};
use serde_json::{Map, Value, json};

use crate::deploy::{file, yaml};
use crate::support::Shell;
use crate::support::cli::ran;

pub(crate) fn chart(name: &str) -> String {
    file(&format!("helm/keyward/{name}"))
}

pub(crate) fn values() -> Value {
    yaml(&chart("values.yaml"))
}

const TEMPLATES: [&str; 5] = [
    "configmap.yaml",
    "metrics.yaml",
    "service.yaml",
    "servicemonitor.yaml",
    "statefulset.yaml",
];

/// The objects that the chart makes of these values.
pub(crate) fn rendered(values: &Value) -> Vec<Value> {
    TEMPLATES
        .iter()
        .map(|name| yaml(&render(&chart(&format!("templates/{name}")), values)))
        // One that is left out is an empty text.
        .filter(|object| !object.is_null())
        .collect()
}

fn render(text: &str, values: &Value) -> String {
    let root = json!({
        "Values": values,
        "Release": {"Name": "kw", "Namespace": "trust", "Service": "Helm"},
        "Chart": {"AppVersion": yaml(&chart("Chart.yaml"))["appVersion"]},
    });
    execute(text, &word(&root)).unwrap()
}

fn execute(text: &str, context: &Word) -> Result<String, String> {
    let mut template = Template::default();
    for (name, function) in FUNCTIONS {
        template.add_func(name, function);
    }
    let text = format!("{}{text}", chart("templates/_helpers.tpl"));
    template.parse(text).map_err(|error| error.to_string())?;
    template
        .render(&Context::from(context.clone()))
        .map_err(|error| error.to_string())
}

type Function = fn(&[Word]) -> Result<Word, FuncError>;

const FUNCTIONS: [(&str, Function); 7] = [
    ("include", include),
    ("toYaml", to_yaml),
    ("nindent", nindent),
    ("quote", quote),
    ("hasPrefix", has_prefix),
    ("hasKey", has_key),
    ("sha256sum", sha256sum),
];

fn include(arguments: &[Word]) -> Result<Word, FuncError> {
    let text = format!("{{{{ template {:?} . }}}}", text(&arguments[0]));
    let done = execute(&text, &arguments[1]).map_err(FuncError::Generic)?;
    Ok(done.trim_start_matches('\n').to_owned().into())
}

fn to_yaml(arguments: &[Word]) -> Result<Word, FuncError> {
    let written = serde_yaml::to_string(&plain(&arguments[0])).unwrap();
    Ok(written.trim_end().to_owned().into())
}

fn nindent(arguments: &[Word]) -> Result<Word, FuncError> {
    let blanks = " ".repeat(text(&arguments[0]).parse().unwrap());
    let lines = text(&arguments[1]);
    let lines = lines.lines().map(|line| format!("\n{blanks}{line}"));
    Ok(lines.collect::<String>().into())
}

fn quote(arguments: &[Word]) -> Result<Word, FuncError> {
    Ok(format!("{:?}", text(&arguments[0])).into())
}

fn has_prefix(arguments: &[Word]) -> Result<Word, FuncError> {
    Ok(text(&arguments[1]).starts_with(&text(&arguments[0])).into())
}

fn has_key(arguments: &[Word]) -> Result<Word, FuncError> {
    Ok(plain(&arguments[0]).get(text(&arguments[1])).is_some().into())
}

fn sha256sum(arguments: &[Word]) -> Result<Word, FuncError> {
    Ok(hex::encode(openssl::sha::sha256(text(&arguments[0]).as_bytes())).into())
}

fn text(word: &Word) -> String {
    match word {
        Word::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn word(value: &Value) -> Word {
    match value {
        Value::Null => Word::Nil,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => number.as_i64().unwrap().into(),
        Value::String(text) => text.clone().into(),
        Value::Array(items) => Word::Array(items.iter().map(word).collect()),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), word(value)));
            Word::Map(members.collect::<HashMap<_, _>>())
        }
    }
}

fn plain(word: &Word) -> Value {
    match word {
        Word::Bool(value) => json!(value),
        Word::Number(number) => json!(number.as_i64().unwrap()),
        Word::String(text) => json!(text),
        Word::Array(items) => items.iter().map(plain).collect(),
        Word::Map(members) | Word::Object(members) => {
            let members = members.iter().map(|(name, word)| (name.clone(), plain(word)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

#[test]
fn the_chart_s_notes_name_commands_that_exist() {
    let notes = render(&chart("templates/NOTES.txt"), &values());
    assert!(
        notes.starts_with("Keyward serves in the cluster on kw.trust:8443.\n"),
        "{notes}"
    );
    let help = Shell::new().run(&["token", "create", "--help"]).done();
    let command = notes
        .split("keyward token create")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    for option in command.split_whitespace().filter(|word| word.starts_with("--")) {
        assert!(help.contains(option), "{option}");
    }
}

#[test]
fn with_metrics_the_chart_has_a_port_and_a_service_for_them_that_the_server_understands() {
    let mut values = values();
    let plain = rendered(&values);
    assert!(
        plain.iter().all(|object| !object.to_string().contains("metrics")),
        "{plain:?}"
    );
    for monitored in [false, true] {
        values["metrics"] = json!({"enabled": true, "port": 9500, "serviceMonitor": monitored});
        let objects = rendered(&values);
        let find = |kind: &str, name: &str| {
            let mut found = objects.iter().filter(|object| object["kind"] == kind);
            found.find(|object| object["metadata"]["name"] == name)
        };
        let template = &find("StatefulSet", "kw").unwrap()["spec"]["template"];
        let container = &template["spec"]["containers"][0];
        assert_eq!(
            container["ports"][1],
            json!({"name": "metrics", "containerPort": 9500})
        );
        let mut shell = Shell::initialised();
        for variable in container["env"].as_array().unwrap() {
            let text = |name: &str| variable[name].as_str().unwrap().to_owned();
            shell.set(&text("name"), &text("value").replace(":9500", ":0"));
        }
        let server = shell.serve(&[]);
        assert!(
            server.before.starts_with("metrics are served on http://0.0.0.0:"),
            "{}",
            server.before
        );
        let annotated = &template["metadata"]["annotations"]["prometheus.io/port"];
        assert_eq!(*annotated, if monitored { Value::Null } else { json!("9500") });

        let service = find("Service", "kw-metrics").unwrap();
        assert_eq!(service["spec"]["type"], "ClusterIP");
        assert_eq!(
            service["spec"]["ports"][0]["targetPort"],
            container["ports"][1]["name"]
        );
        let monitor = find("ServiceMonitor", "kw");
        assert_eq!(monitor.is_some(), monitored);
        for (name, value) in monitor
            .iter()
            .flat_map(|m| m["spec"]["selector"]["matchLabels"].as_object().unwrap())
        {
            assert_eq!(&service["metadata"]["labels"][name], value, "{name}");
        }
        let main = find("Service", "kw").unwrap();
        assert_eq!(main["spec"]["ports"].as_array().unwrap().len(), 1);
        let selects = |labels: &Value| {
            labels
                .as_object()
                .unwrap()
                .contains_key("app.kubernetes.io/component")
        };
        assert!(
            !selects(&main["metadata"]["labels"]),
            "the monitor finds one service"
        );
    }
}

#[test]
fn on_postgresql_the_chart_has_several_pods_that_keep_nothing() {
    let mut values = values();
    values["postgres"]["enabled"] = json!(true);
    values["postgres"]["replicas"] = json!(4);
    let postgres = json!({
        "url": "postgres://keyward@db.example/keyward",
        "password_file": "/etc/keyward/postgres/password",
        "tls": {"ca_file": "/etc/keyward/postgres/ca.pem"},
    });
    let schema: Value = serde_json::from_str(&chart("values.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    assert!(!schema.is_valid(&values), "which database is not said");
    values["config"]["store"] = json!({"postgres": postgres});
    assert!(schema.is_valid(&values));
    let objects = rendered(&values);
    let set = &objects
        .iter()
        .find(|object| object["kind"] == "StatefulSet")
        .unwrap()["spec"];
    assert_eq!(
        (&set["replicas"], &set["podManagementPolicy"]),
        (&json!(4), &json!("Parallel"))
    );
    assert_eq!(set["volumeClaimTemplates"], Value::Null);
    let pod = &set["template"]["spec"];
    assert_eq!(pod["initContainers"], Value::Null);
    let arguments = pod["containers"][0]["args"].as_array().unwrap();
    assert!(arguments.contains(&json!("--key-file=/etc/keyward/key/keyward.key")));
    let volumes = pod["volumes"].as_array().unwrap();
    let secret = |name: &str| {
        let volume = volumes.iter().find(|volume| volume["name"] == name).unwrap();
        volume["secret"]["secretName"].clone()
    };
    assert_eq!(
        (secret("key"), secret("postgres")),
        (json!("keyward-key"), json!("keyward-postgres"))
    );
    // Every mount has its volume.
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
        assert!(
            volumes.iter().any(|volume| volume["name"] == mount["name"]),
            "{mount}"
        );
    }
    let config = objects
        .iter()
        .find(|object| object["kind"] == "ConfigMap")
        .unwrap();
    let written = yaml(config["data"]["keyward.yaml"].as_str().unwrap());
    assert_eq!(written["store"]["postgres"], postgres);
    // A store without the pods for it would be a file that is never used.
    values["postgres"]["enabled"] = json!(false);
    assert!(!schema.is_valid(&values));
}

#[test]
fn helm_lints_the_chart_and_renders_the_same() {
    let shell = Shell::new();
    if shell.command("helm").arg("version").output().is_err() {
        eprintln!("NOT TESTED: what helm itself says of the chart, as it is not installed");
        return;
    }
    let folder = format!("{}/deploy/helm/keyward", env!("CARGO_MANIFEST_DIR"));
    let linted = ran(shell.command("helm").args(["lint", "--strict", &folder]));
    assert_eq!(linted.code, 0, "{}{}", linted.out, linted.err);
    let made = ran(shell
        .command("helm")
        .args(["template", "kw", &folder, "--namespace", "trust"]));
    assert_eq!(made.code, 0, "{}", made.err);
    let documents = made.out.split("\n---\n").filter(|text| text.contains("kind:"));
    let mut theirs: Vec<_> = documents.map(|text| yaml(text).to_string()).collect();
    let mut ours: Vec<_> = rendered(&values()).iter().map(Value::to_string).collect();
    // Of the same values in another order another digest is made.
    let masked = |text: &mut String| {
        let at = text.find("\"checksum/config\":\"").unwrap_or(text.len());
        let end = (at + 19 + 64).min(text.len());
        text.replace_range(at..end, "");
    };
    theirs.iter_mut().chain(&mut ours).for_each(masked);
    theirs.sort();
    ours.sort();
    assert_eq!(theirs, ours);
}

//! The suite's containers hold together: what each refers to is there, what it waits for says when it is healthy, and nothing but the proxy
//! is reached from outside. The script that makes names and secrets is run.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{assert_none, root};

fn compose() -> PathBuf {
    root().join("compose")
}

fn file() -> String {
    std::fs::read_to_string(compose().join("compose.yaml")).unwrap()
}

/// The services, each with its lines: those indented by two below `services:`.
fn services(file: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut services: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = None;
    let of_services = file.lines().skip_while(|line| *line != "services:").skip(1);
    for line in of_services.take_while(|line| line.is_empty() || line.starts_with([' ', '#'])) {
        let name = line.strip_prefix("  ").and_then(|line| line.strip_suffix(':'));
        match name.filter(|name| !name.starts_with([' ', '#'])) {
            Some(name) => {
                current = Some(name);
                services.insert(name, Vec::new());
            }
            None => services.entry(current.unwrap_or("")).or_default().push(line),
        }
    }
    services.remove("");
    assert!(services.len() >= 15, "the services are found: {:?}", services.keys());
    services
}

/// The names of the variables that a text asks for, and whether it does without.
fn variables(text: &str) -> Vec<(&str, bool)> {
    let of_lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let asked = of_lines.flat_map(|line| line.split("${").skip(1));
    asked
        .filter_map(|rest| rest.split('}').next())
        .map(|inside| match inside.split_once([':', '?']) {
            Some((name, rest)) => (name, rest.starts_with('-')),
            None => (inside, false),
        })
        .collect()
}

/// What the script makes for a domain.
struct Setup(PathBuf);

impl Setup {
    fn run(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("chancery-suite-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let setup = Self(folder);
        setup.again("suite.example.org");
        setup
    }

    fn again(&self, domain: &str) {
        let mut command = Command::new("sh");
        command.arg(compose().join("setup.sh")).arg(domain).env("SUITE_DIRECTORY", &self.0);
        let ran = command.output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{said} (`cargo xtask test` installs what is missing)");
        assert!(ran.stdout.is_empty(), "it prints nothing that somebody could keep");
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let text = self.read(".env");
        let pairs = text.lines().map(|line| line.split_once('=').unwrap());
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// All files, by their paths from here.
    fn files(&self) -> BTreeMap<String, (Vec<u8>, u32)> {
        let mut files = BTreeMap::new();
        let mut pending = vec![self.0.clone()];
        while let Some(folder) = pending.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    let mode = path.metadata().unwrap().permissions().mode() & 0o777;
                    let shown = path.strip_prefix(&self.0).unwrap().to_string_lossy().into_owned();
                    files.insert(shown, (std::fs::read(&path).unwrap(), mode));
                }
            }
        }
        files
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_variable_of_the_suite_is_made_by_the_script_or_has_a_default() {
    let setup = Setup::run("variables");
    let settings = setup.settings();
    let file = file();
    let asked = variables(&file);
    assert!(asked.len() > 50, "the variables are found: {asked:?}");
    let missing: Vec<String> = asked
        .iter()
        .filter(|(name, does_without)| !does_without && !settings.contains_key(*name))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_none("variables that nobody makes", &missing);
    // And the other way round: what is made is used, by the file, by the script itself, or for what it fills in.
    let script = std::fs::read_to_string(compose().join("setup.sh")).unwrap();
    let unused: Vec<String> = settings
        .keys()
        .filter(|name| {
            let uses = script.matches(name.as_str()).count();
            !asked.iter().any(|(asked, _)| asked == name) && uses < 2
        })
        .cloned()
        .collect();
    assert_none("settings that nobody asks for", &unused);
    // A reader of the file finds each of them explained by a name of its own, none of them empty but what only others can give.
    let empty: BTreeSet<&str> =
        settings.iter().filter(|(_, value)| value.is_empty()).map(|(name, _)| name.as_str()).collect();
    let from_others = |name: &&str| {
        ["CHATWOOT_", "SMTP_", "MAILER_"].iter().any(|prefix| name.starts_with(prefix))
            || *name == "JVB_ADVERTISE_IPS"
    };
    assert!(empty.iter().all(from_others), "{empty:?}");
}

#[test]
fn the_script_makes_secrets_once_and_changes_nothing_that_is_there() {
    let setup = Setup::run("once");
    let first = setup.files();
    let settings = setup.settings();
    let secrets: Vec<&String> = settings.values().filter(|value| value.len() == 64).collect();
    let unique: BTreeSet<&&String> = secrets.iter().collect();
    assert!(secrets.len() >= 20 && unique.len() == secrets.len(), "{} secrets", secrets.len());
    for (path, (_, mode)) in &first {
        let expected = if path.ends_with("element.json") { 0o644 } else { 0o600 };
        assert_eq!(*mode, expected, "{path}");
    }
    setup.again("suite.example.org");
    assert_eq!(setup.files(), first);
    // What is taken away is made anew, and what somebody has set stays.
    let env = setup.0.join(".env");
    let text = setup.read(".env").replace("ACME_EMAIL=admin@suite.example.org", "ACME_EMAIL=me@example.org");
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("JVB_AUTH_PASSWORD=")).collect();
    std::fs::write(&env, format!("{}\n", text.join("\n"))).unwrap();
    setup.again("suite.example.org");
    let mended = setup.settings();
    assert_eq!(mended["ACME_EMAIL"], "me@example.org");
    assert_eq!(mended["JVB_AUTH_PASSWORD"].len(), 64);
    assert_ne!(mended["JVB_AUTH_PASSWORD"], settings["JVB_AUTH_PASSWORD"]);
    assert_eq!(mended["POSTGRES_PASSWORD"], settings["POSTGRES_PASSWORD"]);
    // Another domain would have names that the secrets are not for.
    let refused = Command::new("sh")
        .arg(compose().join("setup.sh"))
        .arg("other.example.org")
        .env("SUITE_DIRECTORY", &setup.0)
        .output()
        .unwrap();
    assert!(!refused.status.success());
}

#[test]
fn nothing_of_the_demo_is_left_in_the_suites_realm_and_files() {
    let setup = Setup::run("realm");
    let settings = setup.settings();
    let realm = setup.read("generated/realm.json");
    for left in ["demo-only", "127.0.0.1", "localhost", "acme", "globex", "http://"] {
        assert!(!realm.contains(left), "{left}");
    }
    let realm: Value = serde_json::from_str(&realm).unwrap();
    let users: Vec<&str> =
        realm["users"].as_array().unwrap().iter().filter_map(|user| user["username"].as_str()).collect();
    assert_eq!(users, ["service-account-chancery-sync"]);
    let client = |id: &str| {
        let clients = realm["clients"].as_array().unwrap();
        clients.iter().find(|client| client["clientId"] == id).unwrap_or_else(|| panic!("{id}")).clone()
    };
    let shell = client("chancery-shell");
    assert_eq!(shell["secret"], settings["CHANCERY_SHELL_SECRET"].as_str());
    assert_eq!(shell["redirectUris"][0], "https://chancery.suite.example.org/auth/callback");
    assert_eq!(shell["attributes"]["pkce.code.challenge.method"], "S256");
    assert_eq!(client("chancery-sync")["secret"], settings["CHANCERY_SYNC_SECRET"].as_str());
    assert_eq!(client("chancery-matrix")["secret"], settings["SYNAPSE_OIDC_SECRET"].as_str());
    let homeserver = setup.read("generated/synapse/homeserver.yaml");
    let registration = setup.read("generated/synapse/chancery.yaml");
    let filled = homeserver.lines().chain(registration.lines()).filter(|line| !line.starts_with('#'));
    for line in filled {
        let is_left = line
            .split('@')
            .any(|word| word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
        assert!(!is_left, "{line}");
    }
    assert!(registration.contains(r#""@_chancery_bot(_.*)?:suite\\.example\\.org""#), "{registration}");
    assert!(registration.contains(&settings["MATRIX_AS_TOKEN"]));
    let element: Value = serde_json::from_str(&setup.read("generated/element.json")).unwrap();
    assert_eq!(element["default_server_config"]["m.homeserver"]["server_name"], "suite.example.org");
}

#[test]
fn chancery_reads_its_settings_of_the_suite() {
    let config = chancery::config::Config::load(Some(&compose().join("suite/chancery.toml"))).unwrap();
    assert_eq!(config.http.listen.port(), 8080);
    let file = file();
    // The address that it believes is the one that Caddy has.
    let caddy = file.split("ipv4_address: ").nth(1).unwrap().lines().next().unwrap();
    assert!(
        config.http.trusted_proxies.iter().any(|proxy| proxy.contains(caddy.parse().unwrap())),
        "{caddy}"
    );
    let keys: Vec<&Path> = config.jitsi.keys.iter().map(|key| key.file.as_path()).collect();
    assert_eq!(keys, [Path::new("/run/chancery/jitsi.pem")]);
    let setup = Setup::run("settings");
    for mounted in ["jitsi.pem", "master.key"] {
        assert!(setup.0.join("generated/chancery").join(mounted).exists(), "{mounted}");
    }
    // Each setting that the environment gives is one: the defaults name them all.
    let names: Vec<&str> =
        file.split("CHANCERY__").skip(1).filter_map(|rest| rest.split(':').next()).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let (section, setting) = name.split_once("__").unwrap();
        let defaults = chancery::config::DEFAULTS;
        let of_section = defaults
            .split(&format!("[{}]\n", section.to_lowercase()))
            .nth(1)
            .unwrap_or_else(|| panic!("{name}"));
        let of_section = of_section.split("\n[").next().unwrap();
        let line = format!("\n{} = ", setting.to_lowercase());
        assert!(of_section.contains(&line) || of_section.starts_with(line.trim_start()), "{name}");
    }
}

#[test]
fn what_a_service_waits_for_says_when_it_is_healthy() {
    let file = file();
    let services = services(&file);
    let mut wrong = Vec::new();
    for (name, lines) in &services {
        let waits = lines.iter().skip_while(|line| line.trim() != "depends_on:").skip(1);
        for line in waits.take_while(|line| line.starts_with("      ")) {
            let line = line.trim();
            if line.starts_with('#') {
                continue;
            }
            let (other, condition) =
                line.split_once(": { condition: ").unwrap_or_else(|| panic!("{name}: {line}"));
            let Some(of_other) = services.get(other) else {
                wrong.push(format!("{name} waits for {other}, which isn't there"));
                continue;
            };
            let has_check = of_other.iter().any(|line| line.trim_start().starts_with("healthcheck:"));
            let runs_once = of_other.iter().any(|line| line.trim() == "restart: \"no\"");
            match condition.trim_end_matches(" }") {
                "service_healthy" if has_check => {}
                "service_completed_successfully" if runs_once => {}
                other_condition => wrong.push(format!("{name} waits for {other}: {other_condition}")),
            }
        }
        let runs_once = lines.iter().any(|line| line.trim() == "restart: \"no\"");
        if !runs_once && !lines.iter().any(|line| line.trim_start().starts_with("healthcheck:")) {
            wrong.push(format!("{name} never says that it is healthy"));
        }
    }
    assert_none("the order of starting", &wrong);
}

#[test]
fn images_are_pinned_and_only_the_proxy_is_reached_from_outside() {
    let file = file();
    let mut wrong = Vec::new();
    let dockerfile = std::fs::read_to_string(compose().join("Dockerfile")).unwrap();
    let of_compose = file.lines().filter_map(|line| line.trim().strip_prefix("image: "));
    let of_dockerfile = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM "));
    let images: Vec<&str> =
        of_compose.chain(of_dockerfile.map(|line| line.split(' ').next().unwrap())).collect();
    assert!(images.len() >= 14, "{images:?}");
    for image in images {
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        if ["", "latest", "stable", "main"].contains(&tag) || tag.contains('/') {
            wrong.push(format!("{image} is another one tomorrow"));
        }
    }
    for (name, lines) in services(&file) {
        let ports = lines.iter().skip_while(|line| line.trim() != "ports:").skip(1);
        for port in ports.take_while(|line| line.starts_with("      - ")) {
            let port = port.trim().trim_start_matches("- ").trim_matches('"');
            // Sound and pictures don't go through a proxy.
            let is_media = name == "jitsi-jvb" && port == "10000:10000/udp";
            if name != "caddy" && !is_media {
                wrong.push(format!("{name} is reached at {port}"));
            }
        }
    }
    assert_none("the suite's containers", &wrong);
    // Each name that the proxy leads to is a service's.
    let caddyfile = std::fs::read_to_string(compose().join("suite/Caddyfile")).unwrap();
    let services = services(&file);
    for target in caddyfile.lines().filter_map(|line| line.trim().strip_prefix("reverse_proxy ")) {
        let target = target.trim_start_matches("@matrix ").trim_end_matches(" {");
        let (name, _) = target.split_once(':').unwrap();
        assert!(services.contains_key(name), "{target}");
    }
}

/// Caddy sorts what a site says: a `respond` without a matcher answers all that a `reverse_proxy` beside it was to pass on.
#[test]
fn in_no_site_of_the_proxys_an_answer_stands_before_what_is_passed_on() {
    let caddyfile = std::fs::read_to_string(compose().join("suite/Caddyfile")).unwrap();
    let mut wrong = Vec::new();
    let (mut depth, mut sites) = (0, 0);
    let (mut site, mut answers, mut passes_on) = ("", false, false);
    for line in caddyfile.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        match (depth, words.next()) {
            (0, Some(_)) => (site, answers, passes_on) = (line, false, false),
            // What stands in a `handle` is for what that one takes.
            (1, Some("respond")) => {
                answers |= words.next().is_none_or(|first| !first.starts_with(['@', '/']));
            }
            (1, Some("reverse_proxy")) => passes_on = true,
            _ => {}
        }
        if line.ends_with('{') {
            depth += 1;
        } else if line == "}" {
            depth -= 1;
            sites += usize::from(depth == 0);
            if depth == 0 && answers && passes_on {
                wrong.push(site.to_owned());
            }
        }
    }
    assert!(depth == 0 && sites >= 7, "the sites are found: {sites}");
    assert_none("sites that answer what they are to pass on", &wrong);
}

#[test]
fn no_secret_of_the_suite_is_built_into_an_image_or_committed() {
    let ignored = |path: PathBuf| -> BTreeSet<String> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| line.trim_end_matches('/').to_owned())
            .collect()
    };
    let of_images = ignored(root().join(".dockerignore"));
    let of_commits = ignored(compose().join(".gitignore"));
    let setup = Setup::run("ignored");
    for path in setup.files().keys() {
        let top = path.split('/').next().unwrap();
        assert!(of_commits.contains(top), "{path} can be committed");
        assert!(of_images.contains(&format!("compose/{top}")), "{path} gets into images");
    }
}

#[test]
fn each_file_that_the_suite_mounts_is_there_or_is_made() {
    let setup = Setup::run("mounts");
    let file = file();
    let mounted: Vec<&str> = file
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ./"))
        .filter_map(|mount| mount.split(':').next())
        .collect();
    assert!(mounted.len() >= 6, "{mounted:?}");
    let own = compose();
    for path in mounted {
        let folder = if path.starts_with("generated") { &setup.0 } else { &own };
        assert!(folder.join(path).exists(), "{path}");
    }
}

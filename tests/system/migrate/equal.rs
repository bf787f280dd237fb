//! Everything but runtime and variables is as it was: the whole inspect, before and after.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, docker as client};
use keywheel_tests::scratch::unique;
use keywheel_tests::stage::{PATIENCE, Stage};
use keywheel_tests::wait;
use serde_json::{Value, json};

use crate::scene::{
    Left, Network, PLACEHOLDER, Volume, finish, migrated, put, run, value, variable,
};

/// The network with a static address.
const SUBNET: &str = "10.213.77.0/24";
const ADDRESS: &str = "10.213.77.10";
/// What is of one container alone: ids, paths with ids in them, times.
const OWN: [&str; 9] = [
    "Id",
    "Created",
    "State",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "LogPath",
    "GraphDriver",
    "ExecIDs",
];
/// Where the volume is that Docker named itself.
const UNNAMED: &str = "/unnamed";
/// What an engine draws anew for each endpoint.
const DRAWN: [&str; 1] = ["EndpointID"];
/// What is said of an endpoint, or not: nothing and an empty object mean the same.
const SAID: [&str; 3] = ["IPAMConfig", "DriverOpts", "Links"];

/// An inspect without what has to differ: ids, times, runtime, variables.
fn comparable(inspected: &Value) -> Result<Value> {
    let mut about = inspected.get(0).context("no inspect")?.clone();
    let id = about["Id"].as_str().context("no id")?.to_owned();
    let short = id.get(..12).context("a short id")?.to_owned();
    let fields = about.as_object_mut().context("no object")?;
    for name in OWN {
        fields.remove(name);
    }
    about["HostConfig"]["Runtime"] = json!(null);
    about["Config"]["Env"] = json!(null);
    // The one thing that is written down otherwise: a volume that Docker named is named.
    let asked = about["HostConfig"]["Mounts"].as_array().cloned();
    let asked = asked.unwrap_or_default().into_iter();
    about["HostConfig"]["Mounts"] = asked.filter(|mount| mount["Target"] != UNNAMED).collect();
    let mut mounts = about["Mounts"].as_array().cloned().unwrap_or_default();
    for mount in &mut mounts {
        let is_anonymous = mount["Name"].as_str().is_some_and(|name| name.len() == 64);
        if is_anonymous {
            mount["Mode"] = json!(null);
        }
    }
    mounts.sort_by_key(|mount| mount["Destination"].to_string());
    about["Mounts"] = mounts.into();
    let networks = about["NetworkSettings"]["Networks"]
        .as_object_mut()
        .context("no networks")?;
    for endpoint in networks.values_mut() {
        for name in DRAWN {
            endpoint[name] = json!(null);
        }
        for name in SAID {
            if is_blank(&endpoint[name]) {
                endpoint[name] = json!(null);
            }
        }
        let is_static = endpoint["IPAMConfig"]["IPv4Address"].is_string();
        if !is_static {
            endpoint["IPAddress"] = json!(null);
            endpoint["MacAddress"] = json!(null);
        }
        let aliases = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
        let aliases = aliases.into_iter().filter(|alias| *alias != short.as_str());
        endpoint["Aliases"] = aliases.collect();
    }
    let own =
        json!({ "Ports": about["NetworkSettings"]["Ports"], "Networks": networks_of(&about) });
    about["NetworkSettings"] = own;
    Ok(about)
}

fn is_blank(value: &Value) -> bool {
    let is_empty = value.as_object().is_some_and(serde_json::Map::is_empty);
    value.is_null() || is_empty || value.as_array().is_some_and(Vec::is_empty)
}

/// The volume that Docker named itself.
fn unnamed(inspected: &Value) -> Result<String> {
    let mounts = inspected.pointer("/0/Mounts").and_then(Value::as_array);
    let mut mounts = mounts.into_iter().flatten();
    let mount = mounts.find(|mount| mount["Destination"] == UNNAMED);
    let name = mount.and_then(|mount| mount["Name"].as_str());
    Ok(name.context("no unnamed volume")?.to_owned())
}

fn networks_of(about: &Value) -> Value {
    about["NetworkSettings"]["Networks"].clone()
}

/// A port that nobody has at the moment.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// What a container is given beside the variables, one of everything.
struct Rich {
    front: Network,
    back: Network,
    _volume: Volume,
    /// Mounts and ports, which have names of this test in them.
    own: Vec<String>,
}

impl Rich {
    fn make(stage: &Stage) -> Result<Self> {
        let front = Network::make(unique("kwt-front"), &["--subnet", SUBNET])?;
        let back = Network::make(unique("kwt-back"), &[])?;
        let volume = Volume(unique("kwt-volume"));
        let bound = stage.keywheel.scratch().join("bound");
        std::fs::create_dir(&bound)?;
        let own = [
            format!("--volume={}:/bound:ro", bound.display()),
            format!("--volume={}:/named", volume.0),
            format!(
                "--mount=type=volume,source={},target=/typed,readonly",
                volume.0
            ),
            format!("--publish=127.0.0.1:{}:8080", free_port()?),
            format!("--network={}", front.0),
        ];
        Ok(Self {
            front,
            back,
            _volume: volume,
            own: own.into(),
        })
    }

    fn flags(&self) -> Vec<&str> {
        let fixed = [
            &["--ip", ADDRESS, "--network-alias", "db"][..],
            &["--network-alias", "store", "--volume", UNNAMED],
            &["--tmpfs", "/scratch:size=1m"],
            &["--label", "app=equal", "--label", "team=a b"],
            &["--memory", "64m", "--cpu-shares", "512"],
            &["--pids-limit", "64", "--ulimit", "nofile=512:1024"],
            &["--shm-size", "8m", "--cap-drop", "ALL"],
            &["--cap-add", "CHOWN", "--cap-add", "KILL"],
            &["--security-opt", "no-new-privileges", "--init"],
            &["--restart", "on-failure:3", "--stop-timeout", "3"],
            &["--health-cmd", "test -e /bin/sh"],
            &["--health-interval", "1s"],
            &["--log-opt", "max-size=1m", "--log-opt", "max-file=2"],
            &["--hostname", "keeper", "--add-host", "legacy:10.0.0.9"],
            &["--dns", "10.0.0.53", "--user", "0:0", "--workdir", "/tmp"],
            &["--stop-signal", "TERM", "--entrypoint", "/bin/app-env"],
        ];
        let own = self.own.iter().map(String::as_str);
        own.chain(fixed.concat()).collect()
    }
}

#[test]
fn everything_but_runtime_and_variables_is_as_it_was() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let rich = Rich::make(&stage)?;
    let old = run(&stage, &rich.flags(), &[])?;
    let left = Left::of(&old);
    let connect = ["network", "connect", "--alias", "second"];
    client(&[&connect[..], &[rich.back.0.as_str(), old.id()]].concat())?.ok()?;
    old.exec(&["sh", "-c", "printf kept > /unnamed/file"])?
        .ok()?;
    let before = old.inspect()?;
    let _unnamed = Volume(unnamed(&before)?);
    let value = value(&stage.keywheel);
    ensure!(before.to_string().contains(&value), "no plaintext to take");

    let new = migrated(&stage, &old, &[])?;
    let after = new.inspect()?;
    assert_eq!(comparable(&before)?, comparable(&after)?);
    assert_ne!(old.id(), new.id());
    let at = |inspected: &Value, pointer: &str| inspected.pointer(pointer).cloned();
    // Among what is equal is a mount of its own kind.
    let typed = at(&after, "/0/HostConfig/Mounts/0/Target");
    assert_eq!(typed, Some("/typed".into()));
    let runtime = Value::from(stage.runtime.as_str());
    assert_eq!(at(&after, "/0/HostConfig/Runtime"), Some(runtime));
    let address = format!("/0/NetworkSettings/Networks/{}/IPAddress", rich.front.0);
    assert_eq!(at(&after, &address), Some(ADDRESS.into()));
    let env = |inspected: &Value| at(inspected, "/0/Config/Env").unwrap_or_default();
    let plain = format!("API_TOKEN={value}");
    let replaced = env(&before).to_string().replace(&plain, PLACEHOLDER);
    assert_eq!(env(&after).to_string(), replaced, "another one changed");

    // The application sees the value, the engine does not, and what lay in an unnamed volume is there.
    assert_eq!(variable(&new)?, value);
    wait::until_true("its program's word", PATIENCE, || {
        Ok(new.logs()?.trim() == "set")
    })?;
    ensure!(!after.to_string().contains(&value), "the engine knows it");
    assert_eq!(new.read("/unnamed/file")?.as_deref(), Some("kept"));
    assert_ne!(client(&["inspect", old.id()])?.code, 0);
    assert_eq!(left.beside()?, "", "something is left");
    let second: String = value.chars().rev().collect();
    put(&stage, &second)?;
    assert_eq!(variable(&new)?, second, "it does not follow its secret");
    finish(&stage, &[value, second], &new)
}

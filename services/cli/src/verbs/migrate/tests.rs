//! The mapper and its judge, over inspects in the shape of Docker 20.10 and 27: nothing gets lost, and
//! what does is found.

use serde_json::{Map, Value, json};

use super::engine::{Api, Change};
use super::equal::differences;
use super::json::{members, text};
use super::recreate::{Recreation, lost, recreation, refuse_impossible, short_id};
use super::take::{Environment, wishes};
use crate::exit::Exit;

const RUNTIME: &str = "keywheel";

/// Both shapes, with their API's version.
fn shapes() -> Vec<(Value, Environment, Api)> {
    let texts = [
        (include_str!("fixtures/docker-20.10.json"), Api(1, 41)),
        (include_str!("fixtures/docker-27.json"), Api(1, 47)),
    ];
    let read = |(text, api)| {
        let mut about: Value = serde_json::from_str(text).unwrap();
        let env = Environment::of(&mut about);
        (about, env, api)
    };
    texts.into_iter().map(read).collect()
}

fn image() -> Value {
    json!({ "Config": { "Entrypoint": ["/app/server"], "Labels": { "maintainer": "shop" } } })
}

fn recreated(about: &Value, api: Api) -> Recreation {
    recreation(about, &image(), RUNTIME, api).unwrap()
}

/// What an engine that does as it is told says of the new container.
fn made_of(about: &Value, told: &Recreation) -> Value {
    let mut config = told.body(Vec::new());
    let host = config.remove("HostConfig").unwrap();
    config.remove("NetworkingConfig");
    let mut networks = Map::new();
    let first = told.networks.first.iter();
    for (name, settings) in first.chain(&told.networks.others) {
        networks.insert(name.clone(), settings.clone());
    }
    let mut after = about.clone();
    after["Id"] = "f".repeat(64).into();
    after["Name"] = "/other".into();
    after["Config"] = Value::Object(config);
    after["HostConfig"] = host;
    after["NetworkSettings"]["Networks"] = Value::Object(networks);
    after
}

#[test]
fn create_of_inspect_keeps_everything() {
    for (about, _, api) in shapes() {
        let told = recreated(&about, api);
        let after = made_of(&about, &told);
        assert_eq!(differences(&about, &after), [""; 0]);
        assert_eq!(after["HostConfig"]["Runtime"], RUNTIME);
        // Whoever reads the new one and makes it anew gets the same again.
        let again = recreated(&after, api);
        assert_eq!(differences(&after, &made_of(&after, &again)), [""; 0]);
    }
}

#[test]
fn a_field_of_a_newer_engine_is_carried_over() {
    for (mut about, _, api) in shapes() {
        for part in ["Config", "HostConfig"] {
            about[part]["OfTheFuture"] = json!({ "deep": [1, { "er": true }] });
        }
        let body = recreated(&about, api).body(Vec::new());
        let future = &about["Config"]["OfTheFuture"];
        assert_eq!(&body["OfTheFuture"], future);
        assert_eq!(&body["HostConfig"]["OfTheFuture"], future);
    }
}

/// Every member of these parts, but those that have to differ.
fn members_of(about: &Value, part: &str, but: &[&str]) -> Vec<String> {
    let fields = about[part].as_object().unwrap().keys();
    let fields = fields.filter(|name| !but.contains(&name.as_str()));
    fields.cloned().collect()
}

#[test]
fn whatever_an_engine_loses_or_changes_is_found_by_name() {
    let mut tried = 0;
    for (about, _, api) in shapes() {
        let made = made_of(&about, &recreated(&about, api));
        let parts = [
            ("Config", ["Env", ""]),
            ("HostConfig", ["Runtime", "Mounts"]),
        ];
        for (part, but) in parts {
            for name in members_of(&about, part, &but) {
                let mut changed = made.clone();
                changed[part][&name] = json!("something else");
                let found = differences(&about, &changed);
                assert_eq!(found, [format!("{part}.{name}")]);
                tried += 1;
            }
        }
        for name in ["Path", "Args", "Image", "Driver", "Platform", "OfTheFuture"] {
            let mut changed = made.clone();
            changed[name] = json!("something else");
            assert_eq!(differences(&about, &changed), [name]);
        }
        for at in 0..members(about.get("Mounts")).count() {
            let mut changed = made.clone();
            let place = text(&changed["Mounts"][at], "Destination").to_owned();
            changed["Mounts"][at]["Destination"] = "/elsewhere".into();
            let found = differences(&about, &changed);
            assert!(found.contains(&format!("Mounts {place}")), "{found:?}");
        }
        for network in ["shop_front", "shop_back"] {
            for (name, value) in [
                ("Aliases", json!(["other"])),
                ("IPAMConfig", json!({ "IPv4Address": "10.0.0.1" })),
                ("DriverOpts", json!({ "o": "1" })),
                ("OfTheFuture", json!(1)),
            ] {
                let mut changed = made.clone();
                changed["NetworkSettings"]["Networks"][network][name] = value;
                assert_eq!(differences(&about, &changed), ["NetworkSettings.Networks"]);
            }
        }
    }
    assert!(tried > 150, "{tried}: the fixtures were not read");
}

#[test]
fn addresses_and_aliases_are_asked_for_again_without_the_old_short_id() {
    for (about, _, api) in shapes() {
        let told = recreated(&about, api);
        let asked = json!({
            "IPAMConfig": { "IPv4Address": "172.27.0.10" }, "Aliases": ["web", "shop"]
        });
        assert_eq!(
            told.networks.first,
            Some(("shop_front".to_owned(), asked.clone()))
        );
        let back = json!({ "Aliases": ["web"] });
        assert_eq!(told.networks.others, [("shop_back".to_owned(), back)]);
        let body = told.body(Vec::new());
        assert_eq!(
            body["NetworkingConfig"],
            json!({ "EndpointsConfig": { "shop_front": asked } })
        );
        // Programs may have kept their host's name.
        assert_eq!(body["Hostname"], short_id(&about));
    }
}

#[test]
fn volumes_without_a_name_are_mounted_again_and_not_made_anew() {
    for (about, _, api) in shapes() {
        let body = recreated(&about, api).body(Vec::new());
        let mounts: Vec<&Value> = members(body["HostConfig"].get("Mounts"))
            .filter(|mount| text(mount, "Target") == "/data")
            .collect();
        let [mount] = mounts.as_slice() else {
            panic!("{mounts:?}");
        };
        assert_eq!(text(mount, "Source"), "9c".repeat(32));
        assert_eq!(mount["VolumeOptions"]["NoCopy"], true);
        let named = members(body["HostConfig"].get("Mounts"));
        let named = named.filter(|mount| text(mount, "Target") == "/var/uploads");
        assert!(named.count() <= 1);
    }
}

#[test]
fn volumes_of_another_container_stay_its_matter() {
    let (mut about, _, api) = shapes().remove(0);
    about["HostConfig"]["VolumesFrom"] = json!(["backup"]);
    about["Config"]["Volumes"] = json!(null);
    let body = recreated(&about, api).body(Vec::new());
    assert_eq!(members(body["HostConfig"].get("Mounts")).count(), 0);
}

#[test]
fn no_entrypoint_is_said_where_the_image_has_one() {
    let (mut about, _, api) = shapes().remove(0);
    about["Config"]["Entrypoint"] = json!(null);
    let body = recreated(&about, api).body(Vec::new());
    assert_eq!(body["Entrypoint"], json!([""]));
    let bare = recreation(&about, &json!({}), RUNTIME, api).unwrap();
    assert_eq!(bare.body(Vec::new())["Entrypoint"], json!(null));
}

#[test]
fn who_lives_in_another_s_network_names_neither_host_nor_ports() {
    let (mut about, _, api) = shapes().remove(0);
    about["HostConfig"]["NetworkMode"] = json!(format!("container:{}", "a".repeat(64)));
    about["NetworkSettings"]["Networks"] = json!({});
    let told = recreated(&about, api);
    let body = told.body(Vec::new());
    for name in ["Hostname", "Domainname", "ExposedPorts", "NetworkingConfig"] {
        assert!(!body.contains_key(name), "{name}");
    }
    assert_eq!(told.networks, super::endpoints::Networks::default());
    // Ports of the image come by themselves.
    let mut after = made_of(&about, &told);
    after["Config"]["ExposedPorts"] = about["Config"]["ExposedPorts"].clone();
    after["Config"]["Hostname"] = "the other's".into();
    assert_eq!(differences(&about, &after), [""; 0]);
}

#[test]
fn the_body_has_placeholders_and_no_value() {
    for (about, env, api) in shapes() {
        let pairs = ["DB_PASSWORD=shop/db", "API_TOKEN=shop/api"].map(str::to_owned);
        let wishes = wishes(&pairs, &[]).unwrap();
        let body = recreated(&about, api).body(env.with_placeholders(&wishes));
        assert_eq!(
            body["Env"],
            json!([
                "DB_PASSWORD={keywheel:shop/db}",
                "API_TOKEN={keywheel:shop/api}",
                "LOG_LEVEL=info",
                "PATH=/usr/local/bin:/usr/bin:/bin"
            ])
        );
        let body = Value::Object(body).to_string();
        assert!(!body.contains("fixture-db-value") && !body.contains("fixture-api-value"));
        assert_eq!(env.values(&wishes).unwrap().len(), 2);
    }
}

#[test]
fn what_cannot_be_put_back_or_judged_is_refused_by_name() {
    let (about, _, _) = shapes().remove(0);
    assert!(refuse_impossible(&about).is_ok());
    let changes: [(&str, Value); 6] = [
        ("/HostConfig/AutoRemove", json!(true)),
        ("/State/Running", json!(false)),
        ("/State/Restarting", json!(true)),
        ("/State/Paused", json!(true)),
        ("/Config/Labels", json!({ "com.docker.swarm.task.id": "t" })),
        ("/Config/Labels", json!({ "io.kubernetes.pod.name": "p" })),
    ];
    for (pointer, value) in changes {
        let mut about = about.clone();
        *about.pointer_mut(pointer).unwrap() = value;
        let failure = refuse_impossible(&about).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict, "{pointer}");
        assert!(failure.what.contains("shop_web_1"), "{failure}");
    }
}

#[test]
fn files_in_the_container_s_own_layer_are_named_and_passing_ones_are_not() {
    let (about, _, _) = shapes().remove(0);
    let lost_of = |paths: &[&str]| {
        let changes = paths.iter().map(|path| Change {
            path: (*path).to_owned(),
        });
        lost(&changes.collect::<Vec<_>>(), &about)
    };
    let passing = [
        "/tmp",
        "/tmp/x",
        "/run/app.pid",
        "/etc",
        "/etc/shop",
        "/data",
        "/var",
        "/var/uploads",
        "/sbin",
        "/sbin/docker-init",
    ];
    assert_eq!(lost_of(&passing), [""; 0]);
    let kept = [
        "/var",
        "/var/lib",
        "/var/lib/state.db",
        "/app/config.ini",
        "/app",
        "/datab",
    ];
    let found = lost_of(&kept);
    assert_eq!(found, ["/var/lib/state.db", "/app/config.ini", "/datab"]);
}

#[test]
fn no_answer_of_an_engine_makes_the_mapper_panic() {
    let good = include_str!("fixtures/docker-20.10.json");
    keywheel_testkit::hostile(good.as_bytes(), |bytes| {
        let Ok(mut about) = serde_json::from_slice::<Value>(bytes) else {
            return;
        };
        drop(Environment::of(&mut about));
        drop(refuse_impossible(&about));
        if let Ok(told) = recreation(&about, &about, RUNTIME, Api(1, 47)) {
            drop(differences(&about, &Value::Object(told.body(Vec::new()))));
        }
        drop(differences(&about, &Value::Null));
        drop(lost(&[], &about));
    });
}

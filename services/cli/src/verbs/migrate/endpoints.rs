//! Networks of a container: which one it is created in, which are connected after, and with which
//! addresses, aliases and options.
//!
//! Pure. The API before 1.44 takes one network at creation, so the others are always connected after.

use serde_json::{Map, Value};

use super::engine::Api;
use super::json::{condensed, is_empty, members, text};
use super::recreate::{shares_network, short_id};

/// What the engine measured of an endpoint, and nobody asked for.
const MEASURED: [&str; 10] = [
    "NetworkID",
    "EndpointID",
    "Gateway",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "MacAddress",
    "DNSNames",
];
/// From here on an endpoint can be asked to have a hardware address.
const TAKES_MAC: Api = Api(1, 44);
/// The network of who names none.
const BRIDGE: &str = "bridge";

/// How a container is connected.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Networks {
    /// Name and settings of the one it is created in, where there is something to say about it.
    pub(super) first: Option<(String, Value)>,
    /// The others: network to connect and settings.
    pub(super) others: Vec<(String, Value)>,
    /// Networks that it was taken out of, and would be created in.
    pub(super) left: Vec<String>,
}

/// Reads them of an inspect.
pub(super) fn of(about: &Value, api: Api) -> Networks {
    let none = Map::new();
    let host = about.get("HostConfig").and_then(Value::as_object);
    if shares_network(host.unwrap_or(&none)) {
        return Networks::default();
    }
    let mode = about.pointer("/HostConfig/NetworkMode");
    let mode = match mode.and_then(Value::as_str).unwrap_or_default() {
        "" | "default" => BRIDGE,
        mode => mode,
    };
    let mut networks = Networks::default();
    let mut is_in_first = false;
    for (name, endpoint) in connected(about) {
        let settings = settings(endpoint, short_id(about), api);
        let id = text(endpoint, "NetworkID");
        if name == mode || id == mode {
            is_in_first = true;
            if !is_empty(&settings) {
                networks.first = Some((name.clone(), settings));
            }
        } else {
            networks.others.push((name.clone(), settings));
        }
    }
    if !is_in_first {
        networks.left.push(mode.to_owned());
    }
    networks
}

/// A container's endpoints by the names of their networks.
pub(super) fn connected(about: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let found = about.pointer("/NetworkSettings/Networks");
    found.and_then(Value::as_object).into_iter().flatten()
}

/// What was asked of an endpoint; what is not known here stays.
pub(super) fn settings(endpoint: &Value, short_id: &str, api: Api) -> Value {
    let fields = endpoint.as_object().into_iter().flatten();
    let mut asked: Map<String, Value> = fields
        .filter(|(name, value)| !MEASURED.contains(&name.as_str()) && !is_empty(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // The engine itself adds the container's short id, and will add the new one's.
    let aliases: Vec<Value> = members(endpoint.get("Aliases"))
        .filter(|alias| alias.as_str() != Some(short_id))
        .cloned()
        .collect();
    asked.remove("Aliases");
    if !aliases.is_empty() {
        asked.insert("Aliases".to_owned(), aliases.into());
    }
    let mac = text(endpoint, "MacAddress");
    if api >= TAKES_MAC && !mac.is_empty() && !is_derived(mac, text(endpoint, "IPAddress")) {
        asked.insert("MacAddress".to_owned(), mac.into());
    }
    Value::Object(asked)
}

/// Whether a hardware address is the one that engines before 28 make of an address.
fn is_derived(mac: &str, address: &str) -> bool {
    let Ok(address) = address.parse::<std::net::Ipv4Addr>() else {
        return false;
    };
    let [a, b, c, d] = address.octets();
    mac.eq_ignore_ascii_case(&format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}"))
}

/// The same endpoints, apart from what engines measure and add, for a comparison.
pub(super) fn comparable(about: &Value) -> Value {
    let host_name = about.pointer("/Config/Hostname").and_then(Value::as_str);
    let of = |endpoint: &Value| {
        // Of no version: a hardware address that was drawn anew is no difference.
        let mut settings = settings(endpoint, short_id(about), Api(0, 0));
        // Engines before 25 add the host's name to the aliases once it is connected.
        if let Some(aliases) = settings.get_mut("Aliases").and_then(Value::as_array_mut) {
            aliases.retain(|alias| alias.as_str() != host_name);
        }
        condensed(&settings)
    };
    let all = connected(about).map(|(name, endpoint)| (name.clone(), of(endpoint)));
    Value::Object(all.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OLD: Api = Api(1, 41);

    fn about(mode: &str, networks: Value) -> Value {
        json!({
            "Id": "0123456789abcdef",
            "HostConfig": { "NetworkMode": mode },
            "NetworkSettings": { "Networks": networks },
        })
    }

    fn endpoint(address: &str, mac: &str) -> Value {
        json!({
            "IPAMConfig": null, "Links": null, "Aliases": null, "NetworkID": "net-1",
            "EndpointID": "e", "Gateway": "172.17.0.1", "IPAddress": address, "IPPrefixLen": 16,
            "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "MacAddress": mac, "DriverOpts": null
        })
    }

    #[test]
    fn the_usual_bridge_needs_no_word() {
        let usual = json!({ "bridge": endpoint("172.17.0.2", "02:42:ac:11:00:02") });
        for mode in ["default", "bridge", ""] {
            assert_eq!(of(&about(mode, usual.clone()), OLD), Networks::default());
        }
        for mode in ["host", "none"] {
            let own = json!({ mode: endpoint("", "") });
            assert_eq!(of(&about(mode, own), OLD), Networks::default());
        }
        let shared = about("container:9", json!({}));
        assert_eq!(of(&shared, OLD), Networks::default());
    }

    #[test]
    fn addresses_aliases_links_and_options_are_kept_and_the_short_id_is_not() {
        let mut own = endpoint("10.9.0.7", "02:42:0a:09:00:07");
        own["IPAMConfig"] = json!({ "IPv4Address": "10.9.0.7" });
        own["Aliases"] = json!(["db", "0123456789ab"]);
        own["Links"] = json!(["cache:c"]);
        own["DriverOpts"] = json!({ "o": "1" });
        own["Future"] = json!({ "x": 1 });
        let mut second = endpoint("10.8.0.2", "02:42:0a:08:00:02");
        second["Aliases"] = json!(["0123456789ab"]);
        let networks = of(&about("app", json!({ "app": own, "back": second })), OLD);
        let asked = json!({
            "IPAMConfig": { "IPv4Address": "10.9.0.7" }, "Aliases": ["db"], "Links": ["cache:c"],
            "DriverOpts": { "o": "1" }, "Future": { "x": 1 }
        });
        assert_eq!(networks.first, Some(("app".to_owned(), asked)));
        assert_eq!(networks.others, [("back".to_owned(), json!({}))]);
        assert!(networks.left.is_empty());
    }

    #[test]
    fn a_network_named_by_its_id_is_the_first_one_and_a_left_one_is_left_again() {
        let own = json!({ "app": endpoint("10.9.0.7", "") });
        assert_eq!(of(&about("net-1", own.clone()), OLD), Networks::default());
        let elsewhere = of(&about("other", own), OLD);
        assert_eq!(elsewhere.left, ["other"]);
        assert_eq!(elsewhere.others.len(), 1);
    }

    #[test]
    fn a_hardware_address_is_kept_where_it_can_be_asked_for_and_was_not_made_of_the_address() {
        let mac_of = |mac: &str, api| {
            let settings = settings(&endpoint("172.17.0.2", mac), "x", api);
            text(&settings, "MacAddress").to_owned()
        };
        assert_eq!(mac_of("02:42:AC:11:00:02", Api(1, 47)), "");
        assert_eq!(mac_of("92:d0:c6:0a:29:33", Api(1, 44)), "92:d0:c6:0a:29:33");
        assert_eq!(mac_of("92:d0:c6:0a:29:33", Api(1, 43)), "");
    }

    #[test]
    fn names_that_engines_add_are_no_difference() {
        let with = |aliases: Value| {
            let mut own = endpoint("10.9.0.7", "");
            own["Aliases"] = aliases;
            let mut about = about("app", json!({ "app": own }));
            about["Config"] = json!({ "Hostname": "keeper" });
            comparable(&about)
        };
        let plain = with(json!(["db"]));
        assert_eq!(with(json!(["db", "0123456789ab", "keeper"])), plain);
        assert_ne!(with(json!(["other"])), plain);
        assert_eq!(with(json!(["keeper"])), with(json!(null)));
    }
}

//! `reload`, in a binding and in a container's label: one grammar for both.
//!
//! A label is text of whoever may use the engine's socket; it is read within the same limits as a
//! manifest, and never panics.

use std::time::Duration;

use keywheel_core::binding::{
    DEFAULT_COMMAND_TIMEOUT, DEFAULT_HEALTH_TIMEOUT, DEFAULT_SETTLE, Reload, Rollout,
};

use super::reader::{Faults, Fields};
use super::scalar::signal_number;
use super::tree::{self, Located, Node, position};
use super::{
    MAX_COMMAND_TIMEOUT, MAX_COMMAND_WORD_BYTES, MAX_COMMAND_WORDS, MAX_LABEL_BYTES,
    MAX_RESTART_WAIT, MAX_ROLLOUT_CONTAINERS,
};

/// Faults of a label that are told.
const MAX_LABEL_FAULTS: usize = 3;

/// Reads what a container's label says behind `reload`, in the words of a binding.
///
/// # Errors
/// With the first faults, in one text.
pub fn parse_reload(text: &str) -> Result<Reload, String> {
    if text.len() > MAX_LABEL_BYTES {
        return Err(format!(
            "it has {} bytes; at most {MAX_LABEL_BYTES} are allowed",
            text.len()
        ));
    }
    let documents = tree::read_documents(text).map_err(|(_, message)| message)?;
    let [document] = documents.as_slice() else {
        return Err(format!("it has to be one value, {FORMS}"));
    };
    let mut faults = Faults::new("label");
    match read_reload(document, &mut faults) {
        Some(Reload::Label) => {
            Err("`label` is for the binding; the label itself says what to do".to_owned())
        }
        Some(Reload::Restart {
            rollout: Some(_), ..
        }) => Err(
            "`rollout` is for the binding: a label asks for nothing of a whole service; leave it out"
                .to_owned(),
        ),
        Some(reload) if faults.is_empty() => Ok(reload),
        _ => {
            let found = faults.finish().into_iter().take(MAX_LABEL_FAULTS);
            let found: Vec<String> = found.map(|fault| fault.message).collect();
            Err(found.join("; "))
        }
    }
}

/// What may stand behind `reload`, for the text about what may not.
const FORMS: &str =
    "`none`, `restart`, `{ signal: HUP }`, `{ restart: {} }` or `{ command: [PROGRAM, ARGUMENT] }`";

pub(super) fn default_restart() -> Reload {
    Reload::Restart {
        settle: DEFAULT_SETTLE,
        health_timeout: DEFAULT_HEALTH_TIMEOUT,
        rollout: None,
    }
}

pub(super) fn read_reload(node: &Located, faults: &mut Faults) -> Option<Reload> {
    if let Node::Text(word) = &node.value {
        return match word.as_str() {
            "none" => Some(Reload::None),
            "restart" => Some(default_restart()),
            "label" => Some(Reload::Label),
            other => {
                let message = format!(
                    "reload `{}` is not known; write {FORMS}, or in a binding `label`",
                    crate::leaf::shorten(other)
                );
                faults.add(position(node), message);
                None
            }
        };
    }
    let known = ["signal", "restart", "command", "timeout"];
    let fields = Fields::of(node, "reload", &known, faults)?;
    if fields.has("timeout") && !fields.has("command") {
        let message = "`timeout` is a command's; a restart has `settle` and `healthTimeout`";
        faults.add(fields.position_of("timeout"), message.to_owned());
        return None;
    }
    let restarts = fields.has("restart");
    match (fields.find("signal"), fields.find("command")) {
        (Some(signal), None) if !restarts => read_signal(signal, faults),
        (None, Some(command)) if !restarts => read_command(command, &fields, faults),
        // `restart:` with nothing behind it means the defaults, as `restart: {}` does.
        (None, None) if restarts => match fields.find("restart") {
            Some(node) => read_restart(node, faults),
            None => Some(default_restart()),
        },
        _ => {
            let message = "`reload` takes either `signal` or `restart` or `command`; write for example `reload: { signal: HUP }`";
            faults.add(position(node), message.to_owned());
            None
        }
    }
}

fn read_signal(node: &Located, faults: &mut Faults) -> Option<Reload> {
    let signal = match &node.value {
        Node::Text(text) => signal_number(text),
        Node::Integer(number) => signal_number(&number.to_string()),
        other => Err(format!(
            "`signal` has to be a name like HUP or a number, not {}",
            other.words()
        )),
    };
    signal
        .map(Reload::Signal)
        .map_err(|fault| faults.add(position(node), fault))
        .ok()
}

fn read_restart(node: &Located, faults: &mut Faults) -> Option<Reload> {
    let known = ["settle", "healthTimeout", "rollout"];
    let fields = Fields::of(node, "restart", &known, faults)?;
    let settle = fields.span("settle", Duration::ZERO, MAX_RESTART_WAIT, faults);
    let least = Duration::from_secs(1);
    let health_timeout = fields.span("healthTimeout", least, MAX_RESTART_WAIT, faults);
    Some(Reload::Restart {
        settle: settle.unwrap_or(DEFAULT_SETTLE),
        health_timeout: health_timeout.unwrap_or(DEFAULT_HEALTH_TIMEOUT),
        // `rollout:` with nothing behind it means the defaults, as `rollout: {}` does.
        rollout: match fields.find("rollout") {
            Some(node) => Some(read_rollout(node, faults)?),
            None => fields.has("rollout").then(Rollout::default),
        },
    })
}

fn read_rollout(node: &Located, faults: &mut Faults) -> Option<Rollout> {
    let known = ["maxParallel", "maxUnavailable", "delay", "monitor"];
    let fields = Fields::of(node, "rollout", &known, faults)?;
    let most = MAX_ROLLOUT_CONTAINERS;
    let max_parallel = fields.number("maxParallel", 1, most, faults);
    let max_unavailable = fields.number("maxUnavailable", 1, most, faults);
    let delay = fields.span("delay", Duration::ZERO, MAX_RESTART_WAIT, faults);
    let monitor = fields.span("monitor", Duration::ZERO, MAX_RESTART_WAIT, faults);
    let default = Rollout::default();
    Some(Rollout {
        max_parallel: max_parallel.unwrap_or(default.max_parallel),
        max_unavailable: max_unavailable.unwrap_or(default.max_unavailable),
        delay: delay.unwrap_or(default.delay),
        monitor: monitor.unwrap_or(default.monitor),
    })
}

fn read_command(node: &Located, fields: &Fields<'_>, faults: &mut Faults) -> Option<Reload> {
    let least = Duration::from_secs(1);
    let timeout = fields.span("timeout", least, MAX_COMMAND_TIMEOUT, faults);
    let Node::List(words) = &node.value else {
        let message = format!(
            "`command` has to be a list of words, like `[nginx, \"-s\", reload]`, not {}; there is no shell unless it is named",
            node.value.words()
        );
        faults.add(position(node), message);
        return None;
    };
    if words.len() > MAX_COMMAND_WORDS {
        let message = format!(
            "`command` has {} words; at most {MAX_COMMAND_WORDS} are allowed",
            words.len()
        );
        faults.add(position(node), message);
        return None;
    }
    let argv: Option<Vec<String>> = words.iter().map(|word| read_word(word, faults)).collect();
    let argv = argv?;
    if argv.first().is_none_or(String::is_empty) {
        let message =
            "`command` names no program; write for example `command: [nginx, \"-s\", reload]`";
        faults.add(position(node), message.to_owned());
        return None;
    }
    Some(Reload::Command {
        argv,
        timeout: timeout.unwrap_or(DEFAULT_COMMAND_TIMEOUT),
    })
}

fn read_word(node: &Located, faults: &mut Faults) -> Option<String> {
    let message = match &node.value {
        Node::Text(word) if word.len() > MAX_COMMAND_WORD_BYTES => format!(
            "a word of `command` has {} bytes; at most {MAX_COMMAND_WORD_BYTES} are allowed",
            word.len()
        ),
        Node::Text(word) if word.contains('\0') => {
            "a word of `command` holds a zero byte, which no argument can".to_owned()
        }
        Node::Text(word) => return Some(word.clone()),
        other => format!(
            "a word of `command` has to be text, and YAML reads this as {}; put it in quotes",
            other.words()
        ),
    };
    faults.add(position(node), message);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_the_same_as_a_binding() {
        for (text, reload) in [
            ("none", Reload::None),
            ("restart", default_restart()),
            ("{ signal: HUP }", Reload::Signal(1)),
            ("signal: SIGUSR2", Reload::Signal(12)),
            (
                "{ command: [nginx, \"-s\", reload], timeout: 5s }",
                Reload::Command {
                    argv: vec!["nginx".into(), "-s".into(), "reload".into()],
                    timeout: Duration::from_secs(5),
                },
            ),
        ] {
            assert_eq!(parse_reload(text), Ok(reload), "{text}");
        }
    }

    #[test]
    fn a_label_that_says_something_else_is_refused_with_what_would_be_right() {
        for (text, part) in [
            ("", "one value"),
            ("--- none\n--- none", "one value"),
            ("label", "is for the binding"),
            ("HUP", "`{ signal: HUP }`"),
            ("{ signal: KILL }", "cannot be caught"),
            ("{ command: reload }", "list of words"),
            ("{ command: [] }", "names no program"),
            ("{ command: [sleep, 5] }", "put it in quotes"),
            ("{ signal: HUP, timeout: 1s }", "is a command's"),
            ("{ comand: [a] }", "did you mean `command`?"),
            ("[", "not YAML"),
            (
                "{ restart: { rollout: {} } }",
                "`rollout` is for the binding",
            ),
        ] {
            let fault = parse_reload(text).unwrap_err();
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }

    #[test]
    fn a_binding_says_how_a_service_rolls_and_its_bounds_hold() {
        let read = |text: &str| {
            let documents = tree::read_documents(text).unwrap();
            let mut faults = Faults::new("binding");
            let reload = read_reload(&documents[0], &mut faults);
            let faults = faults.finish().into_iter().map(|fault| fault.message);
            (reload, faults.collect::<Vec<_>>().join("; "))
        };
        let rolling = |rollout| {
            let reload = Reload::Restart {
                settle: DEFAULT_SETTLE,
                health_timeout: DEFAULT_HEALTH_TIMEOUT,
                rollout: Some(rollout),
            };
            (Some(reload), String::new())
        };
        let default = Rollout::default();
        assert_eq!(read("{ restart: { rollout: {} } }"), rolling(default));
        assert_eq!(read("{ restart: { rollout: } }"), rolling(default));
        let text = "{ restart: { rollout: { maxParallel: 1000, maxUnavailable: 3, delay: 1h, monitor: 30s } } }";
        let most = Rollout {
            max_parallel: MAX_ROLLOUT_CONTAINERS,
            max_unavailable: 3,
            delay: MAX_RESTART_WAIT,
            monitor: Duration::from_secs(30),
        };
        assert_eq!(read(text), rolling(most));
        for (text, part) in [
            (
                "maxParallel: 1001",
                "`maxParallel` has to lie between 1 and 1000",
            ),
            (
                "maxUnavailable: 0",
                "`maxUnavailable` has to lie between 1 and 1000",
            ),
            (
                "maxUnavailable: 25%",
                "`maxUnavailable` has to be a whole number",
            ),
            ("delay: 3601s", "`delay` has to lie between"),
            ("monitor: 5", "`monitor` has no unit"),
            ("maxUnavailble: 1", "did you mean `maxUnavailable`?"),
        ] {
            let (_, faults) = read(&format!("{{ restart: {{ rollout: {{ {text} }} }} }}"));
            assert!(faults.contains(part), "{text}: {faults}");
        }
    }

    #[test]
    fn the_length_of_a_label_is_allowed_and_one_more_is_not() {
        let padded = |bytes: usize| format!("none {}", " ".repeat(bytes - 5));
        assert!(parse_reload(&padded(MAX_LABEL_BYTES)).is_ok());
        let fault = parse_reload(&padded(MAX_LABEL_BYTES + 1)).unwrap_err();
        assert!(fault.contains("at most 4096"), "{fault}");
    }
}

//! The argument table: what is understood, what is refused.

use clap::{CommandFactory as _, Parser as _};
use keywheel_core::approval::MAX_APPROVAL_REASON_CHARS;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

/// One of each.
const FORMS: &[&str] = &[
    "up --data-dir /d --socket /s --unseal-key-file /k --config /c --host-name h",
    "status",
    "status -o json --address unix:///x",
    "--address unix:///x -o json status",
    "apply -f m.yaml",
    "apply -f - --dry-run",
    "get secrets",
    "get secret a/b",
    "get rotations",
    "get hosts -o json",
    "host list -o json",
    "credentials refresh --gateway-dir /g --unseal-key-file /k /d /e",
    "ca begin --gateway-dir /g --ca-cert /c --ca-key /k",
    "nats config",
    "nats config --bus a:1 --bus b:1 --node bus-2 --installed /d --out /o",
    "ca status",
    "ca finish --drop-long-lived --lifetime 1h",
    "init --out /o --ca-cert /c --ca-key /k",
    "init --out /o --unseal shamir:3/5",
    "init --out /o --unseal kms:/etc/keywheel/unseal.toml",
    "init --single --out /d --unseal-key-file /k --unseal passphrase",
    "unseal",
    "unseal -o json",
    "seal --yes --reason why",
    "rotate-kek --wait",
    "reseal --to shamir:3/5 --config /c --data-dir /d --unseal-key-file /k",
    "reseal --to transit:/etc/keywheel/unseal.toml",
    "host describe web-1",
    "describe host web-1",
    "host join-token web-2",
    "host evict web-1 --reason stolen --yes --rotate",
    "describe rotation 00000000-0000-0000-0000-000000000000",
    "explain web a/b",
    "explain 0123456789ab a/b --host web-1 -o json",
    "secret put a/b",
    "secret put a/b --value-file - --wait",
    "secret list",
    "secret versions a/b",
    "schedule next a/b",
    "schedule next a/b --count 100 -o json",
    "rotate a/b --wait --timeout 90s -o json",
    "rotate a/b --dry-run",
    "rotation list",
    "rotation describe a/b -o json",
    "rotation abort a/b --reason why --wait",
    "rotation retry 00000000-0000-0000-0000-000000000000 --reason why",
    "rotation force a/b --reason why --yes --wait --timeout 1h",
    "revoke a/b --version 3 --reason why --yes --wait --timeout 1h",
    "revoke --prefix prod --reason why --yes",
    "revoke a/b --reason why --yes --replace --wait",
    "revoke --store bao --emergency --reason why --yes --wait",
    "revoke --container web-7 --dry-run",
    "revoke --image sha256:1 --dry-run -o json",
    "revoke --service shop/web --reason why --yes",
    "revocation list",
    "revocation describe a/b -o json",
    "revocation forget a/b --reason why --yes",
    "playbook list",
    "playbook describe p -o json",
    "playbook validate p --set secret=a/b",
    "playbook plan p --set secret=a/b --set host=h",
    "playbook run p --set secret=a/b --reason why --yes --wait --timeout 1h",
    "playbook runs",
    "playbook describe-run 00000000-0000-0000-0000-000000000000 --wait",
    "playbook approve 00000000-0000-0000-0000-000000000000 --step ask --reason why",
    "playbook pause 00000000-0000-0000-0000-000000000000 --reason why",
    "playbook resume 00000000-0000-0000-0000-000000000000 --reason why",
    "playbook cancel 00000000-0000-0000-0000-000000000000 --reason why",
    "playbook quarantines -o json",
    "playbook lift web-7 --reason why",
    "playbook remove p --yes",
    "approval list --waiting",
    "approval list --unreviewed -o json",
    "approval describe 00000000-0000-0000-0000-000000000000",
    "approval approve 00000000-0000-0000-0000-000000000000 --reason why",
    "approval deny 00000000-0000-0000-0000-000000000000 --reason why",
    "approval withdraw 00000000-0000-0000-0000-000000000000",
    "approval break-glass 00000000-0000-0000-0000-000000000000 --reason why",
    "approval review 00000000-0000-0000-0000-000000000000 --reason why",
    "approval confirm-sinks --reason why",
    "--break-glass why policy apply d",
    "audit export --file x --break-glass why",
    "unbind b --yes",
    "consumers --secret a/b",
    "events list --after 5 --limit 10",
    "events tail",
    "events list --type a.b. --secret a/b --since 24h",
    "events tail --subject secret/x --since 2026-11-28T14:02:00Z",
    "events list --subscription siem --acknowledge",
    "events tail --subscription siem",
    "events subscribe siem --after 0",
    "events subscriptions -o json",
    "events acknowledge siem 7",
    "events unsubscribe siem",
    "notification list -o json",
    "notification describe soc",
    "notification test soc",
    "notification replay soc --after 7",
    "notification remove soc --yes",
    "signal sources",
    "signal remove-source pager --yes",
    "letter list",
    "letter retry x",
    "letter discard x",
    "history a/b",
    "history a/b --at 24h -o json",
    "audit list",
    "audit list --who certificate:ada --policy break-glass",
    "audit tail --after 0",
    "audit export --file x",
    "audit verify --file x --public-key k",
    "audit prove 41 --file x",
    "audit verify --proof x",
    "audit verify --since x --public-key k",
    "audit retention -o json",
    "journal verify",
    "backup --out /b",
    "backup verify /b --unseal-key-file /k -o json",
    "restore /b",
    "restore /b --data-dir /d --unseal-key-file /k --config /c --sink /s --seen-records 7 --deployment d --accept-older --reason why",
    "restore accept --reason why",
    "report revocation a/b --out r.html --out r.json",
    "report revocation 00000000-0000-0000-0000-000000000000",
    "report rotation a/b -o json",
    "report host web-1 --out r.html",
    "report playbook-run leaked-credential --out r.html --out r.json",
    "report run 00000000-0000-0000-0000-000000000000",
    "report verify r.html --key k -o json",
    "setup docker --undo --yes --runtime-name n --daemon-json /d --injector-socket /i",
    "setup podman --make-default --yes --configuration /c --programs /p --injector-socket /i",
    "setup podman --undo --runtime-name n",
    "setup podman --real-runtime crun",
    "migrate web --env A=a/b",
    "migrate web --env A=a/b --env B=c --use-current c --runtime n --host h --dry-run --discard-changes --wait-healthy 2m --settle 1s --yes -o json",
    "completion fish",
    "version",
    "exit-codes",
    "import aws --path prod/ --store sm --region r --endpoint https://e --profile p -o json",
    "import vault --server https://v --path a --mount kv --namespace n --ca-file /c --token-file /t",
    "token issue ci --verb list,rotate --on path/prod --on store/bao --for 30d --uses 5 -o json",
    "token list",
    "token revoke ci --reason r",
    "token revoke --owner certificate:ada --reason r",
    "revoke --principal certificate:bob --reason r",
    "revoke --principal service:prod/shop --dry-run",
    "whoami -o json",
    "--bearer-token-file /t --gateway-ca-file /c whoami",
    "whoami --bearer-token-file -",
    "internal failpoints",
    "internal check-schedule",
];

#[test]
fn every_fixed_form_is_understood() {
    for line in FORMS {
        let words = std::iter::once("keywheel").chain(line.split(' '));
        let parsed = Cli::try_parse_from(words);
        let fails = *line == "internal check-schedule";
        assert_eq!(parsed.is_err(), fails, "{line}: {parsed:?}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for line in [
        "rotat a/b",
        "rotate",
        "rotate a/b --timeout soon",
        "rotate a/b --dry-run --wait",
        "rotation",
        "rotation abort a/b",
        "rotation retry --reason why",
        "rotation force a/b --yes",
        "revoke a/b --yes",
        "revoke --reason r",
        "revoke a/b --prefix prod --reason r",
        "revoke --image sha256:1 --service web --reason r",
        "revoke --prefix prod --version 3 --reason r",
        "revoke a/b --version 3 --emergency --reason r",
        "revoke --prefix prod --dry-run --yes",
        "revocation",
        "revocation forget a/b --yes",
        "revoke a/b --reason r --version latest",
        "status --nonsense",
        "status -o xml",
        "get nothing",
        "explain web",
        "schedule",
        "schedule next",
        "schedule next a/b --count 0",
        "schedule next a/b --count 101",
        "backup",
        "backup --out /b verify /b",
        "restore",
        "restore accept",
        "restore /b --accept-older",
        "restore /b --seen-records many",
        "host",
        "host evict web-1 --yes",
        "host join-token",
        "apply",
        "migrate web",
        "migrate --env A=a/b",
        "migrate web --env A=a/b --settle soon",
        "events list --limit -1",
        "audit prove",
        "audit verify --file x --proof y",
        "audit verify --since x --proof y",
        "completion tcsh",
        "token issue ci --on path/prod",
        "token issue ci --verb list",
        "token issue ci --verb list --on path/prod --for 30s",
        "revoke --principal service:a --prefix prod --reason r",
        "token revoke ci",
        "token revoke --reason r",
        "token revoke ci --owner certificate:ada --reason r",
    ] {
        let words = std::iter::once("keywheel").chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_err(), "{line}");
    }
}

#[test]
fn broken_glass_takes_a_reason_before_anything_is_asked_for() {
    let long = "r".repeat(MAX_APPROVAL_REASON_CHARS + 1);
    let read = |reason: &str| {
        let words = ["keywheel", "--break-glass", reason, "policy", "apply", "d"];
        Cli::try_parse_from(words)
    };
    for reason in ["", " \t", long.as_str()] {
        assert!(read(reason).is_err(), "{reason:?}");
    }
    let longest = read(&long[1..]).unwrap();
    assert_eq!(longest.break_glass.as_deref(), Some(&long[1..]));
}

fn assert_has_example(command: &clap::Command, path: &str) {
    let verbs: Vec<_> = command.get_subcommands().collect();
    if verbs.is_empty() {
        let help = command.get_after_help().map(ToString::to_string);
        assert!(
            help.is_some_and(|help| help.contains("keywheel") || help == exit::TABLE),
            "`{path} --help` has no example"
        );
    }
    for verb in verbs.into_iter().filter(|verb| !verb.is_hide_set()) {
        assert_has_example(verb, &format!("{path} {}", verb.get_name()));
    }
}

#[test]
fn every_verb_s_help_has_an_example() {
    assert_has_example(&Cli::command(), "keywheel");
}

#[test]
fn the_help_of_lists_says_which_end_a_limit_keeps_of_what_a_filter_finds() {
    for noun in ["audit", "events"] {
        let mut command = Cli::command();
        let verbs = command.find_subcommand_mut(noun).unwrap();
        let list = verbs.find_subcommand_mut("list").unwrap();
        let help = list.render_long_help().to_string().replace('\n', " ");
        assert!(
            help.contains("the first --limit of them, which are the OLDEST"),
            "{help}"
        );
    }
}

#[test]
fn help_of_exit_codes_shows_the_table() {
    let mut command = Cli::command();
    let codes = command.find_subcommand_mut("exit-codes").unwrap();
    let help = codes.render_long_help().to_string();
    for exit in exit::Exit::ALL {
        assert!(
            help.contains(exit.meaning().split(':').next().unwrap()),
            "{help}"
        );
    }
}

#[test]
fn help_of_what_is_done_with_the_authorities_names_its_record_and_codes_that_there_are() {
    for (words, is_deed) in [
        (["credentials", "refresh"], true),
        (["nats", "config"], true),
        (["ca", "begin"], true),
        (["ca", "finish"], true),
        (["ca", "status"], false),
    ] {
        let mut command = Cli::command();
        let noun = command.find_subcommand_mut(words[0]).unwrap();
        let verb = noun.find_subcommand_mut(words[1]).unwrap();
        let after = verb.get_after_help().unwrap().to_string();
        let told = match is_deed {
            true => "deeds.jsonl",
            false => "leaves no record",
        };
        assert!(after.contains(told), "{words:?}: {after}");
        let codes = after.split(|c: char| !c.is_ascii_digit());
        let codes = codes.filter(|number| number.len() == 2);
        let codes: Vec<u8> = codes.filter_map(|number| number.parse().ok()).collect();
        assert!(codes.contains(&78), "{words:?}: {after}");
        for code in codes.into_iter().filter(|code| *code >= 64) {
            let is_known = exit::Exit::ALL.iter().any(|exit| exit.code() == code);
            assert!(is_known, "{words:?} says {code}");
        }
    }
}

#[test]
fn help_of_approve_says_that_a_token_says_no_word() {
    let command = Cli::command();
    let approval = command.find_subcommand("approval").unwrap();
    let approve = approval.find_subcommand("approve").unwrap();
    let about = approve.get_about().unwrap().to_string();
    assert!(about.contains("a token says none"), "{about}");
}

/// A page that somebody reads at night has to name what there is.
#[test]
fn every_command_of_the_alerts_pages_is_understood() {
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let page = std::fs::read_to_string(deploy.join("docs/alerts.md")).unwrap();
    let spans: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let commands = spans.iter().filter(|span| span.starts_with("keywheel "));
    let mut lines: Vec<&str> = commands.copied().collect();
    assert!(lines.len() > 100, "{}: the page was not read", lines.len());
    lines.retain(|line| Cli::try_parse_from(line.split(' ')).is_err());
    assert_eq!(lines, [""; 0], "not understood");
    let golden = std::fs::read_dir(deploy.join("../schemas/golden")).unwrap();
    let types: Vec<String> = golden
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let after = |mark: &str| -> Vec<String> {
        let words = page.split(mark).skip(1);
        let words = words.map(|rest| rest.split([' ', '`']).next().unwrap_or_default());
        words.map(str::to_owned).collect()
    };
    for kind in after("--type ") {
        assert!(types.iter().any(|name| name.starts_with(&kind)), "{kind}");
    }
    for event in after("KEYWHEEL_EVENT=") {
        let mut lines = keywheel_daemon::lines::ALL.iter();
        assert!(lines.any(|(name, _)| *name == event), "{event}");
    }
    for role in after("keywheel-node start ") {
        let is_bus = role.starts_with("bus-");
        let roles = [
            "gateway",
            "scheduler",
            "store-sync",
            "audit-sink",
            "injector",
        ];
        assert!(
            is_bus || role == "ROLE" || roles.contains(&role.as_str()),
            "{role}"
        );
    }
}

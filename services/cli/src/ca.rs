//! `keywheel ca`: another root for the deployment, without a connection lost. At the gateway's machine;
//! a running gateway takes the changed file up by itself, and puts on record what was done.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use keywheel_core::id::DeploymentId;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_identity::authority::{Authority, LongLived, MEMBER_LIFETIME_MOST};
use keywheel_identity::ledger::Verb;
use keywheel_member::ends;
use keywheel_schemas::config::apart::MIN_CREDENTIAL_LIFETIME;
use keywheel_seal::{OsEntropy, SecretBytes};

use crate::args::{CaArgs, CaVerb, FinishArgs, OwnCa};
use crate::credentials::{Opened, open};
use crate::deed::{About, noted};
use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::span;

/// Largest file of a certificate or key, in bytes.
const MAX_PEM_BYTES: u64 = 64 << 10;
/// What the audit calls the deployment's authority.
const OBJECT: &str = "ca";
/// What is so after `begin`.
const BEGUN: &str = "certificates come from the new root; both are trusted";
/// What is so after `finish`.
const FINISHED: &str = "the old root is trusted no more";

/// Does what `ca` says.
pub(crate) fn run(screen: Screen, verb: &CaVerb) -> Result<(), Failure> {
    match verb {
        CaVerb::Begin(args) => begin(screen, args),
        CaVerb::Status(args) => {
            let opened = open(args)?;
            tell(screen, &opened.authority, "")
        }
        CaVerb::Finish(args) => finish(screen, args),
    }
}

/// One's own authority, if one was given.
pub(crate) fn own(given: &OwnCa, deployment: DeploymentId) -> Result<Option<Authority>, Failure> {
    let (Some(certificate), Some(key)) = (&given.ca_cert, &given.ca_key) else {
        return Ok(None);
    };
    let chain = String::from_utf8(read(certificate)?).map_err(|_| {
        let what = format!("{} is no text", certificate.display());
        Failure::new(Exit::Input, what, "give a PEM file")
    })?;
    let key = SecretBytes::from(read(key)?);
    let own = Authority::from_pem(deployment, &chain, &key).map_err(|e| {
        Failure::new(
            Exit::Input,
            keywheel_daemon::chain(&e),
            "give with --ca-cert the issuing certificate first and its root last, and with --ca-key its key, both PEM",
        )
    })?;
    Ok(Some(own))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    // As large as the file may be, so that a key is not copied while it grows.
    let room = usize::try_from(MAX_PEM_BYTES).unwrap_or_default();
    let mut bytes = Vec::with_capacity(room);
    let reading =
        File::open(path).and_then(|file| file.take(MAX_PEM_BYTES).read_to_end(&mut bytes));
    reading.map_err(|e| {
        let what = format!("cannot read {}: {e}", path.display());
        Failure::new(Exit::NoInput, what, "name a PEM file that you may read")
    })?;
    Ok(bytes)
}

fn begin(screen: Screen, args: &CaArgs) -> Result<(), Failure> {
    let root = args.own.ca_cert.as_ref();
    let words = root.map(|file| format!("to the authority in {}", file.display()));
    let about = About {
        verb: Verb::BeginCaRollover,
        object: OBJECT,
        words: words.as_deref().unwrap_or_default(),
    };
    let authority = noted(&args.home, about, || begun(args), |_| BEGUN.to_owned())?;
    tell(screen, &authority, &format!("{BEGUN}\n"))
}

fn begun(args: &CaArgs) -> Result<Authority, Failure> {
    let mut opened = open(&args.home)?;
    let deployment = opened.identity.deployment;
    let now = SystemClock::new().now();
    let next = match own(&args.own, deployment)? {
        Some(own) => own,
        None => Authority::create(deployment, now, &OsEntropy).map_err(|e| refused(&e))?,
    };
    let begun = opened.authority.begin_rollover(next, now, &OsEntropy);
    begun.map_err(|e| refused(&e))?;
    keep(&opened)?;
    Ok(opened.authority)
}

fn finish(screen: Screen, args: &FinishArgs) -> Result<(), Failure> {
    let life = lifetime(args.lifetime.as_deref())?;
    let (old, words) = match args.drop_long_lived {
        true => (LongLived::Drop, "not waiting for people and bus servers"),
        false => (LongLived::Wait, ""),
    };
    let about = About {
        verb: Verb::FinishCaRollover,
        object: OBJECT,
        words,
    };
    let work = || finished(args, life, old);
    let authority = noted(&args.home, about, work, |_| FINISHED.to_owned())?;
    tell(screen, &authority, &format!("{FINISHED}\n"))
}

fn finished(args: &FinishArgs, life: Duration, old: LongLived) -> Result<Authority, Failure> {
    let mut opened = open(&args.home)?;
    opened.authority = opened.authority.with_member_lifetime(life);
    let now = SystemClock::new().now();
    let finished = opened.authority.finish_rollover(now, old);
    finished.map_err(|e| refused(&e))?;
    keep(&opened)?;
    Ok(opened.authority)
}

fn lifetime(given: Option<&str>) -> Result<Duration, Failure> {
    let Some(text) = given else {
        return Ok(MEMBER_LIFETIME_MOST);
    };
    let bounds = MIN_CREDENTIAL_LIFETIME..=MEMBER_LIFETIME_MOST;
    span::parse(text)
        .ok()
        .filter(|life| bounds.contains(life))
        .ok_or_else(|| {
            let what = "--lifetime is no life of credentials";
            Failure::new(
                Exit::Usage,
                what,
                "write one from 10s to 24h, as `credentials.lifetime` at the gateway says",
            )
        })
}

fn keep(opened: &Opened) -> Result<(), Failure> {
    let sealed = opened.authority.seal(&opened.unseal, &OsEntropy);
    let sealed = sealed.map_err(|e| refused(&e))?;
    opened.home.keep_authority(&sealed).map_err(|e| {
        Failure::new(
            Exit::CannotCreate,
            keywheel_daemon::chain(&e),
            "correct what is named, and look with `keywheel ca status` before you repeat the command",
        )
    })
}

fn refused(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(
        Exit::Conflict,
        keywheel_daemon::chain(error),
        "`keywheel ca status` says where a rollover is",
    )
}

fn tell(screen: Screen, authority: &Authority, done: &str) -> Result<(), Failure> {
    let members = authority.rollover_ends(LongLived::Drop).map(ends);
    let everyone = authority.rollover_ends(LongLived::Wait).map(ends);
    let json = serde_json::json!({
        "rolling_over": authority.is_rolling_over(),
        "members_done_at": members,
        "everyone_done_at": everyone,
    });
    screen.show(&json, |_| match (members, everyone) {
        (Some(members), Some(everyone)) => format!(
            "{done}a rollover is under way\n  services and hosts renew by themselves, the last at {members}\n  bus servers and people: `keywheel credentials refresh` on their directories, then SIGHUP to nats-server\n  with several gateways: bring authority.json to each\nthen: keywheel ca finish --drop-long-lived; without the flag it waits until {everyone}\n"
        ),
        _ => format!("{done}no rollover is under way\n"),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use keywheel_identity::init::{NewDeployment, init};
    use keywheel_identity::ledger::{LEDGER_FILE, Ledger, Stage};
    use keywheel_identity::name::OperatorName;

    use super::*;
    use crate::args::{Format, HomeArgs};
    use crate::up::layout;

    /// A deployment of which no service runs.
    pub(crate) fn home(scratch: &Path) -> HomeArgs {
        let (out, key) = (scratch.join("deployment"), scratch.join("gateway.key"));
        let now = SystemClock::new().now();
        let deployment = DeploymentId::from_bytes([7; 16]);
        let new = NewDeployment {
            deployment,
            authority: Authority::create(deployment, now, &OsEntropy).unwrap(),
            operator: OperatorName::parse("ada").unwrap(),
            addresses: BTreeMap::new(),
            servers: Vec::new(),
            urls: Vec::new(),
            tls: true,
            unseal: &layout::first_unseal_key(&key, &out).unwrap(),
            entropy: &OsEntropy,
            now,
        };
        init(&out, &new).unwrap();
        HomeArgs {
            gateway_dir: out.join("gateway"),
            unseal_key_file: key,
        }
    }

    fn begin_at(home: &HomeArgs) -> Result<(), Failure> {
        let own = OwnCa {
            ca_cert: None,
            ca_key: None,
        };
        let home = home.clone();
        begin(Screen::of_terminal(Format::Json), &CaArgs { home, own })
    }

    #[test]
    fn another_root_and_what_is_refused_of_it_are_noted_before_and_after() {
        let scratch = tempfile::tempdir().unwrap();
        let home = home(scratch.path());
        begin_at(&home).unwrap();
        assert!(open(&home).unwrap().authority.is_rolling_over());
        let again = begin_at(&home).unwrap_err();
        let early = FinishArgs {
            home: home.clone(),
            drop_long_lived: true,
            lifetime: None,
        };
        let too_early = finish(Screen::of_terminal(Format::Json), &early).unwrap_err();
        let wrong_line = FinishArgs {
            lifetime: Some("a week".to_owned()),
            ..early
        };
        finish(Screen::of_terminal(Format::Json), &wrong_line).unwrap_err();
        let noted = Ledger::new(&home.gateway_dir).read().unwrap().unwrap();
        let all: Vec<(Verb, Stage)> = noted.lines.iter().map(|l| (l.verb, l.stage)).collect();
        let expected = [
            (Verb::BeginCaRollover, Stage::Asked),
            (Verb::BeginCaRollover, Stage::Done),
            (Verb::BeginCaRollover, Stage::Asked),
            (Verb::BeginCaRollover, Stage::Failed),
            (Verb::FinishCaRollover, Stage::Asked),
            (Verb::FinishCaRollover, Stage::Failed),
        ];
        assert_eq!(all, expected);
        let failed = [&noted.lines[3].words, &noted.lines[5].words];
        for (words, failure) in failed.into_iter().zip([again, too_early]) {
            assert!(failure.what.starts_with(words.as_str()), "{words}");
        }
    }

    /// As the help says it.
    #[test]
    fn each_reason_to_refuse_ends_with_a_code_of_its_own() {
        let scratch = tempfile::tempdir().unwrap();
        let home = home(scratch.path());
        let screen = Screen::of_terminal(Format::Json);
        let none = FinishArgs {
            home: home.clone(),
            drop_long_lived: false,
            lifetime: None,
        };
        assert_eq!(finish(screen, &none).unwrap_err().exit, Exit::Conflict);
        let with = |file: &Path| {
            let own = OwnCa {
                ca_cert: Some(file.to_owned()),
                ca_key: Some(file.to_owned()),
            };
            let home = home.clone();
            begin(screen, &CaArgs { home, own }).unwrap_err().exit
        };
        assert_eq!(with(&scratch.path().join("none.pem")), Exit::NoInput);
        let wrong = scratch.path().join("wrong.pem");
        std::fs::write(&wrong, "no authority").unwrap();
        assert_eq!(with(&wrong), Exit::Input);
        let other_key = HomeArgs {
            unseal_key_file: scratch.path().join("none"),
            ..home.clone()
        };
        assert_eq!(begin_at(&other_key).unwrap_err().exit, Exit::Config);
        let looked = run(screen, &CaVerb::Status(other_key));
        assert_eq!(looked.unwrap_err().exit, Exit::Config);
        let elsewhere = HomeArgs {
            gateway_dir: scratch.path().join("none"),
            ..home.clone()
        };
        assert_eq!(begin_at(&elsewhere).unwrap_err().exit, Exit::Config);
        begin_at(&home).unwrap();
        assert_eq!(begin_at(&home).unwrap_err().exit, Exit::Conflict);
        // A look leaves no line.
        let lines = || {
            Ledger::new(&home.gateway_dir)
                .read()
                .unwrap()
                .unwrap()
                .lines
                .len()
        };
        let before = lines();
        run(screen, &CaVerb::Status(home.clone())).unwrap();
        assert_eq!(lines(), before);
    }

    #[test]
    fn where_nothing_can_be_noted_the_root_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let home = home(scratch.path());
        std::fs::create_dir(home.gateway_dir.join(LEDGER_FILE)).unwrap();
        let refused = begin_at(&home).unwrap_err();
        assert!(refused.what.contains("nothing was changed"));
        assert!(!open(&home).unwrap().authority.is_rolling_over());
    }
}

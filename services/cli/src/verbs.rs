//! One verb, one function. A verb asks the daemon, shows the answer and tells how it ended.
//!
//! Invariant: no verb prints a value, for there is none in any answer.

mod apply;
mod approval;
mod audit;
mod backup;
mod explain;
mod host;
mod import;
mod input;
mod login;
mod look;
mod migrate;
mod outward;
mod plain;
mod playbook;
mod policy;
mod report;
mod revocation;
mod revoke;
mod rotate;
mod rotation;
mod rotator;
mod schedule;
mod seal;
mod secret;
mod store;
mod streams;
mod subscriptions;
mod token;
mod waiting;

use crate::address::Address;
use crate::args::{
    AuditVerb, BackupArgs, BackupVerb, Cli, CredentialsVerb, JournalVerb, NatsVerb, PolicyVerb,
    ReportVerb, SecretVerb, SetupVerb, Verb,
};
use crate::backup::restore;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::login::Named;
use crate::output::Screen;
use crate::seal::reseal;
use crate::{ca, credentials, doctor, init, nats, server, setup, up};

/// What a verb works with.
#[derive(Debug, Clone)]
struct Desk {
    client: Client,
    screen: Screen,
}

/// Does what the command line says.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let screen = Screen::of_terminal(cli.output);
    let named = Named::of(&cli);
    match cli.verb {
        Verb::Login(args) => Box::pin(login::login(screen, &named, &args)).await,
        Verb::Logout => login::logout(screen, &named).await,
        Verb::Up(args) => up::run(args).await.map_err(Failure::from),
        Verb::Server(args) => server::run(args).await.map_err(Failure::from),
        Verb::Init(args) => Box::pin(init::run(screen, &args)).await,
        Verb::Reseal(args) => Box::pin(reseal::run(screen, &args)).await,
        Verb::Credentials(CredentialsVerb::Refresh(args)) => credentials::refresh(screen, &args),
        Verb::Nats(NatsVerb::Config(args)) => nats::config(screen, &args),
        Verb::Unseal(args) if args.is_typed() => Err(seal::on_command_line()),
        Verb::Ca(verb) => ca::run(screen, &verb),
        Verb::Completion { shell } => plain::completion(screen, shell),
        Verb::Version => plain::version(screen),
        Verb::ExitCodes => plain::exit_codes(screen),
        Verb::Internal(verb) => plain::internal(screen, &verb),
        Verb::Import(verb) => import::run(screen, &verb).await,
        Verb::Setup(SetupVerb::Docker(args)) => {
            setup::docker(screen, &Address::parse(&cli.address)?, &args).await
        }
        Verb::Setup(SetupVerb::Podman(args)) => {
            setup::podman::podman(screen, &Address::parse(&cli.address)?, &args)
        }
        Verb::Doctor(args) => {
            let case = doctor::Case {
                address: &Address::parse(&cli.address)?,
                operator: cli.identity.as_deref(),
                args: &args,
            };
            doctor::run(screen, case).await
        }
        Verb::Audit(AuditVerb::Verify {
            file: Some(file),
            public_key,
            against,
            since,
            ..
        }) => {
            let elsewhere = audit::Elsewhere {
                against: &against,
                since: since.as_deref(),
            };
            audit::verify_file(screen, &file, public_key.as_deref(), elsewhere)
        }
        Verb::Audit(AuditVerb::Verify {
            proof: Some(proof),
            public_key,
            ..
        }) => audit::proof::verify_file(screen, &proof, public_key.as_deref()),
        Verb::Policy(PolicyVerb::Validate(args)) => policy::validate(screen, &args),
        Verb::Policy(PolicyVerb::Test(args)) => policy::test(screen, &args),
        Verb::Report(ReportVerb::Verify { file, key }) => report::verify(screen, &file, &key),
        Verb::Backup(BackupArgs {
            verb: Some(BackupVerb::Verify(args)),
            ..
        }) => restore::verify(screen, &args).await,
        Verb::Restore(args) if args.verb.is_none() => {
            let file = args.file.clone().unwrap_or_default();
            Box::pin(restore::restore(screen, &file, &args)).await
        }
        verb => {
            let client = crate::login::client(&named).await?;
            let client = client.breaking_glass(cli.break_glass.clone());
            ask_daemon(&Desk { client, screen }, verb).await
        }
    }
}

async fn ask_daemon(desk: &Desk, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Status(args) => look::status(desk, &args).await,
        Verb::Unseal(_) => seal::unseal(desk).await,
        Verb::Seal { yes, reason } => seal::seal(desk, yes, reason).await,
        Verb::RotateKek { wait } => seal::rotate_kek(desk, wait).await,
        Verb::Apply(args) => apply::apply(desk, &args).await,
        Verb::Get(args) => look::list(desk, &args).await,
        Verb::Describe(args) => look::describe(desk, &args).await,
        Verb::Explain(args) => explain::explain(desk, &args).await,
        Verb::Secret(SecretVerb::Put(args)) => secret::put(desk, &args).await,
        Verb::Secret(SecretVerb::List) => look::secrets(desk).await,
        Verb::Secret(SecretVerb::Versions { name }) => secret::versions(desk, &name).await,
        Verb::Schedule(verb) => schedule::run(desk, &verb).await,
        Verb::Rotate(args) => rotate::rotate(desk, &args).await,
        Verb::Rotation(verb) => rotation::run(desk, &verb).await,
        Verb::Refresh(args) => store::refresh(desk, &args).await,
        Verb::Store(verb) => store::run(desk, &verb).await,
        Verb::Rotator(verb) => rotator::run(desk, &verb).await,
        Verb::Revoke(args) => revoke::revoke(desk, &args).await,
        Verb::Revocation(verb) => revocation::run(desk, &verb).await,
        Verb::Playbook(verb) => playbook::run(desk, &verb).await,
        Verb::Policy(verb) => policy::run(desk, &verb).await,
        Verb::Token(verb) => token::run(desk, &verb).await,
        Verb::Whoami => token::whoami(desk).await,
        Verb::Approval(verb) => approval::run(desk, &verb).await,
        Verb::Unbind(args) => revoke::unbind(desk, &args).await,
        Verb::Migrate(args) => Box::pin(migrate::migrate(desk, &args)).await,
        Verb::Host(verb) => host::run(desk, &verb).await,
        Verb::Consumers(args) => look::consumers(desk, args.secret.as_deref()).await,
        Verb::Events(verb) => subscriptions::events(desk, verb).await,
        Verb::Notification(verb) => outward::notification(desk, &verb).await,
        Verb::Signal(verb) => outward::signal(desk, &verb).await,
        Verb::Letter(verb) => outward::letter(desk, &verb).await,
        Verb::History(args) => look::history(desk, &args).await,
        Verb::Audit(verb) => ask_audit(desk, verb).await,
        Verb::Journal(JournalVerb::Verify) => look::journal(desk).await,
        Verb::Report(verb) => report::run(desk, &verb).await,
        verb @ (Verb::Backup(_) | Verb::Restore(_)) => backup::ask(desk, verb).await,
        Verb::Up(_)
        | Verb::Server(_)
        | Verb::Init(_)
        | Verb::Reseal(_)
        | Verb::Credentials(_)
        | Verb::Ca(_)
        | Verb::Nats(_)
        | Verb::Doctor(_)
        | Verb::Import(_)
        | Verb::Setup(_)
        | Verb::Completion { .. }
        | Verb::Version
        | Verb::ExitCodes
        | Verb::Login(_)
        | Verb::Logout
        | Verb::Internal(_) => Err(Failure::new(
            Exit::Unexpected,
            "this verb needs no daemon",
            "report this fault of keywheel",
        )),
    }
}

async fn ask_audit(desk: &Desk, verb: AuditVerb) -> Result<(), Failure> {
    match verb {
        AuditVerb::List(args) => {
            let wish = streams::Wish::of_audit(&args)?;
            streams::list(desk, &streams::AUDIT, &wish).await.map(drop)
        }
        AuditVerb::Retention => audit::retention(desk).await,
        AuditVerb::Tail(page) => {
            streams::tail(desk, &streams::AUDIT, &streams::Wish::of_page(&page)).await
        }
        AuditVerb::Export { file, from, to } => {
            audit::export(desk, (from, to), file.as_deref()).await
        }
        AuditVerb::Prove { index, file } => audit::proof::prove(desk, index, file.as_deref()).await,
        AuditVerb::Verify {
            since: Some(since),
            public_key,
            against,
            ..
        } if against.is_empty() => audit::since::verify(desk, &since, public_key.as_deref()).await,
        AuditVerb::Verify {
            public_key,
            against,
            since,
            ..
        } => {
            let elsewhere = audit::Elsewhere {
                against: &against,
                since: since.as_deref(),
            };
            audit::verify(desk, public_key.as_deref(), elsewhere).await
        }
    }
}

#[cfg(test)]
mod tests;

//! `keywheel doctor`: checks a set-up from the client's side, one line per thing: ok, warning or
//! problem, with the next step. Needs no daemon and changes nothing; what is not set up is left out.

mod local;
mod network;

use keywheel_core::audit::Role;
use keywheel_daemon::settings::SettingsError;
use keywheel_engine::presence::{Fact, Health};
use keywheel_schemas::api::{DoctorReport, FactView, HealthWord};
use keywheel_schemas::config::{Config, ConfigError, ConfigFlags};

use crate::address::Address;
use crate::args::{DoctorArgs, DoctorRole};
use crate::exit::{Exit, Failure};
use crate::output::{Screen, tame};

/// What there is to check.
pub(crate) struct Case<'a> {
    /// Where the gateway is.
    pub(crate) address: &'a Address,
    /// Directory of an operator's credentials.
    pub(crate) operator: Option<&'a std::path::Path>,
    /// What the command line asks for.
    pub(crate) args: &'a DoctorArgs,
}

/// Checks everything and shows it.
pub(crate) async fn run(screen: Screen, case: Case<'_>) -> Result<(), Failure> {
    let report = report(examine(&case).await);
    screen.show(&report, page)?;
    let problems = count(&report, HealthWord::Problem);
    if problems == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Partial,
        format!("{problems} problems; the lines above name them"),
        "do what stands below each of them",
    ))
}

async fn examine(case: &Case<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    let config = configuration(case.args, &mut facts);
    if config.is_some() {
        facts.push(local::locked_memory());
    }
    let role = case.args.role.map(DoctorRole::role);
    if let Some(config) = &config {
        facts.extend(local::data_directory(&config.data_dir));
        let is_apart = config.apart.identity_dir.is_some();
        let sealed = local::seal_file(config, role);
        if let Some(fact) = sealed {
            facts.push(fact);
        } else if role.map_or(!is_apart, keeps_keys) {
            let (key, data) = (&config.unseal_key_file, &config.data_dir);
            // Services apart have theirs from `keywheel init`.
            facts.push(local::unseal_key(key, data, role.is_none()));
        }
        if let Some(directory) = &config.apart.identity_dir {
            facts.extend(local::service_credentials(directory, role));
            facts.extend(network::bus(config, directory).await);
        }
        // Without a role, a configuration without credentials is that of `keywheel up`.
        if role.map_or(!is_apart, |role| role == Role::Injector) {
            facts.extend(network::docker().await);
        }
    }
    if let Some(directory) = case.operator {
        facts.extend(local::operator_credentials(directory));
    }
    facts.extend(network::gateway(case.address, case.operator).await);
    facts
}

/// Whether a role opens something with an unseal key.
const fn keeps_keys(role: Role) -> bool {
    matches!(role, Role::Gateway | Role::StoreSync)
}

fn configuration(args: &DoctorArgs, facts: &mut Vec<Fact>) -> Option<Config> {
    let file = args.config.as_deref()?;
    match keywheel_daemon::settings::look(Some(file), ConfigFlags::default()) {
        Ok(config) => {
            let note = format!("{} is valid", file.display());
            facts.push(Fact::ok("configuration", note));
            Some(config)
        }
        Err(SettingsError::Invalid(faults)) => {
            let next = "correct the file, or what the environment says";
            let fault =
                |fault: &ConfigError| Fact::problem("configuration", fault.to_string(), next);
            facts.extend(faults.iter().map(fault));
            None
        }
        Err(error) => {
            let note = keywheel_daemon::chain(&error);
            facts.push(Fact::problem("configuration", note, error.next_step()));
            None
        }
    }
}

fn report(facts: Vec<Fact>) -> DoctorReport {
    let view = |fact: Fact| FactView {
        name: fact.name,
        state: match fact.health {
            Health::Ok => HealthWord::Ok,
            Health::Unknown => HealthWord::Unknown,
            Health::Warning => HealthWord::Warning,
            Health::Problem => HealthWord::Problem,
        },
        note: fact.note,
        next: fact.next,
    };
    let checks: Vec<FactView> = facts.into_iter().map(view).collect();
    DoctorReport {
        state: checks
            .iter()
            .map(|check| check.state)
            .max()
            .unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        checks,
    }
}

fn count(report: &DoctorReport, state: HealthWord) -> usize {
    let checks = report.checks.iter();
    checks.filter(|check| check.state == state).count()
}

fn page(report: &DoctorReport) -> String {
    let width = report.checks.iter().map(|check| check.name.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for check in &report.checks {
        let (state, name) = (check.state.word(), &check.name);
        text.push_str(&format!(
            "{state:<8}  {name:<width$}  {}\n",
            tame(&check.note)
        ));
        if let Some(next) = &check.next {
            text.push_str(&format!("          {:<width$}  next: {}\n", "", tame(next)));
        }
    }
    text
}

#[cfg(test)]
mod tests;

//! A person's login as this machine keeps it, and the renewal of one that ends soon.
//!
//! Invariants: a login is kept for one address and brought to no other; its file and directory are its owner's alone
//! ([`kept`]); one at a time renews it, for a refresh token may count once; one that is over is told to be, and nobody
//! comes as somebody else instead.

pub(crate) mod kept;
pub(crate) mod loopback;

use std::path::{Path, PathBuf};

use keywheel_core::time::Timestamp;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_schemas::api::{LoginAnswer, LoginRequest};
use keywheel_seal::SecretBytes;

use crate::address::Address;
use crate::args::Cli;
use crate::client::{Client, Proof};
use crate::exit::{Exit, Failure};

use kept::{Kept, Place};

/// A login with no more left than this is renewed before it is used, in seconds.
pub(crate) const RENEW_BEFORE_SECONDS: i64 = 60;

/// What a command line says of whom to ask, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    /// Where.
    pub(crate) address: String,
    identity: Option<PathBuf>,
    token_file: Option<PathBuf>,
    /// The roots by which the gateway is known.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Named {
    /// By this command line.
    pub(crate) fn of(cli: &Cli) -> Self {
        Self {
            address: cli.address.clone(),
            identity: cli.identity.clone(),
            token_file: cli.bearer_token_file.clone(),
            ca_file: cli.gateway_ca_file.clone(),
        }
    }

    fn proof(&self) -> Proof<'_> {
        Proof {
            identity: self.identity.as_deref(),
            token_file: self.token_file.as_deref(),
            ca_file: self.ca_file.as_deref(),
        }
    }
}

/// A client for a verb: by what the command line names, else by the login that is kept for the address.
pub(crate) async fn client(named: &Named) -> Result<Client, Failure> {
    let address = Address::parse(&named.address)?;
    let proof = named.proof();
    if proof.identity.is_some() || proof.token_file.is_some() {
        return Client::with(address, proof);
    }
    let place = Place::of_user()?;
    let Some(login) = place
        .as_ref()
        .map(|place| place.read(&named.address))
        .transpose()?
        .flatten()
    else {
        return Client::with(address, proof);
    };
    let login = match (place, is_ending(&login)) {
        (Some(place), true) => renewed(&place, named).await?,
        _ => login,
    };
    let ca_file = proof.ca_file.or(login.ca_file.as_deref());
    Client::logged_in(
        address,
        SecretBytes::from(login.token.into_bytes()),
        ca_file,
    )
}

/// A client that shows no login: to get one.
pub(crate) fn visitor(named: &Named, kept_ca_file: Option<&Path>) -> Result<Client, Failure> {
    let own = named.proof();
    let proof = Proof {
        token_file: None,
        ca_file: own.ca_file.or(kept_ca_file),
        ..own
    };
    Client::visiting(Address::parse(&named.address)?, proof)
}

/// Whether it is renewed before it is used.
pub(crate) fn is_ending(login: &Kept) -> bool {
    left(login) <= RENEW_BEFORE_SECONDS
}

fn is_over(login: &Kept) -> bool {
    left(login) <= 0
}

/// How long it counts yet, in seconds.
fn left(login: &Kept) -> i64 {
    let end: Option<jiff::Timestamp> = login.expires_at.parse().ok();
    let end = end.map_or(0, jiff::Timestamp::as_second);
    let now: Timestamp = SystemClock::new().now();
    end.saturating_sub(now.micros().div_euclid(1_000_000))
}

/// Renews it, unless somebody else just did; one at a time.
async fn renewed(place: &Place, named: &Named) -> Result<Kept, Failure> {
    let _turn = place.lock()?;
    let Some(login) = place.read(&named.address)? else {
        return Err(over(&named.address));
    };
    if !is_ending(&login) {
        return Ok(login);
    }
    let renewal = renew(place, named, &login).await;
    match renewal {
        // It is good for as long as it lasts, unless somebody said no.
        Err(failure) if failure.exit != Exit::Denied && !is_over(&login) => Ok(login),
        renewed => renewed,
    }
}

/// Asks the provider anew, while nobody else does, and keeps what it gives; one that it renews not is given back as it
/// is.
pub(crate) async fn renew(place: &Place, named: &Named, login: &Kept) -> Result<Kept, Failure> {
    let Some(refresh_token) = login.refresh_token.clone() else {
        return match is_over(login) {
            true => Err(over(&named.address)),
            false => Ok(login.clone()),
        };
    };
    let client = visitor(named, login.ca_file.as_deref())?;
    let request = LoginRequest::Refresh {
        refresh_token: refresh_token.clone(),
    };
    let answer: LoginAnswer = client
        .change("/v1/login", &request)
        .await
        .map_err(|failure| match failure.exit {
            Exit::Denied => failure.with_next(
                "log in again with `keywheel login`, or leave it with `keywheel logout`",
            ),
            _ => failure,
        })?;
    let fresh = taken(answer, &named.address)?;
    if fresh.principal != login.principal {
        return Err(Failure::new(
            Exit::Denied,
            format!(
                "the provider renewed the login of `{}` as one of `{}`",
                login.principal, fresh.principal
            ),
            "log in again with `keywheel login`",
        ));
    }
    let fresh = Kept {
        // Some providers go on with the same.
        refresh_token: fresh.refresh_token.clone().or(Some(refresh_token)),
        ca_file: login.ca_file.clone(),
        ..fresh
    };
    place.keep(&fresh)?;
    Ok(fresh)
}

fn over(address: &str) -> Failure {
    Failure::new(
        Exit::Denied,
        format!("the login at {address} is over"),
        "log in again with `keywheel login`, or leave it with `keywheel logout`",
    )
}

/// What an answer gives to keep.
pub(crate) fn taken(answer: LoginAnswer, address: &str) -> Result<Kept, Failure> {
    let (Some(token), Some(login)) = (answer.token, answer.login) else {
        return Err(Failure::new(
            Exit::Unexpected,
            "the gateway gave no login",
            "use the client of the same version as the daemon: compare `keywheel version` and `keywheel status`",
        ));
    };
    Ok(Kept {
        address: address.to_owned(),
        principal: login.owner,
        token,
        expires_at: login.expires_at,
        refresh_token: answer.refresh_token,
        ca_file: None,
    })
}

#[cfg(test)]
mod tests;

//! `login` and `logout`.
//!
//! Invariants: what proves who somebody is goes from the browser to this machine and to the gateway, and into no
//! output; what is kept is kept only once the gateway gave it; a login takes the place of the one before it.

use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_schemas::api::{
    DeviceLogin, LoginAnswer, LoginRequest, LoginSettings, LogoutAnswer, LogoutRequest,
};
use keywheel_seal::{Entropy as _, OsEntropy, SecretBytes, digest};
use serde::Serialize;

use crate::address::Address;
use crate::args::LoginArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::login::kept::{Kept, Place};
use crate::login::loopback::{Awaited, Loopback};
use crate::login::{self, Named, taken};
use crate::output::progress::{Progress, Standing};
use crate::output::{Screen, tame};

/// Random bytes of a state, a nonce, a verifier.
const RANDOM_BYTES: usize = 32;
/// What opens a browser on a desktop.
const OPENER: &str = "xdg-open";
/// Longest wait between two questions after a device code, in seconds.
const MAX_INTERVAL: u64 = 60;
/// How much longer the wait is each time that it was too short, in seconds (RFC 8628, 3.5).
const SLOWER_BY: u64 = 5;
/// How long a device code is waited for at most, whatever the provider says.
const MAX_DEVICE_PATIENCE: Duration = Duration::from_secs(1800);

/// What is told of a login.
#[derive(Debug, Serialize)]
struct LoggedIn {
    principal: String,
    until: String,
    renews: bool,
}

/// Logs in, and keeps the login.
pub(super) async fn login(screen: Screen, named: &Named, args: &LoginArgs) -> Result<(), Failure> {
    let place = own_place()?;
    let client = login::visitor(named, None)?;
    let settings: LoginSettings = client.read("/v1/login").await?;
    let answer = match args.device {
        true => by_device(screen, &client).await?,
        false => by_browser(screen, &client, &settings, args.no_browser).await?,
    };
    let ca_file = named.ca_file.as_deref().map(std::path::absolute);
    let ca_file = ca_file.transpose().map_err(|error| {
        let what = format!("the roots' place is not known: {error}");
        Failure::new(Exit::NoInput, what, "name them by an absolute path")
    })?;
    let login = Kept {
        ca_file,
        ..taken(answer, &named.address)?
    };
    let _turn = place.lock()?;
    place.keep(&login)?;
    let told = LoggedIn {
        principal: login.principal.clone(),
        until: login.expires_at.clone(),
        renews: login.refresh_token.is_some(),
    };
    screen.show(&told, words)
}

fn words(told: &LoggedIn) -> String {
    let then = match told.renews {
        true => "renewed as long as the provider confirms who you are",
        false => "the provider renews no login: log in again then",
    };
    format!(
        "logged in as {} until {}; {then}\n`keywheel whoami` says what you may do, `keywheel logout` ends it\n",
        tame(&told.principal),
        tame(&told.until)
    )
}

/// Ends the login of this address.
pub(super) async fn logout(screen: Screen, named: &Named) -> Result<(), Failure> {
    let place = own_place()?;
    let _turn = place.lock()?;
    let Some(login) = place.read(&named.address)? else {
        return Err(Failure::new(
            Exit::NotFound,
            format!("nobody is logged in at {}", named.address),
            "name the address that you logged in at with --address",
        ));
    };
    let had_refresh = login.refresh_token.is_some();
    // The gateway has a refresh token taken back for who is logged in alone; where that fails, what is kept goes.
    let login = match login::is_ending(&login) && had_refresh {
        true => login::renew(&place, named, &login).await.unwrap_or(login),
        false => login,
    };
    let ended = end(named, &login).await;
    // What is kept is gone whatever the gateway says; a login that it did not hear of ends by itself soon.
    place.forget(&named.address)?;
    let answer = match ended {
        Ok(answer) => answer,
        // It was over already.
        Err(failure) if failure.exit == Exit::Denied => LogoutAnswer {
            revoked: String::new(),
            is_taken_back: had_refresh.then_some(false),
        },
        Err(failure) => {
            let until = login.expires_at;
            return Err(failure.with_next(format!(
                "the login is forgotten on this machine, and counts at the gateway until {until}: `keywheel token revoke` ends it before"
            )));
        }
    };
    screen.show(&answer, |answer| left(answer).to_owned())
}

/// What is told of a logout.
fn left(answer: &LogoutAnswer) -> &'static str {
    match answer.is_taken_back {
        Some(false) => {
            "logged out; the provider did not take its refresh token back: this machine has it no more, and whoever took a copy of it before is shut out at the provider alone\n"
        }
        _ => "logged out\n",
    }
}

async fn end(named: &Named, login: &Kept) -> Result<LogoutAnswer, Failure> {
    let address = Address::parse(&named.address)?;
    let ca_file = named.ca_file.as_deref().or(login.ca_file.as_deref());
    let shown = SecretBytes::from(login.token.clone().into_bytes());
    let client = Client::logged_in(address, shown, ca_file)?;
    let request = LogoutRequest {
        refresh_token: login.refresh_token.clone(),
    };
    client.change("/v1/logout", &request).await
}

fn own_place() -> Result<Place, Failure> {
    Place::of_user()?.ok_or_else(|| {
        Failure::new(
            Exit::CannotCreate,
            "there is no home directory to keep a login in",
            "set KEYWHEEL_LOGIN_DIR to a directory of your own",
        )
    })
}

/// Random text of a URL's letters.
fn random() -> String {
    let mut bytes = [0; RANDOM_BYTES];
    OsEntropy.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// By a browser on this machine: an authorization code with PKCE, bound to this login by state and nonce.
async fn by_browser(
    screen: Screen,
    client: &Client,
    settings: &LoginSettings,
    no_browser: bool,
) -> Result<LoginAnswer, Failure> {
    let loopback = Loopback::open().await?;
    let (state, nonce, code_verifier) = (random(), random(), random());
    let redirect_uri = loopback.redirect_uri();
    let challenge = URL_SAFE_NO_PAD.encode(digest::sha256(code_verifier.as_bytes()));
    let begin = begin_url(settings, &[&redirect_uri, &state, &nonce, &challenge])?;
    let is_open = !no_browser && open(&loopback.begin_uri());
    match is_open {
        true => screen.note(&format!(
            "a browser was opened; if you see none, open {} in one on this machine",
            loopback.begin_uri()
        )),
        false => screen.note(&format!(
            "open this in a browser on this machine:\n\n  {begin}\n"
        )),
    }
    let state = SecretBytes::from(state.into_bytes());
    let awaited = Awaited {
        state: &state,
        issuer: &settings.issuer,
        begin: &begin,
    };
    let code = {
        let mut progress = Progress::begin(screen);
        progress.say(Standing {
            headline: "waiting for the browser to come back".to_owned(),
            rows: Vec::new(),
        });
        loopback.code(&awaited).await?
    };
    let request = LoginRequest::Code {
        code,
        code_verifier,
        nonce,
        redirect_uri,
    };
    client.change("/v1/login", &request).await
}

/// Where the browser begins at the provider.
fn begin_url(settings: &LoginSettings, bound: &[&str; 4]) -> Result<String, Failure> {
    let [redirect_uri, state, nonce, challenge] = *bound;
    let endpoint = &settings.authorization_endpoint;
    let is_url = ["https://", "http://"]
        .iter()
        .any(|scheme| endpoint.starts_with(scheme))
        && endpoint.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_url || endpoint.contains('#') {
        return Err(Failure::new(
            Exit::Unexpected,
            "the gateway names no address for a browser",
            "whoever runs the gateway compares `issuer` in the file of the provider with the provider",
        ));
    }
    let scopes = settings.scopes.join(" ");
    let parameters = [
        ("response_type", "code"),
        ("client_id", settings.client_id.as_str()),
        ("redirect_uri", redirect_uri),
        ("scope", scopes.as_str()),
        ("state", state),
        ("nonce", nonce),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ];
    let written = parameters.map(|(name, value)| format!("{name}={}", escape(value)));
    let mark = if endpoint.contains('?') { '&' } else { '?' };
    Ok(format!("{endpoint}{mark}{}", written.join("&")))
}

/// Opens a browser; what it is given says nothing but a port of this machine.
fn open(url: &str) -> bool {
    let mut opener = Command::new(OPENER);
    let quiet = opener.arg(url).stdin(Stdio::null()).stdout(Stdio::null());
    quiet.stderr(Stdio::null()).spawn().is_ok()
}

/// By a code that is typed into a browser anywhere.
async fn by_device(screen: Screen, client: &Client) -> Result<LoginAnswer, Failure> {
    let begun: DeviceLogin = client.change("/v1/login/device", &()).await?;
    screen.note(&format!(
        "open this in a browser anywhere, and type the code there:\n\n  {}\n  {}\n",
        tame(&begun.verification_uri),
        tame(&begun.user_code)
    ));
    let clock = SystemClock::new();
    let patience = Duration::from_secs(begun.expires_in_seconds).min(MAX_DEVICE_PATIENCE);
    let end = clock.monotonic().saturating_add(patience);
    let mut interval = begun.interval_seconds;
    let request = LoginRequest::Device {
        device_code: begun.device_code.clone(),
    };
    let mut progress = Progress::begin(screen);
    progress.say(Standing {
        headline: "waiting for the code to be typed".to_owned(),
        rows: Vec::new(),
    });
    loop {
        tokio::time::sleep(Duration::from_secs(interval.clamp(1, MAX_INTERVAL))).await;
        let answer: LoginAnswer = client.change("/v1/login", &request).await?;
        if answer.state == "done" {
            return Ok(answer);
        }
        interval = less_often(interval, answer.interval_seconds);
        if clock.monotonic() >= end {
            return Err(Failure::new(
                Exit::Partial,
                "nobody typed the code in time",
                "begin again with `keywheel login --device`",
            ));
        }
    }
}

/// Once it says to ask less often, that counts from then on, each time it does (RFC 8628, 3.5).
fn less_often(interval: u64, told: Option<u64>) -> u64 {
    told.map_or(interval, |told| {
        interval.saturating_add(SLOWER_BY).max(told)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_that_it_is_asked_too_often_the_wait_grows() {
        assert_eq!(less_often(5, None), 5);
        assert_eq!(less_often(1, Some(10)), 10);
        assert_eq!(less_often(10, Some(10)), 15);
        assert_eq!(less_often(15, Some(10)), 20);
    }

    #[test]
    fn a_refresh_token_that_was_not_taken_back_is_told() {
        let answer = |is_taken_back| LogoutAnswer {
            revoked: String::new(),
            is_taken_back,
        };
        assert!(left(&answer(Some(false))).contains("did not take its refresh token back"));
        for quiet in [None, Some(true)] {
            assert_eq!(left(&answer(quiet)), "logged out\n");
        }
    }

    fn settings(endpoint: &str) -> LoginSettings {
        LoginSettings {
            issuer: "https://id.example.org".to_owned(),
            client_id: "key wheel".to_owned(),
            scopes: vec!["openid".to_owned(), "groups".to_owned()],
            authorization_endpoint: endpoint.to_owned(),
            device: false,
        }
    }

    #[test]
    fn a_browser_begins_with_everything_that_binds_the_login_to_this_one() {
        let redirect = "http://127.0.0.1:4711/callback";
        let parts = [redirect, "s", "n", "c"];
        let url = begin_url(&settings("https://id.example.org/authorize"), &parts).unwrap();
        for part in [
            "https://id.example.org/authorize?response_type=code&",
            "client_id=key%20wheel",
            "redirect_uri=http%3A//127.0.0.1%3A4711/callback",
            "scope=openid%20groups",
            "state=s",
            "nonce=n",
            "code_challenge=c",
            "code_challenge_method=S256",
        ] {
            assert!(url.contains(part), "{part}: {url}");
        }
        let url = begin_url(&settings("https://id.example.org/a?tenant=x"), &parts).unwrap();
        assert!(url.starts_with("https://id.example.org/a?tenant=x&response_type="));
        for odd in [
            "",
            "javascript:alert(1)",
            "https://a b",
            "https://a\r\nX: y",
            "https://a#b",
        ] {
            assert!(begin_url(&settings(odd), &parts).is_err(), "{odd}");
        }
    }

    #[test]
    fn no_two_are_alike() {
        assert_ne!(random(), random());
        assert_eq!(random().len(), 43);
    }

    #[test]
    fn what_is_told_says_whether_it_renews() {
        let mut told = LoggedIn {
            principal: "oidc:ada".to_owned(),
            until: "2026-01-04T02:00:00Z".to_owned(),
            renews: true,
        };
        assert!(words(&told).contains("oidc:ada") && words(&told).contains("renewed as long"));
        told.renews = false;
        assert!(words(&told).contains("log in again then"));
    }
}

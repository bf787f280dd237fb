//! An application under load, for tests: it keeps pools of connections to databases, runs a query on each
//! over and over, and moves to new passwords as a well-made application does.
//!
//! It is a static program of the standard library alone, so that a test builds it by one call of `rustc`
//! and runs it in an image without a C library. It prints nothing secret, and keeps no secret but in memory.
//!
//! - `serve SOCKET LOAD BREAKS_ON DATABASE…` is the application. LOAD is how many connections each pool has, and, after
//!   a colon, how many milliseconds each rests between two queries. A database is `KIND=HOST:PORT/NAME=SOURCE`
//!   with the kinds `postgres`, `mariadb` and `redis`, and the sources `file:PATH` (user and password, a line
//!   each; read again on SIGHUP) and `env:USER:VARIABLE` (the password). With a password that begins with
//!   BREAKS_ON it does not work; `-` means none.
//! - `health SOCKET` ends with 0 when that application says that it is well: a container's health check.
//! - `ask KIND HOST:PORT/NAME` reads a user, a password and statements from its standard input, a line each,
//!   and prints the first value of each answer. It ends with 3 when the server refuses the login.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod digest;
mod http;
mod login;
mod mariadb;
mod place;
mod pool;
mod postgres;
mod redis;
mod scram;
mod session;
mod signals;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::http::App;
use crate::login::Login;
use crate::place::{Database, Load, Place};
use crate::pool::Pool;
use crate::session::{Failure, Session};

/// Wrong words, as `sysexits` numbers it.
const USAGE: u8 = 64;
/// A setting that cannot be used.
const CONFIG: u8 = 78;
/// A server that refuses a login.
const REFUSED: u8 = 3;
/// How often signals are looked for between two queries.
const LOOKS: u32 = 4;
/// How long it serves on after it was told to leave, so that nobody is sent here any more.
const DRAIN: Duration = Duration::from_millis(300);
/// Looks for requests under way before it leaves.
const DRAIN_LOOKS: u32 = 1000;

fn main() -> ExitCode {
    // Before anything else: a signal that nobody catches would end it.
    signals::listen();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve", socket, load, breaks_on, databases @ ..] => {
            serve(Path::new(socket), load, breaks_on, databases)
        }
        ["health", socket] => Ok(health(Path::new(socket))),
        ["ask", kind, place] => ask(kind, place),
        _ => Err("serve, health or ask; see its first lines".to_owned()),
    };
    done.unwrap_or_else(|why| {
        complain(&why);
        ExitCode::from(USAGE)
    })
}

fn serve(
    socket: &Path,
    load: &str,
    breaks_on: &str,
    databases: &[&str],
) -> Result<ExitCode, String> {
    let Load { size, pause } = Load::parse(load)?;
    let mut pools = Vec::new();
    for word in databases {
        let Database { place, source } = Database::parse(word)?;
        match Pool::make(place, source, size) {
            Ok(pool) => pools.push(Arc::new(pool)),
            Err(why) => {
                complain(&why);
                return Ok(ExitCode::from(CONFIG));
            }
        }
    }
    let breaks_on = (breaks_on != "-").then(|| breaks_on.to_owned());
    let app = Arc::new(App::new(pools, breaks_on));
    http::listen(socket, &app).map_err(|error| format!("cannot listen: {error}"))?;
    for pool in app.pools() {
        for at in 0..size {
            let pool = Arc::clone(pool);
            thread::spawn(move || {
                while !signals::is_told_to_leave() {
                    let _counted = pool.query(at);
                    thread::sleep(pause);
                }
            });
        }
    }
    follow_signals(&app, pause / LOOKS);
    Ok(ExitCode::SUCCESS)
}

/// Reads secrets again whenever it is told to, until it is told to leave.
fn follow_signals(app: &App, look: Duration) {
    let mut seen = 0;
    while !signals::is_told_to_leave() {
        let told = signals::reloads();
        if told != seen {
            seen = told;
            for pool in app.pools() {
                pool.reload();
            }
        }
        thread::sleep(look);
    }
    app.leave();
    thread::sleep(DRAIN);
    for _ in 0..DRAIN_LOOKS {
        if app.is_idle() {
            return;
        }
        thread::sleep(look);
    }
}

fn health(socket: &Path) -> ExitCode {
    match http::is_well(socket) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// One login, and statements behind it.
#[expect(clippy::print_stdout, reason = "the answers are what it is asked for")]
fn ask(kind: &str, place: &str) -> Result<ExitCode, String> {
    let place = Place::parse(kind, place)?;
    let mut input = String::new();
    let read = std::io::stdin().read_to_string(&mut input);
    read.map_err(|_| "standard input is no text".to_owned())?;
    let mut lines = input.lines();
    let (Some(user), Some(password)) = (lines.next(), lines.next()) else {
        return Err("standard input has no user and password".to_owned());
    };
    let mut session = match Session::open(&place, &Login::new(user, password)) {
        Ok(session) => session,
        Err(Failure::Refused) => return Ok(ExitCode::from(REFUSED)),
        Err(failure) => {
            complain(&failure.to_string());
            return Ok(ExitCode::FAILURE);
        }
    };
    for statement in lines {
        match session.run(statement) {
            Ok(answer) => println!("{answer}"),
            Err(failure) => {
                complain(&format!("a statement failed: {failure}"));
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    session.close();
    Ok(ExitCode::SUCCESS)
}

fn complain(why: &str) {
    // Nobody reads it when this fails.
    let _said = writeln!(std::io::stderr(), "testapp: {why}");
}

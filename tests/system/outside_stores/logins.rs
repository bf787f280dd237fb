//! People log in at a real provider of identities, and are what it says of them until it ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::glewlwyd::{self, Glewlwyd};
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_tests::canary::Canary;
use keywheel_tests::keywheel::{Keywheel, NOBODY, Options};
use keywheel_tests::manifest;
use keywheel_tests::output::Output;
use keywheel_tests::stage::SECRET;
use serde_json::Value;

/// Exit codes: nobody is there, no such thing, may not.
const UNAVAILABLE: i32 = 69;
const NOT_FOUND: i32 = 3;
const DENIED: i32 = 77;
/// What the group of the provider may, and root.
const POLICIES: &str = "@id(\"root\") permit (principal in Group::\"root\", action, resource);\n@id(\"team\") permit (principal in Group::\"oidc:payments\", action == Action::\"list\", resource in Path::\"test\");\n";

/// A user of the machine who may nothing, at a gateway with a provider.
struct Desk {
    keywheel: Keywheel,
    home: std::path::PathBuf,
}

impl Desk {
    fn set(provider: &str) -> Result<Self> {
        let mut keywheel = Keywheel::prepare()?;
        let file = keywheel.scratch().write("provider.toml", provider)?;
        let named = ("KEYWHEEL_LOGIN_PROVIDER_FILE", file.display().to_string());
        keywheel.up(&Options {
            environment: vec![(named.0.to_owned(), named.1)],
            ..Options::default()
        })?;
        keywheel.apply(&manifest::secret(SECRET, &[]))?;
        let policies = keywheel.scratch().write("team.cedar", POLICIES)?;
        let policies = policies.display().to_string();
        keywheel.cli(&["policy", "apply", &policies])?.ok()?;
        let home = keywheel.scratch().join("home");
        std::fs::create_dir(&home)?;
        let nobody: u32 = NOBODY.parse()?;
        chown(&home, Some(nobody), Some(nobody))?;
        Ok(Self { keywheel, home })
    }

    fn ask(&self, args: &[&str]) -> Result<Output> {
        let mut client = self.keywheel.stranger(args)?;
        client.env("KEYWHEEL_LOGIN_DIR", &self.home);
        self.keywheel.hear(&mut client)
    }

    /// Somebody who logs in this way, and the first line that is this.
    fn begin(&self, way: &str, is_it: fn(&str) -> bool) -> Result<(Child, String)> {
        let mut client = self.keywheel.stranger(&["login", way])?;
        client.env("KEYWHEEL_LOGIN_DIR", &self.home);
        client.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = client.spawn()?;
        let stderr = child.stderr.as_mut().context("no stderr")?;
        let mut lines = BufReader::new(stderr).lines();
        let begins = lines.find_map(|line| {
            let line = line.ok()?;
            let line = line.trim();
            is_it(line).then(|| line.to_owned())
        });
        let begins = begins.with_context(|| format!("login {way} names nothing"))?;
        Ok((child, begins))
    }

    /// Logs in with a code that is typed into a browser anywhere.
    fn log_in_by_code(&self, type_it: impl FnOnce(&str)) -> Result<Output> {
        let is_code = |line: &str| line.len() == 9 && line.find('-') == Some(4);
        let (child, code) = self.begin("--device", is_code)?;
        type_it(&code);
        ended(child, "--device")
    }

    /// Logs in with what comes back for a query to the provider.
    fn log_in(&self, answer: impl FnOnce(&str) -> String) -> Result<Output> {
        let is_address = |line: &str| line.starts_with("http");
        let (child, begins) = self.begin("--no-browser", is_address)?;
        let (_, query) = begins.split_once('?').context("no query")?;
        let brought = answer(query);
        let state = parameter(query, "state")?;
        let at = decoded(&parameter(query, "redirect_uri")?);
        let at = at.strip_prefix("http://").context("no address")?;
        let (host, path) = at.split_once('/').context("no path")?;
        let mut stream = TcpStream::connect(host)?;
        let target = format!("/{path}?{brought}&state={state}");
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        ensure!(page.contains("no-store"), "{page}");
        ended(child, "--no-browser")
    }

    fn taken_for(&self) -> Result<Value> {
        self.ask(&["whoami", "-o", "json"])?.ok()?.json()
    }

    /// Each login, and what was refused.
    fn is_on_record(&self) -> Result<()> {
        let records = self.keywheel.stream("audit")?;
        let count = |part: &str| {
            let all = records.iter().map(Value::to_string);
            all.filter(|record| record.contains(part)).count()
        };
        ensure!(count("\"verb\":\"login\"") >= 3, "logins are not on record");
        ensure!(count("invalid_grant") == 1, "a refusal is not on record");
        Ok(())
    }

    /// No text of a login is in what is written down.
    fn lies_nowhere(mut self, logins: &[String]) -> Result<()> {
        let random = |text: &String| text.trim_start_matches("kw1_").as_bytes().to_vec();
        let canary = Canary::new(&logins.iter().map(random).collect::<Vec<_>>())?;
        self.keywheel.stop()?;
        for tree in self.keywheel.trees() {
            let hits = canary.search_tree(&tree)?;
            ensure!(hits.is_empty(), "{hits:?}");
        }
        Ok(())
    }

    fn is_refused(&self, said: &Output, code: i32, part: &str) -> Result<()> {
        let words = said.said();
        ensure!(
            said.code == code && words.contains(part),
            "{}: {words}",
            said.code
        );
        Ok(())
    }
}

/// How a login ended.
fn ended(child: Child, way: &str) -> Result<Output> {
    let ended = child.wait_with_output()?;
    Ok(Output {
        line: format!("keywheel login {way}"),
        code: ended.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    })
}

fn parameter(query: &str, name: &str) -> Result<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(found, _)| *found == name);
    let (_, value) = named
        .next()
        .with_context(|| format!("no {name} in {query}"))?;
    Ok(value.to_owned())
}

/// The two bytes that are escaped in an address of this machine.
fn decoded(text: &str) -> String {
    text.replace("%3A", ":").replace("%2F", "/")
}

/// The text of the login that is kept.
fn kept(home: &std::path::Path) -> Result<String> {
    let mut all = std::fs::read_dir(home)?.filter_map(Result::ok);
    let file = all.find(|entry| entry.file_name().to_string_lossy().ends_with(".json"));
    let file = file.context("no login is kept")?;
    let read: Value = serde_json::from_str(&std::fs::read_to_string(file.path())?)?;
    Ok(read["token"].as_str().context("no token")?.to_owned())
}

#[test]
fn a_browser_brings_a_person_in_until_they_log_out_or_are_gone() -> Result<()> {
    let bao = OpenBao::start(None);
    let client = bao.serve_people();
    let provider = format!(
        "issuer = \"{}\"\nclient_id = \"{client}\"\nname_claim = \"username\"\ngroups_claim = \"groups\"\nscopes = [\"people\"]\n",
        bao.issuer()
    );
    let desk = Desk::set(&provider)?;
    let confirmed = |query: &str| format!("code={}", bao.confirm_ada(query));

    // Before, and with what the provider did not give.
    desk.is_refused(&desk.ask(&["whoami"])?, DENIED, "may not use this socket")?;
    desk.is_refused(&desk.ask(&["logout"])?, NOT_FOUND, "nobody is logged in at")?;
    let said = desk.log_in(|_| "error=access_denied".to_owned())?;
    desk.is_refused(&said, DENIED, "access was denied")?;
    let said = desk.log_in(|_| "code=made-up".to_owned())?;
    desk.is_refused(&said, DENIED, "does not confirm who this is")?;
    desk.is_refused(&desk.ask(&["whoami"])?, DENIED, "may not use this socket")?;

    let said = desk.log_in(confirmed)?.ok()?;
    ensure!(
        said.stdout.contains("logged in as oidc:ada"),
        "{}",
        said.stdout
    );
    let first = kept(&desk.home)?;
    let told = desk.taken_for()?;
    ensure!(
        told["principal"] == "oidc:ada" && told["proof"] == "oidc",
        "{told}"
    );
    ensure!(
        told["token"]["groups"] == serde_json::json!(["payments"]),
        "{told}"
    );
    desk.ask(&["describe", "secret", SECRET])?.ok()?;
    let said = desk.ask(&["rotate", SECRET])?;
    desk.is_refused(&said, DENIED, "`oidc:ada` may not rotate")?;

    desk.ask(&["logout"])?.ok()?;
    desk.is_refused(&desk.ask(&["whoami"])?, DENIED, "may not use this socket")?;
    let token = desk.keywheel.scratch().write("first", &first)?;
    let mut client = desk.keywheel.stranger(&["whoami"])?;
    client.env("KEYWHEEL_BEARER_TOKEN_FILE", token);
    let said = desk.keywheel.hear(&mut client)?;
    desk.is_refused(&said, DENIED, "opens nothing here")?;

    // With a key that the gateway has not seen.
    bao.turn_identity_key();
    desk.log_in(confirmed)?.ok()?;
    let second = kept(&desk.home)?;
    ensure!(
        desk.taken_for()?["principal"] == "oidc:ada",
        "she is somebody else"
    );
    let revoke = ["revoke", "--principal", "oidc:ada", "--yes"];
    let gone = [&revoke[..], &["--reason", "she left"]].concat();
    desk.keywheel.cli(&gone)?.ok()?;
    desk.is_refused(&desk.ask(&["whoami"])?, DENIED, "opens nothing here")?;

    drop(bao);
    let said = desk.log_in(|_| "code=any".to_owned())?;
    desk.is_refused(&said, UNAVAILABLE, "")?;

    desk.is_on_record()?;
    desk.lies_nowhere(&[first, second])
}

/// A provider with keys of a test's own.
fn glewlwyd() -> Result<Glewlwyd> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    let signing = rcgen::KeyPair::generate()?;
    Ok(Glewlwyd::start(&glewlwyd::Keys {
        tls: (&made.cert.pem(), &made.signing_key.serialize_pem()),
        signing: (&signing.serialize_pem(), &signing.public_key_pem()),
    }))
}

#[test]
fn a_code_typed_anywhere_brings_a_person_in_and_the_provider_keeps_them_in() -> Result<()> {
    let provider = glewlwyd()?;
    // So short that each use asks the provider.
    let desk = Desk::set(&format!(
        "issuer = \"{}\"\nclient_id = \"{}\"\nname_claim = \"preferred_username\"\nmax_lifetime = \"1m\"\n",
        provider.issuer(),
        glewlwyd::CLIENT
    ))?;
    let said = desk
        .log_in_by_code(|code| provider.confirm_ada(code))?
        .ok()?;
    ensure!(
        said.stdout.contains("logged in as oidc:ada"),
        "{}",
        said.stdout
    );
    ensure!(
        said.stdout.contains("renewed as long as"),
        "{}",
        said.stdout
    );
    let first = kept(&desk.home)?;
    let told = desk.taken_for()?;
    ensure!(
        told["principal"] == "oidc:ada" && told["proof"] == "oidc",
        "{told}"
    );
    let second = kept(&desk.home)?;
    ensure!(first != second, "the provider was not asked again");

    provider.remove_ada();
    for _ in 0..2 {
        let said = desk.ask(&["whoami"])?;
        desk.is_refused(&said, DENIED, "does not confirm who this is")?;
    }
    ensure!(kept(&desk.home)? == second, "somebody else is logged in");
    let records = desk.keywheel.stream("audit")?;
    let of_renewal = |record: &&Value| record.to_string().contains("login/refresh");
    ensure!(
        records.iter().filter(of_renewal).count() == 2,
        "{records:?}"
    );
    desk.ask(&["logout"])?.ok()?;
    desk.is_refused(&desk.ask(&["whoami"])?, DENIED, "may not use this socket")?;
    desk.lies_nowhere(&[first, second])
}

//! Redis' users on a real server: the laws of the port, with an admin that has exactly what `grants`
//! prints, and what is Redis' own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at once"
)]

#[path = "support/redis_client.rs"]
mod redis_client;
mod support;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keywheel_core::resource::{Kind, Resource};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::accounts::{Accounts, Keep, Login, Mark};
use keywheel_engine::port::store::{Credentials, LoginRefused};
use keywheel_rotators::redis::RedisAccounts;
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::accounts::{self, Session};
use keywheel_testkit::conformance::store::{kind, plenty, refused, text, value};
use keywheel_testkit::server::redis::{PASSWORD, RedisServer, USER};
use redis_client::Client;
use support::{ADMIN, ADMIN_PASSWORD, Known};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A server with an admin that was granted what the rotator says.
struct Shop {
    server: RedisServer,
    known: Arc<Known>,
    made: AtomicU32,
}

impl Shop {
    async fn over(server: RedisServer) -> Self {
        let shop = Self {
            server,
            known: Known::admin(),
            made: AtomicU32::new(0),
        };
        for line in shop.hand().grants().lines() {
            if !line.starts_with('#') {
                shop.run(line).await;
            }
        }
        shop.run(&format!("ACL SETUSER {ADMIN} >{ADMIN_PASSWORD}"))
            .await;
        shop
    }

    async fn open() -> Self {
        let shop = Self::over(RedisServer::start()).await;
        shop.run("ACL SAVE").await;
        shop
    }

    /// Users over TCP.
    fn hand(&self) -> RedisAccounts {
        self.at(&self.server.url(ADMIN), None)
    }

    fn at(&self, connection: &str, ca: Option<&Path>) -> RedisAccounts {
        let resource = Resource {
            ca: ca.map(|ca| ca.display().to_string()),
            ..support::resource(Kind::Redis, connection, &["app"])
        };
        let credentials = Arc::clone(&self.known) as Arc<dyn Credentials>;
        RedisAccounts::new(resource, credentials).unwrap()
    }

    /// Another hand that may do everything.
    async fn run(&self, line: &str) {
        let mut client = Client::login(self.server.socket(), USER, PASSWORD).await;
        let answer = client.ask(line).await;
        assert_eq!(answer.as_deref(), Some("+OK"), "{line}");
    }

    /// What the server keeps of its users beyond a restart.
    fn kept(&self) -> String {
        std::fs::read_to_string(self.server.users()).unwrap()
    }
}

#[async_trait]
impl accounts::Resource for Shop {
    fn accounts(&self) -> Arc<dyn Accounts> {
        Arc::new(self.hand())
    }

    async fn fresh(&self) -> Login {
        let name = format!("app_{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.run(&format!("ACL SETUSER {name} on ~{name}:* +@all"))
            .await;
        Login::of(name)
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn makes_missing(&self) -> bool {
        true
    }

    async fn session(&self, login: &Login, password: &SecretBytes) -> Box<dyn Session> {
        let password = std::str::from_utf8(password.expose()).unwrap();
        Box::new(Client::login(self.server.socket(), &login.name, password).await)
    }
}

#[tokio::test]
async fn an_admin_with_no_more_than_was_printed_keeps_the_laws_of_the_port() {
    let shop = Shop::open().await;
    accounts::check(&shop).await;
    let canary = text("");
    let canary = canary.trim_end_matches('-');
    for told in [shop.server.log(), shop.kept()] {
        assert!(
            !told.contains(canary),
            "a password is at rest at the server"
        );
    }
}

/// What a server is told, by a relay before it: neither its log nor `MONITOR` has these commands.
struct Relay {
    port: u16,
    told: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Relay {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            port: listener.local_addr().unwrap().port(),
            told: Arc::default(),
        };
        let told = Arc::clone(&relay.told);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let (mut asks, mut hears) = client.split();
                    let (mut answers, mut takes) = server.split();
                    let asked = async {
                        let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
                        while let Ok(count @ 1..) = asks.read(&mut bytes).await {
                            all.extend_from_slice(&bytes[..count]);
                            let _sent = takes.write_all(&bytes[..count]).await;
                        }
                        let _ended = takes.shutdown().await;
                        told.lock().unwrap().push(all);
                    };
                    let _ = tokio::join!(asked, tokio::io::copy(&mut answers, &mut hears));
                });
            }
        });
        relay
    }

    /// Every command of the connections that have ended, its words apart by a space each.
    fn commands(&self) -> Vec<String> {
        let told = self.told.lock().unwrap();
        let texts = told
            .iter()
            .map(|all| String::from_utf8(all.clone()).unwrap());
        let commands = texts.flat_map(|all| {
            let commands = all.split('*').skip(1).map(|command| {
                let words = command.split("\r\n").skip(2).step_by(2);
                words.collect::<Vec<_>>().join(" ")
            });
            commands.collect::<Vec<_>>()
        });
        commands.collect()
    }
}

#[tokio::test]
async fn a_valkey_server_keeps_the_laws_of_the_port_and_what_was_revoked_stays_so() {
    let mut shop = Shop::over(RedisServer::valkey()).await;
    shop.run("ACL SAVE").await;
    accounts::check(&shop).await;
    let login = accounts::Resource::fresh(&shop).await;
    let (hand, until) = (shop.hand(), plenty());
    let (one, two) = (value("one"), value("two"));
    let set = hand.accept(&login, &one, Keep::Nothing, &until).await;
    set.unwrap();
    hand.accept(&login, &two, Keep::Old, &until).await.unwrap();
    assert!(hand.admits(&login, &one, &until).await.unwrap());
    hand.refuse(&login, Some(&one), &until).await.unwrap();
    shop.server.kill();
    shop.server.restart();
    let hand = shop.hand();
    assert!(!hand.admits(&login, &one, &until).await.unwrap());
    assert!(hand.admits(&login, &two, &until).await.unwrap());
}

#[tokio::test]
async fn a_password_stands_in_the_login_alone() {
    let shop = Shop::open().await;
    let relay = Relay::before(shop.server.port()).await;
    let hand = shop.at(&format!("redis://{ADMIN}@127.0.0.1:{}", relay.port), None);
    let (until, one, two) = (plenty(), value("one"), value("two"));
    let login = accounts::Resource::fresh(&shop).await;
    let second = Login::of(format!("{login}_b")).like(login.name.clone());
    for login in [&login, &second] {
        hand.accept(login, &one, Keep::Nothing, &until)
            .await
            .unwrap();
        hand.accept(login, &two, Keep::Old, &until).await.unwrap();
        assert!(hand.admits(login, &two, &until).await.unwrap());
        hand.refuse(login, Some(&one), &until).await.unwrap();
        hand.refuse(login, None, &until).await.unwrap();
        hand.end_sessions(login, &until).await.unwrap();
    }
    let canary = text("");
    let canary = canary.trim_end_matches('-');
    let (logins, rest): (Vec<_>, Vec<_>) = relay
        .commands()
        .into_iter()
        .partition(|command| command.starts_with("AUTH "));
    assert!(logins.iter().any(|login| login.contains(canary)));
    for command in ["ACL SETUSER ", "ACL SAVE", "CLIENT KILL "] {
        let is_told = |told: &String| told.starts_with(command);
        assert!(rest.iter().any(is_told), "{command} is told");
    }
    for command in rest {
        let secret = command.contains(canary) || command.contains(ADMIN_PASSWORD);
        assert!(!secret, "a password stands in a command");
    }
}

#[tokio::test]
async fn a_revoked_password_does_not_come_back_with_a_restart() {
    let mut shop = Shop::open().await;
    let login = accounts::Resource::fresh(&shop).await;
    let (hand, until) = (shop.hand(), plenty());
    let (one, two) = (value("one"), value("two"));
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    hand.accept(&login, &two, Keep::Old, &until).await.unwrap();
    shop.server.kill();
    assert_eq!(
        kind(hand.admits(&login, &one, &until).await),
        ErrorKind::Unavailable
    );
    shop.server.restart();
    for password in [&one, &two] {
        assert!(hand.admits(&login, password, &until).await.unwrap());
    }
    hand.refuse(&login, Some(&one), &until).await.unwrap();
    shop.server.kill();
    shop.server.restart();
    assert!(!hand.admits(&login, &one, &until).await.unwrap());
    assert!(hand.admits(&login, &two, &until).await.unwrap());
    let near = shop.at(&shop.server.socket_url(ADMIN), None);
    assert!(near.admits(&login, &two, &until).await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_changed() {
    let shop = Shop::open().await;
    let login = accounts::Resource::fresh(&shop).await;
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    shop.run(&format!("ACL SETUSER {ADMIN} -acl|save")).await;
    let error = refused(hand.accept(&login, &one, Keep::Nothing, &until).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("rotator grants"), "{error}");
    assert!(
        !hand.admits(&login, &one, &until).await.unwrap(),
        "nothing was changed"
    );
    shop.run(&format!("ACL SETUSER {ADMIN} +acl|save")).await;
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    assert!(shop.kept().contains(&format!("user {login} on #")));
    // Somebody changed it in memory only, to what is wanted.
    shop.run(&format!("ACL SETUSER {login} off resetpass"))
        .await;
    hand.refuse(&login, None, &until).await.unwrap();
    assert!(shop.kept().contains(&format!("user {login} off ")));
}

#[tokio::test]
async fn a_server_that_forgets_its_users_is_refused_and_so_is_a_user_of_any_password() {
    let shop = Shop::over(RedisServer::forgetful()).await;
    shop.run(&format!("ACL SETUSER {ADMIN} +config|rewrite"))
        .await;
    let login = accounts::Resource::fresh(&shop).await;
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    let error = refused(hand.accept(&login, &one, Keep::Nothing, &until).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("set `aclfile` there"), "{error}");
    assert!(
        !hand.admits(&login, &one, &until).await.unwrap(),
        "nothing was changed"
    );
    shop.run("ACL SETUSER open on nopass +@all").await;
    let open = Login::of("open");
    for error in [
        refused(hand.accept(&open, &one, Keep::Old, &until).await),
        refused(hand.refuse(&open, Some(&one), &until).await),
    ] {
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.to_string().contains("nopass"), "{error}");
    }
}

#[tokio::test]
async fn a_second_user_may_do_what_the_first_may_and_two_passwords_are_the_most() {
    let shop = Shop::open().await;
    let rules =
        "~app:* %R~shared:* resetchannels &news -@all +get (~side:* resetchannels -@all +del)";
    shop.run(&format!("ACL SETUSER app on {rules}")).await;
    let (hand, until) = (shop.hand(), plenty());
    let second = Login::of("app_b").like("app");
    hand.accept(&second, &value("one"), Keep::Nothing, &until)
        .await
        .unwrap();
    let kept = shop.kept();
    let line = kept
        .lines()
        .find(|line| line.starts_with("user app_b "))
        .unwrap();
    assert!(line.ends_with(rules), "{line}");
    hand.accept(&second, &value("two"), Keep::Old, &until)
        .await
        .unwrap();
    let third = hand
        .accept(&second, &value("three"), Keep::Old, &until)
        .await;
    let error = refused(third);
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(
        error.to_string().contains("revoke the older version"),
        "{error}"
    );
    for name in ["one", "two"] {
        assert!(hand.admits(&second, &value(name), &until).await.unwrap());
    }
}

#[tokio::test]
async fn a_refused_admin_waits_and_sessions_of_another_server_process_are_not_guessed() {
    let mut shop = Shop::open().await;
    let login = accounts::Resource::fresh(&shop).await;
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    let _session = accounts::Resource::session(&shop, &login, &one).await;
    let now = hand.mark(&until).await.unwrap();
    assert_eq!(hand.older(&login, &now, &until).await.unwrap(), Some(1));
    let other = Mark(now.0 ^ (1 << 39));
    assert_eq!(hand.older(&login, &other, &until).await.unwrap(), None);
    shop.server.kill();
    shop.server.restart();
    assert_eq!(hand.older(&login, &now, &until).await.unwrap(), None);
    *shop.known.0.lock().unwrap() = "another".to_owned();
    let error = refused(hand.mark(&until).await);
    assert!(LoginRefused::is_beneath(&error), "work waits for it");
    assert!(error.to_string().contains("shop/admin"), "{error}");
    assert!(!format!("{error:?}").contains("another"));
}

#[tokio::test]
async fn over_tls_the_server_has_to_prove_its_name() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let shop = Shop::over(RedisServer::with_tls(&certificate, &key)).await;
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &certificate).unwrap();
    let (until, port) = (plenty(), shop.server.port());
    let named = shop.at(&format!("rediss://{ADMIN}@localhost:{port}"), Some(&ca));
    let login = accounts::Resource::fresh(&shop).await;
    named
        .accept(&login, &value("one"), Keep::Nothing, &until)
        .await
        .unwrap();
    assert!(named.admits(&login, &value("one"), &until).await.unwrap());
    for (host, ca) in [("127.0.0.1", Some(ca.as_path())), ("localhost", None)] {
        let other = shop.at(&format!("rediss://{ADMIN}@{host}:{port}"), ca);
        let error = refused(other.mark(&until).await);
        assert_eq!(error.kind, ErrorKind::Denied, "{error:?}");
        assert!(error.to_string().contains("caFile"), "{error}");
    }
}

#[tokio::test]
async fn the_two_passwords_of_an_account_take_turns_whatever_call_is_lost() {
    let shop = Shop::open().await;
    let login = accounts::Resource::fresh(&shop).await;
    let resource = support::resource(Kind::Redis, &shop.server.url(ADMIN), &[login.name.as_str()]);
    let hand = Arc::new(shop.hand());
    support::whatever_call_is_lost_one_password_is_good_in_the_end(hand, &resource).await;
    let login = accounts::Resource::fresh(&shop).await;
    let url = shop.server.url(ADMIN);
    let resource = support::resource(Kind::Redis, &url, &[login.name.as_str()]);
    support::two_passwords_take_turns(Arc::new(shop.hand()), &resource).await;
    let login = accounts::Resource::fresh(&shop).await;
    let resource = support::resource(Kind::Redis, &url, &[login.name.as_str()]);
    support::sessions_of_an_old_version_are_told(&shop, &resource).await;
}

#[tokio::test]
async fn a_cut_over_whose_answer_is_lost_is_looked_at() {
    let shop = Shop::open().await;
    let login = accounts::Resource::fresh(&shop).await;
    let url = shop.server.url(ADMIN);
    let resource = support::resource(Kind::Redis, &url, &[login.name.as_str()]);
    support::an_unclear_cut_over_is_looked_at(Arc::new(shop.hand()), &resource).await;
}

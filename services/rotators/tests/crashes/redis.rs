//! A Redis server, and the hand of its user who may do everything.

use async_trait::async_trait;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_engine::port::accounts::Login;
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::accounts::Session;
use keywheel_testkit::server::redis::{PASSWORD, RedisServer, USER};
use tokio::sync::Mutex;

use crate::redis_client::Client;
use crate::support::{self, ADMIN, ADMIN_PASSWORD};
use crate::sweep::Server;

/// Users that no rotation is about.
const OTHERS: [&str; 3] = [USER, ADMIN, "default"];

/// A server.
pub(crate) struct Redis {
    root: Mutex<Client>,
    server: RedisServer,
}

impl Redis {
    pub(crate) async fn open() -> Self {
        let server = RedisServer::start();
        let root = Client::login(server.socket(), USER, PASSWORD).await;
        Self {
            root: Mutex::new(root),
            server,
        }
    }

    async fn ask(&self, line: &str) -> String {
        let answer = self.root.lock().await.ask(line).await;
        let answer = answer.unwrap_or_else(|| panic!("{line}: no answer"));
        assert!(!answer.starts_with('-'), "{line}: {answer}");
        answer
    }
}

/// The users of a list that some password opens, each as often as there are such passwords.
fn accepted(list: &str) -> Vec<String> {
    let mut accepted = Vec::new();
    for line in list.lines() {
        let mut words = line.split(' ').skip(1);
        let Some(name) = words.next().filter(|name| !OTHERS.contains(name)) else {
            continue;
        };
        let words: Vec<&str> = words.collect();
        if words.contains(&"on") {
            let hashes = words.iter().filter(|word| word.starts_with('#'));
            accepted.extend(hashes.map(|_| name.to_owned()));
        }
    }
    accepted.sort();
    accepted
}

#[async_trait]
impl Server for Redis {
    async fn prepare(&self, strategy: Strategy, accounts: &[&str]) -> Resource {
        let resource = Resource {
            strategy,
            ..support::resource(Kind::Redis, &self.server.url(ADMIN), accounts)
        };
        let printed = keywheel_rotators::grants(&resource).unwrap();
        for line in printed.lines().filter(|line| !line.starts_with('#')) {
            self.ask(line).await;
        }
        self.ask(&format!("ACL SETUSER {ADMIN} >{ADMIN_PASSWORD}"))
            .await;
        let name = &resource.accounts[0];
        self.ask(&format!("ACL SETUSER {name} on ~{name}:* +@all"))
            .await;
        self.ask("ACL SAVE").await;
        resource
    }

    /// What it accepts now is what it would accept after a restart.
    async fn accepted(&self) -> Vec<String> {
        let now = accepted(&self.ask("ACL LIST").await);
        let kept = std::fs::read_to_string(self.server.users()).unwrap();
        assert_eq!(now, accepted(&kept), "not kept");
        now
    }

    async fn left(&self) -> u64 {
        let list = self.ask("CLIENT LIST").await;
        let own = format!(" user={USER} ");
        let others = list.lines().filter(|line| !line.is_empty());
        let others = others.filter(|line| !line.contains(&own));
        u64::try_from(others.count()).unwrap()
    }

    async fn drop_account(&self, name: &str) {
        self.ask(&format!("ACL DELUSER {name}")).await;
        self.ask("ACL SAVE").await;
    }

    async fn session(&self, login: &Login, password: &SecretBytes) -> Box<dyn Session> {
        // EXPOSE: a client signs in with it.
        let password = std::str::from_utf8(password.expose()).unwrap();
        Box::new(Client::login(self.server.socket(), &login.name, password).await)
    }
}

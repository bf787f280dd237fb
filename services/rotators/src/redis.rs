//! Users of a Redis (6 or newer) or Valkey server: its access control lists take two passwords beside
//! each other.
//!
//! Invariants: a command holds a password's hash, never the password, but for the login itself; every
//! change is one transaction with its keeping beyond a restart of the server, so that no revoked password
//! comes back; sessions are told apart by their numbers, and only of the very server process that gave
//! them. Users are not replicated: it is one server, and each replica is a rotator of its own.

mod acl;
pub(crate) mod tls;
pub(crate) mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::resource::Resource;
use keywheel_core::store::CredentialRef;
use keywheel_engine::port::accounts::{Accounts, Keep, Keeps, Login, Mark};
use keywheel_engine::port::failpoint::Points;
use keywheel_engine::port::store::{Credentials, LoginRefused};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::SecretBytes;

pub use self::acl::MAX_PASSWORDS;
use self::acl::{Hash, Refusal, User, count_older};
use self::wire::{Answer, Connection, Failure, explain};
pub use self::wire::{CALL_TIMEOUT, MAX_ANSWER_BYTES, MAX_LINE_BYTES};
use crate::address::{Address, Form};
use crate::password;

const FORM: Form = Form {
    schemes: &[("redis://", false), ("rediss://", true)],
    port: 6379,
    example: "rediss://admin@host:port",
};
/// How a server keeps its users beyond its end: in a file of their own, or in its configuration.
const ACL_FILE: [&str; 2] = ["ACL", "SAVE"];
const CONFIGURATION: [&str; 2] = ["CONFIG", "REWRITE"];
/// A connection's number has this many bits; so many of the process's name stand above them in a mark.
const ID_BITS: u32 = 39;
const RUN_DIGITS: usize = 6;
/// One more than the greatest number of a connection.
const IDS: i64 = 1 << ID_BITS;
/// Where a change of a user can be cut off.
struct Change {
    before: &'static str,
    /// The server has every command of it, and did none yet.
    queued: &'static str,
    after: &'static str,
}
const SET: Change = Change {
    before: "rotator.redis.before_set",
    queued: "rotator.redis.after_set_queued",
    after: "rotator.redis.after_set",
};
const REFUSE: Change = Change {
    before: "rotator.redis.before_refuse",
    queued: "rotator.redis.after_refuse_queued",
    after: "rotator.redis.after_refuse",
};

/// Users of one Redis or Valkey server.
pub struct RedisAccounts {
    resource: Resource,
    address: Address,
    credentials: Arc<dyn Credentials>,
    points: Points,
}

impl RedisAccounts {
    /// The users of a resource at `rediss://admin@host:port`; without TLS (`redis://`) only on this
    /// machine, or at a unix socket whose path, with `%2F` for each slash, stands for the host. The
    /// admin's password is read each time one is needed. Opens no connection.
    ///
    /// # Errors
    /// When `connection` is no such URL, or leaves this machine without TLS.
    pub fn new(resource: Resource, credentials: Arc<dyn Credentials>) -> Result<Self, PortError> {
        let address = Address::parse(&resource.connection, &FORM)?;
        if !address.is_tls && !address.is_near {
            let text = format!(
                "{} is not this machine: only rediss:// may leave it; use that",
                address.name
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        Ok(Self {
            resource,
            address,
            credentials,
            points: Points::default(),
        })
    }

    /// The same, passing these failpoints.
    pub(crate) fn with(self, points: Points) -> Self {
        Self { points, ..self }
    }

    /// A connection on which this user logged in.
    async fn login<'a>(
        &'a self,
        user: &str,
        password: &SecretBytes,
        until: &'a Until,
    ) -> Result<Connection<'a>, Failure> {
        let authorities = self.authorities().await.map_err(Failure::Other)?;
        until.check().map_err(Failure::Other)?;
        let stream = tls::connect(&self.address, authorities.as_deref()).await?;
        let mut connection = Connection::over(stream, &self.address.name, until);
        // EXPOSE: the client proves with it who it is; the buffer it is sent from is overwritten.
        let words: [&[u8]; 3] = [b"AUTH", user.as_bytes(), password.expose()];
        let _welcome = connection.ask(&words).await?;
        Ok(connection)
    }

    /// Those that the server's certificate has to come from (PEM); nothing means the system's.
    async fn authorities(&self) -> Result<Option<Vec<u8>>, PortError> {
        let Some(ca) = &self.resource.ca else {
            return Ok(None);
        };
        let file = CredentialRef::File(ca.clone());
        let authorities = self.credentials.read(&file).await?;
        // EXPOSE: the client checks the server with it; certificates are no secret.
        Ok(Some(authorities.expose().to_vec()))
    }

    /// A connection of the admin.
    async fn open<'a>(&'a self, until: &'a Until) -> Result<Connection<'a>, PortError> {
        until.check()?;
        let secret = CredentialRef::Secret(self.resource.admin.clone());
        let password = self.credentials.read(&secret).await?;
        let opened = self.login(&self.address.user, &password, until).await;
        opened.map_err(|failure| match is_turned_away(&failure) {
            true => LoginRefused::beneath(self.turned_away()),
            false => self.explain(failure),
        })
    }

    fn turned_away(&self) -> PortError {
        let text = format!(
            "{} refuses the admin {}; put the right password into secret `{}`",
            self.resource, self.address.user, self.resource.admin
        );
        PortError::new(ErrorKind::Denied, text)
    }

    fn explain(&self, failure: Failure) -> PortError {
        explain(failure, &self.address.name)
    }

    async fn ask(
        &self,
        connection: &mut Connection<'_>,
        words: &[&str],
    ) -> Result<Answer, PortError> {
        let answer = ask(connection, words).await;
        answer.map_err(|failure| self.explain(failure))
    }

    /// The user as the server keeps it; nothing when it is not there.
    async fn user(
        &self,
        connection: &mut Connection<'_>,
        name: &str,
    ) -> Result<Option<User>, PortError> {
        let Answer::List(lines) = self.ask(connection, &["ACL", "LIST"]).await? else {
            return Err(self.strange());
        };
        match User::find(&lines, name) {
            None => Ok(None),
            Some(None) => Err(self.strange()),
            Some(found) => Ok(found),
        }
    }

    /// Changes a user and has the server keep that, both or none of them, wherever it is cut off: what
    /// is seen changed is kept. A server that cannot keep it is found out before.
    async fn change(
        &self,
        connection: &mut Connection<'_>,
        name: &str,
        rules: &[String],
        at: &Change,
    ) -> Result<(), PortError> {
        let keeping = self.keep(connection).await?;
        if rules.is_empty() {
            return Ok(());
        }
        self.points.pass(at.before).await?;
        let mut words = vec!["ACL", "SETUSER", name];
        words.extend(rules.iter().map(String::as_str));
        for words in [["MULTI"].as_slice(), words.as_slice(), keeping.as_slice()] {
            self.ask(connection, words).await?;
        }
        self.points.pass(at.queued).await?;
        match ask(connection, &["EXEC"]).await {
            Ok(_) => {}
            // Another hand removed that password in between.
            Err(Failure::Said(said)) if said.contains("remove from the user does not exist") => {}
            Err(failure) => return Err(self.explain(failure)),
        }
        self.points.pass(at.after).await
    }

    /// Has the server keep its users as they are beyond a restart; gives the command that does.
    async fn keep(&self, connection: &mut Connection<'_>) -> Result<[&'static str; 2], PortError> {
        match ask(connection, &ACL_FILE).await {
            Ok(_) => return Ok(ACL_FILE),
            Err(Failure::Said(said)) if said.contains("not configured to use an ACL file") => {}
            Err(failure) => return Err(self.explain(failure)),
        }
        match ask(connection, &CONFIGURATION).await {
            Ok(_) => Ok(CONFIGURATION),
            Err(Failure::Said(said)) if said.contains("without a config file") => {
                let text = format!(
                    "{} keeps its users in memory only: after a restart the old password would be back; set `aclfile` there, then try again",
                    self.address.name
                );
                Err(PortError::new(ErrorKind::Denied, text))
            }
            Err(failure) => Err(self.explain(failure)),
        }
    }

    /// The server process and the number of our own connection, the last one that was given.
    async fn now(&self, connection: &mut Connection<'_>) -> Result<Mark, PortError> {
        let Answer::Number(id) = self.ask(connection, &["CLIENT", "ID"]).await? else {
            return Err(self.strange());
        };
        let Answer::Bytes(Some(info)) = self.ask(connection, &["INFO", "server"]).await? else {
            return Err(self.strange());
        };
        let info = String::from_utf8_lossy(&info);
        let mut lines = info.lines();
        let run = lines.find_map(|line| line.strip_prefix("run_id:"));
        let mark = run.and_then(|run| packed(run, id));
        mark.map(Mark).ok_or_else(|| self.strange())
    }

    fn refused(&self, refusal: Refusal, name: &str) -> PortError {
        let server = &self.address.name;
        match refusal {
            Refusal::Full => {
                let text = format!(
                    "user {name} at {server} accepts {MAX_PASSWORDS} passwords already; revoke the older version, then try again"
                );
                PortError::new(ErrorKind::Conflict, text)
            }
            Refusal::Open => {
                let text = format!(
                    "user {name} at {server} lets any password in (nopass); give it one first"
                );
                PortError::new(ErrorKind::Denied, text)
            }
        }
    }

    fn strange(&self) -> PortError {
        let text = format!(
            "{} answers what Redis does not; correct the connection",
            self.address.name
        );
        PortError::new(ErrorKind::Corrupt, text)
    }
}

#[async_trait]
impl Accounts for RedisAccounts {
    async fn accept(
        &self,
        login: &Login,
        password: &SecretBytes,
        keep: Keep,
        until: &Until,
    ) -> Result<(), PortError> {
        until.check()?;
        password::check(login, password)?;
        let (name, new) = (login.name.as_str(), Hash::of(password));
        let mut connection = self.open(until).await?;
        let rules = match self.user(&mut connection, name).await? {
            Some(user) => user
                .accept(&new, keep)
                .map_err(|refusal| self.refused(refusal, name))?,
            None => {
                let missing = |name: &str| {
                    let text = format!(
                        "{} has no user {name}; make it, or correct the rotator's account",
                        self.address.name
                    );
                    PortError::new(ErrorKind::NotFound, text)
                };
                let sibling = login.sibling.as_deref().ok_or_else(|| missing(name))?;
                let model = self.user(&mut connection, sibling).await?;
                model.ok_or_else(|| missing(sibling))?.like(&new)
            }
        };
        self.change(&mut connection, name, &rules, &SET).await
    }

    async fn admits(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<bool, PortError> {
        self.points.pass("rotator.redis.before_login").await?;
        let opened = self.login(&login.name, password, until).await;
        self.points.pass("rotator.redis.after_login").await?;
        match opened {
            Ok(_) => Ok(true),
            Err(failure) if is_turned_away(&failure) => Ok(false),
            Err(failure) => Err(self.explain(failure)),
        }
    }

    async fn keeps(
        &self,
        login: &Login,
        password: &SecretBytes,
        until: &Until,
    ) -> Result<Keeps, PortError> {
        let mut connection = self.open(until).await?;
        let Some(user) = self.user(&mut connection, &login.name).await? else {
            return Ok(Keeps::No);
        };
        Ok(match user.keeps(&Hash::of(password)) {
            Some(true) => Keeps::Yes,
            Some(false) => Keeps::No,
            None => Keeps::Unclear,
        })
    }

    async fn refuse(
        &self,
        login: &Login,
        password: Option<&SecretBytes>,
        until: &Until,
    ) -> Result<(), PortError> {
        let name = login.name.as_str();
        let mut connection = self.open(until).await?;
        let Some(user) = self.user(&mut connection, name).await? else {
            return Ok(());
        };
        let old = password.map(Hash::of);
        let rules = user.refuse(old.as_ref());
        let rules = rules.map_err(|refusal| self.refused(refusal, name))?;
        self.change(&mut connection, name, &rules, &REFUSE).await
    }

    async fn end_sessions(&self, login: &Login, until: &Until) -> Result<u64, PortError> {
        let mut connection = self.open(until).await?;
        let words = ["CLIENT", "KILL", "USER", login.name.as_str()];
        self.points.pass("rotator.redis.before_end").await?;
        let answer = ask(&mut connection, &words).await;
        self.points.pass("rotator.redis.after_end").await?;
        match answer {
            Ok(Answer::Number(ended)) => Ok(u64::try_from(ended).unwrap_or(0)),
            Ok(_) => Err(self.strange()),
            Err(Failure::Said(said)) if said.contains("No such user") => Ok(0),
            Err(failure) => Err(self.explain(failure)),
        }
    }

    async fn mark(&self, until: &Until) -> Result<Mark, PortError> {
        let mut connection = self.open(until).await?;
        self.now(&mut connection).await
    }

    async fn older(
        &self,
        login: &Login,
        mark: &Mark,
        until: &Until,
    ) -> Result<Option<u64>, PortError> {
        let mut connection = self.open(until).await?;
        let now = self.now(&mut connection).await?;
        // Another process, after a restart or a failover, gives numbers of its own.
        if now.0 >> ID_BITS != mark.0 >> ID_BITS {
            return Ok(None);
        }
        let list = match self.ask(&mut connection, &["CLIENT", "LIST"]).await? {
            Answer::Bytes(Some(list)) => list,
            _ => return Err(self.strange()),
        };
        let list = String::from_utf8_lossy(&list);
        Ok(Some(count_older(&list, &login.name, mark.0 & (IDS - 1))))
    }

    fn grants(&self) -> String {
        printed(&self.resource, &self.address)
    }
}

/// What the admin needs there, as commands for a person.
///
/// # Errors
/// When `connection` is no address of a server.
pub fn grants(resource: &Resource) -> Result<String, PortError> {
    let address = Address::parse(&resource.connection, &FORM)?;
    Ok(printed(resource, &address))
}

fn printed(resource: &Resource, address: &Address) -> String {
    let admin = &address.user;
    format!(
        "# For {resource}. Who may set users may give itself every right: keep this password as you keep root's.\n\
         ACL SETUSER {admin} on resetkeys resetchannels -@all +auth +multi +exec +acl|list +acl|setuser \
         +acl|save +client|id +client|list +client|kill +info\n\
         # Without `aclfile`, users are kept in the configuration file:\n\
         # ACL SETUSER {admin} +config|rewrite\n\
         # Put its password into secret `{}`: ACL SETUSER {admin} >…\n",
        resource.admin
    )
}

/// Whether a login was turned away, rather than that something failed.
fn is_turned_away(failure: &Failure) -> bool {
    matches!(failure, Failure::Said(said) if said.starts_with("WRONGPASS "))
}

async fn ask(connection: &mut Connection<'_>, words: &[&str]) -> Result<Answer, Failure> {
    let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
    connection.ask(&words).await
}

/// A server process and a number of its connections in one number; nothing when one does not fit.
fn packed(run: &str, id: i64) -> Option<i64> {
    let digits = run.get(..RUN_DIGITS)?;
    let process = i64::from_str_radix(digits, 16).ok()?;
    let fits = process >= 0 && (0..IDS).contains(&id);
    fits.then_some((process << ID_BITS) | id)
}

#[cfg(test)]
mod tests {
    use keywheel_core::name::SecretName;
    use keywheel_core::resource::{Kind, Strategy};

    use super::*;

    struct Nobody;

    #[async_trait]
    impl Credentials for Nobody {
        async fn read(&self, _: &CredentialRef) -> Result<SecretBytes, PortError> {
            Err(PortError::new(ErrorKind::NotFound, "there is none"))
        }
    }

    fn accounts(connection: &str) -> Result<RedisAccounts, PortError> {
        let resource = Resource {
            kind: Kind::Redis,
            connection: connection.to_owned(),
            accounts: vec!["app".to_owned()],
            admin: SecretName::parse("shop/admin").unwrap(),
            strategy: Strategy::DualPassword,
            ca: None,
        };
        RedisAccounts::new(resource, Arc::new(Nobody))
    }

    #[test]
    fn a_mark_knows_the_server_process_and_the_connection() {
        let run = "0bfc6768dff6256c1676e3506d62f1c7acbb06d6";
        let mark = packed(run, 68).unwrap();
        assert_eq!((mark >> ID_BITS, mark & (IDS - 1)), (0x000b_fc67, 68));
        assert_eq!(packed("ffffff", IDS - 1), Some(i64::MAX));
        for (run, id) in [
            ("0bfc6", 1),
            ("xyzxyz", 1),
            ("-1bfc6", 1),
            (run, IDS),
            (run, -1),
        ] {
            assert_eq!(packed(run, id), None, "{run} {id}");
        }
    }

    #[test]
    fn only_tls_leaves_this_machine() {
        for url in [
            "rediss://kw@db/0",
            "redis://kw@localhost",
            "redis://kw@%2Frun%2Fr.sock",
        ] {
            assert!(accounts(url).is_ok(), "{url}");
        }
        let refused = accounts("redis://kw@db").map(drop).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
        assert!(refused.to_string().contains("rediss://"), "{refused}");
        let grants = accounts("redis://kw@localhost").unwrap().grants();
        assert!(grants.contains("ACL SETUSER kw on "), "{grants}");
    }
}

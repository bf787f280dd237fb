//! A Glewlwyd of a test's own: a provider of identities (OpenID Connect) that makes device codes and refresh tokens,
//! over plain HTTP, with one person, `ada`, and one public client.
//!
//! Owns the process and its directory, and ends both when dropped. The program lies in a cache directory, where
//! `tests/run.sh` puts it with what it lacks here, and with a database that has its tables.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::directory::{CERTIFICATE, KEY, fresh, put_tls};
use super::port::held_port;

/// Names another cache directory than the user's own.
const CACHE_VARIABLE: &str = "KEYWHEEL_GLEWLWYD_DIR";
/// What it calls the one client.
pub const CLIENT: &str = "keywheel";
/// The administrator, as its tables are made.
const ADMIN: &str = r#"{"username":"admin","password":"password"}"#;
const ADA: &str = r#"{"username":"ada","password":"password-of-a-test-5b1c"}"#;
const READY_POLLS: u32 = 4800;
const POLL: Duration = Duration::from_millis(25);

/// Keys in PEM, which a test makes.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// A certificate of 127.0.0.1 and its key: the program wants to read some, and shows none.
    pub tls: (&'a str, &'a str),
    /// What it signs identity tokens with (ECDSA P-256, PKCS #8), and the public half.
    pub signing: (&'a str, &'a str),
}

/// A running server.
pub struct Glewlwyd {
    directory: PathBuf,
    child: Child,
    port: u16,
}

impl Glewlwyd {
    /// Starts it.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    #[must_use]
    pub fn start(keys: &Keys<'_>) -> Self {
        let (port, directory, cache) = (held_port(), fresh("glewlwyd"), cache());
        put_tls(&directory, keys.tls.0, keys.tls.1);
        std::fs::copy(cache.join("empty.db"), directory.join("glewlwyd.db")).unwrap();
        std::fs::create_dir(directory.join("nothing")).unwrap();
        let configuration = directory.join("glewlwyd.conf");
        std::fs::write(&configuration, configured(&directory, &cache, port)).unwrap();
        let log = File::create(directory.join("log")).unwrap();
        let child = Command::new(cache.join("glewlwyd"))
            .arg(format!("--config-file={}", configuration.display()))
            .env_clear()
            .env("HOME", &directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self {
            directory,
            child,
            port,
        };
        server.become_ready();
        server.prepare(keys);
        server
    }

    fn become_ready(&mut self) {
        for _ in 0..READY_POLLS {
            if self.child.try_wait().unwrap().is_some() {
                break;
            }
            if self.try_ask("", ("POST", "auth/"), ADMIN).is_ok() {
                return;
            }
            std::thread::sleep(POLL);
        }
        panic!("Glewlwyd does not start:\n{}", self.log());
    }

    /// Makes it a provider, with its client and its person.
    fn prepare(&self, keys: &Keys<'_>) {
        let admin = self.log_in(ADMIN);
        let line = |pem: &str| pem.trim_end().replace('\n', "\\n");
        let plugin = format!(
            r#"{{"module":"oidc","name":"oidc","display_name":"","enabled":true,"parameters":{{"iss":"{}","jwt-type":"ecdsa","jwt-key-size":"256","key":"{}\n","cert":"{}\n","jwks-show":true,"access-token-duration":3600,"refresh-token-duration":86400,"code-duration":600,"refresh-token-rolling":false,"refresh-token-one-use":"never","allow-non-oidc":true,"auth-type-code-enabled":true,"auth-type-refresh-enabled":true,"auth-type-device-enabled":true,"auth-type-token-enabled":false,"auth-type-id-token-enabled":true,"auth-type-none-enabled":false,"auth-type-password-enabled":false,"auth-type-client-enabled":false,"device-authorization-expiration":600,"device-authorization-interval":1,"pkce-allowed":true,"pkce-method-plain-allowed":false,"pkce-scopes":[],"revocation-allowed":true,"introspection-revocation-allowed":true,"introspection-revocation-allow-target-client":true,"introspection-revocation-auth-scope":[],"subject-type":"public","name-claim":"no","email-claim":"no","scope-claim":"no","claims":[{{"name":"preferred_username","user-property":"username","type":"string","mandatory":true,"on-demand":false,"scope":[]}}],"allowed-scope":["openid"],"scope":[]}}}}"#,
            self.issuer(),
            line(keys.signing.0),
            line(keys.signing.1)
        );
        let client = format!(
            r#"{{"client_id":"{CLIENT}","name":"","confidential":false,"authorization_type":["code","device_authorization","refresh_token"],"redirect_uri":["http://127.0.0.1/callback"],"scope":["openid"],"enabled":true,"token_endpoint_auth_method":["none"]}}"#
        );
        let ada = ADA.replacen(
            '{',
            r#"{"name":"Ada","email":"","scope":["openid","g_profile"],"enabled":true,"#,
            1,
        );
        self.must(&admin, ("POST", "mod/plugin"), &plugin);
        self.must(&admin, ("POST", "client"), &client);
        self.must(&admin, ("POST", "user"), &ada);
    }

    /// What it calls itself.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://{}/api/oidc", self.address())
    }

    /// Ada types this code into a browser, and lets the client know who she is.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn confirm_ada(&self, user_code: &str) {
        let ada = self.log_in(ADA);
        let grant = format!("auth/grant/{CLIENT}");
        self.must(&ada, ("PUT", &grant), r#"{"scope":"openid"}"#);
        let path = format!("oidc/device?code={user_code}&g_continue");
        let (status, head, _) = self.ask(&ada, ("GET", &path), "");
        assert!(
            status == 302 && head.contains("deviceComplete"),
            "{status} {head}"
        );
    }

    /// Ada leaves.
    pub fn remove_ada(&self) {
        let admin = self.log_in(ADMIN);
        self.must(&admin, ("DELETE", "user/ada"), "");
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// A session's cookie.
    fn log_in(&self, who: &str) -> String {
        let head = self.must("", ("POST", "auth/"), who);
        let cookie = head
            .lines()
            .find_map(|line| line.strip_prefix("Set-Cookie: "));
        let cookie = cookie.and_then(|line| line.split(';').next());
        cookie
            .unwrap_or_else(|| panic!("no session: {head}"))
            .to_owned()
    }

    /// Does it, and gives the answer's head.
    fn must(&self, cookie: &str, asks: (&str, &str), body: &str) -> String {
        let (status, head, answer) = self.ask(cookie, asks, body);
        assert_eq!(status, 200, "{asks:?}: {answer}\n{}", self.log());
        head
    }

    fn ask(&self, cookie: &str, asks: (&str, &str), body: &str) -> (u16, String, String) {
        let answer = self.try_ask(cookie, asks, body);
        answer.unwrap_or_else(|error| panic!("{asks:?}: {error}\n{}", self.log()))
    }

    fn try_ask(
        &self,
        cookie: &str,
        (method, path): (&str, &str),
        body: &str,
    ) -> std::io::Result<(u16, String, String)> {
        let mut stream = TcpStream::connect(self.address())?;
        let (host, length) = (self.address(), body.len());
        let head = format!(
            "{method} /api/{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Cookie: {cookie}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes())?;
        let mut whole = String::new();
        stream.read_to_string(&mut whole)?;
        let status = whole.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other("no status"))?;
        let (head, body) = whole.split_once("\r\n\r\n").unwrap_or((&whole, ""));
        Ok((status, head.to_owned(), body.to_owned()))
    }
}

impl Drop for Glewlwyd {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

fn configured(directory: &Path, cache: &Path, port: u16) -> String {
    let modules = cache.join("root/usr/lib/glewlwyd");
    let (own, modules) = (directory.display(), modules.display());
    format!(
        "port={port}\nbind_address=\"127.0.0.1\"\nexternal_url=\"http://127.0.0.1:{port}\"\nlogin_url=\"login.html\"\n\
         api_prefix=\"api\"\nstatic_files_path=\"{own}/nothing\"\nlog_mode=\"console\"\nlog_level=\"WARNING\"\n\
         cookie_domain=\"127.0.0.1\"\ncookie_secure=0\nsession_expiration=3600\nsession_key=\"GLEWLWYD2_SESSION_ID\"\n\
         login_api_enabled=true\nadmin_scope=\"g_admin\"\nprofile_scope=\"g_profile\"\n\
         user_module_path=\"{modules}/user\"\nuser_middleware_module_path=\"{own}/nothing\"\n\
         client_module_path=\"{modules}/client\"\nuser_auth_scheme_module_path=\"{modules}/scheme\"\n\
         plugin_module_path=\"{modules}/plugin\"\nuse_secure_connection=false\n\
         secure_connection_key_file=\"{own}/{KEY}\"\nsecure_connection_pem_file=\"{own}/{CERTIFICATE}\"\n\
         secure_connection_ca_file=\"{own}/{CERTIFICATE}\"\nhash_algorithm = \"SHA512\"\n\
         database = {{ type = \"sqlite3\" path = \"{own}/glewlwyd.db\" }};\n"
    )
}

/// Where the program is.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own variable, and no service's"
)]
fn cache() -> PathBuf {
    let cache = std::env::var_os(CACHE_VARIABLE).map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_default();
            Path::new(&home).join(".cache/keywheel/glewlwyd")
        },
        PathBuf::from,
    );
    assert!(
        cache.join("glewlwyd").is_file(),
        "Glewlwyd is not installed: run `tests/run.sh --only fmt`, which gets it"
    );
    cache
}

//! Where everything of a deployment lies, and the files that say so to each process.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{HOST, Places, Role, numbered};
use crate::keywheel::CREDENTIALS_DIR;
use crate::output::Output;
use crate::scratch::binary;

/// Bytes of an unseal key; its file holds them as hexadecimal digits.
const KEY_BYTES: usize = 32;

/// What one process is told.
struct Told {
    identity: PathBuf,
    data: PathBuf,
    run: PathBuf,
    key: PathBuf,
    host: String,
    more: String,
}

impl Places {
    /// Authorities, credentials and bus configuration, by the product's own verb.
    pub(super) fn init(&self) -> Result<()> {
        let mut init = Command::new(binary("keywheel")?);
        init.arg("init").args(["--gateway", self.address]);
        for port in &self.bus_ports {
            init.args(["--bus", &format!("{}:{port}", self.address)]);
        }
        if self.shape.tls {
            init.arg("--bus-tls");
        }
        init.arg("--out")
            .arg(self.root.join("deployment"))
            .arg("--unseal-key-file")
            .arg(self.root.join("key/gateway.key"))
            .arg("--bus-store")
            .arg(self.root.join("nats"));
        Output::of(&mut init)?.ok()?;
        for (role, count) in self.shape.services() {
            for number in 1..count {
                let mut copy = Command::new("cp");
                copy.arg("-a").arg(self.identity(role, 0));
                Output::of(copy.arg(self.identity(role, number)))?.ok()?;
            }
        }
        Ok(())
    }

    /// A service's credentials; those of the second and so on begin as a copy of the first one's.
    pub(super) fn identity(&self, role: Role, number: usize) -> PathBuf {
        let name = numbered(role.word(), number);
        self.root.join("deployment").join(name)
    }

    /// One file per process.
    pub(super) fn write_all(&self, urls: Option<&[String; 2]>, tap: Option<u16>) -> Result<()> {
        let bus = tap.map_or(String::new(), |port| {
            format!("[bus]\nservers = \"nats://127.0.0.1:{port}\"\n")
        });
        for (role, count) in self.shape.services() {
            for number in 0..count {
                let mut told = self.service(role, number, urls)?;
                told.more.push_str(&bus);
                self.write(role, number, &told)?;
            }
        }
        for host in 0..self.shape.hosts {
            let told = Told {
                identity: self.host_identity(host),
                data: self.root.join(Role::Injector.name(host)),
                run: self.root.join(numbered("run", host)),
                key: self.root.join("key/unused.key"),
                host: numbered(HOST, host),
                more: bus.clone(),
            };
            fs::create_dir_all(&told.run)?;
            self.write(Role::Injector, host, &told)?;
        }
        if urls.is_some() {
            make_key(&self.root.join("key/unseal.key"))?;
        }
        Ok(())
    }

    fn service(&self, role: Role, number: usize, urls: Option<&[String; 2]>) -> Result<Told> {
        let (key, data) = match role {
            // The first stands where `keywheel up` would.
            Role::Gateway => ("gateway.key", numbered("data", number)),
            _ => ("unseal.key", role.name(number)),
        };
        let run = self.service_run(role, number);
        fs::create_dir_all(&run)?;
        let mut more = String::new();
        if role == Role::Gateway {
            let ports = self.join_ports.iter().cycle().skip(number);
            // What one gateway makes, another takes.
            let [port, told] = [0, 1].map(|after| ports.clone().nth(after).copied());
            let port = port.context("no port to join at")?;
            writeln!(more, "[listen]\njoin = \"{}:{port}\"", self.address)?;
            if let Some(told) = told {
                writeln!(more, "advertise_join = \"{}:{told}\"", self.address)?;
            }
        }
        if role == Role::StoreSync {
            let place = self.credentials_dir();
            writeln!(more, "[stores]\ncredentials_dir = \"{}\"", place.display())?;
        }
        let section = match (role, urls) {
            (Role::Gateway, Some([journal, _])) => Some(("journal", journal)),
            (Role::StoreSync, Some([_, cache])) => Some(("cache", cache)),
            _ => None,
        };
        if let Some((section, url)) = section {
            let file = self.password_file();
            writeln!(more, "[{section}]\nurl = \"{url}\"")?;
            writeln!(more, "password_file = \"{}\"", file.display())?;
        }
        Ok(Told {
            identity: self.identity(role, number),
            data: self.root.join(data),
            run,
            key: self.root.join("key").join(key),
            host: HOST.to_owned(),
            more,
        })
    }

    fn write(&self, role: Role, number: usize, told: &Told) -> Result<()> {
        let mut text = String::new();
        writeln!(text, "identity_dir = \"{}\"", told.identity.display())?;
        writeln!(text, "data_dir = \"{}\"", told.data.display())?;
        writeln!(text, "socket = \"{}/keywheel.sock\"", told.run.display())?;
        writeln!(text, "unseal_key_file = \"{}\"", told.key.display())?;
        writeln!(text, "[host]\nname = \"{}\"", told.host)?;
        let page = format!("{}/metrics-{}.sock", told.run.display(), role.word());
        writeln!(text, "[metrics]\nlisten = \"unix:{page}\"")?;
        text.push_str(&told.more);
        Ok(fs::write(self.config(role, number), text)?)
    }

    /// Where a service has its socket.
    pub(super) fn service_run(&self, role: Role, number: usize) -> PathBuf {
        self.root.join(match number {
            0 => "run".to_owned(),
            more => numbered(&format!("run-{}", role.word()), more),
        })
    }

    /// A process's configuration.
    pub(super) fn config(&self, role: Role, number: usize) -> PathBuf {
        self.root.join(format!("{}.toml", role.name(number)))
    }

    /// A bus server's configuration, as `keywheel init` made it.
    pub(super) fn bus_config(&self, number: usize) -> PathBuf {
        let name = format!("deployment/nats/bus-{}/nats.conf", number + 1);
        self.root.join(name)
    }

    /// Where credentials of stores outside lie as files; the same place as with `keywheel up`.
    pub(super) fn credentials_dir(&self) -> PathBuf {
        self.root.join(CREDENTIALS_DIR)
    }

    /// The database's password.
    pub(super) fn password_file(&self) -> PathBuf {
        self.root.join("key/database.password")
    }

    /// A host's credentials.
    pub(super) fn host_identity(&self, host: usize) -> PathBuf {
        self.root.join(numbered("host", host))
    }

    /// Whether a host has credentials.
    pub(super) fn has_joined(&self, host: usize) -> bool {
        self.host_identity(host).join("identity.json").exists()
    }
}

/// An unseal key that several processes share must be there before them.
fn make_key(path: &Path) -> Result<()> {
    let mut bytes = [0u8; KEY_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    for byte in bytes {
        write!(file, "{byte:02x}")?;
    }
    Ok(())
}

//! A network of a test's own: a network namespace for the services, with a bridge in it, and one more
//! per host.
//!
//! Nothing of it is in the machine's own network, and no name of it is on the machine: a namespace
//! lives as long as the process that holds it. The services listen at the bridge's address; a host
//! reaches them over its own interface, and can be cut off by dropping its packets: nothing is closed,
//! nobody is told.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::output::Output;
use crate::process::{PATIENCE, Process};
use crate::wait;

/// Where the services listen.
pub const ADDRESS: &str = "10.234.0.1";
/// The first three bytes of every address.
const PREFIX: &str = "10.234.0";
/// The first host's last byte.
const FIRST_HOST: usize = 11;

/// Which packets of a host are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drops {
    /// Both ways.
    All,
    /// What comes to the host.
    Incoming,
}

/// The services' namespace and those of the hosts.
#[derive(Debug)]
pub struct Lan {
    services: Namespace,
    hosts: Vec<Namespace>,
}

/// A network namespace, kept by a process that does nothing else.
#[derive(Debug)]
struct Namespace {
    holder: Process,
    pid: u32,
}

impl Namespace {
    fn make(root: &Path, name: &str) -> Result<Self> {
        let log = root.join(format!("{name}.log"));
        let words = ["--net", "sleep", "infinity"];
        let mut holder = Process::new(name, log, Path::new("unshare"), &words);
        holder.start()?;
        let pid = holder.pid().context("a namespace without a holder")?;
        let own = fs::read_link("/proc/self/ns/net")?;
        let path = format!("/proc/{pid}/ns/net");
        wait::until_true("a network namespace", PATIENCE, || {
            Ok(fs::read_link(&path)? != own)
        })?;
        let namespace = Self { holder, pid };
        namespace.run("ip link set lo up")?;
        Ok(namespace)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.pid)
    }

    /// Runs a program of this machine in it.
    fn run(&self, line: &str) -> Result<()> {
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--net={}", self.path()));
        Output::of(enter.args(line.split(' ')))?.ok()?;
        Ok(())
    }
}

impl Lan {
    /// Makes it for so many hosts; logs go below `root`.
    pub fn make(root: &Path, hosts: usize) -> Result<Self> {
        let services = Namespace::make(root, "network")?;
        services.run("ip link add name bridge0 type bridge")?;
        services.run(&format!("ip addr add {ADDRESS}/24 dev bridge0"))?;
        services.run("ip link set bridge0 up")?;
        let mut lan = Self {
            services,
            hosts: Vec::new(),
        };
        for host in 0..hosts {
            lan.add(root, host)?;
        }
        Ok(lan)
    }

    fn add(&mut self, root: &Path, host: usize) -> Result<()> {
        let inner = Namespace::make(root, &format!("network-of-host-{host}"))?;
        let pid = inner.pid;
        let services = &self.services;
        services.run(&format!(
            "ip link add name host{host} type veth peer name eth0 netns {pid}"
        ))?;
        services.run(&format!("ip link set host{host} master bridge0 up"))?;
        let address = format!("{PREFIX}.{}", FIRST_HOST + host);
        inner.run(&format!("ip addr add {address}/24 dev eth0"))?;
        inner.run("ip link set eth0 up")?;
        self.hosts.push(inner);
        Ok(())
    }

    /// The namespace of the services.
    #[must_use]
    pub fn services(&self) -> String {
        self.services.path()
    }

    /// A host's namespace.
    #[must_use]
    pub fn host(&self, number: usize) -> Option<String> {
        self.hosts.get(number).map(Namespace::path)
    }

    /// Drops a host's packets from now on.
    pub fn cut(&self, host: usize, drops: Drops) -> Result<()> {
        let namespace = self.hosts.get(host).context("no such host")?;
        namespace.run("iptables -w -I INPUT -i eth0 -j DROP")?;
        if drops == Drops::All {
            namespace.run("iptables -w -I OUTPUT -o eth0 -j DROP")?;
        }
        Ok(())
    }

    /// Lets all packets through again.
    pub fn heal(&self, host: usize) -> Result<()> {
        let namespace = self.hosts.get(host).context("no such host")?;
        namespace.run("iptables -w -F")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing of a test may outlive it in here; what runs inside is ended by its own value.
        let _ = self.holder.kill9();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn dropped_packets_arrive_again_after_healing() -> Result<()> {
        let scratch = Scratch::make()?;
        let lan = Lan::make(scratch.path(), 2)?;
        let host = lan.hosts.first().context("no host")?;
        let is_reached = || {
            host.run(&format!("busybox ping -c 1 -W 1 {ADDRESS}"))
                .is_ok()
        };
        assert!(is_reached());
        for drops in [Drops::All, Drops::Incoming] {
            lan.cut(0, drops)?;
            assert!(!is_reached());
            lan.heal(0)?;
            assert!(is_reached());
        }
        Ok(())
    }
}

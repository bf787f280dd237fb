//! Who may use the API: at the socket root, the daemon's own user, and members of the group
//! `keywheel`; at the operators' port who has an operator's certificate.
//!
//! At the socket the kernel names the peer; groups are read from the group file once per connection, so that a
//! change counts at once. Anyone can connect and is told no, because a refusal has to be audited.

use std::net::IpAddr;
use std::path::PathBuf;

use keywheel_core::audit::Principal;
use keywheel_identity::name::OperatorName;

/// The group whose members may use every verb.
pub const GROUP: &str = "keywheel";

/// The peer of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A user of this machine, by the kernel's word.
    User {
        /// User id.
        uid: u32,
        /// Primary group id.
        gid: u32,
    },
    /// A person, by a certificate that was checked.
    Operator(OperatorName),
    /// Someone at a TCP port who showed nothing we trust.
    Stranger(IpAddr),
}

/// Decides who may use the socket.
#[derive(Debug, Clone)]
pub struct Access {
    /// The daemon's own user.
    pub own_uid: u32,
    /// Where groups are listed: `/etc/group`.
    pub group_file: PathBuf,
    /// Where users are listed: `/etc/passwd`.
    pub user_file: PathBuf,
}

impl Access {
    /// The machine's own files.
    #[must_use]
    pub fn of_machine(own_uid: u32) -> Self {
        Self {
            own_uid,
            group_file: "/etc/group".into(),
            user_file: "/etc/passwd".into(),
        }
    }

    /// The peer as a principal; an unknown user id is its own name.
    #[must_use]
    pub fn principal(&self, peer: &Peer) -> Principal {
        match peer {
            Peer::User { uid, .. } => self.user(*uid),
            Peer::Operator(name) => Principal::Operator {
                name: name.to_string(),
            },
            Peer::Stranger(address) => Principal::Stranger {
                address: address.to_string(),
            },
        }
    }

    fn user(&self, uid: u32) -> Principal {
        let users = std::fs::read_to_string(&self.user_file).unwrap_or_default();
        let name = users.lines().find_map(|line| user_named(line, uid));
        Principal::User {
            uid,
            name: name.unwrap_or_else(|| uid.to_string()),
        }
    }

    /// A person as policies name them, as they would come in here now, and by which rule; `None` for who may not.
    #[must_use]
    pub fn owner(&self, text: &str) -> Option<(Principal, &'static str)> {
        let (kind, name) = text.split_once(':')?;
        match kind {
            "unix" => {
                let uid = name.parse().ok()?;
                let rule = self.allows_user(uid, self.primary_group(uid))?;
                Some((self.user(uid), rule))
            }
            "certificate" => {
                let peer = Peer::Operator(OperatorName::parse(name).ok()?);
                Some((self.principal(&peer), self.allows(&peer)?))
            }
            _ => None,
        }
    }

    /// The group that a user is in by the file of users; of an unknown one, a group that nobody is in.
    fn primary_group(&self, uid: u32) -> u32 {
        let users = std::fs::read_to_string(&self.user_file).unwrap_or_default();
        let found = users.lines().find(|line| user_named(line, uid).is_some());
        let group = found.and_then(|line| line.split(':').nth(3)?.parse().ok());
        group.unwrap_or(u32::MAX)
    }

    /// Whether the peer may use every verb, and by which rule.
    #[must_use]
    pub fn allows(&self, peer: &Peer) -> Option<&'static str> {
        match peer {
            Peer::User { uid, gid } => self.allows_user(*uid, *gid),
            Peer::Operator(_) => Some("client-certificate"),
            Peer::Stranger(_) => None,
        }
    }

    fn allows_user(&self, uid: u32, gid: u32) -> Option<&'static str> {
        if uid == 0 {
            return Some("root");
        }
        if uid == self.own_uid {
            return Some("daemon-user");
        }
        let groups = std::fs::read_to_string(&self.group_file).unwrap_or_default();
        let Principal::User { name, .. } = self.user(uid) else {
            return None;
        };
        groups
            .lines()
            .any(|line| is_member(line, gid, &name))
            .then_some("group-keywheel")
    }
}

fn user_named(line: &str, uid: u32) -> Option<String> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
}

fn is_member(line: &str, gid: u32, user: &str) -> bool {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, group_id, members] = fields.as_slice() else {
        return false;
    };
    *name == GROUP
        && (group_id.parse() == Ok(gid) || members.split(',').any(|member| member == user))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(dir: &std::path::Path) -> Access {
        std::fs::write(dir.join("group"), "root:x:0:\nkeywheel:x:990:alice,bob\n").unwrap();
        std::fs::write(
            dir.join("passwd"),
            "alice:x:1001:1001::/:/bin/sh\ncarol:x:1003:1003::/:/bin/sh\ndave:x:1004:990::/:/bin/sh\n",
        )
        .unwrap();
        Access {
            own_uid: 77,
            group_file: dir.join("group"),
            user_file: dir.join("passwd"),
        }
    }

    #[test]
    fn root_the_own_user_and_members_may_and_others_may_not() {
        let dir = std::env::temp_dir().join(format!("keywheel-access-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let access = access(&dir);
        let rows = [
            (0, 0, Some("root")),
            (77, 77, Some("daemon-user")),
            (1001, 1001, Some("group-keywheel")),
            (1003, 990, Some("group-keywheel")),
            (1003, 1003, None),
            (4242, 4242, None),
        ];
        for (uid, gid, rule) in rows {
            assert_eq!(access.allows(&Peer::User { uid, gid }), rule, "{uid} {gid}");
        }
        let alice = Peer::User { uid: 1001, gid: 0 };
        assert_eq!(
            access.principal(&alice),
            Principal::User {
                uid: 1001,
                name: "alice".to_owned()
            }
        );
        let ada = Peer::Operator(OperatorName::parse("ada").unwrap());
        assert_eq!(access.allows(&ada), Some("client-certificate"));
        let name = "ada".to_owned();
        assert_eq!(access.principal(&ada), Principal::Operator { name });
        for (owner, rule) in [
            ("unix:0", Some("root")),
            ("unix:1001", Some("group-keywheel")),
            ("unix:1004", Some("group-keywheel")),
            ("unix:1003", None),
            ("unix:4242", None),
            ("unix:x", None),
            ("certificate:ada", Some("client-certificate")),
            ("certificate:A B", None),
            ("service:x", None),
            ("ada", None),
        ] {
            assert_eq!(access.owner(owner).map(|(_, rule)| rule), rule, "{owner}");
        }
        assert_eq!(
            access.owner("unix:1001").unwrap().0,
            access.principal(&alice)
        );
        let stranger = Peer::Stranger(IpAddr::from([192, 0, 2, 7]));
        assert_eq!(access.allows(&stranger), None);
        let address = "192.0.2.7".to_owned();
        assert_eq!(access.principal(&stranger), Principal::Stranger { address });
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

//! Who may use the socket: root, the daemon's own user, and members of the group `keywheel`.
//!
//! The kernel names the peer; groups are read from the group file once per connection, so that a
//! change counts at once. Anyone can connect and is told no, because a refusal has to be audited.

use std::path::PathBuf;

use keywheel_core::audit::Principal;

/// The group whose members may use every verb.
pub const GROUP: &str = "keywheel";

/// The peer of a connection, by the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
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
    pub fn principal(&self, peer: Peer) -> Principal {
        let users = std::fs::read_to_string(&self.user_file).unwrap_or_default();
        let name = users.lines().find_map(|line| user_named(line, peer.uid));
        Principal::User {
            uid: peer.uid,
            name: name.unwrap_or_else(|| peer.uid.to_string()),
        }
    }

    /// Whether the peer may use the socket, and by which rule.
    #[must_use]
    pub fn allows(&self, peer: Peer) -> Option<&'static str> {
        if peer.uid == 0 {
            return Some("root");
        }
        if peer.uid == self.own_uid {
            return Some("daemon-user");
        }
        let groups = std::fs::read_to_string(&self.group_file).unwrap_or_default();
        let Principal::User { name, .. } = self.principal(peer) else {
            return None;
        };
        groups
            .lines()
            .any(|line| is_member(line, peer.gid, &name))
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
            "alice:x:1001:1001::/:/bin/sh\ncarol:x:1003:1003::/:/bin/sh\n",
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
        assert_eq!(access.allows(Peer { uid: 0, gid: 0 }), Some("root"));
        assert_eq!(
            access.allows(Peer { uid: 77, gid: 77 }),
            Some("daemon-user")
        );
        assert_eq!(
            access.allows(Peer {
                uid: 1001,
                gid: 1001
            }),
            Some("group-keywheel")
        );
        assert_eq!(
            access.allows(Peer {
                uid: 1003,
                gid: 990
            }),
            Some("group-keywheel")
        );
        assert_eq!(
            access.allows(Peer {
                uid: 1003,
                gid: 1003
            }),
            None
        );
        assert_eq!(
            access.allows(Peer {
                uid: 4242,
                gid: 4242
            }),
            None
        );
        assert_eq!(
            access.principal(Peer { uid: 1001, gid: 0 }),
            Principal::User {
                uid: 1001,
                name: "alice".to_owned()
            }
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

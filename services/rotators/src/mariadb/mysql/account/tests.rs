//! The statements as text, and what a server that takes them by its manual would be left with.

use super::*;

const APP: &str = "ALTER USER `app`@`%` ";

fn password(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes().to_vec())
}

fn app() -> Who {
    Who::parse("app")
}

/// An account at a server that does what the manual says of each statement, and nothing of any other.
#[derive(Clone)]
struct Server {
    plugin: Plugin,
    primary: String,
    secondary: String,
    is_locked: bool,
}

impl Server {
    /// With these passwords, the first of which is the primary one.
    fn having(plugin: Plugin, passwords: &[&str], is_locked: bool) -> Self {
        let kept = |at: usize| {
            let text = passwords.get(at)?;
            let none = account(plugin, ["", "", "N"]);
            Some(none.made(plugin, &password(text), &[7; SALT_BYTES]))
        };
        Self {
            plugin,
            primary: kept(0).unwrap_or_else(|| plugin.nothing().to_owned()),
            secondary: kept(1).unwrap_or_default(),
            is_locked,
        }
    }

    fn account(&self) -> Account {
        let locked = if self.is_locked { "Y" } else { "N" };
        account(self.plugin, [&self.primary, &self.secondary, locked])
    }

    fn lets_in(&self, text: &str) -> bool {
        !self.is_locked && self.account().keeps(&password(text))
    }

    fn take(&mut self, statement: &str) {
        let rest = statement.strip_prefix(APP).expect(statement);
        match rest {
            "DISCARD OLD PASSWORD" => self.secondary.clear(),
            "ACCOUNT UNLOCK" => self.is_locked = false,
            _ => self.set(rest),
        }
    }

    fn set(&mut self, rest: &str) {
        let given = format!("IDENTIFIED WITH {} AS 0x", self.plugin.name());
        let rest = rest.strip_prefix(&given).expect("no other way in");
        let (digits, clause) = rest.split_once(' ').unwrap_or((rest, ""));
        let bytes = digits.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).unwrap();
            u8::from_str_radix(pair, 16).unwrap()
        });
        let new = String::from_utf8(bytes.collect()).unwrap();
        let before = std::mem::replace(&mut self.primary, new);
        match clause {
            // A secondary password that is not replaced stays.
            "" => {}
            "RETAIN CURRENT PASSWORD" => self.secondary = before,
            "ACCOUNT LOCK" => self.is_locked = true,
            other => panic!("{other}"),
        }
    }

    fn accept(&mut self, text: &str, keep: Keep) -> usize {
        let (password, salt) = (password(text), [9; SALT_BYTES]);
        let statements = self.account().accept(&app(), (&password, &salt), keep);
        let statements = statements.unwrap();
        statements.iter().for_each(|statement| self.take(statement));
        statements.len()
    }

    fn refuse(&mut self, text: &str) -> usize {
        let statements = self.account().without(&app(), &password(text));
        statements.iter().for_each(|statement| self.take(statement));
        statements.len()
    }
}

fn account(plugin: Plugin, [primary, secondary, locked]: [&str; 3]) -> Account {
    of_rounds(plugin, [primary, secondary, locked], "5000")
}

fn of_rounds(plugin: Plugin, [primary, secondary, locked]: [&str; 3], rounds: &str) -> Account {
    let row = [plugin.name(), primary, locked, secondary, "0", "", rounds];
    Account::read(&row.map(str::to_owned)).unwrap()
}

const PLUGINS: [Plugin; 2] = [Plugin::Native, Plugin::Sha2];

#[test]
fn statements_are_those_of_the_manual_and_hold_no_password() {
    let one = Server::having(Plugin::Native, &["one"], false).account();
    let salt = [0; SALT_BYTES];
    let kept = one
        .accept(&app(), (&password("two"), &salt), Keep::Old)
        .unwrap();
    // *A41B… is what SELECT PASSWORD('two') said before MySQL took that away.
    let hash = b"*A41BEE51488264C01B96DE959A9142AF1A75205E";
    let digits: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    let way = "IDENTIFIED WITH mysql_native_password AS 0x";
    assert_eq!(
        kept,
        [format!("{APP}{way}{digits} RETAIN CURRENT PASSWORD")]
    );
    let both = Server::having(Plugin::Sha2, &["two", "one"], false).account();
    assert_eq!(
        both.without(&app(), &password("one")),
        [format!("{APP}DISCARD OLD PASSWORD")]
    );
    let locked = both.lock(&app());
    assert!(locked[0].starts_with(&format!("{APP}IDENTIFIED WITH caching_sha2_password AS 0x")));
    assert!(locked[0].ends_with(" ACCOUNT LOCK"), "{locked:?}");
    assert_eq!(locked[1..], [format!("{APP}DISCARD OLD PASSWORD")]);
    let odd = one.without(&Who::parse("a`b@10.0.0.%"), &password("one"));
    assert!(
        odd[0].starts_with("ALTER USER `a``b`@`10.0.0.%` IDENTIFIED WITH "),
        "{odd:?}"
    );
}

#[test]
fn a_rotation_with_two_passwords_keeps_the_old_one_good_until_it_is_refused() {
    for plugin in PLUGINS {
        let mut server = Server::having(plugin, &["one"], false);
        assert_eq!(server.accept("two", Keep::Old), 1);
        assert!(server.lets_in("one") && server.lets_in("two"));
        assert_eq!(server.accept("two", Keep::Old), 0, "a repeat");
        let account = server.account();
        let third = account.accept(&app(), (&password("three"), &[1; SALT_BYTES]), Keep::Old);
        assert!(third.is_err(), "no third one beside two");
        let mut back = server.clone();
        assert_eq!(server.refuse("one"), 1);
        assert!(!server.lets_in("one") && server.lets_in("two"));
        assert_eq!(server.refuse("one"), 0);
        // Rolled back: the primary one goes, and the secondary one takes its place.
        back.refuse("two");
        assert!(back.lets_in("one") && !back.lets_in("two") && back.secondary.is_empty());
    }
}

#[test]
fn what_was_broken_off_between_two_statements_is_finished_and_the_next_password_is_taken() {
    for plugin in PLUGINS {
        let both = Server::having(plugin, &["two", "one"], false);
        // Rolled back, and the old one was not discarded: it is both now, and one password.
        let mut server = both.clone();
        let back = server.account().without(&app(), &password("two"));
        assert_eq!(back.len(), 2);
        server.take(&back[0]);
        assert_eq!(server.refuse("two"), 0, "the repeat");
        assert_eq!(server.accept("one", Keep::Nothing), 0);
        assert_eq!(server.accept("three", Keep::Old), 1);
        assert!(server.lets_in("one") && server.lets_in("three") && !server.lets_in("two"));
        server.refuse("one");
        assert!(server.lets_in("three") && !server.lets_in("one"));
        // Locked, and the secondary one was not discarded: nobody is let in, and nothing is kept in the end.
        let mut server = both;
        server.take(&server.account().lock(&app())[0]);
        assert!(!server.lets_in("one") && !server.lets_in("two"));
        assert!(
            !server.account().is_dead(),
            "the repeat has something to do"
        );
        let again = server.account().lock(&app());
        again.iter().for_each(|statement| server.take(statement));
        assert!(server.account().is_dead());
    }
}

#[test]
fn whatever_it_had_an_account_accepts_the_new_password_alone() {
    for plugin in PLUGINS {
        for (passwords, is_locked) in [
            (&[][..], true),
            (&["one"][..], false),
            (&["one"][..], true),
            (&["one", "zero"][..], false),
            (&["one", "zero"][..], true),
            (&["two", "one"][..], true),
            (&["one", "two"][..], false),
        ] {
            let mut server = Server::having(plugin, passwords, is_locked);
            server.accept("two", Keep::Nothing);
            let others = ["one", "zero"].map(|other| server.lets_in(other));
            assert!(
                server.lets_in("two") && others == [false; 2],
                "{passwords:?}"
            );
            assert_eq!(server.accept("two", Keep::Nothing), 0, "{passwords:?}");
        }
    }
}

#[test]
fn nobody_is_let_in_between_two_statements_who_is_not_to_be() {
    let before = Server::having(Plugin::Sha2, &["one", "zero"], true);
    let statements =
        before
            .account()
            .accept(&app(), (&password("two"), &[9; SALT_BYTES]), Keep::Nothing);
    let mut server = before;
    for statement in statements.unwrap() {
        server.take(&statement);
        assert!(
            !server.lets_in("one") && !server.lets_in("zero"),
            "{statement}"
        );
    }
    assert!(server.lets_in("two"));
}

#[test]
fn the_last_password_goes_with_the_account_and_a_password_of_somebody_else_stays() {
    for plugin in PLUGINS {
        let mut server = Server::having(plugin, &["one"], false);
        assert_eq!(server.refuse("other"), 0);
        assert!(server.lets_in("one"));
        server.refuse("one");
        assert!(server.account().is_dead() && !server.lets_in("one"));
        assert_eq!(server.refuse("one"), 0);
        // An empty password would be good again once somebody unlocks it.
        let bare = account(plugin, ["", "", "Y"]);
        assert!(!bare.is_dead() && bare.lock(&app()).len() == 1);
        // What was locked stays so.
        let mut locked = Server::having(plugin, &["one", "two"], true);
        locked.refuse("one");
        assert!(locked.is_locked && locked.account().keeps(&password("two")));
    }
}

#[test]
fn other_ways_in_are_told_and_left_alone() {
    let read = |row: [&str; 7]| Account::read(&row.map(str::to_owned)).unwrap();
    let ldap = read(["authentication_ldap_simple", "x", "N", "", "0", "", ""]);
    assert!(!ldap.is_ours() && ldap.way == "authentication_ldap_simple");
    assert_eq!(ldap.lock(&app()), [format!("{APP}ACCOUNT LOCK")]);
    assert!(!read(["caching_sha2_password", "x", "N", "", "1", "", ""]).is_ours());
    for (tls, asks) in [
        ("", false),
        ("ANY", false),
        ("X509", true),
        ("SPECIFIED", true),
    ] {
        let account = read(["caching_sha2_password", "x", "N", "", "0", tls, ""]);
        assert_eq!(account.asks_certificate, asks, "{tls}");
    }
    assert!(Account::read(&[]).is_none());
    for kept in ["$A$005$", "$A$00G$", "$A$", "*", &NO_SHA2[..60]] {
        let odd = read(["caching_sha2_password", kept, "N", "", "0", "", ""]);
        assert!(!odd.keeps(&password("one")), "{kept}");
    }
}

#[test]
fn a_new_password_has_as_many_rounds_as_the_server_takes_and_no_fewer_than_the_account_had() {
    let nobody = ["", "", "N"];
    for (server, rounds) in [
        ("10000", "$A$00A$"),
        ("5000", "$A$005$"),
        ("", "$A$005$"),
        ("1", "$A$005$"),
        ("4095000", "$A$FFF$"),
        ("9000000", "$A$FFF$"),
    ] {
        let account = of_rounds(Plugin::Sha2, nobody, server);
        // As many as it takes are counted, not made: the greatest number is a minute of work.
        let made = match account.rounds {
            10 | DEFAULT_ROUNDS => account.made(Plugin::Sha2, &password("one"), &[7; SALT_BYTES]),
            rounds => format!("{SHA2_PREFIX}{rounds:03X}$"),
        };
        assert!(made.starts_with(rounds), "{server}: {made}");
    }
    let kept = of_rounds(Plugin::Sha2, nobody, "10000").made(
        Plugin::Sha2,
        &password("one"),
        &[7; SALT_BYTES],
    );
    let lowered = of_rounds(Plugin::Sha2, [&kept, "", "N"], "5000");
    let made = lowered.made(Plugin::Sha2, &password("two"), &[8; SALT_BYTES]);
    assert!(lowered.keeps(&password("one")) && made.starts_with("$A$00A$"));
}

#[test]
fn a_password_that_no_login_would_take_is_told_by_its_length() {
    let of = |length: usize| password(&"x".repeat(length));
    let nobody = ["", "", "N"];
    let sha2 = account(Plugin::Sha2, nobody);
    assert!(!sha2.is_too_long(&of(MAX_SHA2_PASSWORD)));
    assert!(sha2.is_too_long(&of(MAX_SHA2_PASSWORD + 1)));
    assert!(!account(Plugin::Native, nobody).is_too_long(&of(MAX_SHA2_PASSWORD + 1)));
}

//! `keywheel init --unseal`: a fresh root key, sealed as was asked, and shares that are shown once.
//!
//! Invariant: the root key is in memory only while it is sealed; shares are shown after everything else is on
//! the disk, and kept nowhere.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keywheel_core::id::DeploymentId;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::port::key_service::KeyService;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::unseal::{
    Cost, MAX_SHARES, MIN_THRESHOLD, SealedRoot, ServiceKind, Share, check_passphrase,
};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_store_sync::seal::{file, seal_by_service};

use super::service;
use crate::exit::{Exit, Failure};
use crate::terminal;
use crate::up::Error;

/// What is to open store-sync's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A key file, read at every start.
    KeyFile,
    /// A passphrase.
    Passphrase,
    /// So many of so many shares.
    Shares {
        /// So many are enough.
        threshold: u8,
        /// All of them.
        shares: u8,
    },
    /// A key service.
    Service {
        /// Whose it is.
        kind: ServiceKind,
        /// The file of its settings, absolute.
        settings: PathBuf,
    },
}

/// Shares, where nobody says how many.
const SHARES: Wish = Wish::Shares {
    threshold: 3,
    shares: 5,
};

impl Wish {
    /// As a person writes it.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let shares = || {
            let (threshold, shares) = text.strip_prefix("shamir:")?.split_once('/')?;
            let (threshold, shares) = (threshold.parse().ok()?, shares.parse().ok()?);
            let fits = threshold >= MIN_THRESHOLD && threshold <= shares && shares <= MAX_SHARES;
            fits.then_some(Self::Shares { threshold, shares })
        };
        let service = || {
            let (kind, settings) = match text.split_once(':')? {
                ("kms", settings) => (ServiceKind::Kms, settings),
                ("transit", settings) => (ServiceKind::Transit, settings),
                _ => return None,
            };
            let settings = std::path::absolute(settings).ok()?;
            Some(Self::Service { kind, settings })
        };
        match text {
            "key-file" => Ok(Self::KeyFile),
            "passphrase" => Ok(Self::Passphrase),
            "shamir" => Ok(SHARES),
            _ => shares().or_else(service).ok_or_else(|| {
                // A passphrase may stand where only its name belongs.
                let what = match text.starts_with("passphrase") {
                    true => {
                        "a passphrase is asked for, and is not written on a command line, which others on the machine can read; it is not repeated here: choose another one if it was one"
                    }
                    false => {
                        "what was given is nothing that opens a cache; it is not repeated here, for it may be a secret"
                    }
                };
                Failure::new(
                    Exit::Usage,
                    what,
                    format!(
                        "write key-file, passphrase, shamir:T/N with {MIN_THRESHOLD} <= T <= N <= {MAX_SHARES}, for example shamir:3/5, or kms:FILE or transit:FILE with the settings of the key service, for example kms:/etc/keywheel/unseal.toml"
                    ),
                )
            }),
        }
    }

    /// What a person does at each start of store-sync, or has to have there.
    pub(crate) fn at_a_start(&self) -> Option<String> {
        match self {
            Self::KeyFile => None,
            Self::Passphrase | Self::Shares { .. } => Some(
                "store-sync begins sealed: `keywheel unseal` opens it after each start".to_owned(),
            ),
            Self::Service { kind, settings } => Some(format!(
                "store-sync is opened by {} at each start: {}, and the credentials that it names, have to be on its machine at the same paths",
                kind.word(),
                settings.display()
            )),
        }
    }

    /// Asks for what it needs of a person, and reads what it needs of a file that is not inside what it opens, before
    /// anything is made.
    pub(crate) fn ask(&self, protects: &Path) -> Result<Asked, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let service = match self {
            Self::Service { kind, settings } => Some(service::connect(
                *kind,
                (settings, protects),
                clock.clone(),
            )?),
            _ => None,
        };
        let passphrase = match self {
            Self::Passphrase => {
                let passphrase = terminal::new_secret("New passphrase of store-sync:")?;
                check_passphrase(&passphrase).map_err(|error| {
                    let next = "choose another one; nothing was made";
                    Failure::new(Exit::Input, error.to_string(), next)
                })?;
                Some(passphrase)
            }
            _ => None,
        };
        Ok(Asked {
            wish: self.clone(),
            passphrase,
            service,
            clock,
        })
    }
}

/// A wish, and what a person said to it.
pub(crate) struct Asked {
    wish: Wish,
    passphrase: Option<SecretBytes>,
    service: Option<Arc<dyn KeyService>>,
    clock: Arc<dyn Clock>,
}

impl Asked {
    /// What nobody types.
    #[cfg(test)]
    pub(super) fn of_passphrase(passphrase: SecretBytes) -> Self {
        Self {
            wish: Wish::Passphrase,
            passphrase: Some(passphrase),
            service: None,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Has a key service wrap and give back a key that is used nowhere, before anything is made.
    pub(crate) async fn prove(&self) -> Result<(), Failure> {
        if self.service.is_none() {
            return Ok(());
        }
        let nobodys = keywheel_daemon::SystemIds.draw();
        self.make(nobodys).await.map(drop)
    }

    /// Writes the seal file of a fresh root key into a directory; none for a key file. Gives the shares.
    pub(crate) async fn write(
        &self,
        directory: &Path,
        deployment: DeploymentId,
    ) -> Result<Vec<Share>, Failure> {
        let Some(made) = self.make(*deployment.bytes()).await? else {
            return Ok(Vec::new());
        };
        let path = directory.join(file::NAME);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let written = options.open(&path).and_then(|mut file| {
            file.write_all(made.text.as_bytes())?;
            file.sync_all()?;
            File::open(directory)?.sync_all()
        });
        written.map_err(|error| Failure::from(Error::path(&path, &error)))?;
        Ok(made.shares)
    }

    /// A fresh root key, sealed as was asked; none for a key file.
    pub(crate) async fn make(&self, deployment: [u8; 16]) -> Result<Option<Made>, Failure> {
        terminal::harden()?;
        let root = UnsealKey::generate(&OsEntropy);
        let made = match (&self.wish, &self.passphrase) {
            (Wish::Shares { threshold, shares }, _) => {
                let wanted = (*threshold, *shares);
                SealedRoot::by_shares(deployment, &root, wanted, &OsEntropy)
            }
            (Wish::Passphrase, Some(passphrase)) => {
                let by = (passphrase, Cost::DEFAULT);
                let sealed = SealedRoot::by_passphrase(deployment, &root, by, &OsEntropy);
                sealed.map(|sealed| (sealed, Vec::new()))
            }
            (Wish::Service { kind, settings }, _) => {
                let sealed = self.by_service((*kind, settings), (deployment, &root));
                Ok((sealed.await?, Vec::new()))
            }
            (Wish::KeyFile | Wish::Passphrase, _) => return Ok(None),
        };
        let (sealed, shares) = made.map_err(|error| unmade(&error.to_string()))?;
        Made::of(root, sealed, shares).map(Some)
    }

    async fn by_service(
        &self,
        (kind, settings): (ServiceKind, &Path),
        made: ([u8; 16], &UnsealKey),
    ) -> Result<SealedRoot, Failure> {
        let unnamed = || {
            let text = format!("{} is no path that can be kept", settings.display());
            Failure::new(Exit::Usage, text, "name the file by plain characters")
        };
        let service = self.service.as_deref().ok_or_else(unnamed)?;
        let settings = settings.to_str().ok_or_else(unnamed)?;
        let with = (&self.clock, &OsEntropy as &dyn keywheel_seal::Entropy);
        let sealed = Box::pin(seal_by_service(service, (kind, settings), made, with));
        sealed.await.map_err(|error| service::failed(&error))
    }
}

/// A fresh root key, and what is to be kept of it.
pub(crate) struct Made {
    /// In the clear.
    pub(crate) root: UnsealKey,
    /// As it is kept.
    pub(crate) sealed: SealedRoot,
    /// The file's text.
    pub(crate) text: String,
    /// Shown once.
    pub(crate) shares: Vec<Share>,
}

impl Made {
    fn of(root: UnsealKey, sealed: SealedRoot, shares: Vec<Share>) -> Result<Self, Failure> {
        let text = file::to_text(&sealed).map_err(|e| unmade(&keywheel_daemon::chain(&e)))?;
        Ok(Self {
            root,
            sealed,
            text,
            shares,
        })
    }
}

/// A fresh root key, sealed by the key of a key file.
pub(crate) fn by_key_file(deployment: [u8; 16], key: &UnsealKey) -> Result<Made, Failure> {
    let root = UnsealKey::generate(&OsEntropy);
    let sealed = SealedRoot::by_key_file(deployment, &root, key, &OsEntropy);
    Made::of(
        root,
        sealed.map_err(|e| unmade(&e.to_string()))?,
        Vec::new(),
    )
}

fn unmade(what: &str) -> Failure {
    let next = "remove what was made and begin again; report this if it stays";
    Failure::new(Exit::Unexpected, what, next)
}

/// The shares for people, each on a line of its own.
pub(crate) fn texts(shares: &[Share]) -> Vec<String> {
    let text = |share: &Share| {
        let text = share.to_text();
        // EXPOSE: a share is shown once, to whoever makes it.
        String::from_utf8_lossy(text.expose()).into_owned()
    };
    shares.iter().map(text).collect()
}

/// What is said about them.
pub(crate) fn told(shares: &[String], wish: &Wish) -> String {
    let Wish::Shares { threshold, .. } = wish else {
        return String::new();
    };
    let mut text = format!(
        "\nshares of store-sync's key; {threshold} of {} open it. They are shown now and never again:\n",
        shares.len()
    );
    for (number, share) in (1..).zip(shares) {
        text.push_str(&format!("  {number}: {share}\n"));
    }
    text.push_str(&format!(
        "give each to another person, clear this screen, and try `keywheel unseal`, {threshold} times with a share each, before values lie there\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_understood_or_refused_with_an_example() {
        let shares = |threshold, shares| Wish::Shares { threshold, shares };
        let of_service = |kind| Wish::Service {
            kind,
            settings: PathBuf::from("/etc/u.toml"),
        };
        for (text, wish) in [
            ("key-file", Wish::KeyFile),
            ("passphrase", Wish::Passphrase),
            ("shamir", shares(3, 5)),
            ("shamir:2/2", shares(2, 2)),
            ("shamir:3/5", shares(3, 5)),
            ("shamir:16/16", shares(16, 16)),
            ("kms:/etc/u.toml", of_service(ServiceKind::Kms)),
            ("transit:/etc/u.toml", of_service(ServiceKind::Transit)),
        ] {
            assert_eq!(Wish::parse(text), Ok(wish), "{text}");
        }
        for bad in [
            "",
            "shamir:",
            "shamir:1/3",
            "shamir:4/3",
            "shamir:2/17",
            "shamir:-2/3",
            "shamir:2/3/4",
            "Passphrase",
            "kms",
            "kms:",
            "KMS:/etc/u.toml",
            "tpm:/etc/u.toml",
            "passphrase:hunter2",
            "hunter2",
        ] {
            let failure = Wish::parse(bad).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{bad}");
            let has_hint = failure.what.contains("a passphrase is asked for");
            assert_eq!(has_hint, bad.starts_with("passphrase"), "{failure}");
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
            assert!(failure.next.unwrap().contains("shamir:3/5"), "{bad}");
        }
    }

    #[tokio::test]
    async fn so_many_of_the_shares_that_are_shown_open_what_was_written() {
        let scratch = tempfile::tempdir().unwrap();
        let deployment = DeploymentId::from_bytes([4; 16]);
        let wish = Wish::parse("shamir:2/3").unwrap();
        let asked = wish.ask(scratch.path()).unwrap();
        let shares = texts(&asked.write(scratch.path(), deployment).await.unwrap());
        let said = told(&shares, &wish);
        assert!(shares.len() == 3 && shares.iter().all(|share| said.contains(share)));
        assert!(said.contains("`keywheel unseal`, 2 times"), "{said}");
        let sealed = crate::seal::read(&scratch.path().join(file::NAME), deployment);
        let sealed = sealed.ok().unwrap().unwrap();
        let mut gathered = sealed.gather().unwrap();
        for share in &shares[1..] {
            let share = SecretBytes::from(share.clone().into_bytes());
            assert!(gathered.take(&share).is_ok());
        }
        assert!(sealed.open_with_shares(&gathered).is_ok());
        let again = asked.write(scratch.path(), deployment).await.unwrap_err();
        assert_eq!(again.exit, Exit::CannotCreate, "nothing is overwritten");
    }

    #[tokio::test]
    async fn a_key_file_needs_no_seal_file() {
        let scratch = tempfile::tempdir().unwrap();
        let asked = Wish::KeyFile.ask(scratch.path()).unwrap();
        let made = asked.write(scratch.path(), DeploymentId::from_bytes([4; 16]));
        assert!(made.await.unwrap().is_empty());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}

//! What a pool signs in with, and where it comes from: a file that is read again, or a variable that stays.
//!
//! Invariant: each change of user or password is a new generation; what cannot be read changes nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A user and its password. No `Debug`: it would be one way to print the password.
#[derive(PartialEq, Eq)]
pub(crate) struct Login {
    /// The first that was read is 1.
    pub(crate) generation: u64,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Login {
    pub(crate) fn new(user: &str, password: &str) -> Self {
        Self {
            generation: 1,
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    /// Reads the user's line and the password's.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (user, password) = (lines.next()?, lines.next()?);
        let is_whole = !user.is_empty() && !password.is_empty() && lines.next().is_none();
        is_whole.then(|| Self::new(user, password))
    }
}

/// Where logins come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file with a line each.
    File(PathBuf),
    /// A variable of the environment with the password.
    Variable { user: String, name: String },
}

impl Source {
    /// Reads `file:PATH` or `env:USER:VARIABLE`.
    pub(crate) fn parse(word: &str) -> Result<Self, String> {
        let unclear = || format!("`{word}` is neither file:PATH nor env:USER:VARIABLE");
        match word.split_once(':').ok_or_else(unclear)? {
            ("file", path) => Ok(Self::File(PathBuf::from(path))),
            ("env", rest) => {
                let (user, name) = rest.split_once(':').ok_or_else(unclear)?;
                Ok(Self::Variable {
                    user: user.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(unclear()),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the program is built without the crate that reads variables"
    )]
    fn read(&self) -> Result<Login, String> {
        match self {
            Self::File(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                let login = Login::parse(&text);
                login.ok_or_else(|| format!("{} is no user and password", path.display()))
            }
            Self::Variable { user, name } => {
                let password = std::env::var(name).ok();
                let password = password.filter(|password| !password.is_empty());
                let password = password.ok_or_else(|| format!("{name} is not set"))?;
                Ok(Login::new(user, &password))
            }
        }
    }
}

/// The newest login of a source.
pub(crate) struct Logins {
    source: Source,
    newest: Mutex<Arc<Login>>,
}

impl Logins {
    /// Reads the first one.
    pub(crate) fn read(source: Source) -> Result<Self, String> {
        let newest = Mutex::new(Arc::new(source.read()?));
        Ok(Self { source, newest })
    }

    pub(crate) fn newest(&self) -> Arc<Login> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&newest)
    }

    /// Reads again; gives the newest.
    pub(crate) fn reread(&self) -> Arc<Login> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(read) = self.source.read()
            && (read.user != newest.user || read.password != newest.password)
        {
            let generation = newest.generation + 1;
            *newest = Arc::new(Login { generation, ..read });
        }
        Arc::clone(&newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_two_whole_lines() {
        let login = Login::parse("app\np=a:s s\n").unwrap();
        assert_eq!(
            (login.user.as_str(), login.password.as_str()),
            ("app", "p=a:s s")
        );
        for text in ["", "app", "app\n", "app\n\n", "\nword", "app\nword\nmore"] {
            assert!(Login::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_change_is_a_generation_and_what_cannot_be_read_is_none() {
        let path = std::env::temp_dir().join(format!("kw-testapp-{}", std::process::id()));
        fs::write(&path, "app\none").unwrap();
        let logins = Logins::read(Source::File(path.clone())).unwrap();
        assert_eq!(logins.reread().generation, 1);
        fs::write(&path, "app_b\ntwo").unwrap();
        assert_eq!(logins.newest().generation, 1);
        assert_eq!(logins.reread().generation, 2);
        fs::remove_file(&path).unwrap();
        let kept = logins.reread();
        assert_eq!((kept.generation, kept.user.as_str()), (2, "app_b"));
        assert!(Logins::read(Source::File(path)).is_err());
    }
}

//! A sealed root key as the text of its file.

use keywheel_schemas::seal_file::{FORM, ProviderFile, SealFile, SealFileError};
use keywheel_seal::envelope::SealedKey;
use keywheel_seal::unseal::{
    BadCost, BadService, Cost, MAX_SHARES, Provider, RootId, SealedRoot, Service, ServiceKind,
    SetId, ShareCheck,
};

/// Name of the file, beside the cache or the credentials of store-sync.
pub const NAME: &str = "seal.json";

/// The text is no sealed root key.
#[derive(Debug, thiserror::Error)]
pub enum BadSealFile {
    /// Not such a file.
    #[error("the text is not one that was written as a seal file")]
    Text(#[source] SealFileError),
    /// A member that is not what it should be.
    #[error("its member `{0}` is not what it should be")]
    Member(&'static str),
    /// Costs of Argon2id that nobody should pay, or that are too cheap.
    #[error("its member `provider` names costs out of bounds")]
    Cost(#[source] BadCost),
    /// Parts of a key service that are out of bounds.
    #[error("its member `provider` names a key service out of bounds")]
    Service(#[source] BadService),
}

/// The text of a sealed root key.
///
/// # Errors
/// [`BadSealFile::Text`] when it cannot be written, which never happens.
pub fn to_text(root: &SealedRoot) -> Result<String, BadSealFile> {
    let provider = match &root.provider {
        Provider::KeyFile => ProviderFile::KeyFile {},
        Provider::Passphrase { salt, cost } => ProviderFile::Passphrase {
            salt: hex(salt),
            memory_kib: cost.memory_kib(),
            passes: cost.passes(),
            lanes: cost.lanes(),
        },
        Provider::Shares {
            set,
            threshold,
            checks,
        } => ProviderFile::Shamir {
            set: hex(&set.bytes()),
            threshold: *threshold,
            checks: checks.iter().map(|check| hex(&check.bytes())).collect(),
        },
        Provider::Service(service) => of_service(service),
    };
    let file = SealFile {
        v: FORM,
        deployment: hex(&root.deployment),
        root: hex(&root.root.bytes()),
        provider,
        sealed: hex(&root.sealed.to_bytes()),
    };
    file.to_text().map_err(BadSealFile::Text)
}

/// Reads such a text.
///
/// # Errors
/// [`BadSealFile`], with the member that is wrong.
pub fn from_text(text: &str) -> Result<SealedRoot, BadSealFile> {
    let file = SealFile::parse(text).map_err(BadSealFile::Text)?;
    let sealed = unhex(&file.sealed).and_then(|bytes| SealedKey::from_bytes(&bytes));
    Ok(SealedRoot {
        deployment: array("deployment", &file.deployment)?,
        root: RootId::from_bytes(array("root", &file.root)?),
        provider: provider(file.provider)?,
        sealed: sealed.ok_or(BadSealFile::Member("sealed"))?,
    })
}

fn of_service(service: &Service) -> ProviderFile {
    let (settings, key) = (service.settings().to_owned(), service.key().to_owned());
    let wrapped = hex(service.wrapped());
    match service.kind() {
        ServiceKind::Kms => ProviderFile::Kms {
            settings,
            key,
            wrapped,
        },
        ServiceKind::Transit => ProviderFile::Transit {
            settings,
            key,
            wrapped,
        },
    }
}

fn service(
    kind: ServiceKind,
    (settings, key): (&str, &str),
    wrapped: &str,
) -> Result<Provider, BadSealFile> {
    let wrapped = unhex(wrapped).ok_or(BadSealFile::Member("wrapped"))?;
    let service = Service::new(kind, settings, key, wrapped);
    service.map(Provider::Service).map_err(BadSealFile::Service)
}

fn provider(file: ProviderFile) -> Result<Provider, BadSealFile> {
    Ok(match file {
        ProviderFile::KeyFile {} => Provider::KeyFile,
        ProviderFile::Passphrase {
            salt,
            memory_kib,
            passes,
            lanes,
        } => Provider::Passphrase {
            salt: array("salt", &salt)?,
            cost: Cost::new(memory_kib, passes, lanes).map_err(BadSealFile::Cost)?,
        },
        ProviderFile::Shamir {
            set,
            threshold,
            checks,
        } => {
            let fits =
                usize::from(threshold) <= checks.len() && checks.len() <= usize::from(MAX_SHARES);
            if !fits {
                return Err(BadSealFile::Member("checks"));
            }
            let check = |text: &String| array("checks", text).map(ShareCheck::from_bytes);
            Provider::Shares {
                set: SetId::from_bytes(array("set", &set)?),
                threshold,
                checks: checks.iter().map(check).collect::<Result<_, _>>()?,
            }
        }
        ProviderFile::Kms {
            settings,
            key,
            wrapped,
        } => service(ServiceKind::Kms, (&settings, &key), &wrapped)?,
        ProviderFile::Transit {
            settings,
            key,
            wrapped,
        } => service(ServiceKind::Transit, (&settings, &key), &wrapped)?,
    })
}

fn array<const N: usize>(member: &'static str, text: &str) -> Result<[u8; N], BadSealFile> {
    unhex(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(BadSealFile::Member(member))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lower case only: there is one text for one content.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| Some(16 * digit(pair[0])? + digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use keywheel_seal::envelope::UnsealKey;
    use keywheel_seal::unseal::MIN_MEMORY_KIB;
    use keywheel_seal::{OsEntropy, SecretBytes};

    use super::*;

    fn roots() -> Vec<SealedRoot> {
        let (root, key) = (
            UnsealKey::generate(&OsEntropy),
            UnsealKey::generate(&OsEntropy),
        );
        let words = SecretBytes::from(b"correct horse battery staple".to_vec());
        let cheap = Cost::new(MIN_MEMORY_KIB, 1, 1).unwrap();
        let deployment = [7; 16];
        let by_service = |kind| {
            let service = Service::new(kind, "/etc/unseal.toml", "a key", vec![1, 2]).unwrap();
            SealedRoot::by_service(deployment, &root, (service, &key), &OsEntropy).unwrap()
        };
        vec![
            SealedRoot::by_key_file(deployment, &root, &key, &OsEntropy).unwrap(),
            SealedRoot::by_passphrase(deployment, &root, (&words, cheap), &OsEntropy).unwrap(),
            SealedRoot::by_shares(deployment, &root, (3, 5), &OsEntropy)
                .unwrap()
                .0,
            by_service(ServiceKind::Kms),
            by_service(ServiceKind::Transit),
        ]
    }

    #[test]
    fn every_provider_is_read_as_it_was_written() {
        for root in roots() {
            let text = to_text(&root).unwrap();
            assert_eq!(from_text(&text).unwrap(), root);
            assert_eq!(to_text(&from_text(&text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn what_is_not_as_it_should_be_is_named() {
        let [_, passphrase, shares, kms, _]: [SealedRoot; 5] = roots().try_into().unwrap();
        let (passphrase, shares) = (to_text(&passphrase).unwrap(), to_text(&shares).unwrap());
        let kms = to_text(&kms).unwrap();
        let cost = format!("\"memory_kib\":{MIN_MEMORY_KIB}");
        for (text, from, to, wanted) in [
            (
                &shares,
                "\"deployment\":\"07",
                "\"deployment\":\"",
                "deployment",
            ),
            (
                &shares,
                "\"deployment\":\"07",
                "\"deployment\":\"0G",
                "deployment",
            ),
            (&shares, "\"threshold\":3", "\"threshold\":6", "checks"),
            (&shares, "\"sealed\":\"00", "\"sealed\":\"0", "sealed"),
            (
                &passphrase,
                cost.as_str(),
                "\"memory_kib\":4294967295",
                "costs",
            ),
            (&passphrase, cost.as_str(), "\"memory_kib\":8", "costs"),
            (&passphrase, "\"v\":1", "\"v\":2", "not one"),
            (
                &kms,
                "\"settings\":\"/etc",
                "\"settings\":\"etc",
                "a key service",
            ),
            (
                &kms,
                "\"wrapped\":\"0102",
                "\"wrapped\":\"",
                "a key service",
            ),
            (&kms, "\"wrapped\":\"0102", "\"wrapped\":\"010", "wrapped"),
        ] {
            assert!(text.contains(from), "{from} in {text}");
            let error = from_text(&text.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(wanted), "{to}: {error}");
        }
    }
}

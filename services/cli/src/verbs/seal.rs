//! `unseal` and `seal`. What opens store-sync's cache is encrypted here, to the run of store-sync that asks for
//! it, before it leaves.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::id::DeploymentId;
use keywheel_engine::unseal;
use keywheel_schemas::api::{SealRequest, SealView, UnsealRequest};
use keywheel_seal::hpke::{self, PublicKey};
use keywheel_seal::unseal::{ServiceKind, Share};
use keywheel_seal::{OsEntropy, SecretBytes};

use super::Desk;
use super::revoke::{confirm, require_person};
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Between two looks at how far the keys are; each is on record.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// Whoever gives several at once is told, for nothing else would say that the others do not count.
const ONE_SHARE: &str = "one share was taken, the first line of stdin; the lines behind it were not read: give each share by a `keywheel unseal` of its own";
/// Where the seal is.
const PATH: &str = "/v1/seal";

pub(super) async fn unseal(desk: &Desk) -> Result<(), Failure> {
    let before: SealView = desk.client.read(PATH).await?;
    if !before.sealed {
        return show(desk, &before);
    }
    let offer = read_offer(&before)?;
    // The question may have stood for a while, and the key changes when shares are forgotten.
    let now: SealView = desk.client.read(PATH).await?;
    let request = UnsealRequest {
        offer: encrypt(&now, &offer)?,
    };
    let asked = desk.client.change("/v1/unseal", &request).await;
    if now.provider == "shamir" && terminal::is_more() {
        desk.screen.note(ONE_SHARE);
    }
    show(desk, &asked.map_err(|failure| refused(failure, &now))?)
}

/// A share that was typed as an argument, of which nothing is repeated.
pub(super) fn on_command_line() -> Failure {
    Failure::new(
        Exit::Usage,
        "a share or passphrase is never given on the command line; nothing of it was sent, but it may be in your shell's history now, and others here may have seen it",
        "take it out of the history; then `keywheel unseal`, which asks for it, or reads it from stdin",
    )
}

pub(super) async fn seal(desk: &Desk, yes: bool, reason: Option<String>) -> Result<(), Failure> {
    if !yes {
        require_person(desk.screen, "seal")?;
        desk.screen.note(
            "This makes store-sync drop every key: no rotation goes on and no new value is given out until it is unsealed.",
        );
        confirm(desk.screen, "seal")?;
    }
    let after: SealView = desk.client.change(PATH, &SealRequest { reason }).await?;
    show(desk, &after)
}

pub(super) async fn rotate_kek(desk: &Desk, wait: bool) -> Result<(), Failure> {
    let path = "/v1/rotate-kek";
    let request = SealRequest { reason: None };
    let mut seal: SealView = desk.client.change(path, &request).await?;
    while wait && seal.kek_rows_left.is_some() {
        tokio::time::sleep(LOOK_PAUSE).await;
        seal = desk.client.read(PATH).await?;
        if seal.sealed {
            return Err(Failure::new(
                Exit::Unavailable,
                "store-sync was sealed meanwhile",
                "`keywheel unseal`; it goes on by itself then",
            ));
        }
    }
    show(desk, &seal)
}

/// Who may not use keywheel at all was told so before the question.
fn refused(failure: Failure, seal: &SealView) -> Failure {
    let next = match (failure.exit, left(seal)) {
        (Exit::Denied, _) if is_service(&seal.provider) => {
            "put right what is named there: store-sync asks the key service again by itself, or at once by `keywheel unseal`".to_owned()
        }
        (Exit::Denied, Some(left)) => format!(
            "`keywheel unseal` again with another share, {left} more have to come; after a few wrong ones nothing is looked at for a minute"
        ),
        (Exit::Denied, None) => {
            "`keywheel unseal` again with the right passphrase; after a few wrong ones nothing is looked at for a minute".to_owned()
        }
        _ => return failure,
    };
    failure.with_next(next)
}

/// How many shares have to come yet.
fn left(seal: &SealView) -> Option<u32> {
    let (have, need) = (seal.shares?, seal.shares_needed?);
    Some(u32::from(need.saturating_sub(have)))
}

/// Whether a key service opens it, and nobody types anything.
fn is_service(provider: &str) -> bool {
    [ServiceKind::Kms, ServiceKind::Transit]
        .iter()
        .any(|kind| kind.word() == provider)
}

/// What a person gives for such a seal.
fn read_offer(seal: &SealView) -> Result<SecretBytes, Failure> {
    match seal.provider.as_str() {
        // Its key file is read, and its key service asked, by store-sync itself.
        "key-file" => Ok(SecretBytes::from(Vec::new())),
        service if is_service(service) => Ok(SecretBytes::from(Vec::new())),
        "passphrase" => terminal::secret("Passphrase of store-sync:"),
        "shamir" => share(&terminal::secret("One share:")?),
        other => Err(Failure::new(
            Exit::Unexpected,
            format!("store-sync is sealed by `{other}`, which this program does not know"),
            "use a newer keywheel",
        )),
    }
}

/// A share as its owner typed it. A mistyped one is not sent, so it counts for nothing there.
fn share(typed: &SecretBytes) -> Result<SecretBytes, Failure> {
    let share = Share::from_text(typed).map_err(|error| {
        Failure::new(
            Exit::Input,
            error.to_string(),
            "compare it with what `keywheel init` or `keywheel reseal` showed, from KWS1 to its end, then `keywheel unseal` again; nothing was sent",
        )
    })?;
    Ok(share.to_text())
}

fn encrypt(seal: &SealView, offer: &SecretBytes) -> Result<String, Failure> {
    let unusable = |why: &str| {
        Failure::new(
            Exit::Unexpected,
            format!("the daemon's key for shares is not usable: {why}"),
            "compare `keywheel version` and `keywheel status`; nothing was sent",
        )
    };
    let bytes = STANDARD.decode(&seal.public_key).ok();
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let key = key.ok_or_else(|| unusable("it is not base64 of 32 bytes"))?;
    let deployment = DeploymentId::parse(&seal.deployment);
    let deployment = deployment.map_err(|error| unusable(&error.to_string()))?;
    let (info, aad) = (unseal::info(deployment), unseal::aad(&key));
    let envelope = hpke::seal(&PublicKey::from_bytes(key), &info, &aad, offer, &OsEntropy);
    let envelope = envelope.map_err(|error| unusable(&error.to_string()))?;
    Ok(STANDARD.encode(envelope.to_bytes()))
}

fn show(desk: &Desk, seal: &SealView) -> Result<(), Failure> {
    desk.screen.show(seal, words)
}

fn words(seal: &SealView) -> String {
    match (seal.sealed, seal.shares, seal.shares_needed) {
        (false, ..) => {
            let keys = match seal.kek_rows_left {
                Some(rows) => format!("; {rows} rows are still to be wrapped by the fresh key"),
                None => String::new(),
            };
            format!("store-sync is unsealed, by {}{keys}", seal.provider)
        }
        (true, Some(have), Some(need)) => {
            let left = need.saturating_sub(have);
            format!(
                "store-sync is sealed; {have} of {need} shares are there\nnext: `keywheel unseal` by whoever has another share; {left} more have to come, within half an hour of the first"
            )
        }
        (true, ..) => format!(
            "store-sync is sealed, by {}\nnext: `keywheel unseal`",
            seal.provider
        ),
    }
}

#[cfg(test)]
mod tests {
    use keywheel_seal::envelope::UnsealKey;
    use keywheel_seal::hpke::{Envelope, HostKeyPair};
    use keywheel_seal::unseal::SealedRoot;

    use super::*;

    fn view(pair: &HostKeyPair, provider: &str) -> SealView {
        SealView {
            sealed: true,
            provider: provider.to_owned(),
            public_key: STANDARD.encode(pair.public().to_bytes()),
            deployment: DeploymentId::from_bytes([1; 16]).to_string(),
            shares: Some(1),
            shares_needed: Some(3),
            kek_rows_left: None,
        }
    }

    #[test]
    fn an_offer_opens_only_with_its_key_in_its_deployment() {
        let pair = HostKeyPair::generate(&OsEntropy);
        let offer = SecretBytes::from(b"correct horse battery staple".to_vec());
        let sent = encrypt(&view(&pair, "passphrase"), &offer).unwrap();
        let sent = STANDARD.decode(sent).unwrap();
        assert!(!sent.windows(7).any(|part| part == b"battery"));
        let envelope = Envelope::from_bytes(&sent).unwrap();
        let open = |pair: &HostKeyPair, deployment| {
            let key = pair.public().to_bytes();
            let info = unseal::info(DeploymentId::from_bytes([deployment; 16]));
            pair.open(&info, &unseal::aad(&key), &envelope).ok()
        };
        assert!(open(&pair, 1).unwrap().ct_eq(&offer));
        assert!(open(&pair, 2).is_none());
        assert!(open(&HostKeyPair::generate(&OsEntropy), 1).is_none());
    }

    #[test]
    fn a_mistyped_share_is_not_sent_and_not_shown() {
        let root = UnsealKey::generate(&OsEntropy);
        let (_, made) = SealedRoot::by_shares([1; 16], &root, (2, 2), &OsEntropy).unwrap();
        let right = made[0].to_text();
        assert!(share(&right).unwrap().ct_eq(&right));
        let mut bytes = right.expose().to_vec();
        bytes[20] = if bytes[20] == b'7' { b'8' } else { b'7' };
        let typed = String::from_utf8(bytes.clone()).unwrap();
        let failure = share(&SecretBytes::from(bytes)).unwrap_err();
        assert_eq!(failure.exit, Exit::Input);
        assert!(!failure.to_string().contains(&typed[6..11]), "{failure}");
    }

    #[test]
    fn what_a_person_is_told() {
        let pair = HostKeyPair::generate(&OsEntropy);
        let sealed = view(&pair, "shamir");
        let said = words(&sealed);
        assert!(
            said.starts_with(
                "store-sync is sealed; 1 of 3 shares are there\nnext: `keywheel unseal` "
            ),
            "{said}"
        );
        assert!(said.contains("2 more have to come"), "{said}");
        let denied = || Failure::new(Exit::Denied, "it was not taken", "x");
        let next = refused(denied(), &sealed).next.unwrap();
        assert!(
            next.contains("`keywheel unseal` again") && next.contains("2 more"),
            "{next}"
        );
        let by_passphrase = SealView {
            shares: None,
            shares_needed: None,
            ..view(&pair, "passphrase")
        };
        let next = refused(denied(), &by_passphrase).next.unwrap();
        assert!(
            next.contains("passphrase") && !next.contains("share"),
            "{next}"
        );
        assert!(words(&by_passphrase).ends_with("next: `keywheel unseal`"));
        let open = SealView {
            sealed: false,
            shares: None,
            shares_needed: None,
            ..sealed
        };
        assert_eq!(words(&open), "store-sync is unsealed, by shamir");
        let open = SealView {
            kek_rows_left: Some(7),
            ..open
        };
        assert!(
            words(&open).contains("7 rows are still"),
            "{}",
            words(&open)
        );
        assert_eq!(
            read_offer(&view(&pair, "tpm")).unwrap_err().exit,
            Exit::Unexpected
        );
        for provider in ["key-file", "kms", "transit"] {
            let offer = read_offer(&view(&pair, provider)).unwrap();
            assert!(offer.is_empty(), "nobody is asked for anything");
            let denied = Failure::new(Exit::Denied, "the key is disabled", "x");
            let next = refused(denied, &view(&pair, provider)).next.unwrap();
            assert_eq!(next.contains("key service"), provider != "key-file");
        }
    }
}

//! Bodies about stores outside, comparisons with what store-sync holds, and the shortest answer.

use keywheel_core::id::SecretId;
use keywheel_engine::port::bus::{Body, Comparison, Held};
use keywheel_engine::unseal::{SealState, Shares};
use keywheel_schemas::mirror::{Mirror, Text};
use keywheel_schemas::wire::message::{
    CheckStoreShape, CompareShape, ComparedShape, HeldShape, Kind, LookNowShape, LookedShape,
    Nothing, Octet, ReadStoresShape, SealStateShape, SharesShape, TriedShape, UnsealShape,
    VersionShape,
};
use keywheel_schemas::wire::store::News;

use super::{Written, parse, shaped};
use crate::refusal::Refusal;

pub(super) fn write(body: &Body) -> Written {
    match body {
        Body::ReadStores { after, wait } => {
            let (after, wait) = (*after, *wait);
            shaped(Kind::ReadStores, &ReadStoresShape { after, wait })
        }
        Body::Stores(news) => shaped(Kind::Stores, &News::of(news)),
        Body::CheckStore {
            store,
            credentials,
            places,
        } => {
            let shape = CheckStoreShape {
                store: Mirror::of(&**store),
                credentials: Mirror::of(credentials),
                places: Mirror::of(places),
            };
            shaped(Kind::CheckStore, &shape)
        }
        Body::Tried(untried) => {
            let untried = untried.clone();
            shaped(Kind::Tried, &TriedShape { untried })
        }
        Body::LookNow { secret } => {
            let secret = secret.map(Text);
            shaped(Kind::LookNow, &LookNowShape { secret })
        }
        Body::Looked(looks) => {
            let looks = Mirror::of(looks);
            shaped(Kind::Looked, &LookedShape { looks })
        }
        Body::Compare(asked) => shaped(Kind::Compare, &comparison(asked)),
        Body::Compared(found) => {
            let held = found.iter().map(held).collect();
            shaped(Kind::Compared, &ComparedShape { held })
        }
        Body::ReadSeal => shaped(Kind::ReadSeal, &Nothing {}),
        Body::SealState(state) => shaped(Kind::SealState, &seal_state(state)),
        Body::Unseal { offered } => {
            let offered = Octet::of(offered);
            shaped(Kind::Unseal, &UnsealShape { offered })
        }
        Body::Seal => shaped(Kind::Seal, &Nothing {}),
        Body::RotateKek => shaped(Kind::RotateKek, &Nothing {}),
        _ => shaped(Kind::Done, &Nothing {}),
    }
}

pub(super) fn read(kind: Kind, bytes: &[u8]) -> Result<Body, Refusal> {
    Ok(match kind {
        Kind::ReadStores => {
            let ReadStoresShape { after, wait } = parse("request for stores", bytes)?;
            Body::ReadStores { after, wait }
        }
        Kind::Stores => Body::Stores(Box::new(parse::<News>("stores", bytes)?.into_core())),
        Kind::CheckStore => {
            let shape = parse::<CheckStoreShape>("store to try", bytes)?;
            Body::CheckStore {
                store: Box::new(shape.store.into_core()),
                credentials: shape.credentials.into_core(),
                places: shape.places.into_core(),
            }
        }
        Kind::Tried => Body::Tried(parse::<TriedShape>("what was tried", bytes)?.untried),
        Kind::LookNow => Body::LookNow {
            secret: parse::<LookNowShape>("request to look", bytes)?
                .secret
                .map(|secret| secret.0),
        },
        Kind::Looked => Body::Looked(parse::<LookedShape>("looks", bytes)?.looks.into_core()),
        Kind::Compare => Body::Compare(to_comparison(parse("comparison", bytes)?)),
        Kind::Compared => {
            let found = parse::<ComparedShape>("what was compared", bytes)?.held;
            Body::Compared(found.into_iter().map(to_held).collect())
        }
        Kind::ReadSeal => {
            parse::<Nothing>("request for the seal", bytes).map(|_| Body::ReadSeal)?
        }
        Kind::SealState => Body::SealState(to_seal_state(parse("state of the seal", bytes)?)),
        Kind::Unseal => Body::Unseal {
            offered: parse::<UnsealShape>("offer", bytes)?.offered.into_bytes(),
        },
        Kind::Seal => parse::<Nothing>("sealing", bytes).map(|_| Body::Seal)?,
        Kind::RotateKek => parse::<Nothing>("fresh key", bytes).map(|_| Body::RotateKek)?,
        _ => parse::<Nothing>("answer", bytes).map(|_| Body::Done)?,
    })
}

fn seal_state(state: &SealState) -> SealStateShape {
    SealStateShape {
        sealed: state.sealed,
        provider: state.provider.clone(),
        key: Text(state.key),
        shares: state
            .shares
            .map(|Shares { have, need }| SharesShape { have, need }),
        kek_rows_left: state.kek_rows_left,
    }
}

fn to_seal_state(shape: SealStateShape) -> SealState {
    SealState {
        sealed: shape.sealed,
        provider: shape.provider,
        key: shape.key.0,
        shares: shape
            .shares
            .map(|SharesShape { have, need }| Shares { have, need }),
        kek_rows_left: shape.kek_rows_left,
    }
}

fn comparison(asked: &Comparison) -> CompareShape {
    let version = |&(secret, version): &(SecretId, u64)| VersionShape {
        secret: Text(secret),
        version,
    };
    CompareShape {
        sealed_key: Octet::of(&asked.sealed_key),
        digests: asked.digests.iter().copied().map(Text).collect(),
        among: asked.among.iter().map(version).collect(),
    }
}

fn to_comparison(shape: CompareShape) -> Comparison {
    let version = |shape: VersionShape| (shape.secret.0, shape.version);
    Comparison {
        sealed_key: shape.sealed_key.into_bytes(),
        digests: shape.digests.into_iter().map(|digest| digest.0).collect(),
        among: shape.among.into_iter().map(version).collect(),
    }
}

const fn held(one: &Held) -> HeldShape {
    HeldShape {
        token: one.token,
        secret: Text(one.secret),
        version: one.version,
    }
}

fn to_held(shape: HeldShape) -> Held {
    Held {
        token: shape.token,
        secret: shape.secret.0,
        version: shape.version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_arrives_as_it_was_sent_and_shows_neither_key_nor_digest() {
        let asked = Comparison {
            sealed_key: vec![77; 32],
            digests: vec![[88; 32], [99; 32]],
            among: vec![(SecretId::from_bytes([2; 16]), 7)],
        };
        assert_eq!(to_comparison(comparison(&asked)), asked);
        let shown = format!("{:?}", Body::Compare(asked));
        for part in ["77", "88", "99"] {
            assert!(!shown.contains(part), "{shown}");
        }
    }
}

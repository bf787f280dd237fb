//! Bodies about stores outside, and the shortest answer.

use keywheel_engine::port::bus::Body;
use keywheel_schemas::mirror::{Mirror, Text};
use keywheel_schemas::wire::message::{
    CheckStoreShape, Kind, LookNowShape, LookedShape, Nothing, ReadStoresShape, TriedShape,
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
        _ => parse::<Nothing>("answer", bytes).map(|_| Body::Done)?,
    })
}

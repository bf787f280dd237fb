//! Every provider opens what it sealed, and nothing else does.

use proptest::prelude::*;

use super::*;
use crate::OsEntropy;

const DEPLOYMENT: [u8; 16] = [7; 16];

/// The cheapest guess that is allowed: tests make many.
fn cheap() -> Cost {
    Cost::new(MIN_MEMORY_KIB, 1, 1).unwrap()
}

fn text(words: &str) -> SecretBytes {
    SecretBytes::from(words.as_bytes().to_vec())
}

/// Two roots are the same when one opens what the other sealed.
fn is_same(left: &UnsealKey, right: &UnsealKey) -> bool {
    let key = text("probe");
    let sealed = left
        .seal_service_key(&DEPLOYMENT, "probe", &key, &OsEntropy)
        .unwrap();
    right
        .open_service_key(&DEPLOYMENT, "probe", &sealed)
        .is_ok()
}

fn shamir(threshold: u8, shares: u8) -> (UnsealKey, SealedRoot, Vec<SecretBytes>) {
    let root = UnsealKey::generate(&OsEntropy);
    let (sealed, made) =
        SealedRoot::by_shares(DEPLOYMENT, &root, (threshold, shares), &OsEntropy).unwrap();
    let texts = made.iter().map(Share::to_text).collect();
    (root, sealed, texts)
}

#[test]
fn a_key_file_opens_what_it_sealed_and_no_other_one_does() {
    let (root, key) = (
        UnsealKey::generate(&OsEntropy),
        UnsealKey::generate(&OsEntropy),
    );
    let sealed = SealedRoot::by_key_file(DEPLOYMENT, &root, &key, &OsEntropy).unwrap();
    assert!(is_same(&root, &sealed.open_with_key(&key).unwrap()));
    let other = UnsealKey::generate(&OsEntropy);
    assert_eq!(sealed.open_with_key(&other).unwrap_err(), NotOpened);
    assert_eq!(sealed.open_with_key(&root).unwrap_err(), NotOpened);
    assert!(sealed.provider.unseals_by_itself());
}

#[test]
fn a_passphrase_opens_what_it_sealed_and_no_other_one_does() {
    let root = UnsealKey::generate(&OsEntropy);
    let right = text("correct horse battery staple");
    let seal = |words: &SecretBytes| {
        SealedRoot::by_passphrase(DEPLOYMENT, &root, (words, cheap()), &OsEntropy)
    };
    let sealed = seal(&right).unwrap();
    assert!(is_same(
        &root,
        &sealed.open_with_passphrase(&right).unwrap()
    ));
    for wrong in [
        "correct horse battery stapl",
        "",
        "Correct horse battery staple",
    ] {
        let opened = sealed.open_with_passphrase(&text(wrong));
        assert_eq!(opened.unwrap_err(), NotOpened, "{wrong}");
    }
    assert_eq!(
        seal(&text("too short")),
        Err(WrapError::BadPassphrase(BadPassphrase))
    );
    assert!(!sealed.provider.unseals_by_itself());
    let again = seal(&right).unwrap();
    assert_ne!(again.provider, sealed.provider, "a salt is drawn anew");
}

fn by_service(key: &UnsealKey, service: Service) -> (UnsealKey, SealedRoot) {
    let root = UnsealKey::generate(&OsEntropy);
    let sealed = SealedRoot::by_service(DEPLOYMENT, &root, (service, key), &OsEntropy).unwrap();
    (root, sealed)
}

fn service(kind: ServiceKind, settings: &str, key: &str, wrapped: &[u8]) -> Service {
    Service::new(kind, settings, key, wrapped.to_vec()).unwrap()
}

#[test]
fn what_a_service_unwrapped_opens_it_and_nothing_of_what_is_kept_can_be_exchanged() {
    let key = UnsealKey::generate(&OsEntropy);
    let kept = service(ServiceKind::Kms, "/etc/kms.toml", "arn:one", b"blob");
    let (root, sealed) = by_service(&key, kept);
    assert!(is_same(&root, &sealed.open_with_service(&key).unwrap()));
    assert!(sealed.provider.unseals_by_itself());
    let other = UnsealKey::generate(&OsEntropy);
    assert_eq!(sealed.open_with_service(&other).unwrap_err(), NotOpened);
    assert_eq!(sealed.open_with_key(&key).unwrap_err(), NotOpened);
    assert!(sealed.gather().is_none());
    for changed in [
        service(ServiceKind::Transit, "/etc/kms.toml", "arn:one", b"blob"),
        service(ServiceKind::Kms, "/etc/other.toml", "arn:one", b"blob"),
        service(ServiceKind::Kms, "/etc/kms.toml", "arn:two", b"blob"),
        service(ServiceKind::Kms, "/etc/kms.toml", "arn:one", b"blub"),
    ] {
        let changed = SealedRoot {
            provider: Provider::Service(changed),
            ..sealed.clone()
        };
        assert_eq!(changed.open_with_service(&key).unwrap_err(), NotOpened);
    }
    let moved = SealedRoot {
        deployment: [8; 16],
        ..sealed
    };
    assert_eq!(moved.open_with_service(&key).unwrap_err(), NotOpened);
}

#[test]
fn any_so_many_shares_open_it_and_fewer_do_not() {
    let (root, sealed, texts) = shamir(3, 5);
    for leave_out in 0..5usize {
        let mut gathered = sealed.gather().unwrap();
        let given = texts.iter().enumerate().filter(|(at, _)| *at != leave_out);
        for (have, (_, text)) in (1u8..).zip(given.take(3)) {
            assert_eq!(
                sealed.open_with_shares(&gathered).unwrap_err(),
                NotOpened,
                "{have} came"
            );
            assert_eq!(gathered.take(text), Ok(Taken { have, need: 3 }));
        }
        let opened = sealed.open_with_shares(&gathered).unwrap();
        assert!(is_same(&root, &opened));
        assert_eq!(gathered.take(&texts[leave_out]), Err(Refused), "enough");
    }
}

#[test]
fn a_wrong_a_repeated_and_a_foreign_share_get_the_same_answer_and_change_nothing() {
    let (root, sealed, texts) = shamir(2, 3);
    let (_, _, foreign) = shamir(2, 3);
    let mut gathered = sealed.gather().unwrap();
    assert!(gathered.take(&texts[0]).is_ok());
    // A share of our set by its name, with bytes of another one.
    let strange = Share::from_text(&foreign[1]).unwrap();
    let ours = Share::from_text(&texts[1]).unwrap();
    let forged = strange.renamed(ours.set());
    let refused = [
        &texts[0],
        &foreign[1],
        &forged.to_text(),
        &text(""),
        &text("KWS1-00000"),
    ];
    for share in refused {
        assert_eq!(gathered.take(share), Err(Refused));
        assert_eq!(gathered.progress(), Taken { have: 1, need: 2 });
    }
    assert!(gathered.take(&texts[2]).unwrap().is_enough());
    assert!(is_same(&root, &sealed.open_with_shares(&gathered).unwrap()));
}

#[test]
fn a_set_has_between_two_and_sixteen_shares_of_which_at_most_all_are_needed() {
    let root = UnsealKey::generate(&OsEntropy);
    let make = |threshold, shares| {
        SealedRoot::by_shares(DEPLOYMENT, &root, (threshold, shares), &OsEntropy).map(drop)
    };
    assert_eq!(make(MIN_THRESHOLD, MIN_THRESHOLD), Ok(()));
    assert_eq!(make(MAX_SHARES, MAX_SHARES), Ok(()));
    for (threshold, shares) in [(0, 0), (1, 3), (4, 3), (2, MAX_SHARES + 1)] {
        assert_eq!(
            make(threshold, shares),
            Err(WrapError::BadThreshold { threshold, shares })
        );
    }
}

#[test]
fn a_share_is_read_as_a_person_types_it() {
    let (_, _, texts) = shamir(2, 3);
    let printed = String::from_utf8(texts[1].expose().to_vec()).unwrap();
    assert!(printed.starts_with("KWS1-"), "{}", printed.len());
    assert_eq!(printed.len(), 4 + 14 * 6 - 1);
    let check = |words: &str| Share::from_text(&text(words)).map(|share| share.check());
    let want = check(&printed).unwrap();
    let typed = [
        printed.to_lowercase(),
        printed.replace('-', " "),
        format!("  {}\n", printed.replace('-', "")),
        printed.replace('0', "o").replace('1', "l"),
    ];
    for words in typed {
        assert_eq!(check(&words), Ok(want));
    }
    assert_eq!(Share::from_text(&texts[1]).unwrap().number(), 2);
}

#[test]
fn every_mistyped_character_and_every_two_exchanged_ones_are_found() {
    let (_, _, texts) = shamir(2, 2);
    let printed = texts[0].expose().to_vec();
    let read = |bytes: Vec<u8>| Share::from_text(&SecretBytes::from(bytes)).is_ok();
    assert!(read(printed.clone()));
    for at in 5..printed.len() {
        let mut changed = printed.clone();
        changed[at] = match changed[at] {
            b'-' => continue,
            b'7' => b'8',
            _ => b'7',
        };
        assert!(!read(changed), "character {at}");
        assert!(!read(printed[..at].to_vec()), "cut at {at}");
        let mut exchanged = printed.clone();
        exchanged.swap(at - 1, at);
        let is_other = exchanged
            .iter()
            .filter(|byte| **byte != b'-')
            .ne(printed.iter().filter(|byte| **byte != b'-'));
        assert!(!is_other || !read(exchanged), "exchanged at {at}");
    }
    assert!(!read([printed.clone(), b"0".to_vec()].concat()));
}

#[test]
fn nothing_that_is_stored_can_be_exchanged() {
    let (_, sealed, texts) = shamir(2, 3);
    let open = |root: &SealedRoot| {
        let mut gathered = sealed.gather().unwrap();
        assert!(gathered.take(&texts[0]).is_ok() && gathered.take(&texts[1]).is_ok());
        root.open_with_shares(&gathered)
    };
    assert!(open(&sealed).is_ok());
    let Provider::Shares {
        set,
        threshold,
        checks,
    } = sealed.provider.clone()
    else {
        panic!("a set of shares");
    };
    let provider = |set, threshold, checks: &[ShareCheck]| Provider::Shares {
        set,
        threshold,
        checks: checks.to_vec(),
    };
    let providers = [
        provider(SetId::from_bytes([0; 4]), threshold, &checks),
        provider(set, 3, &checks),
        provider(set, threshold, &checks[..2]),
        Provider::KeyFile,
    ];
    for provider in providers {
        let changed = SealedRoot {
            provider,
            ..sealed.clone()
        };
        assert_eq!(open(&changed).unwrap_err(), NotOpened, "{changed:?}");
    }
    let moved = SealedRoot {
        deployment: [8; 16],
        ..sealed.clone()
    };
    assert_eq!(open(&moved).unwrap_err(), NotOpened);
    let renamed = SealedRoot {
        root: RootId::from_bytes([1; 16]),
        ..sealed.clone()
    };
    assert_eq!(open(&renamed).unwrap_err(), NotOpened);
    let bytes = sealed.sealed.to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let changed = SealedRoot {
            sealed: SealedKey::from_bytes(&changed).unwrap(),
            ..sealed.clone()
        };
        assert_eq!(open(&changed).unwrap_err(), NotOpened, "byte {at}");
    }
}

#[test]
fn cheaper_costs_and_another_salt_do_not_open() {
    let root = UnsealKey::generate(&OsEntropy);
    let words = text("correct horse battery staple");
    let dear = Cost::new(MIN_MEMORY_KIB + 8, 1, 1).unwrap();
    let sealed = SealedRoot::by_passphrase(DEPLOYMENT, &root, (&words, dear), &OsEntropy).unwrap();
    let Provider::Passphrase { salt, cost } = sealed.provider else {
        panic!("a passphrase");
    };
    let changed = [
        Provider::Passphrase {
            salt,
            cost: cheap(),
        },
        Provider::Passphrase {
            salt: [0; SALT_BYTES],
            cost,
        },
    ];
    for provider in changed {
        let changed = SealedRoot {
            provider,
            ..sealed.clone()
        };
        assert_eq!(changed.open_with_passphrase(&words).unwrap_err(), NotOpened);
    }
}

#[test]
fn nothing_secret_is_shown() {
    let (root, sealed, texts) = shamir(2, 2);
    let share = Share::from_text(&texts[0]).unwrap();
    let mut gathered = sealed.gather().unwrap();
    assert!(gathered.take(&texts[0]).is_ok());
    assert_eq!(format!("{share:?}"), "Share(…)");
    assert_eq!(format!("{gathered:?}"), "Gathering(1 of 2)");
    let shown = format!("{sealed:?} {root:?}");
    let key: Vec<String> = share.check().bytes().map(|byte| byte.to_string()).to_vec();
    assert!(!shown.contains(&key.join(", ")), "{shown}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = Share::from_text(&SecretBytes::from([b"KWS1-".as_slice(), &bytes].concat()));
        let _ = Share::from_text(&SecretBytes::from(bytes));
    }

    #[test]
    fn digits_that_are_no_share_are_not_taken(digits in "[0-9A-HJKMNP-TV-Z]{69}") {
        let taken = Share::from_text(&text(&format!("KWS1-{digits}")));
        prop_assert_eq!(taken.map(|share| share.number()), Err(BadShare));
    }
}

//! Credentials on a real disk.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

use keywheel_seal::OsEntropy;

use super::*;
use crate::authority::Authority;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn deployment() -> DeploymentId {
    DeploymentId::from_bytes([7; 16])
}

fn authority() -> Authority {
    Authority::create(deployment(), NOW, &OsEntropy).unwrap()
}

fn bundle(ca: &Authority, named: &PeerName, certified: &PeerName) -> Bundle {
    let issued = ca.issue(certified, &[], NOW, &OsEntropy).unwrap();
    let signing = SigningKey::generate(&OsEntropy);
    let trust = [(Role::Gateway, signing.verifying_key())].into();
    Bundle {
        tls: TlsFiles {
            chain_pem: issued.certificate.chain_pem,
            key_pem: issued.key_pem,
            roots_pem: issued.certificate.roots_pem,
        },
        identity: Some(Identity {
            gateways: vec!["gateway.example:8444".to_owned()],
            deployment: deployment(),
            name: named.clone(),
            host_name: Some(HostName::parse("web-1").unwrap()),
            signing,
            sealing: vec![SealingKey {
                generation: 3,
                made: NOW,
                pair: HostKeyPair::generate(&OsEntropy),
            }],
            trust,
            servers: vec!["tls://bus.example:4222".into()],
        }),
        bus: Some(SecretBytes::from(b"permit".to_vec())),
        claims: None,
    }
}

fn host() -> PeerName {
    PeerName::Host(HostId::from_bytes([2; 16]))
}

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("host");
    (scratch, directory)
}

#[test]
fn credentials_read_back_whole_and_only_their_owner_can() {
    let (_scratch, directory) = fresh();
    let written = bundle(&authority(), &host(), &host());
    written.write(&directory).unwrap();
    let (read, identity) = Bundle::read_speaker(&directory).unwrap();
    let before = written.identity.as_ref().unwrap();
    assert_eq!(identity.name, host());
    assert_eq!(
        identity.client(),
        Some(Client::injector(HostId::from_bytes([2; 16])))
    );
    assert_eq!(
        identity.signing.verifying_key(),
        before.signing.verifying_key()
    );
    assert_eq!(identity.trust, before.trust);
    assert_eq!(identity.servers, before.servers);
    let (new, old) = (
        identity.newest_sealing().unwrap(),
        before.newest_sealing().unwrap(),
    );
    assert_eq!(new.pair.public(), old.pair.public());
    assert_eq!((new.generation, new.made), (3, NOW));
    assert!(read.bus.unwrap().ct_eq(written.bus.as_ref().unwrap()));
    assert!(read.claims.is_none());
    assert!(read.tls.key_pem.ct_eq(&written.tls.key_pem));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in fs::read_dir(&directory).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    assert_eq!(
        fs::read_dir(&directory).unwrap().count(),
        5,
        "nothing is left beside"
    );
}

#[test]
fn files_that_others_can_read_are_refused() {
    let (_scratch, directory) = fresh();
    bundle(&authority(), &host(), &host())
        .write(&directory)
        .unwrap();
    let key = directory.join(KEY_FILE);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Bundle::read(&directory).err().unwrap();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn a_crash_before_the_marker_leaves_the_old_and_after_it_the_new() {
    let (_scratch, directory) = fresh();
    let ca = authority();
    let (old, new) = (bundle(&ca, &host(), &host()), bundle(&ca, &host(), &host()));
    let (_other, aside) = fresh();
    new.write(&aside).unwrap();
    for marked in [false, true] {
        old.write(&directory).unwrap();
        let mut names = Vec::new();
        for (index, entry) in fs::read_dir(&aside).unwrap().enumerate() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let renamed = marked && index == 0;
            let to = if renamed {
                name.clone()
            } else {
                format!("{name}.new")
            };
            fs::copy(entry.path(), directory.join(to)).unwrap();
            names.push(name);
        }
        if marked {
            fs::write(directory.join("replacing"), names.join("\n")).unwrap();
        }
        let (read, identity) = Bundle::read_speaker(&directory).unwrap();
        let expected = if marked { &new } else { &old };
        assert!(read.tls.key_pem.ct_eq(&expected.tls.key_pem));
        let key = expected.identity.as_ref().unwrap().signing.verifying_key();
        assert_eq!(identity.signing.verifying_key(), key);
    }
    assert!(!directory.join("replacing").exists());
}

#[test]
fn a_marker_cannot_name_a_file_elsewhere() {
    let (scratch, directory) = fresh();
    bundle(&authority(), &host(), &host())
        .write(&directory)
        .unwrap();
    fs::write(scratch.path().join("outside.new"), "x").unwrap();
    fs::write(directory.join("replacing"), "../outside").unwrap();
    Bundle::read(&directory).unwrap();
    assert!(!scratch.path().join("outside").exists());
}

#[test]
fn a_damaged_or_foreign_part_is_named() {
    let (_scratch, directory) = fresh();
    let ca = authority();
    let read = || Bundle::read(&directory).err().unwrap().to_string();
    assert!(read().contains("cannot open"));
    bundle(&ca, &host(), &PeerName::Service(Role::Scheduler))
        .write(&directory)
        .unwrap();
    assert!(read().contains("do not belong together"));
    bundle(&ca, &host(), &host()).write(&directory).unwrap();
    let identity = directory.join(IDENTITY_FILE);
    let text = fs::read_to_string(&identity).unwrap();
    let seed = text.split("signing_seed\": \"").nth(1).unwrap()[..20].to_owned();
    fs::write(&identity, text.replace("\"version\": 1", "\"version\": 9")).unwrap();
    assert!(read().contains("version 9"));
    fs::write(&identity, text.replace("\"servers\"", "\"surprise\"")).unwrap();
    let error = read();
    assert!(error.contains("line") && !error.contains(&seed), "{error}");
    fs::remove_file(&identity).unwrap();
    assert!(Bundle::read(&directory).is_ok());
    let error = Bundle::read_speaker(&directory).err().unwrap().to_string();
    assert!(error.contains("missing"), "{error}");
    let large = vec![b' '; usize::try_from(disk::MAX_FILE_BYTES).unwrap() + 1];
    fs::write(directory.join(CA_FILE), large).unwrap();
    assert!(read().contains("larger than"));
}

#[test]
fn what_was_replaced_is_overwritten_on_the_disk() {
    use std::io::{Read as _, Seek as _};
    let (_scratch, directory) = fresh();
    let ca = authority();
    bundle(&ca, &host(), &host()).write(&directory).unwrap();
    for name in [IDENTITY_FILE, KEY_FILE, BUS_FILE] {
        let mut before = fs::File::open(directory.join(name)).unwrap();
        let mut content = Vec::new();
        before.read_to_end(&mut content).unwrap();
        assert!(content.iter().any(|byte| *byte != 0));
        bundle(&ca, &host(), &host()).write(&directory).unwrap();
        before.rewind().unwrap();
        content.clear();
        before.read_to_end(&mut content).unwrap();
        assert!(content.iter().all(|byte| *byte == 0), "{name}");
        assert!(Bundle::read(&directory).is_ok());
    }
}

#[test]
fn what_root_writes_into_a_service_s_directory_is_the_service_s() {
    const SERVICE: u32 = 4242;
    let (_scratch, directory) = fresh();
    let written = bundle(&authority(), &host(), &host());
    written.write(&directory).unwrap();
    if fs::metadata(&directory).unwrap().uid() != 0 {
        return;
    }
    chown(&directory, Some(SERVICE), Some(SERVICE)).unwrap();
    written.write(&directory).unwrap();
    for file in [CA_FILE, KEY_FILE, IDENTITY_FILE, BUS_FILE] {
        let about = fs::metadata(directory.join(file)).unwrap();
        let who = (about.uid(), about.gid(), about.mode() & 0o777);
        assert_eq!(who, (SERVICE, SERVICE, 0o600), "{file}");
    }
}

#[test]
fn what_a_directory_s_owner_put_in_the_way_is_neither_followed_nor_changed() {
    let (scratch, directory) = fresh();
    let written = bundle(&authority(), &host(), &host());
    written.write(&directory).unwrap();
    let elsewhere = scratch.path().join("elsewhere");
    fs::write(&elsewhere, "kept").unwrap();
    let owner = fs::metadata(&elsewhere).unwrap().uid();
    let in_the_way = |name: &str| {
        let path = directory.join(name);
        let _it_need_not_be_there = fs::remove_file(&path);
        path
    };
    let new = |name: &str| format!("{name}.new");
    symlink(&elsewhere, in_the_way(&new(KEY_FILE))).unwrap();
    symlink(&elsewhere, in_the_way("replacing.new")).unwrap();
    symlink(&elsewhere, in_the_way(CA_FILE)).unwrap();
    fs::hard_link(&elsewhere, in_the_way(&new(BUS_FILE))).unwrap();
    fs::hard_link(&elsewhere, in_the_way(IDENTITY_FILE)).unwrap();
    if owner == 0 {
        chown(&directory, Some(4242), Some(4242)).unwrap();
    }
    written.write(&directory).unwrap();
    let about = fs::metadata(&elsewhere).unwrap();
    assert_eq!((about.uid(), about.nlink()), (owner, 1));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
    for name in [CA_FILE, KEY_FILE, IDENTITY_FILE, BUS_FILE] {
        let found = fs::symlink_metadata(directory.join(name)).unwrap();
        assert!(found.is_file() && found.nlink() == 1, "{name}");
    }
    assert!(Bundle::read(&directory).is_ok());
}

#[test]
fn no_file_of_ours_is_read_in_the_place_of_one_of_the_directory_s_owner() {
    const SERVICE: u32 = 4242;
    let (scratch, theirs) = fresh();
    let ours = scratch.path().join("ours");
    let ca = authority();
    for directory in [&ours, &theirs] {
        bundle(&ca, &host(), &host()).write(directory).unwrap();
    }
    if fs::metadata(&theirs).unwrap().uid() != 0 {
        return;
    }
    let names = [CA_FILE, CERTIFICATE_FILE, KEY_FILE, IDENTITY_FILE, BUS_FILE];
    for name in names {
        chown(theirs.join(name), Some(SERVICE), Some(SERVICE)).unwrap();
    }
    chown(&theirs, Some(SERVICE), Some(SERVICE)).unwrap();
    assert!(Bundle::read(&theirs).is_ok());
    let aside = theirs.join("aside");
    for name in names {
        let place = theirs.join(name);
        fs::rename(&place, &aside).unwrap();
        for is_hard in [false, true] {
            match is_hard {
                false => symlink(ours.join(name), &place).unwrap(),
                true => fs::hard_link(ours.join(name), &place).unwrap(),
            }
            let error = Bundle::read(&theirs).err().unwrap();
            let because = std::error::Error::source(&error).unwrap();
            let said = format!("{error}: {because}");
            let why = if is_hard { "`chown`" } else { "it is a link" };
            let owner = format!("uid {SERVICE}");
            for part in [name, why, &owner] {
                assert!(said.contains(part), "{part}: {said}");
            }
            fs::remove_file(&place).unwrap();
        }
        fs::rename(&aside, &place).unwrap();
    }
    symlink(ours.join(IDENTITY_FILE), theirs.join("replacing")).unwrap();
    assert!(Bundle::read(&theirs).is_err());
    fs::remove_file(theirs.join("replacing")).unwrap();
    assert!(Bundle::read(&theirs).is_ok());
    assert!(Bundle::read(&ours).is_ok());
}

#[test]
fn a_pipe_in_the_place_of_a_file_and_a_lock_that_is_kept_hold_nobody_up() {
    let (_scratch, directory) = fresh();
    let written = bundle(&authority(), &host(), &host());
    written.write(&directory).unwrap();
    for name in [KEY_FILE, "replacing"] {
        let place = directory.join(name);
        let _it_need_not_be_there = fs::remove_file(&place);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &place, mode).unwrap();
        let error = Bundle::read(&directory).err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
        fs::remove_file(&place).unwrap();
        written.write(&directory).unwrap();
    }
    let held = fs::File::open(&directory).unwrap();
    held.lock().unwrap();
    let error = disk::lock_within(&directory, 2).unwrap_err().to_string();
    assert!(error.contains("cannot lock"), "{error}");
    drop(held);
    assert!(Bundle::read(&directory).is_ok());
}

#[test]
fn a_directory_that_was_opened_stays_the_one_whatever_its_name_stands_for() {
    let (scratch, directory) = fresh();
    let other = scratch.path().join("other");
    let ca = authority();
    let (first, second) = (bundle(&ca, &host(), &host()), bundle(&ca, &host(), &host()));
    first.write(&directory).unwrap();
    second.write(&other).unwrap();
    let pinned = disk::Pinned::open(&directory).unwrap();
    let aside = scratch.path().join("aside");
    fs::rename(&directory, &aside).unwrap();
    symlink(&other, &directory).unwrap();
    let is_first = |read: Bundle| read.tls.key_pem.ct_eq(&first.tls.key_pem);
    assert!(is_first(Bundle::read(pinned.path()).unwrap()));
    let third = bundle(&ca, &host(), &host());
    third.write(pinned.path()).unwrap();
    let read = |directory: &Path| Bundle::read(directory).unwrap().tls.key_pem;
    assert!(read(&aside).ct_eq(&third.tls.key_pem));
    assert!(read(&other).ct_eq(&second.tls.key_pem));
    fs::remove_file(aside.join(KEY_FILE)).unwrap();
    let error = Bundle::read(pinned.path()).err().unwrap();
    let said = error.renamed(pinned.path(), &directory).to_string();
    let path = directory.join(KEY_FILE);
    assert!(said.contains(&path.display().to_string()), "{said}");
}

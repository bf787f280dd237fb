//! Several files that change in one step.

use std::sync::atomic::Ordering;

use rustix::fs::{RenameFlags, openat, statat, symlinkat};

use super::*;

type Files<'a> = [(&'a str, &'a [u8])];

fn put(dir: &SecretDir, files: &Files<'_>) -> Result<(), Error> {
    dir.replace_set("db", files, ATTR, || ())
}

/// All that a set holds, by name.
fn held(dir: &SecretDir) -> Option<Vec<(String, Vec<u8>)>> {
    let mut names = dir.set_names("db").unwrap()?;
    names.sort();
    let read = |name: String| {
        let mut sink = Vec::new();
        assert!(dir.read_in_set("db", &name, 1 << 20, &mut sink).unwrap());
        (name, sink)
    };
    Some(names.into_iter().map(read).collect())
}

fn owned(files: &Files<'_>) -> Vec<(String, Vec<u8>)> {
    let own = |(name, bytes): &(&str, &[u8])| ((*name).to_owned(), bytes.to_vec());
    files.iter().map(own).collect()
}

#[test]
fn a_set_is_replaced_with_its_names_and_takes_the_place_of_a_file_and_back() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        let dir = fs.dir();
        let (first, second): (&Files<'_>, &Files<'_>) = (
            &[("password", b"one"), ("user", b"app")],
            &[("password", b"two"), ("url", b"\0\xff")],
        );
        assert_eq!(held(dir), None);
        put(dir, first).unwrap();
        assert_eq!(held(dir).unwrap(), owned(first));
        put(dir, second).unwrap();
        assert_eq!(held(dir).unwrap(), owned(second));
        let root = open_root(dir);
        let of = |path: &str| {
            let found = statat(&root, path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            (found.st_uid, found.st_gid, found.st_mode & 0o7777)
        };
        assert_eq!(of("db"), (0, 0, 0o755));
        assert_eq!(of("db/url"), (1000, 1001, 0o440));
        assert_eq!(dir.names().unwrap(), ["db"]);
        assert_eq!(content(dir, "db"), None, "a set is no file");

        dir.replace("db", b"file", ATTR).unwrap();
        assert_eq!(content(dir, "db").unwrap(), b"file");
        assert_eq!(held(dir), None);
        put(dir, first).unwrap();
        assert_eq!(held(dir).unwrap(), owned(first));
        assert!(dir.remove("db").unwrap() && !dir.remove("db").unwrap());
        assert_eq!(held(dir), None);
        assert_eq!(dir.sweep_temps().unwrap(), 0, "nothing is left behind");
    });
}

#[test]
fn a_reader_of_one_directory_never_sees_files_of_two_sets() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        let dir = fs.dir();
        let sets: [&Files<'_>; 2] = [&[("a", b"1"), ("b", b"1")], &[("a", b"2"), ("b", b"2")]];
        put(dir, sets[0]).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let reader = {
            let (stop, root) = (stop.clone(), open_root(dir));
            std::thread::spawn(move || {
                let mut whole = 0_u32;
                while !stop.load(Ordering::Relaxed) || whole == 0 {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                    let set = openat(&root, "db", flags, Mode::empty()).expect("always there");
                    let one = |name: &str| {
                        let file = openat(&set, name, OFlags::RDONLY, Mode::empty()).ok()?;
                        let mut byte = [0_u8; 1];
                        let count = rustix::io::read(&file, byte.as_mut_slice()).unwrap();
                        (count == 1).then_some(byte)
                    };
                    // A set that was replaced meanwhile has no files any more: then it is read anew.
                    if let (Some(first), Some(second)) = (one("a"), one("b")) {
                        assert_eq!(first, second, "mixed");
                        whole += 1;
                    }
                }
            })
        };
        for round in 0..2000 {
            put(dir, sets[round % 2]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn a_set_has_so_many_files_and_not_one_more() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        let names: Vec<String> = (0..=MAX_SET_FILES).map(|at| format!("f{at:02}")).collect();
        let all: Vec<(&str, &[u8])> = names
            .iter()
            .map(|name| (name.as_str(), b"x".as_slice()))
            .collect();
        put(fs.dir(), &all[1..]).unwrap();
        assert!(matches!(put(fs.dir(), &all), Err(Error::Full)));
        assert_eq!(held(fs.dir()).unwrap(), owned(&all[1..]));
        for name in ["..", "a/b", ""] {
            let refused = put(fs.dir(), &[(name, b"x")]);
            assert!(matches!(refused, Err(Error::BadName { .. })), "{name}");
        }
    });
}

#[test]
fn a_full_file_system_keeps_the_old_set_and_counts_what_sets_hold() {
    both(|kind| {
        let fs = SecretFs::create(kind, 16 * 4096).unwrap();
        let dir = fs.dir();
        let (small, large) = (vec![1_u8; 4096], vec![2_u8; 10 * 4096]);
        put(dir, &[("a", &large)]).unwrap();
        let refused = put(dir, &[("a", &small), ("b", &large)]);
        assert!(matches!(refused, Err(Error::Full)), "{refused:?}");
        assert_eq!(held(dir).unwrap(), owned(&[("a", &large)]));
        assert!(matches!(
            dir.replace("file", &large, ATTR),
            Err(Error::Full)
        ));
        assert_eq!(dir.sweep_temps().unwrap(), 0);
        assert_eq!(dir.names().unwrap(), ["db"]);
    });
}

#[test]
fn a_link_where_the_set_would_be_is_replaced_and_not_followed() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        let dir = fs.dir();
        let outside =
            std::env::temp_dir().join(format!("keywheel-sets-{}-{kind:?}", std::process::id()));
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("a"), b"of the host").unwrap();
        let root = open_root(dir);
        symlinkat(&outside, &root, "db").unwrap();
        assert_eq!(dir.set_names("db").unwrap(), None);
        put(dir, &[("a", b"secret")]).unwrap();
        assert_eq!(held(dir).unwrap(), owned(&[("a", b"secret")]));
        // A link takes the place of a set in the moment before it is removed.
        symlinkat(&outside, &root, "link").unwrap();
        rustix::fs::renameat_with(&root, "link", &root, "db", RenameFlags::EXCHANGE).unwrap();
        assert!(dir.remove("db").unwrap());
        assert_eq!(std::fs::read(outside.join("a")).unwrap(), b"of the host");
        std::fs::remove_dir_all(&outside).unwrap();
    });
}

#[test]
fn a_set_that_an_interrupted_write_left_is_swept() {
    both(|kind| {
        let fs = SecretFs::create(kind, SIZE).unwrap();
        let root = open_root(fs.dir());
        rustix::fs::mkdirat(&root, ".kw-99999998", Mode::RWXU).unwrap();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        openat(&root, ".kw-99999998/a", flags, Mode::RUSR).unwrap();
        assert!(fs.dir().names().unwrap().is_empty());
        assert_eq!(fs.dir().sweep_temps().unwrap(), 1);
        assert_eq!(fs.dir().sweep_temps().unwrap(), 0);
    });
}

//! Registering and undoing over files as people have them.

use super::*;

const NAMES: [&str; 2] = ["keywheel", "keywheel-default"];

fn ours() -> Vec<Runtime> {
    let runtime = |name: &str, more: &[&str]| Runtime {
        name: name.to_owned(),
        path: format!("/usr/bin/{WRAPPER}"),
        arguments: [&["--keywheel-socket", "/run/keywheel/injector.sock"], more]
            .concat()
            .iter()
            .map(|a| (*a).to_owned())
            .collect(),
    };
    vec![
        runtime(NAMES[0], &[]),
        runtime(NAMES[1], &["--keywheel-permissive"]),
    ]
}

fn files() -> Vec<&'static str> {
    vec![
        "",
        "{}",
        "{ }\n",
        "{\n}\n",
        "{\n  \"log-driver\": \"json-file\",\n  \"zeta\": 1,\n  \"alpha\": [1,2,  3]\n}\n",
        "{\"a\":1,\"runtimes\":{}}",
        "{\n    \"runtimes\": {\n        \"other\": { \"path\": \"/usr/bin/other\" }\n    },\n    \"debug\": true\n}",
        "{\n\t\"debug\": true,\n\t\"runtimes\": {\"other\":{\"path\":\"/o\"}}\n}\n",
        "{\"debug\":true,\"default-runtime\":\"other\",\"runtimes\":{\"other\":{\"path\":\"/o\",\"runtimeArgs\":[\"}\"]}}}",
    ]
}

#[test]
fn registering_adds_ours_and_changes_nothing_else() {
    for before in files() {
        let after = register(before, &ours()).unwrap();
        let (old, mut new) = (read(before), read(&after));
        let runtimes = new[RUNTIMES].as_object_mut().unwrap();
        let strict = runtimes.remove(NAMES[0]).unwrap();
        let permissive = runtimes.remove(NAMES[1]).unwrap();
        assert_eq!(strict["path"], "/usr/bin/keywheel-runtime");
        assert_eq!(strict["runtimeArgs"][1], "/run/keywheel/injector.sock");
        assert_eq!(permissive["runtimeArgs"][2], "--keywheel-permissive");
        if old.get(RUNTIMES).is_none() {
            new.as_object_mut().unwrap().remove(RUNTIMES);
        }
        assert_eq!(new, old, "{after}");
        assert_eq!(
            register(&after, &ours()).unwrap(),
            after,
            "a repeat changes nothing"
        );
        assert!(has_ours(&after) && !has_ours(before));
    }
}

#[test]
fn undo_gives_every_file_back_to_the_byte() {
    for before in files() {
        let after = register(before, &ours()).unwrap();
        let without = unregister(&after, &NAMES).unwrap();
        assert!(!has_ours(&without), "{without}");
        assert!(
            read(&without).get(RUNTIMES).is_some(),
            "dockerd forgets only by an empty list: {without}"
        );
        assert_eq!(tidy(&without, Some(before)).as_deref(), Some(before));
    }
}

#[test]
fn a_file_that_we_made_is_removed_and_one_that_others_changed_is_kept() {
    let made = register("", &ours()).unwrap();
    assert_eq!(tidy(&unregister(&made, &NAMES).unwrap(), None), None);
    let changed = made.replacen('{', "{\n    \"debug\": true,", 1);
    let rest = tidy(&unregister(&changed, &NAMES).unwrap(), None).unwrap();
    assert_eq!(read(&rest), serde_json::json!({ "debug": true }));
}

#[test]
fn two_keywheels_on_one_machine_do_not_take_each_other_out() {
    let other: Vec<Runtime> = ours()
        .into_iter()
        .map(|r| Runtime {
            name: format!("b-{}", r.name),
            ..r
        })
        .collect();
    let both = register(&register("", &ours()).unwrap(), &other).unwrap();
    let one = unregister(&both, &NAMES).unwrap();
    assert!(has_ours(&one) && read(&one)[RUNTIMES].get(NAMES[0]).is_none());
    assert_eq!(
        tidy(&one, None),
        Some(one.clone()),
        "the other one's file stays"
    );
    let none = unregister(&one, &["b-keywheel", "b-keywheel-default"]).unwrap();
    assert_eq!(tidy(&none, None), None);
}

#[test]
fn ours_at_another_place_is_updated_in_place() {
    let moved: Vec<Runtime> = ours()
        .into_iter()
        .map(|r| Runtime {
            path: format!("/opt/{WRAPPER}"),
            ..r
        })
        .collect();
    let after = register(&register("{\"debug\":true}", &moved).unwrap(), &ours()).unwrap();
    assert_eq!(
        read(&after)[RUNTIMES][NAMES[0]]["path"],
        "/usr/bin/keywheel-runtime"
    );
    assert_eq!(read(&after)[RUNTIMES].as_object().unwrap().len(), 2);
}

#[test]
fn a_runtime_of_somebody_else_is_neither_overwritten_nor_removed() {
    let theirs = "{\"runtimes\":{\"keywheel\":{\"path\":\"/usr/bin/runsc\"}}}";
    assert_eq!(
        register(theirs, &ours()),
        Err(Fault::Taken("keywheel".to_owned()))
    );
    assert_eq!(unregister(theirs, &NAMES).unwrap(), theirs);
}

#[test]
fn a_broken_file_is_refused_with_the_line() {
    let broken = "{\n  \"debug\": true,\n  \"x\": \n}\n";
    let fault = register(broken, &ours()).unwrap_err();
    assert!(matches!(fault, Fault::Broken { line: 4, .. }), "{fault:?}");
    assert!(matches!(
        unregister(broken, &NAMES),
        Err(Fault::Broken { line: 4, .. })
    ));
    for form in ["[]", "1", "{\"runtimes\":[]}"] {
        assert!(
            matches!(register(form, &ours()), Err(Fault::Form(_))),
            "{form}"
        );
    }
}

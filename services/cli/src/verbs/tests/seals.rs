//! `unseal`: a share belongs to the prompt, and what comes otherwise is shown by nobody.

use super::*;

#[tokio::test]
async fn a_share_on_the_command_line_is_refused_unsent_and_unshown() {
    let daemon = Daemon::serve("unseal-typed", &[]);
    for words in [
        &["unseal", "KWS1-0canary"][..],
        &["unseal", "KWS1", "0canary", "more"],
        &["unseal", "-o", "json", "KWS1-0canary"],
    ] {
        let failure = daemon.run(words).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.what.contains("shell's history"), "{failure}");
        assert!(!failure.to_string().contains("canary"), "{failure}");
        let line = [&["keywheel"][..], words].concat();
        let parsed = Cli::try_parse_from(line).unwrap();
        assert!(!format!("{parsed:?}").contains("canary"), "{parsed:?}");
    }
    assert!(daemon.seen.lock().unwrap().is_empty(), "nothing is sent");
}

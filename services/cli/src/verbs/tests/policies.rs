//! `policy apply`: what the gateway cannot read is told by the file that it came from.

use super::*;

#[tokio::test]
async fn a_set_that_is_refused_as_no_cedar_is_told_by_its_file_and_others_by_the_answer() {
    const PATH: &str = "POST /v1/policies";
    const REFUSED: &str = r#"{"type":"x","title":"t","status":400,"detail":"the policy that ends at line 4 is not Cedar: x","code":"invalid"}"#;
    let one = "@id(\"one\") permit (principal, action, resource);\n";
    let made = tempfile::tempdir().unwrap();
    std::fs::write(made.path().join("a.cedar"), one.repeat(3)).unwrap();
    let second = made.path().join("b.cedar");
    std::fs::write(&second, "permitt;\n").unwrap();
    let set = made.path().display().to_string();
    let words = ["policy", "apply", &set];
    let daemon = Daemon::serve("policies-misread", &[(PATH, 400, REFUSED)]);
    let failure = daemon.run(&words).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Input);
    assert!(failure.what.contains("b.cedar"), "{failure}");
    assert!(failure.what.contains("line 1 "), "{failure}");
    std::fs::write(&second, "// Nothing.\n").unwrap();
    let other = Daemon::serve("policies-other", &[(PATH, 400, INVALID)]);
    let failure = other.run(&words).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Input);
    assert!(failure.what.contains("stdin:1:2: bad"), "{failure}");
}

//! The IAM policy with which we can do our work in AWS Secrets Manager, and nothing else.
//!
//! Resources are by name: every secret's ARN ends in a hyphen and six characters that AWS chose, hence
//! the `-??????`. The bare name is for a secret that is not there yet: it has no such characters, and
//! no other secret's ARN is one. `ListSecrets` is not in it: only `keywheel import` lists, and it knows no resource.
//! A secret that is encrypted with a KMS key of one's own needs `kms:Decrypt`, and to be written
//! `kms:GenerateDataKey`, on that key as well.

use std::collections::BTreeSet;

use keywheel_core::store::AwsSpec;
use serde_json::{Value, json};

use crate::policy::{Access, Grant};

/// What looking and fetching need.
const READ: [&str; 2] = [DESCRIBE, GET];
/// What staging, promoting and revoking need besides.
const WRITE: [&str; 3] = [CREATE, PUT, LABEL];
/// To see a change.
pub(super) const DESCRIBE: &str = "secretsmanager:DescribeSecret";
/// To take a value.
pub(super) const GET: &str = "secretsmanager:GetSecretValue";
/// To make a secret.
pub(super) const CREATE: &str = "secretsmanager:CreateSecret";
/// To make a version.
pub(super) const PUT: &str = "secretsmanager:PutSecretValue";
/// To make a version current, and to end one.
pub(super) const LABEL: &str = "secretsmanager:UpdateSecretVersionStage";
/// The statement with [`READ`].
const READ_SID: &str = "KeywheelRead";
/// The statement with [`WRITE`].
const WRITE_SID: &str = "KeywheelWrite";
/// What is written where the account is not known.
const ANY: &str = "*";

/// The policy as indented JSON.
#[must_use]
pub(crate) fn text(spec: &AwsSpec, grants: &[Grant]) -> String {
    let all = resources(spec, grants, |_| true);
    let written = resources(spec, grants, |access| access == Access::Write);
    let mut statements = Vec::new();
    if !all.is_empty() {
        statements.push(statement(READ_SID, &READ, &all));
    }
    if !written.is_empty() {
        statements.push(statement(WRITE_SID, &WRITE, &written));
    }
    let document = json!({ "Version": "2012-10-17", "Statement": statements });
    format!("{document:#}")
}

fn statement(sid: &str, actions: &[&str], resources: &BTreeSet<String>) -> Value {
    json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources })
}

fn resources(
    spec: &AwsSpec,
    grants: &[Grant],
    wanted: impl Fn(Access) -> bool,
) -> BTreeSet<String> {
    let wanted = grants.iter().filter(|grant| wanted(grant.access));
    let paths = wanted.map(|grant| grant.source.path.as_str());
    paths
        .flat_map(|path| {
            let by_name = (!path.starts_with("arn:")).then(|| arn(spec, path));
            by_name.into_iter().chain([resource(spec, path)])
        })
        .collect()
}

/// The statement of the policy with this action.
pub(super) fn statement_of(action: &str) -> &'static str {
    if READ.contains(&action) {
        READ_SID
    } else {
        WRITE_SID
    }
}

/// The secrets that are called so; an ARN names one already.
pub(super) fn resource(spec: &AwsSpec, path: &str) -> String {
    if path.starts_with("arn:") {
        return path.to_owned();
    }
    format!("{}-??????", arn(spec, path))
}

/// As much of its ARN as its name tells.
fn arn(spec: &AwsSpec, path: &str) -> String {
    let region = Some(spec.region.as_str()).filter(|region| !region.is_empty());
    let partition = region.map_or("aws", partition);
    let region = region.unwrap_or(ANY);
    format!("arn:{partition}:secretsmanager:{region}:{ANY}:secret:{path}")
}

/// China and GovCloud are partitions of their own.
fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::store::{AwsAuth, Source};

    use super::*;

    fn spec(region: &str) -> AwsSpec {
        AwsSpec {
            region: region.to_owned(),
            endpoint: String::new(),
            auth: AwsAuth::Chain {
                profile: String::new(),
            },
        }
    }

    fn grant(path: &str, field: &str, access: Access) -> Grant {
        let (path, field) = (path.to_owned(), field.to_owned());
        let source = Source { path, field };
        Grant { source, access }
    }

    fn statements(spec: &AwsSpec, grants: &[Grant]) -> Vec<Value> {
        let document: Value = serde_json::from_str(&text(spec, grants)).unwrap();
        assert_eq!(document["Version"], "2012-10-17");
        document["Statement"].as_array().unwrap().clone()
    }

    #[test]
    fn what_is_only_read_gets_no_right_to_write() {
        let grants = [
            grant("prod/db", "password", Access::Write),
            grant("prod/db", "user", Access::Write),
            grant("prod/api", "", Access::Read),
        ];
        let all = statements(&spec("eu-central-1"), &grants);
        let [read, write] = &all[..] else {
            panic!("two statements: {all:?}");
        };
        let bare = |name| format!("arn:aws:secretsmanager:eu-central-1:*:secret:{name}");
        let of = |name| format!("{}-??????", bare(name));
        let both = |name| [bare(name), of(name)];
        assert_eq!(
            read["Resource"],
            json!([both("prod/api"), both("prod/db")].concat())
        );
        assert_eq!(read["Action"], json!(READ));
        assert_eq!(write["Resource"], json!(both("prod/db")));
        assert_eq!(write["Action"], json!(WRITE));
    }

    #[test]
    fn an_arn_is_named_as_it_is_and_partitions_are_known() {
        let arn = "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:a-AbCdEf";
        let all = statements(&spec(""), &[grant(arn, "", Access::Read)]);
        assert_eq!(all[0]["Resource"], json!([arn]));
        for (region, start) in [
            ("cn-north-1", "arn:aws-cn:secretsmanager:cn-north-1:"),
            (
                "us-gov-east-1",
                "arn:aws-us-gov:secretsmanager:us-gov-east-1:",
            ),
            ("", "arn:aws:secretsmanager:*:"),
        ] {
            let all = statements(&spec(region), &[grant("a", "", Access::Read)]);
            let resource = all[0]["Resource"][0].as_str().unwrap();
            assert!(resource.starts_with(start), "{resource}");
        }
    }

    #[test]
    fn for_no_place_there_is_no_statement() {
        assert!(statements(&spec(""), &[]).is_empty());
    }
}

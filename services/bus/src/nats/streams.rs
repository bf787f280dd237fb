//! The five streams: how each must be, making them, and comparing what is there with what was asked.
//!
//! Invariants: every stream is on disk, bounded in messages, bytes and (where old messages matter to
//! nobody) age, drops its oldest, and lets nobody delete or purge a message. A difference is named,
//! never repaired in silence.

use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{Context, Error, ErrorCode};
use keywheel_engine::late::REPEAT_LIMIT;
use keywheel_engine::port::bus::TOPIC_CAPACITY;
use keywheel_schemas::subject::Subjects;

use super::options::Unfit;

/// Bytes the stream of one topic keeps.
pub const STREAM_BYTES: i64 = 64 << 20;
/// Bytes the stream of all host plans keeps.
pub const PLAN_STREAM_BYTES: i64 = 256 << 20;
/// Hosts whose plans are kept.
pub const MAX_PLANS: i64 = 16_384;
/// How long a message waits for a consumer that is away; afterwards it reads the gateway's log.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the bus server remembers a message's id; what comes again later is no repeat.
pub const DUPLICATE_WINDOW: Duration = REPEAT_LIMIT;

/// The status of an answer by whoever cannot help now.
const UNAVAILABLE: usize = 503;

/// Every stream as it must be.
pub(super) fn wanted(subjects: &Subjects, replicas: usize) -> [Config; 5] {
    let base = |name, subject| Config {
        name,
        subjects: vec![subject],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_messages: i64::try_from(TOPIC_CAPACITY).unwrap_or(i64::MAX),
        max_messages_per_subject: -1,
        max_bytes: STREAM_BYTES,
        max_age: MAX_AGE,
        max_message_size: -1,
        max_consumers: -1,
        duplicate_window: DUPLICATE_WINDOW,
        num_replicas: replicas,
        deny_delete: true,
        deny_purge: true,
        allow_direct: false,
        ..Config::default()
    };
    let newest = |config: Config| Config {
        max_messages: MAX_PLANS,
        max_messages_per_subject: 1,
        max_bytes: PLAN_STREAM_BYTES,
        max_age: Duration::ZERO,
        ..config
    };
    [
        base(subjects.event_stream(), subjects.events()),
        base(subjects.audit_stream(), subjects.audit()),
        Config {
            retention: RetentionPolicy::WorkQueue,
            ..base(subjects.work_stream(), subjects.all_work())
        },
        newest(base(subjects.plan_stream(), subjects.plans())),
        newest(base(subjects.host_stream(), subjects.hosts())),
    ]
}

/// Makes a stream unless it is there, and compares; gives when it was made, in nanoseconds: another
/// time is another stream, whoever made it.
pub(super) async fn ensure(context: &Context, wanted: &Config) -> Result<i128, Unfit> {
    let fault = |reason: String| Unfit::Stream {
        stream: wanted.name.clone(),
        reason,
    };
    let found = match context.get_stream(&wanted.name).await {
        Ok(stream) => {
            let info = stream.cached_info();
            compare(wanted, &info.config)?;
            return Ok(info.created.unix_timestamp_nanos());
        }
        Err(error) => error,
    };
    match found.kind() {
        GetStreamErrorKind::JetStream(error) if error.code() == 404 => {}
        _ => return Err(fault(found.to_string())),
    }
    let made = context.create_stream(wanted.clone()).await;
    let stream = made.map_err(|error| match error.kind() {
        CreateStreamErrorKind::JetStream(refusal) if !may_pass(&refusal) => Unfit::StreamRefused {
            stream: wanted.name.clone(),
            reason: refusal.to_string(),
        },
        _ => fault(error.to_string()),
    })?;
    let info = stream.cached_info();
    compare(wanted, &info.config)?;
    tracing::info!(stream = wanted.name, "stream made");
    Ok(info.created.unix_timestamp_nanos())
}

/// Whether a bus server says no only until its cluster has a leader, or enough servers.
fn may_pass(refusal: &Error) -> bool {
    refusal.code() == UNAVAILABLE || refusal.error_code() == ErrorCode::CLUSTER_NO_PEERS
}

/// Names the first setting that is not as it was asked for.
pub(super) fn compare(wanted: &Config, found: &Config) -> Result<(), Unfit> {
    let text = |config: &Config| -> [(&'static str, String); 20] {
        [
            ("subjects", format!("{:?}", config.subjects)),
            ("storage", format!("{:?}", config.storage)),
            ("retention", format!("{:?}", config.retention)),
            ("discard", format!("{:?}", config.discard)),
            ("num_replicas", config.num_replicas.to_string()),
            ("max_msgs", config.max_messages.to_string()),
            (
                "max_msgs_per_subject",
                config.max_messages_per_subject.to_string(),
            ),
            ("max_bytes", config.max_bytes.to_string()),
            ("max_age", format!("{:?}", config.max_age)),
            ("max_msg_size", config.max_message_size.to_string()),
            ("max_consumers", config.max_consumers.to_string()),
            ("duplicate_window", format!("{:?}", config.duplicate_window)),
            ("deny_delete", config.deny_delete.to_string()),
            ("deny_purge", config.deny_purge.to_string()),
            ("no_ack", config.no_ack.to_string()),
            ("sealed", config.sealed.to_string()),
            ("allow_rollup_hdrs", config.allow_rollup.to_string()),
            ("allow_msg_ttl", config.allow_message_ttl.to_string()),
            ("persist_mode", persistence(config).to_owned()),
            ("origin", origin(config).to_owned()),
        ]
    };
    for ((field, wanted_text), (_, found_text)) in text(wanted).into_iter().zip(text(found)) {
        if wanted_text != found_text {
            return Err(Unfit::StreamDiffers {
                stream: wanted.name.clone(),
                field,
                found: found_text,
                wanted: wanted_text,
            });
        }
    }
    Ok(())
}

/// Whether an acknowledged message is on its way to the disk, or only in memory.
fn persistence(config: &Config) -> &'static str {
    match config.persist_mode {
        Some(PersistenceMode::Async) => "async",
        _ => "default",
    }
}

/// Where messages come from and go to besides publishers and consumers.
fn origin(config: &Config) -> &'static str {
    let is_plain = config.mirror.is_none()
        && config.sources.as_ref().is_none_or(Vec::is_empty)
        && config.republish.is_none()
        && config.subject_transform.is_none();
    if is_plain {
        "publishers"
    } else {
        "a mirror, source, republish or transform"
    }
}

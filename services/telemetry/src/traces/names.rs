//! Every span and every attribute, in one place: what it is called and what it says.
//!
//! Names that OpenTelemetry's semantic conventions have are theirs (version 1.42: `http`, `rpc`,
//! `messaging`, `error`, `service`); what they have no word for begins with `keywheel.`. A span of a
//! request over the bus is called by its method, one that takes work from it by operation and
//! destination. Invariant: no attribute ever holds a value, its length or its digest.

/// The conventions that names follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";
/// What makes the spans.
pub const SCOPE: &str = "keywheel";

/// Our word for both systems.
pub const SYSTEM: &str = "keywheel";

macro_rules! names {
    ($(#[doc = $what:literal])* $list:ident; $($(#[doc = $doc:literal])* $constant:ident = $name:literal;)*) => {
        $($(#[doc = $doc])* pub const $constant: &str = $name;)*

        $(#[doc = $what])*
        pub const $list: &[(&str, &str)] = &[$(($name, concat!($($doc),*))),*];
    };
}

names! {
    /// What every span says of its process, and its meaning.
    RESOURCE;
    /// Of a process: the service, such as `keywheel-gateway`.
    SERVICE_NAME = "service.name";
    /// Of a process: all services of ours.
    SERVICE_NAMESPACE = "service.namespace";
    /// Of a process: which of several.
    SERVICE_INSTANCE_ID = "service.instance.id";
    /// Of a process: the build.
    SERVICE_VERSION = "service.version";
    /// Of a process: its machine.
    HOST_NAME = "host.name";
}

names! {
    /// Every span but those of HTTP requests, and its meaning.
    SPANS;
    /// From the first event of a rotation to its last.
    ROTATION = "rotation";
    /// From the first event of a revocation to its last.
    REVOCATION = "revocation";
    /// The OCI runtime makes a container: from the engine's call to the last answer of the injector.
    RUNTIME = "runtime/create";
    /// Of that, the real runtime's part: namespaces, file systems, a process that has run nothing yet.
    REAL_RUNTIME = "runtime/real";
    /// A container's start is asked for at the injector: what goes into it is chosen and fetched.
    START = "injector/resolve";
    /// Files are put into a container that is created.
    ATTACH = "injector/attach";
    /// A command comes to the gateway over the bus.
    SUBMIT = "gateway/submit";
    /// The gateway is asked whether a host may have a version.
    GRANT = "gateway/grant";
    /// store-sync is asked for a value, sealed to a host.
    OPEN_VALUE = "store-sync/open_value";
    /// Work that store-sync takes; the step stands before it: `create work.store-sync`.
    WORK = "work.store-sync";
    /// The audit sink keeps a record: from when it came until it is on the disk.
    KEEP = "keep audit";
    /// A file is replaced in a running container.
    REPLACE = "replace";
    /// A container is restarted, to take a version.
    RESTART = "restart";
    /// A reload command runs in a container.
    RELOAD_COMMAND = "reload";
    /// What a container may not hold any more is taken from it.
    WITHDRAW = "withdraw";
    /// A timer of the scheduler ran out.
    TIMER = "timer";
    /// store-sync saw something new at a store outside, and tells it.
    LOOK = "look";
}

names! {
    /// What a span may say, and its meaning.
    ATTRIBUTES;
    /// Method of an HTTP request.
    HTTP_METHOD = "http.request.method";
    /// Its route.
    HTTP_ROUTE = "http.route";
    /// Status of its answer.
    HTTP_STATUS = "http.response.status_code";
    /// What sort of error ended it.
    ERROR_TYPE = "error.type";
    /// How services ask each other; always `keywheel`.
    RPC_SYSTEM = "rpc.system.name";
    /// What is asked.
    RPC_METHOD = "rpc.method";
    /// What carries work; always `keywheel`.
    MESSAGING_SYSTEM = "messaging.system";
    /// The step.
    MESSAGING_OPERATION = "messaging.operation.name";
    /// What is done with a message; always `process`.
    MESSAGING_OPERATION_TYPE = "messaging.operation.type";
    /// The topic.
    MESSAGING_DESTINATION = "messaging.destination.name";
    /// The command's word.
    COMMAND = "keywheel.command";
    /// A secret's name.
    SECRET_NAME = "keywheel.secret.name";
    /// A secret's id, where its name is not known.
    SECRET_ID = "keywheel.secret.id";
    /// A version's number.
    VERSION = "keywheel.version";
    /// A rotation's id.
    ROTATION_ID = "keywheel.rotation.id";
    /// A revocation's id.
    REVOCATION_ID = "keywheel.revocation.id";
    /// How a rotation ended.
    OUTCOME = "keywheel.outcome";
    /// Which attempt, first is 1.
    ATTEMPT = "keywheel.attempt";
    /// A store's name; `local` for our own.
    STORE = "keywheel.store.name";
    /// A binding's name.
    BINDING = "keywheel.binding.name";
    /// A host's name.
    HOST = "keywheel.host.name";
    /// A host's id, where its name is not known.
    HOST_ID = "keywheel.host.id";
    /// A container's id.
    CONTAINER_ID = "container.id";
    /// A container's name.
    CONTAINER_NAME = "container.name";
}

#[cfg(test)]
mod tests {
    use opentelemetry_semantic_conventions::{self as published, attribute, resource};

    use super::*;

    /// What the conventions have a word for, beside their own constant; one that they deprecate does not compile.
    const THEIRS: [(&str, &str); 18] = [
        (SERVICE_NAME, resource::SERVICE_NAME),
        (SERVICE_NAMESPACE, resource::SERVICE_NAMESPACE),
        (SERVICE_INSTANCE_ID, resource::SERVICE_INSTANCE_ID),
        (SERVICE_VERSION, resource::SERVICE_VERSION),
        (HOST_NAME, resource::HOST_NAME),
        (HTTP_METHOD, attribute::HTTP_REQUEST_METHOD),
        (HTTP_ROUTE, attribute::HTTP_ROUTE),
        (HTTP_STATUS, attribute::HTTP_RESPONSE_STATUS_CODE),
        (ERROR_TYPE, attribute::ERROR_TYPE),
        (RPC_SYSTEM, attribute::RPC_SYSTEM_NAME),
        (RPC_METHOD, attribute::RPC_METHOD),
        (MESSAGING_SYSTEM, attribute::MESSAGING_SYSTEM),
        (MESSAGING_OPERATION, attribute::MESSAGING_OPERATION_NAME),
        (
            MESSAGING_OPERATION_TYPE,
            attribute::MESSAGING_OPERATION_TYPE,
        ),
        (MESSAGING_DESTINATION, attribute::MESSAGING_DESTINATION_NAME),
        (CONTAINER_ID, attribute::CONTAINER_ID),
        (CONTAINER_NAME, attribute::CONTAINER_NAME),
        (SCHEMA_URL, published::SCHEMA_URL),
    ];

    #[test]
    fn what_the_conventions_have_a_word_for_is_called_by_it_and_all_else_is_ours() {
        for (ours, theirs) in THEIRS {
            assert_eq!(ours, theirs);
        }
        for (name, _) in RESOURCE.iter().chain(ATTRIBUTES) {
            let is_theirs = THEIRS.iter().any(|(ours, _)| ours == name);
            assert_ne!(is_theirs, name.starts_with("keywheel."), "{name}");
        }
    }
}

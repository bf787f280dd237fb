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
    /// A file is replaced in a running container.
    REPLACE = "replace";
    /// A container is restarted, to take a version.
    RESTART = "restart";
    /// What a container may not hold any more is taken from it.
    WITHDRAW = "withdraw";
    /// A timer of the scheduler ran out.
    TIMER = "timer";
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

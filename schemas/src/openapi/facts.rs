//! What a request may say of a container.

use super::route::{Parameter, text};

/// What a host's engine says of a container, as selectors compare it.
pub(super) const FACTS: &[Parameter] = &[
    text(
        "host",
        "Name of the host that the container is on; has to be given.",
    ),
    text("id", "The container's full id; has to be given."),
    text("name", "Its name."),
    text("image_digest", "Config digest of its image."),
    text(
        "image",
        "Its image, as whoever made the container wrote it.",
    ),
    text(
        "user",
        "The user that it is configured to run as; without it none is known.",
    ),
    text("labels", "Its labels, as one JSON object of texts."),
];

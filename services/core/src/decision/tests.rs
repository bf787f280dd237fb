//! Given/when/then over commands.

//! What deleting means.

//! ManifestWork clients on CloudEvents.

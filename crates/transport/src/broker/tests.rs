//! The broker as a client sees it.

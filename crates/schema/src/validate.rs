//! Values against their schema.

//! Validation rules in CEL.

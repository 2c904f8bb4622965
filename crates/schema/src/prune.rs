//! Unknown fields are dropped, and named.

//! The built-in kinds: what they are called, how they are shaped, defaulted, validated and printed.

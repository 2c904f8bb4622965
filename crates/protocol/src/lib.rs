//! What goes over the wire, and in which order, without doing it.

//! How the agent makes its cluster known to the hub.

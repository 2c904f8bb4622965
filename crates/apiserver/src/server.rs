//! Requests in, responses out.

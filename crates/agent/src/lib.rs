//! Make one cluster match its works, and report.

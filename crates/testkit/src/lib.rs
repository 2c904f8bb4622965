//! Simulated worlds, seeded faults and real peers for tests and benches.

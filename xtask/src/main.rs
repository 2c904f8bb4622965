//! The project's own checks and generators.

mod builtin;

use clap::Parser;

#[derive(Parser)]
#[command(about = "The project's own checks and generators")]
enum Task {
    /// Writes the shapes of the built-in Kubernetes kinds (needs `go` to fetch their modules).
    Builtin,
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Builtin => builtin::run(),
    }
}

//! `drover status`, `drover clusters list` and `drover works list`: the fleet for people, what is wrong first, once or while it changes.

use std::time::Duration;

use anyhow::{Result, bail};
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::{self, Global, Output};
use crate::look::{Following, Look};
use crate::print;
use crate::screen::{Screen, cut};
use crate::show::{self, Much, Rows};
use crate::view::{Hub, Severity};

/// Changes that come together are shown together.
const TOGETHER: Duration = Duration::from_millis(200);
/// How often a picture is drawn anew, so that the times in it stay true.
const REDRAW: Duration = Duration::from_secs(5);

/// What is shown.
#[derive(Clone, Debug)]
enum What {
    Tree { cluster: Option<String>, much: Much },
    Clusters,
    Works,
}

/// Shows the fleet, or one cluster of it.
pub async fn run(args: cli::Status, global: &Global) -> Result<()> {
    let much = if args.cluster.is_some() || global.output == Output::Wide {
        Much::Everything
    } else if args.all {
        Much::All
    } else {
        Much::Brief
    };
    let look = Look::new(global, args.cluster.clone()).await?;
    let cluster = args.cluster;
    show(What::Tree { cluster, much }, look, args.follow, global).await
}

/// Lists clusters.
pub async fn clusters(args: cli::ClustersList, global: &Global) -> Result<()> {
    let look = Look::new(global, None).await?;
    show(What::Clusters, look, args.follow, global).await
}

/// Lists works.
pub async fn works(args: cli::Works, global: &Global) -> Result<()> {
    let list = match args.command {
        Some(cli::WorksCommand::List(list)) => list,
        None => args.list,
    };
    let look = Look::new(global, list.namespace).await?;
    show(What::Works, look, list.follow, global).await
}

async fn show(what: What, look: Look, follow: cli::Follow, global: &Global) -> Result<()> {
    if follow.watch {
        let following = look.follow();
        let stopped = tokio::signal::ctrl_c();
        return tokio::select! {
            outcome = what.follow(&following, global.output) => outcome,
            stopped = stopped => Ok(stopped?),
        };
    }
    let hubs = what.pick(look.once().await);
    if let What::Tree {
        cluster: Some(wanted),
        ..
    } = &what
        && hubs
            .iter()
            .all(|hub| hub.clusters.is_empty() && hub.problem.is_none())
    {
        bail!("no hub has a cluster {wanted:?}; `drover clusters` lists them");
    }
    if let Some(document) = what.document(&hubs, global.output) {
        print::value(&document, global.output)?;
    } else {
        print_lines(what.lines(&hubs, global.output), global.output)?;
    }
    answered(&hubs)
}

/// Prints lines, cut to the screen unless everything was asked for.
fn print_lines(lines: Vec<String>, output: Output) -> Result<()> {
    let lines = match output {
        Output::Wide => lines,
        _ => cut(lines, Screen::new().width()),
    };
    lines.iter().try_for_each(|line| print::line(line))
}

/// Fails when a hub did not answer: what was printed is not all.
fn answered(hubs: &[Hub]) -> Result<()> {
    let mut silent = Vec::new();
    for hub in hubs {
        if let Some(problem) = &hub.problem {
            silent.push(format!("{} cannot be read: {problem}", hub.name));
        }
    }
    if silent.is_empty() {
        return Ok(());
    }
    bail!("{}", silent.join("; "))
}

impl What {
    /// Leaves out hubs that have nothing to do with what was asked for.
    fn pick(&self, mut hubs: Vec<Hub>) -> Vec<Hub> {
        if let Self::Tree {
            cluster: Some(_), ..
        } = self
        {
            hubs.retain(|hub| !hub.clusters.is_empty() || hub.problem.is_some());
        }
        hubs
    }

    fn lines(&self, hubs: &[Hub], output: Output) -> Vec<String> {
        let now = Timestamp::now();
        match self {
            Self::Tree { much, .. } => show::tree(hubs, *much, now),
            Self::Clusters | Self::Works => self.rows(hubs, output, Some(now)).lines(),
        }
    }

    fn rows(&self, hubs: &[Hub], output: Output, now: show::Now) -> Rows {
        let wide = output == Output::Wide;
        match self {
            Self::Tree { .. } => show::states(hubs),
            Self::Clusters => show::clusters(hubs, wide, now),
            Self::Works => show::works(hubs, wide, now),
        }
    }

    fn document(&self, hubs: &[Hub], output: Output) -> Option<Value> {
        if output.is_for_people() {
            return None;
        }
        Some(match self {
            Self::Tree { .. } => show::document(hubs),
            Self::Clusters => show::cluster_list(hubs),
            Self::Works => show::work_list(hubs),
        })
    }

    /// Shows what changes, until somebody stops it.
    async fn follow(&self, following: &Following, output: Output) -> Result<()> {
        let mut screen = Screen::new();
        let drawn = output.is_for_people() && screen.is_terminal();
        let mut printed = Printed::default();
        loop {
            if following.is_complete() {
                let hubs = self.pick(following.hubs());
                match self.document(&hubs, output) {
                    Some(document) => printed.document(document, output)?,
                    None if drawn => screen.draw(self.lines(&hubs, output))?,
                    None => printed.rows(self.rows(&hubs, output, None), output, self)?,
                }
            }
            let tick = async {
                if drawn {
                    tokio::time::sleep(REDRAW).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = following.changed() => tokio::time::sleep(TOGETHER).await,
                () = tick => {}
            }
        }
    }
}

/// What was printed last, so that only news are printed.
#[derive(Default)]
struct Printed {
    document: Option<Value>,
    rows: Option<Rows>,
}

impl Printed {
    fn document(&mut self, document: Value, output: Output) -> Result<()> {
        if self.document.as_ref() == Some(&document) {
            return Ok(());
        }
        if output == Output::Yaml {
            print::line("---")?;
            print::value(&document, output)?;
        } else {
            print::line(&document.to_string())?;
        }
        self.document = Some(document);
        Ok(())
    }

    fn rows(&mut self, rows: Rows, output: Output, what: &What) -> Result<()> {
        let lines = match &self.rows {
            Some(before) => show::columns(None, rows.since(before).into_iter()),
            None => first(rows.clone(), what).lines(),
        };
        print_lines(lines, output)?;
        self.rows = Some(rows);
        Ok(())
    }
}

/// Of a whole fleet only what is wrong is told at first.
fn first(mut rows: Rows, what: &What) -> Rows {
    if let What::Tree { .. } = what {
        let good = show::word(Severity::Good);
        rows.rows
            .retain(|(_, row)| !row.iter().any(|cell| cell == good));
    }
    rows
}

//! Where lines go: to a terminal, in place and cut to its size, or one after the other.

use std::io;

use anyhow::Result;
use console::{Term, truncate_str};

use crate::print;

/// How wide a line may be where there is no terminal to ask.
const WIDTH: usize = 200;

/// Cuts lines to a width, counted as terminals count.
pub fn cut(lines: Vec<String>, width: usize) -> Vec<String> {
    let cut = |line: String| truncate_str(&line, width, "…").into_owned();
    lines.into_iter().map(cut).collect()
}

/// Standard output.
pub struct Screen {
    term: Term,
    /// Lines that the next picture replaces.
    drawn: usize,
}

impl Screen {
    /// Standard output, whatever it is.
    pub fn new() -> Self {
        Self {
            term: Term::stdout(),
            drawn: 0,
        }
    }

    /// Whether somebody looks at it.
    pub fn is_terminal(&self) -> bool {
        self.term.is_term()
    }

    /// How many columns there are.
    pub fn width(&self) -> usize {
        let size = self.term.size_checked().filter(|_| self.is_terminal());
        size.map_or(WIDTH, |(_, columns)| usize::from(columns).max(20))
    }

    /// Replaces the picture that was drawn before; what does not fit is counted, not shown.
    pub fn draw(&mut self, lines: Vec<String>) -> Result<()> {
        let height = self
            .term
            .size_checked()
            .map_or(24, |(rows, _)| usize::from(rows));
        let lines = fit(cut(lines, self.width()), height.saturating_sub(1).max(2));
        told(self.term.clear_last_lines(self.drawn))?;
        for line in &lines {
            told(self.term.write_line(line))?;
        }
        self.drawn = lines.len();
        Ok(())
    }
}

/// At most so many lines.
pub fn fit(mut lines: Vec<String>, height: usize) -> Vec<String> {
    if lines.len() > height {
        let hidden = lines.len() - (height - 1);
        lines.truncate(height - 1);
        lines.push(format!("… and {hidden} more lines"));
    }
    lines
}

fn told(outcome: io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(print::ClosedPipe.into()),
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn lines_are_cut_to_the_screen() {
        assert_eq!(
            cut(lines(&["short", "a longer line", "wide: 漢字漢字"]), 10),
            ["short", "a longer …", "wide: 漢…"]
        );
        assert_eq!(fit(lines(&["a", "b"]), 2), ["a", "b"]);
        assert_eq!(
            fit(lines(&["a", "b", "c", "d"]), 3),
            ["a", "b", "… and 2 more lines"]
        );
    }
}

//! From text to steps.

use serde_json::Value;

use super::{Filter, Operand, Operator, Step};

/// A path has at most this many bytes.
const MAX_BYTES: usize = 4_096;

/// Filters nest at most this deep.
const MAX_DEPTH: usize = 8;

/// The steps of a path, or why there are none.
pub(super) fn steps(path: &str) -> Result<Vec<Step>, String> {
    if path.len() > MAX_BYTES {
        return Err(format!("longer than {MAX_BYTES} bytes"));
    }
    let text = path.trim();
    let text = match text.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}').ok_or("unclosed action")?.trim(),
        None => text,
    };
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
    };
    parser.skip('$');
    parser.skip('@');
    let steps = parser.steps(true)?;
    match parser.peek() {
        None => Ok(steps),
        Some(c) => Err(format!("unexpected {c:?} at {}", parser.at)),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        if there {
            self.at += c.len_utf8();
        }
        there
    }

    fn spaces(&mut self) {
        while self.skip(' ') {}
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.skip(c) {
            return Ok(());
        }
        Err(match self.peek() {
            Some(found) => format!("expected {c:?} at {}, found {found:?}", self.at),
            None => format!("expected {c:?} at the end"),
        })
    }

    /// Steps until something that is none. `bare`: the first may be a name without a dot.
    fn steps(&mut self, bare: bool) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        if bare && self.peek().is_some_and(is_name) {
            steps.push(self.field()?);
        }
        loop {
            match self.peek() {
                Some('.') => {
                    self.at += 1;
                    if self.skip('.') {
                        steps.push(Step::Deep);
                    }
                    match self.peek() {
                        Some('[') => (),
                        Some('*') => {
                            self.at += 1;
                            steps.push(Step::All);
                        }
                        Some(c) if is_name(c) => steps.push(self.field()?),
                        // `.` alone is the value itself.
                        None if steps.is_empty() => (),
                        None => return Err("ends with a dot".to_owned()),
                        Some(c) => return Err(format!("unexpected {c:?} at {}", self.at)),
                    }
                }
                Some('[') => {
                    self.at += 1;
                    steps.push(self.bracket()?);
                }
                _ => return Ok(steps),
            }
        }
    }

    /// A name after a dot; `\` takes the next character as it is.
    fn field(&mut self) -> Result<Step, String> {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|&c| is_name(c)) {
            self.at += c.len_utf8();
            match c {
                '\\' => name.push(self.next().ok_or("ends with a backslash")?),
                c => name.push(c),
            }
        }
        Ok(Step::Field(name.into()))
    }

    /// What follows an opening bracket, to the closing one.
    fn bracket(&mut self) -> Result<Step, String> {
        self.spaces();
        if self.skip('?') {
            self.expect('(')?;
            let filter = self.filter()?;
            self.expect(')')?;
            self.spaces();
            self.expect(']')?;
            return Ok(Step::Filter(Box::new(filter)));
        }
        let mut steps = Vec::new();
        loop {
            self.spaces();
            steps.push(self.selector()?);
            self.spaces();
            if self.skip(']') {
                break;
            }
            self.expect(',')?;
        }
        Ok(match steps.len() {
            1 => steps.swap_remove(0),
            _ => Step::Union(steps),
        })
    }

    fn selector(&mut self) -> Result<Step, String> {
        match self.peek() {
            Some('*') => {
                self.at += 1;
                Ok(Step::All)
            }
            Some('\'' | '"') => Ok(Step::Field(self.quoted()?.into())),
            Some(c) if c == '-' || c == ':' || c.is_ascii_digit() => self.index(),
            Some(c) if is_name(c) => self.field(),
            Some(c) => Err(format!("unexpected {c:?} in brackets at {}", self.at)),
            None => Err("unclosed bracket".to_owned()),
        }
    }

    fn index(&mut self) -> Result<Step, String> {
        let start = self.integer()?;
        if !self.skip(':') {
            return start
                .map(Step::Index)
                .ok_or_else(|| "expected an index".to_owned());
        }
        let end = self.integer()?;
        let step = if self.skip(':') {
            self.integer()?
        } else {
            None
        };
        match step.unwrap_or(1) {
            step if step > 0 => Ok(Step::Slice { start, end, step }),
            step => Err(format!("the step of a slice must be positive, not {step}")),
        }
    }

    fn integer(&mut self) -> Result<Option<i64>, String> {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|&(i, c)| !(c.is_ascii_digit() || (i == 0 && c == '-')))
            .map_or(rest.len(), |(i, _)| i);
        let digits = &rest[..end];
        if digits.is_empty() {
            return Ok(None);
        }
        let number = digits
            .parse()
            .map_err(|_| format!("{digits:?} is not an index"))?;
        self.at += end;
        Ok(Some(number))
    }

    /// A text in quotes of either kind; `\` takes the next character as it is.
    fn quoted(&mut self) -> Result<String, String> {
        let quote = self.next().unwrap_or('"');
        let mut text = String::new();
        loop {
            match self.next().ok_or("unclosed quote")? {
                '\\' => text.push(self.next().ok_or("unclosed quote")?),
                c if c == quote => return Ok(text),
                c => text.push(c),
            }
        }
    }

    fn filter(&mut self) -> Result<Filter, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("filters nest deeper than {MAX_DEPTH}"));
        }
        self.spaces();
        let left = self.operand()?;
        self.spaces();
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::Unequal),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        let found = operators
            .into_iter()
            .find(|(sign, _)| self.rest().starts_with(sign));
        let test = match found {
            Some((sign, operator)) => {
                self.at += sign.len();
                self.spaces();
                Some((operator, self.operand()?))
            }
            None => None,
        };
        self.spaces();
        self.depth -= 1;
        Ok(Filter { left, test })
    }

    fn operand(&mut self) -> Result<Operand, String> {
        match self.peek() {
            Some('@') => {
                self.at += 1;
                Ok(Operand::Path(self.steps(false)?))
            }
            Some('.') => Ok(Operand::Path(self.steps(false)?)),
            Some('\'' | '"') => Ok(Operand::Literal(self.quoted()?.into())),
            _ => self.literal().map(Operand::Literal),
        }
    }

    fn literal(&mut self) -> Result<Value, String> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')))
            .unwrap_or(rest.len());
        let word = &rest[..end];
        let value = match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "nil" | "null" => Value::Null,
            _ => serde_json::from_str::<serde_json::Number>(word)
                .map(Value::Number)
                .map_err(|_| format!("{word:?} is neither quoted, a number, true nor false"))?,
        };
        self.at += end;
        Ok(value)
    }
}

/// Whether a character may be part of a name after a dot.
fn is_name(c: char) -> bool {
    !matches!(
        c,
        '.' | '[' | ']' | '(' | ')' | '{' | '}' | '\'' | '"' | '$' | '@' | '*' | ',' | ' '
    ) && !matches!(c, '=' | '!' | '<' | '>' | '?' | '\t' | '\n' | '\r')
}

//! Text of selectors into tokens, tokens into requirements.

use std::borrow::Cow;

use super::{Operator, Requirement, SelectorError, check_key};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Less,
    NotEquals,
    Open,
    In,
    NotIn,
    Identifier,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
}

const END: Token<'static> = Token {
    kind: Kind::End,
    text: "",
};

fn is_special(byte: u8) -> bool {
    b"=!(),><".contains(&byte)
}

fn is_space(byte: u8) -> bool {
    b" \t\r\n".contains(&byte)
}

/// Splits at ASCII bytes only, so every piece is text again.
fn scan(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(&first) = rest.as_bytes().first() else {
            return tokens;
        };
        let (kind, length) = if is_special(first) {
            match (first, rest.as_bytes().get(1)) {
                (b'=', Some(b'=')) => (Kind::DoubleEquals, 2),
                (b'!', Some(b'=')) => (Kind::NotEquals, 2),
                (b'=', _) => (Kind::Equals, 1),
                (b'!', _) => (Kind::Not, 1),
                (b'(', _) => (Kind::Open, 1),
                (b')', _) => (Kind::Close, 1),
                (b'>', _) => (Kind::Greater, 1),
                (b'<', _) => (Kind::Less, 1),
                (_, _) => (Kind::Comma, 1),
            }
        } else {
            let end = rest
                .bytes()
                .position(|byte| is_special(byte) || is_space(byte));
            let end = end.unwrap_or(rest.len());
            match &rest[..end] {
                "in" => (Kind::In, end),
                "notin" => (Kind::NotIn, end),
                _ => (Kind::Identifier, end),
            }
        };
        tokens.push(Token {
            kind,
            text: &rest[..length],
        });
        rest = &rest[length..];
    }
}

fn fail<T>(message: String) -> Result<T, SelectorError> {
    Err(SelectorError(message))
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    place: usize,
}

impl<'a> Parser<'a> {
    /// The next token; where a value may stand, `in` and `notin` are values.
    fn peek(&self) -> Token<'a> {
        let mut token = self.tokens.get(self.place).copied().unwrap_or(END);
        if matches!(token.kind, Kind::In | Kind::NotIn) {
            token.kind = Kind::Identifier;
        }
        token
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.place += 1;
        token
    }

    fn take_operator(&mut self) -> Token<'a> {
        let token = self.tokens.get(self.place).copied().unwrap_or(END);
        self.place += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut token = self.take();
        let negated = token.kind == Kind::Not;
        if negated {
            token = self.take();
        }
        if token.kind != Kind::Identifier {
            return fail(format!("found '{}', expected: identifier", token.text));
        }
        let key = token.text;
        if let Some(error) = check_key("<nil>", key) {
            return fail(error.to_string());
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek().kind, Kind::End | Kind::Comma) {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.set()?,
            _ => vec![self.exact()?],
        };
        let mut values: Vec<Box<str>> = values.into_iter().map(Box::from).collect();
        values.sort_unstable();
        values.dedup();
        Requirement::new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        let token = self.take_operator();
        Ok(match token.kind {
            Kind::In => Operator::In,
            Kind::NotIn => Operator::NotIn,
            Kind::Equals => Operator::Equals,
            Kind::DoubleEquals => Operator::DoubleEquals,
            Kind::NotEquals => Operator::NotEquals,
            Kind::Greater => Operator::GreaterThan,
            Kind::Less => Operator::LessThan,
            _ => {
                return fail(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    token.text
                ));
            }
        })
    }

    fn exact(&mut self) -> Result<&'a str, SelectorError> {
        if matches!(self.peek().kind, Kind::End | Kind::Comma) {
            return Ok("");
        }
        let token = self.take();
        match token.kind {
            Kind::Identifier => Ok(token.text),
            _ => fail(format!("found '{}', expected: identifier", token.text)),
        }
    }

    fn set(&mut self) -> Result<Vec<&'a str>, SelectorError> {
        let open = self.take();
        if open.kind != Kind::Open {
            return fail(format!("found '{}' expected: '('", open.text));
        }
        let token = self.peek();
        match token.kind {
            Kind::Close => {
                self.place += 1;
                Ok(vec![""])
            }
            Kind::Identifier | Kind::Comma => {
                let values = self.identifiers()?;
                self.place += 1;
                Ok(values)
            }
            _ => fail(format!(
                "found '{}', expected: ',', ')' or identifier",
                token.text
            )),
        }
    }

    /// Ends in front of the closing parenthesis.
    fn identifiers(&mut self) -> Result<Vec<&'a str>, SelectorError> {
        let mut values = Vec::new();
        loop {
            let token = self.take();
            let next = self.peek();
            match token.kind {
                Kind::Identifier => {
                    values.push(token.text);
                    match next.kind {
                        Kind::Comma => {}
                        Kind::Close => return Ok(values),
                        _ => return fail(format!("found '{}', expected: ',' or ')'", next.text)),
                    }
                }
                Kind::Comma => {
                    if values.is_empty() || next.kind == Kind::Comma {
                        values.push("");
                    }
                    if next.kind == Kind::Close {
                        values.push("");
                        return Ok(values);
                    }
                }
                _ => {
                    return fail(format!(
                        "found '{}', expected: ',', or identifier",
                        token.text
                    ));
                }
            }
        }
    }
}

/// The requirements of a label selector, in the order of the text.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser {
        tokens: scan(text),
        place: 0,
    };
    let mut requirements = Vec::new();
    loop {
        let token = parser.peek();
        match token.kind {
            Kind::End => return Ok(requirements),
            Kind::Identifier | Kind::Not => {
                let requirement = parser.requirement().map_err(|SelectorError(why)| {
                    SelectorError(format!("unable to parse requirement: {why}"))
                })?;
                requirements.push(requirement);
            }
            _ => {
                let text = token.text;
                return fail(format!(
                    "found '{text}', expected: !, identifier, or 'end of string'"
                ));
            }
        }
        let token = parser.take();
        match token.kind {
            Kind::End => return Ok(requirements),
            Kind::Comma => {
                let next = parser.peek();
                if !matches!(next.kind, Kind::Identifier | Kind::Not) {
                    let text = next.text;
                    return fail(format!("found '{text}', expected: identifier after ','"));
                }
            }
            _ => {
                let text = token.text;
                return fail(format!("found '{text}', expected: ',' or 'end of string'"));
            }
        }
    }
}

/// The terms of a field selector; an escaped comma does not separate.
pub(super) fn terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, whether the operator is `!=`, and the value as it is written.
pub(super) fn term(text: &str) -> Option<(&str, bool, &str)> {
    let equals = text.find('=')?;
    let (before, after) = (&text[..equals], &text[equals + 1..]);
    Some(match before.strip_suffix('!') {
        Some(field) => (field, true, after),
        None => (before, false, after.strip_prefix('=').unwrap_or(after)),
    })
}

/// Undoes [`escape`].
pub(super) fn unescape(text: &str) -> Result<Cow<'_, str>, SelectorError> {
    if !text.contains(['\\', ',', '=']) {
        return Ok(Cow::Borrowed(text));
    }
    let mut value = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => value.push(escaped),
                other => {
                    let rest = other.map(String::from).unwrap_or_default();
                    return fail(format!(
                        "invalid field selector: invalid escape sequence: \\{rest}"
                    ));
                }
            },
            ',' | '=' => {
                let code = u32::from(letter);
                return fail(format!(
                    "invalid field selector: unescaped character in value: {code}"
                ));
            }
            _ => value.push(letter),
        }
    }
    Ok(Cow::Owned(value))
}

/// A value as it must be written in a field selector.
pub(super) fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        if matches!(letter, '\\' | ',' | '=') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

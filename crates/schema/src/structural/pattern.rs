//! Regular expressions as the Go programs of a cluster understand them.

use regex::Regex;

/// Compiles a pattern of a schema. The two syntaxes agree but for a few things, which are
/// translated: in Go `\d`, `\w`, `\s` and `\b` mean ASCII, and `[`, `&` and `~` are ordinary
/// inside of a class.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(&translate(pattern)).map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("error parsing regexp: expression nests or repeats too much (more than {limit} bytes)")
        }
        error => format!("error parsing regexp: {}", last_line(&error.to_string())),
    })
}

fn last_line(text: &str) -> String {
    text.lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped) => escape(escaped, class, &mut out),
                None => out.push('\\'),
            },
            '[' if !class => {
                class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // The first character of a class may be an ordinary `]`.
                if chars.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            '[' if chars.peek() == Some(&':') => {
                // A POSIX class such as [:alpha:], to its end.
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '[' | '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            c => out.push(c),
        }
    }
    out
}

fn escape(escaped: char, class: bool, out: &mut String) {
    let (set, negated) = match escaped {
        'd' => ("0-9", false),
        'D' => ("0-9", true),
        'w' => ("0-9A-Za-z_", false),
        'W' => ("0-9A-Za-z_", true),
        's' => (r"\t\n\f\r ", false),
        'S' => (r"\t\n\f\r ", true),
        'b' | 'B' if !class => {
            out.push_str(if escaped == 'b' {
                r"(?-u:\b)"
            } else {
                r"(?-u:\B)"
            });
            return;
        }
        other => {
            out.push('\\');
            out.push(other);
            return;
        }
    };
    match (class, negated) {
        (true, false) => out.push_str(set),
        (_, true) => out.extend(["[^", set, "]"]),
        (false, false) => out.extend(["[", set, "]"]),
    }
}

//! Request bodies in YAML and JSON, with the keys that are there twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep a YAML document may nest (JSON has the same bound in its parser).
const MAX_DEPTH: usize = 120;
/// Values that a YAML document may have once its aliases are followed.
const MAX_NODES: usize = 500_000;
/// Aliases that may be followed: they multiply what the sender paid for.
const MAX_ALIASES: usize = 1_000;
/// Parser events that aliases may bring back.
const MAX_REPLAYED: usize = 50_000;

/// Decodes one YAML (or JSON) document; the paths of keys that are there twice are the second
/// answer (`metadata.name`). The last value of such a key wins.
pub fn decode(bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    let first = text.trim_start().as_bytes().first();
    if matches!(first, Some(b'{' | b'[')) {
        // What looks like JSON and is not may still be YAML in flow style.
        if let Ok(decoded) = decode_json(bytes) {
            return Ok(decoded);
        }
    }
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_aliases: MAX_ALIASES,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
            max_replay_stack_depth: 16,
            max_alias_expansions_per_anchor: MAX_ALIASES,
        },
        with_snippet: false,
    };
    let mut duplicates = Vec::new();
    let path = Path::Root;
    let value =
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
            Seed {
                path: &path,
                duplicates: &mut duplicates,
            }
            .deserialize(deserializer)
        })
        .map_err(|error| format!("yaml: {error}"))?;
    Ok((value, duplicates))
}

/// Decodes one JSON document, as [`decode`] does.
pub fn decode_json(bytes: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed {
        path: &Path::Root,
        duplicates: &mut duplicates,
    }
    .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, duplicates))
}

/// Where in the document a value is.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, name) => f.write_str(name),
            Self::Key(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Seed<'a> {
    path: &'a Path<'a>,
    duplicates: &'a mut Vec<String>,
}

/// Duplicate keys that are listed; more say nothing new.
const MAX_DUPLICATES: usize = 100;

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value that JSON knows")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = Path::Index(self.path, items.len());
            let seed = Seed {
                path: &path,
                duplicates: &mut *self.duplicates,
            };
            match access.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(Key(name)) = access.next_key()? {
            let path = Path::Key(self.path, &name);
            if fields.contains_key(&name) && self.duplicates.len() < MAX_DUPLICATES {
                self.duplicates.push(path.to_string());
            }
            let value = access.next_value_seed(Seed {
                path: &path,
                duplicates: &mut *self.duplicates,
            })?;
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

/// A key: YAML allows numbers and truth values, JSON makes text of them.
struct Key(String);

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Key, E> {
                Ok(Key(value.to_owned()))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }
        }

        deserializer.deserialize_any(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, value: Value, duplicates: &[&str]) {
        let (read, twice) = decode(text.as_bytes()).expect("the document is well-formed");
        assert_eq!(read, value);
        assert_eq!(twice, duplicates);
    }

    #[test]
    fn yaml_and_json_become_the_same_values() {
        check(
            "a: 1\nb: [x, 1.5, true, ~]\n",
            json!({"a": 1, "b": ["x", 1.5, true, null]}),
            &[],
        );
        check(
            r#"{"a":1,"b":["x",1.5,true,null]}"#,
            json!({"a": 1, "b": ["x", 1.5, true, null]}),
            &[],
        );
        check("{a: 1, b: {c: d}}", json!({"a": 1, "b": {"c": "d"}}), &[]);
        check("1: a\ntrue: b\n", json!({"1": "a", "true": "b"}), &[]);
        check(
            "a: |\n  x\n  y\nb: \"1\"\n",
            json!({"a": "x\ny\n", "b": "1"}),
            &[],
        );
    }

    #[test]
    fn keys_that_are_there_twice_are_named() {
        check(
            "a:\n- b: 1\n  b: 2\n",
            json!({"a": [{"b": 2}]}),
            &["a[0].b"],
        );
        check(
            r#"{"a":{"b":1,"b":2},"a":1}"#,
            json!({"a": 1}),
            &["a.b", "a"],
        );
    }

    #[test]
    fn bombs_and_nonsense_are_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..10 {
            let items = vec![format!("*a{}", i - 1); 10].join(",");
            bomb = format!("{bomb}a{i}: &a{i} [{items}]\n");
        }
        for text in [
            bomb.as_str(),
            "a: [",
            &"[".repeat(10_000),
            "a: b\n---\nc: d\n",
            "\u{0}",
        ] {
            assert!(decode(text.as_bytes()).is_err(), "{text:.40}");
        }
    }
}

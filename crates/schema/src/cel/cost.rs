//! What an expression can cost at most, told before it runs: the evaluation itself cannot be stopped.
//!
//! Sizes are in bytes of JSON. Every step costs one; a call costs what it looks at, too, at a tenth of a byte (apiserver: the factor of
//! pkg/apis/cel for strings).

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};
use serde_json::Value;

/// What is known of a value before it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// Bytes, at most; of the variable of a loop, on average over its rounds.
    pub(super) size: u64,
    /// Bytes, at most, in any round.
    pub(super) peak: u64,
    /// Members or items of it or of any value in it, at most.
    pub(super) items: u64,
}

impl Bound {
    const SMALL: Self = Self::sized(8);

    const fn sized(size: u64) -> Self {
        Self {
            size,
            peak: size,
            items: 0,
        }
    }

    fn holding(items: usize) -> Self {
        Self {
            items: items as u64,
            ..Self::SMALL
        }
    }

    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::SMALL,
            Value::String(text) => Self::sized(text.len() as u64 + 8),
            Value::Array(items) => items
                .iter()
                .map(Self::of)
                .fold(Self::holding(items.len()), Self::with),
            Value::Object(members) => {
                members
                    .iter()
                    .fold(Self::holding(members.len()), |sum, (name, value)| {
                        sum.with(Self::sized(name.len() as u64))
                            .with(Self::of(value))
                    })
            }
        }
    }

    /// Of a value that holds both.
    fn with(self, other: Self) -> Self {
        Self {
            items: self.items.max(other.items),
            ..self.joined(other)
        }
    }

    /// Of one after the other.
    fn joined(self, other: Self) -> Self {
        Self {
            size: self.size.saturating_add(other.size),
            peak: self.peak.saturating_add(other.peak),
            items: self.items.saturating_add(other.items),
        }
    }

    fn times(self, count: u64) -> Self {
        let size = self.size.saturating_mul(count);
        Self {
            size,
            peak: size.max(self.peak),
            items: self.items.max(count),
        }
    }

    /// Of the variable of a loop over it.
    fn each(self, rounds: u64) -> Self {
        Self {
            size: self.size / rounds.max(1) + 8,
            ..self
        }
    }
}

/// Values larger than this are not made.
const LARGEST: u64 = 64 << 20;

/// Steps that the expression takes at most.
pub(super) fn estimate(expr: &IdedExpr, variables: &[(String, Bound)]) -> u64 {
    let mut scope = Scope {
        variables: variables.to_vec(),
        cost: 0,
    };
    let result = scope.visit(expr, 1);
    if result.peak > LARGEST {
        u64::MAX
    } else {
        scope.cost
    }
}

struct Scope {
    variables: Vec<(String, Bound)>,
    cost: u64,
}

impl Scope {
    /// What `expr` gives; its cost is counted `times`.
    fn visit(&mut self, expr: &IdedExpr, times: u64) -> Bound {
        self.pay(1, times);
        match &expr.expr {
            Expr::Literal(LiteralValue::String(text)) => {
                Bound::sized(text.inner().len() as u64 + 8)
            }
            Expr::Literal(LiteralValue::Bytes(bytes)) => {
                Bound::sized(bytes.inner().len() as u64 + 8)
            }
            Expr::Unspecified | Expr::Literal(_) => Bound::SMALL,
            Expr::Ident(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map_or(Bound::SMALL, |(_, bound)| *bound)
            }
            Expr::Select(select) => {
                let operand = self.visit(&select.operand, times);
                if select.test { Bound::SMALL } else { operand }
            }
            Expr::Call(call) => self.call(call, times),
            Expr::Comprehension(it) => self.comprehension(it, times),
            Expr::List(list) => {
                let start = Bound::holding(list.elements.len());
                list.elements
                    .iter()
                    .fold(start, |sum, item| sum.with(self.visit(item, times)))
            }
            Expr::Map(map) => {
                let start = Bound::holding(map.entries.len());
                map.entries
                    .iter()
                    .fold(start, |sum, entry| sum.with(self.entry(&entry.expr, times)))
            }
            Expr::Struct(it) => it.entries.iter().fold(Bound::SMALL, |sum, entry| {
                sum.with(self.entry(&entry.expr, times))
            }),
        }
    }

    fn entry(&mut self, entry: &EntryExpr, times: u64) -> Bound {
        match entry {
            EntryExpr::StructField(field) => self.visit(&field.value, times),
            EntryExpr::MapEntry(entry) => {
                let key = self.visit(&entry.key, times);
                key.with(self.visit(&entry.value, times))
            }
        }
    }

    fn call(&mut self, call: &CallExpr, times: u64) -> Bound {
        let target = call
            .target
            .as_deref()
            .map(|target| self.visit(target, times));
        let args: Vec<Bound> = call.args.iter().map(|arg| self.visit(arg, times)).collect();
        let all = || target.iter().chain(&args).copied();
        let sum = all().fold(Bound::default(), Bound::with);
        let looked_at = |size: u64| size / 10;
        match call.func_name.as_str() {
            operators::CONDITIONAL
            | operators::INDEX
            | operators::OPT_INDEX
            | operators::OPT_SELECT => sum,
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS => {
                self.pay(looked_at(all().map(|it| it.size).min().unwrap_or(0)), times);
                Bound::SMALL
            }
            operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::NOT_STRICTLY_FALSE
            | "size"
            | "hasConditions"
            | "type"
            | "has"
            | "hasValue"
            | "int"
            | "uint"
            | "double"
            | "bool" => Bound::SMALL,
            operators::IN
            | "contains"
            | "startsWith"
            | "endsWith"
            | "matches"
            | "isSorted"
            | "indexOf"
            | "lastIndexOf" => {
                self.pay(looked_at(sum.size), times);
                Bound::SMALL
            }
            operators::ADD => {
                self.pay(looked_at(sum.size), times);
                all().fold(Bound::default(), Bound::joined)
            }
            // As long a list as the number says: only what is written can be told.
            "range" | "lists.range" => Bound {
                items: u64::MAX,
                ..Bound::sized(u64::MAX)
            },
            "replace" | "join" => {
                let made = all()
                    .map(|it| it.peak.saturating_add(1))
                    .fold(1, u64::saturating_mul);
                self.pay(looked_at(made), times);
                Bound::sized(made)
            }
            "distinct" | "intersects" | "equivalent" | "sets.contains" | "sets.intersects"
            | "sets.equivalent" => {
                self.pay(looked_at(sum.size.saturating_mul(sum.items.max(1))), times);
                sum
            }
            "split" | "findAll" => {
                self.pay(looked_at(sum.size), times);
                Bound {
                    items: sum.peak,
                    ..sum.times(9)
                }
            }
            _ => {
                self.pay(looked_at(sum.size), times);
                sum.times(2).with(Bound::sized(64))
            }
        }
    }

    fn comprehension(&mut self, it: &ComprehensionExpr, times: u64) -> Bound {
        let range = self.visit(&it.iter_range, times);
        let start = self.visit(&it.accu_init, times);
        let rounds = range.items;
        let inner = times.saturating_mul(rounds);
        let depth = self.variables.len();
        let each = range.each(rounds);
        self.variables.push((it.iter_var.clone(), each));
        self.variables
            .extend(it.iter_var2.iter().map(|name| (name.clone(), each)));
        // What a round adds; what earlier rounds gathered is counted below.
        self.variables.push((it.accu_var.clone(), Bound::default()));
        self.visit(&it.loop_cond, inner);
        let step = self.visit(&it.loop_step, inner);
        let gathered = start.joined(step.times(rounds));
        if let Some(last) = self.variables.last_mut() {
            last.1 = gathered;
        }
        let result = self.visit(&it.result, times);
        self.variables.truncate(depth);
        result
    }

    fn pay(&mut self, cost: u64, times: u64) {
        self.cost = self.cost.saturating_add(cost.saturating_mul(times));
    }
}

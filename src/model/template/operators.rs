//! Tests, comparisons and arithmetic that have an answer for every pair of values.
//!
//! Where Tera fails a rendering (`missing > 3`, `"a" + 1`, `x in 7`), the answer here is no, or nothing.

use std::cmp::Ordering;

use tera::value::Key;
use tera::{Number, Value};

use super::convert::printed;

/// The tests, each with the argument that it needs.
const TESTS: [(&str, Option<&str>); 17] = [
    ("string", None),
    ("number", None),
    ("map", None),
    ("bool", None),
    ("array", None),
    ("integer", None),
    ("float", None),
    ("none", None),
    ("iterable", None),
    ("defined", None),
    ("undefined", None),
    ("odd", None),
    ("even", None),
    ("divisible_by", Some("divisor")),
    ("starting_with", Some("pat")),
    ("ending_with", Some("pat")),
    ("containing", Some("pat")),
];

pub(super) fn tests() -> impl Iterator<Item = &'static str> + Clone {
    TESTS.iter().map(|(name, _)| *name)
}

/// `None` for an unknown test, else the name of the argument that it needs.
pub(super) fn test_argument(test: &str) -> Option<Option<&'static str>> {
    TESTS.iter().find(|(name, _)| *name == test).map(|(_, argument)| *argument)
}

pub(super) fn test(name: &str, value: &Value, argument: &Value) -> bool {
    let integer = || value.as_i128();
    let pattern = || argument.as_str();
    match name {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "map" => value.is_map(),
        "bool" => value.is_bool(),
        "array" => value.is_array(),
        "integer" => value.is_number() && !value.is_f64(),
        "float" => value.is_f64(),
        "none" => is_nothing(value),
        "iterable" => value.is_array() || value.is_map() || value.is_string(),
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "odd" => integer().is_some_and(|number| number % 2 != 0),
        "even" => integer().is_some_and(|number| number % 2 == 0),
        "divisible_by" => integer()
            .zip(argument.as_i128())
            .is_some_and(|(number, divisor)| number.checked_rem_euclid(divisor) == Some(0)),
        "starting_with" => value.as_str().zip(pattern()).is_some_and(|(text, pattern)| text.starts_with(pattern)),
        "ending_with" => value.as_str().zip(pattern()).is_some_and(|(text, pattern)| text.ends_with(pattern)),
        _ => contains(value, argument),
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_undefined() || value.is_none()
}

/// `==`, `!=`, `<`, `<=`, `>`, `>=` and `in`.
pub(super) fn compare(operator: &str, left: &Value, right: &Value) -> bool {
    let equal = || left == right || (is_nothing(left) && is_nothing(right));
    let order = || if is_nothing(left) || is_nothing(right) { None } else { left.partial_cmp(right) };
    match operator {
        "==" => equal(),
        "!=" => !equal(),
        "<" => order() == Some(Ordering::Less),
        "<=" => order().is_some_and(Ordering::is_le),
        ">" => order() == Some(Ordering::Greater),
        ">=" => order().is_some_and(Ordering::is_ge),
        _ => contains(right, left),
    }
}

fn contains(container: &Value, item: &Value) -> bool {
    if is_nothing(item) {
        return false;
    }
    if let Some(text) = container.as_str() {
        return !item.is_array() && !item.is_map() && text.contains(&printed(item));
    }
    if let Some(items) = container.as_array() {
        return items.contains(item);
    }
    match (container.as_map(), item.as_str()) {
        (Some(map), Some(key)) => map.contains_key(&Key::Str(key)),
        _ => false,
    }
}

/// One of `~ + - * / // % **`; `None` where it has no result. Integers stay integers except under `/`.
pub(super) fn calculate(operator: &str, left: &Value, right: &Value) -> Option<Value> {
    if operator == "~" {
        return Some(Value::from(printed(left) + &printed(right)));
    }
    match (operator, left.as_number()?, right.as_number()?) {
        ("/", left, right) => finite(left.as_float() / right.as_float()),
        (_, Number::Integer(left), Number::Integer(right)) => integers(operator, left, right),
        (_, left, right) => floats(operator, left.as_float(), right.as_float()),
    }
}

fn integers(operator: &str, left: i128, right: i128) -> Option<Value> {
    let result = match operator {
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "//" => left.checked_div_euclid(right),
        "%" => left.checked_rem_euclid(right),
        _ if right < 0 => return floats(operator, left as f64, right as f64),
        _ => u32::try_from(right).ok().and_then(|right| left.checked_pow(right)),
    };
    result.map(Value::from)
}

fn floats(operator: &str, left: f64, right: f64) -> Option<Value> {
    finite(match operator {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "//" => left.div_euclid(right),
        "%" => left.rem_euclid(right),
        _ => left.powf(right),
    })
}

fn finite(number: f64) -> Option<Value> {
    number.is_finite().then(|| Value::from(number))
}

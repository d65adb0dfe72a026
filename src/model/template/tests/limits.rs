//! Templates and payloads that mean harm, or just too much.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn limits_of_templates_are_kept_when_they_compile() {
    let limited = |template: String, part: &str| {
        let found = refused(&template);
        assert!(found[0].contains("SH0203") && found[0].contains(part), "{found:?}");
    };
    limited("x".repeat(TEMPLATE_BYTES_MAX + 1), "16385 bytes");
    limited(
        "{% for a in b %}{% for c in d %}{% for e in f %}{% endfor %}{% endfor %}{% endfor %}".into(),
        "loops nest deeper than 2",
    );
    limited(format!("{{{{ {}1{} }}}}", "(".repeat(50), ")".repeat(50)), "nests deeper than 12");
    limited(format!("{}{}", "{% if a %}".repeat(50), "{% endif %}".repeat(50)), "nest deeper than 12");
    limited(format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(60)), "32 branches");
    limited(format!("{{{{ a{} }}}}", " | upper".repeat(100)), "64 operators");
    limited(format!("{{{{ a{} }}}}", ".b".repeat(100)), "64 operators");
}

#[test]
fn whatever_compiles_within_our_limits_compiles_in_tera() {
    let nested = |open: &str, close: &str| {
        let deepest = if open.contains(' ') { 5 } else { 11 };
        format!("{{{{ {}x{} }}}}", open.repeat(deepest), close.repeat(deepest))
    };
    for template in [
        nested("(", ")"),
        nested("not (", ")"),
        nested("1 + (", ") * 2"),
        nested("x[", "]"),
        nested("'a' ~ (", ") | upper"),
        format!("{{{{ a{} }}}}", " | upper".repeat(63)),
        format!("{{{{ a{} }}}}", " + 1".repeat(63)),
        format!("{{{{ a{} }}}}", " and b".repeat(63)),
        format!("{{{{ a{} }}}}", " or b".repeat(63)),
        format!("{{{{ a{} }}}}", ".b".repeat(63)),
        format!("{}x{}", "{% if a %}".repeat(11), "{% endif %}".repeat(11)),
        "{{ {'a': {'b': 1} } }}".to_owned(),
    ] {
        Template::compile("t", &template, false).unwrap_or_else(|faults| panic!("{template}: {faults:?}"));
    }
}

/// It ends soon, whatever it does: what grows with the square or worse takes hours.
fn ends_soon(template: &str, context: &Value) -> Result<Rendered> {
    let template = Template::compile("t", template, false).unwrap_or_else(|faults| panic!("{faults:?}"));
    let started = Instant::now();
    let rendered = template.render(context);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    rendered
}

#[test]
fn hostile_templates_end_soon() {
    let limit = |template: &str| {
        let error = ends_soon(template, &payload()).expect_err(template);
        assert_eq!(error.code(), Code::TemplateLimit, "{template}: {error:?}");
    };
    let loops = |body: &str| {
        format!("{{% for a in range(end=200) %}}{{% for b in range(end=200) %}}{body}{{% endfor %}}{{% endfor %}}")
    };
    limit(&loops("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
    limit(&loops("{{ a }}{{ b }}"));
    limit(&loops(&"{% if 1 == 2 %}{% endif %}".repeat(500)));
    limit(&loops("{% if 1 %}{% else %}{{ issue.labels | json_encode }}{% endif %}"));
    limit(&format!("{{% for a in range(end=200) %}}{}{{% endfor %}}", "{{ issue.title }} ".repeat(700)));
    let doubling = format!("{{{{ 'x'{} | length }}}}", " ~ issue.title".repeat(30));
    assert!(ends_soon(&doubling, &payload()).is_ok());
    let grown =
        ends_soon("{{ issue.title | replace('', 'xx') }}|{{ issue.fields.summary | indent(width=99999) }}", &payload());
    assert_eq!(grown.expect("both are bounded").text, "|short");
}

#[test]
fn huge_ranges_and_lists_are_cut_and_that_is_told() {
    let rendered = ends_soon(
        "{% for n in range(end=9999999999) %}{{ n }}{% if not loop.last %} {% endif %}{% endfor %}",
        &payload(),
    );
    let rendered = rendered.expect("it is bounded");
    assert!(rendered.text.ends_with(" 199"));
    assert_eq!(rendered.cut, ["range(end=9999999999)"]);
    let context = json!({"commits": (0..5_000).collect::<Vec<_>>()});
    let rendered =
        render("{% for c in commits %}.{% endfor %}{{ commits | length }}", &context, false).expect("it is bounded");
    assert_eq!((rendered.text, rendered.cut), (".".repeat(200) + "5000", vec!["commits".to_owned()]));
    for template in ["range(end=5, step_by=0)", "range(end='x')", "range(end=a.b)", "range(start=5, end=1)"] {
        let rendered = render(&format!("<{{% for n in {template} %}}x{{% endfor %}}>"), &payload(), false);
        assert_eq!(rendered.expect(template).text, "<>", "{template}");
    }
}

#[test]
fn long_values_are_cut_at_a_sentence_with_a_marker() {
    let body = "A sentence of some length. ".repeat(1_000);
    let rendered = render("{{ body }}", &json!({"body": body}), false).expect("it renders");
    assert!(rendered.text.ends_with("of some length. [… 19009 more characters]"), "{}", &rendered.text[7_900..]);
    assert!(rendered.text.chars().count() <= VALUE_CHARS_MAX + 40);
    assert_eq!(rendered.cut, ["body"]);
    let unbroken = render("{{ body }}", &json!({"body": "é".repeat(9_000)}), false).expect("it renders");
    assert!(unbroken.text.ends_with("é [… 1000 more characters]"));
    let whole = render("{{ body }}", &json!({"body": "é".repeat(VALUE_CHARS_MAX)}), false).expect("it renders");
    assert_eq!(whole.cut, Vec::<String>::new());
}

#[test]
fn huge_payloads_are_bounded_before_they_are_worked_on() {
    let context = json!({"text": "x".repeat(5_000_000), "list": vec!["y".repeat(1_000); 30_000]});
    let rendered =
        ends_soon("{{ text | upper | truncate(length=3) }} {{ list | join(sep=', ') | truncate(length=3) }}", &context);
    let rendered = rendered.expect("it is bounded");
    assert_eq!(rendered.text, "XXX… ");
    assert_eq!(rendered.cut, ["text", "list"]);
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec![
        "issue",
        "issue.title",
        "issue.labels",
        "issue.labels[0].name",
        "issue.nope.x",
        "nothing",
        "1",
        "2.5",
        "'a'",
        "true",
        "none",
        "issue.number",
        "[1, 'b', issue.body]",
        "{'k': issue.title}",
        "x.y",
        "x",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator = proptest::sample::select(vec![
            "+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">=", "in", "not in", "and", "or",
        ]);
        let filter = proptest::sample::select(filters::names().collect::<Vec<_>>());
        let test = proptest::sample::select(operators::tests().collect::<Vec<_>>());
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            (inner.clone(), filter, inner.clone()).prop_map(|(a, filter, b)| match filters::positions(filter) {
                Some([]) | None => format!("({a} | {filter})"),
                Some([first]) => format!("({a} | {filter}({first}={b}))"),
                Some([first, second, ..]) => format!("({a} | {filter}({first}={b}, {second}={b}))"),
            }),
            (inner.clone(), test, inner.clone()).prop_map(|(a, test, b)| {
                match operators::test_argument(test).flatten() {
                    None => format!("({a} is {test})"),
                    Some(argument) => format!("({a} is not {test}({argument}={b}))"),
                }
            }),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} if {b} else {c})")),
        ]
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        let key = proptest::sample::select(vec!["title", "labels", "name", "number", "body", "y", "0"]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..4)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_source_makes_compiling_panic(source in "[{}%#a-f.| '\"\\[\\]()0-9,=:~<>*/\n-]{0,60}") {
        if let Ok(template) = Template::compile("t", &source, false) {
            let _ = template.render(&payload());
        }
    }

    #[test]
    fn no_payload_makes_a_lenient_template_fail(expression in expression(), issue in any_json(), x in any_json()) {
        let source = format!("{{{{ {expression} }}}}{{% if {expression} %}}y{{% endif %}}{{% for k, v in {expression} %}}{{{{ v.name }}}}{{% endfor %}}");
        let template = match Template::compile("t", &source, false) {
            Ok(template) => template,
            Err(faults) => {
                prop_assert!(faults.iter().all(|fault| fault.code == Code::TemplateLimit), "{source}: {faults:?}");
                return Ok(());
            }
        };
        match template.render(&json!({"issue": issue, "x": x})) {
            Ok(_) => {}
            Err(error) => prop_assert_eq!(error.code(), Code::TemplateLimit, "{} {:?}", source, error),
        }
    }
}

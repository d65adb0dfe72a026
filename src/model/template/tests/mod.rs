//! What templates may do, what they yield, and how they are refused.

use serde_json::json;

use super::*;

mod limits;

/// A delivery as providers send it.
fn payload() -> Value {
    json!({
        "action": "opened",
        "text": "@agent review please",
        "args": "please",
        "now": "2024-05-01T12:30:00Z",
        "issue": {
            "number": 7, "title": "Crash <b>on</b> start", "body": null, "open": true, "score": 2.5,
            "labels": [{"name": "bug", "color": "f00"}, {"name": "p1"}],
            "user": {"login": "octo", "x-y": "dashed"},
            "fields": {"summary": "short", "0": "zero", "list": ["a", ["b", "c"]]},
        },
    })
}

fn render(template: &str, context: &Value, strict: bool) -> Result<Rendered> {
    Template::compile("t", template, strict).unwrap_or_else(|faults| panic!("{template}: {faults:?}")).render(context)
}

/// The template renders to the text, and exactly these paths are missing.
fn check_missing(template: &str, expected: &str, missing: &[&str]) {
    let rendered = render(template, &payload(), false).unwrap_or_else(|error| panic!("{template}: {error:?}"));
    assert_eq!(rendered.text, expected, "{template}");
    assert_eq!(rendered.missing, missing, "{template}");
}

fn check(template: &str, expected: &str) {
    check_missing(template, expected, &[]);
}

/// The template is refused, and this is how: `line:column code message (hint)`.
fn refused(template: &str) -> Vec<String> {
    let faults = Template::compile("t", template, false).expect_err(template);
    let shown = |fault: TemplateFault| {
        let hint = fault.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}:{} {} {}{hint}", fault.line, fault.column, fault.code, fault.message)
    };
    faults.into_iter().map(shown).collect()
}

#[test]
fn values_of_the_payload_appear() {
    check("{{issue.title}} #{{ issue.number }}", "Crash <b>on</b> start #7");
    check("{{ issue.fields.summary }}", "short");
    check("{{ issue.open }} {{ issue.score }} {{ true }} {{ 1.5 }} {{ 'a' }}", "true 2.5 true 1.5 a");
    check("plain { text } without %} anything }}", "plain { text } without %} anything }}");
    check("", "");
}

#[test]
fn list_indices_work_in_every_spelling() {
    check("{{ issue.labels[0].name }} {{ issue.labels.1.name }} {{ issue.labels[-1].name }}", "bug p1 p1");
    check("{{ issue.fields.list.1.0 }} {{ issue.fields.list[1][1] }} {{ issue['fields'].list[0] }}", "b c a");
    check("{{ issue.user[\"x-y\"] }} {{ issue.fields.0 }} {{ issue?.user?.login }}", "dashed zero octo");
    check("{% for n in range(end=2) %}{{ issue.labels[n].name }} {% endfor %}", "bug p1 ");
    check(
        "{{ issue.title[:5] }} {{ issue.title[-5:] }} {{ issue.fields.list[1][1:] | join(sep=',') }}",
        "Crash start c",
    );
}

#[test]
fn a_missing_value_is_empty_at_any_depth_and_listed() {
    check_missing("<{{ nothing }}>", "<>", &["nothing"]);
    check_missing("<{{ a.b.c.d }}>", "<>", &["a.b.c.d"]);
    check_missing("<{{ issue.fields.nope.0.x[\"y z\"] }}>", "<>", &["issue.fields.nope[0].x[\"y z\"]"]);
    check_missing("<{{ issue.labels[9].name }}>", "<>", &["issue.labels[9].name"]);
    check_missing("<{{ issue.number.of.what }}>", "<>", &["issue.number.of.what"]);
    check_missing("{{ a }}{{ b }}{{ a }}", "", &["a", "b"]);
    check_missing("<{{ issue[nothing] }}>", "<>", &["nothing", "issue[nothing]"]);
}

#[test]
fn a_null_is_there_and_empty() {
    check("<{{ issue.body }}>", "<>");
    check("{% if issue.body %}yes{% else %}no{% endif %}", "no");
    check("{{ issue.body | default(value='none given') }}", "none given");
    check_missing("{{ issue.body.text }}", "", &["issue.body.text"]);
}

#[test]
fn missing_values_inside_if() {
    check_missing("{% if a.b %}yes{% else %}no{% endif %}", "no", &["a.b"]);
    check_missing("{% if not a.b %}yes{% endif %}", "yes", &["a.b"]);
    check_missing("{% if a.b > 3 %}yes{% elif a.c == 'x' %}maybe{% else %}no{% endif %}", "no", &["a.b", "a.c"]);
    check_missing("{% if 'bug' in a.labels %}yes{% else %}no{% endif %}", "no", &["a.labels"]);
    check_missing("{% if a.b is starting_with('x') %}yes{% else %}no{% endif %}", "no", &["a.b"]);
    check_missing("{% if a.n + 1 > 0 %}yes{% else %}no{% endif %}", "no", &["a.n"]);
    check_missing(
        "{% if issue and issue.pull_request %}pr{% else %}issue{% endif %}",
        "issue",
        &["issue.pull_request"],
    );
}

#[test]
fn missing_values_inside_for() {
    check_missing("{% for x in a.b %}{{ x }}{% else %}none{% endfor %}", "none", &["a.b"]);
    check_missing(
        "{% for l in issue.labels %}{{ l.name }}:{{ l.color }} {% endfor %}",
        "bug:f00 p1: ",
        &["issue.labels[].color"],
    );
    check_missing("{% for k, v in a.b %}{{ k }}{% endfor %}", "", &["a.b"]);
    check_missing("{% for x in issue.number %}{{ x }}{% endfor %}", "", &["issue.number"]);
    check("{% for x in issue.body %}{{ x }}{% else %}none{% endfor %}", "none");
}

#[test]
fn missing_values_inside_filters() {
    for filter in filters::names().filter(|name| !matches!(*name, "default" | "json_encode")) {
        let arguments = match filters::positions(filter) {
            Some(["n"]) => "(1)",
            Some(["length", ..]) => "(length=1)",
            Some([_, _, ..]) if filter == "replace" => "('a', 'b')",
            Some([_, ..]) if filters::lacks::<()>(filter, &[]).is_some() => "('a')",
            _ => "",
        };
        check_missing(&format!("<{{{{ a.b | {filter}{arguments} }}}}>"), "<>", &["a.b"]);
    }
    check_missing("{{ a.b | json_encode }}", "null", &["a.b"]);
    check_missing("{{ issue.fields.list[1] | join(sep=a.b) }}", "bc", &["a.b"]);
}

#[test]
fn what_the_template_provides_for_is_not_listed() {
    check("{{ a.b | default(value='x') }}", "x");
    check("{{ a.b | upper | default('x') }}", "x");
    check("{{ a.b or issue.number }}", "7");
    check("{% if a.b is defined %}yes{% else %}no{% endif %}", "no");
    check("{% if a.b is not defined %}no{% endif %}", "no");
    check_missing("{{ a.b or c }}", "", &["c"]);
}

#[test]
fn strict_templates_refuse_what_they_do_not_provide_for() {
    let strict = |template: &str| render(template, &payload(), true).map(|rendered| rendered.text);
    let error = strict("{{ issue.title }} {{ issue.nope }} {{ a.b }}").expect_err("it lacks two");
    assert_eq!(error.code(), Code::TemplateRender);
    assert_eq!(error.message(), "the template `t` lacks `issue.nope`, `a.b`");
    assert_eq!(strict("{{ issue.title }}{{ issue.body }}").expect("nothing is missing"), "Crash <b>on</b> start");
    assert_eq!(strict("{{ a.b | default('x') }}{% if a.c %}{{ a.c }}{% endif %}").expect("it provides"), "x");
    assert!(strict("{% if a.b > 3 %}{% endif %}").is_err());
    assert!(strict("{{ issue.number | first }}").is_err());
}

#[test]
fn conditions_and_operators() {
    let cases = [
        ("issue.number > 3 and issue.open", "true"),
        ("issue.number >= 7 and not issue.number < 7", "true"),
        ("issue.number != 7 or action == 'opened'", "true"),
        ("'p' in issue.user.login", "false"),
        ("'octo' in issue.user.login", "true"),
        ("'title' in issue", "true"),
        ("'b' in ['a', 'b'] and 'c' not in ['a', 'b']", "true"),
        ("1 + 2 * 3 - 4 / 2", "5.0"),
        ("2 ** 3 ** 2", "512"),
        ("7 // 2 ~ '|' ~ (7 % 2)", "3|1"),
        ("-issue.number + 1", "-6"),
        ("'#' ~ issue.number ~ issue.body ~ '.'", "#7."),
        ("'open' if issue.open else 'closed'", "open"),
        ("issue.number is odd and issue.score is float", "true"),
        ("issue.number is divisible_by(divisor=7)", "true"),
        ("issue.title is containing('on')", "true"),
        ("issue.nope is undefined", "true"),
        ("1 / 0", ""),
        ("'a' < 1", "false"),
        ("'a' + 1", ""),
        ("none == issue.body", "true"),
    ];
    for (expression, expected) in cases {
        let rendered = render(&format!("{{{{ {expression} }}}}"), &payload(), false).expect(expression);
        assert_eq!(rendered.text, expected, "{expression}");
    }
}

#[test]
fn filters_people_expect() {
    let cases = [
        ("issue.title | upper", "CRASH <B>ON</B> START"),
        ("issue.number | upper", "7"),
        ("issue.title | truncate(length=5)", "Crash…"),
        ("issue.title | truncate(5, '')", "Crash"),
        ("' x ' | trim", "x"),
        ("issue.labels | length", "2"),
        ("issue.labels | map(attribute='name') | join(sep=', ')", "bug, p1"),
        ("issue.labels | filter(attribute='name', value='p1') | length", "1"),
        ("issue.labels | map('name') | first", "bug"),
        ("(issue.labels | map('name'))[1]", "p1"),
        ("issue.labels | last | get('name')", "p1"),
        ("issue.labels | json_encode", r#"[{"name":"bug","color":"f00"},{"name":"p1"}]"#),
        ("issue.user | json_encode(pretty=true)", "{\n  \"login\": \"octo\",\n  \"x-y\": \"dashed\"\n}"),
        ("issue.user", r#"{"login":"octo","x-y":"dashed"}"#),
        ("issue.user | keys | join(',')", "login,x-y"),
        ("issue.labels | group_by('name') | keys | join(' ')", "bug p1"),
        ("'a.b.c' | replace(from='.', to='-')", "a-b-c"),
        ("'a\\nb' | indent(width=2)", "a\n  b"),
        ("'a,b' | split(',') | reverse | join('')", "ba"),
        ("[3, 1, 2] | sort | join(' ')", "1 2 3"),
        ("now | date(format='%d.%m.%Y %H:%M')", "01.05.2024 12:30"),
        ("1714566600 | date", "2024-05-01"),
        ("issue.title | escape_html", "Crash &lt;b&gt;on&lt;/b&gt; start"),
        ("'42' | int + 1", "43"),
        ("2.567 | round(precision=1)", "2.6"),
    ];
    for (expression, expected) in cases {
        check(&format!("{{{{ {expression} }}}}"), expected);
    }
    check_missing("<{{ issue.number | first }}>", "<>", &["issue.number | first"]);
    check_missing("<{{ issue.user | upper }}>", "<>", &["issue.user | upper"]);
}

#[test]
fn loops() {
    check(
        "{% for l in issue.labels %}{{ loop.index }}/{{ loop.length }}{{ l.name }}{% if not loop.last %}, {% endif %}{% endfor %}",
        "1/2bug, 2/2p1",
    );
    check("{% for k, v in issue.user %}{{ k }}={{ v }};{% endfor %}", "login=octo;x-y=dashed;");
    check(
        "{% for l in issue.labels %}{% for c in l.name | split('') %}{{ c }}.{% endfor %}{% endfor %}",
        ".b.u.g...p.1..",
    );
    check(
        "{% for n in range(start=1, end=9) %}{% if n == 3 %}{% continue %}{% elif n > 4 %}{% break %}{% endif %}{{ n }}{% endfor %}",
        "124",
    );
    check("{% for issue in issue.labels %}{{ issue.name }}{% endfor %}{{ issue.number }}", "bugp17");
    check("{% for l in issue.labels | map('name') %}{{ l }} {% endfor %}", "bug p1 ");
}

#[test]
fn white_space_comments_and_raw() {
    check("a {{- 1 -}} b", "a1b");
    check("{% if true -%}\n  x\n{%- endif %} y", "x y");
    check("a {# gone #} b {#- gone -#} c", "a  bc");
    check("{% raw %}{{ not.touched }} {% if %}{% endraw %}", "{{ not.touched }} {% if %}");
    check("{ {#- x -#} { 1 }}", "{{ 1 }}");
    check("{{ '{{' }}{% raw -%} \"\\ {% {%- endraw %}", "{{\"\\ {%");
}

/// Where every value is there, we and Tera agree.
#[test]
fn the_same_as_tera_where_nothing_is_missing() {
    let mut context = tera::Context::new();
    for (key, value) in payload().as_object().expect("it is an object") {
        context.insert(key.clone(), value);
    }
    for template in [
        "{{ issue.title }} {{- issue.number -}} {{ issue.labels[0].name }}",
        "{% for l in issue.labels -%} {{ l.name | upper }} {%- else %}none{% endfor %}",
        "{% if issue.number > 3 and not issue.open or action == 'opened' %}a{% else %}b{% endif %}",
        "{{ 1 + 2 * 3 ** 2 - 7 % 4 // 2 }} {{ 1 - 2 - 3 }} {{ 2 * 3 % 4 }} {{ -2 ** 2 }} {{ 7 / 2 }}",
        "{{ 1 < 2 and 2 < 1 or 3 == 3 }} {{ not 1 in [1] }} {{ 'a' ~ 1 ~ 2.5 }} {{ not false and false }}",
        "{{ 'x' if issue.open else 'y' }} {{ ('a' ~ 'b') | upper }} {{ 'a' ~ 'b' | upper }}",
        "a {%- if true %} b {% endif -%} c {# d -#}  e {%- raw -%} {{ f }} {%- endraw %} g",
        "{{ -1.5 | abs }} {{ [1, 2][1] }} {{ {'a': 1}['a'] }} {{ 3 is odd }} {{ 3 is not odd }}",
        "{% for n in range(end=3) %}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{% endfor %}",
    ] {
        let tera = tera::Tera::default().render_str(template, &context, false).expect(template);
        let ours = render(template, &payload(), false).expect(template);
        assert_eq!(ours.text, tera, "{template}");
    }
}

#[test]
fn what_prompts_may_not_use_is_refused_with_a_hint() {
    let cases = [
        ("a\n {% set x = 1 %}", "2:5 SH0202 `set` is not allowed in prompts (write the expression where it is used)"),
        (
            "{% set_global x = 1 %}",
            "1:4 SH0202 `set_global` is not allowed in prompts (write the expression where it is used)",
        ),
        ("{% include 'x' %}", "1:4 SH0202 `include` is not allowed in prompts (put the text into this template)"),
        ("{% import 'x' as y %}", "1:4 SH0202 `import` is not allowed in prompts (put the text into this template)"),
        ("{% extends 'x' %}", "1:4 SH0202 `extends` is not allowed in prompts (put the text into this template)"),
        (
            "{% macro x() %}{% endmacro %}",
            "1:4 SH0202 `macro` is not allowed in prompts (write the text out, or use a loop)",
        ),
        (
            "{% component x() %}{% endcomponent %}",
            "1:4 SH0202 `component` is not allowed in prompts (write the text out, or use a loop)",
        ),
        ("{{ <x a={1} /> }}", "1:4 SH0202 `component` is not allowed in prompts (write the text out, or use a loop)"),
        (
            "{% block x %}{% endblock %}",
            "1:4 SH0202 `block` is not allowed in prompts (write the text without the block)",
        ),
        (
            "{% filter upper %}x{% endfilter %}",
            "1:4 SH0202 `filter` is not allowed in prompts (apply the filter to each value (`{{ title | upper }}`))",
        ),
        (
            "{{ __tera_context }}",
            "1:4 SH0202 `__tera_context` is not allowed in prompts (name the fields that the prompt needs; `payload` is the whole delivery)",
        ),
        (
            "{{ get_env(name='HOME') }}",
            "1:4 SH0202 there is no function `get_env` (prompts may call `range`; values come from the delivery, and filters are written `value | filter`)",
        ),
        (
            "{{ throw(message='x') }}",
            "1:4 SH0202 `throw` is not allowed in prompts (use `strict_templates: true` to refuse incomplete deliveries)",
        ),
        (
            "{{ [x for x in y] }}",
            "1:4 SH0202 list comprehensions are not allowed in prompts (use a `for` loop, or the filters `map` and `filter`)",
        ),
        ("{{ [...x] }}", "1:5 SH0202 `...` is not allowed in prompts (write the values out)"),
    ];
    for (template, expected) in cases {
        assert_eq!(refused(template), [expected], "{template}");
    }
}

#[test]
fn slips_are_reported_where_they_are() {
    let cases = [
        ("a {{ issue.title ", "1:3 SH0201 `{{` is not closed (end it with `}}`)"),
        ("{{ }}", "1:4 SH0201 expected a value before the end"),
        ("{{ a b }}", "1:6 SH0201 expected the end, found `b`"),
        ("x\né{{ a. }}", "2:8 SH0201 expected a name or an index before the end"),
        ("{{ 'abc }}", "1:4 SH0201 the string is not closed (end it with `'`)"),
        ("{{ a | uper }}", "1:8 SH0201 unknown filter `uper` (did you mean `upper`?)"),
        ("{{ a | replace(from='x') }}", "1:8 SH0201 the filter `replace` needs `to`"),
        ("{{ a | upper(1) }}", "1:14 SH0201 `upper` takes its arguments by name (write `name=value`)"),
        ("{% if a is defind %}{% endif %}", "1:12 SH0201 unknown test `defind` (did you mean `defined`?)"),
        ("{% if a %}x", "1:4 SH0201 the tag is not closed (end it with `{% endif %}`)"),
        ("{% endif %}", "1:4 SH0201 `endif` closes nothing here"),
        ("{% forr x in y %}", "1:4 SH0201 unknown tag `forr` (did you mean `for`?)"),
        ("{% for x of y %}{% endfor %}", "1:10 SH0201 expected `in`, found `of`"),
        ("{% break %}", "1:4 SH0201 `break` stands in no loop"),
        ("{# x", "1:1 SH0201 the comment is not closed (end it with `#}`)"),
        ("{{ a $ b }}", "1:6 SH0201 `$` has no meaning here"),
    ];
    for (template, expected) in cases {
        assert_eq!(refused(template), [expected], "{template}");
    }
    assert_eq!(refused("{{ a | x1 }} {{ b | x2 }} {% if c is x3 %}{% endif %}").len(), 3);
}

#[test]
fn hidden_text_of_the_payload_stays_out_of_prompts() {
    let template =
        Template::compile("t", "<!-- mine -->{{ body }}{% for l in labels %}|{{ l.name }}{% endfor %}", false);
    let template = template.expect("it compiles");
    let hidden = format!("seen <!-- {} -->end", "hidden ".repeat(100_000));
    let context = json!({"body": hidden, "labels": [{"name": "a\u{200b}b"}]});
    assert_eq!(template.render_visible(&context).expect("it renders").text, "<!-- mine -->seen end|ab");
    assert!(template.render(&context).expect("it renders").text.contains("hidden"));
}

#[test]
fn the_paths_that_are_read_are_known() {
    let template = "{{ issue.title }}{% for l in issue.labels %}{{ l.name }}{{ a[l.name].b }}{% endfor %}{{ commits.0.id }}{{ x['y-z'] }}{{ issue.title }}";
    let template = Template::compile("t", template, false).expect("it compiles");
    assert_eq!(
        template.paths().collect::<Vec<_>>(),
        ["issue.title", "issue.labels", "a", "commits[0].id", "x[\"y-z\"]"]
    );
}

#[test]
fn renderings_do_not_see_one_another() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    let template = Template::compile("t", "{{ a }}{{ b }}", false).expect("it compiles");
    is_shared(&template);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let template = &template;
            scope.spawn(move || {
                for _ in 0..50 {
                    let rendered = template.render(&json!({"a": number})).expect("it renders");
                    assert_eq!((rendered.text, rendered.missing), (number.to_string(), vec!["b".to_owned()]));
                }
            });
        }
    });
    template.release();
    assert_eq!(template.render(&json!({"a": 1, "b": 2})).expect("it renders").text, "12");
}

//! One rendering: the functions that the rewritten template calls, what they note, and what stops them.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value as Json;
use tera::{Context, Kwargs, State, Tera, TeraResult, Value};

use super::convert::{self, Budget, Texts};
use super::emit::{Emitted, Table};
use super::{ITERATIONS_MAX, OUTPUT_BYTES_MAX, Rendered, STEPS_MAX, filters, operators};
use crate::error::{Code, Error};

const TEMPLATE: &str = "prompt";
/// Bytes that cost one step.
const BYTES_A_STEP: usize = 256;

/// Tera with one template and our functions, for one rendering at a time.
pub(super) struct Engine {
    tera: Tera,
    run: Arc<Mutex<Run>>,
}

/// What one rendering knows.
#[derive(Default)]
struct Run {
    table: Arc<Table>,
    /// What the context has for each path of the table; undefined where it has nothing.
    values: Vec<Value>,
    missing: Notes,
    unprovided: Notes,
    cut: Notes,
    steps: u64,
    stopped: Option<Stop>,
}

/// Labels in the order of their first note.
#[derive(Default)]
struct Notes {
    order: Vec<usize>,
    known: BTreeSet<usize>,
}

/// Why a rendering ended early.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    Steps,
    Output,
    /// Tera itself refused, which the grammar is to rule out.
    Tera(String),
}

pub(super) struct Outcome {
    pub rendered: Rendered,
    /// The missing ones that the template does not provide for.
    pub unprovided: Vec<String>,
}

impl Stop {
    pub fn error(self, name: &str) -> Error {
        match self {
            Stop::Steps => {
                Error::new(Code::TemplateLimit, format!("the template `{name}` takes more than {STEPS_MAX} steps"))
                    .hint("loop over fewer items, or do less in the inner loop")
            }
            Stop::Output => Error::new(
                Code::TemplateLimit,
                format!("the template `{name}` yields more than {OUTPUT_BYTES_MAX} bytes"),
            )
            .hint("print fewer or shorter values (`truncate`)"),
            Stop::Tera(reason) => {
                Error::new(Code::TemplateRender, format!("the template `{name}` could not be rendered")).detail(reason)
            }
        }
    }
}

impl Engine {
    pub fn build(emitted: &Emitted) -> Result<Self, String> {
        let run = Arc::new(Mutex::new(Run::default()));
        let mut tera = Tera::default();
        let function = |tera: &mut Tera, name: &'static str, call: fn(&mut Run, &Kwargs) -> TeraResult<Value>| {
            let run = Arc::clone(&run);
            tera.register_function(name, move |arguments: Kwargs, _: &State| call(&mut lock(&run), &arguments));
        };
        function(&mut tera, "_p", Run::path);
        function(&mut tera, "_w", Run::walk);
        function(&mut tera, "_at", Run::at);
        function(&mut tera, "_s", Run::slice);
        function(&mut tera, "_i", Run::items);
        function(&mut tera, "_r", Run::range);
        function(&mut tera, "_b", Run::compare);
        function(&mut tera, "_m", Run::calculate);
        function(&mut tera, "_is", Run::test);
        function(&mut tera, "_o", Run::print);
        let filter_run = Arc::clone(&run);
        tera.register_filter("_f", move |value: Value, arguments: Kwargs, state: &State| {
            filter(&filter_run, &value, arguments, state)
        });
        tera.add_raw_template(TEMPLATE, &emitted.source).map_err(|error| error.to_string())?;
        Ok(Self { tera, run })
    }

    pub fn render(&mut self, emitted: &Emitted, context: &Json, texts: Texts) -> Result<Outcome, Stop> {
        *lock(&self.run) = Run::begin(&emitted.table, context, texts);
        let mut out = Bounded(Vec::with_capacity(1024));
        let result = self.tera.render_to(TEMPLATE, &Context::new(), &mut out);
        let run = std::mem::take(&mut *lock(&self.run));
        if let Err(error) = result {
            return Err(run.stopped.unwrap_or(if out.is_full() {
                Stop::Output
            } else {
                Stop::Tera(error.to_string())
            }));
        }
        // Tera writes text only, in whole pieces.
        let text = String::from_utf8(out.0).map_err(|error| Stop::Tera(error.to_string()))?;
        let labels =
            |notes: &Notes| notes.order.iter().filter_map(|label| run.table.labels.get(*label)).cloned().collect();
        let rendered = Rendered { text, missing: labels(&run.missing), cut: labels(&run.cut) };
        Ok(Outcome { rendered, unprovided: labels(&run.unprovided) })
    }
}

fn lock(run: &Mutex<Run>) -> MutexGuard<'_, Run> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A writer that is full after [`OUTPUT_BYTES_MAX`].
struct Bounded(Vec<u8>);

impl Bounded {
    fn is_full(&self) -> bool {
        self.0.len() > OUTPUT_BYTES_MAX
    }
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (OUTPUT_BYTES_MAX + 1).saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.is_full() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Notes {
    fn add(&mut self, label: usize) {
        if self.known.insert(label) {
            self.order.push(label);
        }
    }
}

fn value(arguments: &Kwargs, name: &str) -> Value {
    arguments.get::<Value>(name).ok().flatten().unwrap_or_else(Value::undefined)
}

fn number(arguments: &Kwargs, name: &str) -> usize {
    arguments.get::<usize>(name).ok().flatten().unwrap_or_default()
}

/// What it costs to look at a value.
fn cost(value: &Value) -> u64 {
    let size = value.as_str().map(|text| text.len() / BYTES_A_STEP).or_else(|| value.as_array().map(<[Value]>::len));
    1 + size.or_else(|| value.as_map().map(|map| map.len())).unwrap_or_default() as u64
}

fn filter(run: &Mutex<Run>, input: &Value, arguments: Kwargs, state: &State) -> TeraResult<Value> {
    let name = arguments.get::<String>("_f")?.unwrap_or_default();
    let (label, quiet) = (number(&arguments, "_n"), number(&arguments, "_q"));
    lock(run).spend(2 * cost(input))?;
    match filters::apply(&name, input, arguments, state) {
        Ok(output) if output.as_str().is_none_or(|text| text.len() <= filters::TEXT_BYTES_MAX) => {
            lock(run).spend(cost(&output))?;
            Ok(output)
        }
        // A payload of an unexpected shape is no reason to lose the delivery.
        Ok(_) | Err(_) => {
            lock(run).note(label, quiet);
            Ok(Value::undefined())
        }
    }
}

impl Run {
    fn begin(table: &Arc<Table>, context: &Json, texts: Texts) -> Self {
        let mut run = Run { table: Arc::clone(table), ..Run::default() };
        let mut budget = Budget::new(texts);
        for path in &table.paths {
            let found = path.root.as_ref().and_then(|root| convert::find(context, root, &path.steps));
            run.values.push(found.map_or_else(Value::undefined, |found| budget.fit(found)));
            if std::mem::take(&mut budget.exceeded) {
                run.cut.add(path.label);
            }
        }
        run
    }

    fn spend(&mut self, steps: u64) -> TeraResult<()> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX {
            self.stopped = Some(Stop::Steps);
            return Err(tera::Error::message("too many steps"));
        }
        Ok(())
    }

    /// `quiet`: 0 for values that are needed, 1 for those that are only asked for, 2 for those provided for.
    fn note(&mut self, label: usize, quiet: usize) {
        if quiet < 2 {
            self.missing.add(label);
        }
        if quiet == 0 {
            self.unprovided.add(label);
        }
    }

    fn found(&mut self, found: Option<Value>, label: usize, arguments: &Kwargs) -> TeraResult<Value> {
        self.spend(1)?;
        match found {
            Some(found) if !found.is_undefined() => Ok(found),
            _ => {
                self.note(label, number(arguments, "_q"));
                Ok(Value::undefined())
            }
        }
    }

    /// `_p(_p=PATH)`: a value of the context.
    fn path(&mut self, arguments: &Kwargs) -> TeraResult<Value> {
        let path = number(arguments, "_p");
        let label = self.table.paths.get(path).map_or(0, |path| path.label);
        self.found(self.values.get(path).cloned(), label, arguments)
    }

    /// `_w(_v=VALUE, _p=PATH)`: onwards from a value.
    fn walk(&mut self, arguments: &Kwargs) -> TeraResult<Value> {
        let from = value(arguments, "_v");
        let table = Arc::clone(&self.table);
        let Some(path) = table.paths.get(number(arguments, "_p")) else { return Ok(Value::undefined()) };
        let found = path.steps.iter().try_fold(from, |value, step| convert::step(&value, step));
        self.found(found, path.label, arguments)
    }

    /// `_at(_v=VALUE, _k=KEY, _n=LABEL)`: one step whose key is known only now.
    fn at(&mut self, arguments: &Kwargs) -> TeraResult<Value> {
        use super::emit::PathStep;
        let (from, key) = (value(arguments, "_v"), value(arguments, "_k"));
        let step = key.as_str().map(|name| PathStep::Name(name.to_owned())).or(key.as_i64().map(PathStep::Index));
        let found = step.and_then(|step| convert::step(&from, &step));
        self.found(found, number(arguments, "_n"), arguments)
    }

    /// `_s(_v=VALUE, _a=START, _b=END, _n=LABEL)`: a part of a list or text.
    fn slice(&mut self, arguments: &Kwargs) -> TeraResult<Value> {
        let from = value(arguments, "_v");
        self.spend(cost(&from))?;
        let bound = |name: &str, otherwise: usize, length: usize| {
            let bound = value(arguments, name)
                .as_i64()
                .map(|bound| if bound < 0 { bound.saturating_add_unsigned(length as u64).max(0) } else { bound });
            bound.map_or(otherwise, |bound| usize::try_from(bound).unwrap_or(length).min(length))
        };
        let range = |length: usize| (bound("_a", 0, length), bound("_b", length, length));
        let found = if let Some(items) = from.as_array() {
            let (start, end) = range(items.len());
            Some(Value::from(items.get(start..end).unwrap_or_default().to_vec()))
        } else {
            from.as_str().map(|text| {
                let (start, end) = range(text.chars().count());
                Value::from(text.chars().skip(start).take(end.saturating_sub(start)).collect::<String>())
            })
        };
        self.found(found, number(arguments, "_n"), arguments)
    }

    /// `_i(_v=VALUE, _n=LABEL, _w=WEIGHT, _k=1)`: the items to loop over, with their keys where `_k` is set. The work
    /// of all rounds is paid for here, because Tera does not ask between them.
    fn items(&mut self, arguments: &Kwargs) -> TeraResult<Value> {
        let (from, with_keys) = (value(arguments, "_v"), number(arguments, "_k") == 1);
        let label = number(arguments, "_n");
        let pair = |key: Value, value: &Value| Value::from(vec![key, value.clone()]);
        let (length, items): (usize, Vec<Value>) = if let Some(map) = from.as_map() {
            let fields = map.iter().take(ITERATIONS_MAX);
            let each = |(key, value): (&tera::value::Key<'static>, &Value)| {
                if with_keys { pair(key.clone().into(), value) } else { value.clone() }
            };
            (map.len(), fields.map(each).collect())
        } else if let Some(list) = from.as_array() {
            let items = list.iter().take(ITERATIONS_MAX).enumerate();
            let each =
                |(number, item): (usize, &Value)| if with_keys { pair(number.into(), item) } else { item.clone() };
            (list.len(), items.map(each).collect())
        } else {
            if !from.is_undefined() && !from.is_none() {
                self.note(label, number(arguments, "_q"));
            }
            (0, Vec::new())
        };
        if length > ITERATIONS_MAX {
            self.cut.add(label);
        }
        self.spend(1 + (items.len() * number(arguments, "_w")) as u64)?;
        Ok(Value::from(items))
    }

    /// `_r(start=…, end=…, step_by=…, _n=LABEL)`.
    fn range(&mut self, arguments: &Kwargs) -> TeraResult<Value> {
        let argument = |name: &str, otherwise: i64| match value(arguments, name) {
            absent if absent.is_undefined() => Some(otherwise),
            given => given.as_i64(),
        };
        let bounds = (argument("start", 0), value(arguments, "end").as_i64(), argument("step_by", 1));
        let (Some(start), Some(end), Some(step)) = bounds else {
            self.note(number(arguments, "_n"), 0);
            return Ok(Value::from(Vec::<Value>::new()));
        };
        let inside = |number: &i64| if step > 0 { *number < end } else { *number > end };
        let mut items: Vec<i64> = std::iter::successors(Some(start), |number| number.checked_add(step))
            .take_while(inside)
            .take(if step == 0 { 0 } else { ITERATIONS_MAX + 1 })
            .collect();
        if items.len() > ITERATIONS_MAX {
            items.truncate(ITERATIONS_MAX);
            self.cut.add(number(arguments, "_n"));
        }
        self.spend(1 + items.len() as u64)?;
        Ok(Value::from(items))
    }

    /// `_b(_o=OPERATOR, _0=LEFT, _1=RIGHT)`: yes or no.
    fn compare(&mut self, arguments: &Kwargs) -> TeraResult<Value> {
        let (left, right) = (value(arguments, "_0"), value(arguments, "_1"));
        self.spend(cost(&left) + cost(&right))?;
        let operator = arguments.get::<&str>("_o")?.unwrap_or_default();
        Ok(Value::from(operators::compare(operator, &left, &right)))
    }

    /// `_m(_o="+ - …", _0=…, _1=…, …)`: from left to right.
    fn calculate(&mut self, arguments: &Kwargs) -> TeraResult<Value> {
        let mut result = value(arguments, "_0");
        for (number, operator) in arguments.get::<&str>("_o")?.unwrap_or_default().split(' ').enumerate() {
            let right = value(arguments, &format!("_{}", number + 1));
            result = operators::calculate(operator, &result, &right).unwrap_or_else(Value::undefined);
            self.spend(cost(&result))?;
            if result.as_str().is_some_and(|text| text.len() > filters::TEXT_BYTES_MAX) {
                self.stopped = Some(Stop::Output);
                return Err(tera::Error::message("too long"));
            }
        }
        Ok(result)
    }

    /// `_is(_t=TEST, _v=VALUE, _a=ARGUMENT)`.
    fn test(&mut self, arguments: &Kwargs) -> TeraResult<Value> {
        let of = value(arguments, "_v");
        self.spend(cost(&of))?;
        let name = arguments.get::<&str>("_t")?.unwrap_or_default();
        Ok(Value::from(operators::test(name, &of, &value(arguments, "_a"))))
    }

    /// `_o(_v=VALUE, _n=LABEL)`: the text that is printed for it.
    fn print(&mut self, arguments: &Kwargs) -> TeraResult<Value> {
        let printed = convert::printed(&value(arguments, "_v"));
        self.spend(1 + (printed.len() / BYTES_A_STEP) as u64)?;
        Ok(Value::from(match convert::cut(&printed) {
            Some(shortened) => {
                self.cut.add(number(arguments, "_n"));
                shortened
            }
            None => printed,
        }))
    }
}

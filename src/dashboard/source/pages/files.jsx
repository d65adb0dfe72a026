// Skills and agents: which there are, and an editor that says what the command line would say, while one types.
// What is saved becomes a commit, or a proposal where the operator wants one.

import { useEffect, useRef, useState } from 'preact/hooks';

import { Problem, at, call, post, query } from '../api.js';
import { link, setFields, usePages, useRoutes } from '../hooks.js';
import { Diagnostics, Empty, Fault, Loaded, NotHere, Search, State } from '../parts.jsx';
import { Listed } from '../rows.jsx';
import { count } from '../words.js';

const KINDS = { skills: 'skill', agents: 'agent' };
const TYPING_MS = 250;
const aboutFiles = (one) => one.kind.startsWith('reconcile.') || one.kind.startsWith('change.');

export function Files({ fields }) {
  const kind = fields.kind in KINDS ? fields.kind : 'skills';
  return (
    <>
      <h1 tabIndex={-1}>Skills and agents</h1>
      <div class="tabs" role="group" aria-label="Which files">
        {Object.keys(KINDS).map((name) => (
          <button type="button" key={name} aria-pressed={kind === name} onClick={() => setFields({ kind: name, search: '' })}>
            {name === 'skills' ? 'Skills' : 'Agents'}
          </button>
        ))}
      </div>
      <List key={kind} kind={kind} search={fields.search ?? ''} />
      <New kind={kind} />
    </>
  );
}

function List({ kind, search }) {
  const list = usePages(`/api/${kind}`, { search }, { when: aboutFiles, cursor: 'after', size: 100 });
  const columns = [
    { name: 'Name', width: 'minmax(0, 1fr)', cell: (one) => <a class="clip" href={link('files', kind, one.name)}>{one.name}</a> },
    { name: 'State', width: '8rem', cell: (one) => <FileState file={one} /> },
    kind === 'skills'
      ? { name: 'Webhooks', width: 'minmax(0, 1fr)', cell: (one) => <span class="clip">{one.webhooks.join(', ') || 'none'}</span> }
      : { name: 'Model', width: 'minmax(0, 0.6fr)', cell: (one) => <span class="clip">{one.model ?? 'the usual one'}</span> },
    { name: 'Description', width: 'minmax(0, 2.5fr)', cell: (one) => <span class="clip" title={one.description}>{one.description}</span> },
  ];
  return (
    <>
      <div class="toolbar">
        <Search label="Only with this in it" value={search} onChange={(next) => setFields({ search: next })} />
      </div>
      <Listed list={list} label={kind === 'skills' ? 'Skills' : 'Agents'} columns={columns} what={KINDS[kind]}>
        <Empty title={search ? `No ${KINDS[kind]} is like that` : `There are no ${kind} yet`}>
          <p>{search ? <button type="button" onClick={() => setFields({ search: '' })}>Show all</button> : <>Write one below, or run <code>skillhook init</code>.</>}</p>
        </Empty>
      </Listed>
    </>
  );
}

function FileState({ file }) {
  const errors = file.diagnostics.filter((one) => one.severity === 'error').length;
  const warnings = file.diagnostics.length - errors;
  if (errors) return <State of="error">{count(errors)} {errors === 1 ? 'error' : 'errors'}</State>;
  if (warnings) return <State of="held">{count(warnings)} {warnings === 1 ? 'warning' : 'warnings'}</State>;
  return <State of="ready">in force</State>;
}

function New({ kind }) {
  const [name, setName] = useState('');
  const go = (event) => {
    event.preventDefault();
    location.hash = link('files', kind, name.trim());
  };
  return (
    <form class="toolbar" onSubmit={go} aria-label={`A new ${KINDS[kind]}`}>
      <label class="field">
        <span>Name of a new {KINDS[kind]}</span>
        <input value={name} required pattern="[a-z0-9](-?[a-z0-9])*" title="small letters, digits and single hyphens" spellcheck={false} onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      <button type="submit">Write it</button>
    </form>
  );
}

const TEXTS = {
  skills: (name) => `---\nname: ${name}\ndescription: What this skill is for, and when to use it.\n---\n# ${name}\n`,
  agents: (name) => `---\nname: ${name}\ndescription: What this agent is for, and when to call it.\n---\nYou are careful and brief.\n`,
};

/** One file. The address holds its kind and name. */
export function File({ rest }) {
  const [kind, name] = rest;
  const has = useRoutes();
  if (!(kind in KINDS) || !name) return <Empty title="There is no such file"><a href={link('files')}>All skills and agents</a></Empty>;
  const known = has('GET', `/api/registry/${kind}/{}/content`);
  return (
    <>
      <p class="crumbs"><a href={link('files', { kind })}>Skills and agents</a></p>
      <h1 tabIndex={-1}>{name}</h1>
      {known === false && <NotHere what={`The text of ${kind}`} command="skillhook validate" />}
      {known && <Fetched kind={kind} name={name} canSave={has('PUT', `/api/registry/${kind}/{}/content`)} canCheck={has('POST', '/api/validate')} />}
    </>
  );
}

/** The text as it is now, with the tag that the next edit must name. */
async function fetched(kind, name, signal) {
  try {
    const { value, response } = await call('GET', at`/api/registry/` + kind + at`/${name}/content`, { signal, wants: 'response' });
    return { text: typeof value === 'string' ? value : value.content, tag: response.headers.get('etag'), isNew: false, isBuiltIn: value.is_builtin === true };
  } catch (error) {
    if (error.status !== 404) throw error;
    return { text: TEXTS[kind](name), tag: null, isNew: true };
  }
}

function Fetched(props) {
  const { kind, name } = props;
  const [state, setState] = useState({ value: null, error: null, turn: 0 });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    fetched(kind, name, abort.signal).then((value) => setState({ value, error: null, turn }), (error) => abort.signal.aborted || setState({ value: null, error, turn }));
    return () => abort.abort();
  }, [kind, name, turn]);
  return <Loaded of={{ ...state, reload: () => setTurn((n) => n + 1) }}>{(value) => <Editor key={state.turn} {...props} file={value} reload={() => setTurn((n) => n + 1)} />}</Loaded>;
}

function Editor({ kind, name, file, canSave, canCheck, reload }) {
  const path = kind === 'skills' ? `.claude/skills/${name}/SKILL.md` : `.claude/agents/${name}.md`;
  const host = useRef(null);
  const editor = useRef(null);
  const [text, setText] = useState(file.text);
  const [base, setBase] = useState({ text: file.text, tag: file.tag, isNew: file.isNew });
  const verdict = useVerdict(canCheck, path, text);
  const [saving, setSaving] = useState({ busy: false, error: null, done: null });
  useEffect(() => {
    let gone = false;
    import('../editor.js').then(({ open }) => {
      if (gone) return;
      editor.current = open(host.current, { text: file.text, label: `Text of ${path}`, isReadOnly: !canSave, onChange: setText });
    });
    return () => {
      gone = true;
      editor.current?.destroy();
    };
  }, []);
  const refused = saving.error?.more?.diagnostics;
  const diagnostics = refused ?? verdict.diagnostics;
  useEffect(() => editor.current?.show(diagnostics.filter((one) => !one.path || one.path === path)), [diagnostics]);
  const errors = verdict.diagnostics.filter((one) => one.severity === 'error').length;
  const isChanged = text !== base.text || base.isNew;
  const cannotSave = !isChanged || saving.busy || errors > 0 || verdict.pending;
  const save = async (propose) => {
    setSaving({ busy: true, error: null, done: null });
    try {
      const more = base.tag ? { 'if-match': base.tag } : { 'if-none-match': '*' };
      const { value, response } = await call('PUT', at`/api/registry/` + kind + at`/${name}/content` + query({ propose }), { body: { content: text }, more, wants: 'response' });
      // What is only proposed leaves the file as it is.
      if (value.status !== 'proposed') setBase({ text, tag: response.headers.get('etag') ?? quoted(value.files?.[path]), isNew: false });
      setSaving({ busy: false, error: null, done: value });
    } catch (error) {
      setSaving({ busy: false, error, done: null });
    }
  };
  return (
    <>
      <p class="hint">
        <code>{path}</code>
        {base.isNew && ' is not there yet: this is a beginning.'}
      </p>
      <div ref={host} class="editor" />
      <div class="headline" role="status">
        {canCheck === false && <span>Checked when it is saved.</span>}
        {canCheck && (verdict.pending ? <State of="running">checking</State> : errors ? <State of="error">{count(errors)} {errors === 1 ? 'error' : 'errors'}</State> : <State of="ready">valid</State>)}
        {canSave ? (
          <>
            {verdict.mode !== 'propose' && (
              <button type="button" class="primary" onClick={() => save()} disabled={cannotSave}>{saving.busy ? 'Saving…' : 'Save'}</button>
            )}
            <button type="button" class={verdict.mode === 'propose' ? 'primary' : ''} onClick={() => save(true)} disabled={cannotSave} title="On a branch, which takes effect when a person merges it">Save as a proposal</button>
          </>
        ) : (
          <span class="hint">This server takes no edits here: edit the file itself.</span>
        )}
        {isChanged && !base.isNew && !saving.busy && <button type="button" onClick={() => editor.current?.set(base.text)}>Undo all</button>}
      </div>
      <Widening of={verdict.widens} />
      <Problems error={saving.error} reload={reload} />
      {saving.done && <Saved done={saving.done} />}
      <Diagnostics of={diagnostics} />
      {diagnostics[0]?.position && <button type="button" onClick={() => editor.current?.go(diagnostics[0].position.line, diagnostics[0].position.column)}>Go to the first place</button>}
      {verdict.error && <Fault error={verdict.error} />}
    </>
  );
}

function quoted(digest) {
  return digest ? `"${digest}"` : null;
}

/** What the server says about the text, once typing pauses. */
function useVerdict(canCheck, path, text) {
  const [verdict, setVerdict] = useState({ diagnostics: [], pending: Boolean(canCheck), error: null });
  useEffect(() => {
    if (!canCheck) return undefined;
    const abort = new AbortController();
    setVerdict((old) => ({ ...old, pending: true }));
    const timer = setTimeout(() => {
      post('/api/validate', { path, text }, { signal: abort.signal }).then(
        (value) => setVerdict({ ...value, diagnostics: value.diagnostics, pending: false, error: null }),
        (error) => abort.signal.aborted || setVerdict({ diagnostics: [], pending: false, error }),
      );
    }, TYPING_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [path, text, canCheck]);
  return verdict;
}

function Widening({ of }) {
  if (!of?.length) return null;
  return (
    <div class="notice warn">
      <p>With this, runs or strangers could do what they cannot do now:</p>
      <ul>
        {of.map((one, n) => (
          <li key={n}>{one.resource}: {one.what}</li>
        ))}
      </ul>
    </div>
  );
}

function Problems({ error, reload }) {
  if (!(error instanceof Problem)) return null;
  if (error.status === 412) {
    return (
      <div class="notice bad" role="alert">
        <p>Somebody else has changed this file meanwhile; nothing was saved. {error.message}</p>
        <button type="button" onClick={reload}>Throw my text away and show the newer one</button>
      </div>
    );
  }
  return <Fault error={error} />;
}

function Saved({ done }) {
  if (done.status === 'proposed') {
    return (
      <p class="notice" role="status">
        Proposed on the branch <code>{done.branch}</code>; it takes effect when a person merges it. <a href={link('proposals', done.branch)}>See what it would do</a>. {done.note}
      </p>
    );
  }
  return (
    <p class="notice" role="status">
      Saved: {done.status}{done.commit && <> as <code>{done.commit.slice(0, 12)}</code></>}. {done.note}
    </p>
  );
}

// Changes: what was changed by whom, what a commit changed and would do, and the way back.

import { useState } from 'preact/hooks';

import { post, query } from '../api.js';
import { link, setFields, useAction, usePages, useResource, useRoutes } from '../hooks.js';
import { Act, Card, Diagnostics, Digest, Empty, Fault, Loaded, NotHere, State, When } from '../parts.jsx';
import { Listed } from '../rows.jsx';
import { count, tail } from '../words.js';

const COMMITS = 100;
const REFRESH_MS = 5000;
const aboutFiles = (one) => one.kind.startsWith('reconcile.') || one.kind.startsWith('change.');

export function Changes({ id, fields }) {
  const has = useRoutes();
  const known = has('GET', '/api/history');
  const isDeeds = fields.view === 'deeds';
  return (
    <>
      {id && <p class="crumbs"><a href={link('changes')}>Changes</a></p>}
      <h1 tabIndex={-1}>{id ? `Commit ${id.slice(0, 12)}` : 'Changes'}</h1>
      {known === false && <NotHere what="The history" />}
      {!id && <Waiting />}
      {!id && has('GET', '/api/audit') && (
        <div class="tabs" role="group" aria-label="What to show">
          <button type="button" aria-pressed={!isDeeds} onClick={() => setFields({ view: '' })}>Commits</button>
          <button type="button" aria-pressed={isDeeds} onClick={() => setFields({ view: 'deeds' })}>Who did what</button>
        </div>
      )}
      {known && (id ? <One key={id} id={id} canRollBack={has('POST', '/api/rollback')} /> : isDeeds ? <Deeds /> : <History />)}
    </>
  );
}

/** Proposals have a page of their own. */
function Waiting() {
  const waiting = useResource('/api/status', { when: (one) => one.kind.startsWith('proposal.'), every: REFRESH_MS }).value?.git?.proposals ?? [];
  if (!waiting.length) return null;
  return (
    <p class="notice">
      <a href={link('proposals')}>{count(waiting.length)} {waiting.length === 1 ? 'proposal waits' : 'proposals wait'} for review</a>: {waiting.map((one) => one.title || one.branch).slice(0, 3).join(', ')}
    </p>
  );
}

/** Changes, approvals, replays, tokens: what people did, by name. */
function Deeds() {
  const list = usePages('/api/audit', {}, { when: (one) => !/^(delivery\.received|reconcile)/.test(one.kind), size: 100 });
  const columns = [
    { name: 'Deed', width: 'minmax(0, 1.2fr)', cell: (one) => <span class="clip">{one.kind}</span> },
    { name: 'Who', width: 'minmax(0, 1fr)', cell: (one) => <span class="clip">{one.actor}</span> },
    { name: 'When', width: '8.5rem', cell: (one) => <When at={one.at} /> },
    { name: 'What', width: 'minmax(0, 3fr)', cell: (one) => <span class="clip" title={one.message}>{one.message}</span> },
    { name: 'Of', width: '9.5rem', cell: (one) => (one.task ? <a href={link('tasks', one.task)}>{tail(one.task)}</a> : one.delivery ? <a href={link('deliveries', one.delivery)}>{tail(one.delivery)}</a> : one.webhook ? <a class="clip" href={link('webhooks', one.webhook)}>{one.webhook}</a> : '–') },
  ];
  return (
    <Listed list={list} label="Who did what" columns={columns} what="deed">
      <Empty title="Nobody has done anything yet">Changes, approvals, replays and new tokens stand here with the name of who did it.</Empty>
    </Listed>
  );
}

function History() {
  const history = useResource(`/api/history?limit=${COMMITS}`, { when: aboutFiles });
  return (
    <Loaded of={history}>
      {({ items }) =>
        items.length ? (
          <ul class="lines card">
            {items.map((one) => (
              <li key={one.commit}>
                <p><a href={link('changes', one.commit)}>{one.title || one.commit}</a></p>
                <p class="hint">
                  <code>{one.commit.slice(0, 12)}</code> by {one.actor ?? one.author}, <When at={one.at} />
                  {one.origin && `, through ${one.origin}`}
                  {one.changes.length > 0 && `: ${named(one.changes)}`}
                </p>
              </li>
            ))}
          </ul>
        ) : (
          <Empty title="Nothing was changed yet">Edits of files below <code>.claude/</code> stand here once they are committed.</Empty>
        )
      }
    </Loaded>
  );
}

/** The first paths, and how many more there are. */
function named(changes) {
  const paths = changes.map((change) => change.path);
  return paths.length > 3 ? `${paths.slice(0, 3).join(', ')} and ${paths.length - 3} more` : paths.join(', ');
}

function One({ id, canRollBack }) {
  return (
    <>
      <div class="headline">
        <Digest of={id} label="Copy the whole commit" />
        {canRollBack && <RollBack id={id} />}
      </div>
      <Effects from={`${id}~1`} to={id} does="What it did" changes="What it changed" />
    </>
  );
}

/** What going from one revision to another does, and which lines that is. */
export function Effects({ from, to, does, changes }) {
  const range = query({ from, to });
  const diff = useResource(`/api/diff${range}`);
  const plan = useResource(`/api/plan${range}`);
  return (
    <>
      <Card title={does} wide>
        <Loaded of={plan}>{(value) => <Plan of={value} />}</Loaded>
      </Card>
      <Card title={changes} wide>
        <Loaded of={diff}>{({ items }) => (items.length ? items.map((file) => <File key={file.path} file={file} />) : <p class="hint">Nothing of the configuration.</p>)}</Loaded>
      </Card>
    </>
  );
}

/** In terms of webhooks, skills and agents. */
function Plan({ of }) {
  if (!of.actions.length && !of.diagnostics.length) return <p class="hint">Nothing that is in force became another thing.</p>;
  return (
    <>
      <ul class="lines">
        {of.actions.map((action) => (
          <li key={`${action.kind}/${action.name}`}>
            <State of={action.verb} /> {action.kind} <strong>{action.name}</strong> <span class="hint">{action.note}</span>
          </li>
        ))}
      </ul>
      <Diagnostics of={of.diagnostics} />
    </>
  );
}

function File({ file }) {
  return (
    <section aria-label={file.path}>
      <h3>
        {file.path} <State of={file.verb} />
      </h3>
      {file.text === null ? <p class="hint">Too large to be shown, or no text.</p> : <Lines text={file.text} label={`Difference of ${file.path}`} />}
    </section>
  );
}

/** A unified diff; its signs stay, so that colour is not the only carrier. */
function Lines({ text, label }) {
  return (
    <pre class="text diff" tabIndex={0} role="region" aria-label={label}>
      {text.split('\n').map((line, n) => (
        <span key={n} class={toneOf(line)}>
          {line}
          {'\n'}
        </span>
      ))}
    </pre>
  );
}

function toneOf(line) {
  if (/^(@@|diff |index |--- |\+\+\+ )/.test(line)) return 'place';
  return line.startsWith('+') ? 'plus' : line.startsWith('-') ? 'minus' : '';
}

function RollBack({ id }) {
  const [done, setDone] = useState(null);
  const [run, { busy, error }] = useAction(async () => setDone(await post(`/api/rollback${query({ revision: id })}`)));
  return (
    <>
      {!done && <Act run={run} busy={busy} label="Go back to this" kind="danger" confirm="A new commit brings the configuration of this one back; history stays." />}
      <Fault error={error} />
      {done && (
        <span role="status">
          Brought back as <a href={link('changes', done.commit)}>{done.commit.slice(0, 12)}</a>, {done.in_force ? 'in force' : 'not in force yet'}.
        </span>
      )}
    </>
  );
}

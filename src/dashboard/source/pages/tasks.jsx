// Tasks: which wait, run and have ended, and one of them with its log as it is written.

import { useEffect, useRef, useState } from 'preact/hooks';

import { at, get, post } from '../api.js';
import { link, setFields, useAction, usePages, useResource, useRoutes } from '../hooks.js';
import { events, listen, sleep } from '../live.js';
import { Act, Card, Choice, Digest, Empty, Facts, Fault, Field, Loaded, Outside, Search, State, Text, When } from '../parts.jsx';
import { Listed } from '../rows.jsx';
import { clock, count, duration, money, tail } from '../words.js';
import { decide } from './approvals.jsx';

const STATES = [['', 'Any state'], ['checking', 'Checking'], ['awaiting_approval', 'Awaiting approval'], ['queued', 'Queued'], ['running', 'Running'], ['waiting_input', 'Waiting for input'], ['succeeded', 'Succeeded'], ['dead', 'Dead'], ['cancelled', 'Cancelled'], ['refused', 'Refused']];
const ENDED = ['succeeded', 'dead', 'cancelled', 'refused', 'expired', 'failed'];
const LOG_PAGE = 500;
const LOG_LINES_SHOWN = 2000;
const PAUSE_MS = 100;
const RETRY_MS = 3000;

export function Tasks({ fields }) {
  const filter = { state: fields.state, webhook: fields.webhook, delivery: fields.delivery };
  const list = usePages('/api/tasks', filter, { when: (one) => one.task });
  const columns = [
    { name: 'Task', width: '9.5rem', cell: (one) => <a href={link('tasks', one.id)} title={one.id}>{tail(one.id)}</a> },
    { name: 'State', width: '9rem', cell: (one) => <span title={one.reason?.message}><State of={one.state} /></span> },
    { name: 'Command', width: 'minmax(0, 1fr)', cell: (one) => <span class="clip">{one.command}</span> },
    { name: 'Webhook', width: 'minmax(0, 1fr)', cell: (one) => <a class="clip" href={link('webhooks', one.webhook)}>{one.webhook}</a> },
    { name: 'Agent', width: 'minmax(0, 1fr)', cell: (one) => <span class="clip">{one.agent ?? '–'}</span> },
    { name: 'Actor', width: 'minmax(0, 1fr)', cell: (one) => <span class="clip">{one.actor ?? '–'}</span> },
    { name: 'Cost', width: '5.5rem', kind: 'number', cell: (one) => money(one.cost_usd) },
    { name: 'Changed', width: '8.5rem', cell: (one) => <When at={one.updated_at} /> },
  ];
  return (
    <>
      <h1 tabIndex={-1}>Tasks</h1>
      <div class="toolbar">
        <Choice label="State" value={fields.state} options={STATES} onChange={(state) => setFields({ state })} />
        <Search label="Only of this webhook" value={fields.webhook} onChange={(webhook) => setFields({ webhook: webhook.trim() })} placeholder="its whole id" />
        {fields.delivery && <button type="button" onClick={() => setFields({ delivery: '' })}>Of all deliveries</button>}
      </div>
      <Listed list={list} label="Tasks" columns={columns} what="task">
        <None isFiltered={Object.values(filter).some(Boolean)} />
      </Listed>
    </>
  );
}

function None({ isFiltered }) {
  return isFiltered ? (
    <Empty title="No task is like that">
      <p><button type="button" onClick={() => setFields({ state: '', webhook: '', delivery: '' })}>Show all tasks</button></p>
    </Empty>
  ) : (
    <Empty title="No task has run yet">
      <p>A delivery that a command matches makes one. See what came in under <a href={link('deliveries')}>deliveries</a>.</p>
    </Empty>
  );
}

export function Task({ id }) {
  const task = useResource(at`/api/tasks/${id}`, { when: (one) => one.task === id });
  return (
    <>
      <p class="crumbs"><a href={link('tasks')}>Tasks</a></p>
      <h1 tabIndex={-1} class="wrap">{task.value ? task.value.spec.command : 'Task'} <span class="hint">{tail(id)}</span></h1>
      <Loaded of={task}>{(value) => <One task={value} reload={task.reload} />}</Loaded>
    </>
  );
}

function One({ task, reload }) {
  const { spec, result } = task;
  return (
    <>
      <div class="headline">
        <State of={task.state} />
        {task.reason && <span>{task.reason.code}: {task.reason.message}</span>}
        {task.cancel_requested && !ENDED.includes(task.state) && <span>asked to stop</span>}
        <Steering task={task} reload={reload} />
      </div>
      <div class="grid">
        <Card title="What it is">
          <Facts
            of={[
              ['Webhook', <a href={link('webhooks', spec.webhook)}>{spec.webhook}</a>],
              ['Skill', <a href={link('files', 'skills', spec.skill)}>{spec.skill}</a>],
              ['Agent', spec.agent ?? 'no agent'],
              ['Event', spec.source.event],
              ['Actor', spec.source.actor],
              ['Source', spec.source.url && <Outside href={spec.source.url} />],
              ['Delivery', spec.delivery && <a href={link('deliveries', spec.delivery)}>{tail(spec.delivery)}</a>],
              ['Child of', spec.parent && <a href={link('tasks', spec.parent)}>{tail(spec.parent)}</a>],
              ['Created', <When at={spec.created_at} />],
              ['Attempt', task.attempt > 0 && `${task.attempt}, at most ${spec.max_attempts}`],
              ['Not before', task.state === 'queued' && new Date(task.not_before) > new Date() && <When at={task.not_before} />],
              ['Id', <Digest of={spec.id} label="Copy the whole id" />],
            ]}
          />
        </Card>
        <Card title="What it used">
          {result ? (
            <Facts
              of={[
                ['Cost', money(result.cost_usd)],
                ['Input', `${count(result.input_tokens)} tokens`],
                ['Output', `${count(result.output_tokens)} tokens`],
                ['Turns', count(result.turns)],
                ['Took', duration(result.duration_ms)],
                ['Refused to it', result.denials.join(', ')],
              ]}
            />
          ) : (
            <p class="hint">{ENDED.includes(task.state) ? 'It ended without a result.' : 'Known when the run has ended.'}</p>
          )}
          <Facts
            of={[
              ['Model', spec.run.model],
              ['Budget', spec.run.budget_usd !== null && money(spec.run.budget_usd)],
              ['Turns at most', spec.run.max_turns],
              ['Time at most', duration(spec.run.timeout_seconds * 1000)],
              ['Tools', spec.run.tools?.join(', ')],
            ]}
          />
        </Card>
      </div>
      {task.state === 'waiting_input' && <Question id={spec.id} reload={reload} />}
      {result?.text && (
        <Card title={task.state === 'waiting_input' ? 'What it asks' : 'Answer'} wide>
          <Text label="Answer">{result.text}</Text>
          {task.outbox.filter((item) => item.url).map((item) => (
            <p key={item.id}><Outside href={item.url}>Where it was answered</Outside></p>
          ))}
        </Card>
      )}
      <Card title="Log" wide aside={!ENDED.includes(task.state) && <span class="hint">written as it happens</span>}>
        <Log id={spec.id} />
      </Card>
      <Card title="Prompt" wide>
        <Text label="Prompt">{spec.prompt}</Text>
        {spec.missing.length > 0 && <p class="hint">Empty because the payload has no value there: {spec.missing.join(', ')}</p>}
      </Card>
    </>
  );
}

/** It asked something and waits: here, or where it was asked, it can be answered. */
function Question({ id, reload }) {
  const has = useRoutes();
  const [text, setText] = useState('');
  const [send, { busy, error }] = useAction(async () => {
    await post(at`/api/tasks/${id}/input`, { text });
    reload();
  });
  if (!has('POST', '/api/tasks/{}/input')) return null;
  const submit = (event) => {
    event.preventDefault();
    send();
  };
  return (
    <Card title="It waits for an answer" wide>
      <form onSubmit={submit} aria-label="Your answer">
        <Field label="Your answer">
          <textarea rows="3" required value={text} onInput={(event) => setText(event.currentTarget.value)} />
        </Field>
        <button type="submit" class="primary" disabled={busy || !text.trim()}>{busy ? 'Sending…' : 'Send the answer'}</button>
        <Fault error={error} />
      </form>
    </Card>
  );
}

/** Stop, retry, approve, reject: what the state allows and this server has. */
function Steering({ task, reload }) {
  const has = useRoutes();
  const act = (verb) => async () => {
    await post(at`/api/tasks/${task.spec.id}/` + verb);
    reload();
  };
  const [cancel, cancelling] = useAction(act('cancel'));
  const [retry, retrying] = useAction(act('retry'));
  const judge = (verb) => async () => {
    await decide(task, verb);
    reload();
  };
  const [approve, approving] = useAction(judge('approve'));
  const [reject, rejecting] = useAction(judge('reject'));
  const ended = ENDED.includes(task.state);
  const waits = task.state === 'awaiting_approval';
  const error = [cancelling, retrying, approving, rejecting].find((one) => one.error)?.error;
  return (
    <>
      {waits && has('POST', '/api/tasks/{}/approve') && <Act run={approve} busy={approving.busy} label="Approve" kind="primary" />}
      {waits && has('POST', '/api/tasks/{}/reject') && <Act run={reject} busy={rejecting.busy} label="Reject" confirm="It will not run." />}
      {!ended && has('POST', '/api/tasks/{}/cancel') && <Act run={cancel} busy={cancelling.busy} label="Stop" kind="danger" confirm="What it has done so far stays done." />}
      {ended && has('POST', '/api/tasks/{}/retry') && <Act run={retry} busy={retrying.busy} label="Retry" />}
      <Fault error={error} />
    </>
  );
}

/** The log from its first line on: what there is already in pages, what comes then as it is written. */
export function useLog(id) {
  const [state, setState] = useState({ lines: [], error: null, ended: false });
  useEffect(() => {
    const stop = new AbortController();
    // News of the task break a wait off: perhaps it has ended, or is in the queue again.
    let wait = new AbortController();
    const quit = listen((happenings) => (!happenings.length || happenings.some((one) => one.task === id)) && wait.abort());
    setState({ lines: [], error: null, ended: false });
    const add = (lines, more) => setState((old) => ({ ...old, lines: lines.length ? old.lines.concat(lines) : old.lines, error: null, ...more }));
    let from = 0;
    const streamed = (heard) => {
      const lines = heard.filter((one) => one.kind === 'task.output' && one.data.number >= from).map((one) => one.data);
      if (!lines.length) return;
      from = lines.at(-1).number + 1;
      add(lines);
    };
    const follow = async () => {
      while (!stop.signal.aborted) {
        wait = new AbortController();
        try {
          const page = await get(at`/api/tasks/${id}/logs` + `?from=${from}&limit=${LOG_PAGE}`, { signal: stop.signal });
          from = page.next;
          add(page.items, { ended: page.ended });
          if (page.items.length === LOG_PAGE) continue;
          if (page.ended) await aborted(wait.signal);
          else await events(`/api/stream?task=${encodeURIComponent(id)}&from=${from}&kind=task.output`, { signal: wait.signal }, streamed);
          await sleep(PAUSE_MS, stop.signal);
        } catch (error) {
          if (stop.signal.aborted) return;
          setState((old) => ({ ...old, error }));
          await sleep(RETRY_MS, stop.signal);
        }
      }
    };
    follow();
    return () => {
      quit();
      stop.abort();
      wait.abort();
    };
  }, [id]);
  return state;
}

function aborted(signal) {
  return new Promise((done) => (signal.aborted ? done() : signal.addEventListener('abort', done)));
}

function Log({ id }) {
  const { lines, error, ended } = useLog(id);
  const box = useRef(null);
  const [isFollowing, setFollowing] = useState(true);
  useEffect(() => {
    if (isFollowing && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, isFollowing]);
  const shown = lines.slice(-LOG_LINES_SHOWN);
  return (
    <>
      <Fault error={error} />
      {lines.length === 0 ? (
        <p class="hint">{ended ? 'Nothing was written.' : 'Nothing has been written yet.'}</p>
      ) : (
        <>
          <label class="check">
            <input type="checkbox" checked={isFollowing} onChange={(event) => setFollowing(event.currentTarget.checked)} />
            <span>Follow the end</span>
          </label>
          {shown.length < lines.length && <p class="hint">The last {count(shown.length)} of {count(lines.length)} lines. All of them: <code>skillhook logs {id}</code></p>}
          <div class="log" ref={box} tabIndex={0} aria-label="Log" role="log">
            {shown.map((line, n) => (
              <div key={lines.length - shown.length + n} class={`line ${line.kind}`}>
                <time dateTime={line.at}>{clock(line.at)}</time>
                <span class="kind">{line.kind}</span>
                <span class="said">{line.text}</span>
              </div>
            ))}
          </div>
        </>
      )}
    </>
  );
}

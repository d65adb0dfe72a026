// Deliveries, and one of them under the glass: what came, whether it was genuine, what each rule said, what was asked
// of the agent, what was answered, and when each of these happened.

import { useEffect, useMemo, useState } from 'preact/hooks';

import { at, get, post, query } from '../api.js';
import { link, setFields, useAction, usePages, useResource, useRoutes } from '../hooks.js';
import { Act, Card, Copy, Digest, Empty, Facts, Fault, Loaded, Outside, Search, State, Text, When } from '../parts.jsx';
import { Listed } from '../rows.jsx';
import { bytes, clock, count, duration, spoken, tail } from '../words.js';
import { Rules, Would } from './webhooks.jsx';

export function Deliveries({ fields }) {
  const filter = { webhook: fields.webhook };
  const list = usePages('/api/deliveries', filter, { when: (one) => one.kind === 'delivery.received' });
  const columns = [
    { name: 'Delivery', width: '9.5rem', cell: (one) => <a href={link('deliveries', one.id)} title={one.id}>{tail(one.id)}</a> },
    { name: 'Received', width: '8.5rem', cell: (one) => <When at={one.received_at} /> },
    { name: 'Outcome', width: '7rem', cell: (one) => <State of={one.outcome} /> },
    { name: 'Webhook', width: 'minmax(0, 1fr)', cell: (one) => <a class="clip" href={link('webhooks', one.webhook)}>{one.webhook}</a> },
    { name: 'Event', width: 'minmax(0, 1.4fr)', cell: (one) => <span class="clip">{one.events.join(', ')}</span> },
    { name: 'Actor', width: 'minmax(0, 1fr)', cell: (one) => <span class="clip">{one.actor ?? '–'}</span> },
    { name: 'Tasks', width: '4.5rem', kind: 'number', cell: (one) => (one.tasks.length ? <a href={link('tasks', { delivery: one.id })} aria-label={`${one.tasks.length} tasks of ${one.id}`}>{one.tasks.length}</a> : '0') },
  ];
  return (
    <>
      <h1 tabIndex={-1}>Deliveries</h1>
      <div class="toolbar">
        <Search label="Only of this webhook" value={fields.webhook} onChange={(webhook) => setFields({ webhook: webhook.trim() })} placeholder="its whole id" />
      </div>
      <Listed list={list} label="Deliveries" columns={columns} what="delivery" many="deliveries">
        <None webhook={fields.webhook} />
      </Listed>
    </>
  );
}

function None({ webhook }) {
  return (
    <Empty title={webhook ? `Nothing has come in for ${webhook}` : 'Nothing has come in yet'}>
      <p>
        {webhook && <><button type="button" onClick={() => setFields({ webhook: '' })}>Show those of all webhooks</button>, or </>}
        open <a href={link('webhooks')}>a webhook</a>, copy its address to the provider, or send a test. <code>skillhook trigger --list</code> shows samples that sign themselves.
      </p>
    </Empty>
  );
}

export function Delivery({ id }) {
  const delivery = useResource(at`/api/deliveries/${id}` + '?body=true', { when: (one) => one.delivery === id });
  const tasks = useTasks(id);
  return (
    <>
      <p class="crumbs"><a href={link('deliveries')}>Deliveries</a></p>
      <h1 tabIndex={-1} class="wrap">{tail(id)}</h1>
      <Loaded of={delivery}>{(value) => <One delivery={value} tasks={tasks} />}</Loaded>
    </>
  );
}

/** The tasks of a delivery, whole, each with the time of the first line of its log. */
function useTasks(id) {
  const list = useResource(`/api/tasks?limit=20&delivery=${encodeURIComponent(id)}`, { when: (one) => one.delivery === id || one.task });
  const [whole, setWhole] = useState([]);
  useEffect(() => {
    const abort = new AbortController();
    const one = async (task) => {
      const [value, log] = await Promise.all([get(at`/api/tasks/${task.id}`, { signal: abort.signal }), get(at`/api/tasks/${task.id}/logs` + '?limit=1', { signal: abort.signal })]);
      return { ...value, begun_at: log.items[0]?.at };
    };
    if (list.value) Promise.all(list.value.items.map(one)).then((found) => abort.signal.aborted || setWhole(found), () => {});
    return () => abort.abort();
  }, [list.value]);
  return whole;
}

function One({ delivery, tasks }) {
  return (
    <>
      <div class="headline">
        <State of={delivery.outcome} />
        <span>{delivery.items.map((item) => item.event.name).join(', ') || 'no event'} for <a href={link('webhooks', delivery.webhook)}>{delivery.webhook}</a></span>
        <Replay id={delivery.id} />
      </div>
      <Card title="From POST to reply" wide>
        <Timeline delivery={delivery} tasks={tasks} />
      </Card>
      {delivery.items.map((item, n) => (
        <Decision key={n} item={item} />
      ))}
      <div class="grid">
        <Card title="Is it genuine">
          <Facts
            of={[
              ['Signature', delivery.scheme ? <><State of="ready">verified</State> by {delivery.scheme}</> : <State of="unsigned">no signature was asked for</State>],
              ['From', delivery.peer],
              ['Size', bytes(delivery.body_bytes)],
              ['Received', <When at={delivery.received_at} />],
              ['Id', <Digest of={delivery.id} label="Copy the whole id" />],
            ]}
          />
        </Card>
        <Card title="Decided by">
          <Facts
            of={[
              ['Generation', count(delivery.generation)],
              ['Revision', <Digest of={delivery.revision} label="Copy the whole revision" />],
              ['Index digest', <Digest of={delivery.index_digest} label="Copy the whole index digest" />],
            ]}
          />
        </Card>
      </div>
      {tasks.map((task) => (
        <Card key={task.id} title={`Task: ${task.spec.command}`} wide aside={<a href={link('tasks', task.id)}>Open the task</a>}>
          <p><State of={task.state} /> {task.reason && <span class="hint">{task.reason.code}: {task.reason.message}</span>}</p>
          <h3>Rendered prompt</h3>
          <Text label="Rendered prompt">{task.spec.prompt}</Text>
          {task.spec.missing.length > 0 && <p class="hint">Empty because the payload has no value there: {task.spec.missing.join(', ')}</p>}
        </Card>
      ))}
      <Replies of={delivery.outbox} />
      <Raw delivery={delivery} />
    </>
  );
}

function Decision({ item }) {
  const { event, decision } = item;
  return (
    <Card title={`Decision on ${event.name}`} wide>
      <Facts
        of={[
          ['Also known as', event.aliases.join(', ')],
          ['Actor', event.actor && `${event.actor.id}${event.actor.bot ? ' (bot)' : ''}: ${spoken(event.actor.permission)}${event.actor.association ? `, ${event.actor.association}` : ''}`],
          ['About', event.resource],
          ['Source', event.url && <Outside href={event.url} />],
          ['Text', event.text && <span class="quote">{event.text.slice(0, 400)}</span>],
        ]}
      />
      {decision.ignored && <p class="notice">{decision.ignored}</p>}
      {decision.rules.length > 0 && <Rules of={decision.rules} />}
    </Card>
  );
}

/** First what it would do now, then for real. */
function Replay({ id }) {
  const has = useRoutes();
  const [tried, setTried] = useState(null);
  const [done, setDone] = useState(null);
  const ask = (isDry) => post(at`/api/deliveries/${id}/replay` + query({ dry_run: isDry })).then(({ items }) => items[0]);
  const [attempt, trying] = useAction(async () => setTried(await ask(true)));
  const [run, running] = useAction(async () => setDone(await ask(false)));
  if (!has('POST', '/api/deliveries/{}/replay')) return null;
  const refused = (done ?? tried)?.error;
  return (
    <>
      {!tried && <Act run={attempt} busy={trying.busy} label="Replay" />}
      <Fault error={trying.error ?? running.error ?? refused} />
      {tried && !done && !refused && (
        <Card title="Replayed, it would do this now" wide>
          {tried.would.map((plan, n) => <Would key={n} plan={plan} />)}
          <div class="headline">
            <Act run={run} busy={running.busy} label="Replay for real" kind="primary" />
            <button type="button" onClick={() => setTried(null)}>Leave it</button>
          </div>
        </Card>
      )}
      {done?.again?.map((one) => (
        <span key={one.delivery} role="status">Replayed as <a href={link('deliveries', one.delivery)}>{tail(one.delivery)}</a>, {one.tasks.length} {one.tasks.length === 1 ? 'task' : 'tasks'}.</span>
      ))}
    </>
  );
}

function Replies({ of }) {
  if (!of.length) return null;
  return (
    <Card title="Answers to the source" wide>
      <ul class="replies">
        {of.map((item) => (
          <li key={item.id}>
            <p>
              <State of={item.state} /> {item.purpose}{item.parts > 1 && `, part ${item.part + 1} of ${item.parts}`}, <When at={item.updated_at} />
              {item.url && <> · <Outside href={item.url}>see it there</Outside></>}
            </p>
            {item.error && <p class="hint">{item.error.code}: {item.error.message}</p>}
            {item.text && <Text label={`Text of the ${item.purpose}`}>{item.text}</Text>}
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Raw({ delivery }) {
  const { request } = delivery;
  const [isPretty, setPretty] = useState(true);
  const body = delivery.body ?? delivery.body_base64 ?? '';
  const pretty = useMemo(() => {
    try {
      return JSON.stringify(JSON.parse(body), null, 2);
    } catch {
      return null;
    }
  }, [body]);
  if (!request) return <Empty title="The request itself is no longer kept">Its decision and tasks are; bodies are forgotten first.</Empty>;
  return (
    <Card title="Request" wide aside={<Copy text={body} label="Copy the raw body" />}>
      <p><code class="wrap">{request.method} {request.url}</code></p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Headers">
        <table class="headers">
          <thead><tr><th scope="col">Header</th><th scope="col">Value</th></tr></thead>
          <tbody>
            {request.headers.map(([name, value], n) => (
              <tr key={n}><th scope="row">{name}</th><td><code>{value}</code></td></tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="hint">Headers that can carry a secret or a signature are masked or left out before a request is stored.</p>
      {pretty !== null && (
        <div class="tabs" role="group" aria-label="How to show the body">
          <button type="button" aria-pressed={isPretty} onClick={() => setPretty(true)}>Indented</button>
          <button type="button" aria-pressed={!isPretty} onClick={() => setPretty(false)}>As it came</button>
        </div>
      )}
      <Text label="Body">{isPretty && pretty !== null ? pretty : body}</Text>
    </Card>
  );
}

/** Every step with a time of its own, in order, with how long it took from the one before. */
export function steps(delivery, tasks) {
  const found = [{ at: delivery.received_at, name: 'Received, verified, decided and stored', tone: 'good' }];
  const add = (time, name, tone = 'busy') => time && found.push({ at: time, name, tone });
  for (const task of tasks) {
    const command = task.spec.command;
    add(task.spec.created_at, `${command}: task in the queue`);
    add(task.begun_at, `${command}: agent begins`);
    if (task.result || ['succeeded', 'dead', 'cancelled', 'refused', 'expired', 'failed'].includes(task.state)) add(task.updated_at, `${command}: ${spoken(task.state)}`, task.state === 'succeeded' ? 'good' : 'bad');
  }
  for (const item of delivery.outbox) {
    const part = item.parts > 1 ? ` ${item.part + 1}/${item.parts}` : '';
    if (item.state === 'sent') add(item.updated_at, `${item.purpose}${part} at the source`, 'good');
    else add(item.updated_at, `${item.purpose}${part} ${item.state}`, item.state === 'failed' ? 'bad' : 'busy');
  }
  found.sort((a, b) => new Date(a.at) - new Date(b.at));
  const begin = new Date(found[0].at).getTime();
  return found.map((step, n) => ({ ...step, since: new Date(step.at) - begin, took: n ? new Date(step.at) - new Date(found[n - 1].at) : 0 }));
}

function Timeline({ delivery, tasks }) {
  const all = steps(delivery, tasks);
  const whole = all.at(-1).since || 1;
  return (
    <ol class="timeline">
      {all.map((step, n) => (
        <li key={n} class={step.tone}>
          <span class="dot" aria-hidden="true" />
          <span class="step">{step.name}</span>
          <span class="time"><time dateTime={step.at} title={step.at}>{clock(step.at)}</time>{n > 0 && <> · {duration(step.took)} later</>}</span>
          <span class="track" aria-hidden="true"><span style={{ left: `${((step.since - step.took) / whole) * 100}%`, width: `${Math.max((step.took / whole) * 100, 0.6)}%` }} /></span>
        </li>
      ))}
    </ol>
  );
}

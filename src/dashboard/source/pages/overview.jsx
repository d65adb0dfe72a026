// Is everything well, and if not, why: the state of the index and the queue, and charts of the last hours.

import { useMemo, useState } from 'preact/hooks';

import { Chart } from '../chart.jsx';
import { link, useResource } from '../hooks.js';
import { Card, Choice, Copy, Digest, Facts, Fault, Loaded, State, When } from '../parts.jsx';
import { Spending } from '../spending.jsx';
import { count, duration } from '../words.js';
import { Meters } from './budgets.jsx';

const ACK_MS = 200;
const HOURS = [['1', 'Last hour'], ['6', 'Last 6 hours'], ['24', 'Last day']];
const REFRESH_MS = 15_000;

export function Overview() {
  const status = useResource('/api/status', { every: REFRESH_MS, when: () => true });
  return (
    <>
      <h1 tabIndex={-1}>Overview</h1>
      <Loaded of={status}>{(value) => <Standing status={value} />}</Loaded>
      <Charts />
    </>
  );
}

function Standing({ status }) {
  const { index, queue, resources, git } = status;
  const copies = Object.values(status.copies ?? {});
  return (
    <>
      <Verdict status={status} />
      <div class="grid">
        <div class="column">
          <Card title="Queue" aside={<a href={link('tasks')}>All tasks</a>}>
            <div class="figures">
              <Figure number={queue.queued} name="queued" to={link('tasks', { state: 'queued' })} />
              <Figure number={queue.running} name="running" to={link('tasks', { state: 'running' })} />
              <Figure number={queue.awaiting_approval} name="to approve" to={link('tasks', { state: 'awaiting_approval' })} />
              <Figure number={queue.dead} name="dead" to={link('tasks', { state: 'dead' })} bad={queue.dead > 0} />
            </div>
            <Facts
              of={[
                ['Paused until', queue.paused_until && <><When at={queue.paused_until} />: the agent’s usage limit is reached</>],
                ['Waiting for an answer', queue.waiting_input > 0 && count(queue.waiting_input)],
                ['Oldest queued', queue.oldest_queued_at && <When at={queue.oldest_queued_at} />],
                ['Replies waiting', count(queue.outbox_waiting)],
                ['Being checked', queue.checking > 0 && count(queue.checking)],
              ]}
            />
          </Card>
          <BudgetToday />
        </div>
        <Card title="Routing state" aside={<a href={link('webhooks')}>All webhooks</a>}>
          {index ? (
            <>
              <div class="figures">
                <Figure number={index.webhooks} name="webhooks" to={link('webhooks')} />
                <Figure number={index.skills} name="skills" />
                <Figure number={index.agents} name="agents" />
                <Figure number={resources.stalled} name="stalled" bad={resources.stalled > 0} to={link('webhooks', { state: 'stalled' })} />
              </div>
              <Facts
                of={[
                  ['Index digest', <Digest of={index.digest} label="Copy the whole index digest" />],
                  ['Commit', git?.committed.commit && <Digest of={git.committed.commit} label="Copy the whole commit" />],
                  ['Revision', <Digest of={index.revision} label="Copy the whole revision" />],
                  ['Last pass', <When at={index.applied_at} />],
                  ['Remote', git && DISTANCES[git.remote.distance]],
                  ['Proposals', git?.proposals.length > 0 && <a href={link('proposals')}>{count(git.proposals.length)} for review</a>],
                  ['Cloud copies', copies.length > 0 && <a href={link('health')}>{copies.every((copy) => !copy.trouble) ? `${count(copies.length)} in order` : 'one is in trouble'}</a>],
                  ['Push lag', status.push_lag_seconds > 0 ? duration(status.push_lag_seconds * 1000) : 'nothing waits to be pushed'],
                ]}
              />
            </>
          ) : (
            <Empty title="Nothing is served yet">The first pass over the files has not ended. It begins when the service starts.</Empty>
          )}
        </Card>
        <Card title="This service">
          <Facts
            of={[
              ['Version', status.version],
              ['Started', <When at={status.started_at} />],
              ['Providers call', status.receiver_url && <span class="digest"><code>{status.receiver_url}</code> <Copy text={status.receiver_url} label="Copy the receiver's address" /></span>],
              ['Ledger', status.ledger.healthy ? 'writes are kept' : 'the last write failed'],
            ]}
          />
        </Card>
      </div>
    </>
  );
}

function BudgetToday() {
  const budgets = useResource('/api/budgets', { every: REFRESH_MS, when: (one) => one.kind === 'task.completed' });
  return (
    <Card title="Budget today" aside={<a href={link('budgets')}>By webhook</a>}>
      <Loaded of={budgets}>{({ all }) => <Meters of={all} />}</Loaded>
    </Card>
  );
}

const DISTANCES = {
  unknown: 'not asked yet',
  no_remote: 'there is none: this is the only copy',
  level: 'has the same',
  ahead: 'has not everything yet',
  behind: 'has newer commits, which are being fetched',
  diverged: 'has gone another way',
  deleted: 'its branch is gone',
};

/** What is in the way of commits, pushes and the remote. Deliveries are accepted all the same. */
function troublesOf(git) {
  if (!git) return [];
  const said = [['Commits', git.committed], ['Pushes', git.pushed], ['The remote', git.remote]];
  const troubles = said.filter(([, step]) => step.trouble).map(([name, step]) => `${name}: ${step.trouble}`);
  const conflicts = git.remote.conflicts.map((conflict) => conflict.branch ?? conflict.name);
  return conflicts.length ? troubles.concat(`Our side of conflicts is kept on ${conflicts.join(', ')} until somebody deletes it.`) : troubles;
}

/** Ready or not, and every reason why not. */
function Verdict({ status }) {
  const reasons = [];
  if (!status.ready) reasons.push('The first pass has not been applied yet: deliveries are answered with 503.');
  if (!status.ledger.healthy) reasons.push('The ledger cannot be written: deliveries are answered with 503 until it can. Look at the disk.');
  const stalled = status.stalled ?? [];
  const troubles = troublesOf(status.git);
  const suspended = status.suspended?.reconciler;
  if (suspended) troubles.push('Files and the remote are not looked at: somebody has suspended that. `skillhook resume` lets it go on.');
  const good = !reasons.length && !stalled.length && !troubles.length;
  return (
    <section class={`verdict ${reasons.length ? 'bad' : good ? 'good' : 'warn'}`} aria-label="State of the service">
      <p class="verdict-line">
        <State of={reasons.length ? 'not ready' : 'ready'} />
        <span>
          {reasons.length ? 'Deliveries are not accepted' : 'Deliveries are accepted'}
          {!reasons.length && stalled.length > 0 && `; ${count(stalled.length)} ${stalled.length === 1 ? 'resource is' : 'resources are'} stalled and what was last good stays in force`}
        </span>
      </p>
      {reasons.map((reason) => (
        <p key={reason}>{reason}</p>
      ))}
      {troubles.map((trouble) => (
        <p key={trouble}>{trouble}</p>
      ))}
      {stalled.length > 0 && (
        <ul class="tags">
          {stalled.slice(0, 12).map((name) => {
            const [kind, id] = name.split('/');
            return (
              <li key={name}>
                <a href={kind === 'webhook' ? link('webhooks', id) : link('files', 'skills', id)}>{name}</a>
              </li>
            );
          })}
          {stalled.length > 12 && <li>and {count(stalled.length - 12)} more</li>}
        </ul>
      )}
    </section>
  );
}

function Figure({ number, name, to, bad }) {
  if (number === undefined || number === null) return null;
  const content = (
    <>
      <strong class={bad ? 'bad' : ''}>{count(number)}</strong>
      <span>{name}</span>
    </>
  );
  return to ? <a class="figure" href={to}>{content}</a> : <div class="figure">{content}</div>;
}

function Charts() {
  const [hours, setHours] = useState('1');
  const stats = useResource(`/api/stats?hours=${hours}`, { every: REFRESH_MS, when: (one) => one.kind === 'delivery.received' });
  return (
    <section aria-label="Charts">
      <div class="toolbar">
        <Choice label="Time" value={hours} options={HOURS} onChange={setHours} />
      </div>
      <Fault error={stats.error} reload={stats.reload} />
      <div class="grid charts">
        {stats.value && <Traffic stats={stats.value} />}
        <Spending />
      </div>
    </section>
  );
}

function Traffic({ stats }) {
  const charts = useMemo(() => {
    const { items } = stats;
    const times = items.map((item) => Math.round(new Date(item.at).getTime() / 1000));
    const of = (name) => items.map((item) => item[name]);
    const sum = (name) => items.reduce((total, item) => total + item[name], 0);
    return { times, of, sum, slowest: Math.max(0, ...of('ack_ms_max')), oldest: Math.max(0, ...of('queue_age_seconds_max')),
      outcomes: [['accepted', 'one'], ['ignored', 'two'], ['duplicate', 'three'], ['refused', 'bad']].map(([name, tone]) => ({ name, tone, values: of(name) })),
      acks: [{ name: 'half within', tone: 'one', values: of('ack_ms_p50') }, { name: '99 % within', tone: 'two', values: of('ack_ms_p99') }],
      ages: [{ name: 'oldest queued', tone: 'one', values: of('queue_age_seconds_max') }] };
  }, [stats]);
  const { times, sum } = charts;
  const total = ['accepted', 'ignored', 'duplicate', 'refused'].reduce((all, name) => all + sum(name), 0);
  const late = stats.items.filter((item) => item.ack_ms_p99 > ACK_MS).length;
  return (
    <>
      <Card title="Deliveries by outcome">
        <Chart title="Deliveries by outcome" stacked times={times} step={stats.span_seconds} series={charts.outcomes} say={count}
          sentence={total ? `${count(total)} deliveries: ${count(sum('accepted'))} accepted, ${count(sum('ignored'))} ignored, ${count(sum('duplicate'))} duplicates, ${count(sum('refused'))} refused.` : 'No deliveries in this time. Send a test from a webhook’s page.'} />
      </Card>
      <Card title="Time to answer">
        <Chart title="Time to answer" times={times} step={stats.span_seconds} series={charts.acks} line={{ at: ACK_MS, name: 'objective: 200 ms' }} say={duration}
          sentence={total ? `Slowest ${duration(charts.slowest)}; ${late ? `${late} of ${times.length} spans were` : 'no span was'} above 200 ms.` : 'No answers in this time.'} />
      </Card>
      <Card title="Queue age">
        <Chart title="Queue age" times={times} step={stats.span_seconds} series={charts.ages} say={(seconds) => (seconds ? duration(seconds * 1000) : '0')}
          sentence={charts.oldest ? `The oldest queued task waited ${duration(charts.oldest * 1000)}.` : 'No task had to wait.'} />
      </Card>
    </>
  );
}

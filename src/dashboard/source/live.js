// What happens on the server, as it happens: one stream of server-sent events for the whole page. It is read by fetch,
// so that the token goes in a header and never stands in an address, and goes on where it was when it broke off.
// Listeners are told in batches; whoever may have missed something is told that. A tab that nobody looks at lets its
// streams go after a while: browsers have few connections to one server.

import { get, query, request, token } from './api.js';

/** The server shows this often that a quiet stream is alive; after so long without a word it is taken for dead. */
const SILENCE_MS = 45_000;
const HIDDEN_MS = 30_000;
const PAUSE_MS_LEAST = 500;
const PAUSE_MS_MOST = 15_000;
/** What agents say is followed where it is shown. */
const OUTPUT = 'task.output';

const listeners = new Set();
const watchers = new Set();
let connection = { online: true, stop: null };

/** `listener(happenings)` for each batch; an empty batch says that something may have been missed. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** `watcher(online)` when the connection is lost or found again. */
export function watchConnection(watcher) {
  watchers.add(watcher);
  watcher(connection.online);
  return () => watchers.delete(watcher);
}

export function start() {
  if (connection.stop) return;
  connection.stop = new AbortController();
  follow(connection.stop.signal);
}

export function halt() {
  connection.stop?.abort();
  connection.stop = null;
}

async function follow(signal) {
  let since = null;
  let pause = PAUSE_MS_LEAST;
  while (!signal.aborted) {
    try {
      since ??= (await get('/api/status', { signal })).last_seq;
      const opened = () => {
        const wasAway = !connection.online;
        say(true);
        pause = PAUSE_MS_LEAST;
        if (wasAway) tell([]);
      };
      await events(`/api/stream${query({ since, kind: `!${OUTPUT}` })}`, { signal, opened }, (heard) => {
        since = heard.findLast((one) => one.seq !== null)?.seq ?? since;
        // Whoever is ahead of the server was following another one.
        if (heard.some((one) => one.kind === 'stream.missed')) {
          since = heard.at(-1).seq ?? null;
          tell([]);
        }
        const happened = heard.filter((one) => one.seq !== null).map((one) => one.data);
        if (happened.length) tell(happened);
        return since === null;
      });
      await sleep(pause, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401 && token() === null) return halt();
      // A server that answers is there, even when it refuses.
      say(error.status !== 0);
      if (error.status !== 0) since = null;
      await sleep(pause, signal);
      pause = Math.min(pause * 2, PAUSE_MS_MOST);
    }
  }
}

/**
 * Reads a stream until it ends, breaks off, or `heard([{seq, kind, data}])` answers that it has heard enough. While the
 * tab is hidden there is none.
 */
export async function events(path, { signal, opened }, heard) {
  await seen(signal);
  if (signal.aborted) return;
  const end = new AbortController();
  const quit = () => end.abort();
  signal.addEventListener('abort', quit);
  let timer = null;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(quit, SILENCE_MS);
  };
  const unhide = whenHidden(quit);
  try {
    alive();
    const response = await request('GET', path, { signal: end.signal, more: { accept: 'text/event-stream' } });
    opened?.();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ; ) {
      // Broken off on the way: whoever called goes on from where it was.
      const { done, value } = await reader.read().catch(() => ({ done: true }));
      if (done) return;
      alive();
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop();
      const all = blocks.map(parsed).filter(Boolean);
      if (all.length && heard(all)) return quit();
    }
  } catch (error) {
    if (!end.signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
    unhide();
    signal.removeEventListener('abort', quit);
    end.abort();
  }
}

/** One event of the stream; `null` for what only shows that it is alive. */
function parsed(block) {
  const fields = {};
  for (const line of block.split('\n')) {
    const [, name, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (name) fields[name] = value;
  }
  if (fields.data === undefined) return null;
  return { seq: fields.id === undefined ? null : Number(fields.id), kind: fields.event, data: JSON.parse(fields.data) };
}

/** Until somebody looks at the tab. */
function seen(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener('visibilitychange', look);
      done();
    };
    document.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look);
  });
}

/** Calls `then` once the tab has been hidden for a while. Answers how to stop that. */
function whenHidden(then) {
  let timer = null;
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(then, HIDDEN_MS);
  };
  document.addEventListener('visibilitychange', look);
  return () => {
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', look);
  };
}

function say(online) {
  if (connection.online === online) return;
  connection.online = online;
  watchers.forEach((watcher) => watcher(online));
}

function tell(happenings) {
  listeners.forEach((listener) => listener(happenings));
}

export function sleep(milliseconds, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      done();
    });
  });
}

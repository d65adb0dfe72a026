// What happens on the server, as it happens: one long poll of /api/events for the whole page.
// Listeners are told in batches; whoever was away for long is told that something was missed.

import { get, query, token } from './api.js';

const WAIT_SECONDS = 20;
const PAUSE_MS_LEAST = 500;
const PAUSE_MS_MOST = 15_000;

const listeners = new Set();
const watchers = new Set();
let connection = { online: true, running: false };
let stop = null;

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
  if (connection.running) return;
  connection.running = true;
  stop = new AbortController();
  follow(stop.signal);
}

export function halt() {
  stop?.abort();
  connection.running = false;
}

async function follow(signal) {
  let since = null;
  let pause = PAUSE_MS_LEAST;
  while (!signal.aborted) {
    try {
      since ??= (await get('/api/status', { signal })).last_seq;
      const page = await get(`/api/events${query({ since, wait: WAIT_SECONDS, limit: 500 })}`, { signal });
      const missed = !connection.online;
      say(true);
      pause = PAUSE_MS_LEAST;
      if (page.next < since) since = null;
      else since = page.next;
      if (page.items.length || missed) tell(page.items);
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

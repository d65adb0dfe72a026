// What pages share: the address, a resource of the API with its loading and errors, pages of a list, shortcuts.

import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { get, query, routes } from './api.js';
import { listen } from './live.js';

const QUIET_MS = 300;
/** What is shown about files follows a moment after the news about them. */
const SETTLED_MS = 2000;

/** `#/tasks/tsk_1?state=running` as `{path: ['tasks', 'tsk_1'], fields: {state: 'running'}}`. */
export function readAddress() {
  const [path, fields] = location.hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter(Boolean).map(decoded);
  return { path: parts, fields: Object.fromEntries(new URLSearchParams(fields ?? '')) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The hash of an address: link('tasks', id), link('tasks', {state: 'dead'}). */
export function link(...parts) {
  const fields = typeof parts.at(-1) === 'object' ? parts.pop() : {};
  return `#/${parts.map(encodeURIComponent).join('/')}${query(fields)}`;
}

export function useAddress() {
  const [address, setAddress] = useState(readAddress);
  useEffect(() => {
    const changed = () => setAddress(readAddress());
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return address;
}

/** Changes fields of the address without a new entry in the history. */
export function setFields(fields) {
  const { path, fields: old } = readAddress();
  const hash = link(...path, { ...old, ...fields });
  history.replaceState(null, '', hash);
  dispatchEvent(new HashChangeEvent('hashchange'));
}

/**
 * One GET: `{value, error, loading, reload}`. What was there stays while it is asked again.
 * `when(happening)` says which news make it stale; `every` asks again after that many milliseconds.
 */
export function useResource(path, { when, every } = {}) {
  const [state, setState] = useState({ path: null, value: null, error: null, loading: true });
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  useEffect(() => {
    if (!path) return undefined;
    const abort = new AbortController();
    setState((old) => (old.path === path ? { ...old, loading: true } : { path, value: null, error: null, loading: true }));
    get(path, { signal: abort.signal }).then(
      (value) => setState({ path, value, error: null, loading: false }),
      (error) => {
        if (abort.signal.aborted) return;
        setState((old) => ({ path, value: old.path === path ? old.value : null, error, loading: false }));
      },
    );
    return () => abort.abort();
  }, [path, turn]);
  useStale(when, reload);
  useEffect(() => {
    if (!every) return undefined;
    const timer = setInterval(() => document.hidden || reload(), every);
    return () => clearInterval(timer);
  }, [every]);
  const current = state.path === path ? state : { value: null, error: null, loading: true };
  return { ...current, reload };
}

/** Calls `reload` once news that `when` wants have been quiet for a moment. */
function useStale(when, reload) {
  const wanted = useRef(when);
  wanted.current = when;
  useEffect(() => {
    let timer = null;
    const heard = (happenings) => {
      if (!wanted.current || timer) return;
      if (happenings.length && !happenings.some(wanted.current)) return;
      timer = setTimeout(() => {
        reload();
        timer = setTimeout(() => {
          timer = null;
          reload();
        }, SETTLED_MS);
      }, QUIET_MS);
    };
    const quit = listen(heard);
    return () => {
      clearTimeout(timer);
      quit();
    };
  }, [reload]);
}

const PAGE = 200;
/** Whoever scrolls far gets larger pages, as large as the server gives. */
const PAGE_MOST = 1000;

/**
 * A list that comes in pages: `{items, total, error, loading, more, reload}`; `total` where the server counts them.
 * The newest first: news put the first page in front again, and what was loaded below stays. In the order of names
 * (`cursor: 'after'`): news bring anew what was loaded.
 */
export function usePages(path, fields, { when, cursor = 'before', size = PAGE } = {}) {
  const key = path && `${path}${query(fields)}`;
  const empty = { key, items: [], total: undefined, next: null, error: null, loading: true };
  const [state, setState] = useState(empty);
  const busy = useRef(false);
  const loaded = useRef(0);
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  const isOrdered = cursor === 'after';
  loaded.current = state.key === key ? state.items.length : 0;
  useEffect(() => {
    if (!path) return undefined;
    const abort = new AbortController();
    setState((old) => (old.key === key ? { ...old, loading: true } : empty));
    const limit = isOrdered ? Math.min(Math.max(size, loaded.current), PAGE_MOST) : size;
    get(`${path}${query({ ...fields, limit })}`, { signal: abort.signal }).then(
      (page) => setState((old) => ({ key, total: page.total, ...merged(old.key === key && !isOrdered ? old : null, page), error: null, loading: false })),
      (error) => abort.signal.aborted || setState((old) => ({ ...old, key, error, loading: false })),
    );
    return () => abort.abort();
  }, [key, turn]);
  useStale(when, reload);
  const more = useCallback(async () => {
    if (busy.current || !state.next || state.key !== key) return;
    busy.current = true;
    try {
      const limit = isOrdered ? Math.min(Math.max(size, loaded.current), PAGE_MOST) : size;
      const page = await get(`${path}${query({ ...fields, limit, [cursor]: state.next })}`);
      setState((old) => (old.key === key ? { ...old, items: old.items.concat(page.items), next: page.next } : old));
    } catch (error) {
      setState((old) => ({ ...old, error }));
    } finally {
      busy.current = false;
    }
  }, [key, state.next]);
  return { ...(state.key === key ? state : empty), more, reload };
}

/** The first page again, in front of what was loaded below it. */
function merged(old, page) {
  if (!old || old.items.length <= page.items.length || !page.next) return { items: page.items, next: page.next };
  const last = nameOf(page.items.at(-1));
  const at = old.items.findIndex((item) => nameOf(item) === last);
  if (at < 0) return { items: page.items, next: page.next };
  return { items: page.items.concat(old.items.slice(at + 1)), next: old.next };
}

/** By what the items of lists are told apart. */
export function nameOf(item) {
  return item.id ?? item.seq ?? item.name;
}

/** `has('GET', '/api/chat')`: `undefined` until it is known. */
export function useRoutes() {
  const [known, setKnown] = useState(null);
  useEffect(() => {
    let gone = false;
    routes().then((set) => gone || setKnown(set), () => gone || setKnown(new Set()));
    return () => {
      gone = true;
    };
  }, []);
  return useMemo(() => (method, path) => known?.has(`${method} ${path}`), [known]);
}

/** A thing that is done on a click: `[run, {busy, error}]`. */
export function useAction(action) {
  const [state, setState] = useState({ busy: false, error: null });
  const run = async (...values) => {
    setState({ busy: true, error: null });
    try {
      const done = await action(...values);
      setState({ busy: false, error: null });
      return done;
    } catch (error) {
      setState({ busy: false, error });
      return undefined;
    }
  };
  return [run, state];
}

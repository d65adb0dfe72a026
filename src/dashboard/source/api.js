// The admin API as the pages see it: every answer is JSON or a Problem, every request carries the token in a header.
// The token stands in this browser's storage and nowhere else: never in an address, never in the page's text.

const TOKEN = 'skillhook.token';

/** A refusal, in the words of the server (RFC 9457). */
export class Problem extends Error {
  constructor({ status, code, detail, title, hint, ...more }) {
    super(detail ?? title ?? `the server answered ${status}`);
    Object.assign(this, { status, code, hint, more });
  }
}

/** A browser may forbid storage altogether. */
function store(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}

export function remembered(name) {
  return store('localStorage')?.getItem(name) ?? null;
}

export function remember(name, value) {
  const local = store('localStorage');
  if (value === null) local?.removeItem(name);
  else local?.setItem(name, value);
}

export function token() {
  return store('sessionStorage')?.getItem(TOKEN) ?? store('localStorage')?.getItem(TOKEN) ?? null;
}

/** Kept until the tab is closed, or in this browser until somebody signs out. */
export function signIn(value, isKept) {
  signOut();
  store(isKept ? 'localStorage' : 'sessionStorage')?.setItem(TOKEN, value);
}

export function signOut() {
  store('sessionStorage')?.removeItem(TOKEN);
  store('localStorage')?.removeItem(TOKEN);
}

const refusals = new Set();

/** Calls `listener` whenever the server wants a token. Answers how to stop that. */
export function onUnauthorized(listener) {
  refusals.add(listener);
  return () => refusals.delete(listener);
}

function headers(body, more) {
  const all = { accept: 'application/json', ...more };
  const value = token();
  if (value) all.authorization = `Bearer ${value}`;
  if (body === undefined) all['x-skillhook'] = '1';
  else all['content-type'] = 'application/json';
  return all;
}

/** The answer as it comes: `Response`, with its status already judged. */
export async function request(method, path, { body, signal, more } = {}) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers: headers(body, more), body: text, signal, cache: 'no-store', credentials: 'omit', redirect: 'error' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem({ status: 0, detail: 'the server cannot be reached', hint: 'see whether `skillhook up` still runs; this page tries again by itself' });
  }
  if (response.ok || response.status === 304) return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401) refusals.forEach((listener) => listener());
  throw new Problem({ ...problem, status: response.status });
}

export async function call(method, path, options) {
  const response = await request(method, path, options);
  const type = response.headers.get('content-type') ?? '';
  if (response.status === 204) return null;
  const value = type.includes('json') ? await response.json() : await response.text();
  return options?.wants === 'response' ? { value, response } : value;
}

export const get = (path, options) => call('GET', path, options);
export const post = (path, body, options) => call('POST', path, { ...options, body });
export const put = (path, body, options) => call('PUT', path, { ...options, body });

/** An address with its parts encoded: at`/api/tasks/${id}`. */
export function at(parts, ...values) {
  return parts.reduce((path, part, n) => path + encodeURIComponent(values[n - 1]) + part);
}

/** `?a=1&b=2` of what has a value. */
export function query(fields) {
  const set = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return set.length ? `?${new URLSearchParams(set)}` : '';
}

let table = null;

/** Which addresses this server has, as `GET /api` lists them. Asked once. */
export function routes() {
  table ??= get('/api').then(
    (answer) => new Set(answer.routes.map((route) => `${route.method} ${route.path.replaceAll(/\{[^}]*\}/g, '{}')}`)),
    (error) => {
      table = null;
      throw error;
    },
  );
  return table;
}

export function forgetRoutes() {
  table = null;
}

/** Only addresses that a browser may open: what others wrote could be `javascript:`. */
export function safeUrl(text) {
  try {
    const url = new URL(text);
    return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : null;
  } catch {
    return null;
  }
}

// What every browser test uses: a page that notices faults by itself, accessibility checks, pictures, a provider.
//
// Settings come as JSON in BROWSER_TEST: {admin, receiver, root, secret, out, token?}.

import { createHmac } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

export const settings = JSON.parse(process.env.BROWSER_TEST);

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WAIT_MS = 30_000;

/** Opens a browser, runs the story with a page, and fails on whatever the page complained about meanwhile. */
export async function story(name, tell, { width = 1280, height = 900, scheme = 'light', isRefused = false, isSignedIn = false } = {}) {
  const browser = await chromium.launch({ executablePath: settings.chromium, args: FLAGS });
  const complaints = [];
  try {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, permissions: ['clipboard-read', 'clipboard-write'] });
    if (isSignedIn) await context.addInitScript((token) => sessionStorage.setItem('skillhook.token', token), settings.token);
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT_MS);
    notice(page, complaints);
    try {
      await tell(page, { complaints, context, browser });
    } catch (error) {
      await page.screenshot({ path: picture(`failed-${name}`), fullPage: true }).catch(() => {});
      console.error(`at ${page.url()}`);
      throw error;
    }
    // The browser itself logs every answer that is an error.
    if (isRefused) expected(complaints, /console: Failed to load resource: the server responded with a status of 4/);
    equal(complaints, [], `${name}: nothing is complained about`);
    console.log(`good: ${name}`);
  } finally {
    await browser.close();
  }
}

/** Errors of scripts, of the policy, of requests. A refusal that the story expects is taken out by `expected`. */
function notice(page, complaints) {
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
  page.on('console', (message) => message.type() === 'error' && complaints.push(`console: ${message.text()}`));
  page.on('dialog', (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.origin !== settings.admin && url.protocol !== 'data:' && url.protocol !== 'blob:') complaints.push(`foreign request: ${request.url()}`);
    if (/shk_/.test(request.url())) complaints.push(`a token stands in an address: ${request.url()}`);
  });
}

export function expected(complaints, pattern) {
  for (let n = complaints.length - 1; n >= 0; n -= 1) if (pattern.test(complaints[n])) complaints.splice(n, 1);
}

export async function open(page, hash = '') {
  await page.goto(`${settings.admin}/${hash}`);
  await page.locator('main h1').first().waitFor();
  await settled(page);
}

/** Nothing says any more that it is loading. */
export async function settled(page) {
  await page.waitForFunction(() => !document.querySelector('.loading'));
}

/** No violation that axe-core calls serious or critical. */
export async function accessible(page, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const result = await window.axe.run(document, { preload: false, resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] });
    return result.violations.filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) => `${one.id} (${one.impact}): ${one.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary ?? ''}`).join(' | ')}`);
  });
  equal(found, [], `${where} is accessible`);
}

/** Every action of the page is a stop of the Tab key, and the last one leads out of the page again. */
export async function reachable(page, where) {
  const count = await page.evaluate(() => {
    const actions = 'a[href], button:not(:disabled), input:not(:disabled), select:not(:disabled), textarea:not(:disabled), summary, [tabindex="0"]';
    const isShown = (node) => node.checkVisibility({ visibilityProperty: true });
    // The walk begins at the first stop of every page.
    document.querySelector('.skip').focus();
    window.wanted = [...document.querySelectorAll(actions)].filter(isShown);
    window.reached = new Set([document.activeElement]);
    return window.wanted.length;
  });
  // Long lists bring more rows while one walks down.
  for (let presses = 0; presses < 4 * count + 50; presses += 1) {
    await page.keyboard.press('Tab');
    const isOut = await page.evaluate(() => {
      window.reached.add(document.activeElement);
      return document.activeElement === document.body || document.activeElement.matches('.skip');
    });
    if (isOut) break;
  }
  const missed = await page.evaluate(() => window.wanted.filter((node) => node.isConnected && !window.reached.has(node)).map((node) => node.outerHTML.slice(0, 120)));
  equal(missed, [], `${where}: what the Tab key does not reach`);
  holds(count > 10, `${where} has actions: ${count}`);
}

/** Nothing sticks out sideways. */
export async function fits(page, where) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  holds(over <= 0, `${where}: nothing sticks out, but it does by ${over} pixels`);
}

/** Puts a text into the editor in place of what is there. */
export async function write(page, text) {
  await page.getByRole('textbox', { name: /^Text of/ }).click();
  await page.keyboard.press('Control+a');
  await page.evaluate((text) => navigator.clipboard.writeText(text), text);
  await page.keyboard.press('Control+v');
}

export function picture(name) {
  mkdirSync(settings.out, { recursive: true });
  return join(settings.out, `${name}.png`);
}

export function equal(actual, wanted, what) {
  if (JSON.stringify(actual) !== JSON.stringify(wanted)) throw new Error(`${what}: ${JSON.stringify(actual, null, 1)} instead of ${JSON.stringify(wanted)}`);
}

export function holds(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`);
}

export async function api(path, { method = 'GET', body } = {}) {
  const headers = { 'x-skillhook': '1', ...(settings.token && { authorization: `Bearer ${settings.token}` }), ...(body && { 'content-type': 'application/json' }) };
  const response = await fetch(settings.admin + path, { method, headers, body: body && JSON.stringify(body) });
  return response.json();
}

/** Asks until it is so. */
export async function until(what, so, longest = WAIT_MS) {
  const end = Date.now() + longest;
  for (;;) {
    const value = await so().catch(() => null);
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** A comment on an issue, in GitHub's shape. */
export function commentBody(text, more = {}) {
  const user = { login: 'mona', id: 2, type: 'User' };
  return {
    action: 'created',
    issue: { number: 7, title: 'The page is slow', body: 'Something is slow.', state: 'open', user, labels: [], html_url: 'https://github.example/octo/repo/issues/7', ...more.issue },
    comment: { id: Math.floor(Math.random() * 1e9), body: text, user, author_association: 'MEMBER', html_url: 'https://github.example/octo/repo/issues/7#c', ...more.comment },
    repository: { id: 1, full_name: 'octo/repo', html_url: 'https://github.example/octo/repo' },
    sender: user,
  };
}

/** A comment on an issue, signed as GitHub signs it. Answers the delivery's id. */
export async function comment(text, { id = `d-${Math.random()}`, more = {}, path = '/webhooks/github' } = {}) {
  const body = JSON.stringify(commentBody(text, more));
  const signature = `sha256=${createHmac('sha256', settings.secret).update(body).digest('hex')}`;
  const headers = { 'content-type': 'application/json', 'x-github-event': 'issue_comment', 'x-github-delivery': id, 'x-hub-signature-256': signature };
  const response = await fetch(settings.receiver + path, { method: 'POST', headers, body });
  const answer = await response.json();
  if (response.status >= 300) throw new Error(`the delivery was answered ${response.status}: ${JSON.stringify(answer)}`);
  return answer;
}

export function writeSkill(name, text) {
  const folder = join(settings.root, '.claude/skills', name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'SKILL.md'), text);
}

export function readSkill(name) {
  return readFileSync(join(settings.root, '.claude/skills', name, 'SKILL.md'), 'utf8');
}

/** A webhook of its own with one text command. */
export function ownWebhook(name, { secret = 'GITHUB_WEBHOOK_SECRET', description = 'A webhook for tests.', command = 'look' } = {}) {
  return `---\nname: ${name}\ndescription: ${JSON.stringify(description)}\nwebhook_config:\n  provider: github\n  id: ${name}\n  secret_env_var: ${secret}\n  command_prefix: "@agent"\n  default_command: ${command}\n  commands:\n    - name: ${command}\n      description: Looks.\n      prompt_template: "Look at {{ text }}"\n---\n# ${name}\n`;
}

/** Through the form, with the token of the settings. The browser complains about what was refused before: `isRefused`. */
export async function signIn(page, { isKept = false } = {}) {
  await page.goto(`${settings.admin}/#/files`);
  await page.getByLabel('Token').fill(settings.token);
  if (isKept) await page.getByLabel('Keep it in this browser').check();
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation').waitFor();
}

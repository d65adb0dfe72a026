// Ten thousand webhooks and a hundred thousand tasks: only what can be seen is in the document, and the rest is reached.

import { accessible, equal, holds, open, settings, settled, story } from './kit.mjs';

const WEBHOOKS = 10_000;
const ROWS_DRAWN_MAX = 80;
const NODES_MAX = 3_000;

const end = (page) => page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
const nodes = (page) => page.evaluate(() => document.querySelectorAll('*').length);

await story('the first view does not wait for ten thousand webhooks', async (page) => {
  const begun = Date.now();
  await page.goto(`${settings.admin}/`);
  await page.locator('.verdict').waitFor();
  console.log(`first view after ${Date.now() - begun} ms`);
  await page.locator('.figure', { hasText: 'webhooks' }).getByText('10,000').waitFor();
  await page.locator('.figure', { hasText: 'queued' }).getByText('100,000').waitFor();
  holds((await nodes(page)) < NODES_MAX, 'the document is small');
}, { isSignedIn: true });

await story('ten thousand webhooks are scrolled through and searched', async (page) => {
  const begun = Date.now();
  await page.goto(`${settings.admin}/#/webhooks`);
  const table = page.getByRole('table', { name: 'Webhooks' });
  await table.getByRole('link', { name: 'w-00000' }).waitFor();
  console.log(`first webhooks after ${Date.now() - begun} ms`);
  await settled(page);
  equal(await table.getAttribute('aria-rowcount'), String(WEBHOOKS + 1), 'rows of the table');
  holds((await table.getByRole('row').count()) < ROWS_DRAWN_MAX, 'few rows are drawn');
  await end(page);
  await table.getByRole('link', { name: 'w-09999' }).waitFor();
  holds((await table.getByRole('row').count()) < ROWS_DRAWN_MAX, 'few rows are drawn at the end');
  holds((await nodes(page)) < NODES_MAX, 'the document is small at the end');
  await accessible(page, 'the end of a long list');
  await page.getByLabel('Only with this in a name').fill('w-04321');
  await page.getByText('1 webhook', { exact: true }).waitFor();
  await table.getByRole('link', { name: 'w-04321' }).waitFor();
  await open(page, '#/webhooks?view=picture');
  await page.getByText('9,970 more webhooks are not drawn').waitFor();
}, { isSignedIn: true });

await story('tasks come page by page as one scrolls', async (page) => {
  const begun = Date.now();
  await open(page, '#/tasks');
  const counted = page.locator('.counted');
  await counted.getByText('200 tasks loaded').waitFor();
  console.log(`first tasks after ${Date.now() - begun} ms`);
  const table = page.getByRole('table', { name: 'Tasks' });
  for (let loaded = 400; loaded <= 2000; loaded += 200) {
    await end(page);
    await counted.getByText(`${loaded.toLocaleString('en')} tasks loaded`).waitFor();
    holds((await table.getByRole('row').count()) < ROWS_DRAWN_MAX, 'few rows are drawn');
  }
  holds((await nodes(page)) < NODES_MAX, 'the document is small');
  await settled(page);
}, { isSignedIn: true });

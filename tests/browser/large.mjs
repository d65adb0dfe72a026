// Ten thousand webhooks and some pages of tasks: only what can be seen is in the document, and the rest can be reached.

import { accessible, comment, equal, holds, open, settings, settled, story } from './kit.mjs';

const WEBHOOKS = 10_000;
const DELIVERIES = 450;
const ROWS_DRAWN_MAX = 80;

for (let n = 0; n < DELIVERIES; n += 50) {
  await Promise.all(Array.from({ length: 50 }, (_, i) => comment(`@agent analyze number ${n + i}`, { id: `l-${n + i}`, path: '/webhooks/github/w-00000' })));
}

await story('the first view does not wait for ten thousand webhooks', async (page) => {
  const begun = Date.now();
  await page.goto(`${settings.admin}/`);
  await page.locator('.verdict').waitFor();
  console.log(`first view after ${Date.now() - begun} ms`);
  await page.locator('.figure', { hasText: 'webhooks' }).getByText('10,000').waitFor();
}, { isSignedIn: true });

await story('ten thousand webhooks are scrolled through and searched', async (page) => {
  const begun = Date.now();
  await open(page, '#/webhooks');
  const table = page.getByRole('table', { name: 'Webhooks' });
  await table.waitFor();
  console.log(`all webhooks after ${Date.now() - begun} ms`);
  equal(await table.getAttribute('aria-rowcount'), String(WEBHOOKS + 1), 'rows of the table');
  holds((await table.getByRole('row').count()) < ROWS_DRAWN_MAX, 'few rows are drawn');
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await table.getByRole('link', { name: 'w-09999' }).waitFor();
  holds((await table.getByRole('row').count()) < ROWS_DRAWN_MAX, 'few rows are drawn at the end');
  await accessible(page, 'the end of a long list');
  await page.getByLabel('Only with this in a name').fill('w-04321');
  await page.getByText('1 webhook', { exact: true }).waitFor();
  await table.getByRole('link', { name: 'w-04321' }).waitFor();
  await open(page, '#/webhooks?view=picture');
  await page.getByText('9,970 more webhooks are not drawn').waitFor();
}, { isSignedIn: true });

await story('tasks come page by page as one scrolls', async (page) => {
  await open(page, '#/tasks');
  const counted = page.locator('.counted');
  await counted.getByText('200 tasks loaded').waitFor();
  const table = page.getByRole('table', { name: 'Tasks' });
  for (const number of ['400 tasks loaded', '450 tasks']) {
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
    await counted.getByText(number).waitFor();
  }
  holds((await table.getByRole('row').count()) < ROWS_DRAWN_MAX, 'few rows are drawn');
  await settled(page);
}, { isSignedIn: true });

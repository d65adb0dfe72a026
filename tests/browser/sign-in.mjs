// Signing in: what is kept where, and what never stands in an address.

import { accessible, equal, settings, signIn, story } from './kit.mjs';

await story('a token is asked for, survives a reload, and never stands in an address', async (page, { context }) => {
  await page.goto(settings.admin);
  await page.getByLabel('Token').waitFor();
  await accessible(page, 'signing in');
  await page.getByLabel('Token').fill('shk_wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').waitFor();
  const stream = page.waitForRequest(/\/api\/stream/);
  await signIn(page);
  equal((await (await stream).allHeaders()).authorization, `Bearer ${settings.token}`, 'how the stream is asked for');
  await page.reload();
  await page.getByRole('navigation').waitFor();
  const stored = await page.evaluate(() => [Object.keys(sessionStorage), Object.keys(localStorage), document.cookie]);
  equal(stored, [['skillhook.token'], [], ''], 'where the token is kept');
  const other = await context.newPage();
  await other.goto(settings.admin);
  await other.getByLabel('Token').waitFor();
  await other.close();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Token').waitFor();
  equal(await page.evaluate(() => Object.keys(sessionStorage)), [], 'nothing is left of it');
  await signIn(page, { isKept: true });
  const kept = await context.newPage();
  await kept.goto(settings.admin);
  await kept.getByRole('navigation').waitFor();
  await kept.close();
}, { isRefused: true });

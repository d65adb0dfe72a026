// Builds ../assets from ../source, or says whether they match (--check): npm ci && node build.mjs [--check]
//
// Equal sources give equal bytes: esbuild and every library are pinned by package-lock.json. Compressed files are
// compared by what is in them, because the same text may be compressed differently elsewhere.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const source = join(here, '../source');
const assets = join(here, '../assets');

const files = await built();
if (process.argv.includes('--check')) check(files);
else write(files);

/** Every file by its name. */
async function built() {
  const result = await build({
    absWorkingDir: source,
    entryPoints: { main: 'main.jsx' },
    outdir: assets,
    bundle: true,
    splitting: true,
    format: 'esm',
    minify: true,
    write: false,
    metafile: true,
    target: ['chrome123', 'firefox121', 'safari17.5'],
    jsx: 'automatic',
    jsxImportSource: 'preact',
    nodePaths: [join(here, 'node_modules')],
    entryNames: '[name]-[hash]',
    chunkNames: '[name]-[hash]',
    legalComments: 'none',
    charset: 'utf8',
    logLevel: 'warning',
  });
  const found = new Map(result.outputFiles.map((file) => [file.path.split('/').pop(), Buffer.from(file.contents)]));
  const icon = readFileSync(join(source, 'favicon.svg'));
  const iconName = `favicon-${createHash('sha256').update(icon).digest('hex').slice(0, 8).toUpperCase()}.svg`;
  found.set(iconName, icon);
  const named = (pattern) => `/assets/${[...found.keys()].find((name) => pattern.test(name))}`;
  const page = readFileSync(join(source, 'index.html'), 'utf8')
    .replace('%FAVICON%', `/assets/${iconName}`)
    .replace('%STYLE%', named(/^main-.*\.css$/))
    .replace('%SCRIPT%', named(/^main-.*\.js$/));
  found.set('index.html', Buffer.from(page));
  found.set('licences.txt', Buffer.from(licences(result.metafile)));
  return found;
}

/** The licences of the libraries that the bundles contain. */
function licences(metafile) {
  const inputs = Object.keys(metafile.inputs).map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]);
  const names = [...new Set(inputs.filter(Boolean))].sort();
  const texts = names.map((name) => {
    const folder = join(here, 'node_modules', name);
    const { version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${name} has no licence file`);
    return `== ${name} ${version} (${license})\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
  });
  return `The dashboard contains these libraries, unchanged but for bundling.\n\n${texts.join('\n')}`;
}

function write(all) {
  rmSync(assets, { recursive: true, force: true });
  mkdirSync(assets, { recursive: true });
  let weight = 0;
  for (const [name, content] of all) {
    const packed = gzipSync(content, { level: 9 });
    writeFileSync(join(assets, name), content);
    writeFileSync(join(assets, `${name}.gz`), packed);
    weight += packed.length;
    console.log(`${name}: ${content.length} bytes, ${packed.length} compressed`);
  }
  console.log(`together ${weight} bytes compressed`);
}

function check(all) {
  const names = existsSync(assets) ? readdirSync(assets) : [];
  const wrong = [];
  for (const [name, content] of all) {
    const read = (file) => (names.includes(file) ? readFileSync(join(assets, file)) : Buffer.alloc(0));
    if (!read(name).equals(content)) wrong.push(`${name} differs from what its sources give`);
    const packed = read(`${name}.gz`);
    if (!packed.length || !gunzipSync(packed).equals(content)) wrong.push(`${name}.gz does not hold ${name}`);
  }
  wrong.push(...names.filter((name) => !all.has(name.replace(/\.gz$/, ''))).map((name) => `${name} comes from no source`));
  if (!wrong.length) return console.log(`${all.size} files match their sources`);
  console.error(`${wrong.join('\n')}\nbuild them again: npm ci && node build.mjs, in src/dashboard/build`);
  process.exitCode = 1;
}

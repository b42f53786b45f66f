// Makes ../dist, the files that the Go package embeds: npm run build. The output depends on nothing but the sources and
// package-lock.json, so that CI can compare it. With --watch it builds again after every change.
import { context } from 'esbuild';
import { mkdir, readFile, rm, writeFile, copyFile } from 'node:fs/promises';

const dist = new URL('../dist/', import.meta.url);
const vendored = ['preact', '@preact/signals', '@preact/signals-core', 'uplot'];

await rm(dist, { recursive: true, force: true });
await mkdir(dist, { recursive: true });
for (const name of ['index.html', 'icon.svg']) {
  await copyFile(new URL(`src/${name}`, import.meta.url), new URL(name, dist));
}

const licenses = await Promise.all(
  vendored.map(async (name) => {
    const root = new URL(`node_modules/${name}/`, import.meta.url);
    const { version, license } = JSON.parse(await readFile(new URL('package.json', root), 'utf8'));
    const text = (await readFile(new URL('LICENSE', root), 'utf8')).replaceAll('\r\n', '\n').trim();
    return `${name} ${version} (${license})\n\n${text}\n`;
  }),
);
await writeFile(
  new URL('licenses.txt', dist),
  `The dashboard contains these libraries.\n\n${licenses.join(`\n${'-'.repeat(80)}\n\n`)}`,
);

const build = await context({
  entryPoints: { app: 'src/main.tsx' },
  absWorkingDir: new URL('.', import.meta.url).pathname,
  outdir: dist.pathname,
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['chrome109', 'firefox115', 'safari16.4'],
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none', // licenses.txt has the whole texts
  charset: 'utf8',
  logLevel: 'info',
});
if (process.argv.includes('--watch')) {
  await build.watch();
} else {
  await build.rebuild();
  await build.dispose();
}

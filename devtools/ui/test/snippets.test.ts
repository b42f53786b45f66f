import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { curl, go, goString, javascript, shellQuote } from '../src/lib/snippets.ts';

const call = { url: 'http://127.0.0.1:4000/', action: 'task.create', params: '{\n  "title": "It\'s \\"late\\"  now",\n  "n": 12345678901234567890\n}', token: true };
const compact = '{"title":"It\'s \\"late\\"  now","n":12345678901234567890}';

test('a shell reads back what was quoted', () => {
  for (const text of [`it's`, '$HOME `x` "q" \\', 'a\nb', "''"]) {
    assert.equal(execFileSync('sh', ['-c', `printf %s ${shellQuote(text)}`]).toString(), text);
  }
});

test('curl passes the input as it is', () => {
  const out = execFileSync('sh', ['-c', `curl() { for arg; do printf '%s\\n' "$arg"; done; }; TOKEN=abc; ${curl(call)}`]).toString();
  assert.deepEqual(out.split('\n'), ['http://127.0.0.1:4000/run/task.create', '-H', 'Authorization: Bearer abc', '--json', compact, '']);
});

test('without a token nothing is sent as one', () => {
  const anonymous = { ...call, token: false };
  for (const text of [curl(anonymous), go(anonymous), javascript(anonymous)]) assert.doesNotMatch(text, /Authorization/);
});

test('JavaScript calls fetch with the same input', async () => {
  let seen: [string, RequestInit] | undefined;
  const fetch = async (url: string, init: RequestInit) => {
    seen = [url, init];
    return { json: async () => 'answer' };
  };
  const run = new Function('fetch', 'token', `return (async () => { ${javascript({ ...call, params: '{"a": 1}' })}; return result })()`);
  assert.equal(await run(fetch, 'abc'), 'answer');
  assert.equal(seen?.[0], 'http://127.0.0.1:4000/run/task.create');
  assert.equal(seen?.[1].body, '{"a":1}');
  assert.equal((seen?.[1].headers as Record<string, string>).Authorization, 'Bearer abc');
});

test('Go strings are raw where they can be', () => {
  assert.equal(goString('{"a":1}'), '`{"a":1}`');
  assert.equal(goString('a`b'), '"a`b"');
  assert.match(go(call), /strings\.NewReader\(`\{"title":/);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { base58, fromBase58, fromBase64, maskOf, readTime, rolesOf, toBase64 } from '../src/lib/tools.ts';

test('role masks are those of the protocol', () => {
  const roles = ['admin', 'user', 'editor', 'channel_chat'];
  assert.equal(maskOf(roles, ['user', 'editor']), '6'); // PROTOCOL.md's example
  assert.equal(maskOf(roles, []), 'Q');
  assert.deepEqual(rolesOf(roles, 6n), { roles: ['user', 'editor'], unknown: 0 });
  assert.deepEqual(rolesOf(roles, 0b110001n), { roles: ['admin'], unknown: 2 });
});

test('Base58 goes both ways, for 80 roles too', () => {
  for (const n of [0n, 1n, 57n, 58n, 2n ** 80n - 1n]) assert.equal(fromBase58(base58(n)), n);
  assert.equal(fromBase58(''), 0n);
  assert.equal(fromBase58('QQ6'), 6n);
  assert.match(String(fromBase58('1O')), /"O" at position 2/);
  assert.match(String(fromBase58('1'.repeat(257))), /257 digits/);
});

test('Base64 goes both ways', () => {
  for (const text of ['', 'a', 'Zoë 🌙', '\u0000\u00ff']) {
    assert.equal(fromBase64(toBase64(text)).text, text);
    assert.equal(fromBase64(toBase64(text, true)).text, text);
  }
  assert.equal(toBase64('??>', true), 'Pz8-');
  assert.equal(fromBase64('/w==').hex, 'ff');
  assert.match(fromBase64('a*b=').error!, /"\*"/);
  assert.match(fromBase64('abcde').error!, /length/);
});

test('timestamps are told apart by their size', () => {
  const cases: [string, number | undefined, string?][] = [
    ['1700000000', 1700000000000, 'Unix seconds'],
    ['1700000000000', 1700000000000, 'Unix milliseconds'],
    ['1700000000000000', 1700000000000, 'Unix microseconds'],
    ['1700000000000000000', 1700000000000, 'Unix nanoseconds'],
    ['2023-11-14T22:13:20Z', 1700000000000, 'RFC 3339'],
    ['nonsense', undefined],
    ['', undefined],
    ['99999999999999999999999', undefined],
  ];
  for (const [text, time, as] of cases) {
    const got = readTime(text);
    assert.equal(got?.time, time, text);
    if (as) assert.equal(got?.as, as, text);
  }
});

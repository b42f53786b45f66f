import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogSummary } from '../src/api.ts';
import { filterFrom, matches, merge, timeOf, toQuery, type Filter } from '../src/lib/logfilter.ts';

const now = 1_000_000;

function call(change: Partial<LogSummary> = {}): LogSummary {
  return { id: 1, time: now - 5000, app: '', action: 'say', source: 'ws', user: 'ann', tenant: 'acme', code: 'ok', duration_ms: 5, request_id: 'r1', ...change };
}

test('filterFrom keeps filters that have a value', () => {
  assert.deepEqual(filterFrom({ action: ' say ', code: '', id: '7', other: 'x' }), { action: 'say' });
});

test('timeOf reads relative and absolute times', () => {
  const cases: [string | undefined, number | undefined][] = [
    ['-15m', now - 900_000],
    ['-1h', now - 3_600_000],
    ['500', 500],
    ['yesterday', undefined],
    ['-15x', undefined],
    [undefined, undefined],
  ];
  for (const [text, want] of cases) assert.equal(timeOf(text, now), want, text);
});

test('toQuery makes times absolute and drops what is no number', () => {
  assert.deepEqual(toQuery({ action: 'say', since: '-1s', min_ms: '10' }, now), { action: 'say', since: now - 1000, until: undefined, min_ms: 10 });
  assert.equal(toQuery({ min_ms: 'abc' }, now).min_ms, undefined);
});

test('matches', () => {
  const cases: [string, Filter, Partial<LogSummary>, boolean | undefined][] = [
    ['no filter', {}, {}, true],
    ['action', { action: 'say' }, {}, true],
    ['part of an action', { action: 'sa' }, {}, false],
    ['user', { user: 'bob' }, {}, false],
    ['connection', { conn: 'c1' }, { conn: 'c1' }, true],
    ['no connection', { conn: 'c1' }, {}, false],
    ['every error', { code: 'error' }, { code: 'internal' }, true],
    ['every error, ok', { code: 'error' }, {}, false],
    ['one of the codes', { code: 'not_found,internal' }, { code: 'internal' }, true],
    ['made by a client', { via: 'client' }, {}, true],
    ['not made by a client', { via: 'client' }, { via: 'mcp' }, false],
    ['slow', { min_ms: '5' }, {}, true],
    ['not slow', { min_ms: '5.1' }, {}, false],
    ['since', { since: '-10s' }, {}, true],
    ['too old', { since: '-1s' }, {}, false],
    ['until', { until: String(now) }, {}, true],
    ['text that is seen', { text: 'ANN' }, {}, true],
    ['text that only the server can find', { text: 'hello' }, {}, undefined],
    ['text, but another action', { text: 'hello', action: 'x' }, {}, false],
  ];
  for (const [name, filter, change, want] of cases) assert.equal(matches(call(change), filter, now), want, name);
});

test('merge keeps the newest first, each once', () => {
  const ids = (list: LogSummary[]) => list.map((e) => e.id);
  const of = (...numbers: number[]) => numbers.map((id) => call({ id }));
  assert.deepEqual(ids(merge(of(3, 2, 1), of(4, 5), 10)), [5, 4, 3, 2, 1], 'live, oldest first');
  assert.deepEqual(ids(merge(of(3, 2, 1), of(5, 4), 10)), [5, 4, 3, 2, 1], 'a page, newest first');
  assert.deepEqual(ids(merge(of(5, 4), of(3, 2), 10)), [5, 4, 3, 2], 'older ones');
  assert.deepEqual(ids(merge(of(5, 3), of(6, 5, 4, 3), 10)), [6, 5, 4, 3], 'overlapping');
  assert.deepEqual(ids(merge(of(3, 2, 1), of(4), 3)), [4, 3, 2], 'bounded');
  assert.deepEqual(ids(merge([], of(1, 2), 10)), [2, 1], 'into nothing');
});

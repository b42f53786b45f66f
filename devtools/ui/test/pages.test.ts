// Addresses, links of guides, the list of connections, charts, and how numbers are written.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Conn, ConnPage, MetricPoint, Metrics } from '../src/api.ts';
import { apply, filterFrom, matches } from '../src/lib/conns.ts';
import { bytes, digits, ms, plural, span } from '../src/lib/format.ts';
import { callIn, guideLink } from '../src/lib/guides.ts';
import { appendPoint } from '../src/lib/series.ts';
import { link, parse } from '../src/router.ts';

test('addresses are read back as they were made', () => {
  for (const [path, query] of [
    [['actions', '', 'task.create'], { params: '{"a": "x&y=#?/ü"}', as: 'ann' }],
    [['guides', 'a b', 'c%d.md'], {}],
  ] as [string[], Record<string, string>][]) {
    assert.deepEqual(parse(link(path, query)), { path, query });
  }
  assert.deepEqual(parse(''), { path: ['overview'], query: {} });
  assert.deepEqual(parse('#/log?code='), { path: ['log'], query: { code: '' } });
  assert.deepEqual(parse('#/%E0%A4%A'), { path: ['%E0%A4%A'], query: {} }, 'a broken escape');
  assert.equal(link(['log'], { code: '', user: undefined }), '#/log');
  assert.equal(link(['actions', 'a', 'b'], { as: '' }), '#/actions/a/b?as=');
});

test('links of guides stay in their directory', () => {
  const cases: [string, string, ReturnType<typeof guideLink>][] = [
    ['start.md', 'more/deep.md', { path: 'more/deep.md', id: undefined }],
    ['more/deep.md', '../start.md#top', { path: 'start.md', id: 'top' }],
    ['more/deep.md', '/start.md', { path: 'start.md', id: undefined }],
    ['start.md', '#part', { path: 'start.md', id: 'part' }],
    ['start.md', 'https://example.com/', { outside: 'https://example.com/' }],
    ['start.md', '../secret.md', undefined],
    ['start.md', 'javascript:alert(1)', undefined],
    ['start.md', 'JAVASCRIPT:alert(1)', undefined],
    ['start.md', 'data:text/html,x', undefined],
    ['start.md', '//example.com', undefined],
    ['start.md', '%zz', undefined],
  ];
  for (const [from, href, want] of cases) assert.deepEqual(guideLink(from, href), want, href);
});

test('JSON with an action is a call', () => {
  assert.equal(callIn('json', '{"action":"say"}'), 'say');
  for (const [lang, text] of [['go', '{"action":"say"}'], ['json', '{"action":1}'], ['json', '{'], ['json', 'null']] as const) {
    assert.equal(callIn(lang, text), undefined, text);
  }
});

function conn(id: string, change: Partial<Conn> = {}): Conn {
  return { id, pool: 'default', user: 'ann', app: '', tenant: '', scope: 'default', channels: ['main:default'], since: Number(id), addr: '127.0.0.1', queued_bytes: 0, ...change };
}

test('a filter of connections can ask for the empty name', () => {
  assert.deepEqual(filterFrom({ tenant: '-', text: '', other: 'x' }), { tenant: '' });
  assert.equal(matches(conn('1'), { tenant: '' }), true);
  assert.equal(matches(conn('1', { tenant: 'acme' }), { tenant: '' }), false);
  assert.equal(matches(conn('1'), { channel: 'main:default', text: 'AN' }), true);
});

test('events keep the list of connections right', () => {
  const page: ConnPage = { total: 2, matched: 2, conns: [conn('2'), conn('1')], pools: [] };
  const opened = apply(page, { total: 3, opened: [conn('3')] }, {});
  assert.deepEqual([opened.conns.map((c) => c.id), opened.matched, opened.total], [['3', '2', '1'], 3, 3]);
  const closed = apply(opened, { total: 2, closed: [{ id: '2', code: 1000, reason: '' }] }, {});
  assert.deepEqual([closed.conns.map((c) => c.id), closed.matched], [['3', '1'], 2]);
  const changed = apply(closed, { total: 2, changed: [conn('1', { user: 'bob' })] }, { user: 'ann' });
  assert.deepEqual([changed.conns.map((c) => c.id), changed.matched], [['3'], 1], 'no longer matches');
  const both = apply(page, { total: 2, opened: [conn('4')], closed: [{ id: '4', code: 1000, reason: '' }] }, {});
  assert.deepEqual(both.conns.map((c) => c.id), ['2', '1'], 'opened and closed at once');
});

test('a new moment is added to the charts, and old ones leave', () => {
  const point = (time: number) => ({ time, calls: 2, errors: 1, p50_ms: null }) as unknown as MetricPoint;
  const m = { step_s: 1, totals: { calls: 10, errors: 0, conns: 0 }, points: { time: [1000, 2000], calls: [1, 1], errors: [0, 0], p50_ms: [1, 1] } } as unknown as Metrics;
  const next = appendPoint(m, point(3000), 1);
  assert.deepEqual(next.points.time, [2000, 3000]);
  assert.deepEqual(next.points.p50_ms, [1, null]);
  assert.equal(next.totals.calls, 12);
  assert.equal(appendPoint(next, point(3000), 1), next, 'the same moment twice');
});

test('numbers read well', () => {
  assert.deepEqual([0, 1023, 1024, 1536, 5e9].map(bytes), ['0 B', '1023 B', '1 KiB', '1.5 KiB', '4.66 GiB']);
  assert.deepEqual([0, 0.01234, 1.5, 99.96, 12345, 1e-9].map(digits), ['0', '0.0123', '1.5', '100', '12,345', '0']);
  assert.deepEqual([null, 0, 0.0001, 0.25, 12.34, 4321].map(ms), ['–', '0', '1 µs', '250 µs', '12.3 ms', '4.32 s']);
  assert.deepEqual([0, 61_000, 90_061_000].map(span), ['0 s', '1 min 1 s', '1 d 1 h']);
  assert.deepEqual([plural(1, 'call'), plural(1200, 'call')], ['1 call', '1,200 calls']);
});

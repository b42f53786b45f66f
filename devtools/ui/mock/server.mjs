// A stand-in for the program, for work on the page without Go: node mock/server.mjs, then open http://127.0.0.1:4041 and log in
// with "mock". It speaks src/api.ts, with made-up data; nothing here is part of the bundle.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';

const port = Number(process.env.PORT ?? 4041);
const started = Date.now() - 3 * 3600_000;
const sessions = new Map();
const streams = new Set();
const types = { html: 'text/html; charset=utf-8', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', txt: 'text/plain; charset=utf-8' };

// ---- data -----------------------------------------------------------------------------------------------------------

const apps = [
  {
    app: '',
    roles: ['admin', 'user', 'editor', 'channel_chat'],
    actions: [
      action('login', { kind: 'public' }, 'Gives a token to whoever says a name.', { type: 'object', properties: { name: { type: 'string', minLength: 1, maxLength: 30, description: 'what others see' } }, required: ['name'] }),
      action('say', { kind: 'authenticated' }, 'Says something in a room.', {
        type: 'object',
        properties: { room: { type: 'string', pattern: '^room-' }, text: { type: 'string', minLength: 1, maxLength: 2000 } },
        required: ['room', 'text'],
      }),
      action('rooms', { kind: 'authenticated' }, 'Lists the rooms, with how many are in them.', { type: 'object', properties: {} }, true),
      action('task.create', { kind: 'roles', roles: ['admin', 'editor'] }, 'Creates a task. Shows every kind of field that a form can have.', {
        type: 'object',
        properties: {
          title: { type: 'string', minLength: 1, maxLength: 100, description: 'what is to be done' },
          priority: { enum: ['low', 'normal', 'high'], description: 'how soon' },
          estimate: { type: 'integer', minimum: 1, maximum: 100 },
          due: { type: 'string', format: 'date-time' },
          private: { type: 'boolean' },
          tags: { type: 'array', items: { type: 'string', minLength: 1 }, maxItems: 5 },
          address: { type: 'object', properties: { street: { type: 'string' }, city: { type: 'string' } }, required: ['city'] },
          parent: { $ref: '#/$defs/Task' },
          labels: { type: 'object', additionalProperties: { type: 'string' } },
          extra: {},
        },
        required: ['title', 'priority'],
        $defs: { Task: { type: 'object', properties: { title: { type: 'string' }, parent: { $ref: '#/$defs/Task' } }, required: ['title'] } },
      }),
      action('report.build', { kind: 'roles', roles: ['admin'] }, 'Fails with a panic.', undefined),
    ],
  },
];

function action(name, access, description, schema, read_only = false) {
  return { name, access, description, read_only, timeout_ms: 30000, max_bytes: 16384, schema, stats: { calls: 1234, errors: 17, p50_ms: 0.31, p99_ms: 8.4, last: Date.now() } };
}

const codes = ['ok', 'ok', 'ok', 'ok', 'ok', 'ok', 'validation_failed', 'not_found', 'unauthenticated', 'internal', 'rate_limited'];
const users = ['ann', 'bob', 'eve', 'kim', ''];
const names = ['say', 'rooms', 'login', 'task.create', 'report.build'];
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const hex = (n) => Array.from({ length: n }, () => Math.floor(Math.random() * 16).toString(16)).join('');

let log = [];
let lastID = 0;

function addCall(change = {}) {
  const code = change.code ?? pick(codes);
  const duration = Math.exp(Math.random() * 4 - 2);
  const user = pick(users);
  const entry = {
    id: ++lastID, time: Date.now(), app: '', action: pick(names), source: pick(['http', 'ws', 'ws', 'go']), user, tenant: user && pick(['', 'acme', 'globex']),
    code, duration_ms: duration, request_id: hex(20), remote_addr: '127.0.0.1', traceparent: `00-${hex(32)}-${hex(16)}-01`,
    identity: user ? { user, app: '', tenant: '', scope: 'default', roles: ['user'], expires: Date.now() + 3600_000 } : null,
    params: { room: 'room-general', text: 'Hello', password: '[redacted]' },
    steps: [
      { name: 'access', start_ms: 0, duration_ms: duration * 0.04 },
      { name: 'middleware 0.0', start_ms: duration * 0.05, duration_ms: duration * 0.93 },
      { name: 'params', start_ms: duration * 0.1, duration_ms: duration * 0.1 },
      { name: 'handler', start_ms: duration * 0.22, duration_ms: duration * 0.7, error: code === 'ok' ? undefined : code },
    ],
    ...(code === 'ok'
      ? { result: { id: hex(8), room: 'room-general', text: 'Hello', members: [{ user: 'ann', since: 1760000000 }, { user: 'bob', since: 1760000001 }] } }
      : {
          error: 'insert: connection refused',
          failure: {
            code, message: code === 'internal' ? 'Internal Server Error' : 'That is not there',
            errors: code === 'validation_failed' ? { 'address.city': ['is required'] } : undefined,
            cause: 'insert: dial tcp 127.0.0.1:5432: connect: connection refused',
            stack: code === 'internal' ? 'main.report(...)\n\tmain.go:17\ngithub.com/mooncore/mooncore.(*Server).run(...)\n\tdispatch.go:240' : undefined,
          },
        }),
    ...change,
  };
  log.push(entry);
  if (log.length > 20000) log.shift();
  return entry;
}
for (let i = 0; i < 12000; i++) addCall().time = Date.now() - (12000 - i) * 300;

const summary = ({ id, time, app, action, source, via, user, tenant, code, duration_ms, request_id, conn, error }) => ({ id, time, app, action, source, via, user, tenant, code, duration_ms, request_id, conn, error });

let conns = Array.from({ length: 40 }, (_, i) => ({
  id: `c${i + 1}-${hex(6)}`, pool: i % 7 ? 'default' : 'admin', user: i % 9 ? `${pick(['ann', 'bob', 'eve', 'kim', 'lee'])}${i}` : '', app: '', tenant: i % 9 ? pick(['acme', 'globex', '']) : '_anon', scope: 'default',
  channels: i % 9 ? ['main:default', `room-${pick(['general', 'random', 'dev'])}:default`] : ['ws:pending'], since: Date.now() - Math.random() * 7200_000, addr: `127.0.0.${1 + (i % 20)}`,
  queued_bytes: i % 11 ? 0 : 4096 * i, rtt_ms: Math.random() * 40, expires: Date.now() + 3600_000 * Math.random(), roles: ['user'], user_agent: 'Mozilla/5.0', frames_in: 12, frames_out: 340, bytes_in: 900, bytes_out: 120000,
}));
const frames = new Map();
function addFrame(conn, dir, data) {
  const list = frames.get(conn) ?? [];
  frames.set(conn, list);
  const frame = { seq: (list.at(-1)?.seq ?? 0) + 1, time: Date.now(), dir, size_bytes: data.length, data };
  list.push(frame);
  for (const s of streams) if (s.topics.has(`frames:${conn}`)) s.send('frames', { conn, frames: [frame] });
}
for (const c of conns) for (let i = 0; i < 5; i++) addFrame(c.id, i % 2 ? 'out' : 'in', i % 2 ? '["response",{"ok":true},1]' : '{"action":"say","room":"room-general","text":"Hello","rayid":1}');

function pools() {
  const tree = new Map();
  const add = (map, key) => map.set(key, map.get(key) ?? { n: 0, below: new Map() }).get(key);
  for (const c of conns) {
    const p = add(tree, c.pool);
    const t = add(p.below, c.tenant);
    p.n++;
    t.n++;
    for (const channel of c.channels) add(t.below, channel).n++;
  }
  return [...tree].map(([name, p]) => ({ name, conns: p.n, tenants: [...p.below].map(([name, t]) => ({ name, conns: t.n, channels: [...t.below].map(([name, c]) => ({ name, conns: c.n })) })) }));
}

function point(time = Date.now()) {
  const wave = Math.sin(time / 60000) + Math.sin(time / 17000) / 3;
  const calls = Math.max(0, 140 + 60 * wave + Math.random() * 20);
  return {
    time, calls, errors: calls * 0.02 * Math.random(), p50_ms: 0.4 + Math.random() * 0.1, p95_ms: 3 + wave + Math.random(), p99_ms: 9 + 3 * wave + Math.random() * 4, conns: Math.round(conns.length + 5 * wave), frames_in: calls * 0.7, frames_out: calls * 4.2,
    heap_bytes: 24e6 + 6e6 * ((time / 9000) % 1), memory_bytes: 61e6, goroutines: Math.round(120 + 10 * wave), gc: 0.2, gc_pause_ms: Math.random() * 0.3, cpu: 0.4 + wave * 0.1,
  };
}

const settings = [
  ['Addr', '127.0.0.1:4000', 'environment', 'PORT', 'The TCP address that Run listens on.'], ['Development', 'true', 'environment', 'MOONCORE_ENV'], ['SecretKeyBase', '[redacted]', 'file', 'SECRET_KEY_BASE_FILE'],
  ['Limits.Timeout', '30s', 'default', '', 'How long an action may take.'], ['Limits.MaxBytes', '16 KiB', 'program'], ['JWT.Issuer', 'mooncore', 'default', 'JWT_ISSUER'], ['Origins', '', 'default', 'CORS_ORIGINS'], ['Pools', 'default, admin', 'program'],
].map(([name, value, source, env, description]) => ({ name, value, source, env: env || undefined, description }));

const guide = {
  path: 'start.md', title: 'First steps',
  blocks: [
    { type: 'heading', level: 1, id: 'first-steps', content: ['First steps'] },
    { type: 'paragraph', content: ['This program is a ', { type: 'strong', content: ['chat'] }, '. Call ', { type: 'code', text: 'rooms' }, ', or read ', { type: 'link', href: 'more/deep.md', content: ['the next one'] }, '.'] },
    { type: 'code', lang: 'json', text: '{\n  "action": "login",\n  "name": "Ann"\n}' },
    { type: 'list', ordered: false, items: [{ blocks: [{ type: 'paragraph', content: ['one'] }] }, { checked: true, blocks: [{ type: 'paragraph', content: ['done'] }] }] },
    { type: 'table', align: ['', 'right'], head: [['code'], ['HTTP']], rows: [[['ok'], ['200']], [['not_found'], ['404']]] },
    { type: 'quote', blocks: [{ type: 'paragraph', content: ['Quality over quantity.'] }] },
  ],
};

const page = {
  name: 'chat', title: 'Chat', description: 'What happens in the rooms.',
  buttons: [{ id: 'clear', label: 'Forget all messages', confirm: 'The messages of all rooms are gone then.' }, { id: 'announce', label: 'Announce', schema: { type: 'object', properties: { text: { type: 'string', minLength: 1 } }, required: ['text'] } }],
  widgets: [
    { id: 'n', type: 'number', title: 'Messages', value: 12345, unit: 'since start', trend: [1, 4, 3, 6, 8, 7, 9, 12] },
    { id: 'kv', type: 'keyvalue', title: 'State', rows: [['Rooms', '4'], ['Oldest message', '3 min']] },
    { id: 'l', type: 'list', title: 'Who spoke last', items: ['Ann', 'Bob', 'Eve'] },
    { id: 'x', type: 'text', title: 'Note', text: 'Everything here is in memory.\nIt is gone after a restart.' },
    { id: 't', type: 'table', title: 'Rooms', columns: ['Room', 'Members', 'Open'], rows: [['room-general', 12, true], ['room-random', 3, null]] },
    { id: 'c', type: 'line', title: 'Messages', unit: 'per minute', time: Array.from({ length: 30 }, (_, i) => Date.now() - (30 - i) * 60000), series: [{ label: 'room-general', values: Array.from({ length: 30 }, () => Math.random() * 20) }, { label: 'room-random', values: Array.from({ length: 30 }, () => Math.random() * 5) }] },
  ],
};

const stack = (top) => [top, 'net/http.(*conn).serve', 'runtime.goexit'].map((func, i) => ({ func, file: `${func.split('.')[0]}.go`, line: 100 + i }));
const goroutines = {
  total: 132,
  groups: [
    { count: 90, state: 'IO wait', wait_minutes: 12, frames: [{ func: 'internal/poll.runtime_pollWait', file: 'netpoll.go', line: 351 }, ...stack('github.com/mooncore/mooncore/ws.(*Conn).read')], created_by: { func: 'net/http.(*Server).Serve', file: 'server.go', line: 3285 } },
    { count: 38, state: 'select', frames: stack('github.com/mooncore/mooncore/ws.(*flusher).run') },
    { count: 4, state: 'running', frames: stack('main.main') },
  ],
};

// ---- answers --------------------------------------------------------------------------------------------------------

function runCall({ action: name, identity, transport, params }) {
  const known = apps[0].actions.find((a) => a.name === name);
  const bad = known?.schema?.required?.filter((key) => params[key] === undefined || params[key] === '') ?? [];
  const code = !known ? 'not_found' : known.access.kind !== 'public' && !identity ? 'unauthenticated' : bad.length ? 'validation_failed' : name === 'report.build' ? 'internal' : 'ok';
  const error = code === 'ok' ? undefined : { error: code, code, errors: bad.length ? Object.fromEntries(bad.map((key) => [key, ['is required']])) : undefined };
  const entry = addCall({ action: name, code, via: 'dashboard', source: transport, user: identity?.user ?? '', tenant: identity?.tenant ?? '', identity, params, result: code === 'ok' ? { echo: params } : undefined });
  for (const s of streams) if (s.topics.has('log')) s.send('log', { entries: [summary(entry)] });
  return { ok: code === 'ok', code, status: transport === 'http' ? (code === 'ok' ? 200 : 422) : undefined, duration_ms: entry.duration_ms, result: entry.result, error, log_id: entry.id, request_id: entry.request_id };
}

function find(q) {
  const has = (key, of) => !q.has(key) || q.get(key) === String(of ?? '');
  return log.filter(
    (e) =>
      has('action', e.action) && has('user', e.user) && has('tenant', e.tenant) && has('source', e.source) && (!q.has('via') || q.get('via') === (e.via ?? 'client')) &&
      (!q.has('code') || q.get('code').split(',').some((c) => (c === 'error' ? e.code !== 'ok' : c === e.code))) &&
      (!q.has('text') || JSON.stringify(e).toLowerCase().includes(q.get('text').toLowerCase())) &&
      (!q.has('since') || e.time >= Number(q.get('since'))) && (!q.has('before') || e.id < Number(q.get('before'))) && (!q.has('min_ms') || e.duration_ms >= Number(q.get('min_ms'))),
  );
}

const fail = (status, code, error = code) => Object.assign(new Error(error), { status, body: { error, code } });

function api(method, path, q, body) {
  const parts = path.split('/').map(decodeURIComponent);
  const key = `${method} ${parts[0]}`;
  switch (key) {
    case 'GET info':
      return { started, now: Date.now(), pid: 4711, url: 'http://127.0.0.1:4000', mooncore: 'v0.1.0', go: 'go1.26.8', os: 'linux', arch: 'amd64', gomaxprocs: 2, build: { path: 'example.com/chat', revision: hex(40), modified: true, dependencies: [{ path: 'github.com/coder/websocket', version: 'v1.8.15' }] }, pools: ['default', 'admin'], mcp_url: 'http://127.0.0.1:4040/mcp', health: { status: 'ok', checks: { database: { status: 'ok', duration_ms: 1.2 } } } };
    case 'GET metrics': {
      const window = Number(q.get('window') ?? 3600);
      const step = window / 300;
      const list = Array.from({ length: 300 }, (_, i) => point(Date.now() - (300 - i) * step * 1000));
      return { step_s: step, totals: { calls: 123456, errors: 321, conns: 987 }, points: Object.fromEntries(Object.keys(list[0]).map((k) => [k, list.map((p) => p[k])])) };
    }
    case 'GET cluster':
      return {
        node: 'app-1', published: 123456, delivered: 987654,
        broker: { engine: 'nats', up: true, since: started, round_trip_ms: 0.41, subscriptions: 1204, peers: 2, reconnects: 1, dropped: 0, losses: 12 },
        history: { feeds: 12, lost: 1, recovered: 340, epoch: 2, ahead: 0, trimmed: 3, too_large: 1, unavailable: 0, no_history: 0, refused: 0 },
      };
    case 'GET settings':
      return { settings };
    case 'GET actions':
      return { apps };
    case 'POST run':
      return runCall(body);
    case 'GET log': {
      if (parts[1]) return log.find((e) => e.id === Number(parts[1])) ?? fail(404, 'not_found', 'That call was forgotten');
      const found = find(q).reverse();
      const limit = Number(q.get('limit') ?? 200);
      return { entries: found.slice(0, limit).map(summary), more: found.length > limit, kept: log.length, kept_bytes: log.length * 700, max_bytes: 16 << 20 };
    }
    case 'POST log': {
      const e = log.find((e) => e.id === Number(parts[1]));
      return runCall({ ...e, transport: e.source });
    }
    case 'DELETE log':
      log = [];
      for (const s of streams) s.send('log_cleared', {});
      return undefined;
    case 'GET conns': {
      if (parts[2] === 'frames') return { frames: frames.get(parts[1]) ?? [] };
      if (parts[1]) return conns.find((c) => c.id === parts[1]) ?? fail(404, 'not_found', 'It is gone');
      const match = conns.filter((c) => ['pool', 'tenant', 'user'].every((k) => !q.has(k) || q.get(k) === c[k]) && (!q.has('channel') || c.channels.includes(q.get('channel'))) && (!q.has('text') || `${c.user} ${c.id} ${c.addr}`.includes(q.get('text'))));
      return { total: conns.length, matched: match.length, conns: [...match].sort((a, b) => b.since - a.since), pools: pools() };
    }
    case 'POST conns': {
      const c = conns.find((c) => c.id === parts[1]);
      if (!c) return fail(404, 'not_found', 'It is gone');
      if (parts[2] === 'kick') {
        conns = conns.filter((other) => other !== c);
        for (const s of streams) if (s.topics.has('conns')) s.send('conns', { total: conns.length, closed: [{ id: c.id, code: 1008, reason: 'kicked' }] });
        return undefined;
      }
      if (parts[2] === 'send') return addFrame(c.id, 'out', JSON.stringify([body.event, body.payload]));
      const name = `${body.channel}:default`;
      c.channels = parts[2] === 'join' ? [...new Set([...c.channels, name])] : c.channels.filter((n) => n !== name);
      return { channels: c.channels };
    }
    case 'POST publish':
      return { receivers: conns.length };
    case 'GET runtime':
      if (parts[1] === 'goroutines') return goroutines;
      return { classes: [['heap/objects', 24e6, 'Memory occupied by live objects and dead objects not yet marked free.'], ['heap/free', 9e6, 'Memory that is free and could be returned.'], ['os-stacks', 2e6, 'Stack memory allocated by the system.']].map(([n, bytes, description]) => ({ name: `/memory/classes/${n}:bytes`, bytes, description })), gc_cycles: 812, last_gc: Date.now() - 3000, gogc: 100, memory_limit_bytes: -1 };
    case 'POST runtime':
      return undefined;
    case 'POST tools':
      if (parts[2] === 'inspect') return { valid: body.token.startsWith('eyJ'), reasons: body.token.startsWith('eyJ') ? [] : ['It has 1 part; a token has three, separated by dots.'], header: { alg: 'RS256' }, claims: { user: 'ann', roles: '6' }, roles: ['user', 'editor'], expires: Date.now() + 3600_000 };
      return { token: `eyJhbGciOiJSUzI1NiJ9.${hex(120)}.${hex(80)}`, claims: body.identity };
    case 'GET console':
      return { variables: [{ name: 'conns', type: '[]Conn', description: 'Open connections.' }, { name: 'calls', type: '[]Call', description: 'Calls in the log.' }], functions: [{ signature: 'filter(list, predicate)', description: 'Those for which the predicate holds.' }], examples: [{ expr: 'len(conns)', description: 'How many are connected.' }, { expr: 'filter(calls, .code == "internal")', description: 'Calls that failed.' }], timeout_ms: 250 };
    case 'POST console':
      if (body.expr.includes('!')) return fail(400, 'invalid_argument', 'unexpected token Operator("!") (1:3)\n | a ! b\n | ..^');
      return { value: body.expr === 'len(conns)' ? conns.length : conns.slice(0, 3), type: body.expr === 'len(conns)' ? 'int' : '[]Conn', duration_ms: 0.2 };
    case 'GET guides':
      return parts[1] ? guide : { guides: [{ path: 'start.md', title: 'First steps' }, { path: 'more/deep.md', title: 'Going deeper' }] };
    case 'GET pages':
      return parts[1] ? page : { pages: [{ name: 'chat', title: 'Chat' }, { name: 'jobs', title: 'Jobs' }] };
    case 'POST pages':
      return { message: 'It is done.', result: parts[3] === 'announce' ? { text: body.input.text } : undefined };
    case 'GET doctor':
      return {
        environment: 'development',
        findings: [
          { id: 'dev-tools', severity: 'fatal', what: 'Developer tools are on', why: 'They show every call and can act on connections.', fix: 'Leave Config.DevTools off in production.' },
          { id: 'readiness', severity: 'warning', what: 'There are no readiness checks', why: 'A load balancer sends calls here while a database is away.', fix: 'Put a function into Config.Checks.' },
          { id: 'pools', severity: 'info', what: 'One pool only', why: 'Nothing wrong with it.', fix: 'Nothing to do.' },
        ],
        passed: [{ id: 'jwt-key', what: 'The signing key is configured' }],
      };
  }
  return fail(404, 'not_found', 'Not found');
}

setInterval(() => {
  for (const s of streams) s.send('metrics', point());
}, 1000);
setInterval(() => {
  const entries = Array.from({ length: 1 + Math.floor(Math.random() * 4) }, () => summary(addCall()));
  for (const s of streams) if (s.topics.has('log')) s.send('log', { entries });
  const c = pick(conns);
  if (c) addFrame(c.id, 'out', '["message",{"from":"ann","text":"Hello"}]');
}, 700);

// ---- HTTP -----------------------------------------------------------------------------------------------------------

createServer(async (req, res) => {
  const url = new URL(req.url, 'http://localhost');
  const path = url.pathname.slice(1);
  const json = (status, body) => {
    res.writeHead(status, { 'Content-Type': 'application/json' });
    res.end(body === undefined ? '' : JSON.stringify(body));
  };
  res.setHeader('Content-Security-Policy', "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'");
  try {
    let text = '';
    for await (const chunk of req) text += chunk;
    const body = text ? JSON.parse(text) : {};
    const cookie = /mock=([\w-]+)/.exec(req.headers.cookie ?? '')?.[1];
    const session = sessions.get(cookie);
    if (path === 'login' && req.method === 'POST') {
      if (body.secret !== 'mock') return json(401, { error: 'That is not the secret', code: 'unauthenticated' });
      const id = randomUUID();
      sessions.set(id, { csrf: randomUUID() });
      res.setHeader('Set-Cookie', `mock=${id}; HttpOnly; SameSite=Strict; Path=/`);
      return json(204);
    }
    if (path === 'logout' || path.startsWith('api/')) {
      if (!session) return json(401, { error: 'Log in first', code: 'unauthenticated', login: 'secret' });
      if (req.method !== 'GET' && req.headers['x-csrf-token'] !== session.csrf) return json(403, { error: 'CSRF token is wrong', code: 'permission_denied' });
      if (path === 'logout') {
        sessions.delete(cookie);
        return json(204);
      }
      if (path === 'api/session') return json(200, { csrf: session.csrf, expires: Date.now() + 3600_000, features: { guides: true, pages: true, console: true }, program: 'chat', environment: 'development' });
      if (path === 'api/stream') {
        res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
        const stream = { topics: new Set((url.searchParams.get('topics') ?? '').split(',')), send: (event, data) => res.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`) };
        stream.send('hello', { started });
        streams.add(stream);
        req.on('close', () => streams.delete(stream));
        return;
      }
      const answer = api(req.method, path.slice(4), url.searchParams, body);
      if (answer instanceof Error) return json(answer.status, answer.body);
      return answer === undefined ? json(204) : json(200, answer);
    }
    const file = path || 'index.html';
    const content = await readFile(new URL(`../../dist/${file.replace(/[^\w.-]/g, '')}`, import.meta.url));
    res.writeHead(200, { 'Content-Type': types[file.split('.').pop()] ?? 'application/octet-stream' });
    res.end(content);
  } catch (err) {
    json(err.code === 'ENOENT' ? 404 : 500, { error: String(err), code: 'internal' });
  }
}).listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${port}, secret "mock"`));

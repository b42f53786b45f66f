// The page of the tasks. It speaks the Mooncore protocol, version 1, over one WebSocket, and needs no library.
//
// Whatever people wrote becomes text nodes, never HTML.

const $ = (id) => document.getElementById(id);

// In this window only, so that two windows can be two people. A token never stands in a URL or a cookie.
const session = {
  get token() { return sessionStorage.getItem('tasks.token'); },
  set token(token) { token ? sessionStorage.setItem('tasks.token', token) : sessionStorage.removeItem('tasks.token'); },
};

/** What the server answered instead of a result. */
class Refused extends Error {
  constructor(answer) {
    super(Object.entries(answer.errors ?? {}).map(([field, texts]) => `${field} ${texts[0]}`).join(', ') || answer.error);
    this.code = answer.code;
  }
}

/** Calls an action over HTTP: what is public, before there is a connection. */
async function post(action, params) {
  const response = await fetch(`run/${action}`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(params),
  });
  const answer = await response.json();
  if (!response.ok) throw new Refused(answer);
  return answer;
}

// ---------------------------------------------------------------------------------------------------------------------
// The connection: it logs in, and comes back by itself.

class Connection {
  /** @param on {online(claims), offline(text), signedOut(text), event(name, payload)} */
  constructor(on) {
    this.on = on;
    this.attempts = 0;
    addEventListener('online', () => this.retry());
    document.addEventListener('visibilitychange', () => document.hidden || this.retry());
  }

  open() {
    this.reset();
    this.wanted = true;
    const url = new URL('ws', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    const socket = (this.socket = new WebSocket(url, ['mooncore.v1']));
    const mine = (handle) => (event) => socket === this.socket && handle(event);
    socket.onopen = mine(() => socket.send(JSON.stringify(['jwt', session.token])));
    socket.onmessage = mine((event) => this.receive(event.data));
    socket.onclose = mine((event) => this.lost(event.code, event.reason));
    this.silent = false;
    this.pulse = setInterval(() => this.beat(), 15_000);
  }

  quit() {
    this.wanted = false;
    this.reset();
  }

  /** Comes back at once if it is waiting. */
  retry() {
    if (this.wanted && !this.socket) this.open();
  }

  call(action, params) {
    return new Promise((resolve, reject) => {
      if (!this.online) return reject(new Error('Not connected'));
      const rayid = (this.lastCall = (this.lastCall ?? 0) + 1);
      this.calls.set(rayid, { resolve, reject });
      this.socket.send(JSON.stringify({ ...params, action, rayid }));
    });
  }

  reset() {
    this.socket?.close();
    this.socket = null;
    this.online = false;
    clearInterval(this.pulse);
    clearTimeout(this.countdown);
    this.calls?.forEach((call) => call.reject(new Error('The connection was lost. Look whether it was done.')));
    this.calls = new Map();
  }

  receive(data) {
    this.silent = false;
    if (data === 'pong') return;
    const [name, payload, rayid] = JSON.parse(data);
    if (name === 'response') {
      const call = this.calls.get(rayid);
      this.calls.delete(rayid);
      payload?.error !== undefined && payload.code ? call?.reject(new Refused(payload)) : call?.resolve(payload);
    } else if (name === 'jwt') {
      this.authenticated(payload);
    } else {
      this.on.event(name, payload);
    }
  }

  authenticated(claims) {
    if (claims === 'jwt_failed') return this.signOut('The server does not take this token.');
    if (claims === 'jwt_expired') return this.signOut('Your session has ended. Please come in again.');
    this.online = true;
    this.attempts = 0;
    this.socket.send('["join","tasks"]'); // before the list is asked for, so that no change is missed
    this.on.online(claims);
  }

  /** Notices a server that fell silent; a browser shows a page neither pings nor their absence. */
  beat() {
    if (this.silent) return this.lost(1006, '');
    this.silent = true; // until something comes
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send('ping');
  }

  lost(code, reason) {
    this.reset();
    if (!this.wanted) return;
    if (code === 4401) return this.signOut('Your session has ended. Please come in again.');
    const backoff = Math.min(30_000, 500 * 2 ** this.attempts++) * (0.5 + Math.random() / 2);
    const until = Date.now() + (code === 1012 ? retryAfter(reason) ?? backoff : backoff);
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      if (left <= 0) return this.open();
      this.on.offline(`${code === 1012 ? 'The server restarts. ' : ''}Reconnecting in ${left} s`);
      this.countdown = setTimeout(tick, Math.min(1000, until - Date.now()));
    };
    tick();
  }

  signOut(text) {
    this.quit();
    this.on.signedOut(text);
  }
}

/** The pause that close 1012 asks for, in milliseconds. */
function retryAfter(reason) {
  try {
    const wait = JSON.parse(reason).retry_after;
    return wait >= 0 ? Math.min(wait, 30_000) : undefined;
  } catch { /* no reason that we know */ }
}

// ---------------------------------------------------------------------------------------------------------------------
// The tasks. Events and answers may come in any order: the higher version wins, and what was deleted stays so.

const tasks = new Map();
const deleted = new Set();
const fresh = new Set(); // told about since the connection was made: the list that is asked for then may be older than they are
let claims, filter = 'all', older = false;

/** Takes a task over, and reports whether that changed anything. */
function take(task) {
  if (deleted.has(task.id) || tasks.get(task.id)?.version >= task.version) return false;
  tasks.set(task.id, task);
  return true;
}

function drop(id) {
  deleted.add(id);
  return tasks.delete(id);
}

/** Reads the newest tasks again, after a connection was made: what happened meanwhile, nobody has told us. */
async function refresh() {
  const page = await connection.call('task.list', {});
  const listed = new Set(page.tasks.map((task) => task.id)), oldest = page.tasks.at(-1)?.id ?? 0;
  [...tasks.keys()].filter((id) => (!page.more || id >= oldest) && !listed.has(id) && !fresh.has(id)).forEach((id) => tasks.delete(id));
  page.tasks.forEach(take);
  older = page.more;
  $('tasks').setAttribute('aria-busy', 'false');
  show();
}

function receive(name, payload) {
  if (name === 'task-deleted') {
    if (drop(payload.id)) show();
    return;
  }
  if (name !== 'task-created' && name !== 'task-updated') return;
  fresh.add(payload.id);
  if (!take(payload)) return;
  show(payload.id);
  $('news').textContent = `${payload.title}: ${name === 'task-created' ? 'new' : payload.done ? 'done' : 'changed'}`;
}

/** Does something to a task, and shows what became of it. */
async function act(action, params) {
  complain();
  try {
    const task = await connection.call(action, params);
    if (task && take(task)) show(task.id);
    return true;
  } catch (problem) {
    complain(problem);
    show(); // as it was
    if (problem.code === 'not_found' && drop(params.id)) show();
    return false;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// What is shown.

function el(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

function taskItem(task) {
  const item = el('li', { className: `task${task.done ? ' done' : ''}` },
    el('input', {
      type: 'checkbox', checked: task.done, ariaLabel: `Done: ${task.title}`,
      onchange: (event) => act('task.update', { id: task.id, version: task.version, done: event.target.checked }),
    }),
    el('div', { className: 'text' },
      el('button', { type: 'button', className: 'rename title', dir: 'auto', title: 'Change the text', onclick: () => rename(item, task) }, task.title),
      el('small', {}, `${task.created_by} · ${clock.format(new Date(task.updated_at))}`)),
    claims.roles.includes('admin') ? el('button', {
      type: 'button', className: 'quiet remove', ariaLabel: `Delete: ${task.title}`,
      onclick: async () => { if (await act('task.delete', { id: task.id }) && drop(task.id)) show(); },
    }, 'Delete') : null);
  item.dataset.id = task.id;
  return item;
}

/** Lets the text of a task be changed in its place. */
function rename(item, task) {
  let open = true;
  const close = (title) => {
    if (!open) return;
    open = false;
    if (title && title !== task.title) act('task.update', { id: task.id, version: task.version, title });
    else show();
  };
  const input = el('input', {
    value: task.title, maxLength: 200, ariaLabel: 'The text of the task',
    onblur: () => close(input.value.trim()),
    onkeydown: (event) => {
      if (event.key === 'Enter' && !event.isComposing) close(input.value.trim());
      if (event.key === 'Escape') close();
    },
  });
  item.querySelector('.rename').replaceWith(input);
  input.select();
}

/** Shows the list, and for a moment that one of its tasks has changed. */
function show(changed) {
  const all = [...tasks.values()].sort((a, b) => b.id - a.id), done = all.filter((task) => task.done);
  $('count-all').textContent = all.length;
  $('count-open').textContent = all.length - done.length;
  $('count-done').textContent = done.length;
  document.querySelectorAll('[data-filter]').forEach((button) => button.setAttribute('aria-pressed', button.dataset.filter === filter));
  const shown = filter === 'all' ? all : all.filter((task) => task.done === (filter === 'done'));

  const list = $('tasks'), old = new Map([...list.children].map((item) => [Number(item.dataset.id), item]));
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const place = focused && [focused.closest('.task').dataset.id, focused.classList[0] ?? focused.type];
  list.replaceChildren(...shown.map((task) => {
    const editing = old.get(task.id)?.querySelector('.text input');
    return editing && task.id !== changed ? old.get(task.id) : taskItem(task);
  }));
  if (place) {
    const item = list.querySelector(`[data-id="${place[0]}"]`);
    (item?.contains(focused) ? focused : item?.querySelector(place[1] === 'checkbox' ? '[type=checkbox]' : `.${place[1]}`))?.focus();
  }
  if (changed) list.querySelector(`[data-id="${changed}"]`)?.classList.add('changed');

  $('empty').hidden = shown.length > 0 || list.ariaBusy === 'true';
  $('empty').textContent = all.length ? 'Nothing here.' : 'Nothing to do yet. What you add, everybody in the company sees at once.';
  $('more').hidden = !older;
}

function complain(problem) { $('problem').textContent = problem?.message ?? ''; }

function showStatus(text) {
  if ($('app').hidden) $('login-error').textContent = text;
  $('status').hidden = text === '';
  $('status-text').textContent = text;
  $('add').querySelector('button').disabled = text !== '';
}

async function welcome(problem = '') {
  session.token = '';
  tasks.clear();
  deleted.clear();
  $('tasks').replaceChildren();
  $('app').hidden = true;
  $('welcome').hidden = false;
  $('login-error').textContent = problem;
  try {
    const about = await post('about', {});
    $('demo').hidden = !about.demo_login;
    $('pass').hidden = about.demo_login;
    $(about.demo_login ? 'user' : 'token').focus();
  } catch {
    $('login-error').textContent = 'The server does not answer. Reload the page to try again.';
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// What is done.

const connection = new Connection({
  online(mine) {
    claims = mine;
    $('me').textContent = claims.user;
    $('company').textContent = claims.tenant ?? '';
    $('role').textContent = claims.roles.join(', ');
    $('welcome').hidden = true;
    $('app').hidden = false;
    showStatus('');
    fresh.clear();
    refresh().catch((problem) => connection.online && complain(problem));
  },
  offline: showStatus,
  signedOut: welcome,
  event: receive,
});

function on(id, type, handle) { $(id).addEventListener(type, handle); }

async function logIn(getToken) {
  $('login-error').textContent = '';
  try {
    session.token = await getToken();
    connection.open();
  } catch (problem) {
    $('login-error').textContent = problem instanceof Refused ? problem.message : 'The server does not answer. Try again.';
  }
}

on('demo', 'submit', (event) => {
  event.preventDefault();
  const role = document.querySelector('[name=role]:checked').value;
  logIn(() => post('demo.login', { user: $('user').value.trim(), tenant: $('tenant').value.trim(), role }));
});
on('pass', 'submit', (event) => {
  event.preventDefault();
  const token = $('token').value.trim();
  $('token').value = '';
  if (token) logIn(() => token);
});
let unsure = {}; // what was sent and perhaps not done: sent again with the same key, it is not done twice
on('add', 'submit', async (event) => {
  event.preventDefault();
  const title = $('title').value.trim();
  if (!title || !connection.online) return;
  $('title').value = '';
  if (unsure.title !== title) unsure = { title, key: [...crypto.getRandomValues(new Uint32Array(4))].join('-') };
  if (await act('task.create', { title, idempotency_key: unsure.key })) unsure = {};
  else if (!$('title').value) $('title').value = title;
});
on('more', 'click', async () => {
  try {
    const page = await connection.call('task.list', { before: Math.min(...tasks.keys()) });
    page.tasks.forEach(take);
    older = page.more;
    show();
  } catch (problem) {
    complain(problem);
  }
});
on('retry', 'click', () => connection.retry());
on('sign-out', 'click', () => connection.signOut(''));
document.querySelectorAll('[data-filter]').forEach((button) => button.addEventListener('click', () => {
  filter = button.dataset.filter;
  show();
}));

if (session.token) {
  $('app').hidden = false;
  showStatus('Connecting…');
  connection.open();
} else {
  welcome();
}

// The page of the chat. It speaks the Mooncore protocol, version 1, over one WebSocket, and needs no library.
//
// Whatever people wrote becomes text nodes, never HTML.

// ---------------------------------------------------------------------------------------------------------------------
// The session: in this window only, so that two windows can be two people.

const session = {
  get: (key) => sessionStorage.getItem(`chat.${key}`),
  set: (key, value) => sessionStorage.setItem(`chat.${key}`, value),
  clear: () => ['name', 'token', 'rooms'].forEach((key) => sessionStorage.removeItem(`chat.${key}`)),
};

/** What the server answered instead of a result. */
class Refused extends Error {
  constructor(answer) {
    const texts = Object.values(answer.errors ?? {}).flat();
    super(texts.length ? `It ${texts.join(' and ')}` : answer.error);
    this.code = answer.code;
  }
}

/** Asks for a token. Over HTTP, since this also works while the socket is anonymous or away. */
async function logIn(name) {
  const response = await fetch('run/login', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ name }),
  });
  const answer = await response.json();
  if (response.status >= 500) throw new Error(answer.error);
  if (!response.ok) throw new Refused(answer);
  session.set('name', name);
  session.set('token', answer);
}

// ---------------------------------------------------------------------------------------------------------------------
// The connection: it authenticates, stays fresh, and comes back by itself.

class Connection {
  /** @param on {online(), offline(text), signedOut(text), event(name, payload, third)} */
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
    const socket = (this.socket = new WebSocket(url, ['mooncore.v1.history']));
    const mine = (handle) => (event) => socket === this.socket && handle(event);
    socket.onopen = mine(() => this.present());
    socket.onmessage = mine((event) => this.receive(event.data));
    socket.onclose = mine((event) => this.lost(event.code, event.reason));
    this.silent = false;
    this.pulse = setInterval(() => this.beat(), 15_000);
  }

  /** Ends it for good. */
  quit() {
    this.wanted = false;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send('quit');
    this.reset();
  }

  /** Comes back at once if it is waiting. */
  retry() {
    if (this.wanted && !this.socket) this.open();
  }

  /** Calls an action. */
  call(action, params) {
    return new Promise((resolve, reject) => {
      if (!this.online) return reject(new Error('Not connected'));
      const rayid = (this.lastCall = (this.lastCall ?? 0) + 1);
      this.calls.set(rayid, { resolve, reject });
      this.send({ ...params, action, rayid });
    });
  }

  join(channel, since) { this.send(['join', channel, { since }]); }
  leave(channel) { this.send(['leave', channel]); }

  send(frame) { if (this.online) this.socket.send(JSON.stringify(frame)); }

  reset() {
    this.socket?.close();
    this.socket = null;
    this.online = false;
    [this.pulse, this.renewal, this.countdown].forEach(clearTimeout);
    this.calls?.forEach((call) => call.reject(new Error('The connection was lost')));
    this.calls = new Map();
  }

  /** Sends the token in a frame: never in a URL. A browser is not told why an upgrade failed, but gets an answer to this. */
  async present() {
    const socket = this.socket;
    try {
      if (!session.get('token')) await logIn(session.get('name'));
      if (socket === this.socket) socket.send(JSON.stringify(['jwt', session.get('token')]));
    } catch (problem) {
      if (socket !== this.socket) return;
      if (problem instanceof Refused) this.signOut(problem.message);
      else this.lost(1006, '');
    }
  }

  receive(data) {
    this.silent = false;
    if (data === 'pong') return;
    const [name, payload, third] = JSON.parse(data);
    if (name === 'response') this.respond(payload, third);
    else if (name === 'jwt') this.authenticated(payload);
    else this.on.event(name, payload, third);
  }

  respond(result, rayid) {
    const call = this.calls.get(rayid);
    this.calls.delete(rayid);
    if (result?.error !== undefined && result.code) call?.reject(new Refused(result));
    else call?.resolve(result);
  }

  authenticated(claims) {
    if (claims === 'jwt_failed' && this.online) return; // a renewal: the token before is still good
    if (typeof claims === 'string') { // it expired, the server has other keys now, or the name changed hands
      session.set('token', '');
      this.online = false;
      this.on.offline('Signing in again…');
      this.present();
      return;
    }
    clearTimeout(this.renewal);
    const life = claims.exp - claims.iat, left = claims.exp - Date.now() / 1000;
    this.renewal = setTimeout(() => this.renew(), 1000 * Math.max(5, Math.min(left - life / 10, life)));
    if (this.online) return;
    this.online = true;
    this.attempts = 0;
    this.socket.send('time');
    this.on.online();
  }

  /** Takes a fresh token before the old one expires, so that no event is lost. */
  async renew() {
    try {
      const token = await this.call('login', { name: session.get('name') });
      session.set('token', token);
      this.send(['jwt', token]);
    } catch { /* jwt_expired will say so */ }
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
    if (code === 4401) session.set('token', ''); // expired or revoked: log in again under the same name
    const backoff = Math.min(30_000, 500 * 2 ** this.attempts++) * (0.5 + Math.random() / 2);
    const until = Date.now() + (code === 1012 ? retryAfter(reason) ?? backoff : backoff);
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      if (left <= 0) return this.open();
      this.on.offline(code === 1012 ? `The server restarts. Reconnecting in ${left} s` : `Reconnecting in ${left} s`);
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
// The conversations: rooms by channel, "room-general", and people by "@name".

const talks = new Map();
let current; // the talk that is shown
let openRooms = []; // what the action rooms lists

function talkOf(key) {
  if (!talks.has(key)) {
    const isRoom = !key.startsWith('@');
    talks.set(key, {
      key, isRoom, name: isRoom ? key.slice('room-'.length) : key.slice(1),
      items: [], ids: new Set(), members: new Set(), unread: 0, draft: '',
      position: null, // of the last message that came
      joining: false, // a join was not answered yet
      back: firstMessages, // how many messages to ask for, if we can't get all since our position
      old: 0, // the offset up to which they were said before we came
    });
  }
  return talks.get(key);
}

const keptItems = 300;
const firstMessages = 64; // asked for where we come to a room

/** Adds messages and notes by time, each id once. It returns those that are new. */
function add(talk, items) {
  const news = items.filter((item) => !talk.ids.has(item.id));
  if (!news.length) return news;
  news.forEach((item) => { talk.ids.add(item.id); item.time = new Date(item.at); });
  const inOrder = !talk.items.length || news[0].time >= talk.items.at(-1).time;
  talk.items.push(...news);
  if (!inOrder) talk.items.sort((a, b) => a.time - b.time);
  const dropped = talk.items.splice(0, talk.items.length - keptItems);
  dropped.forEach((item) => talk.ids.delete(item.id));
  if (talk === current) inOrder && !dropped.length && news.length === 1 ? showItem(news[0]) : showLog();
  return news;
}

let notes = 0;
let skew = 0; // the server's clock less ours, in milliseconds
function note(talk, text, at = Math.max(Date.now() + skew, talk.items.at(-1)?.time ?? 0)) {
  add(talk, [{ id: `note-${++notes}`, note: text, at }]);
}

function rememberRooms() {
  session.set('rooms', JSON.stringify([...talks.values()].filter((talk) => talk.isRoom).map((talk) => talk.key)));
}

/** Joins a room, or joins it again. */
async function enter(talk) {
  join(talk);
  try {
    const members = await connection.call('who', { room: talk.key });
    talk.members = new Set(members.map((member) => member.user));
    showTalks();
    showPeople();
  } catch (problem) {
    complain(problem);
  }
}

function join(talk) {
  talk.joining = true;
  connection.join(talk.key, talk.position);
}

/**
 * Takes the answer to a join, behind which all messages since our position come. If there is none yet, or they are not kept any more,
 * it asks for the last messages: for fewer and fewer, until that many are kept.
 */
function joined(talk, { recovered, offset, epoch, reason }) {
  if (reason === 'unavailable') { // the servers have lost one of theirs, say
    setTimeout(() => talks.get(talk.key) === talk && join(talk), 1000);
    return;
  }
  if (reason === 'refused') { // too many rooms, or the server was cut off from the others
    setTimeout(() => talks.get(talk.key) === talk && enter(talk), 5000);
    return;
  }
  talk.joining = false;
  if (recovered) {
    talk.back = firstMessages;
    return;
  }
  if (talk.items.length && talk.back === firstMessages) note(talk, 'Messages may be missing here', talk.items.at(-1).time);
  const back = Math.min(offset, talk.back);
  talk.position = { offset: offset - back, epoch };
  talk.old = offset;
  talk.back = back ? back >> 1 : firstMessages;
  if (back) join(talk);
  announce(talk);
}

/** Keeps screen readers from reading aloud what was said before we came. */
function announce(talk) {
  if (talk === current) $('scroller').ariaBusy = String(talk.position?.offset < talk.old);
}

function openTalk(key, { focus = true } = {}) {
  const known = talks.has(key);
  const talk = talkOf(key);
  if (current && current !== talk) current.draft = $('text').value;
  const changed = current !== talk;
  current = talk;
  talk.unread = 0;
  if (talk.isRoom) {
    history.replaceState(null, '', `#${talk.name}`);
    rememberRooms();
    if (!known && connection.online) enter(talk);
  }
  closePanels();
  if (changed) {
    $('text').value = talk.draft;
    showLog();
  }
  showAll();
  if (focus) $('text').focus();
}

function leaveTalk(talk) {
  talks.delete(talk.key);
  if (talk.isRoom) {
    connection.leave(talk.key);
    rememberRooms();
  }
  current = null;
  openTalk([...talks.keys()].find((key) => key.startsWith('room-')) ?? 'room-general');
}

function count(talk, n) {
  if (talk === current && !document.hidden) return;
  talk.unread += n;
  showTalks();
}

const me = () => session.get('name');

function receive(name, payload, third) {
  if (name === 'joined') {
    const talk = talks.get(payload);
    if (talk) joined(talk, third);
  } else if (name === 'lost') {
    const talk = talks.get(payload); // none for "@name": whispers are kept nowhere
    if (talk) enter(talk);
  } else if (name === 'message') {
    const talk = talks.get(payload.room);
    if (!talk || talk.joining) return; // it comes again, behind the answer to the join
    talk.position = { offset: third.offset, epoch: third.epoch };
    const isNew = add(talk, [payload]).length > 0;
    if (isNew && third.offset > talk.old && payload.from !== me()) count(talk, 1);
    announce(talk);
  } else if (name === 'whisper') {
    const talk = talkOf('@' + (payload.from === me() ? payload.to : payload.from));
    if (add(talk, [payload]).length && payload.from !== me()) count(talk, 1);
    showTalks();
  } else if (name === 'presence') {
    const talk = talks.get(payload.channel);
    if (!talk) return;
    for (const user of payload.joined.filter((user) => !talk.members.has(user))) {
      talk.members.add(user);
      if (user !== me()) note(talk, `${user} joined`);
    }
    for (const user of payload.left.filter((user) => talk.members.delete(user))) note(talk, `${user} left`);
    showTalks();
    showPeople();
  } else if (name === 'server_time') {
    skew = payload - Date.now();
  }
}

async function listRooms() {
  if (!connection.online || document.hidden) return;
  try {
    openRooms = await connection.call('rooms');
    showTalks();
  } catch { /* the next time */ }
}

// ---------------------------------------------------------------------------------------------------------------------
// What is seen.

const $ = (id) => document.getElementById(id);

/** Makes an element. Strings among its children become text. */
function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function hueOf(name) {
  let hash = 2166136261;
  for (const char of name.toLowerCase()) hash = Math.imul(hash ^ char.codePointAt(0), 16777619);
  return ((hash >>> 0) * 137.508) % 360;
}

function avatar(name) {
  const words = name.split(/[ ._-]+/).filter(Boolean);
  const initials = words.length > 1 ? [words[0], words.at(-1)].map((word) => [...word][0]) : [...name].slice(0, 2);
  const node = el('span', { className: 'avatar', ariaHidden: 'true' }, initials.join('').toUpperCase());
  node.style.setProperty('--hue', hueOf(name));
  return node;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const dayOf = (time) => new Date(time).setHours(0, 0, 0, 0);

function dayName(time) {
  const days = Math.round((dayOf(Date.now()) - dayOf(time)) / 86_400_000);
  return ['Today', 'Yesterday'][days] ?? calendar.format(time);
}

let shown; // the item shown last

function showItem(item) {
  const scroller = $('scroller');
  const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
  if (!shown || dayOf(shown.time) !== dayOf(item.time)) $('log').append(el('li', { className: 'day' }, el('span', {}, dayName(item.time))));
  $('log').append(item.note ? el('li', { className: 'note', dir: 'auto' }, item.note) : messageItem(item));
  shown = item;
  if (atEnd || item.from === me()) toEnd();
  else if (!item.note) $('newest').hidden = false;
}

function messageItem(item) {
  const own = item.from === me();
  const follows = shown && !shown.note && shown.from === item.from && item.time - shown.time < 300_000 &&
    dayOf(shown.time) === dayOf(item.time);
  const time = el('time', { dateTime: item.time.toISOString(), title: item.time.toLocaleString() }, clock.format(item.time));
  const author = own ? el('span', { className: 'sr' }, 'You') : el('b', { dir: 'auto' }, item.from);
  return el('li', { className: `message${own ? ' own' : ''}${follows ? ' follows' : ''}` },
    own ? null : avatar(item.from),
    el('div', { className: 'said' },
      el('div', { className: 'by' }, author, ' ', time),
      el('p', { className: 'bubble', dir: 'auto', title: clock.format(item.time) }, item.text)));
}

function showLog() {
  shown = null;
  $('scroller').setAttribute('aria-busy', 'true'); // it was said before: nothing to announce
  $('log').replaceChildren();
  if (!current.items.length) {
    $('log').append(el('li', { className: 'empty' }, current.isRoom ? 'Nobody has said anything yet.'
      : `Only you and ${current.name} see what you write here. It is kept nowhere.`));
  }
  current.items.forEach(showItem);
  announce(current);
  toEnd();
}

function toEnd() {
  $('scroller').scrollTop = $('scroller').scrollHeight;
  $('newest').hidden = true;
}

function talkItem(key, isRoom, name, members, unread) {
  const label = isRoom ? name : `Private with ${name}`;
  const button = el('button', {
    type: 'button', className: 'talk', title: label, onclick: () => openTalk(key),
    ariaLabel: [label, talks.has(key) ? '' : 'not joined', unread ? `${unread} unread` : ''].filter(Boolean).join(', '),
  },
  isRoom ? el('span', { className: 'hash', ariaHidden: 'true' }, '#') : avatar(name),
  el('span', { className: 'grow', dir: 'auto' }, name),
  unread ? el('span', { className: 'badge' }, unread > 99 ? '99+' : String(unread))
    : members ? el('span', { className: 'count' }, String(members)) : null);
  if (current?.key === key) button.setAttribute('aria-current', 'true');
  button.classList.toggle('away', isRoom && !talks.has(key));
  button.classList.toggle('unread', unread > 0);
  button.dataset.key = key;
  return el('li', {}, button);
}

/** Replaces a list, and keeps the focus on the item that had it. */
function replaceList(list, items) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  list.replaceChildren(...items);
  if (focused) [...list.querySelectorAll('button')].find((button) => button.dataset.key === focused)?.focus();
}

function showTalks() {
  const members = new Map(openRooms.map((room) => [room.room, room.members]));
  const mine = [...talks.values()];
  mine.filter((talk) => talk.isRoom).forEach((talk) => members.set(talk.key, talk.members.size));
  const byName = (a, b) => a.localeCompare(b);
  replaceList($('rooms'), [...members.keys()].sort(byName).map((key) =>
    talkItem(key, true, key.slice('room-'.length), members.get(key), talks.get(key)?.unread ?? 0)));
  const people = mine.filter((talk) => !talk.isRoom);
  replaceList($('private'), people.map((talk) => talkItem(talk.key, false, talk.name, 0, talk.unread)));
  $('private-empty').hidden = people.length > 0;
  const unread = mine.reduce((sum, talk) => sum + talk.unread, 0);
  $('elsewhere').hidden = unread === 0;
  document.title = `${unread ? `(${unread}) ` : ''}${current ? (current.isRoom ? '#' : '') + current.name + ' · ' : ''}Mooncore chat`;
}

function showPeople() {
  if (!current) return;
  const members = current.isRoom ? [...current.members].sort((a, b) => a.localeCompare(b)) : [];
  replaceList($('people'), members.map((user) => {
    const own = user === me();
    const button = el('button', {
      type: 'button', className: 'person', disabled: own, onclick: () => openTalk('@' + user),
      title: own ? '' : `Write to ${user} alone`,
    }, avatar(user), el('span', { className: 'grow', dir: 'auto' }, user), own ? el('small', { className: 'soft' }, 'you') : null);
    button.dataset.key = user;
    return el('li', {}, button);
  }));
  $('people-count').textContent = $('people-count-bar').textContent = members.length || '';
  $('talk-info').textContent = !current.isRoom ? 'Private: only the two of you see this'
    : members.length === 1 ? '1 person here' : `${members.length} people here`;
}

function showAll() {
  $('talk-title').textContent = (current.isRoom ? '# ' : '') + current.name;
  $('app').classList.toggle('private', !current.isRoom);
  $('text').placeholder = `Write to ${current.isRoom ? '#' : ''}${current.name}`;
  $('text-label').textContent = $('text').placeholder;
  $('leave').textContent = current.isRoom ? 'Leave' : 'Close';
  $('leave').ariaLabel = current.isRoom ? `Leave the room ${current.name}` : 'Close this conversation';
  $('leave').hidden = current.isRoom && [...talks.values()].filter((talk) => talk.isRoom).length < 2;
  $('me-name').textContent = me();
  $('me-avatar').replaceChildren(avatar(me()));
  complain();
  grow();
  showTalks();
  showPeople();
}

function showStatus(text) {
  $('app').classList.toggle('offline', text !== '');
  $('status').hidden = text === '';
  $('status-text').textContent = text;
  $('me-state').textContent = text === '' ? 'Online' : 'Reconnecting';
  $('send').disabled = text !== '';
}

function complain(problem) { $('problem').textContent = problem?.message ?? ''; }

function grow() {
  const text = $('text');
  text.style.height = 'auto';
  text.style.height = `${text.scrollHeight + 2}px`;
}

function openPanel(name) {
  const open = $('app').dataset.panel === name ? '' : name;
  $('app').dataset.panel = open;
  $('show-rooms').ariaExpanded = String(open === 'rooms');
  $('show-people').ariaExpanded = String(open === 'people');
  if (open) $(`${open}-panel`).querySelector('button:not(:disabled)')?.focus();
}

function closePanels() { openPanel($('app').dataset.panel ?? ''); }

function welcome(problem = '') {
  $('app').hidden = true;
  $('welcome').hidden = false;
  $('login-error').textContent = problem;
  $('name').value = me() ?? '';
  $('name').focus();
}

// ---------------------------------------------------------------------------------------------------------------------
// What is done.

const connection = new Connection({
  online() {
    showStatus('');
    listRooms();
    connection.join('main', null); // the server's lounge
    talks.forEach((talk) => talk.isRoom && enter(talk));
  },
  offline: showStatus,
  signedOut: welcome,
  event: receive,
});

function start() {
  $('welcome').hidden = true;
  $('app').hidden = false;
  showStatus('Connecting…');
  const rooms = JSON.parse(session.get('rooms') ?? '["room-general"]');
  rooms.forEach(talkOf);
  openTalk(roomOfAddress() ?? rooms[0] ?? 'room-general');
  connection.open();
}

/** Forgets what the person before has seen. */
function forget() {
  talks.clear();
  current = undefined;
}

/** The channel of a room that somebody named, undefined if the name has neither letter nor digit. */
function roomKey(text) {
  const name = text.trim().toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '');
  return name ? `room-${[...name].slice(0, 30).join('')}` : undefined;
}

/** The room that the address names, as in /#general. */
function roomOfAddress() {
  try {
    return roomKey(decodeURIComponent(location.hash.slice(1)));
  } catch { /* no good escapes */ }
}

function on(id, type, handle) { $(id).addEventListener(type, handle); }

on('login', 'submit', async (event) => {
  event.preventDefault();
  $('login-error').textContent = '';
  const name = $('name').value.trim();
  try {
    if (name !== me()) forget();
    await logIn(name);
    start();
  } catch (problem) {
    $('login-error').textContent = problem instanceof Refused ? problem.message : 'The server does not answer. Try again.';
    $('name').focus();
  }
});

on('new-room', 'submit', (event) => {
  event.preventDefault();
  const key = roomKey($('room-name').value);
  $('room-name').value = '';
  if (key) openTalk(key);
});

on('composer', 'submit', async (event) => {
  event.preventDefault();
  const talk = current, text = $('text').value.trim();
  if (!text || !connection.online) return;
  complain();
  $('text').value = '';
  grow();
  try {
    const message = talk.isRoom ? await connection.call('say', { room: talk.key, text })
      : await connection.call('whisper', { to: talk.name, text });
    add(talk, [message]); // it came as an event too, if we are in the room
  } catch (problem) {
    if (talk === current && !$('text').value) $('text').value = text;
    complain(problem);
    grow();
  }
});

on('text', 'input', () => { grow(); complain(); });
on('text', 'keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $('composer').requestSubmit();
});

on('scroller', 'scroll', () => {
  const { scrollHeight, scrollTop, clientHeight } = $('scroller');
  if (scrollHeight - scrollTop - clientHeight < 40) $('newest').hidden = true;
});
on('newest', 'click', toEnd);
on('retry', 'click', () => connection.retry());
on('leave', 'click', () => leaveTalk(current));
on('show-rooms', 'click', () => openPanel('rooms'));
on('show-people', 'click', () => openPanel('people'));
on('backdrop', 'click', closePanels);
on('sign-out', 'click', () => {
  connection.quit();
  session.clear();
  forget();
  welcome();
});

addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && $('app').dataset.panel) closePanels();
  if (!event.altKey || !['ArrowUp', 'ArrowDown'].includes(event.key) || !current) return;
  event.preventDefault(); // Alt and an arrow: the conversation above or below
  const keys = [...document.querySelectorAll('.talk:not(.away)')].map((button) => button.dataset.key);
  const i = keys.indexOf(current.key) + (event.key === 'ArrowUp' ? -1 : 1);
  openTalk(keys.at(i % keys.length));
});
addEventListener('hashchange', () => {
  const key = roomOfAddress();
  if (current && key) openTalk(key);
});
addEventListener('resize', () => {
  grow();
  toEnd();
});
document.addEventListener('visibilitychange', () => {
  if (document.hidden || !current) return;
  current.unread = 0;
  showTalks();
  listRooms();
});
setInterval(listRooms, 30_000);

if (me() && session.get('token') !== null) start();
else welcome();

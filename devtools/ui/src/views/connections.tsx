// Who is connected: pools, tenants, channels, and the connections in them.
import { useState } from 'preact/hooks';
import type { Catalogue, Conn, ConnPage, Publish } from '../api.ts';
import { post } from '../client.ts';
import { apply, filterFrom } from '../lib/conns.ts';
import { bytes, count, ms, plural, span } from '../lib/format.ts';
import { useLoad, useThrottled } from '../load.ts';
import { List } from '../parts/list.tsx';
import { Area, Button, Choice, Dialog, Empty, Failure, Field, Ready, Select, useMedia, useNow, useTask } from '../parts/ui.tsx';
import { go, link, route, setQuery } from '../router.ts';
import { useStream, useTopic } from '../stream.ts';
import { Connection } from './connection.tsx';

export function Connections() {
  const { path, query } = route.value;
  const filter = filterFrom(query);
  const page = useLoad<ConnPage>('conns', { ...filter, limit: 2000 });
  const again = useThrottled(page.reload, 1000);
  const [publishing, setPublishing] = useState(false);
  useTopic('conns');
  useStream('conns', (event) => {
    page.set((p) => apply(p, event, filter));
    again(); // for the tree, which counts what the list does not show
  });
  const open = path[1];
  const keep = { pool: query.pool, tenant: query.tenant, channel: query.channel, user: query.user, text: query.text };
  const wide = useMedia('(min-width: 1100px)');
  return (
    <Ready of={page}>
      {(p) => {
        const tree = <Tree page={p} query={query} />;
        return (
          <div class={`split conns ${open ? 'with-detail' : 'with-tree'}`}>
            {!open && wide && <div class="split-tree">{tree}</div>}
            <div class="split-list">
              <div class="filters">
                <Field label="Filter connections" hideLabel type="search" data-keys="filter" placeholder="User, id or address" value={query.text ?? ''} onInput={(text) => setQuery({ text })} />
                <Button icon="play" onClick={() => setPublishing(true)}>
                  Publish
                </Button>
              </div>
              {!wide && (
                <details class="fold">
                  <summary>Pools, tenants, channels</summary>
                  {tree}
                </details>
              )}
              <p class="dim list-count" data-testid="conn-count">
                {plural(p.total, 'connection')}
                {p.matched < p.total && `, ${count(p.matched)} match`}
                {p.conns.length < p.matched && `, the newest ${count(p.conns.length)} are shown`}
                {(keep.pool ?? keep.tenant ?? keep.channel ?? keep.user) !== undefined && (
                  <>
                    {' '}
                    · <a href={link(['connections'])}>show all</a>
                  </>
                )}
              </p>
              <ConnList conns={p.conns} selected={open} keep={keep} filtered={p.matched < p.total} />
            </div>
            {open && (
              <div class="split-detail">
                <Connection key={open} id={open} onClose={() => go(link(['connections'], keep))} />
              </div>
            )}
            {publishing && <PublishDialog page={p} onClose={() => setPublishing(false)} />}
          </div>
        );
      }}
    </Ready>
  );
}

const columns = [
  { name: 'User', class: 'c-user' },
  { name: 'Tenant', class: 'c-tenant' },
  { name: 'Channels', class: 'c-channels' },
  { name: 'Open for', class: 'c-since' },
  { name: 'Queue', class: 'c-queue' },
  { name: 'Round trip', class: 'c-rtt' },
  { name: 'Token ends', class: 'c-expires' },
  { name: 'Address', class: 'c-addr' },
];

function ConnList({ conns, selected, keep, filtered }: { conns: Conn[]; selected?: string; keep: Record<string, string | undefined>; filtered: boolean }) {
  const narrow = useMedia('(max-width: 760px)');
  const now = useNow();
  return (
    <List
      class="conn-list"
      label="Connections"
      rows={conns}
      rowHeight={narrow ? 3.7 : 2.4}
      id={(c) => c.id}
      columns={columns}
      selected={selected}
      onOpen={(c) => go(link(['connections', c.id], { ...keep, tab: route.value.query.tab }))}
      cells={(c) => [
        <a href={link(['connections', c.id], { ...keep, tab: route.value.query.tab })} tabIndex={-1}>
          {c.user || 'anonymous'}
        </a>,
        c.tenant ? c.tenant : <span class="dim">–</span>,
        <span class="dim">{c.channels.join(', ') || '–'}</span>,
        span(now - c.since),
        c.queued_bytes > 0 ? <b>{bytes(c.queued_bytes)}</b> : <span class="dim">empty</span>,
        ms(c.rtt_ms),
        c.expires ? c.expires > now ? span(c.expires - now) : <b>ended</b> : <span class="dim">–</span>,
        <span class="dim">{c.addr}</span>,
      ]}
      empty={filtered ? <Empty title="No connection matches" /> : <Empty title="Nobody is connected">WebSocket clients appear here when they connect.</Empty>}
    />
  );
}

/** A name in the address; "-" stands for the empty one. */
const inAddress = (name: string) => name || '-';

function Tree({ page, query }: { page: ConnPage; query: Record<string, string> }) {
  return (
    <nav class="tree" aria-label="Pools, tenants, channels">
      <ul>
        {page.pools.map((pool) => (
          <li key={pool.name}>
            <Branch text={pool.name} what="pool" n={pool.conns} query={{ pool: pool.name }} now={query} />
            <ul>
              {pool.tenants.map((tenant) => (
                <li key={tenant.name}>
                  <Branch text={tenant.name || 'no tenant'} what="tenant" n={tenant.conns} query={{ pool: pool.name, tenant: inAddress(tenant.name) }} now={query} />
                  <ul>
                    {tenant.channels.map((channel) => (
                      <li key={channel.name}>
                        <Branch text={channel.name} what="channel" n={channel.conns} query={{ pool: pool.name, tenant: inAddress(tenant.name), channel: channel.name }} now={query} />
                      </li>
                    ))}
                  </ul>
                </li>
              ))}
            </ul>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function Branch({ text, what, n, query, now }: { text: string; what: string; n: number; query: Record<string, string>; now: Record<string, string> }) {
  const current = ['pool', 'tenant', 'channel'].every((key) => query[key] === now[key]);
  return (
    <a href={link(['connections'], { ...query, text: now.text })} aria-current={current ? 'true' : undefined} title={what}>
      <span>{text}</span> <span class="dim">{count(n)}</span>
    </a>
  );
}

type Audience = 'channel' | 'user';

function PublishDialog({ page, onClose }: { page: ConnPage; onClose: () => void }) {
  const { query } = route.value;
  const catalogue = useLoad<Catalogue>('actions');
  const apps = catalogue.data?.apps ?? [];
  const [app, setApp] = useState<string>();
  const [pool, setPool] = useState(query.pool ?? page.pools[0]?.name ?? '');
  const [tenant, setTenant] = useState(query.tenant && query.tenant !== '-' ? query.tenant : '');
  const [audience, setAudience] = useState<Audience>('channel');
  const [channel, scope] = splitChannel(query.channel ?? 'main:default');
  const [to, setTo] = useState({ channel, user: query.user ?? '', scope });
  const [event, setEvent] = useState('');
  const [payload, setPayload] = useState('{}');
  const [sent, setSent] = useState('');
  const task = useTask();
  const send = (submit: Event) => {
    submit.preventDefault();
    setSent('');
    task.run(async () => {
      const body: Publish = {
        app: app ?? apps[0]?.app ?? '',
        pool,
        tenant,
        event,
        payload: JSON.parse(payload),
        ...(audience === 'user' ? { user: to.user } : { channel: to.channel, scope: to.scope }),
      };
      const got = await post<{ receivers?: number } | undefined>('publish', body);
      setSent(got?.receivers === undefined ? 'Published.' : `Published to ${plural(got.receivers, 'connection')} here.`);
    });
  };
  const datalist = page.pools.flatMap((p) => (p.name === pool ? p.tenants.flatMap((t) => (t.name === tenant ? t.channels.map((c) => splitChannel(c.name)[0]) : [])) : []));
  return (
    <Dialog title="Publish an event" onClose={onClose}>
      <form class="stack" onSubmit={send}>
        <div class="columns">
          {apps.length > 1 && <Select label="App" value={app ?? apps[0]!.app} options={apps.map((a) => [a.app, a.app || 'no name'])} onChange={setApp} />}
          {page.pools.length > 1 && <Select label="Pool" value={pool} options={page.pools.map((p) => [p.name, p.name])} onChange={setPool} />}
          <Field label="Tenant" value={tenant} placeholder="none" onInput={setTenant} />
        </div>
        <Choice<Audience> label="To" value={audience} options={[['channel', 'A channel'], ['user', 'A user']]} onChange={setAudience} />
        <div class="columns">
          {audience === 'user' ? (
            <Field label="User" value={to.user} onInput={(user) => setTo({ ...to, user })} />
          ) : (
            <>
              <Field label="Channel" list="publish-channels" value={to.channel} onInput={(c) => setTo({ ...to, channel: c })} />
              <datalist id="publish-channels">
                {[...new Set(datalist)].filter((c) => !c.startsWith('@')).map((c) => (
                  <option key={c} value={c} />
                ))}
              </datalist>
              <Field label="Scope" value={to.scope} placeholder="default" onInput={(s) => setTo({ ...to, scope: s })} />
            </>
          )}
          <Field label="Event" value={event} placeholder="such as message" onInput={setEvent} />
        </div>
        <Area label="Payload" class="code" rows={6} value={payload} onInput={setPayload} invalid={jsonFault(payload)} />
        {task.error && <Failure error={task.error} />}
        {sent && <p role="status">{sent}</p>}
        <div class="row end">
          <Button onClick={onClose}>Close</Button>
          <Button kind="primary" type="submit" disabled={task.busy || event === '' || jsonFault(payload) !== false || (audience === 'user' ? to.user === '' : to.channel === '')}>
            Publish
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

/** "room:default" as channel and scope; a user's own channel, "@ann", has none. */
function splitChannel(name: string): [string, string] {
  const at = name.lastIndexOf(':');
  return at < 0 ? [name, ''] : [name.slice(0, at), name.slice(at + 1)];
}

export function jsonFault(text: string): string | false {
  try {
    JSON.parse(text);
    return false;
  } catch (err) {
    return (err as Error).message;
  }
}

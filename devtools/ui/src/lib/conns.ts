// The list of connections, kept right by events.
import type { Conn, ConnPage, StreamEvents } from '../api.ts';

export type ConnFilter = { pool?: string; tenant?: string; channel?: string; user?: string; text?: string };

/** The filter in an address. A parameter that is there and empty, as in "tenant=", asks for the empty name, except for text. */
export function filterFrom(query: Record<string, string>): ConnFilter {
  const filter: ConnFilter = {};
  for (const name of ['pool', 'tenant', 'channel', 'user'] as const) {
    if (query[name] !== undefined) filter[name] = query[name] === '-' ? '' : query[name];
  }
  if (query.text) filter.text = query.text;
  return filter;
}

export function matches(conn: Conn, filter: ConnFilter): boolean {
  const text = filter.text?.toLowerCase();
  return (
    (filter.pool === undefined || conn.pool === filter.pool) &&
    (filter.tenant === undefined || conn.tenant === filter.tenant) &&
    (filter.user === undefined || conn.user === filter.user) &&
    (filter.channel === undefined || conn.channels.includes(filter.channel)) &&
    (!text || [conn.user, conn.id, conn.addr].some((part) => part.toLowerCase().includes(text)))
  );
}

/** The list after an event. The tree of pools is not changed: it is asked for again. */
export function apply(page: ConnPage, event: StreamEvents['conns'], filter: ConnFilter, max = 2000): ConnPage {
  const gone = new Set((event.closed ?? []).map((c) => c.id));
  const fresh = new Map([...(event.opened ?? []), ...(event.changed ?? [])].map((c) => [c.id, c]));
  const had = new Set(page.conns.map((c) => c.id));
  const kept = page.conns.filter((c) => !gone.has(c.id)).map((c) => fresh.get(c.id) ?? c).filter((c) => matches(c, filter));
  const added = [...fresh.values()].filter((c) => !had.has(c.id) && !gone.has(c.id) && matches(c, filter));
  const conns = [...added, ...kept].sort((a, b) => b.since - a.since).slice(0, max);
  const matched = Math.max(conns.length, page.matched + added.length - (page.conns.length - kept.length));
  return { ...page, total: event.total, matched, conns };
}

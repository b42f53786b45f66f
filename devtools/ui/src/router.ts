// The address: "#/log?code=error&id=17". The part before the "#" is the server's, so the page works under any prefix and the
// filters never reach a server's access log.
import { signal } from '@preact/signals';

export interface Route {
  /** Decoded: ["actions", "", "chat.say"]. Never empty. */
  path: string[];
  query: Record<string, string>;
}

export function parse(hash: string): Route {
  const text = hash.replace(/^#?\/?/, '');
  const at = text.indexOf('?');
  const path = (at < 0 ? text : text.slice(0, at)).split('/').map(decode);
  const query = Object.fromEntries(new URLSearchParams(at < 0 ? '' : text.slice(at + 1)));
  if (path.length === 1 && path[0] === '') path[0] = 'overview';
  return { path, query };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The link to a view. Parameters that are empty or undefined are left out, but for `as`: a user whose name is being typed is not
 * anonymous. */
export function link(path: string[], query: Record<string, string | undefined> = {}): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value || (value === '' && key === 'as')) params.set(key, value);
  }
  const text = params.toString();
  return `#/${path.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

export const route = signal<Route>(parse(typeof location === 'undefined' ? '' : location.hash));

export function listen(): void {
  addEventListener('hashchange', () => (route.value = parse(location.hash)));
}

export function go(to: string): void {
  location.hash = to;
}

/** Changes parameters of the present view without a new entry in the browser's history. */
export function setQuery(changes: Record<string, string | undefined>): void {
  const { path, query } = route.value;
  const to = link(path, { ...query, ...changes });
  history.replaceState(null, '', to);
  route.value = parse(to);
}

/** As setQuery, but going back undoes it: for what feels like a step, such as opening a detail. */
export function pushQuery(changes: Record<string, string | undefined>): void {
  const { path, query } = route.value;
  go(link(path, { ...query, ...changes }));
}

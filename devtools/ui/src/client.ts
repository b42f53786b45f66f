// Requests to the server. Paths are relative to the page, so that it works under any prefix.
import { ApiError, type ErrorBody, type LoginHint, type Session } from './api.ts';
import { signal } from '@preact/signals';

/** undefined: not known yet. null: nobody is logged in. */
export const session = signal<Session | null | undefined>(undefined);
export const loginHint = signal<LoginHint['login']>(undefined);

async function failure(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  let body: ErrorBody;
  try {
    body = JSON.parse(text);
  } catch {
    body = { error: text.trim().slice(0, 200) || response.statusText || `Status ${response.status}`, code: 'unknown' };
  }
  const retryAfter = Number(response.headers.get('Retry-After'));
  return new ApiError(response.status, body, retryAfter > 0 ? retryAfter : undefined);
}

async function request(method: string, path: string, body?: string, signal?: AbortSignal): Promise<unknown> {
  const headers: Record<string, string> = {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (method !== 'GET' && session.value) headers['X-CSRF-Token'] = session.value.csrf;
  let response: Response;
  try {
    response = await fetch(path, { method, headers, body, signal, credentials: 'same-origin', cache: 'no-store' });
  } catch (err) {
    if (err instanceof DOMException && err.name === 'AbortError') throw err;
    throw new ApiError(0, { error: 'The program does not answer. Is it running?', code: 'unavailable' });
  }
  if (!response.ok) {
    const error = await failure(response);
    if (response.status === 401 && path.startsWith('api/')) {
      loginHint.value = (error.body as LoginHint).login;
      session.value = null;
    }
    throw error;
  }
  if (response.status === 204) return undefined;
  return response.json();
}

export type Query = Record<string, string | number | undefined>;

/** Adds the parameters that have a value. */
export function withQuery(path: string, query: Query = {}): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined) params.set(key, String(value));
  }
  const text = params.toString();
  return text ? `${path}?${text}` : path;
}

export function get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T> {
  return request('GET', withQuery(`api/${path}`, query), undefined, signal) as Promise<T>;
}

export function post<T = void>(path: string, body: unknown = {}): Promise<T> {
  return request('POST', `api/${path}`, JSON.stringify(body)) as Promise<T>;
}

/** Sends JSON text as it is, so that numbers keep all their digits. */
export function postText<T>(path: string, json: string): Promise<T> {
  return request('POST', `api/${path}`, json) as Promise<T>;
}

export function del(path: string): Promise<void> {
  return request('DELETE', `api/${path}`) as Promise<void>;
}

export async function loadSession(): Promise<void> {
  try {
    session.value = await get<Session>('session');
  } catch (err) {
    if (!(err instanceof ApiError) || err.status !== 401) throw err;
  }
}

export async function logIn(secret: string): Promise<void> {
  await request('POST', 'login', JSON.stringify({ secret }));
  await loadSession();
}

export async function logOut(): Promise<void> {
  await request('POST', 'logout', '{}');
  session.value = null;
}

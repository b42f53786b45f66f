// The one stream of events. Views say which topics they want while they are shown; the stream is opened anew when the set of
// topics changes, and after a failure.
import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { StreamEvents } from './api.ts';
import { loadSession, session, withQuery } from './client.ts';

export type StreamState = 'connecting' | 'live' | 'away';

export const streamState = signal<StreamState>('connecting');
/** Counts up with each hello: what was fetched before it may have missed events, so fetch again. */
export const streamEpoch = signal(0);
/** The topics of the stream that is open: from hello on nothing of them is missed. */
export const liveTopics = signal<string[]>([]);
/** When the process started, as the last hello said. */
export const started = signal(0);

type Name = keyof StreamEvents;
type Listener = (data: never) => void;

const names: Name[] = ['hello', 'metrics', 'log', 'log_cleared', 'conns', 'frames', 'page'];
const listeners = new Map<Name, Set<Listener>>();
const topics = new Map<string, number>();
/** metrics come every second: without any event for this long, the stream is dead. */
const silenceMs = 8000;

let source: EventSource | undefined;
let opened = ''; // the topics of source
let retry: ReturnType<typeof setTimeout> | undefined;
let silence: ReturnType<typeof setTimeout> | undefined;
let failures = 0;
let pending = false;

function wanted(): string {
  return [...topics.keys()].sort().join(',');
}

/** Opens, reopens or closes the stream, once after all changes of this moment. */
function update(): void {
  if (pending) return;
  pending = true;
  queueMicrotask(() => {
    pending = false;
    if (!session.peek()) return close();
    if (source ? opened !== wanted() : document.visibilityState === 'visible') open();
  });
}

function close(): void {
  clearTimeout(retry);
  clearTimeout(silence);
  source?.close();
  source = undefined;
  liveTopics.value = [];
}

function open(): void {
  close();
  opened = wanted();
  if (streamState.peek() !== 'live') streamState.value = 'connecting';
  const es = new EventSource(withQuery('api/stream', { topics: opened || undefined }));
  source = es;
  for (const name of names) {
    es.addEventListener(name, (event) => {
      watchSilence();
      const data = JSON.parse((event as MessageEvent<string>).data);
      if (name === 'hello') {
        failures = 0;
        liveTopics.value = opened.split(',');
        started.value = data.started;
        streamState.value = 'live';
        streamEpoch.value++;
      }
      for (const listener of listeners.get(name) ?? []) listener(data as never);
    });
  }
  es.onerror = () => lost();
  watchSilence();
}

function watchSilence(): void {
  clearTimeout(silence);
  silence = setTimeout(lost, silenceMs);
}

/** Tries again, at first at once, at last every 5 s. A session that is over ends in the login view. */
function lost(): void {
  close();
  streamState.value = 'away';
  const delay = Math.min(5000, 250 * 2 ** failures++) * (0.8 + Math.random() * 0.4);
  retry = setTimeout(async () => {
    try {
      await loadSession(); // an EventSource does not tell the status
      if (session.peek() && !source) open();
    } catch {
      lost();
    }
  }, delay);
}

session.subscribe(update);
// A page that nobody sees gives its stream back after a while, since browsers keep only six connections to a server.
let hidden: ReturnType<typeof setTimeout> | undefined;
if (typeof document !== 'undefined') {
  document.addEventListener('visibilitychange', () => {
    clearTimeout(hidden);
    if (document.visibilityState === 'hidden') hidden = setTimeout(close, 30_000);
    else if (!source && session.peek()) open();
  });
  addEventListener('online', () => streamState.peek() === 'away' && session.peek() && open());
}

/** Calls fn for every event of a name while the component is shown. */
export function useStream<N extends Name>(name: N, fn: (data: StreamEvents[N]) => void): void {
  const latest = useRef(fn);
  latest.current = fn;
  useEffect(() => {
    const listener: Listener = (data) => latest.current(data);
    let set = listeners.get(name);
    if (!set) listeners.set(name, (set = new Set()));
    set.add(listener);
    return () => {
      set.delete(listener);
    };
  }, [name]);
}

/** Asks for a topic while the component is shown; undefined asks for none. */
export function useTopic(topic: string | undefined): void {
  useEffect(() => {
    if (!topic) return;
    topics.set(topic, (topics.get(topic) ?? 0) + 1);
    update();
    return () => {
      const left = (topics.get(topic) ?? 1) - 1;
      if (left > 0) topics.set(topic, left);
      else topics.delete(topic);
      update();
    };
  }, [topic]);
}

import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { get, type Query } from './client.ts';
import { streamEpoch } from './stream.ts';

export interface Loaded<T> {
  data: T | undefined;
  error: Error | undefined;
  loading: boolean;
  reload: () => void;
  /** Changes what is shown, from an event. It may be called twice with the same data: what comes while a request is under way is
   * put on top of its answer too, which may be older. */
  set: (change: (data: T) => T) => void;
}

/** Gets something when the component is shown, when the path or query changes, and again each time the stream comes (back). An
 * answer that was overtaken by a later request is dropped. path undefined: nothing. */
export function useLoad<T>(path: string | undefined, query?: Query): Loaded<T> {
  const [state, setState] = useState<{ key: string; data?: T; error?: Error; loading: boolean }>({ key: '', loading: true });
  const [turn, setTurn] = useState(0);
  const epoch = streamEpoch.value;
  const key = JSON.stringify([path, query]);
  const meanwhile = useRef<((data: T) => T)[] | undefined>(undefined); // since the request under way began

  useEffect(() => {
    if (path === undefined) return;
    const abort = new AbortController();
    setState((old) => (old.key === key ? { ...old, loading: true } : { key, loading: true }));
    const changes: ((data: T) => T)[] = [];
    meanwhile.current = changes;
    get<T>(path, query, abort.signal).then(
      (data) => {
        if (abort.signal.aborted) return;
        setState({ key, data: changes.reduce((shown, change) => change(shown), data), loading: false });
        meanwhile.current = undefined;
      },
      (error: Error) => {
        if (abort.signal.aborted) return;
        setState((old) => ({ ...old, error, loading: false }));
        meanwhile.current = undefined;
      },
    );
    return () => abort.abort();
  }, [key, turn, epoch]);

  const reload = useCallback(() => setTurn((n) => n + 1), []);
  const set = useCallback(
    (change: (data: T) => T) => {
      meanwhile.current?.push(change);
      setState((old) => (old.data === undefined ? old : { ...old, data: change(old.data) }));
    },
    [],
  );
  const fresh = state.key === key;
  return { data: fresh ? state.data : undefined, error: fresh ? state.error : undefined, loading: !fresh || state.loading, reload, set };
}

/** A function that runs at most once in `ms`, at the end of the time: for asking again after many events. */
export function useThrottled(fn: () => void, ms: number): () => void {
  const latest = useRef(fn);
  latest.current = fn;
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback(() => {
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      latest.current();
    }, ms);
  }, [ms]);
}

// Every call as it happens, filtered; and one call in detail.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { Catalogue, LogPage, LogSummary } from '../api.ts';
import { del, get } from '../client.ts';
import { useEscape } from '../keys.ts';
import { bytes, clock, count, dateTime, ms } from '../lib/format.ts';
import { filterFrom, matches, merge, toQuery, type FilterName } from '../lib/logfilter.ts';
import { useLoad, useThrottled } from '../load.ts';
import { List } from '../parts/list.tsx';
import { Button, Code, Confirm, Empty, Failure, Field, Select, announce, useMedia } from '../parts/ui.tsx';
import { link, pushQuery, route, setQuery } from '../router.ts';
import { streamEpoch, useStream, useTopic } from '../stream.ts';
import { Entry } from './logentry.tsx';

const maxRows = 10_000;
const pageSize = 200;
const catchUpPages = 3;

export function Log() {
  const { query } = route.value;
  const filter = filterFrom(query);
  const key = JSON.stringify(filter);
  const [rows, setRows] = useState<LogSummary[]>([]);
  const [state, setState] = useState<{ loading: boolean; error?: Error; more: boolean; kept: number; bytes: number; max: number }>({ loading: true, more: false, kept: 0, bytes: 0, max: 0 });
  const [paused, setPaused] = useState(false);
  const [clearing, setClearing] = useState(false);
  const [turn, setTurn] = useState(0);
  const waiting = useRef<LogSummary[]>([]); // while paused
  const meanwhile = useRef<LogSummary[] | undefined>(undefined); // while the first page is on its way
  const asking = useRef(false);
  const epoch = streamEpoch.value;

  const note = (page: LogPage) => setState({ loading: false, more: page.more, kept: page.kept, bytes: page.kept_bytes, max: page.max_bytes });

  useEffect(() => {
    const abort = new AbortController();
    setState((old) => ({ ...old, loading: true }));
    waiting.current = [];
    const arrived: LogSummary[] = [];
    meanwhile.current = arrived;
    get<LogPage>('log', { ...toQuery(filter, Date.now()), limit: pageSize }, abort.signal).then(
      (page) => {
        if (abort.signal.aborted) return;
        setRows(merge(page.entries, arrived, maxRows));
        meanwhile.current = undefined;
        note(page);
      },
      (error: Error) => !abort.signal.aborted && setState((old) => ({ ...old, loading: false, error })),
    );
    return () => abort.abort();
  }, [key, turn]);

  // What only the server can tell, or what the stream left out, is asked for, at most twice a second: as far back as `gap`, the
  // newest that was here before. When that is too far, the list begins anew, so that it has no hole.
  const newest = useRef(0);
  newest.current = rows[0]?.id ?? 0;
  const gap = useRef(Infinity);
  const missed = () => {
    if (newest.current > 0) gap.current = Math.min(gap.current, newest.current);
    catchUp();
  };
  const catchUp = useThrottled(async () => {
    const at = key;
    const back = gap.current;
    gap.current = Infinity;
    try {
      const found: LogSummary[] = [];
      const ask = () => get<LogPage>('log', { ...toQuery(filter, Date.now()), limit: 1000, before: found.at(-1)?.id });
      let page = await ask();
      found.push(...page.entries);
      const whole = () => !page.more || (found.at(-1)?.id ?? 0) <= back;
      for (let pages = 1; pages < catchUpPages && !whole(); pages++) {
        page = await ask();
        found.push(...page.entries);
      }
      if (at !== latest.current) return;
      if (whole()) setRows((old) => merge(old, found, maxRows));
      else setRows(found);
      setState((old) => ({ ...old, more: old.more || !whole(), kept: page.kept, bytes: page.kept_bytes, max: page.max_bytes, error: undefined }));
    } catch (error) {
      setState((old) => ({ ...old, error: error as Error }));
    }
  }, 500);
  const latest = useRef(key);
  latest.current = key;
  useEffect(missed, [epoch]); // a stream that came back may have missed some

  const recount = useThrottled(async () => {
    const page = await get<LogPage>('log', { limit: 1 }).catch(() => undefined);
    if (page) setState((old) => ({ ...old, kept: page.kept, bytes: page.kept_bytes }));
  }, 3000);

  useTopic('log');
  useStream('log', ({ entries, dropped }) => {
    const now = Date.now();
    const sure: LogSummary[] = [];
    let unsure = false;
    for (const entry of entries) {
      const match = matches(entry, filter, now);
      if (match) sure.push(entry);
      else if (match === undefined) unsure = true;
    }
    if (paused) {
      waiting.current.push(...sure);
      if (waiting.current.length > maxRows) waiting.current.splice(0, waiting.current.length - maxRows);
      setState((old) => ({ ...old })); // the count in the button
      return;
    }
    meanwhile.current?.push(...sure);
    if (sure.length > 0) setRows((old) => merge(old, sure, maxRows));
    if (dropped) missed();
    else if (unsure) catchUp();
    recount();
  });
  useStream('log_cleared', () => setTurn((n) => n + 1));

  const resume = () => {
    setPaused(false);
    setRows((old) => merge(old, waiting.current, maxRows));
    waiting.current = [];
    missed();
  };

  const older = async () => {
    const last = rows.at(-1);
    if (asking.current || !state.more || !last || rows.length >= maxRows) return;
    asking.current = true;
    try {
      const page = await get<LogPage>('log', { ...toQuery(filter, Date.now()), before: last.id, limit: 1000 });
      if (key === latest.current) {
        setRows((old) => merge(old, page.entries, maxRows));
        note(page);
      }
    } catch (error) {
      setState((old) => ({ ...old, error: error as Error }));
    }
    asking.current = false;
  };

  const open = query.id;
  useEscape(() => open && pushQuery({ id: undefined }));
  const narrow = useMedia('(max-width: 760px)');
  const filtered = key !== '{}';

  return (
    <div class={`split log ${open ? 'with-detail' : ''}`}>
      <div class="split-list">
        <Filters />
        <div class="row spread log-bar">
          <span class="dim" data-testid="log-count">
            {count(rows.length)}
            {state.more ? '+' : ''} {filtered ? 'match' : 'shown'}; {count(state.kept)} kept in {bytes(state.bytes)}
            {state.max > 0 && ` of ${bytes(state.max)}`}
          </span>
          <span class="row">
            <Button icon={paused ? 'play' : 'pause'} onClick={() => (paused ? resume() : setPaused(true))}>
              {paused ? `Resume (${count(waiting.current.length)} new)` : 'Pause'}
            </Button>
            <Button icon="trash" onClick={() => setClearing(true)}>
              Clear
            </Button>
          </span>
        </div>
        {state.error && <Failure error={state.error} retry={() => setTurn((n) => n + 1)} />}
        <List
          class="log-list"
          label="Calls"
          rows={rows}
          rowHeight={narrow ? 3.7 : 2.3}
          id={(e) => String(e.id)}
          columns={columns}
          cells={cells}
          selected={open}
          onOpen={(e) => (open ? setQuery({ id: String(e.id) }) : pushQuery({ id: String(e.id) }))}
          growsAtTop
          onEnd={older}
          empty={
            state.loading ? (
              <p class="waiting">Loading…</p>
            ) : filtered ? (
              <Empty title="No call matches">
                <a href={link(['log'])}>Show all calls</a>
              </Empty>
            ) : (
              <Empty title="No call yet">
                Calls appear here while they happen. <a href={link(['actions'])}>Run an action</a> to see one.
              </Empty>
            )
          }
        />
      </div>
      {open && (
        <div class="split-detail">
          <Entry id={open} onClose={() => pushQuery({ id: undefined })} />
        </div>
      )}
      {clearing && (
        <Confirm
          title="Clear the log?"
          text="All calls are forgotten, for everybody who looks at it. The program's own log stays."
          action="Clear"
          onNo={() => setClearing(false)}
          onYes={async () => {
            setClearing(false);
            try {
              await del('log');
              announce('The log is empty');
            } catch (error) {
              setState((old) => ({ ...old, error: error as Error }));
            }
          }}
        />
      )}
    </div>
  );
}

const columns = [
  { name: 'Time', class: 'c-time' },
  { name: 'Action', class: 'c-action' },
  { name: 'Code', class: 'c-code' },
  { name: 'Took', class: 'c-took' },
  { name: 'User', class: 'c-user' },
  { name: 'Source', class: 'c-source' },
  { name: 'Error', class: 'c-error' },
];

function entryLink(e: LogSummary) {
  return (
    <a href={link(['log'], { ...route.value.query, id: String(e.id) })} tabIndex={-1}>
      {e.action || '(no name)'}
    </a>
  );
}

function source(e: LogSummary): string {
  return e.via ? `${e.source}, ${e.via}` : e.source;
}

function cells(e: LogSummary) {
  return [
    <time title={dateTime(e.time)}>{clock(e.time)}</time>,
    entryLink(e),
    <Code code={e.code} />,
    ms(e.duration_ms),
    e.user ? `${e.user}${e.tenant ? ` @${e.tenant}` : ''}` : <span class="dim">anonymous</span>,
    <span class="dim">{source(e)}</span>,
    <span class="dim">{e.error ?? ''}</span>,
  ];
}


const codes: [string, string][] = [
  ['', 'Any code'],
  ['error', 'Every error'],
  ['ok', 'ok'],
  ...[
    'invalid_argument',
    'validation_failed',
    'unauthenticated',
    'permission_denied',
    'not_found',
    'already_exists',
    'failed_precondition',
    'too_large',
    'rate_limited',
    'canceled',
    'internal',
    'unavailable',
    'deadline_exceeded',
  ].map((code): [string, string] => [code, code]),
];

function Filters() {
  const { query } = route.value;
  const filter = filterFrom(query);
  const catalogue = useLoad<Catalogue>('actions');
  const actions = useMemo(() => [...new Set(catalogue.data?.apps.flatMap((app) => app.actions.map((a) => a.name)))].sort(), [catalogue.data]);
  const set = (name: FilterName) => (value: string) => setQuery({ [name]: value || undefined });
  const rest = Object.keys(filter).filter((name) => ['tenant', 'app', 'conn', 'request_id', 'until', 'min_ms'].includes(name));
  const [all, setAll] = useState(rest.length > 0);
  return (
    <search class="filters log-filters" aria-label="Filter calls">
      <Field label="Text" hideLabel type="search" data-keys="filter" placeholder="Text in input, result, error…" value={query.text ?? ''} onInput={set('text')} />
      <Field label="Action" hideLabel type="search" list="log-actions" placeholder="Action" value={query.action ?? ''} onInput={set('action')} />
      <datalist id="log-actions">
        {actions.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <Select label="Code" hideLabel value={query.code ?? ''} options={codes} onChange={set('code')} />
      <Field label="User" hideLabel type="search" placeholder="User" value={query.user ?? ''} onInput={set('user')} />
      <Select
        label="Source"
        hideLabel
        value={query.source ?? ''}
        options={[
          ['', 'Any source'],
          ['http', 'HTTP'],
          ['ws', 'WebSocket'],
          ['go', 'Go'],
        ]}
        onChange={set('source')}
      />
      <Select
        label="Time"
        hideLabel
        value={query.since ?? ''}
        options={[
          ['', 'Any time'],
          ['-1m', 'Last minute'],
          ['-15m', 'Last 15 min'],
          ['-1h', 'Last hour'],
        ]}
        onChange={set('since')}
      />
      <Button kind="quiet" aria-expanded={all} onClick={() => setAll(!all)}>
        {all ? 'Fewer' : 'More'}
      </Button>
      {all && (
        <>
          <Field label="Tenant" hideLabel placeholder="Tenant" value={query.tenant ?? ''} onInput={set('tenant')} />
          <Field label="App" hideLabel placeholder="App" value={query.app ?? ''} onInput={set('app')} />
          <Select
            label="Made by"
            hideLabel
            value={query.via ?? ''}
            options={[
              ['', 'Made by anyone'],
              ['client', 'Clients'],
              ['dashboard', 'This dashboard'],
              ['mcp', 'MCP'],
            ]}
            onChange={set('via')}
          />
          <Field label="Slower than, in ms" hideLabel inputMode="numeric" placeholder="Slower than (ms)" value={query.min_ms ?? ''} onInput={set('min_ms')} />
          <Field label="Request id" hideLabel placeholder="Request id" value={query.request_id ?? ''} onInput={set('request_id')} />
          <Field label="Connection" hideLabel placeholder="Connection" value={query.conn ?? ''} onInput={set('conn')} />
        </>
      )}
      {Object.keys(filter).length > 0 && (
        <a class="button quiet" href={link(['log'], { id: query.id })}>
          Clear filters
        </a>
      )}
    </search>
  );
}

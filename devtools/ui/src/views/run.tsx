// Runs an action: input by form or as JSON, as whom, over what; then the outcome, and the same call as code.
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { Action, App, Identity, LogEntry, LogPage, RunResult } from '../api.ts';
import { get, postText } from '../client.ts';
import { clock, ms, pretty } from '../lib/format.ts';
import { initial, isObject, missing } from '../lib/schema.ts';
import * as snippets from '../lib/snippets.ts';
import { useLoad, useThrottled } from '../load.ts';
import { SchemaForm } from '../parts/form.tsx';
import { IdentityForm, fromQuery, name, remember, toQuery } from '../parts/identity.tsx';
import { Json } from '../parts/json.tsx';
import { Area, Button, Choice, Code, Copy, Empty, Failure, Section, announce, useTask } from '../parts/ui.tsx';
import { link, route, setQuery } from '../router.ts';
import { useStream, useTopic } from '../stream.ts';

type Transport = 'http' | 'ws' | 'go';
type Tab = 'form' | 'json' | 'schema';

/** The text of POST api/run: params go in as they were typed, with all their digits. */
export function runBody(app: string, action: string, params: string, transport: Transport, identity: Identity | null): string {
  return `{"app":${JSON.stringify(app)},"action":${JSON.stringify(action)},"transport":"${transport}","identity":${JSON.stringify(identity)},"params":${params}}`;
}

function startText(action: Action, given: string | undefined): string {
  if (given) return given;
  const schema = action.schema;
  return pretty(schema ? (initial(schema, schema) ?? {}) : {});
}

export function Run({ app, action, url }: { app: App; action: Action; url: string }) {
  const { query } = route.value;
  const [text, setText] = useState(() => startText(action, query.params));
  const [result, setResult] = useState<RunResult>();
  const task = useTask();
  const identity = fromQuery(query, app.app);
  const transport: Transport = query.transport === 'ws' || query.transport === 'go' ? query.transport : 'http';
  const parsed = useMemo(() => parse(text), [text]);
  const tab: Tab = (query.input as Tab) ?? (action.schema ? 'form' : 'json');
  const lacking = action.schema && parsed.ok ? missing(action.schema, action.schema, parsed.value).filter((path) => !action.override?.includes(path)) : [];

  // Roles decide whether the call is let in: begin as somebody who has one.
  useEffect(() => {
    if (query.as !== undefined || action.access.kind === 'public' || query.anonymous) return;
    setQuery(toQuery({ user: 'dev', app: app.app, tenant: '', scope: '', roles: action.access.roles?.slice(0, 1) ?? [] }));
  }, []);

  const run = () =>
    task.run(async () => {
      if (!parsed.ok) throw new Error(`The input is no JSON: ${parsed.fault}`);
      setResult(undefined);
      const got = await postText<RunResult>('run', runBody(app.app, action.name, text, transport, identity));
      remember(identity);
      setResult(got);
      announce(got.ok ? 'It succeeded' : `It failed: ${got.code}`);
    });

  const call: snippets.Call = { url, action: action.name, params: text, token: identity !== null };
  return (
    <form
      class="run"
      onSubmit={(event) => {
        event.preventDefault();
        run();
      }}
      onKeyDown={(event) => {
        if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        run();
      }}
    >
      <Section
        title="Input"
        aside={
          <Choice<Tab>
            label="Input as"
            value={tab}
            options={action.schema ? [['form', 'Form'], ['json', 'JSON'], ['schema', 'Schema']] : [['json', 'JSON']]}
            onChange={(t) => setQuery({ input: t === 'form' ? undefined : t })}
          />
        }
      >
        {tab === 'form' && action.schema ? (
          parsed.ok ? (
            <SchemaForm id="run" schema={action.schema} value={parsed.value} onChange={(value) => setText(pretty(value))} errors={result?.error?.errors} skip={action.override} />
          ) : (
            <Empty title="The JSON cannot be read">
              <p>{parsed.fault}</p>
              <Button onClick={() => setQuery({ input: 'json' })}>Correct it</Button>
            </Empty>
          )
        ) : tab === 'schema' ? (
          <div class="stack">
            <Json label="Input schema" value={action.schema} />
            {action.output && (
              <>
                <h3>Output</h3>
                <Json label="Output schema" value={action.output} />
              </>
            )}
          </div>
        ) : (
          <Area label="Input as JSON" hideLabel class="code" rows={Math.min(20, Math.max(5, text.split('\n').length + 1))} value={text} onInput={setText} invalid={!parsed.ok && parsed.fault} />
        )}
      </Section>
      <Section title="As">
        <IdentityForm
          app={app}
          value={identity}
          onChange={(id) => setQuery({ ...toQuery(id), anonymous: id ? undefined : '1' })}
        />
      </Section>
      <div class="run-bar">
        <Choice<Transport>
          label="Over"
          value={transport}
          options={[
            ['http', 'HTTP'],
            ['ws', 'WebSocket'],
            ['go', 'Go'],
          ]}
          onChange={(t) => setQuery({ transport: t === 'http' ? undefined : t })}
        />
        <Button kind="primary" type="submit" icon="play" disabled={task.busy || !parsed.ok || identity?.user === ''} title="Ctrl Enter">
          {task.busy ? 'Running…' : 'Run'}
        </Button>
        <span class="row copies" role="group" aria-label="Copy the call">
          <Copy text={() => snippets.curl(call)}>curl</Copy>
          <Copy text={() => snippets.go(call)}>Go</Copy>
          <Copy text={() => snippets.javascript(call)}>JavaScript</Copy>
          <Copy text={() => location.href.replace(/#.*/, '') + link(route.value.path, { ...query, params: text })}>Link with input</Copy>
        </span>
      </div>
      {lacking.length > 0 && (
        <p class="hint">
          Required, and not there yet: <code>{lacking.join(', ')}</code>
        </p>
      )}
      {task.error && <Failure error={task.error} />}
      {result && <Result result={result} />}
      <History app={app} action={action} onTake={setText} />
    </form>
  );
}

function parse(text: string): { ok: true; value: unknown } | { ok: false; fault: string } {
  try {
    const value: unknown = JSON.parse(text.trim() || '{}');
    return isObject(value) ? { ok: true, value } : { ok: false, fault: 'The input of an action is a JSON object.' };
  } catch (err) {
    return { ok: false, fault: (err as Error).message };
  }
}

export function Result({ result }: { result: RunResult }) {
  return (
    <Section
      title="Result"
      class="result"
      aside={
        <>
          <Code code={result.code} />
          {result.status !== undefined && <span>HTTP {result.status}</span>}
          <span>{ms(result.duration_ms)}</span>
          {result.log_id !== undefined && <a href={link(['log'], { id: String(result.log_id) })}>In the log</a>}
        </>
      }
    >
      <Json label={result.ok ? 'Result' : 'Error'} value={result.ok ? result.result : result.error} />
      {(result.events?.length ?? 0) > 0 && (
        <details>
          <summary>Events that came beside it ({result.events!.length})</summary>
          <Json label="Events" value={result.events} />
        </details>
      )}
      {result.headers && (
        <details>
          <summary>Response headers</summary>
          <Json label="Headers" value={result.headers} />
        </details>
      )}
    </Section>
  );
}

/** Calls of this action that were made from here. */
function History({ app, action, onTake }: { app: App; action: Action; onTake: (text: string) => void }) {
  const page = useLoad<LogPage>('log', { app: app.app, action: action.name, via: 'dashboard', limit: 10 });
  const again = useThrottled(page.reload, 300);
  const task = useTask();
  useTopic('log');
  useStream('log', ({ entries }) => {
    if (entries.some((e) => e.via === 'dashboard' && e.action === action.name && e.app === app.app)) again();
  });
  const entries = page.data?.entries ?? [];
  if (entries.length === 0) return null;
  const take = (id: number) =>
    task.run(async () => {
      const entry = await get<LogEntry>(`log/${id}`);
      onTake(typeof entry.params === 'string' ? entry.params : pretty(withoutAction(entry.params)));
      setQuery({ ...toQuery(entry.identity), anonymous: entry.identity ? undefined : '1', transport: entry.source === 'http' ? undefined : entry.source });
      announce('Its input is in the form');
    });
  return (
    <Section title="History">
      {task.error && <Failure error={task.error} />}
      <ul class="history">
        {entries.map((e) => (
          <li key={e.id}>
            <time>{clock(e.time, false)}</time>
            <Code code={e.code} />
            <span class="dim">
              {ms(e.duration_ms)}, {e.user ? name({ user: e.user, tenant: e.tenant }) : 'anonymous'}, {e.source}
            </span>
            <span class="row">
              <Button kind="quiet" disabled={task.busy} onClick={() => take(e.id)}>
                Use again
              </Button>
              <a href={link(['log'], { id: String(e.id) })}>Open</a>
            </span>
          </li>
        ))}
      </ul>
    </Section>
  );
}

/** The params of a call are the whole body; the name of the action stands in some. */
function withoutAction(params: unknown): unknown {
  if (!isObject(params)) return params;
  const { action: _, rayid: __, ...rest } = params;
  return rest;
}

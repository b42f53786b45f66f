// One call: what came in, what each step took, what went out.
import { useState } from 'preact/hooks';
import type { LogEntry, RunResult } from '../api.ts';
import { post } from '../client.ts';
import { clock, dateTime, ms, plural, pretty } from '../lib/format.ts';
import { isObject } from '../lib/schema.ts';
import { useLoad } from '../load.ts';
import { name, toQuery } from '../parts/identity.tsx';
import { Json } from '../parts/json.tsx';
import { Button, Code, Copy, Facts, Failure, Ready, Section, Tag, useTask } from '../parts/ui.tsx';
import { link } from '../router.ts';
import { Result } from './run.tsx';

export function Entry({ id, onClose }: { id: string; onClose: () => void }) {
  const entry = useLoad<LogEntry>(`log/${encodeURIComponent(id)}`);
  return (
    <article class="detail" aria-label={`Call ${id}`}>
      <header class="detail-head">
        <h2>
          Call <code>{entry.data?.action ?? id}</code>
        </h2>
        {entry.data && <Code code={entry.data.code} />}
        <Button kind="quiet" icon="close" iconOnly class="detail-close" onClick={onClose}>
          Close
        </Button>
      </header>
      <Ready of={entry}>{(e) => <Body key={e.id} entry={e} />}</Ready>
    </article>
  );
}

function Body({ entry: e }: { entry: LogEntry }) {
  const task = useTask();
  const [replayed, setReplayed] = useState<RunResult>();
  const failure = e.failure;
  const params = isObject(e.params) ? JSON.stringify(e.params, null, 2) : undefined;
  const edit = link(['actions', e.app, e.action], {
    ...toQuery(e.identity),
    anonymous: e.identity ? undefined : '1',
    transport: e.source === 'http' ? undefined : e.source,
    params: params && params.length < 8000 ? params : undefined,
  });
  return (
    <>
      <div class="row wrap">
        <Button icon="again" disabled={task.busy} onClick={() => task.run(async () => setReplayed(await post<RunResult>(`log/${e.id}/replay`)))}>
          Replay
        </Button>
        <a class="button plain" href={edit}>
          Edit and run
        </a>
        <Copy text={() => pretty(e)}>Copy entry</Copy>
      </div>
      {task.error && <Failure error={task.error} />}
      {replayed && <Result result={replayed} />}
      <Facts
        rows={[
          ['Time', `${dateTime(e.time)}${clock(e.time).slice(8)}`],
          ['Took', ms(e.duration_ms)],
          ['Caller', <>{e.identity ? <a href={link(['log'], { user: e.user })}>{name(e.identity)}</a> : 'anonymous'}</>],
          ['App', e.app],
          ['Source', e.source],
          ['Made by', e.via],
          ['Connection', e.conn && <a href={link(['connections', e.conn])}>{e.conn}</a>],
          ['Address', e.remote_addr],
          ['Request', <><code>{e.request_id}</code> <Copy iconOnly text={e.request_id}>Copy request id</Copy></>],
          ['Trace', e.traceparent && <><code>{e.traceparent}</code> <Copy iconOnly text={e.traceparent}>Copy trace</Copy></>],
          ['Token', e.identity?.token_id],
        ]}
      />
      {failure && (
        <Section title="Error">
          <p>
            <Code code={failure.code} /> {failure.message}
          </p>
          {failure.errors && <Facts rows={Object.entries(failure.errors).map(([field, texts]) => [field, texts.join(', ')])} />}
          {failure.cause && (
            <>
              <h3>
                Cause <Tag title="Only the log has it">never sent to the client</Tag>
              </h3>
              <pre tabIndex={0} aria-label="Cause">
                {failure.cause}
              </pre>
            </>
          )}
          {failure.stack && (
            <>
              <h3>
                Stack <Copy iconOnly text={failure.stack}>Copy stack</Copy>
              </h3>
              <pre class="stack-text" tabIndex={0} aria-label="Stack">
                {failure.stack}
              </pre>
            </>
          )}
        </Section>
      )}
      <Section title="Input">
        {e.params_cut && <p class="hint">It was longer than what is kept, and was cut.</p>}
        <Json label="Input" value={e.params} />
      </Section>
      {e.result !== undefined && (
        <Section title="Result">
          {e.result_cut && <p class="hint">It was longer than what is kept, and was cut.</p>}
          <Json label="Result" value={e.result} />
        </Section>
      )}
      <Steps entry={e} />
    </>
  );
}

/** How the time went, step by step: a bar each, on the scale of the whole call. */
function Steps({ entry: e }: { entry: LogEntry }) {
  if (e.steps.length === 0) return null;
  const whole = Math.max(e.duration_ms, ...e.steps.map((s) => (s.start_ms ?? 0) + s.duration_ms), 0.001);
  const steps = [...e.steps].sort((a, b) => (a.start_ms ?? 0) - (b.start_ms ?? 0) || b.duration_ms - a.duration_ms);
  return (
    <Section title="Steps">
      <details open={e.steps.length <= 12}>
        <summary>{plural(e.steps.length, 'step')}, in the order in which they began</summary>
        <ol class="steps">
          {steps.map((s, i) => (
            <li key={i}>
              <span class="step-name">{s.name}</span>
              <span class="step-bar">
                <i class={s.error ? 'bad' : ''} style={{ left: `${((s.start_ms ?? 0) / whole) * 100}%`, width: `${Math.max(0.5, (s.duration_ms / whole) * 100)}%` }} />
              </span>
              <span class="step-time">{ms(s.duration_ms)}</span>
              {s.error && <span class="step-error">{s.error}</span>}
            </li>
          ))}
        </ol>
      </details>
    </Section>
  );
}

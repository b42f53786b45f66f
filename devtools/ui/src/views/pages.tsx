// Pages of the program's own: values that it publishes, and buttons that run its functions.
import { useState } from 'preact/hooks';
import type { Button as PageButton, ButtonResult, Page, Widget } from '../api.ts';
import { ApiError } from '../api.ts';
import { post } from '../client.ts';
import { digits } from '../lib/format.ts';
import { initial } from '../lib/schema.ts';
import { useLoad } from '../load.ts';
import { Chart, Spark, type Line } from '../parts/chart.tsx';
import { SchemaForm } from '../parts/form.tsx';
import { Json } from '../parts/json.tsx';
import { Button, Confirm, Dialog, Empty, Failure, Ready, Tabs, useTask } from '../parts/ui.tsx';
import { link, route } from '../router.ts';
import { useStream, useTopic } from '../stream.ts';

export function Pages() {
  const { path } = route.value;
  const pages = useLoad<{ pages: { name: string; title: string }[] }>('pages');
  return (
    <Ready of={pages}>
      {({ pages: all }) => {
        if (all.length === 0) return <Empty title="The program has no pages">It can publish values and buttons here, from Go.</Empty>;
        const shown = path[1] ?? all[0]!.name;
        return (
          <>
            <Tabs label="Pages" tabs={all.map((p) => ({ text: p.title, href: link(['pages', p.name]), current: p.name === shown }))} />
            <PageView key={shown} name={shown} />
          </>
        );
      }}
    </Ready>
  );
}

function PageView({ name }: { name: string }) {
  const page = useLoad<Page>(`pages/${encodeURIComponent(name)}`);
  useTopic(`page:${name}`);
  useStream('page', (event) => {
    if (event.name !== name) return;
    const changed = new Map(event.widgets.map((w) => [w.id, w]));
    page.set((p) => ({ ...p, widgets: p.widgets.map((w) => changed.get(w.id) ?? w) }));
  });
  return (
    <Ready of={page}>
      {(p) => (
        <>
          {p.description && <p class="lead">{p.description}</p>}
          {p.buttons.length > 0 && (
            <ul class="page-buttons">
              {p.buttons.map((b) => (
                <RunButton key={b.id} page={name} button={b} onRan={page.reload} />
              ))}
            </ul>
          )}
          <div class="widgets">
            {p.widgets.map((w) => (
              <WidgetView key={w.id} widget={w} />
            ))}
          </div>
        </>
      )}
    </Ready>
  );
}

const colors: Line['color'][] = ['--line1', '--line2', '--line3', '--line4'];

function WidgetView({ widget: w }: { widget: Widget }) {
  const wide = w.type === 'table' || w.type === 'line';
  return (
    <div class={`widget widget-${w.type} ${wide ? 'wide' : ''}`}>
      {w.type !== 'line' && <h2>{w.title}</h2>}
      {w.error ? <Failure error={new Error(w.error)} /> : <WidgetValue widget={w} />}
      {w.description && <p class="hint">{w.description}</p>}
    </div>
  );
}

function WidgetValue({ widget: w }: { widget: Widget }) {
  switch (w.type) {
    case 'number':
      return (
        <div class="number">
          <p>
            <b>{w.value === null ? '–' : digits(w.value)}</b> {w.unit}
          </p>
          {w.trend && <Spark values={w.trend} label={`${w.title}: from ${digits(w.trend[0] ?? 0)} to ${digits(w.trend.at(-1) ?? 0)}`} />}
        </div>
      );
    case 'keyvalue':
      return (
        <dl class="facts">
          {w.rows.map(([key, value]) => (
            <div key={key}>
              <dt>{key}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        </dl>
      );
    case 'table':
      return w.rows.length === 0 ? (
        <p class="dim">No rows.</p>
      ) : (
        <div class="table-box" tabIndex={0} role="region" aria-label={`${w.title}, table`}>
          <table>
            <thead>
              <tr>
                {w.columns.map((c, i) => (
                  <th key={c} scope="col" class={w.rows.every((row) => typeof row[i] === 'number') ? 'num' : undefined}>
                    {c}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {w.rows.map((row, i) => (
                <tr key={i}>
                  {row.map((cell, c) => (
                    <td key={c} class={typeof cell === 'number' ? 'num' : undefined}>
                      {cell === null ? <span class="dim">–</span> : String(cell)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      );
    case 'list':
      return w.items.length === 0 ? (
        <p class="dim">Empty.</p>
      ) : (
        <ul>
          {w.items.map((item, i) => (
            <li key={i}>{item}</li>
          ))}
        </ul>
      );
    case 'line':
      return (
        <Chart
          title={w.title}
          unit={w.unit ?? ''}
          format={digits}
          time={w.time}
          lines={w.series.map((s, i) => ({ label: s.label, color: colors[i % colors.length]!, values: s.values, filled: w.series.length === 1 }))}
        />
      );
    case 'text':
      return <p class="widget-text">{w.text}</p>;
  }
}

function RunButton({ page, button: b, onRan }: { page: string; button: PageButton; onRan: () => void }) {
  const [open, setOpen] = useState<'' | 'form' | 'confirm'>('');
  const [input, setInput] = useState<unknown>(() => (b.schema ? (initial(b.schema, b.schema) ?? {}) : {}));
  const [result, setResult] = useState<ButtonResult>();
  const task = useTask();
  const run = () =>
    task.run(async () => {
      setResult(undefined);
      setResult((await post<ButtonResult | undefined>(`pages/${encodeURIComponent(page)}/buttons/${encodeURIComponent(b.id)}`, { input })) ?? {});
      setOpen('');
      onRan();
    });
  const errors = task.error instanceof ApiError ? task.error.body.errors : undefined;
  return (
    <li>
      <Button disabled={task.busy} title={b.description} onClick={() => (b.schema ? setOpen('form') : b.confirm ? setOpen('confirm') : run())}>
        {b.label}
      </Button>
      {task.error && open === '' && <Failure error={task.error} />}
      {result && (
        <div class="button-result" role="status">
          {result.message || 'Done.'}
          {result.result !== undefined && result.result !== null && <Json label="Result" value={result.result} />}
        </div>
      )}
      {open === 'form' && (
        <Dialog title={b.label} onClose={() => setOpen('')}>
          <form
            class="stack"
            onSubmit={(event) => {
              event.preventDefault();
              if (b.confirm) setOpen('confirm');
              else run();
            }}
          >
            {b.description && <p class="dim">{b.description}</p>}
            <SchemaForm id={`button-${b.id}`} schema={b.schema!} value={input} onChange={setInput} errors={errors} />
            {task.error && <Failure error={task.error} />}
            <div class="row end">
              <Button onClick={() => setOpen('')}>Cancel</Button>
              <Button kind="primary" type="submit" disabled={task.busy}>
                {b.label}
              </Button>
            </div>
          </form>
        </Dialog>
      )}
      {open === 'confirm' && (
        <Confirm
          title={b.label}
          text={b.confirm!}
          action={b.label}
          onNo={() => setOpen('')}
          onYes={() => {
            setOpen('');
            run();
          }}
        />
      )}
    </li>
  );
}

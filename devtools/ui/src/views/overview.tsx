// The last hour in charts, how the server is joined with others, what runs, and the configuration that it runs with.
import { useMemo } from 'preact/hooks';
import type { Cluster, Info, MetricPoint, Metrics, Settings } from '../api.ts';
import { bytes, count, dateTime, digits, ms, plural, span } from '../lib/format.ts';
import { appendPoint } from '../lib/series.ts';
import { useLoad } from '../load.ts';
import { Chart, type Line } from '../parts/chart.tsx';
import { Choice, Copy, Empty, Facts, Field, Ready, Section, Tabs, Tag, useNow } from '../parts/ui.tsx';
import { link, route, setQuery } from '../router.ts';
import { useStream } from '../stream.ts';

export function Overview() {
  const tab = route.value.path[1] ?? 'charts';
  return (
    <>
      <Tabs
        label="Overview"
        tabs={[
          { text: 'Charts', href: link(['overview']), current: tab === 'charts' },
          { text: 'Cluster', href: link(['overview', 'cluster']), current: tab === 'cluster' },
          { text: 'Configuration', href: link(['overview', 'configuration']), current: tab === 'configuration' },
          { text: 'Build', href: link(['overview', 'build']), current: tab === 'build' },
        ]}
      />
      {tab === 'charts' ? <Charts /> : tab === 'cluster' ? <ClusterTab /> : tab === 'configuration' ? <Configuration /> : tab === 'build' ? <Build /> : <Empty title="There is no such tab" />}
    </>
  );
}

const windows: [string, string][] = [
  ['60', '1 min'],
  ['300', '5 min'],
  ['900', '15 min'],
  ['3600', '1 h'],
];

function Charts() {
  const window = windows.some(([w]) => w === route.value.query.window) ? route.value.query.window! : '900';
  const info = useLoad<Info>('info');
  const metrics = useLoad<Metrics>('metrics', { window });
  useStream('metrics', (point) => metrics.set((m) => appendPoint(m, point, Number(window))));
  const now = useNow();

  return (
    <>
      <div class="row wrap spread">
        <Ready of={info}>
          {(i) => (
            <p class="facts-line">
              <span>
                Up <b>{span(now - i.started)}</b>
              </span>
              {i.url && (
                <span>
                  at <b>{i.url}</b>
                </span>
              )}
              <span>
                mooncore <b>{i.mooncore || 'devel'}</b>
              </span>
              <span>
                <b>{i.go}</b> {i.os}/{i.arch}
              </span>
              {i.health && <Tag kind={i.health.status === 'ok' ? 'ok' : 'bad'}>{i.health.status === 'ok' ? 'ready' : 'not ready'}</Tag>}
            </p>
          )}
        </Ready>
        <Choice label="Time shown" value={window} options={windows} onChange={(w) => setQuery({ window: w === '900' ? undefined : w })} />
      </div>
      <Ready of={metrics}>{(m) => <ChartGrid metrics={m} windowMs={Number(window) * 1000} />}</Ready>
    </>
  );
}

function ChartGrid({ metrics: { points: p, totals }, windowMs }: { metrics: Metrics; windowMs: number }) {
  const errorRate = useMemo(() => p.calls.map((calls, i) => (calls > 0 ? (p.errors[i]! / calls) * 100 : 0)), [p]);
  const common = { time: p.time, windowMs, sync: 'overview' };
  const line = (label: string, color: Line['color'], key: keyof MetricPoint, filled = false): Line => ({ label, color, values: (p[key] ?? []) as (number | null)[], filled });
  return (
    <>
      <div class="charts">
        <Chart {...common} title="Calls" unit="per second" format={digits} lines={[line('calls', '--line1', 'calls', true)]} />
        <Chart {...common} title="Errors" unit="% of calls" format={(n) => `${digits(n)} %`} lines={[{ label: 'errors', color: '--line4', values: errorRate, filled: true }]} />
        <Chart
          {...common}
          title="Latency"
          unit="of calls"
          format={ms}
          lines={[line('p50', '--line1', 'p50_ms'), line('p95', '--line2', 'p95_ms'), line('p99', '--line4', 'p99_ms')]}
        />
        <Chart {...common} title="Connections" unit="open WebSockets" format={count} lines={[line('open', '--line3', 'conns', true)]} />
        <Chart {...common} title="Frames" unit="per second" format={digits} lines={[line('received', '--line1', 'frames_in'), line('sent', '--line2', 'frames_out')]} />
        <Chart {...common} title="Memory" unit="in use" format={bytes} binary lines={[line('heap', '--line1', 'heap_bytes', true), line('all', '--line2', 'memory_bytes')]} />
        <Chart {...common} title="Goroutines" unit="that exist" format={count} lines={[line('goroutines', '--line3', 'goroutines', true)]} />
        <Chart {...common} title="GC pause" unit="longest" format={ms} lines={[line('pause', '--line2', 'gc_pause_ms', true)]} />
        {p.cpu && p.cpu.some((n) => n !== null && n !== undefined) && (
          <Chart {...common} title="CPU" unit="cores busy" format={digits} lines={[line('cores', '--line1', 'cpu', true)]} />
        )}
      </div>
      <p class="dim">
        Since start: {plural(totals.calls, 'call')}, {plural(totals.errors, 'error')}.
      </p>
    </>
  );
}

function ClusterTab() {
  const cluster = useLoad<Cluster>('cluster');
  useStream('metrics', cluster.reload); // each second
  const now = useNow();
  return (
    <Ready of={cluster}>
      {({ node, published, delivered, broker: b, history: h }) => (
        <div class="panes">
          <Section title="This server">
            <Facts
              rows={[
                ['Node', <code>{node}</code>],
                ['Events published', count(published)],
                ['Events delivered', `${count(delivered)}, one for each connection`],
              ]}
            />
          </Section>
          <Section title="Broker">
            {!b ? (
              <p class="dim">The program has none: this server is alone.</p>
            ) : !b.engine ? (
              <p class="dim">It does not tell how it is doing.</p>
            ) : (
              <Facts
                rows={[
                  ['Engine', b.engine],
                  ['State', (
                    <>
                      <Tag kind={b.up ? 'ok' : 'bad'}>{b.up ? 'up' : 'away'}</Tag> for {span(now - b.since)}
                    </>
                  )],
                  ['Round trip', ms(b.round_trip_ms)],
                  ['Subscriptions', plural(b.subscriptions, 'topic')],
                  ['Peers', b.peers > 0 && plural(b.peers, 'other server')],
                  ['Reconnects', count(b.reconnects)],
                  ['Dropped', plural(b.dropped, 'message')],
                  ['Losses told', count(b.losses)],
                ]}
              />
            )}
          </Section>
          <Section title="History">
            {!h ? (
              <p class="dim">No channel keeps its events.</p>
            ) : (
              <Facts
                rows={[
                  ['Channels', `${count(h.feeds)} with members here`],
                  ['Losses told', count(h.lost)],
                  ['Recovered', plural(h.recovered, 'join')],
                  ['Not recovered', reasons.filter((why) => h[why] > 0).map((why) => `${why}: ${count(h[why])}`).join(', ') || plural(0, 'join')],
                ]}
              />
            )}
          </Section>
        </div>
      )}
    </Ready>
  );
}

/** What clients are told: PROTOCOL.md has them. */
const reasons = ['epoch', 'ahead', 'trimmed', 'too_large', 'unavailable', 'no_history', 'refused'] as const;

const sources: Record<string, string> = { default: 'default', program: 'program', environment: 'environment', file: 'file' };

function Configuration() {
  const { query } = route.value;
  const settings = useLoad<Settings>('settings');
  const text = (query.text ?? '').toLowerCase();
  const source = query.source ?? '';
  return (
    <>
      <div class="filters">
        <Field label="Filter" hideLabel type="search" data-keys="filter" placeholder="Filter by name, variable or value" value={query.text ?? ''} onInput={(v) => setQuery({ text: v })} />
        <Choice label="Source" value={source} options={[['', 'All'], ...Object.entries(sources)]} onChange={(v) => setQuery({ source: v })} />
      </div>
      <Ready of={settings}>
        {({ settings: all }) => {
          const found = all.filter(
            (s) => (!source || s.source === source) && [s.name, s.env ?? '', s.value, s.description ?? ''].some((part) => part.toLowerCase().includes(text)),
          );
          if (found.length === 0) return <Empty title="No setting matches">Change the filter to see others.</Empty>;
          return (
            <div class="table-box" tabIndex={0} role="region" aria-label="Settings">
              <table class="wide">
                <thead>
                  <tr>
                    <th scope="col">Setting</th>
                    <th scope="col">Value</th>
                    <th scope="col">From</th>
                    <th scope="col">Variable</th>
                  </tr>
                </thead>
                <tbody>
                  {found.map((s) => (
                    <tr key={s.name}>
                      <th scope="row">
                        <code>{s.name}</code>
                        {s.description && <span class="hint">{s.description}</span>}
                      </th>
                      <td>{s.value === '' ? <span class="dim">not set</span> : <code>{s.value}</code>}</td>
                      <td>
                        <Tag kind={s.source === 'default' ? undefined : 'accent'}>{sources[s.source] ?? s.source}</Tag>
                      </td>
                      <td>{s.env ? <code>{s.env}</code> : <span class="dim">–</span>}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          );
        }}
      </Ready>
    </>
  );
}

function Build() {
  const info = useLoad<Info>('info');
  const now = useNow();
  return (
    <Ready of={info}>
      {(i) => (
        <div class="panes">
          <Section title="Program">
            <Facts
              rows={[
                ['Package', <code>{i.build.path}</code>],
                ['Version', i.build.version],
                ['Revision', i.build.revision && <code>{`${i.build.revision}${i.build.modified ? ', with changes' : ''}`}</code>],
                ['Committed', i.build.time],
                ['mooncore', i.mooncore],
                ['Go', `${i.go} ${i.os}/${i.arch}`],
                ['Cores used', String(i.gomaxprocs)],
                ['Process', String(i.pid)],
                ['Started', `${dateTime(i.started)}, ${span(now - i.started)} ago`],
                ['Serves at', i.url],
                ['Pools', i.pools.join(', ')],
                ['MCP server', i.mcp_url && (
                  <>
                    <code>{i.mcp_url}</code> <Copy text={i.mcp_url} iconOnly>Copy address</Copy>
                  </>
                )],
              ]}
            />
          </Section>
          {i.health && (
            <Section title="Readiness">
              {Object.keys(i.health.checks).length === 0 ? (
                <p class="dim">The program has no checks: it is ready while it serves.</p>
              ) : (
                <Facts
                  rows={Object.entries(i.health.checks).map(([name, check]) => [
                    name,
                    <>
                      <Tag kind={check.status === 'ok' ? 'ok' : 'bad'}>{check.status}</Tag> {ms(check.duration_ms)}
                    </>,
                  ])}
                />
              )}
            </Section>
          )}
          {(i.build.dependencies?.length ?? 0) > 0 && (
            <Section title="Dependencies">
              <Facts rows={i.build.dependencies!.map((d) => [d.path, <code>{d.version}</code>])} />
            </Section>
          )}
        </div>
      )}
    </Ready>
  );
}

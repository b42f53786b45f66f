// The catalogue of every app, and one action: what it is, and a form to run it.
import { useMemo } from 'preact/hooks';
import type { Access, Action, App, Catalogue, Info } from '../api.ts';
import { bytes, count, ms } from '../lib/format.ts';
import { useLoad } from '../load.ts';
import { Choice, Empty, Facts, Field, Ready, Tag } from '../parts/ui.tsx';
import { link, route, setQuery } from '../router.ts';
import { useEscape } from '../keys.ts';
import { Run } from './run.tsx';

export function Actions() {
  const { path, query } = route.value;
  const catalogue = useLoad<Catalogue>('actions');
  const open = path.length >= 3;
  return (
    <Ready of={catalogue}>
      {({ apps }) => {
        const app = apps.find((a) => a.app === path[1]);
        const action = app?.actions.find((a) => a.name === path[2]);
        return (
          <div class={`split ${open ? 'with-detail' : ''}`}>
            <div class="split-list">
              <Catalog apps={apps} query={query} current={open ? `${path[1]}/${path[2]}` : ''} />
            </div>
            <div class="split-detail">
              {!open ? (
                <Empty title="Choose an action">Its input, who may call it, and a form to run it are shown here.</Empty>
              ) : app && action ? (
                <Detail key={`${app.app}/${action.name}`} app={app} action={action} />
              ) : (
                <Empty title="There is no such action">
                  <a href={link(['actions'])}>All actions</a>
                </Empty>
              )}
            </div>
          </div>
        );
      }}
    </Ready>
  );
}

const kinds: [string, string][] = [
  ['', 'All'],
  ['public', 'Public'],
  ['authenticated', 'Logged in'],
  ['roles', 'Roles'],
];

function Catalog({ apps, query, current }: { apps: App[]; query: Record<string, string>; current: string }) {
  const text = (query.text ?? '').toLowerCase();
  const access = query.access ?? '';
  const found = useMemo(
    () =>
      apps
        .map((app) => ({
          ...app,
          actions: app.actions.filter((a) => (!access || a.access.kind === access) && [a.name, a.description ?? '', ...(a.access.roles ?? [])].some((part) => part.toLowerCase().includes(text))),
        }))
        .filter((app) => app.actions.length > 0),
    [apps, text, access],
  );
  const keep = { text: query.text, access: query.access };
  return (
    <>
      <div class="filters">
        <Field label="Filter actions" hideLabel type="search" data-keys="filter" placeholder="Filter by name, description or role" value={query.text ?? ''} onInput={(v) => setQuery({ text: v })} />
        <Choice label="Access" value={access} options={kinds} onChange={(v) => setQuery({ access: v })} />
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="Actions">
        {found.length === 0 && <Empty title={text || access ? 'No action matches' : 'The program has no actions'} />}
        {found.map((app) => (
          <section key={app.app} aria-label={`Actions of ${app.app || 'the app without a name'}`}>
            {apps.length > 1 && <h2 class="list-title">{app.app || 'no name'}</h2>}
            <ul class="items">
              {app.actions.map((action) => (
                <li key={action.name}>
                  <a href={link(['actions', app.app, action.name], keep)} aria-current={`${app.app}/${action.name}` === current ? 'true' : undefined}>
                    <span class="item-top">
                      <code class="item-name">{action.name}</code>
                      <AccessTag access={action.access} />
                    </span>
                    {action.description && <span class="item-text">{action.description}</span>}
                  </a>
                </li>
              ))}
            </ul>
          </section>
        ))}
      </div>
    </>
  );
}

export function AccessTag({ access }: { access: Access }) {
  switch (access.kind) {
    case 'public':
      return <Tag kind="warn" title="Everybody may call it, without a token too">public</Tag>;
    case 'authenticated':
      return <Tag title="Everybody with a token may call it">logged in</Tag>;
    case 'roles':
      return <Tag kind="accent" title="One of these roles is enough">{(access.roles ?? []).join(', ')}</Tag>;
  }
}

function Detail({ app, action }: { app: App; action: Action }) {
  const info = useLoad<Info>('info');
  const { query } = route.value;
  const back = link(['actions'], { text: query.text, access: query.access });
  useEscape(() => (location.hash = back));
  const stats = action.stats;
  return (
    <article class="detail" aria-label={action.name}>
      <header class="detail-head">
        <a class="back" href={back}>
          All actions
        </a>
        <h2>
          <code>{action.name}</code>
        </h2>
        <AccessTag access={action.access} />
        {action.read_only && <Tag title="A call changes nothing; GET is permitted">read-only</Tag>}
        {action.tool && <Tag title="Offered to agents by MCP">tool</Tag>}
      </header>
      {action.description && <p class="lead">{action.description}</p>}
      <Facts
        rows={[
          ['App', app.app],
          ['Timeout', action.timeout_ms ? ms(action.timeout_ms) : 'none'],
          ['Input size', action.max_bytes ? `at most ${bytes(action.max_bytes)}` : 'no limit'],
          ...Object.entries(action.limits ?? {}),
          ['Set by the server', action.override?.length ? <code>{action.override.join(', ')}</code> : undefined],
          [
            'Calls',
            stats &&
              (stats.calls === 0 ? (
                'none yet'
              ) : (
                <>
                  <a href={link(['log'], { action: action.name, app: app.app })}>{count(stats.calls)}</a>
                  {stats.errors > 0 && (
                    <>
                      , <a href={link(['log'], { action: action.name, app: app.app, code: 'error' })}>{count(stats.errors)} with an error</a>
                    </>
                  )}
                  {stats.p50_ms !== null && `, median ${ms(stats.p50_ms)}`}
                  {stats.p99_ms !== null && `, p99 ${ms(stats.p99_ms)}`}
                </>
              )),
          ],
        ]}
      />
      <Run app={app} action={action} url={info.data?.url ?? ''} />
    </article>
  );
}


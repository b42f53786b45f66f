// Tokens, role masks, Base64 and timestamps: made and taken apart.
import { useState } from 'preact/hooks';
import type { Catalogue, Identity, TokenReport } from '../api.ts';
import { post } from '../client.ts';
import { dateTime, span } from '../lib/format.ts';
import { base58, fromBase58, fromBase64, maskOf, readTime, rolesOf, toBase64 } from '../lib/tools.ts';
import { useLoad } from '../load.ts';
import { IdentityForm, remember } from '../parts/identity.tsx';
import { Json } from '../parts/json.tsx';
import { Area, Button, Choice, Copy, Empty, Facts, Failure, Field, Ready, Section, Select, Tabs, Tag, useNow, useTask } from '../parts/ui.tsx';
import { link, route, setQuery } from '../router.ts';

const tabs: [string, string][] = [
  ['token', 'Tokens'],
  ['roles', 'Role masks'],
  ['base64', 'Base64'],
  ['time', 'Timestamps'],
];

export function Tools() {
  const tab = route.value.path[1] ?? 'token';
  return (
    <>
      <Tabs label="Tools" tabs={tabs.map(([name, text]) => ({ text, href: link(['tools', name]), current: tab === name }))} />
      {tab === 'token' ? <Tokens /> : tab === 'roles' ? <Roles /> : tab === 'base64' ? <Base64 /> : tab === 'time' ? <Time /> : <Empty title="There is no such tool" />}
    </>
  );
}

const lifetimes: [string, string][] = [
  ['300', '5 minutes'],
  ['3600', '1 hour'],
  ['28800', '8 hours'],
  ['64800', '18 hours'],
];

function Tokens() {
  const catalogue = useLoad<Catalogue>('actions');
  const [token, setToken] = useState('');
  return (
    <div class="panes">
      <Ready of={catalogue}>{({ apps }) => (apps.length > 0 ? <MakeToken apps={apps} onMade={setToken} /> : <Empty title="The program has no app" />)}</Ready>
      <InspectToken token={token} onToken={setToken} />
    </div>
  );
}

function MakeToken({ apps, onMade }: { apps: Catalogue['apps']; onMade: (token: string) => void }) {
  const [name, setName] = useState(apps[0]!.app);
  const app = apps.find((a) => a.app === name) ?? apps[0]!;
  const [identity, setIdentity] = useState<Identity>({ user: 'dev', app: app.app, tenant: '', scope: '', roles: [] });
  const [lifetime, setLifetime] = useState('3600');
  const [made, setMade] = useState<string>();
  const task = useTask();
  return (
    <Section title="Make a token">
      <form
        class="stack"
        onSubmit={(submit) => {
          submit.preventDefault();
          task.run(async () => {
            const got = await post<{ token: string }>('tools/token', { identity: { ...identity, app: app.app }, lifetime_s: Number(lifetime) });
            remember(identity);
            setMade(got.token);
          });
        }}
      >
        {apps.length > 1 && <Select label="App" value={name} options={apps.map((a) => [a.app, a.app || 'no name'])} onChange={setName} />}
        <IdentityForm key={app.app} app={app} noAnonymous value={identity} onChange={(id) => id && setIdentity(id)} />
        <Select label="Good for" value={lifetime} options={lifetimes} onChange={setLifetime} />
        {task.error && <Failure error={task.error} />}
        <Button kind="primary" type="submit" icon="key" disabled={task.busy || identity.user === ''}>
          Make token
        </Button>
        {made && (
          <div class="output">
            <code class="token" data-testid="token">
              {made}
            </code>
            <div class="row">
              <Copy text={made}>Copy token</Copy>
              <Button kind="quiet" onClick={() => onMade(made)}>
                Take apart
              </Button>
            </div>
          </div>
        )}
      </form>
    </Section>
  );
}

function InspectToken({ token, onToken }: { token: string; onToken: (token: string) => void }) {
  const [report, setReport] = useState<{ of: string; report: TokenReport }>();
  const task = useTask();
  const now = useNow();
  const r = report?.of === token ? report.report : undefined;
  return (
    <Section title="Take a token apart">
      <form
        class="stack"
        onSubmit={(submit) => {
          submit.preventDefault();
          task.run(async () => setReport({ of: token, report: await post<TokenReport>('tools/token/inspect', { token: token.trim().replace(/^Bearer\s+/i, '') }) }));
        }}
      >
        <Area label="Token" class="code" rows={5} value={token} onInput={onToken} placeholder="eyJ…" />
        {task.error && <Failure error={task.error} />}
        <Button kind="primary" type="submit" disabled={task.busy || token.trim() === ''}>
          Take apart
        </Button>
        {r && (
          <div class="output" data-testid="token-report">
            <p>
              <Tag kind={r.valid ? 'ok' : 'bad'}>{r.valid ? 'valid' : 'refused'}</Tag>{' '}
              {r.expires !== undefined && (r.expires > now ? `ends in ${span(r.expires - now)}` : `ended ${span(now - r.expires)} ago`)}
            </p>
            {r.reasons.length > 0 && (
              <ul>
                {r.reasons.map((reason) => (
                  <li key={reason}>{reason}</li>
                ))}
              </ul>
            )}
            <Facts
              rows={[
                ['Roles', r.roles && (r.roles.join(', ') || 'none')],
                ['Made', r.issued !== undefined && dateTime(r.issued)],
                ['Ends', r.expires !== undefined && dateTime(r.expires)],
              ]}
            />
            {r.header && <Json label="Header" value={r.header} />}
            {r.claims && <Json label="Claims" value={r.claims} />}
          </div>
        )}
      </form>
    </Section>
  );
}

function Roles() {
  const catalogue = useLoad<Catalogue>('actions');
  return <Ready of={catalogue}>{({ apps }) => <RoleMask apps={apps} />}</Ready>;
}

function RoleMask({ apps }: { apps: Catalogue['apps'] }) {
  const { query } = route.value;
  const app = apps.find((a) => a.app === (query.app ?? '')) ?? apps[0];
  const mask = query.mask ?? 'Q';
  if (!app || app.roles.length === 0) return <Empty title="The program has no roles">A router names them in its field Roles.</Empty>;
  const value = fromBase58(mask);
  const chosen = typeof value === 'bigint' ? rolesOf(app.roles, value) : { roles: [], unknown: 0 };
  return (
    <Section title="Roles and their mask">
      <div class="stack">
        <p class="dim">Role i of the app's list is bit i. Tokens carry the mask in Base58.</p>
        {apps.length > 1 && <Select label="App" value={app.app} options={apps.map((a) => [a.app, a.app || 'no name'])} onChange={(a) => setQuery({ app: a })} />}
        <Field label="Mask" value={mask} onInput={(text) => setQuery({ mask: text })} />
        {typeof value === 'string' ? (
          <p class="fault" role="alert">
            {value}
          </p>
        ) : (
          <p class="row">
            <span>
              As a number: <code>{String(value)}</code>
            </span>
            <Copy text={mask}>Copy mask</Copy>
          </p>
        )}
        {chosen.unknown > 0 && <p class="hint">{chosen.unknown} of its bits stand for no role of this app; the server ignores them.</p>}
        <fieldset class="checks">
          <legend>Roles</legend>
          {app.roles.map((role, i) => (
            <label key={role}>
              <input
                type="checkbox"
                checked={chosen.roles.includes(role)}
                onChange={(event) => setQuery({ mask: maskOf(app.roles, event.currentTarget.checked ? [...chosen.roles, role] : chosen.roles.filter((r) => r !== role)) })}
              />
              {role} <span class="dim">{base58(1n << BigInt(i))}</span>
            </label>
          ))}
        </fieldset>
      </div>
    </Section>
  );
}

function Base64() {
  const [plain, setPlain] = useState('');
  const [encoded, setEncoded] = useState('');
  const [alphabet, setAlphabet] = useState<'standard' | 'url'>('standard');
  const decoded = fromBase64(encoded);
  return (
    <div class="panes">
      <Section title="Text to Base64">
        <div class="stack">
          <Area label="Text" value={plain} onInput={setPlain} />
          <Choice label="Alphabet" value={alphabet} options={[['standard', 'Standard'], ['url', 'For URLs']]} onChange={setAlphabet} />
          {plain && (
            <div class="output">
              <code class="token">{toBase64(plain, alphabet === 'url')}</code>
              <Copy text={() => toBase64(plain, alphabet === 'url')}>Copy</Copy>
            </div>
          )}
        </div>
      </Section>
      <Section title="Base64 to text">
        <div class="stack">
          <Area label="Base64" class="code" value={encoded} onInput={setEncoded} invalid={encoded !== '' && decoded.error ? decoded.error : false} />
          {encoded && !decoded.error && (
            <div class="output">
              <p class="dim">{decoded.hex === undefined ? `${decoded.bytes} bytes of text` : `${decoded.bytes} bytes, no UTF-8: shown as hexadecimal`}</p>
              <pre tabIndex={0} aria-label="Decoded">
                {decoded.text ?? decoded.hex}
              </pre>
              <Copy text={() => decoded.text ?? decoded.hex ?? ''}>Copy</Copy>
            </div>
          )}
        </div>
      </Section>
    </div>
  );
}

function Time() {
  const { query } = route.value;
  const now = useNow();
  const text = query.at ?? '';
  const found = text ? readTime(text) : { time: now, as: 'now' };
  return (
    <Section title="Timestamps">
      <div class="stack">
        <Field label="Time" value={text} placeholder="Unix seconds, milliseconds, RFC 3339… Empty is now" onInput={(at) => setQuery({ at })} />
        {!found ? (
          <p class="fault" role="alert">
            That is no time that can be read.
          </p>
        ) : (
          <Facts
            rows={(
              [
                ['Read as', found.as],
                ['Unix seconds', String(Math.floor(found.time / 1000))],
                ['Unix milliseconds', String(Math.floor(found.time))],
                ['RFC 3339, UTC', new Date(found.time).toISOString()],
                ['Local', `${dateTime(found.time)} (${Intl.DateTimeFormat().resolvedOptions().timeZone})`],
                ['Relative', Math.abs(found.time - now) < 1000 ? 'now' : found.time > now ? `in ${span(found.time - now)}` : `${span(now - found.time)} ago`],
              ] as [string, string][]
            ).map(([name, value]) => [
              name,
              <>
                <code>{value}</code> <Copy iconOnly text={value}>{`Copy ${name}`}</Copy>
              </>,
            ])}
          />
        )}
      </div>
    </Section>
  );
}


// Who a call is made as. The last ones are remembered in this browser: names and roles, never a token.
import { useState } from 'preact/hooks';
import type { App, Identity } from '../api.ts';
import { Button, Choice, Field } from './ui.tsx';

const storageKey = 'mooncore.identities';
const remembered = 8;

function load(): Identity[] {
  try {
    const list: unknown = JSON.parse(localStorage.getItem(storageKey) ?? '[]');
    return Array.isArray(list) ? list.filter((id): id is Identity => typeof id?.user === 'string') : [];
  } catch {
    return [];
  }
}

/** Puts an identity first in the list. */
export function remember(id: Identity | null): void {
  if (!id || id.user === '') return;
  const key = name(id);
  const list = [id, ...load().filter((other) => name(other) !== key)].slice(0, remembered);
  localStorage.setItem(storageKey, JSON.stringify(list));
}

/** Such as "ann @acme, admin". */
export function name(id: Identity | null): string {
  if (!id) return 'anonymous';
  const where = id.tenant ? ` @${id.tenant}` : '';
  const scope = id.scope && id.scope !== 'default' ? `:${id.scope}` : '';
  return `${id.user}${where}${scope}${id.roles?.length ? `, ${id.roles.join(' ')}` : ''}`;
}

export function toQuery(id: Identity | null): Record<string, string | undefined> {
  return { as: id?.user, tenant: id?.tenant, scope: id?.scope, roles: id?.roles?.join(',') };
}

export function fromQuery(query: Record<string, string>, app: string): Identity | null {
  if (query.as === undefined) return null;
  return {
    user: query.as,
    app,
    tenant: query.tenant ?? '',
    scope: query.scope ?? '',
    roles: query.roles ? query.roles.split(',') : [],
  };
}

export function IdentityForm({ app, value, onChange, noAnonymous }: { app: App; value: Identity | null; onChange: (id: Identity | null) => void; noAnonymous?: boolean }) {
  const [recent] = useState(() => load().filter((id) => (id.app ?? '') === app.app));
  const id = value ?? { user: '', app: app.app, tenant: '', scope: '', roles: [] };
  const set = (change: Partial<Identity>) => onChange({ ...id, app: app.app, ...change });
  const known = [...app.roles, ...(id.roles ?? []).filter((role) => !app.roles.includes(role))];
  return (
    <div class="identity">
      {!noAnonymous && (
        <Choice
          label="Who calls"
          value={value ? 'user' : 'anonymous'}
          options={[
            ['anonymous', 'Anonymous'],
            ['user', 'As a user'],
          ]}
          onChange={(kind) => onChange(kind === 'anonymous' ? null : (recent[0] ?? { ...id, user: 'dev' }))}
        />
      )}
      {(value || noAnonymous) && (
        <>
          {recent.length > 1 && (
            <div class="row tight wrap" role="group" aria-label="Used before">
              {recent.map((other) => (
                <Button key={name(other)} kind="quiet" onClick={() => onChange(other)}>
                  {name(other)}
                </Button>
              ))}
            </div>
          )}
          <div class="columns">
            <Field label="User" value={id.user} onInput={(user) => set({ user })} />
            <Field label="Tenant" value={id.tenant ?? ''} placeholder="none" onInput={(tenant) => set({ tenant })} />
            <Field label="Scope" value={id.scope ?? ''} placeholder="default" onInput={(scope) => set({ scope })} />
          </div>
          {known.length > 0 && (
            <fieldset class="checks">
              <legend>Roles</legend>
              {known.map((role) => (
                <label key={role}>
                  <input
                    type="checkbox"
                    checked={id.roles?.includes(role) ?? false}
                    onChange={(event) => set({ roles: known.filter((r) => (r === role ? event.currentTarget.checked : id.roles?.includes(r))) })}
                  />
                  {role}
                </label>
              ))}
            </fieldset>
          )}
        </>
      )}
    </div>
  );
}

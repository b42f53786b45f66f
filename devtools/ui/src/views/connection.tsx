// One connection: what it is, its frames both ways as they come, and what one can do to it.
import { useState } from 'preact/hooks';
import type { ConnDetail, Frame } from '../api.ts';
import { ApiError } from '../api.ts';
import { post } from '../client.ts';
import { useEscape } from '../keys.ts';
import { bytes, clock, count, dateTime, ms, span } from '../lib/format.ts';
import { useLoad, useThrottled } from '../load.ts';
import { Json } from '../parts/json.tsx';
import { Area, Button, Choice, Confirm, Copy, Empty, Facts, Failure, Field, Ready, Section, Tag, announce, useNow, useTask } from '../parts/ui.tsx';
import { link, route, setQuery } from '../router.ts';
import { liveTopics, useStream, useTopic } from '../stream.ts';
import { jsonFault } from './connections.tsx';

type Tab = 'details' | 'frames' | 'do';

export function Connection({ id, onClose }: { id: string; onClose: () => void }) {
  const conn = useLoad<ConnDetail>(`conns/${encodeURIComponent(id)}`);
  const again = useThrottled(conn.reload, 500);
  const [gone, setGone] = useState<{ code: number; reason: string }>();
  const [kicking, setKicking] = useState(false);
  const task = useTask();
  const tab = (route.value.query.tab as Tab) || 'details';
  useStream('conns', ({ closed, changed }) => {
    const mine = closed?.find((c) => c.id === id);
    if (mine) setGone({ code: mine.code, reason: mine.reason });
    else if (changed?.some((c) => c.id === id)) again();
  });
  useEscape(onClose);
  const missing = gone !== undefined || (conn.error instanceof ApiError && conn.error.status === 404);

  return (
    <article class="detail" aria-label="Connection">
      <header class="detail-head">
        <h2>{conn.data ? conn.data.user || 'anonymous' : 'Connection'}</h2>
        {missing && <Tag kind="bad">closed{gone ? ` ${gone.code}` : ''}</Tag>}
        <Choice<Tab>
          label="Show"
          value={tab}
          options={[
            ['details', 'Details'],
            ['frames', 'Frames'],
            ['do', 'Act'],
          ]}
          onChange={(t) => setQuery({ tab: t === 'details' ? undefined : t })}
        />
        <Button kind="danger" disabled={missing || task.busy} onClick={() => setKicking(true)}>
          Kick
        </Button>
        <Button kind="quiet" icon="close" iconOnly class="detail-close" onClick={onClose}>
          Close
        </Button>
      </header>
      {task.error && <Failure error={task.error} />}
      {gone?.reason && <p class="note">Reason: {gone.reason}</p>}
      {missing && !conn.data ? (
        <Empty title="This connection is gone">
          <a href={link(['connections'])}>All connections</a>
        </Empty>
      ) : tab === 'frames' ? (
        <Frames id={id} live={!missing} />
      ) : (
        <Ready of={conn}>{(c) => (tab === 'do' ? <Act conn={c} gone={missing} onChannels={(channels) => conn.set((old) => ({ ...old, channels }))} /> : <Details conn={c} />)}</Ready>
      )}
      {kicking && (
        <Confirm
          title="Kick this connection?"
          text="The server closes it. Most clients connect again by themselves."
          action="Kick"
          onNo={() => setKicking(false)}
          onYes={() => {
            setKicking(false);
            task.run(async () => {
              await post(`conns/${encodeURIComponent(id)}/kick`);
              announce('Kicked');
            });
          }}
        />
      )}
    </article>
  );
}

function Details({ conn: c }: { conn: ConnDetail }) {
  const now = useNow();
  return (
    <>
      <Facts
        rows={[
          ['Id', <><code>{c.id}</code> <Copy iconOnly text={c.id}>Copy id</Copy></>],
          ['User', c.user || 'anonymous'],
          ['App', c.app],
          ['Tenant', c.tenant || 'none'],
          ['Scope', c.scope],
          ['Roles', c.roles.join(', ') || 'none'],
          ['Pool', c.pool],
          ['Address', c.addr],
          ['Program', c.user_agent],
          ['Open for', `${span(now - c.since)}, since ${dateTime(c.since)}`],
          ['Token ends', c.expires ? (c.expires > now ? `in ${span(c.expires - now)}` : 'ended') : 'never'],
          ['Queue', bytes(c.queued_bytes)],
          ['Round trip', ms(c.rtt_ms)],
          ['Received', c.frames_in !== undefined && `${count(c.frames_in)} frames${c.bytes_in === undefined ? '' : `, ${bytes(c.bytes_in)}`}`],
          ['Sent', c.frames_out !== undefined && `${count(c.frames_out)} frames${c.bytes_out === undefined ? '' : `, ${bytes(c.bytes_out)}`}`],
          ['Calls', <a href={link(['log'], { conn: c.id })}>in the log</a>],
        ]}
      />
      <Section title="Channels">
        {c.channels.length === 0 ? (
          <p class="dim">It is in no channel.</p>
        ) : (
          <ul class="chips">
            {c.channels.map((name) => (
              <li key={name}>
                <a href={link(['connections'], { pool: c.pool, tenant: c.tenant || '-', channel: name })}>{name}</a>
              </li>
            ))}
          </ul>
        )}
      </Section>
      {c.claims && (
        <Section title="Claims">
          <Json label="Claims" value={c.claims} />
        </Section>
      )}
    </>
  );
}

const maxFrames = 1000;
const maxShown = 300;

function Frames({ id, live }: { id: string; live: boolean }) {
  const frames = useLoad<{ frames: Frame[] }>(`conns/${encodeURIComponent(id)}/frames`);
  const [text, setText] = useState('');
  const [dir, setDir] = useState<'' | 'in' | 'out'>('');
  const [dropped, setDropped] = useState(0);
  useTopic(live ? `frames:${id}` : undefined);
  useStream('frames', (event) => {
    if (event.conn !== id) return;
    if (event.dropped) setDropped((n) => n + event.dropped!);
    frames.set((old) => {
      const last = old.frames.at(-1)?.seq ?? 0;
      return { frames: [...old.frames, ...event.frames.filter((f) => f.seq > last)].slice(-maxFrames) };
    });
  });
  const wanted = text.toLowerCase();
  const watching = liveTopics.value.includes(`frames:${id}`);
  return (
    <>
      <div class="filters">
        <Field label="Filter frames" hideLabel type="search" placeholder="Text in frames" value={text} onInput={setText} />
        <Choice label="Direction" value={dir} options={[['', 'Both'], ['in', 'Received'], ['out', 'Sent']]} onChange={setDir} />
      </div>
      {dropped > 0 && <p class="note">{count(dropped)} frames were left out: there were too many to show.</p>}
      <Ready of={frames}>
        {({ frames: all }) => {
          const found = all.filter((f) => (!dir || f.dir === dir) && f.data.toLowerCase().includes(wanted)).reverse();
          if (found.length === 0) return <Empty title={all.length ? 'No frame matches' : 'No frame yet'}>{live && (watching ? 'Frames are recorded from now on. They appear here as they come and go, the newest first.' : 'Connecting…')}</Empty>;
          return (
            <ol class="frames" aria-label="Frames, the newest first" data-testid="frames">
              {found.slice(0, maxShown).map((f) => (
                <FrameRow key={f.seq} frame={f} />
              ))}
              {found.length > maxShown && <li class="hint">The newest {maxShown} are shown.</li>}
            </ol>
          );
        }}
      </Ready>
    </>
  );
}

function FrameRow({ frame: f }: { frame: Frame }) {
  const [open, setOpen] = useState(false);
  let value: unknown = f.data;
  if (open && !f.binary && !f.cut) {
    try {
      value = JSON.parse(f.data);
    } catch {
      // "ping" and other words
    }
  }
  return (
    <li class={`frame ${f.dir}`}>
      <button type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span class="frame-dir">{f.dir === 'in' ? '↑ received' : '↓ sent'}</span>
        <time>{clock(f.time)}</time>
        <span class="dim">
          {bytes(f.size_bytes)}
          {f.binary && ', binary'}
        </span>
        {!open && <code>{f.data.slice(0, 300)}</code>}
      </button>
      {open && <Json label="Frame" value={value} />}
      {open && f.cut && <p class="hint">It was longer than what is kept, and was cut.</p>}
    </li>
  );
}

function Act({ conn, gone, onChannels }: { conn: ConnDetail; gone: boolean; onChannels: (channels: string[]) => void }) {
  const [event, setEvent] = useState('');
  const [payload, setPayload] = useState('{}');
  const [channel, setChannel] = useState('');
  const [said, setSaid] = useState('');
  const send = useTask();
  const move = useTask();
  const at = `conns/${encodeURIComponent(conn.id)}`;
  const join = (verb: 'join' | 'leave', name: string) =>
    move.run(async () => {
      const got = await post<{ channels: string[] }>(`${at}/${verb}`, { channel: name });
      onChannels(got.channels);
      setChannel('');
    });
  return (
    <>
      <Section title="Send an event">
        <form
          class="stack"
          onSubmit={(submit) => {
            submit.preventDefault();
            setSaid('');
            send.run(async () => {
              await post(`${at}/send`, { event, payload: JSON.parse(payload) });
              setSaid('Sent.');
            });
          }}
        >
          <Field label="Event" value={event} placeholder="such as message" onInput={setEvent} />
          <Area label="Payload" class="code" rows={5} value={payload} onInput={setPayload} invalid={jsonFault(payload)} />
          {send.error && <Failure error={send.error} />}
          <div class="row">
            <Button kind="primary" type="submit" disabled={gone || send.busy || event === '' || jsonFault(payload) !== false}>
              Send
            </Button>
            {said && <span role="status">{said}</span>}
          </div>
        </form>
      </Section>
      <Section title="Channels">
        <form
          class="row tight"
          onSubmit={(submit) => {
            submit.preventDefault();
            join('join', channel);
          }}
        >
          <Field label="Channel to join" hideLabel placeholder="channel" value={channel} onInput={setChannel} />
          <Button type="submit" disabled={gone || move.busy || channel === ''}>
            Join
          </Button>
        </form>
        {move.error && <Failure error={move.error} />}
        <ul class="chips">
          {conn.channels.map((name) => (
            <li key={name}>
              {name}
              {!name.startsWith('@') && (
                <Button kind="quiet" icon="close" iconOnly disabled={gone || move.busy} onClick={() => join('leave', name.replace(/:[^:]*$/, ''))}>{`Leave ${name}`}</Button>
              )}
            </li>
          ))}
        </ul>
      </Section>
    </>
  );
}

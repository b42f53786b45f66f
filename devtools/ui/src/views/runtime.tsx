// Goroutines by stack, profiles to download, and where the memory is.
import { useState } from 'preact/hooks';
import type { Goroutines, Memory } from '../api.ts';
import { post } from '../client.ts';
import { bytes, count, dateTime, plural } from '../lib/format.ts';
import { useLoad } from '../load.ts';
import { Button, Copy, Empty, Facts, Failure, Field, Ready, Section, Select, Tabs, Tag, announce, useTask } from '../parts/ui.tsx';
import { Icon } from '../parts/icon.tsx';
import { link, route, setQuery } from '../router.ts';

export function Runtime() {
  const tab = route.value.path[1] ?? 'goroutines';
  return (
    <>
      <Tabs
        label="Runtime"
        tabs={[
          { text: 'Goroutines', href: link(['runtime']), current: tab === 'goroutines' },
          { text: 'Profiles', href: link(['runtime', 'profiles']), current: tab === 'profiles' },
          { text: 'Memory', href: link(['runtime', 'memory']), current: tab === 'memory' },
        ]}
      />
      {tab === 'goroutines' ? <Stacks /> : tab === 'profiles' ? <Profiles /> : tab === 'memory' ? <MemoryTab /> : <Empty title="There is no such tab" />}
    </>
  );
}

type Group = Goroutines['groups'][number];

function Stacks() {
  const { query } = route.value;
  const stacks = useLoad<Goroutines>('runtime/goroutines');
  const text = (query.text ?? '').toLowerCase();
  return (
    <>
      <div class="filters">
        <Field label="Filter goroutines" hideLabel type="search" data-keys="filter" placeholder="Function, file or state" value={query.text ?? ''} onInput={(v) => setQuery({ text: v })} />
        <Button icon="again" disabled={stacks.loading} onClick={stacks.reload}>
          Take again
        </Button>
      </div>
      <Ready of={stacks}>
        {(data) => {
          const found = data.groups.filter((g) => !text || [g.state ?? '', ...g.frames.flatMap((f) => [f.func, f.file])].some((part) => part.toLowerCase().includes(text)));
          return (
            <>
              <p class="dim">
                {plural(data.total, 'goroutine')} in {plural(data.groups.length, 'group')} of the same stack
                {text && `; ${plural(found.reduce((n, g) => n + g.count, 0), 'goroutine')} match`}
              </p>
              {found.length === 0 && <Empty title="No goroutine matches" />}
              <ol class="stacks">
                {found.map((g, i) => (
                  <Stack key={`${g.frames[0]?.func}${g.state}${i}`} group={g} share={g.count / data.total} />
                ))}
              </ol>
            </>
          );
        }}
      </Ready>
    </>
  );
}

/** The frame that says most: the first outside the runtime and what merely waits. */
function telling(g: Group) {
  return g.frames.find((f) => !/^(runtime|sync|syscall|time|net|bufio|io|crypto|internal)(\/\w+)*\./.test(f.func)) ?? g.frames[0];
}

function Stack({ group: g, share }: { group: Group; share: number }) {
  const top = telling(g);
  const text = () => [...g.frames, ...(g.created_by ? [{ ...g.created_by, func: `created by ${g.created_by.func}` }] : [])].map((f) => `${f.func}\n\t${f.file}:${f.line}`).join('\n');
  return (
    <li>
      <details>
        <summary>
          <span class="stack-count">{count(g.count)}</span>
          <span class="stack-bar" aria-hidden="true">
            <i style={{ width: `${Math.max(1, share * 100)}%` }} />
          </span>
          <code class="stack-top">{top?.func ?? 'unknown'}</code>
          <span class="row tight">
            {(g.wait_minutes ?? 0) > 0 && (
              <Tag kind="warn" title="The longest wait">
                {g.wait_minutes} min
              </Tag>
            )}
            {g.state && <Tag>{g.state}</Tag>}
          </span>
        </summary>
        <div class="stack-frames">
          <Copy text={text}>Copy stack</Copy>
          <ol>
            {g.frames.map((f, i) => (
              <li key={i}>
                <code>{f.func}</code>
                <span class="dim">
                  {f.file}:{f.line}
                </span>
              </li>
            ))}
            {g.created_by && (
              <li>
                <span>
                  created by <code>{g.created_by.func}</code>
                </span>
                <span class="dim">
                  {g.created_by.file}:{g.created_by.line}
                </span>
              </li>
            )}
          </ol>
        </div>
      </details>
    </li>
  );
}

const profiles: { name: string; title: string; text: string; timed?: boolean; ext: string }[] = [
  { name: 'cpu', title: 'CPU', text: 'Where the time goes, sampled 100 times a second.', timed: true, ext: 'pprof' },
  { name: 'trace', title: 'Execution trace', text: 'Everything the scheduler does. Read it with go tool trace.', timed: true, ext: 'trace' },
  { name: 'heap', title: 'Heap', text: 'What lives now, and what was allocated since start.', ext: 'pprof' },
  { name: 'allocs', title: 'Allocations', text: 'The same samples, shown by what was allocated.', ext: 'pprof' },
  { name: 'goroutine', title: 'Goroutines', text: 'The stacks of all of them.', ext: 'pprof' },
  { name: 'block', title: 'Blocking', text: 'Where goroutines wait. Empty unless the program calls runtime.SetBlockProfileRate.', ext: 'pprof' },
  { name: 'mutex', title: 'Mutexes', text: 'Who holds contended locks. Empty unless the program calls runtime.SetMutexProfileFraction.', ext: 'pprof' },
  { name: 'threadcreate', title: 'Threads', text: 'What made new threads of the system.', ext: 'pprof' },
];

function Profiles() {
  const [seconds, setSeconds] = useState('5');
  return (
    <>
      <p class="dim">
        Read a profile with <code>go tool pprof -http=: file.pprof</code>.
      </p>
      <div class="row">
        <Select label="Seconds, for CPU and trace" value={seconds} options={['1', '5', '10', '30', '60'].map((s) => [s, s])} onChange={setSeconds} />
      </div>
      <ul class="cards">
        {profiles.map((p) => (
          <li key={p.name}>
            <h2>{p.title}</h2>
            <p>{p.text}</p>
            <a class="button plain" href={`api/runtime/profile/${p.name}${p.timed ? `?seconds=${seconds}` : ''}`} download={`${p.name}.${p.ext}`}>
              <Icon name="download" />
              Download
              {p.timed && ` after ${seconds} s`}
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}

function MemoryTab() {
  const memory = useLoad<Memory>('runtime/memory');
  const task = useTask();
  return (
    <>
      <div class="row">
        <Button icon="again" disabled={memory.loading} onClick={memory.reload}>
          Take again
        </Button>
        <Button
          disabled={task.busy}
          onClick={() =>
            task.run(async () => {
              await post('runtime/gc');
              announce('Garbage was collected');
              memory.reload();
            })
          }
        >
          Collect garbage
        </Button>
      </div>
      {task.error && <Failure error={task.error} />}
      <Ready of={memory}>
        {(m) => {
          const total = m.classes.reduce((n, c) => n + c.bytes, 0) || 1;
          return (
            <>
              <Facts
                rows={[
                  ['In all', bytes(total)],
                  ['Collections', `${count(m.gc_cycles)}${m.last_gc ? `, last at ${dateTime(m.last_gc)}` : ''}`],
                  ['GOGC', m.gogc < 0 ? 'off' : String(m.gogc)],
                  ['GOMEMLIMIT', m.memory_limit_bytes < 0 ? 'none' : bytes(m.memory_limit_bytes)],
                ]}
              />
              <Section title="What it is">
                <ul class="bars">
                  {[...m.classes]
                    .sort((a, b) => b.bytes - a.bytes)
                    .map((c) => (
                      <li key={c.name}>
                        <span class="bar-name">
                          <code>{c.name.replace(/^\/memory\/classes\//, '').replace(/:bytes$/, '')}</code>
                          <span class="hint">{c.description}</span>
                        </span>
                        <span class="bar-value">{bytes(c.bytes)}</span>
                        <span class="bar" aria-hidden="true">
                          <i style={{ width: `${(c.bytes / total) * 100}%` }} />
                        </span>
                      </li>
                    ))}
                </ul>
              </Section>
            </>
          );
        }}
      </Ready>
    </>
  );
}

// The program's Markdown files. A guide is data: elements are made from it, no HTML is taken over.
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { Block, Catalogue, Guide, GuideEntry, Inline, RunResult } from '../api.ts';
import { postText } from '../client.ts';
import { callIn, guideLink } from '../lib/guides.ts';
import { useLoad } from '../load.ts';
import { IdentityForm, fromQuery, toQuery } from '../parts/identity.tsx';
import { Button, Copy, Empty, Failure, Field, Ready, useTask } from '../parts/ui.tsx';
import { link, route, setQuery } from '../router.ts';
import { Result, runBody } from './run.tsx';

export function Guides() {
  const { path, query } = route.value;
  const guides = useLoad<{ guides: GuideEntry[] }>('guides');
  const open = path.slice(1).join('/');
  const text = (query.text ?? '').toLowerCase();
  return (
    <Ready of={guides}>
      {({ guides: all }) => {
        if (all.length === 0) return <Empty title="There is no guide yet">Put Markdown files into the directory that the program names for its guides.</Empty>;
        const found = all.filter((g) => g.title.toLowerCase().includes(text) || g.path.toLowerCase().includes(text));
        const shown = open || all[0]!.path;
        return (
          <div class={`guides ${open ? 'with-detail' : ''}`}>
            <nav class="guide-list" aria-label="Guides">
              <Field label="Filter guides" hideLabel type="search" data-keys="filter" placeholder="Filter guides" value={query.text ?? ''} onInput={(v) => setQuery({ text: v })} />
              <ul class="items">
                {found.map((g) => (
                  <li key={g.path}>
                    <a href={link(['guides', ...g.path.split('/')], { text: query.text })} aria-current={g.path === shown ? 'page' : undefined}>
                      <span class="item-name">{g.title}</span>
                      <span class="item-text">{g.path}</span>
                    </a>
                  </li>
                ))}
              </ul>
            </nav>
            <GuideText key={shown} path={shown} />
          </div>
        );
      }}
    </Ready>
  );
}

const encodePath = (path: string) => path.split('/').map(encodeURIComponent).join('/');

function GuideText({ path }: { path: string }) {
  const guide = useLoad<Guide>(`guides/${encodePath(path)}`);
  const { at } = route.value.query;
  const there = guide.data !== undefined;
  useEffect(() => {
    if (there && at) document.getElementById(`guide-${at}`)?.scrollIntoView();
  }, [there, at]);
  return <Ready of={guide}>{(g) => <article class="guide">{blocks(g.blocks, path)}</article>}</Ready>;
}

function blocks(list: Block[], path: string): ComponentChildren {
  return list.map((block, i) => <BlockView key={i} block={block} path={path} />);
}

function BlockView({ block: b, path }: { block: Block; path: string }) {
  switch (b.type) {
    case 'heading': {
      const H = `h${Math.min(6, b.level + 1)}` as 'h2'; // the page's own title is the h1
      return <H id={`guide-${b.id}`}>{inlines(b.content, path)}</H>;
    }
    case 'paragraph':
      return <p>{inlines(b.content, path)}</p>;
    case 'code':
      return <CodeBlock lang={b.lang} text={b.text} />;
    case 'quote':
      return <blockquote>{blocks(b.blocks, path)}</blockquote>;
    case 'list': {
      const items = b.items.map((item, i) => (
        <li key={i} class={item.checked === undefined ? undefined : 'task'}>
          {item.checked !== undefined && <input type="checkbox" checked={item.checked} disabled aria-label={item.checked ? 'done' : 'to do'} />}
          {blocks(item.blocks, path)}
        </li>
      ));
      return b.ordered ? <ol start={b.start ?? 1}>{items}</ol> : <ul>{items}</ul>;
    }
    case 'table': {
      const align = (i: number) => ({ textAlign: b.align[i] || undefined });
      return (
        <div class="table-box" tabIndex={0} role="region" aria-label="Table">
          <table>
            <thead>
              <tr>
                {b.head.map((cell, i) => (
                  <th key={i} scope="col" style={align(i)}>
                    {inlines(cell, path)}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {b.rows.map((row, r) => (
                <tr key={r}>
                  {row.map((cell, i) => (
                    <td key={i} style={align(i)}>
                      {inlines(cell, path)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      );
    }
    case 'rule':
      return <hr />;
  }
}

function inlines(list: Inline[], path: string): ComponentChildren {
  return list.map((part, i) => <InlineView key={i} part={part} path={path} />);
}

function InlineView({ part, path }: { part: Inline; path: string }) {
  if (typeof part === 'string') return <>{part}</>;
  switch (part.type) {
    case 'emphasis':
      return <em>{inlines(part.content, path)}</em>;
    case 'strong':
      return <strong>{inlines(part.content, path)}</strong>;
    case 'strike':
      return <del>{inlines(part.content, path)}</del>;
    case 'code':
      return <code>{part.text}</code>;
    case 'break':
      return <br />;
    case 'image': {
      const to = guideLink(path, part.src);
      return to?.path ? <img src={`api/guides/${encodePath(to.path)}`} alt={part.alt} loading="lazy" /> : <span class="dim">{part.alt}</span>;
    }
    case 'link': {
      const to = guideLink(path, part.href);
      if (!to) return <>{inlines(part.content, path)}</>;
      if (to.outside) {
        return (
          <a href={to.outside} target="_blank" rel="noopener noreferrer">
            {inlines(part.content, path)}
          </a>
        );
      }
      return <a href={link(['guides', ...to.path!.split('/')], { at: to.id })}>{inlines(part.content, path)}</a>;
    }
  }
}

function CodeBlock({ lang, text }: { lang: string; text: string }) {
  const call = callIn(lang, text);
  return (
    <figure class="code-block">
      <figcaption>
        <span class="dim">{lang || 'text'}</span>
        <Copy text={text}>Copy</Copy>
      </figcaption>
      <pre tabIndex={0} aria-label={`${lang || 'text'} block`}>
        <code>{text}</code>
      </pre>
      {call && <RunBlock action={call} text={text} />}
    </figure>
  );
}

/** A JSON block with an "action" can be run where it stands. */
function RunBlock({ action, text }: { action: string; text: string }) {
  const { query } = route.value;
  const catalogue = useLoad<Catalogue>('actions');
  const [result, setResult] = useState<RunResult>();
  const [choosing, setChoosing] = useState(false);
  const task = useTask();
  const app = catalogue.data?.apps.find((a) => a.actions.some((known) => known.name === action)) ?? catalogue.data?.apps[0];
  if (!app) return null;
  const identity = fromQuery(query, app.app);
  return (
    <div class="run-block">
      <div class="row wrap">
        <Button icon="play" disabled={task.busy} onClick={() => task.run(async () => setResult(await postText<RunResult>('run', runBody(app.app, action, text, 'http', identity))))}>
          Run
        </Button>
        <Button kind="quiet" aria-expanded={choosing} onClick={() => setChoosing(!choosing)}>
          as {identity ? identity.user : 'anonymous'}
        </Button>
        <a href={link(['actions', app.app, action], { ...toQuery(identity), params: text })}>Open the action</a>
      </div>
      {choosing && <IdentityForm app={app} value={identity} onChange={(id) => setQuery(toQuery(id))} />}
      {task.error && <Failure error={task.error} />}
      {result && <Result result={result} />}
    </div>
  );
}

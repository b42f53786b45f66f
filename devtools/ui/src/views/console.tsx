// Questions about the live program, in a small language that can only read.
import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ConsoleHelp, ConsoleResult } from '../api.ts';
import { ApiError } from '../api.ts';
import { post } from '../client.ts';
import { ms } from '../lib/format.ts';
import { useLoad } from '../load.ts';
import { Json } from '../parts/json.tsx';
import { Button, Empty, Failure, Ready, Section, Tag, useTask } from '../parts/ui.tsx';
import { route, setQuery } from '../router.ts';

interface Answer {
  expr: string;
  result?: ConsoleResult;
  error?: Error;
}

/** What was asked since the page was opened, the newest last. */
const answers = signal<Answer[]>([]);
const maxAnswers = 50;

export function Console() {
  const help = useLoad<ConsoleHelp>('console');
  const [expr, setExpr] = useState(route.value.query.expr ?? '');
  const [back, setBack] = useState(0); // how far back in what was asked
  const input = useRef<HTMLTextAreaElement>(null);
  const end = useRef<HTMLDivElement>(null);
  const task = useTask();

  const ask = (text: string) =>
    task.run(async () => {
      const clean = text.trim();
      if (clean === '') return;
      let answer: Answer;
      try {
        answer = { expr: clean, result: await post<ConsoleResult>('console', { expr: clean }) };
      } catch (error) {
        answer = { expr: clean, error: error as Error };
      }
      answers.value = [...answers.value, answer].slice(-maxAnswers);
      setBack(0);
      setQuery({ expr: clean.length < 1000 ? clean : undefined });
      if (answer.result) setExpr('');
      input.current?.focus();
    });

  useEffect(() => end.current?.scrollIntoView({ block: 'nearest' }), [answers.value]);

  const earlier = (step: number) => {
    const to = Math.max(0, Math.min(answers.value.length, back + step));
    setBack(to);
    setExpr(to === 0 ? '' : answers.value[answers.value.length - to]!.expr);
  };

  return (
    <div class="console">
      <div class="console-main">
        <div class="console-answers" role="log" aria-label="Answers" tabIndex={0}>
          {answers.value.length === 0 && (
            <Empty title="Ask about the running program">
              Try <button type="button" class="button quiet link" onClick={() => ask('len(conns)')}>len(conns)</button>, or an example from the list. Expressions only read; nothing
              in the program changes.
            </Empty>
          )}
          {answers.value.map((a, i) => (
            <section key={i} class="answer" aria-label={a.expr}>
              <header>
                <code>{a.expr}</code>
                <Button kind="quiet" onClick={() => { setExpr(a.expr); input.current?.focus(); }}>
                  Edit
                </Button>
              </header>
              {a.error && (a.error instanceof ApiError && a.error.status === 400 ? <pre class="fault" tabIndex={0} aria-label="Error">{a.error.message}</pre> : <Failure error={a.error} />)}
              {a.result && (
                <>
                  <Json label="Value" value={a.result.value} />
                  <p class="dim">
                    {a.result.type}, {ms(a.result.duration_ms)} {a.result.cut && <Tag kind="warn">cut: the value is longer</Tag>}
                  </p>
                </>
              )}
            </section>
          ))}
          <div ref={end} />
        </div>
        <form
          class="console-input"
          onSubmit={(event) => {
            event.preventDefault();
            ask(expr);
          }}
        >
          <textarea
            ref={input}
            class="code"
            aria-label="Expression"
            data-keys="filter"
            rows={Math.min(8, expr.split('\n').length)}
            spellcheck={false}
            placeholder="Expression. Enter asks, Shift Enter is a new line, ↑ is the one before"
            value={expr}
            onInput={(event) => setExpr(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key === 'Enter' && !event.shiftKey) {
                event.preventDefault();
                ask(expr);
              } else if (event.key === 'ArrowUp' && !expr.slice(0, event.currentTarget.selectionStart).includes('\n')) {
                event.preventDefault();
                earlier(1);
              } else if (event.key === 'ArrowDown' && back > 0 && !expr.includes('\n')) {
                event.preventDefault();
                earlier(-1);
              }
            }}
          />
          <Button kind="primary" type="submit" disabled={task.busy || expr.trim() === ''}>
            {task.busy ? 'Asking…' : 'Ask'}
          </Button>
        </form>
      </div>
      <aside class="console-help" aria-label="Help" tabIndex={0}>
        <Ready of={help}>
          {(h) => (
            <>
              <Section title="Examples">
                <ul class="examples">
                  {h.examples.map((e) => (
                    <li key={e.expr}>
                      <button type="button" onClick={() => ask(e.expr)}>
                        <code>{e.expr}</code>
                      </button>
                      <span class="hint">{e.description}</span>
                    </li>
                  ))}
                </ul>
              </Section>
              {h.variables.length > 0 && (
                <Section title="Values">
                  <dl class="help-list">
                    {h.variables.map((v) => (
                      <div key={v.name}>
                        <dt>
                          <code>{v.name}</code> <span class="dim">{v.type}</span>
                        </dt>
                        <dd>{v.description}</dd>
                      </div>
                    ))}
                  </dl>
                </Section>
              )}
              {h.functions.length > 0 && (
                <Section title="Functions">
                  <dl class="help-list">
                    {h.functions.map((f) => (
                      <div key={f.signature}>
                        <dt>
                          <code>{f.signature}</code>
                        </dt>
                        <dd>{f.description}</dd>
                      </div>
                    ))}
                  </dl>
                </Section>
              )}
              <p class="dim">An expression may take {ms(h.timeout_ms)}. The language is Expr.</p>
            </>
          )}
        </Ready>
      </aside>
    </div>
  );
}

// What production would refuse, or regret.
import type { Doctor as Report, Finding } from '../api.ts';
import { plural } from '../lib/format.ts';
import { useLoad } from '../load.ts';
import { Button, Empty, Ready, Tag } from '../parts/ui.tsx';

const order: Finding['severity'][] = ['fatal', 'warning', 'info'];
const names: Record<Finding['severity'], [string, 'bad' | 'warn' | undefined]> = {
  fatal: ['does not start', 'bad'],
  warning: ['risk', 'warn'],
  info: ['worth knowing', undefined],
};

export function Doctor() {
  const report = useLoad<Report>('doctor');
  return (
    <Ready of={report}>
      {(r) => {
        const findings = [...r.findings].sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
        const fatal = findings.filter((f) => f.severity === 'fatal').length;
        return (
          <>
            <div class="row spread wrap">
              <p class="lead">
                {findings.length === 0
                  ? 'Ready for production, as far as can be seen from here.'
                  : fatal > 0
                    ? `With this configuration, production would not start: ${plural(fatal, 'fault')}.`
                    : `Production would start, with ${plural(findings.length, 'thing')} to look at.`}
              </p>
              <Button icon="again" disabled={report.loading} onClick={report.reload}>
                Check again
              </Button>
            </div>
            <p class="dim">This is what the check at start says in production. The program runs in {r.environment} now.</p>
            {findings.length === 0 && <Empty title="Nothing found" />}
            <ol class="findings">
              {findings.map((f) => (
                <li key={f.id} class={f.severity}>
                  <header>
                    <Tag kind={names[f.severity][1]}>{names[f.severity][0]}</Tag>
                    <h2>{f.what}</h2>
                    <code class="dim">{f.id}</code>
                  </header>
                  <dl>
                    <dt>Why</dt>
                    <dd>{f.why}</dd>
                    <dt>Fix</dt>
                    <dd>{f.fix}</dd>
                  </dl>
                </li>
              ))}
            </ol>
            {(r.passed?.length ?? 0) > 0 && (
              <details class="fold">
                <summary>{plural(r.passed!.length, 'check')} passed</summary>
                <ul>
                  {r.passed!.map((p) => (
                    <li key={p.id}>{p.what}</li>
                  ))}
                </ul>
              </details>
            )}
          </>
        );
      }}
    </Ready>
  );
}

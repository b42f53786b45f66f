import { useRef, useState } from 'preact/hooks';
import { ApiError } from '../api.ts';
import { logIn, loginHint } from '../client.ts';
import { Button, Failure, useTask } from '../parts/ui.tsx';

export function Login() {
  const [secret, setSecret] = useState('');
  const field = useRef<HTMLInputElement>(null);
  const task = useTask();
  const expired = new URLSearchParams(location.search).get('login') === 'expired';
  const byLink = loginHint.value === 'link';

  const submit = (event: Event) => {
    event.preventDefault();
    task.run(async () => {
      try {
        await logIn(secret);
        if (location.search) history.replaceState(null, '', location.pathname + location.hash);
      } catch (err) {
        field.current?.select();
        throw err;
      }
    });
  };

  const error = task.error;
  const wait = error instanceof ApiError && error.status === 429 ? (error.retryAfterSeconds ?? 60) : undefined;
  return (
    <main class="lone">
      <form class="login" onSubmit={submit}>
        <img src="icon.svg" alt="" width="48" height="48" />
        <h1>Developer tools</h1>
        {expired && (
          <p class="note" role="status">
            That link was used already, or is too old. Take a new one from the program's log.
          </p>
        )}
        <p class="dim">
          {byLink
            ? 'The program printed a link to its log when it started. Open it, or paste the token at its end here.'
            : 'The secret is the value of MOONCORE_DEV_SECRET where the program runs. Without that variable, the program prints a link to its log.'}
        </p>
        <label class="field">
          <span class="field-label">{byLink ? 'Token' : 'Secret'}</span>
          <input
            ref={field}
            type="password"
            name="secret"
            autocomplete="current-password"
            autoFocus
            required
            value={secret}
            onInput={(event) => setSecret(event.currentTarget.value)}
          />
        </label>
        {error && (wait === undefined ? <Failure error={error} /> : <Failure error={new Error(`Too many tries. Try again in ${wait} s.`)} />)}
        <Button kind="primary" type="submit" disabled={task.busy || secret === ''}>
          Log in
        </Button>
      </form>
    </main>
  );
}

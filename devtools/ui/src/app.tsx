// The frame around the views: where one can go, whether the program answers, theme and help.
import { signal } from '@preact/signals';
import { Component, type ComponentChildren, type ComponentType } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Session } from './api.ts';
import { loadSession, logOut, session } from './client.ts';
import { helpOpen, keysOff, setKeysOff, useEscape, views } from './keys.ts';
import { Icon } from './parts/icon.tsx';
import { Announcer, announce, Button, Choice, Dialog, Empty, Failure, Tag, Waiting } from './parts/ui.tsx';
import { link, route } from './router.ts';
import { streamState } from './stream.ts';
import { setTheme, theme } from './theme.ts';
import { Actions } from './views/actions.tsx';
import { Connections } from './views/connections.tsx';
import { Console } from './views/console.tsx';
import { Doctor } from './views/doctor.tsx';
import { Guides } from './views/guides.tsx';
import { Log } from './views/log.tsx';
import { Login } from './views/login.tsx';
import { Overview } from './views/overview.tsx';
import { Pages } from './views/pages.tsx';
import { Runtime } from './views/runtime.tsx';
import { Tools } from './views/tools.tsx';

const content: Record<string, ComponentType> = {
  overview: Overview,
  actions: Actions,
  log: Log,
  connections: Connections,
  runtime: Runtime,
  tools: Tools,
  console: Console,
  guides: Guides,
  pages: Pages,
  doctor: Doctor,
};

const menuOpen = signal(false);

export function App() {
  if (session.value === undefined) return <Starting />;
  if (session.value === null) return <Login />;
  return <Frame session={session.value} />;
}

/** Before it is known whether somebody is logged in: asks until the program answers. */
function Starting() {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setInterval(() => {
      setLate(true);
      loadSession().catch(() => {});
    }, 2000);
    return () => clearInterval(timer);
  }, []);
  return <main class="lone">{late ? <Waiting>The program does not answer yet. Trying again every 2 s.</Waiting> : <Waiting />}</main>;
}

function Frame({ session: { features, program, environment } }: { session: Session }) {
  const at = route.value.path[0]!;
  const shown = views.filter((view) => !(view.name in features) || features[view.name as keyof typeof features]);
  const view = shown.find((v) => v.name === at);
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    document.title = `${view?.title ?? 'Not found'} · ${program || 'Mooncore'}`;
    menuOpen.value = false;
    helpOpen.value = false;
    // Whoever reads by ear hears that the view changed.
    if (!first.current) main.current?.focus({ preventScroll: true });
    first.current = false;
    main.current?.scrollTo(0, 0);
  }, [at]);
  const View = view && content[view.name];
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>
        Skip to content
      </a>
      <header class="top">
        <Button kind="quiet" class="menu-button" icon="menu" iconOnly aria-expanded={menuOpen.value} aria-controls="menu" onClick={() => (menuOpen.value = !menuOpen.value)}>
          Menu
        </Button>
        <a class="brand" href={link(['overview'])}>
          <img src="icon.svg" alt="" width="24" height="24" />
          <span>{program || 'Mooncore'}</span>
        </a>
        <Tag kind={environment === 'production' ? 'bad' : undefined}>{environment}</Tag>
        <div class="top-end">
          <Connection />
          <Button kind="quiet" icon="help" iconOnly onClick={() => (helpOpen.value = true)}>
            Keys and help
          </Button>
          <Button kind="quiet" icon="out" iconOnly onClick={() => logOut().catch((error: Error) => announce(error.message))}>
            Log out
          </Button>
        </div>
      </header>
      <nav id="menu" class={`menu ${menuOpen.value ? 'open' : ''}`} aria-label="Views">
        {menuOpen.value && <CloseMenu />}
        <ul>
          {shown.map((v) => (
            <li key={v.name}>
              <a href={link([v.name])} aria-current={v.name === at ? 'page' : undefined} onClick={() => (menuOpen.value = false)}>
                <Icon name={v.name} />
                {v.title}
              </a>
            </li>
          ))}
        </ul>
        <Choice
          label="Theme"
          value={theme.value}
          options={[
            ['system', 'Auto'],
            ['light', 'Light'],
            ['dark', 'Dark'],
          ]}
          onChange={setTheme}
        />
      </nav>
      <main id="main" ref={main} tabIndex={0} class={`view view-${at}`}>
        <h1 class="unseen">{view?.title ?? 'Not found'}</h1>
        <Boundary key={at}>
          {View ? (
            <View />
          ) : (
            <Empty title={at in content ? 'The program does not offer this' : 'There is no such view'}>
              <a href={link(['overview'])}>Go to the overview</a>
            </Empty>
          )}
        </Boundary>
      </main>
      {helpOpen.value && <Help />}
      <Announcer />
    </div>
  );
}

function CloseMenu() {
  useEscape(() => (menuOpen.value = false));
  return null;
}

/** A fault in one view leaves the others usable. */
class Boundary extends Component<{ children: ComponentChildren }, { error?: Error }> {
  override state: { error?: Error } = {};
  override componentDidCatch(error: Error) {
    console.error(error);
    this.setState({ error });
  }
  override render() {
    if (this.state.error) return <Failure error={new Error(`The page has a fault: ${this.state.error.message}`)} retry={() => this.setState({ error: undefined })} />;
    return this.props.children;
  }
}

/** Whether what is shown is live. A moment without the stream, as when its topics change, is not worth a word. */
function Connection() {
  const state = streamState.value;
  const [shown, setShown] = useState(state);
  useEffect(() => {
    const timer = setTimeout(() => setShown(state), state === 'live' ? 0 : 700);
    return () => clearTimeout(timer);
  }, [state]);
  const text = { live: 'Live', connecting: 'Connecting', away: 'Reconnecting' }[shown];
  return (
    <span class={`connection ${shown}`} role="status" data-state={shown}>
      <i aria-hidden="true" />
      {text}
    </span>
  );
}

function Help() {
  const keys: [string, string][] = [
    ...views.map((v): [string, string] => [`g ${v.key}`, v.title]),
    ['/', 'Filter or search in this view'],
    ['j, k', 'Next, previous row of a list'],
    ['Ctrl Enter', 'Run what the fields say'],
    ['Esc', 'Close what was opened last, leave a field'],
    ['?', 'This help'],
  ];
  return (
    <Dialog title="Keys" onClose={() => (helpOpen.value = false)}>
      <dl class="keys">
        {keys.map(([key, what]) => (
          <div key={key}>
            <dt>
              {key.split(' ').map((part) => (
                <kbd key={part}>{part}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <label class="check">
        <input type="checkbox" checked={!keysOff.value} onChange={(event) => setKeysOff(!event.currentTarget.checked)} /> Single keys work
      </label>
      <p class="dim">
        Every view is a link: copy the address to share what you see. The libraries in this page and their licences:{' '}
        <a href="licenses.txt">licenses.txt</a>.
      </p>
    </Dialog>
  );
}

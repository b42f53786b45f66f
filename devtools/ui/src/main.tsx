import { render } from 'preact';
import { App } from './app.tsx';
import { loadSession, session } from './client.ts';
import { listenKeys } from './keys.ts';
import { listen } from './router.ts';
import 'uplot/dist/uPlot.min.css';
import './styles/base.css';
import './styles/layout.css';
import './styles/parts.css';
import './styles/views.css';

listen();
listenKeys();
render(<App />, document.getElementById('app')!);
loadSession().catch(() => (session.value = undefined));

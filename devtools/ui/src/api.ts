// The contract between the dashboard and its server: every endpoint, and the types of every request, answer and event. The
// server implements exactly this; mock/server.mjs does too, for work on the page without Go. client.ts makes the requests.
//
// In general
//
//   - Paths are relative to where the dashboard is mounted, so that it may stand at "/" or under a prefix.
//   - GET / (index.html), app.js, app.css, icon.svg and licenses.txt are the same for everybody, hold nothing of the program,
//     and need no login. So do POST login and GET login. Everything under api/ needs the cookie of a login: else 401.
//   - Every request other than GET carries the header X-CSRF-Token with the token from GET api/session (else 403
//     permission_denied), and its body is JSON. POST login alone carries none, since there is no session yet.
//   - An error is the error object of the wire protocol, with its HTTP status: ApiError below. Any request may answer 400
//     invalid_argument, 401 unauthenticated, 403 permission_denied (Host, Origin, CSRF), 404 not_found, 413 too_large,
//     422 validation_failed with `errors` by field, 429 rate_limited with Retry-After, 500 internal. A comment names others.
//   - Times are Unix milliseconds (fields `time`, `since`, `at`, …). Durations end in _ms, sizes in _bytes.
//   - "?" marks what the server may leave out. A list that is empty is [], never null.
//   - Secrets are redacted before they reach here: the string "[redacted]" stands for the value.

// ---------------------------------------------------------------------------------------------------------------------
// Errors

/** What every failed request answers. */
export interface ErrorBody {
  error: string;
  code: string;
  /** Faults by field, such as "address.city". */
  errors?: Record<string, string[]>;
  request_id?: string;
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly body: ErrorBody,
    /** From Retry-After. */
    readonly retryAfterSeconds?: number,
  ) {
    super(body.error);
  }
  get code(): string {
    return this.body.code;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Session
//
//   POST login {"secret": "…"}     204 and the cookie; 401 when wrong; 429 after 5 wrong ones a minute.
//   GET  login?token=…             The one-time link: 303 to "./" with the cookie. When it was used already or is wrong: 303 to
//                                  "./?login=expired", so that the page can say so.
//   GET  api/session               Session.
//   POST logout                    204; the session is over on the server too.

export interface Session {
  csrf: string;
  expires: number;
  /** What the program offers; the page leaves out views for the rest. */
  features: { guides: boolean; pages: boolean; console: boolean };
  /** Name of the program, shown in the title bar: the last element of its main package's path. */
  program: string;
  /** MOONCORE_ENV as the server understands it. */
  environment: string;
}

/** The one thing that GET api/session may answer with 401: how one logs in. */
export interface LoginHint extends ErrorBody {
  /** "secret": MOONCORE_DEV_SECRET is set. "link": the one-time link stands in the program's log, and its token is accepted as
   * secret too. */
  login?: 'secret' | 'link';
}

// ---------------------------------------------------------------------------------------------------------------------
// Overview
//
//   GET api/info                   Info.
//   GET api/metrics?window=3600    Metrics: the last `window` seconds (60 to 3600, default 3600).
//   GET api/settings               Settings: the effective configuration.
//   GET api/cluster                Cluster: the broker, and what became of history. Counts are since the start.

export interface Info {
  /** When the process started. */
  started: number;
  now: number;
  pid: number;
  /** Where the program listens, such as "http://127.0.0.1:4000"; snippets use it. Empty when mounted in another server. */
  url: string;
  mooncore: string;
  go: string;
  os: string;
  arch: string;
  gomaxprocs: number;
  /** From debug.ReadBuildInfo. */
  build: {
    path: string;
    version?: string;
    revision?: string;
    time?: string;
    modified?: boolean;
    dependencies?: { path: string; version: string }[];
  };
  pools: string[];
  /** Where the MCP server of the dev tools is, when there is one, such as "http://127.0.0.1:4040/mcp". */
  mcp_url?: string;
  /** Where to report a fault of Mooncore, docs and so on are not here: the page has no link out. */
  health?: { status: 'ok' | 'fail'; checks: Record<string, { status: 'ok' | 'fail'; duration_ms: number }> };
}

export interface Cluster {
  /** The server's name, Config.Node. */
  node: string;
  /** Events that this server was told to publish, and that it handed to connections, once for each. */
  published: number;
  delivered: number;
  /** Absent without Config.Broker. One that can't tell how it is doing has the engine "", and zeros. */
  broker?: {
    engine: string;
    up: boolean;
    /** When `up` became what it is. */
    since: number;
    round_trip_ms: number;
    /** Topics. */
    subscriptions: number;
    /** Other brokers that were heard lately; 0 where they are not counted. */
    peers: number;
    reconnects: number;
    dropped: number;
    /** How often a subscription was told that messages may be missing. */
    losses: number;
  };
  /** Absent if no channel has History. What became of joins that named a position: recovered, or a reason. */
  history?: {
    /** Channels with History that have a member here. */
    feeds: number;
    /** How often the members of one were told that events may be missing. */
    lost: number;
    recovered: number;
    epoch: number;
    ahead: number;
    trimmed: number;
    too_large: number;
    unavailable: number;
    no_history: number;
    refused: number;
  };
}

/** One moment. Rates are of the second before (or of the step, in a history). null: nothing happened that has a value. */
export interface MetricPoint {
  time: number;
  /** Calls that ended, per second. */
  calls: number;
  /** Calls per second that ended with an error of any code. */
  errors: number;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  /** Open WebSockets. */
  conns: number;
  /** Frames per second that were received. */
  frames_in: number;
  /** Frames per second that were queued to be sent: events and answers. */
  frames_out: number;
  /** Events handed to connections, per second: each receiver counts. */
  events: number;
  heap_bytes: number;
  /** All that the Go runtime got from the system. */
  memory_bytes: number;
  goroutines: number;
  /** Garbage collections per second. */
  gc: number;
  /** The longest stop of the world in the time, 0 for none. */
  gc_pause_ms: number;
  /** CPU seconds per second of user code and runtime: 1 is one core. Left out where the system does not tell. */
  cpu?: number;
}

/** Columns of MetricPoint, oldest first, all of one length: at most 720, so that the step grows with the window. */
export interface Metrics {
  step_s: number;
  /** Totals since start. */
  totals: { calls: number; errors: number; conns: number };
  points: { [K in keyof MetricPoint]: MetricPoint[K][] };
}

export interface Setting {
  /** Such as "Limits.Timeout". */
  name: string;
  /** As a person reads it: "30s", "1048576" (bytes), "none", "set" (what has no text), "2" (of a list). "[redacted]" for a secret. */
  value: string;
  source: 'default' | 'program' | 'environment' | 'file';
  /** The variable that sets it or could: "LOG_LEVEL". */
  env?: string;
  description?: string;
}

export interface Settings {
  settings: Setting[];
}

// ---------------------------------------------------------------------------------------------------------------------
// Actions
//
//   GET api/actions                Catalogue.

/** JSON Schema, draft 2020-12, as Mooncore emits it. */
export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: Schema | boolean;
  items?: Schema;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  format?: string;
  contentEncoding?: string;
  /** A secret: the form hides it. */
  writeOnly?: boolean;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  $ref?: string;
  $defs?: Record<string, Schema>;
  examples?: unknown[];
}

export interface Catalogue {
  apps: App[];
}

export interface App {
  /** The claim `app`; may be empty when there is one. */
  app: string;
  /** In the order of their bits. */
  roles: string[];
  /** Names of channels that clients may join, with who may. "main" is not listed. */
  channels?: { name: string; access: Access }[];
  actions: Action[];
}

export interface Access {
  kind: 'public' | 'authenticated' | 'roles';
  /** For "roles": one of them is enough. */
  roles?: string[];
}

export interface Action {
  name: string;
  access: Access;
  description?: string;
  read_only: boolean;
  /** 0 is none. */
  timeout_ms: number;
  /** 0 is none. */
  max_bytes: number;
  /** Limits that have no field of their own here, as a person reads them: {"Rate": "10 per second and user"}. */
  limits?: Record<string, string>;
  /** Keys that the server sets. Their values are not sent. */
  override?: string[];
  /** Offered to agents by MCP. */
  tool?: boolean;
  /** Input; left out for an action that takes anything. */
  schema?: Schema;
  /** Output. */
  output?: Schema;
  /** Since start. */
  stats?: { calls: number; errors: number; p50_ms: number | null; p99_ms: number | null; last?: number };
}

// ---------------------------------------------------------------------------------------------------------------------
// Run
//
//   POST api/run  RunRequest       RunResult. Always 200 when the action was reached or refused by the program; an error status
//                                  only when the request itself was at fault (an unknown app: 404).
//
// It goes the whole way that the call of a client goes. The log marks it with via "dashboard".

export interface Identity {
  user: string;
  app?: string;
  tenant?: string;
  /** Default "default". */
  scope?: string;
  roles?: string[];
}

export interface RunRequest {
  app: string;
  action: string;
  /** A JSON object. */
  params: unknown;
  transport: 'http' | 'ws' | 'go';
  /** null is anonymous. */
  identity: Identity | null;
}

export interface RunResult {
  ok: boolean;
  /** "ok", or the code of the error. */
  code: string;
  /** For transport "http". */
  status?: number;
  duration_ms: number;
  /** What the action returned: any JSON. Left out on an error. */
  result?: unknown;
  error?: ErrorBody;
  /** The entry of the log that this call made. */
  log_id?: number;
  request_id?: string;
  /** Whole frames that came beside the answer, for transport "ws", at most 100. */
  events?: unknown[];
  /** Response headers, for transport "http". */
  headers?: Record<string, string>;
}

// ---------------------------------------------------------------------------------------------------------------------
// Log
//
//   GET    api/log?…               LogPage, newest first. Parameters, all optional, all must hold:
//            app, action (exact), user, tenant, source (http, ws, go), via (dashboard, mcp, client), conn, request_id (exact);
//            code: codes separated by commas; "error" is every code but "ok".
//            text: found in action, user, params, result, error or request id; ignores case.
//            min_ms: took at least this long.
//            since, until: times.
//            before: an id; only older entries. limit: 1 to 1000, default 200.
//   GET    api/log/{id}            LogEntry; 404 when it was overwritten.
//   POST   api/log/{id}/replay     RunResult: the same action, params, identity, transport once more, via "dashboard".
//                                  412 failed_precondition when its params hold redacted or cut values.
//   DELETE api/log                 204: forgets all entries.

export interface LogSummary {
  /** Counts up from 1 through the life of the process. */
  id: number;
  /** When the call started. */
  time: number;
  app: string;
  action: string;
  source: 'http' | 'ws' | 'go';
  /** Who made it, if not a client. */
  via?: 'dashboard' | 'mcp';
  user: string;
  tenant: string;
  /** "ok" or the code of the error. */
  code: string;
  duration_ms: number;
  request_id: string;
  conn?: string;
  /** The start of the error's message. */
  error?: string;
}

export interface LogPage {
  entries: LogSummary[];
  /** Older ones match too. */
  more: boolean;
  /** The ring buffer: how much it holds, how much it may. */
  kept: number;
  kept_bytes: number;
  max_bytes: number;
}

export interface LogEntry extends LogSummary {
  /** Any JSON; a string when it was cut. */
  params: unknown;
  params_cut?: boolean;
  result?: unknown;
  result_cut?: boolean;
  identity: (Identity & { token_id?: string; expires?: number }) | null;
  remote_addr?: string;
  traceparent?: string;
  /** In the order in which they ended. A middleware's time includes what is further in; start is from the call's start. */
  steps: { name: string; start_ms?: number; duration_ms: number; error?: string }[];
  failure?: {
    code: string;
    /** What the client got. */
    message: string;
    errors?: Record<string, string[]>;
    /** Never sent to the client. */
    cause?: string;
    /** Of a panic. */
    stack?: string;
  };
}

// ---------------------------------------------------------------------------------------------------------------------
// Connections
//
//   GET  api/conns?…               ConnPage. Parameters, all optional: pool, tenant, channel, user (exact; an empty value, as in
//                                  "tenant=", is the one whose name is empty); text (in user, id, address);
//                                  limit: 1 to 2000, default 500.
//   GET  api/conns/{id}            ConnDetail.
//   GET  api/conns/{id}/frames     { frames: Frame[] }: the last ones, oldest first, as far as they were recorded.
//   POST api/conns/{id}/send       Send. 204.
//   POST api/conns/{id}/kick       204.
//   POST api/conns/{id}/join       { channel }. { channels }: the list after it. 403 when the connection may not.
//   POST api/conns/{id}/leave      { channel }. { channels }
//   POST api/publish               Publish. { receivers?: number } on this server, when it can be told.
// Of {id}, 404 when it is gone.

export interface Conn {
  id: string;
  pool: string;
  /** Empty when anonymous. */
  user: string;
  app: string;
  tenant: string;
  scope: string;
  channels: string[];
  /** When it was opened. */
  since: number;
  addr: string;
  /** Bytes that wait to be sent. */
  queued_bytes: number;
  /** Of the last WebSocket ping; left out before the first. */
  rtt_ms?: number;
  /** Of the token; left out for never. */
  expires?: number;
}

export interface ConnPage {
  /** All that are open. */
  total: number;
  /** Those that match; conns holds the first `limit` of them, newest first. */
  matched: number;
  conns: Conn[];
  /** Everything, whatever the filter. At most 200 tenants a pool and 200 channels a tenant, the biggest first. */
  pools: { name: string; conns: number; tenants: { name: string; conns: number; channels: { name: string; conns: number }[] }[] }[];
}

export interface ConnDetail extends Conn {
  roles: string[];
  /** Redacted. */
  claims?: Record<string, unknown>;
  user_agent?: string;
  frames_in?: number;
  frames_out?: number;
  bytes_in?: number;
  bytes_out?: number;
}

export interface Frame {
  /** Counts up for each connection. */
  seq: number;
  time: number;
  /** "in" is from the client. */
  dir: 'in' | 'out';
  binary?: boolean;
  size_bytes: number;
  /** The text, redacted and cut to some KiB; of a binary frame the metadata, redacted, and the size of the payload. */
  data: string;
  cut?: boolean;
}

export interface Send {
  event: string;
  payload: unknown;
}

export interface Publish extends Send {
  app: string;
  tenant: string;
  /** Default: the first pool. */
  pool?: string;
  /** Exactly one of them. */
  channel?: string;
  user?: string;
  /** Of channel. Default "default". */
  scope?: string;
}

// ---------------------------------------------------------------------------------------------------------------------
// Runtime
//
//   GET api/runtime/goroutines     Goroutines.
//   GET api/runtime/memory         Memory.
//   GET api/runtime/profile/{name}?seconds=5
//                                  A download, pprof format (trace: execution trace). name: cpu, trace (both take seconds, 1 to
//                                  60, default 5), heap, allocs, goroutine, block, mutex, threadcreate. 409 already_exists when
//                                  one of the same kind runs already.
//   POST api/runtime/gc            204, after a garbage collection.

export interface Goroutines {
  total: number;
  /** Goroutines with the same stack, biggest group first. */
  groups: {
    count: number;
    /** Such as "IO wait", "chan receive", "running"; left out when unknown. */
    state?: string;
    /** Of the one that has waited for longest. */
    wait_minutes?: number;
    /** Innermost first. */
    frames: { func: string; file: string; line: number }[];
    created_by?: { func: string; file: string; line: number };
  }[];
}

export interface Memory {
  /** Parts of memory_bytes, from runtime/metrics: "/memory/classes/heap/objects:bytes", with its description. */
  classes: { name: string; bytes: number; description: string }[];
  gc_cycles: number;
  last_gc?: number;
  /** GOGC and GOMEMLIMIT; no limit: -1. */
  gogc: number;
  memory_limit_bytes: number;
}

// ---------------------------------------------------------------------------------------------------------------------
// Tools
//
// Base64, role masks and timestamps are worked out in the page (tools.ts); only tokens need the server.
//
//   POST api/tools/token           TokenRequest. { token, claims }. 412 failed_precondition: the program has no signing key.
//   POST api/tools/token/inspect   { token }. TokenReport; also for text that is no token.

export interface TokenRequest {
  identity: Identity;
  lifetime_s: number;
}

export interface TokenReport {
  /** Would the server accept it now? */
  valid: boolean;
  /** Why not, or what else is worth knowing; each a sentence. The first is the reason for the refusal. */
  reasons: string[];
  /** As far as they could be read. */
  header?: Record<string, unknown>;
  claims?: Record<string, unknown>;
  /** Names, when claims.roles could be read for its app. */
  roles?: string[];
  expires?: number;
  issued?: number;
}

// ---------------------------------------------------------------------------------------------------------------------
// Console (expr-lang/expr, read-only, with budgets)
//
//   GET  api/console               ConsoleHelp.
//   POST api/console { expr }      ConsoleResult. 400 invalid_argument for an expression that does not compile or fails (`error`
//                                  says where); 504 deadline_exceeded past its time; 413 too_large past its memory.

export interface ConsoleHelp {
  variables: { name: string; type: string; description: string }[];
  functions: { signature: string; description: string }[];
  examples: { expr: string; description: string }[];
  timeout_ms: number;
}

export interface ConsoleResult {
  value: unknown;
  type: string;
  duration_ms: number;
  /** The value was longer than what is sent. */
  cut?: boolean;
}

// ---------------------------------------------------------------------------------------------------------------------
// Guides
//
//   GET api/guides                 { guides: GuideEntry[] }, in the order of the menu.
//   GET api/guides/{path}          Guide. The path may hold slashes: "start/first.md".
//   GET api/guides/{path}          for a .png, .jpg, .gif or .webp: that image, with its type and nosniff.
//
// A guide is data, never HTML: the page makes elements from it. Raw HTML in the Markdown is shown as text.

export interface GuideEntry {
  path: string;
  title: string;
}

export interface Guide extends GuideEntry {
  blocks: Block[];
}

export type Block =
  | { type: 'heading'; level: number; id: string; content: Inline[] }
  | { type: 'paragraph'; content: Inline[] }
  | { type: 'code'; lang: string; text: string }
  | { type: 'quote'; blocks: Block[] }
  | { type: 'list'; ordered: boolean; start?: number; items: { blocks: Block[]; checked?: boolean }[] }
  | { type: 'table'; align: ('left' | 'center' | 'right' | '')[]; head: Inline[][]; rows: Inline[][][] }
  | { type: 'rule' };

export type Inline =
  | string
  | { type: 'emphasis' | 'strong' | 'strike'; content: Inline[] }
  | { type: 'code'; text: string }
  /** href is http(s), mailto, "#id" or a path relative to the guide. Anything else was left out by the server. */
  | { type: 'link'; href: string; content: Inline[] }
  /** src is a path relative to the guide. */
  | { type: 'image'; src: string; alt: string }
  | { type: 'break' };

// ---------------------------------------------------------------------------------------------------------------------
// Pages of the program
//
//   GET  api/pages                 { pages: { name, title }[] }.
//   GET  api/pages/{name}          Page, with values as of now.
//   POST api/pages/{name}/buttons/{id}  { input }. ButtonResult; an error of the function as in a call.

export interface Page {
  name: string;
  title: string;
  description?: string;
  widgets: Widget[];
  buttons: Button[];
}

export type Widget = { id: string; title: string; description?: string; /** The value's function failed. */ error?: string } & (
  | { type: 'number'; value: number | null; unit?: string; /** Earlier values, oldest first. */ trend?: number[] }
  | { type: 'keyvalue'; rows: [string, string][] }
  | { type: 'table'; columns: string[]; rows: (string | number | boolean | null)[][] }
  | { type: 'list'; items: string[] }
  | { type: 'line'; unit?: string; time: number[]; series: { label: string; values: (number | null)[] }[] }
  | { type: 'text'; text: string }
);

export interface Button {
  id: string;
  label: string;
  description?: string;
  /** Asked before it runs. */
  confirm?: string;
  /** Of its input; left out when it takes none. */
  schema?: Schema;
}

export interface ButtonResult {
  /** For people; may be empty. */
  message?: string;
  result?: unknown;
}

// ---------------------------------------------------------------------------------------------------------------------
// Doctor
//
//   GET api/doctor                 Doctor.

export interface Doctor {
  environment: string;
  findings: Finding[];
  /** What was checked and is good. */
  passed?: { id: string; what: string }[];
}

export interface Finding {
  /** Stable, such as "jwt-key". */
  id: string;
  /** "fatal": production refuses to start. "warning": it starts, at a risk. "info": worth knowing. */
  severity: 'fatal' | 'warning' | 'info';
  /** Each a sentence or two. */
  what: string;
  why: string;
  fix: string;
}

// ---------------------------------------------------------------------------------------------------------------------
// The stream
//
//   GET api/stream?topics=log,conns,frames:<conn id>,page:<name>
//
// Server-sent events: "event: <name>", "data: <JSON>". The page opens one, and a new one when it wants other topics. It asks for
// the state by GET after `hello`, and leaves out what it has already (by id or seq), so nothing needs replaying. 401 when the
// session is over; the server also ends a stream at that moment. A receiver that is too slow is disconnected; it comes back by itself.

export interface StreamEvents {
  /** The first of each stream. A `started` that changed tells that the program was restarted. */
  hello: { started: number };

  /** Once a second, always: it also shows that the stream lives. */
  metrics: MetricPoint;

  /** Topic "log": calls that ended, oldest first; at most ten events a second and 100 entries an event. `dropped`: how many
   * were left out of the stream since the last event because there were too many. They are in the log. */
  log: { entries: LogSummary[]; dropped?: number };

  /** Topic "log": somebody cleared it. */
  log_cleared: Record<string, never>;

  /** Topic "conns": what changed, at most four events a second. `changed` are whole connections whose identity, channels or
   * queue differ from what was sent; these are looked for once a second, for at most 2000 connections. */
  conns: { total: number; opened?: Conn[]; changed?: Conn[]; closed?: { id: string; code: number; reason: string }[] };

  /** Topic "frames:<conn id>", one at a time. */
  frames: { conn: string; frames: Frame[]; dropped?: number };

  /** Topic "page:<name>": widgets whose values changed, at most once a second. */
  page: { name: string; widgets: Widget[] };
}

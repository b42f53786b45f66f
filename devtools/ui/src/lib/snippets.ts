// A call as a command or a few lines of code, to copy. The token is never part of it: $TOKEN, or a variable, stands for it.

export interface Call {
  /** Of the program: "http://127.0.0.1:4000". */
  url: string;
  action: string;
  /** JSON text of an object. */
  params: string;
  /** The caller is not anonymous. */
  token: boolean;
}

/** JSON text without white space; text that is no JSON as it is. */
function compact(json: string): string {
  try {
    JSON.parse(json);
  } catch {
    return json;
  }
  // By hand, since JSON.parse and stringify would round big numbers.
  return json.replace(/"(?:[^"\\]|\\.)*"|\s+/g, (part) => (part.startsWith('"') ? part : ''));
}

/** A word of a POSIX shell. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function address(call: Call): string {
  return `${call.url.replace(/\/$/, '') || 'http://127.0.0.1:4000'}/run/${encodeURIComponent(call.action)}`;
}

export function curl(call: Call): string {
  const lines = [`curl ${shellQuote(address(call))}`];
  if (call.token) lines.push(`  -H "Authorization: Bearer $TOKEN"`);
  lines.push(`  --json ${shellQuote(compact(call.params))}`);
  return lines.join(' \\\n');
}

/** A Go string literal: raw where that is possible. */
export function goString(text: string): string {
  return /[`\r\u0000-\u0008\u000b-\u001f\ufeff]/.test(text) ? JSON.stringify(text) : `\`${text}\``;
}

export function go(call: Call): string {
  const lines = [
    `body := strings.NewReader(${goString(compact(call.params))})`,
    `req, err := http.NewRequestWithContext(ctx, http.MethodPost, ${JSON.stringify(address(call))}, body)`,
    'if err != nil {',
    '\treturn err',
    '}',
    'req.Header.Set("Content-Type", "application/json")',
  ];
  if (call.token) lines.push('req.Header.Set("Authorization", "Bearer "+token)');
  lines.push(
    'resp, err := http.DefaultClient.Do(req)',
    'if err != nil {',
    '\treturn err',
    '}',
    'defer resp.Body.Close()',
    'out, err := io.ReadAll(resp.Body)',
  );
  return lines.join('\n');
}

export function javascript(call: Call): string {
  const lines = [
    `const response = await fetch(${JSON.stringify(address(call))}, {`,
    "  method: 'POST',",
    call.token
      ? "  headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },"
      : "  headers: { 'Content-Type': 'application/json' },",
    `  body: JSON.stringify(${compact(call.params)}),`,
    '})',
    'const result = await response.json()',
  ];
  return lines.join('\n');
}

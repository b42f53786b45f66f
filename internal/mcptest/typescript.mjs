// Sends requests by the TypeScript SDK's client: node typescript.mjs <url> <token, or ""> <requests>
//
// Requests are a JSON list of [method of the client, its argument]. It prints a JSON list of what each returned, or {"error": …}.
// ["abort", {call, until}] is a callTool of call that is aborted when one of until has returned.
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"

const [url, token, requests] = process.argv.slice(2)
const headers = token ? { Authorization: `Bearer ${token}` } : {}
const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } })
const client = new Client({ name: "mooncore-test", version: "1.0.0" })

const send = async (method, argument) => {
  if (method !== "abort") return client[method](argument)
  const abort = new AbortController()
  const call = client.callTool(argument.call, undefined, { signal: abort.signal })
  await Promise.race([call, client.callTool(argument.until)])
  abort.abort()
  return call
}

const results = []
try {
  await client.connect(transport)
  results.push({
    server: client.getServerVersion(), capabilities: client.getServerCapabilities(), version: transport.protocolVersion,
  })
  for (const [method, argument] of JSON.parse(requests)) {
    results.push(await send(method, argument).catch((e) => ({ error: { code: e.code, message: e.message } })))
  }
  await transport.terminateSession()
} catch (e) {
  results.push({ error: { code: e.code, message: e.message } })
}
await client.close()
console.log(JSON.stringify(results))

// follow joins channels with History and hands on each of their events once, whatever happens to the connection. It calls load(channel)
// when it comes to a channel for the first time, and when events may be missing. handle gets answers of the server too, without a channel.
function follow(url, token, channels, { handle, load }) {
  const positions = new Map() // channel -> {offset, epoch} of the last event that was handled
  const joining = new Map() // channel -> how many joins were not answered yet
  let ws, timer, delay = 500, ended = false

  function join(channel) {
    joining.set(channel, (joining.get(channel) ?? 0) + 1)
    ws.send(JSON.stringify(["join", channel, { since: positions.get(channel) ?? null }]))
  }

  function tryAgain(channel) { // a server that was cut off from the others refuses, too
    const socket = ws
    setTimeout(() => ws === socket && join(channel), 5000)
  }

  function receive([name, payload, third]) {
    if (name === "joined" && third?.recovered !== undefined) {
      joining.set(payload, joining.get(payload) - 1)
      delay = 500
      if (third.recovered) return // what was missed comes now
      if (third.reason === "refused") return tryAgain(payload)
      positions.set(payload, { offset: third.offset, epoch: third.epoch })
      load(payload)
    } else if (name === "lost") {
      if (positions.has(payload)) join(payload)
      else load(payload) // a channel that keeps nothing
    } else if (third?.channel === undefined) {
      handle(name, payload)
    } else if (!joining.get(third.channel)) { // else it comes again, behind "joined"
      positions.set(third.channel, { offset: third.offset, epoch: third.epoch })
      handle(name, payload, third.channel)
    }
  }

  function connect() {
    const socket = (ws = new WebSocket(url, ["mooncore.v1.history", "bearer." + token()]))
    joining.clear()
    socket.onopen = () => channels.forEach(join)
    socket.onmessage = (message) => message.data !== "pong" && receive(JSON.parse(message.data))
    socket.onclose = (event) => {
      if (ended) return
      let wait = delay * (0.5 + Math.random())
      if (event.code === 1012) wait = JSON.parse(event.reason).retry_after
      delay = Math.min(delay * 2, 30000)
      timer = setTimeout(connect, wait)
    }
  }

  connect()
  return () => { ended = true; clearTimeout(timer); ws.close() }
}

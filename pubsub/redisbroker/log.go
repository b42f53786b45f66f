package redisbroker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/mooncore/mooncore/pubsub"
	"github.com/redis/rueidis"
)

// A topic is kept in a list: a single key, so that it is flushed, evicted and expires whole or not at all. Its elements are of one
// epoch, and their offsets follow each other. Each has the time when it was appended, in milliseconds of the Unix epoch, 8 bytes,
// big-endian, and then the Entry as subscriptions get it. One of time 0 is no message: it holds the position while there are none.
//
// What the list of this server holds can be less than what was appended: when it comes from a file, or from another server that was
// the primary before. Redis takes another replication ID then; epochs begin with 8 digits of it. Its run ID would not do: a
// primary that was a replica meanwhile has the same again.
const position = `
local server = string.match(redis.call('INFO', 'replication'), 'role:master.-master_replid:(%x%x%x%x%x%x%x%x)')
if not server then return redis.error_reply("READONLY The server is not a primary, or does not tell its replication ID") end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local key, old, fresh = KEYS[1], now - ARGV[1], ARGV[2]
local time, offset, epoch
local last = redis.call('LINDEX', key, -1)
if last then
  time, offset, epoch = struct.unpack('>I8I8Bc0', last)
  if string.sub(epoch, 1, 8) ~= server then
    redis.call('UNLINK', key)
    last = nil
  end
end
if not last then offset, epoch = 0, server .. fresh end
local life = 120000 -- of a position that nobody reads
`

// Each message takes up to two of the old ones away, so that those get fewer.
var appendScript = rueidis.NewLuaScript(position + `
offset = offset + 1
local entry = struct.pack('>I8Bc0', offset, #epoch, epoch) .. ARGV[5]
redis.call('RPUSH', key, struct.pack('>I8', now) .. entry)
redis.call('LTRIM', key, -ARGV[3], -1)
for _ = 1, 2 do
  if struct.unpack('>I8', redis.call('LINDEX', key, 0)) > old then break end
  redis.call('LPOP', key)
end
redis.call('PEXPIRE', key, math.max(ARGV[1], life))
redis.call('PUBLISH', ARGV[4], entry)
return {offset, epoch}
`)

var readScript = rueidis.NewLuaScript(position + `
if not last or 0 < time and time <= old then
  redis.call('RPUSH', key, struct.pack('>I8I8Bc0', 0, offset, #epoch, epoch))
  redis.call('LTRIM', key, -1, -1)
end
if redis.call('PTTL', key) < life then redis.call('PEXPIRE', key, life) end
local page, n, bytes = {offset, epoch}, 2, 0
local length = redis.call('LLEN', key)
local from, some = math.max(length - math.max(offset - ARGV[3], 0), 0), 8
while from < length do
  for _, element in ipairs(redis.call('LRANGE', key, from, from + some - 1)) do
    if struct.unpack('>I8', element) <= old then
      page, n, bytes = {offset, epoch}, 2, 0
    else
      bytes = bytes + #element - 17 - #epoch
      if n > 2 and bytes > tonumber(ARGV[4]) then return page end
      n = n + 1
      page[n] = element
    end
  end
  from, some = from + some, math.min(2 * some, 128)
end
return page
`)

// Append implements [pubsub.Log].
func (b *Broker) Append(ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
	at, _, err := b.call(ctx, appendScript, topic, keep, strconv.Itoa(keep.Events), b.prefix+topic, rueidis.BinaryString(data))
	return at, err
}

// Read implements [pubsub.Log].
func (b *Broker) Read(ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
	top, elements, err := b.call(ctx, readScript, topic, keep, strconv.FormatUint(after, 10), strconv.Itoa(maxBytes))
	if err != nil {
		return pubsub.Page{}, err
	}
	page := pubsub.Page{Top: top}
	if len(elements) > 0 {
		page.Entries = make([]pubsub.Entry, 0, len(elements))
	}
	for _, element := range elements {
		b, err := element.AsBytes()
		if err != nil || len(b) < timeSize {
			return pubsub.Page{}, errAnswer
		}
		entry, err := pubsub.ParseEntry(b[timeSize:])
		if err != nil {
			return pubsub.Page{}, fmt.Errorf("redisbroker: %w", err)
		}
		page.Entries = append(page.Entries, entry)
	}
	return page, nil
}

const timeSize = 8 // of an element

var errAnswer = errors.New("redisbroker: the server's answer to a script is malformed")

// call runs a script for a topic.
func (b *Broker) call(ctx context.Context, script *rueidis.Lua, topic string, keep pubsub.Keep, args ...string) (pubsub.Position, []rueidis.RedisMessage, error) {
	if err := b.enter(ctx); err != nil {
		return pubsub.Position{}, nil, err
	}
	defer b.calls.RUnlock()
	age := (keep.Age + 2*time.Millisecond - 1).Milliseconds() // both times that the server compares are rounded down
	args = append([]string{strconv.FormatInt(age, 10), rand.Text()[:12]}, args...)
	answer, err := script.Exec(ctx, b.client, []string{b.kept + topic}, args).ToArray()
	if err != nil {
		return pubsub.Position{}, nil, failed(ctx, err)
	}
	if len(answer) < 2 {
		return pubsub.Position{}, nil, errAnswer
	}
	offset, err := answer[0].AsUint64()
	if err != nil {
		return pubsub.Position{}, nil, errAnswer
	}
	epoch, err := answer[1].ToString()
	if err != nil {
		return pubsub.Position{}, nil, errAnswer
	}
	return pubsub.Position{Epoch: epoch, Offset: offset}, answer[2:], nil
}

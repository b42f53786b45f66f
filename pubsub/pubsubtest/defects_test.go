package pubsubtest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooncore/mooncore/pubsub"
)

// defects are what a Log may get wrong, and which check must find it.
var defects = []struct {
	name    string
	check   string
	servers int // default 1
	faulty  func() faulty
}{
	{"a message comes twice", "Append", 1, func() faulty {
		return faulty{deliver: func(_ *faulty, _ string, e pubsub.Entry) [][]byte { return as(e, e) }}
	}},
	{"one in ten comes twice", "Order", 1, func() faulty {
		return faulty{deliver: func(f *faulty, _ string, e pubsub.Entry) [][]byte {
			if f.state.nth(10) {
				return as(e, e)
			}
			return as(e)
		}}
	}},
	{"one in ten does not come", "Order", 1, func() faulty {
		return faulty{deliver: func(f *faulty, _ string, e pubsub.Entry) [][]byte {
			if f.state.nth(10) {
				return nil
			}
			return as(e)
		}}
	}},
	{"two come in the other's place", "Order", 1, func() faulty {
		return faulty{deliver: func(f *faulty, _ string, e pubsub.Entry) [][]byte {
			before := f.state.held
			f.state.held = nil
			switch {
			case before != nil:
				return append(as(e), before)
			case e.Offset%50 == 49:
				f.state.held = pubsub.AppendEntry(nil, e)
				return nil
			}
			return as(e)
		}}
	}},
	{"it comes at another position", "Append", 1, func() faulty {
		return faulty{deliver: func(_ *faulty, _ string, e pubsub.Entry) [][]byte { e.Offset++; return as(e) }}
	}},
	{"it comes bare", "Append", 1, func() faulty {
		return faulty{deliver: func(_ *faulty, _ string, e pubsub.Entry) [][]byte { return [][]byte{e.Data} }}
	}},
	{"what came is written over", "Data", 1, func() faulty {
		return faulty{deliver: func(f *faulty, _ string, e pubsub.Entry) [][]byte {
			f.state.buffer = pubsub.AppendEntry(f.state.buffer[:0], e)
			return [][]byte{f.state.buffer}
		}}
	}},
	{"what was read is written over", "Data", 1, func() faulty {
		return faulty{read: func(f *faulty, ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
			page, err := f.Log.Read(ctx, topic, after, maxBytes, keep)
			f.state.mu.Lock()
			defer f.state.mu.Unlock()
			if f.state.buffer == nil {
				f.state.buffer = make([]byte, 0, 1<<20)
			}
			buffer := f.state.buffer
			for i, e := range page.Entries {
				buffer = append(buffer, e.Data...)
				page.Entries[i].Data = buffer[len(buffer)-len(e.Data):]
			}
			return page, err
		}}
	}},
	{"data is text", "Data", 1, func() faulty {
		return faulty{append: func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
			return f.Log.Append(ctx, topic, bytes.ToValidUTF8(data, []byte("?")), keep)
		}}
	}},
	{"empty data is left out", "Data", 1, func() faulty {
		return faulty{page: func(p *pubsub.Page, _ uint64) {
			p.Entries = slices.DeleteFunc(p.Entries, func(e pubsub.Entry) bool { return len(e.Data) == 0 })
		}}
	}},
	{"Append tells the next position", "Append", 1, func() faulty {
		return faulty{append: func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
			at, err := f.Log.Append(ctx, topic, data, keep)
			at.Offset++
			return at, err
		}}
	}},
	{"appenders at the same time are told one position", "Order", 1, func() faulty {
		return faulty{append: func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
			_, err := f.Log.Append(ctx, topic, data, keep)
			inBubble(time.Millisecond)
			page, _ := f.Log.Read(ctx, topic, 1<<63, 1000, keep)
			return page.Top, err
		}}
	}},
	{"offsets go by two", "Append", 1, func() faulty {
		f := rename(faulty{}, func(_, epoch string) string { return epoch })
		inner := f.append
		f.append = func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
			at, err := inner(f, ctx, topic, data, keep)
			at.Offset = at.Offset*2 - 1
			return at, err
		}
		f.deliver = func(_ *faulty, _ string, e pubsub.Entry) [][]byte { e.Offset = e.Offset*2 - 1; return as(e) }
		return f
	}},
	{"offsets begin with 0", "Append", 1, func() faulty {
		return faulty{append: func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
			at, err := f.Log.Append(ctx, topic, data, keep)
			at.Offset--
			return at, err
		}}
	}},
	{"a message is sent twice by an impatient driver", "Append", 1, func() faulty {
		return faulty{append: func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
			if _, err := f.Log.Append(ctx, topic, data, keep); err != nil {
				return pubsub.Position{}, err
			}
			return f.Log.Append(ctx, topic, data, keep)
		}}
	}},
	{"each server has its own log", "Append", 3, func() faulty {
		own := pubsub.NewLocal()
		return faulty{append: func(_ *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
			return own.Append(ctx, topic, data, keep)
		}, closing: func(f *faulty) error { own.Close(); return f.Log.Close() }}
	}},
	{"each server has its own epochs", "Epoch", 3, func() faulty {
		own := fmt.Sprint(time.Now().Nanosecond()) // no two servers are made at the same time
		return rename(faulty{}, func(_, epoch string) string { return epoch + own })
	}},
	{"a page has a hole", "Order", 1, func() faulty {
		return faulty{page: func(p *pubsub.Page, _ uint64) {
			if n := len(p.Entries); n > 10 {
				p.Entries = slices.Delete(p.Entries, 5, 6)
			}
		}}
	}},
	{"a page lacks its first entry", "Pages", 1, func() faulty {
		return faulty{page: func(p *pubsub.Page, _ uint64) {
			if n := len(p.Entries); n > 1 {
				p.Entries = p.Entries[1:]
			}
		}}
	}},
	{"a page has the newest first", "Append", 1, func() faulty {
		return faulty{page: func(p *pubsub.Page, _ uint64) { slices.Reverse(p.Entries) }}
	}},
	{"a page begins with the offset itself", "Pages", 1, func() faulty {
		return faulty{read: func(f *faulty, ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
			return f.Log.Read(ctx, topic, max(after, 1)-1, maxBytes, keep)
		}}
	}},
	{"all pages are the first", "Pages", 1, func() faulty {
		return faulty{read: func(f *faulty, ctx context.Context, topic string, _ uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
			return f.Log.Read(ctx, topic, 0, maxBytes, keep)
		}}
	}},
	{"a page has one entry", "Pages", 1, func() faulty {
		return faulty{page: func(p *pubsub.Page, _ uint64) { p.Entries = p.Entries[:min(1, len(p.Entries))] }}
	}},
	{"a page has everything", "Pages", 1, func() faulty {
		return faulty{read: func(f *faulty, ctx context.Context, topic string, after uint64, _ int, keep pubsub.Keep) (pubsub.Page, error) {
			return f.Log.Read(ctx, topic, after, 1<<30, keep)
		}}
	}},
	{"an entry that is too large is not read", "Pages", 1, func() faulty {
		return faulty{read: func(f *faulty, ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
			page, err := f.Log.Read(ctx, topic, after, maxBytes, keep)
			if len(page.Entries) == 1 && len(page.Entries[0].Data) > maxBytes {
				page.Entries = nil
			}
			return page, err
		}}
	}},
	{"offsets ahead wrap around", "Pages", 1, func() faulty {
		return faulty{read: func(f *faulty, ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
			return f.Log.Read(ctx, topic, uint64(max(int64(after), 0)), maxBytes, keep)
		}}
	}},
	{"the top is the page's", "Pages", 1, func() faulty {
		return faulty{page: func(p *pubsub.Page, _ uint64) {
			if n := len(p.Entries); n > 0 {
				p.Top = p.Entries[n-1].Position
			}
		}}
	}},
	{"the top is the offset that was asked for", "Pages", 1, func() faulty {
		return faulty{page: func(p *pubsub.Page, after uint64) {
			if len(p.Entries) == 0 {
				p.Top.Offset = after
			}
		}}
	}},
	{"the top is one too low", "Append", 1, func() faulty {
		return faulty{page: func(p *pubsub.Page, _ uint64) { p.Top.Offset = max(p.Top.Offset, 1) - 1 }}
	}},
	{"all topics have one epoch", "Append", 1, func() faulty {
		return rename(faulty{}, func(string, string) string { return "EPOCH" })
	}},
	{"epochs are no plain text", "Append", 1, func() faulty {
		return rename(faulty{}, func(_, epoch string) string { return epoch[:8] + "-" + epoch[8:] })
	}},
	{"epochs are too long", "Append", 1, func() faulty {
		return rename(faulty{}, func(_, epoch string) string { return epoch + epoch + "E" })
	}},
	{"each Read of an empty topic begins an epoch", "Epoch", 1, func() faulty {
		return again(func(_ *state, _ string, page pubsub.Page, _ pubsub.Keep, appends bool) bool {
			return !appends && page.Top.Offset == 0
		})
	}},
	{"the first Append begins an epoch", "Epoch", 1, func() faulty {
		return again(func(s *state, topic string, page pubsub.Page, _ pubsub.Keep, appends bool) bool {
			return appends && page.Top.Offset == 0 && s.gen[topic] == 0
		})
	}},
	{"an empty topic's epoch ends by the age", "AgeOfNothing", 1, func() faulty {
		return again(func(s *state, topic string, page pubsub.Page, keep pubsub.Keep, _ bool) bool {
			return page.Top.Offset == 0 && s.since(topic, keep.Age)
		})
	}},
	{"an epoch ends by the age of its first message", "AgeInUse", 1, func() faulty {
		return again(func(s *state, topic string, _ pubsub.Page, keep pubsub.Keep, _ bool) bool {
			return s.since(topic, keep.Age)
		})
	}},
	{"an epoch comes again", "Age", 1, func() faulty {
		names := map[string]string{}
		begins := again(func(_ *state, _ string, page pubsub.Page, _ pubsub.Keep, _ bool) bool {
			return page.Top.Offset > 0 && len(page.Entries) == 0
		})
		inner := begins
		return faulty{
			append: func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
				at, err := inner.append(f, ctx, topic, data, keep)
				if names[topic] == "" {
					names[topic] = at.Epoch
				}
				at.Epoch = names[topic]
				return at, err
			},
			read: func(f *faulty, ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
				page, err := inner.read(f, ctx, topic, after, maxBytes, keep)
				page.Top.Epoch = names[topic]
				for i := range page.Entries {
					page.Entries[i].Epoch = names[topic]
				}
				return page, err
			},
		}
	}},
	{"everything is kept", "Events", 1, func() faulty {
		return faulty{keep: func(keep pubsub.Keep) pubsub.Keep { return pubsub.Keep{Events: 10_000, Age: keep.Age} }}
	}},
	{"half of it is kept", "Events", 1, func() faulty {
		return faulty{keep: func(keep pubsub.Keep) pubsub.Keep { return pubsub.Keep{Events: keep.Events / 2, Age: keep.Age} }}
	}},
	{"it is kept for ever", "Age", 1, func() faulty {
		return faulty{keep: func(keep pubsub.Keep) pubsub.Keep { return pubsub.Keep{Events: keep.Events, Age: 1000 * time.Hour} }}
	}},
	{"it is kept half as long", "Age", 1, func() faulty {
		return faulty{keep: func(keep pubsub.Keep) pubsub.Keep { return pubsub.Keep{Events: keep.Events, Age: keep.Age / 2} }}
	}},
	{"nothing is kept", "Append", 1, func() faulty {
		return faulty{page: func(p *pubsub.Page, _ uint64) { p.Entries = nil }}
	}},
	{"topics have no case", "Names", 1, func() faulty { return faulty{topic: strings.ToLower} }},
	{"topics are text", "Names", 1, func() faulty {
		return faulty{topic: func(topic string) string { return strings.ToValidUTF8(topic, "?") }}
	}},
	{"topics are cut", "Names", 1, func() faulty {
		return faulty{topic: func(topic string) string { return topic[:min(len(topic), 512)] }}
	}},
	{"topics end at a NUL", "Names", 1, func() faulty {
		return faulty{topic: func(topic string) string { before, _, _ := strings.Cut(topic, "\x00"); return before }}
	}},
	{"topics lack the lengths of their parts", "Tuples", 1, func() faulty {
		return faulty{topic: func(topic string) string { parts, _ := pubsub.ParseTopic(topic); return strings.Join(parts, "") }}
	}},
	{"a subscription comes into force later", "Subscribe", 1, func() faulty { return faulty{late: time.Millisecond} }},
	{"a subscription begins with the last message", "Subscribe", 1, func() faulty { return faulty{replay: true} }},
	{"a subscription does not end", "Subscribe", 1, func() faulty { return faulty{stays: true} }},
	{"what is appended during a Read is neither read nor comes", "CatchUp", 1, func() faulty {
		reading := false
		return faulty{
			read: func(f *faulty, ctx context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
				page, err := f.Log.Read(ctx, topic, after, maxBytes, keep)
				f.state.mu.Lock()
				reading = after == 0
				f.state.mu.Unlock()
				return page, err
			},
			deliver: func(_ *faulty, _ string, e pubsub.Entry) [][]byte {
				if reading {
					reading = false
					return nil
				}
				return as(e)
			},
		}
	}},
	{"the context is ignored", "Context", 1, func() faulty {
		return faulty{append: func(f *faulty, _ context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
			return f.Log.Append(context.Background(), topic, data, keep)
		}}
	}},
	{"the context is ignored in Read", "Context", 1, func() faulty {
		return faulty{read: func(f *faulty, _ context.Context, topic string, after uint64, maxBytes int, keep pubsub.Keep) (pubsub.Page, error) {
			return f.Log.Read(context.Background(), topic, after, maxBytes, keep)
		}}
	}},
	{"Close does nothing", "Close", 1, func() faulty { return faulty{closing: func(*faulty) error { return nil }} }},
	{"Close closes all servers", "Close", 3, func() faulty {
		return faulty{closing: func(f *faulty) error { return f.Log.(*server).medium.Close() }}
	}},
	{"Close has another error", "Concurrency", 1, func() faulty {
		return faulty{append: func(f *faulty, ctx context.Context, topic string, data []byte, keep pubsub.Keep) (pubsub.Position, error) {
			at, err := f.Log.Append(ctx, topic, data, keep)
			if err != nil {
				err = context.Canceled
			}
			return at, err
		}}
	}},
	{"the log of one topic is another's", "Concurrency", 1, func() faulty {
		return faulty{topic: func(string) string { return "" }}
	}},
}

// TestLogDefects has the suite find each defect.
func TestLogDefects(t *testing.T) {
	for _, tt := range defects {
		t.Run(tt.name, func(t *testing.T) {
			medium := new(*pubsub.Local)
			sound := newMedium(medium)
			shared := &state{times: map[string]time.Time{}, gen: map[string]int{}}
			faults := judge(t, tt.check, tt.servers, func() pubsub.Log {
				inBubble(time.Nanosecond) // no two are made at the same time
				f := tt.faulty()
				f.Log, f.state = sound(), shared
				return &f
			})
			if len(faults) == 0 {
				t.Errorf("check %s does not find it", tt.check)
			} else {
				t.Log(faults[0])
			}
		})
	}
}

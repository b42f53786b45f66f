package devtools

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mooncore/mooncore"
)

// A connView is a connection in a list.
type connView struct {
	ID       string   `json:"id"`
	Pool     string   `json:"pool"`
	User     string   `json:"user"`
	App      string   `json:"app"`
	Tenant   string   `json:"tenant"`
	Scope    string   `json:"scope"`
	Channels []string `json:"channels"`
	Since    int64    `json:"since"`
	Addr     string   `json:"addr"`
	Queued   int      `json:"queued_bytes"`
	RTT      float64  `json:"rtt_ms,omitempty"`
	Expires  int64    `json:"expires,omitempty"`
}

// same reports whether nothing has changed that a list should show at once.
func (v *connView) same(o *connView) bool {
	return v.User == o.User && v.App == o.App && v.Tenant == o.Tenant && v.Scope == o.Scope && v.Queued == o.Queued && v.RTT == o.RTT &&
		v.Expires == o.Expires && slices.Equal(v.Channels, o.Channels)
}

func viewOf(c *mooncore.Conn) connView {
	id := c.Identity()
	v := connView{
		ID: c.ID(), Pool: c.Pool(), User: id.User, App: id.App, Tenant: id.Tenant, Scope: id.Scope, Channels: c.Channels(),
		Since: c.Since().UnixMilli(), Queued: c.Queued(), RTT: milliseconds(c.RTT()),
	}
	if c.RemoteAddr().IsValid() {
		v.Addr = c.RemoteAddr().String()
	}
	if !id.Expires.IsZero() {
		v.Expires = id.Expires.UnixMilli()
	}
	return v
}

// A connDetail is all of a connection.
type connDetail struct {
	connView
	Roles  []string        `json:"roles"`
	Claims json.RawMessage `json:"claims,omitempty"`
}

func (t *tools) detailOf(c *mooncore.Conn) connDetail {
	id := c.Identity()
	d := connDetail{connView: viewOf(c), Roles: append([]string{}, id.Roles...)}
	if b, err := json.Marshal(id.Claims); err == nil && id.Claims != nil {
		d.Claims, _ = t.rec.redact.json(nil, b, nil)
	}
	return d
}

// conn returns the open connection with that id, or nil.
func (t *tools) conn(id string) *mooncore.Conn {
	for _, c := range t.srv.Conns() {
		if c.ID() == id {
			return c
		}
	}
	return nil
}

func (t *tools) connOf(r *http.Request) (*mooncore.Conn, error) {
	if c := t.conn(r.PathValue("id")); c != nil {
		return c, nil
	}
	return nil, mooncore.Errorf(mooncore.CodeNotFound, "The connection is gone")
}

// A count is how many connections are somewhere.
type count struct {
	Name  string `json:"name"`
	Conns int    `json:"conns"`
}

type tenantCount struct {
	count
	Channels []count `json:"channels"`
}

type poolCount struct {
	count
	Tenants []tenantCount `json:"tenants"`
}

// A connPage is the connections that match, and where all of them are.
type connPage struct {
	Total   int         `json:"total"`
	Matched int         `json:"matched"`
	Conns   []connView  `json:"conns"`
	Pools   []poolCount `json:"pools"`
}

const (
	maxTenants  = 200 // of a pool
	maxChannels = 200 // of a tenant
)

// listConns answers a query by pool, tenant, channel, user, text and limit.
func (t *tools) listConns(query url.Values) (*connPage, error) {
	limit, err := intParam(query, "limit", 500, 1, 2000)
	if err != nil {
		return nil, err
	}
	all := t.srv.Conns()
	page := &connPage{Total: len(all), Conns: []connView{}}
	type place struct{ pool, tenant string }
	tenants := map[place]int{}
	channels := map[place]map[string]int{}
	pools := map[string]int{}
	var matched []connView
	for _, c := range all {
		v := viewOf(c)
		at := place{v.Pool, v.Tenant}
		pools[v.Pool]++
		tenants[at]++
		if channels[at] == nil {
			channels[at] = map[string]int{}
		}
		for _, name := range v.Channels {
			channels[at][name]++
		}
		if v.matches(query) {
			matched = append(matched, v)
		}
	}
	slices.SortFunc(matched, func(a, b connView) int { return cmp.Or(cmp.Compare(b.Since, a.Since), cmp.Compare(a.ID, b.ID)) })
	page.Matched = len(matched)
	page.Conns = append(page.Conns, matched[:min(limit, len(matched))]...)
	for _, name := range t.server.Pools {
		p := poolCount{count{name, pools[name]}, []tenantCount{}}
		counts := map[string]int{}
		for at, n := range tenants {
			if at.pool == name {
				counts[at.tenant] = n
			}
		}
		for _, tenant := range biggest(counts, maxTenants) {
			p.Tenants = append(p.Tenants, tenantCount{tenant, biggest(channels[place{name, tenant.Name}], maxChannels)})
		}
		page.Pools = append(page.Pools, p)
	}
	return page, nil
}

// biggest returns the largest counts, at most n.
func biggest(counts map[string]int, n int) []count {
	list := make([]count, 0, len(counts))
	for name, c := range counts {
		list = append(list, count{name, c})
	}
	slices.SortFunc(list, func(a, b count) int { return cmp.Or(cmp.Compare(b.Conns, a.Conns), cmp.Compare(a.Name, b.Name)) })
	return list[:min(n, len(list))]
}

// matches reports whether all parameters that are there hold. An empty one names what has no name.
func (v *connView) matches(query url.Values) bool {
	for _, p := range []struct{ name, value string }{{"pool", v.Pool}, {"tenant", v.Tenant}, {"user", v.User}} {
		if query.Has(p.name) && query.Get(p.name) != p.value {
			return false
		}
	}
	if query.Has("channel") && !slices.Contains(v.Channels, query.Get("channel")) {
		return false
	}
	text := strings.ToLower(query.Get("text"))
	return text == "" || strings.Contains(strings.ToLower(v.User+"\n"+v.ID+"\n"+v.Addr), text)
}

// intParam reads a number of a query within bounds.
func intParam(query url.Values, name string, def, least, most int) (int, error) {
	text := query.Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, mooncore.FieldError(name, "must be a number from "+strconv.Itoa(least)+" to "+strconv.Itoa(most))
	}
	return n, nil
}

func (t *tools) getConns(r *http.Request) (any, error) { return t.listConns(r.URL.Query()) }

func (t *tools) getConn(r *http.Request) (any, error) {
	c, err := t.connOf(r)
	if err != nil {
		return nil, err
	}
	return t.detailOf(c), nil
}

// framesOf returns the last frames of a connection, which are recorded from the first time that somebody asks.
func (t *tools) framesOf(id string) ([]frame, error) {
	if log, ok := t.rec.watched.Load(id); ok { // perhaps it is gone
		frames, _ := log.(*frameLog).after(0, maxFrameBytes)
		return frames, nil
	}
	c := t.conn(id)
	if c == nil {
		return nil, mooncore.Errorf(mooncore.CodeNotFound, "The connection is gone")
	}
	if _, err := t.rec.watch(c); err != nil {
		return nil, err
	}
	return []frame{}, nil
}

func (t *tools) getFrames(r *http.Request) (any, error) {
	frames, err := t.framesOf(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return map[string][]frame{"frames": frames}, nil
}

func (t *tools) postSend(r *http.Request) (any, error) {
	c, err := t.connOf(r)
	if err != nil {
		return nil, err
	}
	in, err := readBody[struct {
		Event   string          `json:"event"`
		Payload json.RawMessage `json:"payload"`
	}](r)
	if err != nil {
		return nil, err
	}
	t.audit("send", "conn", c.ID(), "event", clip(in.Event))
	return nil, c.Send(in.Event, payloadOf(in.Payload))
}

func payloadOf(payload json.RawMessage) json.RawMessage {
	if len(payload) == 0 {
		return json.RawMessage("null")
	}
	return payload
}

// audit logs what somebody did to the program by the developer tools.
func (t *tools) audit(what string, attrs ...any) { t.log.Info("developer tools: "+what, attrs...) }

func (t *tools) postKick(r *http.Request) (any, error) {
	c, err := t.connOf(r)
	if err != nil {
		return nil, err
	}
	t.audit("kick", "conn", c.ID(), "user", clip(c.Identity().User))
	c.Kick()
	return nil, nil
}

func (t *tools) postJoin(r *http.Request) (any, error) {
	return t.move(r, "join", func(c *mooncore.Conn, channel string) error { return c.Join(r.Context(), channel) })
}

func (t *tools) postLeave(r *http.Request) (any, error) {
	return t.move(r, "leave", func(c *mooncore.Conn, channel string) error {
		c.Leave(r.Context(), channel)
		return nil
	})
}

func (t *tools) move(r *http.Request, what string, do func(c *mooncore.Conn, channel string) error) (any, error) {
	c, err := t.connOf(r)
	if err != nil {
		return nil, err
	}
	in, err := readBody[struct {
		Channel string `json:"channel"`
	}](r)
	if err != nil {
		return nil, err
	}
	t.audit(what, "conn", c.ID(), "channel", clip(in.Channel))
	if err := do(c, in.Channel); err != nil {
		return nil, err
	}
	return map[string][]string{"channels": c.Channels()}, nil
}

// A publication is an event to a channel or a user.
type publication struct {
	App     string          `json:"app"`
	Tenant  string          `json:"tenant"`
	Pool    string          `json:"pool"`
	Event   string          `json:"event"`
	Payload json.RawMessage `json:"payload"`
	Channel string          `json:"channel"`
	User    string          `json:"user"`
	Scope   string          `json:"scope"`
}

// publish returns how many connections of this server get the event.
func (t *tools) publish(ctx context.Context, p publication) (int, error) {
	if (p.Channel == "") == (p.User == "") {
		return 0, mooncore.FieldError("channel", "exactly one of channel or user must be present")
	}
	tenant := t.srv.Tenant(p.App, p.Tenant)
	pool := cmp.Or(p.Pool, t.server.Pools[0])
	if !slices.Contains(t.server.Pools, pool) {
		return 0, mooncore.FieldError("pool", "there is none of that name")
	}
	tenant = tenant.Pool(pool)
	to, label := mooncore.ToUser(p.User), "@"+p.User
	if p.Channel != "" {
		scope := cmp.Or(p.Scope, "default")
		to, label = mooncore.ToChannel(p.Channel).Scope(scope), p.Channel+":"+scope
	}
	receivers := 0
	for c := range tenant.Conns() {
		if slices.Contains(c.Channels(), label) {
			receivers++
		}
	}
	t.audit("publish", "app", clip(p.App), "tenant", clip(p.Tenant), "to", clip(label), "event", clip(p.Event))
	return receivers, tenant.Publish(ctx, p.Event, payloadOf(p.Payload), to)
}

func (t *tools) postPublish(r *http.Request) (any, error) {
	in, err := readBody[publication](r)
	if err != nil {
		return nil, err
	}
	n, err := t.publish(r.Context(), in)
	if err != nil {
		return nil, err
	}
	return map[string]int{"receivers": n}, nil
}

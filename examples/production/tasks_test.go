package main

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/examples/production/internal/pgtest"
	"github.com/mooncore/mooncore/mooncoretest"
)

// TestOnSQLite and TestOnPostgres run the same tests, each with an empty database.
func TestOnSQLite(t *testing.T) {
	onDatabase(t, func(*testing.T) (url string) { return "" })
}

func TestOnPostgres(t *testing.T) {
	url := pgtest.Start(t)
	empty := func(t *testing.T) string {
		name := "test_" + strings.ToLower(rand.Text())
		db, err := sql.Open("pgx", url)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
			t.Fatal(err)
		}
		return strings.Replace(url, "/postgres?", "/"+name+"?", 1)
	}
	onDatabase(t, empty)
	t.Run("many servers migrate at once", func(t *testing.T) { manyServersMigrateAtOnce(t, empty(t)) })
	t.Run("readiness follows the database", func(t *testing.T) { readinessFollowsTheDatabase(t, empty(t)) })
	t.Run("stop under load", func(t *testing.T) { stopUnderLoad(t, empty(t)) })
}

func onDatabase(t *testing.T, empty func(t *testing.T) (url string)) {
	t.Helper()
	for name, test := range map[string]func(t *testing.T, srv *mooncoretest.Server){
		"tasks live and are told":                tasksLiveAndAreTold,
		"tenants do not meet":                    tenantsDoNotMeet,
		"of two changes to one version one wins": ofTwoChangesToOneVersionOneWins,
		"the list comes in pages":                theListComesInPages,
	} {
		t.Run(name, func(t *testing.T) { test(t, newTestServer(t, empty(t))) })
	}
	t.Run("the check sees a missing table", func(t *testing.T) { theCheckSeesAMissingTable(t, newTestStore(t, empty(t))) })
}

func newTestStore(t *testing.T, url string) *store {
	t.Helper()
	s, err := openStore(url, filepath.Join(t.TempDir(), "tasks.db"), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newTestServer(t *testing.T, url string) *mooncoretest.Server {
	t.Helper()
	return mooncoretest.New(t, newConfig(settings{demoLogin: true}, newTestStore(t, url), slog.New(slog.DiscardHandler)))
}

func user(name, tenant, role string) mooncore.Identity {
	return mooncore.Identity{User: name, Tenant: tenant, Roles: []string{role}}
}

func call[T any](t *testing.T, c *mooncoretest.Client, action string, params any) T {
	t.Helper()
	var out T
	if err := c.Call(action, params, &out); err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	return out
}

func titles(list TaskList) string {
	var all []string
	for _, task := range list.Tasks {
		all = append(all, task.Title)
	}
	return strings.Join(all, ",")
}

func tasksLiveAndAreTold(t *testing.T, srv *mooncoretest.Server) {
	ada, bob := srv.As(user("ada", "acme", roleAdmin)), srv.As(user("bob", "acme", roleMember))
	window := bob.Dial()
	window.Join(channel)

	made := call[Task](t, ada, "task.create", CreateTask{"Milk"})
	if made.ID == 0 || made.Title != "Milk" || made.Done || made.Version != 1 || made.CreatedBy != "ada" || made.UpdatedAt.IsZero() {
		t.Errorf("created %+v", made)
	}
	var told Task
	window.Expect("task-created", &told)
	if told != made {
		t.Errorf("told %+v, want %+v", told, made)
	}

	done := true
	changed := call[Task](t, bob, "task.update", UpdateTask{ID: made.ID, Version: 1, Done: &done})
	if !changed.Done || changed.Title != "Milk" || changed.Version != 2 || changed.CreatedBy != "ada" {
		t.Errorf("changed %+v", changed)
	}
	window.Expect("task-updated", &told)
	if told != changed {
		t.Errorf("told %+v, want %+v", told, changed)
	}
	if list := call[TaskList](t, bob, "task.list", nil); len(list.Tasks) != 1 || list.Tasks[0] != changed || list.More {
		t.Errorf("listed %+v, want %+v", list, changed)
	}

	call[any](t, ada, "task.delete", TaskID{made.ID})
	var gone TaskID
	window.Expect("task-deleted", &gone)
	if gone.ID != made.ID {
		t.Errorf("told that %d is gone, want %d", gone.ID, made.ID)
	}
	if list := call[TaskList](t, bob, "task.list", nil); list.Tasks == nil || len(list.Tasks) > 0 {
		t.Errorf("listed %+v, want an empty list", list)
	}
}

func tenantsDoNotMeet(t *testing.T, srv *mooncoretest.Server) {
	ada, eve := srv.As(user("ada", "acme", roleAdmin)), srv.As(user("eve", "globex", roleAdmin))
	window := eve.Dial()
	window.Join(channel)
	made := call[Task](t, ada, "task.create", CreateTask{"Milk"})

	if list := call[TaskList](t, eve, "task.list", nil); len(list.Tasks) > 0 {
		t.Errorf("another tenant lists %q", titles(list))
	}
	title := "Poison"
	if got := mooncore.CodeOf(eve.Call("task.update", UpdateTask{ID: made.ID, Version: 1, Title: &title}, nil)); got != mooncore.CodeNotFound {
		t.Errorf("an update from another tenant: %q, want %q", got, mooncore.CodeNotFound)
	}
	if got := mooncore.CodeOf(eve.Call("task.delete", TaskID{made.ID}, nil)); got != mooncore.CodeNotFound {
		t.Errorf("a delete from another tenant: %q, want %q", got, mooncore.CodeNotFound)
	}
	window.ExpectNothing()
	if list := call[TaskList](t, ada, "task.list", nil); titles(list) != "Milk" {
		t.Errorf("listed %q, want Milk", titles(list))
	}
}

func ofTwoChangesToOneVersionOneWins(t *testing.T, srv *mooncoretest.Server) {
	ada := srv.As(user("ada", "acme", roleMember))
	made := call[Task](t, ada, "task.create", CreateTask{"Milk"})
	const rivals = 8
	codes := make([]mooncore.Code, rivals)
	var wg sync.WaitGroup
	for i := range rivals {
		wg.Go(func() {
			title := strings.Repeat("x", i+1)
			codes[i] = mooncore.CodeOf(ada.Call("task.update", UpdateTask{ID: made.ID, Version: 1, Title: &title}, nil))
		})
	}
	wg.Wait()
	slices.Sort(codes)
	want := append([]mooncore.Code{""}, slices.Repeat([]mooncore.Code{mooncore.CodeFailedPrecondition}, rivals-1)...)
	if !slices.Equal(codes, want) {
		t.Errorf("codes %q, want %q", codes, want)
	}
	if list := call[TaskList](t, ada, "task.list", nil); list.Tasks[0].Version != 2 {
		t.Errorf("version %d, want 2", list.Tasks[0].Version)
	}
}

func theListComesInPages(t *testing.T, srv *mooncoretest.Server) {
	ada := srv.As(user("ada", "acme", roleMember))
	for _, title := range []string{"a", "b", "c", "d", "e"} {
		call[Task](t, ada, "task.create", CreateTask{title})
	}
	var got []string
	in := ListTasks{Limit: 2}
	for {
		list := call[TaskList](t, ada, "task.list", in)
		got = append(got, titles(list))
		if !list.More {
			break
		}
		in.Before = list.Tasks[len(list.Tasks)-1].ID
	}
	if want := []string{"e,d", "c,b", "a"}; !slices.Equal(got, want) {
		t.Errorf("pages %q, want %q", got, want)
	}
}

func TestACreateThatIsSentAgainIsDoneOnce(t *testing.T) {
	window := newTestServer(t, "").As(user("ada", "acme", roleMember)).Dial()
	params := map[string]any{"title": "Milk", "idempotency_key": "8e03978e"}
	var first, second Task
	if err := errors.Join(window.Call("task.create", params, &first), window.Call("task.create", params, &second)); err != nil {
		t.Fatal(err)
	}
	var list TaskList
	if err := window.Call("task.list", nil, &list); err != nil || len(list.Tasks) != 1 || first != second {
		t.Errorf("answered %+v and %+v, and there are %+v (%v)", first, second, list.Tasks, err)
	}
}

func TestACallerThatIsTooFastIsRefused(t *testing.T) {
	srv := newTestServer(t, "")
	calls := func(c *mooncoretest.Client) (refused int) {
		for range 60 {
			if mooncore.CodeOf(c.Call("task.update", nil, nil)) == mooncore.CodeRateLimited {
				refused++
			}
		}
		return refused
	}
	if n := calls(srv.As(user("ada", "acme", roleMember))); n == 0 {
		t.Error("60 calls at once are let through")
	}
	if code := mooncore.CodeOf(srv.As(user("bob", "acme", roleMember)).Call("task.update", nil, nil)); code != mooncore.CodeValidationFailed {
		t.Errorf("another user gets %q, want %q", code, mooncore.CodeValidationFailed)
	}
}

func TestRefusals(t *testing.T) {
	srv := newTestServer(t, "")
	stranger, member := srv.As(mooncore.Identity{}), srv.As(user("bob", "acme", roleMember))
	nobody := srv.As(mooncore.Identity{User: "eve", Tenant: "acme"})
	tests := []struct {
		name   string
		client *mooncoretest.Client
		action string
		params any
		want   mooncore.Code
	}{
		{"a stranger lists", stranger, "task.list", nil, mooncore.CodeUnauthenticated},
		{"a stranger creates", stranger, "task.create", CreateTask{"Milk"}, mooncore.CodeUnauthenticated},
		{"a user without a role lists", nobody, "task.list", nil, mooncore.CodePermissionDenied},
		{"a member deletes", member, "task.delete", TaskID{1}, mooncore.CodePermissionDenied},
		{"no title", member, "task.create", nil, mooncore.CodeValidationFailed},
		{"an empty title", member, "task.create", CreateTask{""}, mooncore.CodeValidationFailed},
		{"a long title", member, "task.create", CreateTask{strings.Repeat("x", 201)}, mooncore.CodeValidationFailed},
		{"an update of nothing", member, "task.update", UpdateTask{ID: 1, Version: 1}, mooncore.CodeValidationFailed},
		{"an update of no task", member, "task.update", map[string]any{"id": 99, "version": 1, "done": true}, mooncore.CodeNotFound},
		{"a page of 201", member, "task.list", ListTasks{Limit: 201}, mooncore.CodeValidationFailed},
		{"a page before 0", member, "task.list", map[string]any{"before": -1}, mooncore.CodeValidationFailed},
		{"a body of 65 KiB", member, "task.create", CreateTask{strings.Repeat("x", 65<<10)}, mooncore.CodeTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mooncore.CodeOf(tt.client.Call(tt.action, tt.params, nil)); got != tt.want {
				t.Errorf("got code %q, want %q", got, tt.want)
			}
		})
	}
	if got := nobody.Dial().Join(channel); slices.Contains(got, channel+":default") {
		t.Errorf("a user without a role joined %q", got)
	}
}

func TestDemoLogin(t *testing.T) {
	srv := newTestServer(t, "")
	stranger := srv.As(mooncore.Identity{})
	if about := call[About](t, stranger, "about", nil); !about.DemoLogin {
		t.Error("about does not tell of the demo login")
	}
	window := stranger.Dial()
	window.Send(`["jwt","` + call[string](t, stranger, "demo.login", DemoLogin{"ada", "acme", roleMember}) + `"]`)
	if got, want := window.Join(channel), []string{"tasks:default", "@ada"}; !slices.Equal(got, want) {
		t.Errorf("channels %q, want %q", got, want)
	}
	if got := mooncore.CodeOf(stranger.Call("demo.login", DemoLogin{"ada", "acme", "root"}, nil)); got != mooncore.CodeValidationFailed {
		t.Errorf("an unknown role: %q, want %q", got, mooncore.CodeValidationFailed)
	}

	without := mooncoretest.New(t, newConfig(settings{}, newTestStore(t, ""), slog.New(slog.DiscardHandler))).As(mooncore.Identity{})
	if got := mooncore.CodeOf(without.Call("demo.login", DemoLogin{"ada", "acme", roleMember}, nil)); got != mooncore.CodeNotFound {
		t.Errorf("where it is off: %q, want %q", got, mooncore.CodeNotFound)
	}
	if about := call[About](t, without, "about", nil); about.DemoLogin {
		t.Error("about tells of a demo login that is off")
	}
}

func theCheckSeesAMissingTable(t *testing.T, s *store) {
	if err := s.check(t.Context()); err == nil {
		t.Error("a database without tables is healthy")
	}
	if err := s.migrate(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if err := s.check(t.Context()); err != nil {
		t.Error(err)
	}
}

func manyServersMigrateAtOnce(t *testing.T, url string) {
	var wg sync.WaitGroup
	for range 4 {
		s := newTestStore(t, url)
		wg.Go(func() {
			if err := s.migrate(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func readinessFollowsTheDatabase(t *testing.T, url string) {
	cut := newCutter(t, url)
	srv := newTestServer(t, cut.url)
	await := func(status int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // real time: checks run once a second
			w := httptest.NewRecorder()
			srv.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
			if w.Code == status {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("/readyz is %d, not %d: %s", w.Code, status, w.Body)
			}
		}
	}
	ada := srv.As(user("ada", "acme", roleMember))
	await(http.StatusOK)
	cut.off()
	await(http.StatusServiceUnavailable)
	err := ada.Call("task.create", CreateTask{"Milk"}, nil)
	if got := mooncore.CodeOf(err); got != mooncore.CodeInternal || strings.Contains(err.Error(), "connect") {
		t.Errorf("without a database: %v, want %q and no cause", err, mooncore.CodeInternal)
	}
	w := httptest.NewRecorder()
	srv.ServeHTTP(w, httptest.NewRequest("GET", "/livez", nil))
	if w.Code != http.StatusOK {
		t.Errorf("/livez is %d without a database: a restart would not bring it back", w.Code)
	}
	cut.on()
	await(http.StatusOK)
	call[Task](t, ada, "task.create", CreateTask{"Milk"})
}

func TestBothDatabasesHaveTheSameMigrations(t *testing.T) {
	names := func(dir string) (names []string) {
		entries, err := fs.ReadDir(migrations, "migrations/"+dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if a, b := names("postgres"), names("sqlite"); !slices.Equal(a, b) {
		t.Errorf("postgres has %q, sqlite %q", a, b)
	}
}

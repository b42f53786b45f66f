package main

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/mooncore/mooncore"
)

// db is the caller's database. Every action of this router finds it in its context.
var db mooncore.Key[*sql.DB]

type Task struct {
	ID       int64      `json:"id"`
	Title    string     `json:"title"`
	Priority int        `json:"priority"`
	Due      *time.Time `json:"due,omitempty"`
	Password string     `json:"password,omitempty"`
}

type CreateTask struct {
	Title    string     `json:"title" validate:"required,trimmed,min_length=2,max_length=200"`
	Priority int        `json:"priority,omitempty" validate:"in=1 2 3"`
	Tags     []string   `json:"tags,omitempty" validate:"max_items=10,each,min_length=1,max_length=30"`
	Start    *time.Time `json:"start,omitempty"`
	Due      *time.Time `json:"due,omitempty" validate:"required_with=start"`
	Place    *Address   `json:"place,omitempty" validate:"forbidden_with=link"`
	Link     string     `json:"link,omitempty" validate:"url"`
}

type Address struct {
	City string `json:"city" validate:"required"`
	Zip  string `json:"zip" validate:"regex='^[0-9]{5}$'"`
}

// Validate adds what the tags cannot say.
func (in CreateTask) Validate() error {
	if in.Start != nil && in.Due != nil && !in.Due.After(*in.Start) {
		return mooncore.FieldError("due", "must be after start")
	}
	return nil
}

type TaskID struct {
	ID int64 `json:"id" validate:"required,positive"`
}

func createTask(ctx context.Context, in CreateTask) (Task, error) {
	req := mooncore.RequestFrom(ctx)
	task := Task{Title: in.Title, Priority: cmp.Or(in.Priority, 2), Due: in.Due}
	err := db.Value(ctx).QueryRowContext(ctx,
		`INSERT INTO tasks (title, priority, due, owner) VALUES ($1, $2, $3, $4) RETURNING id`,
		task.Title, task.Priority, task.Due, req.Identity.User).Scan(&task.ID)
	if err != nil {
		return Task{}, err // the client reads "Internal Server Error", the log reads err
	}
	return task, req.Tenant().Publish(ctx, "task-created", task, mooncore.ToChannel("main"))
}

func getTask(ctx context.Context, in TaskID) (Task, error) {
	task := Task{ID: in.ID}
	err := db.Value(ctx).QueryRowContext(ctx,
		`SELECT title, priority, due FROM tasks WHERE id = $1`, in.ID).Scan(&task.Title, &task.Priority, &task.Due)
	if errors.Is(err, sql.ErrNoRows) {
		return Task{}, mooncore.Errorf(mooncore.CodeNotFound, "no task %d", in.ID)
	}
	return task, err
}

func deleteTask(ctx context.Context, in TaskID) (any, error) {
	_, err := db.Value(ctx).ExecContext(ctx, `DELETE FROM tasks WHERE id = $1`, in.ID)
	return nil, err
}

type Report struct {
	Format string `json:"format" validate:"required,in=html pdf"`
}

// report is two actions: the format is theirs, whatever the client sends.
func report(ctx context.Context, in Report) (string, error) {
	return "report." + in.Format, nil
}

// router is the whole service: its catalogue, and what stands around every action.
func router(databases map[string]*sql.DB) mooncore.Router {
	user, admin := mooncore.Roles("user", "admin"), mooncore.Roles("admin")
	return mooncore.Router{
		Roles: []string{"admin", "user"}, // the order is the order of the bits in a token
		Middleware: []mooncore.Middleware{
			withDB(databases),
			mooncore.After(withoutPassword),
		},
		Actions: []mooncore.Action{
			{Name: "task.get", Allow: user, Handler: mooncore.Func(getTask), ReadOnly: true},
			{
				Name: "task.create", Allow: user, Handler: mooncore.Func(createTask),
				Description: "Creates a task and tells everybody in the tenant.",
				Timeout:     2 * time.Second,
				Rate:        mooncore.PerUser(30, time.Minute),
				Idempotency: 24 * time.Hour,
			},
			{Name: "report.html", Allow: user, Handler: mooncore.Func(report), Override: map[string]any{"format": "html"}},
			{Name: "report.pdf", Allow: admin, Handler: mooncore.Func(report), Override: map[string]any{"format": "pdf"}},
			{Name: "task.delete", Allow: admin, Handler: mooncore.Func(deleteTask)},
		},
	}
}

// withDB refuses a tenant that has no database, and lends the others theirs.
func withDB(databases map[string]*sql.DB) mooncore.Middleware {
	return mooncore.Before(func(ctx context.Context, req *mooncore.Request) (context.Context, error) {
		conn, ok := databases[req.Identity.Tenant]
		if !ok {
			return nil, mooncore.Errorf(mooncore.CodeFailedPrecondition, "no database for tenant %q", req.Identity.Tenant)
		}
		return db.WithValue(ctx, conn), nil
	})
}

// withoutPassword removes the key "password" from results that are objects, whatever their Go type.
func withoutPassword(_ context.Context, _ *mooncore.Request, out any, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err == nil {
		delete(object, "password")
		return object, nil
	}
	return out, nil
}

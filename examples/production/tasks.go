package main

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/mooncore/mooncore"
)

// A service is the actions and what they need.
type service struct {
	store     *store
	log       *slog.Logger
	demoLogin bool
}

// The roles. Only ever append: their order is the order of the bits in a token.
const (
	roleAdmin  = "admin"
	roleMember = "member"
)

// channel is where a tenant's tasks are told about. Every tenant has its own channel of this name.
const channel = "tasks"

func (s *service) router() mooncore.Router {
	member, admin := mooncore.Roles(roleMember, roleAdmin), mooncore.Roles(roleAdmin)
	rate := mooncore.PerUser(20, time.Second)
	actions := []mooncore.Action{
		{
			Name: "about", Allow: mooncore.Public, Handler: mooncore.Func(s.about), ReadOnly: true,
			Description: "Tells the page how people log in here.",
		}, {
			Name: "task.list", Allow: member, Handler: mooncore.Func(s.list), ReadOnly: true, Rate: rate,
			Description: "Lists the tenant's tasks, the newest first.",
		}, {
			Name: "task.create", Allow: member, Handler: mooncore.Func(s.create), Rate: rate, Idempotency: time.Hour,
			Description: "Creates a task.",
		}, {
			Name: "task.update", Allow: member, Handler: mooncore.Func(s.update), Rate: rate,
			Description: "Changes a task that has not changed since the caller read it.",
		}, {
			Name: "task.delete", Allow: admin, Handler: mooncore.Func(s.remove), Rate: rate,
			Description: "Deletes a task for good.",
		},
	}
	if s.demoLogin {
		actions = append(actions, mooncore.Action{
			Name: "demo.login", Allow: mooncore.Public, Handler: mooncore.Func(demoLogin), Rate: mooncore.PerAddress(30, time.Minute),
			Description: "Answers a token for anybody. For demonstrations only.",
		})
	}
	return mooncore.Router{
		Roles:    []string{roleAdmin, roleMember},
		Channels: []mooncore.Channel{{Name: channel, Allow: member}},
		Actions:  actions,
	}
}

// A Task is one thing to do. Its version grows with each change, so that clients can put events in order.
type Task struct {
	ID        int64     `json:"id"`
	Title     string    `json:"title"`
	Done      bool      `json:"done"`
	Version   int       `json:"version"`
	CreatedBy string    `json:"created_by"`
	UpdatedAt time.Time `json:"updated_at"`
}

type About struct {
	DemoLogin bool `json:"demo_login" jsonschema:"whether demo.login is there"`
}

func (s *service) about(context.Context, struct{}) (About, error) {
	return About{DemoLogin: s.demoLogin}, nil
}

type ListTasks struct {
	Before int64 `json:"before,omitempty" validate:"positive" jsonschema:"only tasks with a smaller id: the last one of the page before"`
	Limit  int   `json:"limit,omitempty" validate:"between=1 200" jsonschema:"how many at most; 100 if absent"`
}

type TaskList struct {
	Tasks []Task `json:"tasks"`
	More  bool   `json:"more" jsonschema:"whether there are older ones"`
}

func (s *service) list(ctx context.Context, in ListTasks) (TaskList, error) {
	if in.Before == 0 {
		in.Before = math.MaxInt64
	}
	if in.Limit == 0 {
		in.Limit = 100
	}
	tasks, err := s.store.list(ctx, mooncore.RequestFrom(ctx).Identity.Tenant, in.Before, in.Limit+1)
	if err != nil {
		return TaskList{}, err // the client reads "Internal Server Error", the log reads err
	}
	more := len(tasks) > in.Limit
	return TaskList{Tasks: tasks[:min(len(tasks), in.Limit)], More: more}, nil
}

type CreateTask struct {
	Title string `json:"title" validate:"required,trimmed,min_length=1,max_length=200"`
}

func (s *service) create(ctx context.Context, in CreateTask) (Task, error) {
	id := mooncore.RequestFrom(ctx).Identity
	task, err := s.store.create(ctx, id.Tenant, id.User, in.Title)
	if err != nil {
		return Task{}, err
	}
	s.tell(ctx, "task-created", task)
	return task, nil
}

type UpdateTask struct {
	ID      int64   `json:"id" validate:"required,positive"`
	Version int     `json:"version" validate:"required,positive" jsonschema:"the version that the caller has read"`
	Title   *string `json:"title,omitempty" validate:"trimmed,min_length=1,max_length=200"`
	Done    *bool   `json:"done,omitempty"`
}

// Validate checks what tags can't say.
func (in UpdateTask) Validate() error {
	if in.Title == nil && in.Done == nil {
		return mooncore.FieldError("title", "must be present, or done")
	}
	return nil
}

func (s *service) update(ctx context.Context, in UpdateTask) (Task, error) {
	task, err := s.store.update(ctx, mooncore.RequestFrom(ctx).Identity.Tenant, in)
	if err != nil {
		return Task{}, refusal(err)
	}
	s.tell(ctx, "task-updated", task)
	return task, nil
}

type TaskID struct {
	ID int64 `json:"id" validate:"required,positive"`
}

func (s *service) remove(ctx context.Context, in TaskID) (any, error) {
	if err := s.store.remove(ctx, mooncore.RequestFrom(ctx).Identity.Tenant, in.ID); err != nil {
		return nil, refusal(err)
	}
	s.tell(ctx, "task-deleted", in)
	return nil, nil
}

// refusal turns errors that the caller should read into those that it can.
func refusal(err error) error {
	switch {
	case errors.Is(err, errNoTask):
		return mooncore.Errorf(mooncore.CodeNotFound, "There is no such task")
	case errors.Is(err, errChanged):
		return mooncore.Errorf(mooncore.CodeFailedPrecondition, "Somebody else has changed the task")
	}
	return err
}

// tell publishes an event to the caller's tenant. A failure is logged and no more: the change is in the database, and an error
// would make the caller send it again.
func (s *service) tell(ctx context.Context, event string, payload any) {
	req := mooncore.RequestFrom(ctx)
	if err := req.Tenant().Publish(ctx, event, payload, mooncore.ToChannel(channel)); err != nil {
		s.log.Error("event not published", "event", event, "request_id", req.ID, "err", err)
	}
}

type DemoLogin struct {
	User   string `json:"user" validate:"required,trimmed,min_length=1,max_length=40"`
	Tenant string `json:"tenant" validate:"required,trimmed,min_length=1,max_length=40"`
	Role   string `json:"role" validate:"required,in=admin member"`
}

// demoLogin lets everybody in as anybody. It is registered only where the environment asks for it, never in production.
func demoLogin(ctx context.Context, in DemoLogin) (string, error) {
	id := mooncore.Identity{User: in.User, Tenant: in.Tenant, Roles: []string{in.Role}}
	return mooncore.RequestFrom(ctx).Server().Token(id)
}

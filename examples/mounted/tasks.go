package main

import (
	"context"
	"slices"
	"sync"

	"github.com/mooncore/mooncore"
)

// tasks are kept in memory, each seen by its owner alone.
type tasks struct {
	mu   sync.Mutex
	last int64
	list []Task
}

type Task struct {
	ID    int64  `json:"id"`
	Owner string `json:"owner"`
	Title string `json:"title"`
}

type CreateTask struct {
	Title string `json:"title" validate:"required,trimmed,min_length=2,max_length=200"`
}

type TaskID struct {
	ID int64 `json:"id" validate:"required,positive"`
}

func router(t *tasks) mooncore.Router {
	user := mooncore.Roles("user")
	return mooncore.Router{
		Roles: []string{"user"},
		Actions: []mooncore.Action{
			{Name: "task.list", Allow: user, Handler: mooncore.Func(t.all), ReadOnly: true},
			{Name: "task.get", Allow: user, Handler: mooncore.Func(t.get), ReadOnly: true},
			{Name: "task.create", Allow: user, Handler: mooncore.Func(t.create)},
			{Name: "task.delete", Allow: user, Handler: mooncore.Func(t.delete)},
		},
	}
}

func (t *tasks) all(ctx context.Context, _ struct{}) ([]Task, error) {
	owner := mooncore.RequestFrom(ctx).Identity.User
	t.mu.Lock()
	defer t.mu.Unlock()
	own := []Task{}
	for _, task := range t.list {
		if task.Owner == owner {
			own = append(own, task)
		}
	}
	return own, nil
}

func (t *tasks) create(ctx context.Context, in CreateTask) (Task, error) {
	req := mooncore.RequestFrom(ctx)
	t.mu.Lock()
	t.last++
	task := Task{ID: t.last, Owner: req.Identity.User, Title: in.Title}
	t.list = append(t.list, task)
	t.mu.Unlock()
	return task, req.Tenant().Publish(ctx, "task-created", task, mooncore.ToUser(task.Owner))
}

func (t *tasks) get(ctx context.Context, in TaskID) (Task, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, err := t.find(ctx, in.ID)
	if err != nil {
		return Task{}, err
	}
	return t.list[i], nil
}

func (t *tasks) delete(ctx context.Context, in TaskID) (any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, err := t.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	t.list = slices.Delete(t.list, i, i+1)
	return nil, nil
}

// find returns where the caller's task is. The caller holds t.mu.
func (t *tasks) find(ctx context.Context, id int64) (int, error) {
	owner := mooncore.RequestFrom(ctx).Identity.User
	i := slices.IndexFunc(t.list, func(task Task) bool { return task.ID == id && task.Owner == owner })
	if i < 0 {
		return 0, mooncore.Errorf(mooncore.CodeNotFound, "no task %d", id)
	}
	return i, nil
}
